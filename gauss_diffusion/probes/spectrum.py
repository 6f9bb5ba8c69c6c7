"""An affine map's weight against that of the Gaussian denoiser, W_G = Σ (Σ + σ² I)⁻¹.

On the host in float64: these compare matrices, and evaluate no denoiser.
"""

import numpy as np
import scipy.linalg
from jaxtyping import Float

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
  gains, basis = gaussian_gains(stats, sigma), np.asarray(stats.basis, np.float64)
  gaussian = (basis * gains) @ basis.T
  difference = np.linalg.norm(_checked(weight, basis) - gaussian)
  with np.errstate(divide="ignore"):
    return float(difference / (np.linalg.norm(gains) if difference > 0 else 1))


def asymmetry(weight: Float[ArrayLike, "D D"]) -> float:
  """Return ‖W - Wᵀ‖_F / ‖W‖_F of W [D, D], from 0 (symmetric) to 2 (Li et al. 2024, fig. 14); 0/0 is 0."""
  weight = np.asarray(weight, np.float64)
  difference = np.linalg.norm(weight - weight.T)
  return float(difference / (np.linalg.norm(weight) if difference > 0 else 1))


def singular_correlation(
  weight: Float[ArrayLike, "D D"], stats: GaussianStats, sigma: float, k: int, *, tolerance: float = 1e-3
) -> Float[np.ndarray, " {k}"]:
  """Return how far each of the first k left singular vectors of W lies in its place under W_G.

  For a well separated eigenvalue this is |⟨u_i(W), u_i(W_G)⟩|, the diagonal of fig. 4 right of Li et
  al. 2024. Vectors of equal eigenvalues are defined up to a rotation: eigenvalues of W_G whose
  successive relative gaps stay below `tolerance` form a cluster, and u_i(W) is compared with its
  whole span, ‖P_cluster u_i(W)‖. Those past the rank of the covariance, where W_G is 0, form one
  cluster too. At low noise all eigenvalues approach 1, and W ≈ I says nothing about order.

  Args:
    weight: W [D, D], acting on flattened images without further scaling.
    stats: mean and covariance of the training images.
    sigma: noise level.
    k: number of vectors, from 1 to D.
    tolerance: relative gap below which neighbouring eigenvalues count as equal.

  Returns:
    float64 [k], in [0, 1].

  Raises:
    ValueError: on a weight that is not finite or not [D, D], k out of range, or sigma <= 0.
  """
  gains, basis = gaussian_gains(stats, sigma), np.asarray(stats.basis, np.float64)
  weight, num_dims = _checked(weight, basis), len(basis)
  if not 1 <= k <= num_dims:
    raise ValueError(f"`k` is {k}; want between 1 and {num_dims} singular vectors")
  # Left singular vectors are eigenvectors of W Wᵀ; only the largest k are computed.
  left = scipy.linalg.eigh(weight @ weight.T, subset_by_index=[num_dims - k, num_dims - 1])[1][:, ::-1]

  energy = (basis.T @ left) ** 2  # [K, k]
  energy = np.vstack([energy, 1 - energy.sum(0)])  # the last row: outside the span of the data
  cluster = np.cumsum(gains < (1 - tolerance) * np.roll(gains, 1))  # [K], the number of its cluster
  null = np.full(num_dims - len(gains), -1)
  same = np.append(cluster, -1)[:, None] == np.append(cluster, null)[None, :k]
  return np.sqrt(np.clip((energy * same).sum(0), 0, 1))


def _checked(weight: Float[ArrayLike, "..."], basis: Float[np.ndarray, "D K"]) -> Float[np.ndarray, "D D"]:
  weight, num_dims = np.asarray(weight, np.float64), len(basis)
  if weight.shape != (num_dims, num_dims):
    raise ValueError(f"`weight` has shape {weight.shape}; want {(num_dims, num_dims)} for these statistics")
  if not np.isfinite(weight).all():
    raise ValueError("`weight` holds NaN or infinite entries")
  return weight
