"""The best denoiser for Gaussian data, known in closed form from two moments of the images."""

import jax.numpy as jnp
from jaxtyping import Float

from gauss_diffusion import statistics
from gauss_diffusion.denoisers.family import Family, Option
from gauss_diffusion.types import Array, GaussianStats, Image, Images, Sigma


def fit(images: Images, *, rank: int) -> GaussianStats:
  """Return mean and eigenbasis of images [N, H, W, C], of the first `rank` components, or all for 0.

  All processes of a run do it together.
  """
  mean, basis, eigenvalues = statistics.gaussian_stats(images, together=True)
  kept = rank or len(eigenvalues)
  return GaussianStats(mean, basis[:, :kept], eigenvalues[:kept])


def denoise(stats: GaussianStats, x: Image, sigma: Sigma) -> Float[Array, "H W C"]:
  """Estimate ``x0`` from `x` as if the images were Gaussian.

  ``D(x; σ) = μ + U diag(λ / (λ + σ²)) Uᵀ (x - μ)`` (Li et al. 2024, eq. 6): the posterior mean of
  N(μ, U diag(λ) Uᵀ), and the best affine denoiser of any data with these moments.

  Args:
    stats: mean and eigenbasis of the images' covariance, of any rank; rank 0 gives ``D = μ``.
    x: one noisy image [H, W, C], shaped as the mean, in units of the [-1, 1] scale.
    sigma: scalar noise level > 0, in the same units.

  Returns:
    The estimate, with the shape and dtype of `x`.

  Raises:
    ValueError: when `x` is not shaped as the mean.
  """
  return of_modes(stats, modes(stats, x), sigma)


def modes(stats: GaussianStats, x: Image) -> Float[Array, " R"]:
  """Return ``Uᵀ (x - μ)`` of one image [H, W, C]: affine in it, so that noise levels may share them.

  Those of ``x0 + σ n`` are ``modes(x0) + σ modes(μ + n)``.

  Raises:
    ValueError: when `x` is not shaped as the mean.
  """
  if x.shape != stats.mean.shape:
    raise ValueError(f"`x` has shape {x.shape}; `stats` describe images of shape {stats.mean.shape}")
  x = jnp.asarray(x)
  mean, basis = (jnp.asarray(leaf, x.dtype) for leaf in stats[:2])
  return jnp.matmul((x - mean).reshape(-1), basis, precision="highest")


def of_modes(stats: GaussianStats, modes: Float[Array, " R"], sigma: Sigma) -> Float[Array, "H W C"]:
  """Return ``μ + U diag(λ / (λ + σ²)) modes``, the estimate [H, W, C] of a sample with these modes."""
  mean, basis, eigenvalues = (jnp.asarray(leaf, modes.dtype) for leaf in stats)
  gain = eigenvalues / (eigenvalues + jnp.asarray(sigma, modes.dtype) ** 2)
  return mean + jnp.matmul(basis, gain * modes, precision="highest").reshape(mean.shape)


FAMILY = Family(
  title="Gaussian",
  fit=fit,
  denoise=denoise,
  options={"rank": Option(0, "principal components kept, 0 for all", 0, 10**9)},
  kept=GaussianStats,
  together=True,
)
