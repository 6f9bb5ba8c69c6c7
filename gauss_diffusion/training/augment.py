"""Training images that are flipped, scaled, turned, stretched and moved, and a label that says how.

A network that is told the label learns the law of images as they are: for that it is told zeros, the label of
an image to which nothing was done (Karras et al. 2022, appendix F.2; Jun et al. 2020).
"""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Float, Int, Key

from gauss_diffusion.types import Array, Image, Number

LABEL = 9  # numbers that say what was done to an image
GROWTH = 2**0.2  # factor of size, and of width over height, per standard deviation
SHIFT = 1 / 8  # of the image's size, per standard deviation


class Change(NamedTuple):
  """What is done to an image, in this order; nothing where all are 0. Right and down are positive."""

  mirror: Number  # 1: left is right
  upset: Number  # 1: up is down
  growth: Number  # the size is multiplied by GROWTH^growth
  angle: Number  # radians by which the image is turned, from down to right
  axis: Number  # radians from right to down, of the direction that is stretched
  stretch: Number  # by GROWTH^stretch, and shrunk across by as much
  right: Number  # in units of SHIFT times the image's width
  down: Number  # and of its height


def augment(
  image: Image, key: Key[Array, ""], probability: float
) -> tuple[Float[Array, "H W C"], Float[Array, " 9"]]:
  """Return an image that is changed by chance, and the label of what was done to it.

  Args:
    image: [H, W, C].
    key: of the image.
    probability: of each kind of change, but for the mirror image, which half of all images become.
  """
  change = draw(key, probability)
  return warp(image, change), label(change)


def draw(key: Key[Array, ""], probability: float) -> Change:
  """Return a change whose kinds are each there with a probability, independently; see `augment`."""
  key_kinds, key_flips, key_angles, key_normal = jax.random.split(key, 4)
  upset, growth, angle, stretch, shift = jax.random.bernoulli(key_kinds, probability, (5,))
  flips = jax.random.bernoulli(key_flips, 0.5, (2,))
  angles = jax.random.uniform(key_angles, (2,), minval=-jnp.pi, maxval=jnp.pi)
  normal = jax.random.normal(key_normal, (4,))
  return Change(
    mirror=flips[0].astype(float),
    upset=upset * flips[1].astype(float),
    growth=growth * normal[0],
    angle=angle * angles[0],
    axis=stretch * angles[1],
    stretch=stretch * normal[1],
    right=shift * normal[2],
    down=shift * normal[3],
  )


def label(change: Change) -> Float[Array, " 9"]:
  """Return what a network is told of a change: smooth in it, and 0 where nothing is done."""
  mirror, upset, growth, angle, axis, stretch, right, down = change
  turned = (jnp.cos(angle) - 1, jnp.sin(angle))
  # An axis is the same one when it is turned by half a circle.
  stretched = (stretch * jnp.cos(2 * axis), stretch * jnp.sin(2 * axis))
  return jnp.stack([mirror, upset, growth, *turned, *stretched, right, down])


def warp(image: Image, change: Change) -> Float[Array, "H W C"]:
  """Return the changed image, of the same size, on whose outside the image is continued by its reflection.

  Flips are exact. All else is one affine map of the plane about the image's centre, and the image between its
  pixels the cubic interpolation of Catmull and Rom, which lets an image be what it was where nothing is done,
  and what is linear stay linear. EDM filters with wavelets instead, at twice the resolution.

  Args:
    image: [H, W, C], at least 2 pixels high and wide.
    change: what to do.
  """
  chex.assert_rank(image, 3)
  mirror, upset, growth, angle, axis, stretch, right, down = change
  image = jnp.where(mirror > 0, image[:, ::-1], image)
  image = jnp.where(upset > 0, image[::-1], image)
  height, width, _ = image.shape
  y = jnp.arange(height)[:, None] - (height - 1) / 2 - SHIFT * height * down
  x = jnp.arange(width)[None, :] - (width - 1) / 2 - SHIFT * width * right
  # Backwards, from a pixel of the changed image to where it was: stretched, turned, grown.
  along, across = jnp.cos(axis) * x + jnp.sin(axis) * y, jnp.cos(axis) * y - jnp.sin(axis) * x
  along, across = along / GROWTH**stretch, across * GROWTH**stretch
  x, y = (
    jnp.cos(axis) * along - jnp.sin(axis) * across,
    jnp.sin(axis) * along + jnp.cos(axis) * across,
  )
  x, y = jnp.cos(angle) * x - jnp.sin(angle) * y, jnp.sin(angle) * x + jnp.cos(angle) * y
  x, y = x / GROWTH**growth, y / GROWTH**growth
  return _between(image, y + (height - 1) / 2, x + (width - 1) / 2)


def _between(
  image: Float[Array, "H W C"], y: Float[Array, "H W"], x: Float[Array, "H W"]
) -> Float[Array, "H W C"]:
  """Return the image at places between its pixels, in units of pixels."""
  height, width, _ = image.shape
  rows, columns = jnp.floor(y), jnp.floor(x)
  found = jnp.zeros_like(image)
  for i, weight_y in enumerate(_cubic(y - rows), start=-1):
    for j, weight_x in enumerate(_cubic(x - columns), start=-1):
      pixels = image[_reflected(rows + i, height), _reflected(columns + j, width)]
      found += (weight_y * weight_x)[..., None] * pixels
  return found


def _cubic(t: Float[Array, "H W"]) -> tuple[Float[Array, "H W"], ...]:
  """Return the weights of the pixels at −1, 0, 1 and 2 for a place t in [0, 1]."""
  return (
    t * (-1 + t * (2 - t)) / 2,
    1 + t * t * (3 * t - 5) / 2,
    t * (1 + t * (4 - 3 * t)) / 2,
    t * t * (t - 1) / 2,
  )


def _reflected(index: Float[Array, "H W"], length: int) -> Int[Array, "H W"]:
  last = length - 1
  return (last - jnp.abs(index % (2 * last) - last)).astype(int)
