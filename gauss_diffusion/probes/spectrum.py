"""An affine map's weight against that of the Gaussian denoiser, W_G = Σ (Σ + σ² I)⁻¹.

On the host in float64: these compare matrices, and evaluate no denoiser.
"""

import numpy as np
import scipy.linalg
from jaxtyping import Float, Int

from gauss_diffusion.types import ArrayLike, GaussianStats


def gaussian_gains(stats: GaussianStats, sigma: float) -> Float[np.ndarray, " K"]:
  """Return λ/(λ + σ²), the eigenvalues [K] of W_G along the columns of ``stats.basis``, float64."""
  if not sigma > 0:
    raise ValueError(f"`sigma` is {sigma}; want a noise level > 0")
  eigenvalues = np.asarray(stats.eigenvalues, np.float64)
  return eigenvalues / (eigenvalues + sigma**2)


def weight_gap(weight: Float[ArrayLike, "D D"], stats: GaussianStats, sigma: float) -> float:
  """Return ‖W - W_G‖_F / ‖W_G‖_F: 0 at W_G, 1 at W = 0 (Li et al. 2024, fig. 4 left).

  A ratio of norms; its square is the "normalized MSE". The paper does not say which one it shows.

  Args:
    weight: W [D, D], acting on flattened images without further scaling.
    stats: mean and covariance of the training images, not all alike (W_G = 0 makes any gap infinite).
    sigma: noise level.

  Raises:
    ValueError: on a weight that is not finite or not [D, D], or on sigma <= 0.
  """
  gains, gaussian = _gaussian_weight(stats, sigma)
  difference = _checked(weight, gaussian) - gaussian
  return float(np.sqrt(_ratio(np.vdot(difference, difference), gains)))


def asymmetry(weight: Float[ArrayLike, "D D"]) -> float:
  """Return ‖W - Wᵀ‖_F / ‖W‖_F of W [D, D], from 0 (symmetric) to 2 (Li et al. 2024, fig. 14); 0/0 is 0."""
  weight = np.asarray(weight, np.float64)
  difference = np.linalg.norm(weight - weight.T)
  return float(difference / (np.linalg.norm(weight) if difference > 0 else 1))


def weight_gap2(
  one: Float[ArrayLike, "D D"], two: Float[ArrayLike, "D D"], stats: GaussianStats, sigma: float
) -> float:
  """Estimate the squared `weight_gap` without the bias of noise, ``⟨W₁ − W_G, W₂ − W_G⟩_F / ‖W_G‖²_F``.

  For two fits W + E₁ and W + E₂ whose errors are independent and 0 on average, the expectation is
  ‖W − W_G‖²/‖W_G‖²; the square of one fit alone adds E‖E‖² to it. The estimate can be negative.

  Args:
    one: W₁ [D, D], acting on flattened images without further scaling.
    two: W₂, fitted to other pairs.
    stats: mean and covariance of the training images, not all alike.
    sigma: noise level.

  Raises:
    ValueError: on a weight that is not finite or not [D, D], or on sigma <= 0.
  """
  gains, gaussian = _gaussian_weight(stats, sigma)
  return _ratio(np.vdot(_checked(one, gaussian) - gaussian, _checked(two, gaussian) - gaussian), gains)


def weight_noise2(
  one: Float[ArrayLike, "D D"], two: Float[ArrayLike, "D D"], stats: GaussianStats, sigma: float
) -> float:
  """Estimate what noise adds to the squared gap of the mean of two fits, ``‖W₁ − W₂‖²_F / (4 ‖W_G‖²_F)``.

  That gap, ``‖(W₁ + W₂)/2 − W_G‖²/‖W_G‖²``, is exactly the sum of this and `weight_gap2`, which takes and
  refuses the same.
  """
  gains, gaussian = _gaussian_weight(stats, sigma)
  difference = _checked(one, gaussian) - _checked(two, gaussian)
  return _ratio(np.vdot(difference, difference) / 4, gains)


def operator_norm(matrix: Float[ArrayLike, "D D"]) -> float:
  """Return ‖A‖₂, the largest singular value."""
  matrix = np.asarray(matrix, np.float64)
  square = scipy.linalg.eigvalsh(matrix @ matrix.T, driver="evd", overwrite_a=True)[-1]
  return float(np.sqrt(max(square, 0)))  # only rounding takes it below 0


def left_vectors(weight: Float[ArrayLike, "D D"]) -> Float[np.ndarray, "D D"]:
  """Return all left singular vectors of W, the eigenvectors of W Wᵀ, as columns in order of falling gain."""
  weight = np.asarray(weight, np.float64)
  # By divide and conquer: LAPACK's default fails for part of the spectrum where it is all one cluster.
  return scipy.linalg.eigh(weight @ weight.T, driver="evd", overwrite_a=True)[1][:, ::-1]


def shared_energy(one: Float[ArrayLike, "D k"], two: Float[ArrayLike, "D k"]) -> float:
  """Return how much of one subspace lies in another, ``‖Aᵀ B‖²_F / k``: 1 for the same one, 0 for orthogonal.

  This is the mean squared cosine of the principal angles between them, whatever vectors span each: a swap or
  a rotation inside changes nothing. For random subspaces it is k/D on average.

  Args:
    one: A [D, k], orthonormal columns.
    two: B, likewise.
  """
  return float(np.sum((np.asarray(one, np.float64).T @ np.asarray(two, np.float64)) ** 2) / one.shape[1])


def clusters(stats: GaussianStats, sigma: float, perturbation: float) -> Int[np.ndarray, " D"]:
  """Return the cluster of each principal component, counted from 0: those that a perturbation can mix.

  Neighbouring components whose gains under W_G differ by at most `perturbation` are in one cluster: no bound
  on their rotation is left (Davis & Kahan 1970; Yu, Wang & Samworth 2015). Directions without variance, whose
  gain is 0, are components too.

  Args:
    stats: mean and covariance of the training images.
    sigma: noise level.
    perturbation: operator norm of the error of the map; for the mean of two fits, ``‖W₁ − W₂‖₂ / 2`` has
      the law of that error, where errors are as likely as their negatives.
  """
  gains = gaussian_gains(stats, sigma)
  gains = np.pad(gains, (0, len(stats.basis) - len(gains)))
  rounding = len(gains) * np.finfo(np.float64).eps * gains[0]
  return np.append(0, np.cumsum(gains[:-1] - gains[1:] > max(perturbation, rounding)))


def cluster_energy(
  left: Float[np.ndarray, "D D"], stats: GaussianStats, cluster: Int[np.ndarray, " D"]
) -> Float[np.ndarray, " D"]:
  """Return for each principal component the `shared_energy` of its cluster and the vectors in its places.

  Where all are in one cluster it is 1: at low noise W ≈ I, which says nothing about order.

  Args:
    left: left singular vectors of the map, in order, from `left_vectors`.
    stats: mean and covariance of the training images.
    cluster: of each component, from `clusters`.
  """
  overlap = (np.asarray(stats.basis, np.float64).T @ left) ** 2  # [K, D]
  energy = np.empty(len(left))
  for number in range(cluster[-1] + 1):
    places = np.flatnonzero(cluster == number)
    if places[-1] == len(left) - 1:  # the last holds all that the clusters before it leave
      energy[places] = 1 - overlap[: places[0], places].sum() / len(places)
    else:
      energy[places] = overlap[np.ix_(places, places)].sum() / len(places)
  return np.clip(energy, 0, 1)


def _gaussian_weight(
  stats: GaussianStats, sigma: float
) -> tuple[Float[np.ndarray, " K"], Float[np.ndarray, "D D"]]:
  gains, basis = gaussian_gains(stats, sigma), np.asarray(stats.basis, np.float64)
  return gains, (basis * gains) @ basis.T


def _ratio(square: float, gains: Float[np.ndarray, " K"]) -> float:
  with np.errstate(divide="ignore"):
    return float(square / (np.vdot(gains, gains) if square else 1))


def _checked(weight: Float[ArrayLike, "..."], like: Float[np.ndarray, "D D"]) -> Float[np.ndarray, "D D"]:
  weight = np.asarray(weight, np.float64)
  if weight.shape != like.shape:
    raise ValueError(f"`weight` has shape {weight.shape}; want {like.shape} for these statistics")
  if not np.isfinite(weight).all():
    raise ValueError("`weight` holds NaN or infinite entries")
  return weight
