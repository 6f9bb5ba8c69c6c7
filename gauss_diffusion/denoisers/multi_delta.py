"""The best denoiser for a finite set of images: the one that has memorized them."""

from functools import partial, reduce
from operator import add, itemgetter
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, UInt8

from gauss_diffusion.denoisers import levels
from gauss_diffusion.denoisers.family import Family
from gauss_diffusion.denoisers.levels import MAX_PIXELS, Distance, Query, Source, choose, gap
from gauss_diffusion.types import Array, ArrayLike, Pixels, Sigma

BLOCK = 512  # pixels in one exact dot product: 512 * 256 * 128 = 2^24, float32's last exact integer


class Posterior(NamedTuple):
  """Sums over the images seen so far; weights are relative to that of the nearest one."""

  nearest: Distance
  total: Float[Array, ""]  # sum of weights
  weighted: Float[Array, " D"]  # weighted sum of images


def fit(images: Pixels) -> Source:
  """Return the images, uint8 [N, H, W, C]: this denoiser remembers all of them and nothing else.

  More than `levels.ON_DEVICE` bytes of them stay on the host, `levels.Streamed`.
  """
  return levels.placed(images)


def denoise(
  images: Source, x: Float[ArrayLike, "*image"], sigma: Sigma, *, chunk: int = 1024
) -> Float[Array, "*image"]:
  """Estimate ``x0`` from `x` as the posterior mean under the empirical law of `images`.

  ``D(x; σ) = Σ_i w_i y_i``, ``w = softmax_i(-|x - y_i|² / 2σ²)`` (Li et al. 2024, eq. 5). The images
  are streamed in chunks, so memory does not grow with N, and the result does not depend on `chunk`.
  Derivatives of any order pass through. Images that are `levels.Streamed` come from the host, each chunk once
  for all samples that are mapped together on a device: memory on devices does not grow with N either.

  Args:
    images: uint8 [N, H, W, C]; level v stands for v / 127.5 - 1. An array, or streamed.
    x: one noisy image [H, W, C], or any shape of D = H * W * C elements, on the [-1, 1] scale.
    sigma: scalar noise level > 0, in the same units.
    chunk: images in one step of the stream.

  Returns:
    The estimate, with the shape and dtype of `x`.

  Raises:
    ValueError: when `images` are not uint8 [N, H, W, C] with N > 0, have more than 32,768 elements each
      or not as many as `x`, or when `chunk` < 1.
  """
  levels.check_images(images, x, chunk)
  x = jnp.asarray(x)
  query = levels.split(x.reshape(-1))
  variance = levels.variance(sigma, x.dtype)

  def absorb(posterior, y, fresh):
    summary = _summarise(query, y.reshape(len(y), -1), fresh, variance)
    return _merge(posterior, summary, query.unit, variance)

  nothing = jnp.zeros_like(variance)
  nearest = Distance(jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32), nothing)
  posterior = levels.fold(absorb, Posterior(nearest, nothing, 0 * query.rest), images, chunk)
  mean = posterior.weighted / posterior.total
  return levels.to_pixels(mean).reshape(x.shape)


def gaps(images: Source, x: Float[ArrayLike, "*image"], *, chunk: int = 1024) -> Float[Array, " N"]:
  """Return ``|x - y_i|² - min_j |x - y_j|²`` of every image, as exact as the posterior's weights are.

  Args:
    images: uint8 [N, H, W, C]; level v stands for v / 127.5 - 1.
    x: one noisy image [H, W, C], or any shape of D = H * W * C elements, on the [-1, 1] scale.
    chunk: images in one step of the stream; three numbers of each are kept.

  Returns:
    On the [-1, 1] scale and of the dtype of `x`, >= 0 but for rounding.

  Raises:
    ValueError: as `denoise`.
  """
  levels.check_images(images, x, chunk)
  x = jnp.asarray(x)
  query = levels.split(x.reshape(-1))
  distance = levels.each(lambda y: _distance(query, _blocks(query, y.reshape(len(y), -1))), images, chunk)
  nearest = _nearest(distance, jnp.ones(len(distance.near), bool), query.unit)
  return gap(distance, nearest, query.unit) / 127.5**2


def _summarise(
  query: Query, y: UInt8[Array, "n D"], fresh: Bool[Array, " n"], variance: Float[Array, ""]
) -> Posterior:
  blocks = _blocks(query, y)
  distance = _distance(query, blocks)
  nearest = _nearest(distance, fresh, query.unit)
  excess = jnp.where(fresh, gap(distance, nearest, query.unit), 0)
  weight = jnp.where(fresh, jnp.exp(-excess / (2 * variance)), 0)
  weighted = jnp.concatenate([_dot(weight, block) for block in blocks])
  return Posterior(nearest, jnp.sum(weight), weighted)


def _blocks(query: Query, y: UInt8[Array, "n D"]) -> list[Float[Array, "n _"]]:
  return jnp.split(levels.centred(y).astype(query.p.dtype), _cuts(y.shape[-1]), axis=-1)


def _cuts(pixels: int) -> list[int]:
  return list(range(BLOCK, pixels, BLOCK))


def _distance(query: Query, blocks: list[Float[Array, "n _"]]) -> Distance:
  rows = jnp.stack([query.p, query.q, query.rest])
  squares = reduce(add, (jnp.sum(block**2, axis=-1).astype(jnp.int32) for block in blocks))
  parts = jnp.split(rows, _cuts(rows.shape[-1]), axis=-1)
  products = [_dot(row, block.T) for row, block in zip(parts, blocks, strict=True)]
  p_y, q_y = reduce(add, (product[:2].astype(jnp.int32) for product in products))
  return Distance(squares - p_y, q_y, reduce(add, (product[2] for product in products)))


def _nearest(distance: Distance, fresh: Bool[Array, " n"], unit: Float[Array, ""]) -> Distance:
  nearest = jax.tree.map(lambda leaf: leaf[-1], distance)
  for _ in range(2):  # once to come near, once more because only then the gaps are exact
    first = jnp.argmin(jnp.where(fresh, gap(distance, nearest, unit), jnp.inf))
    nearest = jax.tree.map(itemgetter(first), distance)
  return nearest


def _merge(a: Posterior, b: Posterior, unit: Float[Array, ""], variance: Float[Array, ""]) -> Posterior:
  nearest_a = choose(a.total == 0, b.nearest, a.nearest)  # a has seen nothing before the first chunk
  nearest = choose(gap(b.nearest, nearest_a, unit) < 0, b.nearest, nearest_a)
  scale_a, scale_b = (jnp.exp(-gap(it, nearest, unit) / (2 * variance)) for it in (nearest_a, b.nearest))
  return Posterior(
    nearest, scale_a * a.total + scale_b * b.total, scale_a * a.weighted + scale_b * b.weighted
  )


_dot = partial(jnp.matmul, precision="highest")


FAMILY = Family("multi-delta", fit, denoise, most_values=MAX_PIXELS, exact=True)
