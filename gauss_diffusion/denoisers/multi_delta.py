"""The best denoiser for a finite set of images: the one that has memorized them."""

import math
from functools import partial, reduce
from operator import add, itemgetter
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int32, UInt8

from gauss_diffusion.denoisers import levels
from gauss_diffusion.denoisers.family import Family
from gauss_diffusion.denoisers.levels import MAX_PIXELS, Distance, Query, Source, choose, gap
from gauss_diffusion.types import Array, ArrayLike, Pixels, Sigma

SQUARES = 1024  # pixels whose squares have an exact sum: 1024 * 128^2 = 2^24
SMALL = 2**22  # values of all images; of so few, compiling several ways takes longer than the best one saves
FEW = 16  # images that are compared by themselves where no others have weight
RANKS = 3  # images that are listed for each place of a chunk
ROUGH = 160  # variances; while |rest| |y| is less, the rounding of rest . y changes weights by about 1e-6


class Posterior(NamedTuple):
  """Sums over the images seen so far; weights are relative to that of the nearest one."""

  nearest: Distance
  total: Float[Array, ""]  # sum of weights
  weighted: Float[Array, " D"]  # weighted sum of images


class Shortlist(NamedTuple):
  """The images that a product in floats shows nearest, of those that had the same place in their chunk."""

  closeness: Float[Array, "rank n"]  # |u|² - |y - u|² but for rounding, the largest first; -inf where none
  place: Int32[Array, "rank n"]  # among all images


def fit(images: Pixels) -> Source:
  """Return the images, uint8 [N, H, W, C]: this denoiser remembers all of them and nothing else.

  More than `levels.ON_DEVICE` bytes of them stay on the host, `levels.Streamed`.
  """
  return levels.placed(images)


def denoise(
  images: Source, x: Float[ArrayLike, "*image"], sigma: Sigma, *, chunk: int = 128
) -> Float[Array, "*image"]:
  """Estimate ``x0`` from `x` as the posterior mean under the empirical law of `images`.

  ``D(x; σ) = Σ_i w_i y_i``, ``w = softmax_i(-|x - y_i|² / 2σ²)`` (Li et al. 2024, eq. 5). The images
  are streamed in chunks, so memory does not grow with N, and the result does not depend on `chunk`.
  Derivatives of any order pass through. Images that are `levels.Streamed` come from the host, each chunk once
  for all samples that are mapped together on a device: memory on devices does not grow with N either.

  Where images are many, as little is done as the noise allows. At low noise few have weight. A product in
  floats shows which: even with its rounding at its worst, all others together weigh less than the precision
  of `x`, and exact distances are taken to those few alone. At higher noise they are taken to all, but the
  sample needs fewer of its three parts, see `levels.split`. Of samples that are mapped together the one that
  needs most decides for all.

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
  images, x = jax.tree.map(jnp.asarray, images), jnp.asarray(x)
  row, variance = x.reshape(-1), levels.variance(sigma, x.dtype)
  if levels.array(images).size <= SMALL:
    posterior = _of_all(images, chunk, levels.split(row), 3, variance)
  else:
    shortlist, reach = _screen(images, *jax.lax.stop_gradient((row, variance)), chunk)
    live = _live(shortlist, reach)
    crowded = live[-1].any() | (live.sum() > _few(shortlist))
    rough = [_error(levels.split(row, parts)) > ROUGH * variance for parts in (1, 2)]
    parts = levels.largest(jnp.where(crowded, sum(rough, jnp.int32(1)), 0))
    few, many = partial(_of_few, images, shortlist), partial(_of_many, images, chunk, parts)
    posterior = jax.lax.cond(parts > 0, many, few, row, variance)
  return levels.to_pixels(posterior.weighted / posterior.total).reshape(x.shape)


def gaps(images: Source, x: Float[ArrayLike, "*image"], *, chunk: int = 128) -> Float[Array, " N"]:
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
  distance = levels.each(lambda y: _distance(query, _rows(y, x.dtype), 3), images, chunk)
  nearest = _nearest(distance, jnp.ones(len(distance.near), bool), query.unit)
  return gap(distance, nearest, query.unit) / 127.5**2


def _screen(
  images: Source, x: Float[Array, " D"], variance: Float[Array, ""], chunk: int
) -> tuple[Shortlist, Float[Array, ""]]:
  """Return the shortlist, and how far behind its best image others may be and still have weight.

  Those farther behind weigh less than the precision of `x`, all N together, even if each sum of D products is
  wrong by D roundings of |u| |y|. Where they are many, not all images are looked at.
  """
  u, num = 127.5 * x - 0.5, len(levels.array(images))
  precision = jnp.finfo(x.dtype).eps
  rounding = (1.01 * x.size + 8) * precision * _longest(x) * (jnp.linalg.norm(u) + _longest(x))
  reach = 2 * (variance * math.log(num / precision) + rounding)

  def step(shortlist, y, fresh, place):
    y = _rows(y, x.dtype)
    closeness = 2 * _dot(y, u) - _square(y)
    return _enter(shortlist, jnp.where(fresh, closeness, -jnp.inf), place)

  def hopeless(shortlist):
    return _live(shortlist, reach).mean() > 0.5

  nobody = jnp.zeros((RANKS, min(chunk, num)), jnp.int32)
  start = Shortlist(0 * u[0] - jnp.full(nobody.shape, jnp.inf, x.dtype), nobody)
  return levels.search(step, start, images, chunk, hopeless), reach


def _enter(shortlist: Shortlist, closeness: Float[Array, " n"], place: Int32[Array, " n"]) -> Shortlist:
  ranks = []
  for best, holder in zip(*shortlist, strict=True):
    nearer = closeness > best
    ranks.append((jnp.where(nearer, closeness, best), jnp.where(nearer, place, holder)))
    closeness, place = jnp.where(nearer, best, closeness), jnp.where(nearer, holder, place)
  return Shortlist(*map(jnp.stack, zip(*ranks, strict=True)))


def _live(shortlist: Shortlist, reach: Float[Array, ""]) -> Bool[Array, "rank n"]:
  closeness = shortlist.closeness
  return (closeness > -jnp.inf) & (closeness >= closeness.max() - reach)


def _of_few(
  images: Source, shortlist: Shortlist, x: Float[Array, " D"], variance: Float[Array, ""]
) -> Posterior:
  _, chosen = jax.lax.top_k(shortlist.closeness.reshape(-1), _few(shortlist))
  y = levels.some(images, shortlist.place.reshape(-1)[chosen])
  return _of_all(y, 1, levels.split(x), 3, variance)


def _few(shortlist: Shortlist) -> int:
  return min(FEW, shortlist.place.shape[1])  # all places of a chunk have an image, and so many at least


def _of_many(
  images: Source, chunk: int, parts: Int32[Array, ""], x: Float[Array, " D"], variance: Float[Array, ""]
) -> Posterior:
  query = jax.lax.switch(parts - 1, [partial(levels.split, parts=parts) for parts in (1, 2, 3)], x)
  return _of_all(images, chunk, query, parts, variance)


def _of_all(
  images: Source, chunk: int, query: Query, parts: int | Int32[Array, ""], variance: Float[Array, ""]
) -> Posterior:
  """Return the posterior of all images, of a sample in so many parts."""

  def absorb(posterior, y, fresh):
    y = _rows(y, variance.dtype)
    summary = _summarise(_distance(query, y, parts), y, fresh, query.unit, variance)
    return _merge(posterior, summary, query.unit, variance)

  nothing = jnp.zeros_like(variance)
  nearest = Distance(jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32), nothing)
  return levels.fold(absorb, Posterior(nearest, nothing, 0 * query.rest), images, chunk)


def _distance(query: Query, y: Float[Array, "n D"], parts: int | Int32[Array, ""]) -> Distance:
  blocks = [slice(start, start + levels.BLOCK) for start in range(0, y.shape[1], levels.BLOCK)]

  def product(row):
    return reduce(add, (_whole(_dot(y[:, block], row[block])) for block in blocks))

  def nothing(row):
    return jnp.zeros(len(y), jnp.int32)

  p_y, q_y = (
    jax.lax.cond(parts >= least, product, nothing, row) for least, row in ((3, query.p), (2, query.q))
  )
  return Distance(_square(y) - p_y, q_y, _dot(y, query.rest))


def _rows(y: UInt8[Array, "n ..."], dtype: jnp.dtype) -> Float[Array, "n D"]:
  return y.reshape(len(y), -1).astype(dtype) - 128


def _whole(product: Float[Array, "*n"]) -> Int32[Array, "*n"]:
  return product.astype(jnp.int32)


def _square(y: Float[Array, "n D"]) -> Int32[Array, " n"]:
  pixels = y.shape[1]
  part = jax.nn.one_hot(jnp.arange(pixels) // SQUARES, -(-pixels // SQUARES), dtype=y.dtype)
  return jnp.sum(_whole(_dot(y**2, part)), axis=1, dtype=jnp.int32)  # as a product: sums of integers are slow


def _error(query: Query) -> Float[Array, ""]:
  return jnp.linalg.norm(query.rest) * _longest(query.rest)


def _longest(x: Float[Array, " D"]) -> float:
  return 128 * x.size**0.5  # no image is longer, in levels


def _summarise(
  distance: Distance,
  y: Float[Array, "n D"],
  fresh: Bool[Array, " n"],
  unit: Float[Array, ""],
  variance: Float[Array, ""],
) -> Posterior:
  nearest = _nearest(distance, fresh, unit)
  excess = jnp.where(fresh, gap(distance, nearest, unit), 0)
  weight = jnp.where(fresh, jnp.exp(-excess / (2 * variance)), 0)
  return Posterior(nearest, jnp.sum(weight), _dot(weight, y))


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
