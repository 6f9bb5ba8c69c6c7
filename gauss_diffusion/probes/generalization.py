"""New or copied: how far samples lie from the images that a model was trained on."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from gauss_diffusion import parallel
from gauss_diffusion.images import to_float
from gauss_diffusion.types import Array, ArrayLike

_SAMPLES = 1024  # samples searched at once
_BLOCK = 2**22  # elements of a block of training images, or of its distances: 16 MiB of float32
_FITTED = 512  # training images to which the principal components of the screen are fitted
_COMPONENTS = 192  # of them
_WORTH = 2  # times as many values and samples there must be, or the only screen has every value
_FEW = 1 / 64  # share of a block that is compared value by value; of more, a second screen has all values
_ROWS = 128  # samples of a product are a multiple of these, or all: it is compiled for every number of them
_PART = 2**18  # elements compared value by value at once: as many as fit a cache
_SUM = 512  # values whose products are summed in float32 before float64 takes over
_UNIT = 2.0**-24  # half a step of float32
_FAR = np.finfo(np.float32).max  # levels: less than the bound of what has been compared


class Neighbours(NamedTuple):
  """The two training images nearest to each of n samples, nearest first."""

  index: Int[np.ndarray, "n 2"]  # type: ignore[assignment]  # no tuple.index; -1 where there is no second one
  distance: Float[np.ndarray, "n 2"]  # float64, ‖x - y‖ over all pixels on the [-1, 1] scale; inf there


class _Points(NamedTuple):
  """Images in fewer dimensions, with distances that are at most their own.

  All lengths are in grey levels, and those of floats as they are.
  """

  at: Float[np.ndarray, "n K"]  # float32
  square: Float[np.ndarray, " n"]  # float64, ‖at‖²
  error: Float[np.ndarray, " n"]  # at most this far from where the image belongs


def neighbours(x: Shaped[ArrayLike, "..."], images: Shaped[ArrayLike, "..."]) -> Neighbours:
  """Find the two training images nearest to each sample, in pixel L2, exactly.

  A projection never makes a distance larger, so that an image which a few principal components show to be
  farther than the second best so far is neither of the two. Those left are compared value by value, in
  float64; where they are many, after a second screen of the same kind in which every value is a component.
  Every bound allows for the rounding of float32 at its worst. An image copied exactly, of pixels as
  u8/127.5 - 1 in the precision of `x`, has distance 0. Memory beyond the inputs does not grow with the number
  of images, each of which is read once for every 1024 samples.

  Args:
    x: samples, floats [n, H, W, C] on the scale of the images, [-1, 1] for pixels.
    images: training images, uint8 or float32 [N, H, W, C], in memory or mapped.

  Returns:
    The neighbours; of equally near ones the first in order of `images`.

  Raises:
    ValueError: if `images` is neither uint8 nor float32, or empty, or `x` is not finite or of another shape.
  """
  x, images = np.asarray(x), np.asarray(images)
  if images.dtype not in (np.uint8, np.float32) or not len(images):
    raise ValueError(
      f"`images` is {images.dtype} of shape {images.shape}; want uint8 or float32, at least one image"
    )
  if not np.issubdtype(x.dtype, np.floating):
    raise ValueError(f"`x` is {x.dtype}; want floats in [-1, 1]")
  if images.shape[1:] != x.shape[1:]:
    raise ValueError(f"`x` holds samples {x.shape[1:]}; want {images.shape[1:]}, the shape of the `images`")
  if not np.isfinite(x).all():
    raise ValueError("`x` holds NaN or infinite pixels; want floats in [-1, 1]")
  x, images = x.reshape(len(x), images[0].size), images.reshape(len(images), -1)
  found = Neighbours(np.full((len(x), 2), -1), np.full((len(x), 2), np.inf))
  basis = _components(images) if min(x.shape) >= _WORTH * _COMPONENTS else None
  for start in range(0, len(x), _SAMPLES):
    rows = slice(start, start + _SAMPLES)
    _search(x[rows], images, basis, Neighbours(found.index[rows], found.distance[rows]))
  return found


def gl_score(x: Float[ArrayLike, "n H W C"], nearest: Neighbours) -> Float[np.ndarray, " n"]:
  """Return ‖x - NN(x)‖/‖x‖ of each sample, the GL score whose mean is eq. 14 of Li et al. 2024.

  0 for a copy of a training image; the paper takes a mean above 0.6 as generalizing. It depends on
  the [-1, 1] scale, on which mid-grey is 0. Zhang et al. 2024 give the name GL to another quantity,
  the share of samples whose copy-detection similarity to all training images is low.

  Args:
    x: samples [n, H, W, C] in [-1, 1].
    nearest: their `neighbours`.

  Returns:
    float64 [n].
  """
  distance = nearest.distance[:, 0]
  norm = np.linalg.norm(np.asarray(x, np.float64).reshape(len(distance), -1), axis=1)
  return distance / np.where(distance > 0, norm, 1)


def memorized(nearest: Neighbours) -> Bool[np.ndarray, " n"]:
  """Say of each sample whether it copies a training image: d₁/d₂ < 1/3, bool [n].

  An exact copy, d₁ = 0, always does, also of an image that occurs twice (0/0). With a single
  training image d₂ is infinite and every sample does. A near copy of an image that occurs twice has
  d₁ ≈ d₂ and goes unseen: leave out duplicates first.
  """
  first, second = nearest.distance.T
  return (first == 0) | (3 * first < second)


def _search(
  x: Float[np.ndarray, "n D"],
  images: Shaped[np.ndarray, "N D"],
  basis: Float[np.ndarray, "D K"] | None,
  best: Neighbours,
) -> None:
  """Write the neighbours of the samples into `best`."""
  pixels, levels = images.dtype == np.uint8, x.astype(np.float64)
  unit = 127.5 if pixels else 1.0
  if pixels:
    levels = unit * levels - 0.5  # on the scale of `_levels`
  screens = [None] if basis is None else [basis, None]
  points = [_project(levels, _squares(levels), columns) for columns in screens]
  step = max(1, _BLOCK // max(x.shape))
  for start in range(0, len(images), step):
    block = images[start : start + step]
    y, many = _levels(block), np.arange(len(x))
    square = _squares(y)
    whole = (points[-1], _project(y, square, None)) if len(screens) > 1 else None
    bound = np.zeros((len(x), len(block)), np.float32)
    left = np.ones(bound.shape, bool)
    for columns, of_x in zip(screens, points, strict=True):
      rows = many if len(many) == len(x) else np.resize(many, -(-len(many) // _ROWS) * _ROWS)
      of_rows = of_x if rows is many else _Points(*(each[rows] for each in of_x))
      closer = _bounds(of_rows, _project(y, square, columns))[: len(many)]
      closer = np.maximum(closer, bound[many], out=closer)
      for _ in range(min(2, len(block))):  # likely neighbours first: what lies farther need not be looked at
        likely = closer.argmin(axis=1)
        hopeful = closer[np.arange(len(many)), likely] <= _limit(unit, best, many)
        hopeful, likely = np.flatnonzero(hopeful), likely[hopeful]
        _compare(x, block, start, many[hopeful], likely, best, whole)
        closer[hopeful, likely] = np.inf  # compared
      bound[many], left[many] = closer, closer <= _limit(unit, best, many)[:, None]
      many = many[left[many].sum(axis=1) > _FEW * len(block)]
      if not len(many):
        break
      if len(screens) > 1 and len(many) > len(x) / 2:
        screens, points = screens[1:], points[1:]  # for blocks to come: these components tell little
    row, column = np.nonzero(left)
    _compare(x, block, start, row, column, best, whole)


def _limit(unit: float, best: Neighbours, row: Int[np.ndarray, " m"]) -> Float[np.ndarray, " m"]:
  """Return the bound above which an image is none of a sample's two nearest."""
  return np.minimum(unit * best.distance[row, 1], _FAR)


def _compare(
  x: Float[np.ndarray, "n D"],
  block: Shaped[np.ndarray, "b D"],
  start: int,
  row: Int[np.ndarray, " m"],
  column: Int[np.ndarray, " m"],
  best: Neighbours,
  whole: tuple[_Points, _Points] | None,
) -> None:
  """Compare samples with images of a block value by value, and keep the two best of each sample in `best`.

  Of pairs that a screen of few components has left, one of all values leaves out most, see `whole`.
  """
  if whole is not None:
    unit = 127.5 if block.dtype == np.uint8 else 1.0
    near = _of_pairs(*whole, row, column) <= _limit(unit, best, row)
    row, column = row[near], column[near]
  distance, step = np.empty(len(row)), max(1, _PART // x.shape[1])
  for some in (slice(at, at + step) for at in range(0, len(row), step)):
    distance[some] = _distance(x[row[some]], block[column[some]])
  touched = np.unique(row)
  row = np.concatenate([np.repeat(touched, 2), row])
  index = np.concatenate([best.index[touched].ravel(), start + column])
  distance = np.concatenate([best.distance[touched].ravel(), distance])
  order = np.lexsort((index, distance, row))  # by sample, then by distance, then the first in order
  first = np.searchsorted(row[order], touched)[:, None] + np.arange(2)
  best.index[touched], best.distance[touched] = index[order][first], distance[order][first]


def _components(images: Shaped[np.ndarray, "N D"]) -> Float[np.ndarray, "D K"]:
  """Return principal components of a part of the images.

  Any orthonormal columns keep the screen right; these let it show most of a distance.
  """
  some = _levels(images[:: max(1, len(images) // _FITTED)][:_FITTED])
  _, vectors = np.linalg.eigh(some @ some.T)
  return np.linalg.qr(some.T.astype(np.float64) @ vectors[:, : -_COMPONENTS - 1 : -1])[0]


def _levels(images: Shaped[np.ndarray, "n D"]) -> Float[np.ndarray, "n D"]:
  """Return pixels about the middle level, float32: whole numbers; floats as they are."""
  return images.astype(np.float32) - 128 if images.dtype == np.uint8 else images


def _squares(y: Float[np.ndarray, "n D"]) -> Float[np.ndarray, " n"]:
  return np.einsum("nd,nd->n", y, y, dtype=np.float64)


def _project(
  y: Float[np.ndarray, "n D"], square: Float[np.ndarray, " n"], basis: Float[np.ndarray, "D K"] | None
) -> _Points:
  """Return images by their components and, last, the length of what these do not show; all values without."""
  norm, y = np.sqrt(square), y.astype(np.float32, copy=False)
  if basis is None:
    return _Points(y, square, 2 * _UNIT * norm)
  at = np.zeros((len(y), basis.shape[1] + 1))
  for part in (slice(start, start + _SUM) for start in range(0, len(basis), _SUM)):
    at[:, :-1] += y[:, part] @ basis[part].astype(np.float32)
  # A component is wrong by the roundings of a sum and of its factors, the last one by what follows.
  error = (_SUM + 4) * _UNIT * np.sqrt(basis.shape[1]) * norm
  shown = np.linalg.norm(at[:, :-1], axis=1)
  most = np.sqrt(np.maximum(square - np.maximum(shown - error, 0) ** 2, 0))
  least = np.sqrt(np.maximum(square - (shown + error) ** 2, 0))
  at[:, -1] = (most + least) / 2
  rounded = at.astype(np.float32)
  return _Points(rounded, _squares(rounded), np.hypot(error, (most - least) / 2) + 2 * _UNIT * norm)


def _bounds(a: _Points, b: _Points) -> Float[np.ndarray, "n m"]:
  """Return what no distance between two images is below, in levels, float32."""
  with parallel.on_cpu():
    product = np.asarray(_product(a.at, b.at))
  return _bound(product, a.at.shape[1], a.square[:, None], a.error[:, None], b.square, b.error)


@jax.jit
def _product(a: Float[Array, "n K"], b: Float[Array, "m K"]) -> Float[Array, "n m"]:
  return jnp.matmul(a, b.T, precision="highest")  # up to twice as fast as NumPy's


def _of_pairs(
  a: _Points, b: _Points, row: Int[np.ndarray, " m"], column: Int[np.ndarray, " m"]
) -> Float[np.ndarray, " m"]:
  """Return the same of some pairs."""
  product, step = np.empty(len(row), np.float32), max(1, _PART // a.at.shape[1])
  for some in (slice(at, at + step) for at in range(0, len(row), step)):
    product[some] = np.einsum("mk,mk->m", a.at[row[some]], b.at[column[some]])
  return _bound(product, a.at.shape[1], a.square[row], a.error[row], b.square[column], b.error[column])


def _bound(
  product: Float[np.ndarray, "*pairs"],
  dimensions: int,
  square_a: Float[np.ndarray, "..."],
  error_a: Float[np.ndarray, "..."],
  square_b: Float[np.ndarray, "..."],
  error_b: Float[np.ndarray, "..."],
) -> Float[np.ndarray, "*pairs"]:
  """Turn products a . b into what no distance is below.

  ``‖x − y‖ ≥ √(‖a − b‖² − slack) − error_a − error_b``, with the square expanded, and `slack` the most by
  which the roundings of K + 2 sums take it too high.
  """
  slack = (dimensions + 8) * _UNIT * (np.sqrt(square_a) + np.sqrt(square_b.max(initial=0))) ** 2
  bound = -2 * product
  bound += square_b.astype(np.float32)
  bound += (square_a - slack).astype(np.float32)
  np.sqrt(np.maximum(bound, 0, out=bound), out=bound)
  for square, error in ((square_b, error_b), (square_a, error_a)):
    bound -= ((1 + 8 * _UNIT) * error + 8 * _UNIT * np.sqrt(square)).astype(np.float32)
  return bound


def _distance(x: Float[np.ndarray, "n D"], images: Shaped[np.ndarray, "n D"]) -> Float[np.ndarray, " n"]:
  """Return ‖x - y‖ of matching rows, zero for an image converted in the precision of `x`."""
  return np.linalg.norm(x.astype(np.float64) - to_float(images, x.dtype), axis=1)
