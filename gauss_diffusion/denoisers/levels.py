"""Squared distances from a noisy sample to images of whole grey levels, as exact as float32 allows.

Posterior weights depend on differences of squared distances that are small beside the distances
themselves, so float32 gets them wrong at small sigma. Here every large part is an exact integer, and
differences are taken before anything is rounded. The unit is the grey level: an image is y in
{-128, ..., 127}, and the noisy sample splits as ``u = p / 2 + unit q + rest`` with integers |p|, |q| <= 256
and a rest so small that its own rounding does not matter.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int32, Shaped, UInt8

from gauss_diffusion.types import Array, ArrayLike, Number

MAX_PIXELS = 2**15  # at most 255.5^2 squared levels each, so squared distances differ by less than 2^31

State = TypeVar("State")  # a pytree of arrays


class Query(NamedTuple):
  """The noisy sample in levels, ``u = p / 2 + unit q + rest``."""

  p: Float[Array, "*image"]  # integers: the sample to half a level, within the range of images
  q: Float[Array, "*image"]  # integers
  unit: Float[Array, ""]
  rest: Float[Array, "*image"]  # |rest| <= unit / 2; carries the derivative: p and q are constant steps


class Distance(NamedTuple):
  """Squared distance from the sample to an image, ``|y - u|^2 - |u|^2 = near - 2 unit q_y - 2 rest_y``."""

  near: Int32[Array, "*n"]  # |y|^2 - p . y
  q_y: Int32[Array, "*n"]  # q . y
  rest_y: Float[Array, "*n"]  # rest . y


def check_images(images: Shaped[ArrayLike, "..."], x: Float[ArrayLike, "..."], chunk: int) -> None:
  """Refuse what is no set of training images, a noisy image of another size, and no chunk to stream them in.

  Raises:
    ValueError: see there.
  """
  if images.dtype != jnp.uint8 or images.ndim != 4 or not len(images):
    raise ValueError(
      f"`images` are {images.dtype} {images.shape}; want uint8 [N, H, W, C] with N > 0, whose whole grey "
      "levels are compared exactly"
    )
  pixels = images.size // len(images)
  if pixels > MAX_PIXELS:
    raise ValueError(f"`images` have {pixels} elements each; exact distances hold up to {MAX_PIXELS}")
  if x.size != pixels:
    raise ValueError(f"`x` has shape {x.shape}; `images` are of shape {images.shape[1:]}")
  if chunk < 1:
    raise ValueError(f"`chunk` is {chunk}; want at least one image")


def split(x: Float[Array, "*image"]) -> Query:
  """Return a noisy sample on the [-1, 1] scale in levels."""
  p = jnp.clip(jnp.round(255 * x - 1), -256, 254)
  rest = (128 * x - p / 2) - (x + 1) / 2  # 127.5 x - 1/2 - p/2, ordered so that rounding stays below 1e-7
  unit = jnp.maximum(jnp.max(jnp.abs(jax.lax.stop_gradient(rest))), 0.25) / 256
  q = jnp.round(rest / unit)
  return Query(p, q, unit, rest - unit * q)


def centred(images: UInt8[Array, "*n"]) -> Int32[Array, "*n"]:
  """Return the levels of uint8 pixels about the middle one, -128 to 127."""
  return images.astype(jnp.int32) - 128


def to_pixels(levels: Float[Array, "*n"]) -> Float[Array, "*n"]:
  """Return centred levels on the [-1, 1] scale."""
  return (levels + 0.5) / 127.5


def variance(sigma: Number, dtype: jnp.dtype) -> Float[Array, ""]:
  """Return the variance of noise `sigma` on the [-1, 1] scale, in squared levels."""
  return (127.5 * jnp.asarray(sigma, dtype)) ** 2


def gap(a: Distance, b: Distance, unit: Float[Array, ""]) -> Float[Array, "*n"]:
  """Return by how much the squared distance `a` exceeds `b`, in squared levels: exact where it is small."""
  return (a.near - b.near) - 2 * unit * (a.q_y - b.q_y) - 2 * (a.rest_y - b.rest_y)


def choose(condition: Bool[Array, "*n"], a: Distance, b: Distance) -> Distance:
  """Return `a` where the condition holds, and `b` elsewhere."""
  return jax.tree.map(partial(jnp.where, condition), a, b)


def fold(
  step: Callable[..., State],
  state: State,
  images: UInt8[ArrayLike, " N *image"],
  chunk: int,
) -> State:
  """Carry a state over the images in chunks, so that memory does not grow with N.

  Args:
    step: ``(state, y, fresh) -> state`` for images y; those that are not `fresh` have been seen before.
    state: of the start.
    images: uint8, N > 0 of them.
    chunk: images in one step.
  """
  n = min(chunk, len(images))

  @jax.checkpoint  # reverse mode recomputes a chunk instead of storing it
  def body(state, start):
    first = jnp.minimum(start, len(images) - n)  # the last chunk reaches back to be full ...
    fresh = first + jnp.arange(n) >= start  # ... and does not count an image twice
    return step(state, jax.lax.dynamic_slice_in_dim(images, first, n), fresh), None

  return jax.lax.scan(body, state, jnp.arange(0, len(images), n))[0]
