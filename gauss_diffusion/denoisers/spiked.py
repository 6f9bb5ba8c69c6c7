"""Gaussian denoisers whose covariance is a few directions and an isotropic rest: PPCA and shrinkage.

Few images say little of small eigenvalues: the sample's are too small, and beyond its rank they are zero, so
that the Gaussian denoiser keeps nothing there. Both families give these directions a variance.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from gauss_diffusion import statistics
from gauss_diffusion.denoisers.family import Family, Option
from gauss_diffusion.images import to_float
from gauss_diffusion.types import Array, ArrayLike, GaussianStats, Image, Images, Number, Sigma

CHUNK = 1024  # images that are floats at a time


class Spiked(NamedTuple):
  """A Gaussian of covariance ``U diag(λ) Uᵀ + v (I − U Uᵀ)``."""

  mean: Image
  basis: Float[ArrayLike, "D K"]  # U, orthonormal columns
  eigenvalues: Float[ArrayLike, " K"]  # λ, falling
  rest: Number  # v, the variance of every direction beyond


def fit_ppca(images: Images, *, rank: int) -> Spiked:
  """Return probabilistic PCA of images [N, H, W, C] (Tipping & Bishop 1999, eq. 7 and 8).

  The leading `rank` eigenvalues are kept, and the mean of all D − rank others, zeros among them, is the rest:
  the likeliest covariance of this form. It costs what `statistics.gaussian_stats` does, and keeps D · rank
  values.
  """
  mean, basis, eigenvalues = statistics.gaussian_stats(images)
  others = max(mean.size - rank, 1)  # where all are kept, there is nothing to divide
  rest = np.float64(eigenvalues[rank:].sum() / others)
  return Spiked(mean, basis[:, :rank], eigenvalues[:rank], rest)


def fit_shrunk(images: Images) -> Spiked:
  """Return the covariance of images [N, H, W, C], drawn towards the identity (Ledoit & Wolf 2004).

  ``(1 − ρ) Σ + ρ m I`` with m = tr Σ / D and ρ from `intensity`: of all such mixtures nearly the one that
  lies nearest to the covariance of the law that the images are drawn from. It costs what
  `statistics.gaussian_stats` does, and keeps as much.
  """
  stats = statistics.gaussian_stats(images)
  mean, basis, eigenvalues = stats
  share = intensity(images, stats)
  rest = share * eigenvalues.sum() / mean.size
  return Spiked(mean, basis, (1 - share) * eigenvalues + rest, np.float64(rest))


def intensity(images: Images, stats: GaussianStats) -> float:
  """Return the share ρ of the identity in the covariance of images [N, H, W, C].

  ``ρ = min(1, (1/N²) Σ_n ‖ỹ_n ỹ_nᵀ − Σ‖² / ‖Σ − m I‖²)`` in Frobenius norms, ỹ about the mean (Ledoit & Wolf
  2004): the covariance's own sampling variance, of what sets it apart from the identity. The sum is
  ``Σ_n ‖ỹ_n‖⁴ − N ‖Σ‖²``, so that no D x D matrix is formed. It falls as 1/N.

  Args:
    images: what `stats` are of; streamed.
    stats: their mean and covariance.
  """
  mean, _, lam = (np.asarray(leaf, np.float64) for leaf in stats)
  fourth = 0.0
  for start in range(0, len(images), CHUNK):
    rows = (to_float(images[start : start + CHUNK], np.float64) - mean).reshape(-1, mean.size)
    fourth += np.sum(np.sum(rows**2, axis=1) ** 2)
  square, num = np.sum(lam**2), len(images)
  sampling, apart = fourth / num**2 - square / num, square - lam.sum() ** 2 / mean.size
  return float(sampling / apart) if sampling < apart else 1.0


def denoise(spiked: Spiked, x: Image, sigma: Sigma) -> Float[Array, "H W C"]:
  """Estimate ``x0`` from `x` as the posterior mean under ``N(μ, U diag(λ) Uᵀ + v (I − U Uᵀ))``.

  ``D(x; σ) = μ + v/(v + σ²) (x − μ) + U diag(λ/(λ + σ²) − v/(v + σ²)) Uᵀ (x − μ)``, in 4 D K operations.

  Args:
    spiked: mean and covariance; without a rest it is `gaussian.denoise`.
    x: one noisy image [H, W, C], shaped as the mean, in units of the [-1, 1] scale.
    sigma: scalar noise level > 0, in the same units.

  Returns:
    The estimate, with the shape and dtype of `x`.

  Raises:
    ValueError: when `x` is not shaped as the mean.
  """
  if x.shape != spiked.mean.shape:
    raise ValueError(f"`x` has shape {x.shape}; `spiked` describes images of shape {spiked.mean.shape}")
  x = jnp.asarray(x)
  mean, basis, eigenvalues, rest = (jnp.asarray(leaf, x.dtype) for leaf in spiked)
  variance = jnp.asarray(sigma, x.dtype) ** 2
  keep = rest / (rest + variance)
  more = eigenvalues / (eigenvalues + variance) - keep
  offset = (x - mean).reshape(-1)
  modes = jnp.matmul(offset, basis, precision="highest")
  estimate = keep * offset + jnp.matmul(basis, more * modes, precision="highest")
  return mean + estimate.reshape(x.shape)


PPCA = Family(
  title="PPCA",
  fit=fit_ppca,
  denoise=denoise,
  options={"rank": Option(32, "principal components kept apart, 0 for none", 0, 10**9)},
  kept=Spiked,
)
SHRUNK = Family("shrunk Gaussian", fit_shrunk, denoise, kept=Spiked)
