"""New or copied: how far samples lie from the images that a model was trained on."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from gauss_diffusion.images import to_float
from gauss_diffusion.types import ArrayLike

_SAMPLES = 1024  # samples searched at once
_BLOCK = 2**22  # float64 elements of a block of training images or of its distances: 32 MiB
_CANDIDATES = 8


class Neighbours(NamedTuple):
  """The two training images nearest to each of n samples, nearest first."""

  index: Int[np.ndarray, "n 2"]  # type: ignore[assignment]  # no tuple.index; -1 where there is no second one
  distance: Float[np.ndarray, "n 2"]  # float64, ‖x - y‖ over all pixels on the [-1, 1] scale; inf there


def neighbours(x: Shaped[ArrayLike, "..."], images: Shaped[ArrayLike, "..."]) -> Neighbours:
  """Find the two training images nearest to each sample, in pixel L2.

  Candidates are screened with the expanded ‖y‖² - 2⟨x, y⟩ in blocks of matrix products, in float64,
  and the best eight are recomputed as differences. An image copied exactly, of pixels as u8/127.5 - 1 in the
  precision of `x`, has distance 0. Memory beyond the inputs does not grow with the number of images, each
  read once for every 1024 samples.

  Args:
    x: samples, floats [n, H, W, C] on the scale of the images, [-1, 1] for pixels.
    images: training images, uint8 or float32 [N, H, W, C], in memory or mapped.

  Returns:
    The neighbours; exact as long as no more than eight images tie to within 1e-8 in ‖x - y‖².

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
  x, images = x.reshape(len(x), -1), images.reshape(len(images), -1)
  found = Neighbours(np.full((len(x), 2), -1), np.full((len(x), 2), np.inf))
  for start in range(0, len(x), _SAMPLES):
    rows = slice(start, start + _SAMPLES)
    index = np.sort(_candidates(x[rows], images), axis=1)  # so that the first of two equals wins
    distance = np.stack([_distance(x[rows], images[column]) for column in index.T], axis=1)
    order = np.argsort(distance, axis=1, kind="stable")[:, :2]
    found.index[rows, : order.shape[1]] = np.take_along_axis(index, order, axis=1)
    found.distance[rows, : order.shape[1]] = np.take_along_axis(distance, order, axis=1)
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


def _candidates(x: Float[np.ndarray, "n D"], images: Shaped[np.ndarray, "N D"]) -> Int[np.ndarray, "n m"]:
  """Return the indices of the m = min(8, N) images that the expanded distance puts nearest."""
  x = x.astype(np.float64)
  levels = (x + 1) * 127.5 if images.dtype == np.uint8 else x
  index, score = np.empty((len(x), 0), int), np.empty((len(x), 0))
  step = max(1, _BLOCK // max(x.shape))
  for start in range(0, len(images), step):
    block = images[start : start + step].astype(np.float64)
    block_score = np.einsum("nd,nd->n", block, block) - 2 * levels @ block.T
    best = _smallest(block_score)
    index = np.hstack([index, start + best])
    score = np.hstack([score, np.take_along_axis(block_score, best, axis=1)])
    kept = _smallest(score)
    index, score = (np.take_along_axis(values, kept, axis=1) for values in (index, score))
  return index


def _smallest(score: Float[np.ndarray, "n N"]) -> Int[np.ndarray, "n m"]:
  return np.argpartition(score, min(_CANDIDATES, score.shape[1]) - 1, axis=1)[:, :_CANDIDATES]


def _distance(x: Float[np.ndarray, "n D"], images: Shaped[np.ndarray, "n D"]) -> Float[np.ndarray, " n"]:
  """Return ‖x - y‖ of matching rows, zero for an image converted in the precision of `x`."""
  return np.linalg.norm(x.astype(np.float64) - to_float(images, x.dtype), axis=1)
