"""Squared distances from a noisy sample to images of whole grey levels, as exact as float32 allows.

Posterior weights depend on differences of squared distances that are small beside the distances
themselves, so float32 gets them wrong at small sigma. Here every large part is an exact integer, and
differences are taken before anything is rounded. The unit is the grey level: an image is y in
{-128, ..., 127}, and the noisy sample splits as ``u = p / 2 + unit q + rest`` with integers |p|, |q| <= 256
and a rest so small that its own rounding does not matter.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int, Int32, Shaped, UInt8

from gauss_diffusion.types import Array, ArrayLike, Number, Pixels

MAX_PIXELS = 2**15  # at most 255.5^2 squared levels each, so squared distances differ by less than 2^31
BLOCK = 512  # values in one exact dot product: 512 * 256 * 128 = 2^24, float32's last exact integer
ON_DEVICE = 2**30  # bytes of images that a fit leaves to be put on every device; more are streamed

State = TypeVar("State")  # a pytree of arrays


@jax.tree_util.register_static
@dataclass(frozen=True, eq=False)
class Streamed:
  """Images that stay on the host, in memory or mapped, and go to devices a chunk at a time.

  In the place of a record's images: denoisers find the same, and can be differentiated, jitted and mapped all
  the same. But for every such record they are compiled anew, and what was compiled holds on to the images.
  """

  images: Shaped[np.ndarray, "..."]  # uint8 [N, H, W, C]


Source = Shaped[ArrayLike, "..."] | Streamed  # training images, uint8 [N, H, W, C], of a record


def placed(images: Pixels) -> Pixels | Streamed:
  """Return images as a record holds them: streamed where they have more than `ON_DEVICE` bytes."""
  return Streamed(images) if images.nbytes > ON_DEVICE else images


def array(images: Source) -> Shaped[ArrayLike, "..."]:
  """Return the array that a record's images are, for its shape and dtype."""
  return images.images if isinstance(images, Streamed) else images


def some(images: Source, chosen: Int[Array, " n"]) -> UInt8[Array, "..."]:
  """Return the images of some indices, [n, ...]."""
  if not isinstance(images, Streamed):
    return jnp.asarray(images)[chosen]
  shape, host = images.images.shape[1:], images.images
  found = jax.ShapeDtypeStruct((*chosen.shape, *shape), np.uint8)
  return jax.pure_callback(lambda index: host[np.asarray(index)], found, chosen, vmap_method="expand_dims")


def _chunk(images: Source, first: Int[Array, ""], n: int) -> UInt8[Array, "..."]:
  if not isinstance(images, Streamed):
    return jax.lax.dynamic_slice_in_dim(images, first, n)
  host = images.images
  found = jax.ShapeDtypeStruct((n, *host.shape[1:]), np.uint8)
  # Which chunk it is no sample says: under vmap all share one call.
  return jax.pure_callback(lambda start: host[int(start) : int(start) + n], found, first)


class Query(NamedTuple):
  """The noisy sample in levels, ``u = p / 2 + unit q + rest``; with fewer parts see `split`."""

  p: Float[Array, "*image"]  # integers: the sample to half a level, within the range of images
  q: Float[Array, "*image"]  # integers
  unit: Float[Array, ""]
  rest: Float[Array, "*image"]  # |rest| <= unit / 2; carries the derivative: p and q are constant steps


class Distance(NamedTuple):
  """Squared distance from the sample to an image, ``|y - u|^2 - |u|^2 = near - 2 unit q_y - 2 rest_y``."""

  near: Int32[Array, "*n"]  # |y|^2 - p . y
  q_y: Int32[Array, "*n"]  # q . y
  rest_y: Float[Array, "*n"]  # rest . y


def check_images(images: Source, x: Float[ArrayLike, "..."], chunk: int) -> None:
  """Refuse what is no set of training images, a noisy image of another size, and no chunk to stream them in.

  Raises:
    ValueError: see there.
  """
  images = array(images)
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


def split(x: Float[Array, "*image"], parts: int = 3) -> Query:
  """Return a noisy sample on the [-1, 1] scale in levels.

  Fewer parts are less work, and enough for higher noise: of two p is 0, of one q too. Of two ``q . y`` is
  exact in float32 over all pixels, see `halves`.
  """
  if parts == 3:
    p = jnp.clip(jnp.round(255 * x - 1), -256, 254)
    rest = _minus(x, p / 2)
    unit = jnp.maximum(jnp.max(jnp.abs(jax.lax.stop_gradient(rest))), 0.25) / 256
    q = jnp.round(rest / unit)
    return Query(p, q, unit, rest - unit * q)
  zero = jnp.zeros_like(x)
  return halves(x, x.size) if parts == 2 else Query(zero, zero, jnp.ones((), x.dtype), _minus(x, zero))


def halves(x: Float[Array, "*image"], values: int) -> Query:
  """Return a noisy sample on the [-1, 1] scale in levels, in two parts: p is 0.

  Products of q with so many `values` of an image are exact in float32, and `unit` is a power of two, which
  rounds nothing.
  """
  zero = jnp.zeros_like(x)
  u, most = _minus(x, zero), 256 * BLOCK // values
  _, exponent = jnp.frexp(jnp.max(jnp.abs(jax.lax.stop_gradient(u))) / most)
  unit = jnp.ldexp(jnp.ones((), x.dtype), exponent)
  q = jnp.round(u / unit)
  return Query(zero, q, unit, _minus(x, unit * q))


def _minus(x: Float[Array, "*image"], part: Float[Array, "*image"]) -> Float[Array, "*image"]:
  return (128 * x - part) - (x + 1) / 2  # 127.5 x - 1/2 - part, ordered so that rounding stays below 1e-7


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
  images: Source,
  chunk: int,
) -> State:
  """Carry a state over the images in chunks, so that memory does not grow with N.

  Images that are `Streamed` are not on the devices either, but for a chunk.

  Args:
    step: ``(state, y, fresh) -> state`` for images y; those that are not `fresh` have been seen before.
    state: of the start.
    images: uint8 [N, ...], N > 0 of them.
    chunk: images in one step.
  """
  num = len(array(images))
  n = min(chunk, num)

  @jax.checkpoint  # reverse mode recomputes a chunk instead of storing it
  def body(state, start):
    first = jnp.minimum(start, num - n)  # the last chunk reaches back to be full ...
    fresh = first + jnp.arange(n) >= start  # ... and does not count an image twice
    return step(state, _chunk(images, first, n), fresh), None

  return jax.lax.scan(body, state, jnp.arange(0, num, n))[0]


def search(
  step: Callable[..., State],
  state: State,
  images: Source,
  chunk: int,
  hopeless: Callable[[State], Bool[Array, ""]],
) -> State:
  """Carry a state over the images as `fold` does, without derivatives, until it is hopeless.

  Args:
    step: ``(state, y, fresh, place) -> state`` for images y, with their places among all.
    state: of the start.
    images: uint8 [N, ...], N > 0 of them.
    chunk: images in one step.
    hopeless: whether the rest can be left out, for one of the samples that are mapped together.
  """
  num = len(array(images))
  n = min(chunk, num)

  def going(carry):
    start, state = carry
    return (start < num) & ~largest(hopeless(state))

  def body(carry):
    start, state = carry
    first = jnp.minimum(start, num - n)
    place = first + jnp.arange(n, dtype=jnp.int32)
    return start + n, step(state, _chunk(images, first, n), place >= start, place)

  return jax.lax.while_loop(going, body, (jnp.zeros((), jnp.int32), state))[1]


@jax.custom_batching.custom_vmap
def largest(value: Shaped[Array, ""]) -> Shaped[Array, ""]:
  """Return the largest value of all samples that are mapped together: a branch on it stays a branch."""
  return value


@largest.def_vmap
def _largest(axis_size, in_batched, values):
  return largest(jnp.max(values, axis=0)), False


def each(measure: Callable[..., State], images: Source, chunk: int) -> State:
  """Return what is measured of every image, of n at a time, leaves [N, ...]: these alone grow with N.

  Args:
    measure: of images uint8 [n, ...], a pytree with leaves [n, ...].
    images: uint8 [N, ...], N > 0 of them.
    chunk: images in one step.
  """
  num = len(array(images))
  n = min(chunk, num)
  last = num - n  # the last chunk reaches back to be full

  @jax.checkpoint
  def body(_, first):
    return None, measure(_chunk(images, first, n))

  _, found = jax.lax.scan(body, None, jnp.minimum(jnp.arange(0, num, n), last))
  return jax.tree.map(lambda leaf: jnp.concatenate([leaf[:-1].reshape(-1)[:last], leaf[-1]]), found)
