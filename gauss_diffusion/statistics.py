"""Mean, covariance and eigenbasis of a set of images, of pixels exact up to the last step."""

import numpy as np
import scipy.linalg
from jaxtyping import Float, Shaped, UInt8
from tqdm import tqdm

from gauss_diffusion.types import GaussianStats

EXACT_ROWS = 1024  # products of centred uint8 are at most 2^14: float32 sums of 2^10 stay exact integers
MIDDLE = np.float32(128)  # of the grey levels

Basis = tuple[Float[np.ndarray, "D K"], Float[np.ndarray, " K"]]  # orthonormal columns, eigenvalues


def gaussian_stats(images: Shaped[np.ndarray, "..."]) -> GaussianStats:
  """Return the mean of the images and the eigenbasis of their covariance.

  ``μ = (1/N) Σ y``, ``Σ = (1/N) Σ (y - μ)(y - μ)ᵀ = U diag(λ) Uᵀ`` with y = v / 127.5 - 1, or y as it is.
  Sums over pixels are exact integers, and those over floats in float64 about the mean, however far that lies
  from 0; the eigenproblem is solved in float64 on the host, in the smaller of the pixel space and the sample
  space. Directions in which the data have no variance are not stored.

  Args:
    images: uint8 or float32 [N, H, W, C], N >= 1. One image alone has rank 0.

  Returns:
    float64 mean [H, W, C], orthonormal basis [D, K] and falling positive eigenvalues [K], with
    K <= min(N - 1, D).

  Raises:
    ValueError: when `images` are neither uint8 nor float32, not [N, H, W, C], empty, or not finite.
  """
  if images.dtype not in (np.uint8, np.float32) or images.ndim != 4 or not images.size:
    raise ValueError(
      f"`images` are {images.dtype} {images.shape}; want uint8 or float32 [N, H, W, C], not empty"
    )
  count, pixels, shape = len(images), images[0].size, images.shape[1:]
  rows = images.reshape(count, pixels)
  if images.dtype == np.float32:
    mean = rows.mean(axis=0, dtype=np.float64)
    if not np.isfinite(mean).all():
      raise ValueError("`images` hold NaN or infinity; want finite values")
    basis, eigenvalues = _dual(rows, mean) if count <= pixels else _eigh(_second_moment(rows, mean) / count)
    return GaussianStats(mean.reshape(shape), basis, eigenvalues)
  mean = rows.sum(axis=0, dtype=np.int64) / count
  basis, eigenvalues = _dual(rows, mean) if count <= pixels else _primal(rows)
  return GaussianStats((mean / 127.5 - 1).reshape(shape), basis, eigenvalues / 127.5**2)


def _primal(rows: UInt8[np.ndarray, "N D"]) -> Basis:
  count, total = len(rows), (rows.sum(axis=0, dtype=np.int64) - 128 * len(rows)).astype(np.float64)
  covariance = _second_moment(rows)
  covariance *= count  # N^2 Sigma stays below 2^53, so float64 holds it exactly
  covariance -= np.outer(total, total)
  covariance /= count**2
  return _eigh(covariance)


def _dual(rows: Shaped[np.ndarray, "N D"], mean: Float[np.ndarray, " D"]) -> Basis:
  """Return the basis of uint8 or float32 rows, of no more than there are pixels."""
  pixels = rows.dtype == np.uint8
  gram = _second_moment(rows.T) if pixels else _second_moment((rows - mean).T, np.float64(0))
  gram -= gram.mean(axis=0)
  gram -= gram.mean(axis=1, keepdims=True)
  gram /= len(rows)
  vectors, eigenvalues = _eigh(gram)
  # Mapped to pixels, eigenvectors are orthogonal only to rounding of the largest: QR restores the small.
  return scipy.linalg.qr((rows - mean).T @ vectors, mode="economic", overwrite_a=True)[0], eigenvalues


def _second_moment(
  rows: Shaped[np.ndarray, "N D"], centre: Float[np.ndarray, " D"] | np.floating = MIDDLE
) -> Float[np.ndarray, "D D"]:
  """Return ``Σ (row - centre)(row - centre)ᵀ``; of uint8 about `MIDDLE` it is exact."""
  moment = np.zeros((rows.shape[1], rows.shape[1]))
  for start in tqdm(range(0, len(rows), EXACT_ROWS), "covariance", unit="chunk", delay=2):
    centred = rows[start : start + EXACT_ROWS] - centre
    moment += centred.T @ centred
  return moment


def _eigh(matrix: Float[np.ndarray, "D D"]) -> Basis:
  # The matrix is symmetric: its transpose is in LAPACK's order, and overwritten without a copy.
  values, vectors = scipy.linalg.eigh(matrix.T, overwrite_a=True, check_finite=False, driver="evd")
  rank = np.sum(values > len(matrix) * np.finfo(np.float64).eps * values[-1])  # eigh's own rounding
  return np.ascontiguousarray(vectors[:, ::-1][:, :rank]), values[::-1][:rank].copy()
