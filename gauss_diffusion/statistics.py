"""Mean, covariance and eigenbasis of a set of images, of pixels exact up to the last step."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
from jaxtyping import Float, Shaped, UInt8
from tqdm import tqdm

from gauss_diffusion import parallel
from gauss_diffusion.types import Array, GaussianStats

EXACT_ROWS = 1024  # products of centred uint8 are at most 2^14: float32 sums of 2^10 stay exact integers
MIDDLE = np.float32(128)  # of the grey levels
STRIP = 768  # columns of products that are computed at once, from the diagonal on

Basis = tuple[Float[np.ndarray, "D K"], Float[np.ndarray, " K"]]  # orthonormal columns, eigenvalues


def gaussian_stats(images: Shaped[np.ndarray, "..."], *, together: bool = False) -> GaussianStats:
  """Return the mean of the images and the eigenbasis of their covariance.

  ``μ = (1/N) Σ y``, ``Σ = (1/N) Σ (y - μ)(y - μ)ᵀ = U diag(λ) Uᵀ`` with y = v / 127.5 - 1, or y as it is.
  Sums over pixels are exact integers, and those over floats in float64 about the mean, however far that lies
  from 0; the eigenproblem is solved in float64 on the host, in the smaller of the pixel space and the sample
  space. Directions in which the data have no variance are not stored.

  Images are read once where N > D, 1024 at a time, and D/1024 + 2 times elsewhere. With R = min(N, D), memory
  holds about 8 (4 R² + D R) bytes, and no more for more images.

  Args:
    images: uint8 or float32 [N, H, W, C], N >= 1, in memory or mapped. One image alone has rank 0.
    together: whether all processes of a run ask at the same time; each then sums its share.

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
  rows, shape = images.reshape(len(images), -1), images.shape[1:]
  few = len(rows) <= rows.shape[1]
  if images.dtype == np.float32:
    mean = rows.mean(axis=0, dtype=np.float64)
    if not np.isfinite(mean).all():
      raise ValueError("`images` hold NaN or infinity; want finite values")
    basis, eigenvalues = (
      _dual(rows, mean, together) if few else _eigh(_sums(rows, mean, together=together)[1] / len(rows))
    )
    return GaussianStats(mean.reshape(shape), basis, eigenvalues)
  if few:
    mean = rows.sum(axis=0, dtype=np.int64) / len(rows)
    basis, eigenvalues = _dual(rows, mean, together)
  else:
    mean, basis, eigenvalues = _primal(rows, together)
  return GaussianStats((mean / 127.5 - 1).reshape(shape), basis, eigenvalues / 127.5**2)


def _primal(rows: UInt8[np.ndarray, "N D"], together: bool = False) -> tuple[Float[np.ndarray, " D"], *Basis]:
  """Return mean and basis of uint8 rows, each read once."""
  count = len(rows)
  total, covariance = _sums(rows, together=together)
  covariance *= count  # N^2 Sigma stays below 2^53, so float64 holds it exactly
  covariance -= np.outer(total, total)
  covariance /= count**2
  return (total + 128.0 * count) / count, *_eigh(covariance)


def _dual(rows: Shaped[np.ndarray, "N D"], mean: Float[np.ndarray, " D"], together: bool = False) -> Basis:
  """Return the basis of uint8 or float32 rows, of no more than there are pixels."""
  count, pixels = rows.shape
  centre, rows_about = (MIDDLE, rows) if rows.dtype == np.uint8 else (np.float64(0), rows - mean)
  _, gram = _sums(rows_about.T, centre, together=together)
  gram -= gram.mean(axis=0)
  gram -= gram.mean(axis=1, keepdims=True)
  gram /= count
  vectors, eigenvalues = _eigh(gram)
  basis = np.empty((pixels, len(eigenvalues)), order="F")
  for start in range(0, pixels, EXACT_ROWS):
    some = slice(start, start + EXACT_ROWS)
    basis[some] = (rows[:, some] - mean[some]).T @ vectors
  # Mapped to pixels, eigenvectors are orthogonal only to rounding of the largest: QR restores the small.
  return scipy.linalg.qr(basis, mode="economic", overwrite_a=True)[0], eigenvalues


def _sums(
  rows: Shaped[np.ndarray, "N D"],
  centre: Float[np.ndarray, " D"] | np.floating = MIDDLE,
  *,
  together: bool = False,
) -> tuple[Float[np.ndarray, " D"], Float[np.ndarray, "D D"]]:
  """Return ``Σ (v − c)``, ``Σ (v − c)(v − c)ᵀ`` of rows v, c the centre; exact of uint8 about `MIDDLE`."""
  pixels = rows.shape[1]
  total, moment = np.zeros(pixels), np.zeros((pixels, pixels))
  strips = [slice(start, start + STRIP) for start in range(0, pixels, STRIP)]
  starts = range(0, len(rows), EXACT_ROWS)
  own = starts[parallel.own_rows(len(starts))] if together else starts
  for start in tqdm(own, "covariance", unit="chunk", delay=2):
    centred = rows[start : start + EXACT_ROWS] - centre
    total += centred.sum(axis=0)
    for strip, products in zip(strips, _products(centred, strips), strict=True):
      moment[strip, strip.start :] += products
  for strip in strips:
    moment[strip.stop :, strip] = moment[strip, strip.stop :].T
  return (parallel.total(total), parallel.total(moment)) if together else (total, moment)


def _products(
  centred: Float[np.ndarray, "n D"], strips: list[slice]
) -> Iterator[Float[np.ndarray, "strip rest"]]:
  """Return products of each strip of columns with itself and those that follow."""
  if centred.dtype == np.float64:
    return (centred[:, strip].T @ centred[:, strip.start :] for strip in strips)
  with parallel.on_cpu():
    return map(np.asarray, _float_products(centred))


@jax.jit
def _float_products(centred: Float[Array, "n D"]) -> list[Float[Array, "strip rest"]]:
  # Up to twice as fast as NumPy's, which is exact too.
  return [
    jnp.matmul(centred[:, start : start + STRIP].T, centred[:, start:], precision="highest")
    for start in range(0, centred.shape[1], STRIP)
  ]


def _eigh(matrix: Float[np.ndarray, "D D"]) -> Basis:
  # The matrix is symmetric: its transpose is in LAPACK's order, and overwritten without a copy.
  values, vectors = scipy.linalg.eigh(matrix.T, overwrite_a=True, check_finite=False, driver="evd")
  rank = np.sum(values > len(matrix) * np.finfo(np.float64).eps * values[-1])  # eigh's own rounding
  return np.ascontiguousarray(vectors[:, ::-1][:, :rank]), values[::-1][:rank].copy()
