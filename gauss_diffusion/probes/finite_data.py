"""How far the Gaussian denoisers of two halves lie apart, and their samples.

Fitted to N images of N(μ, U diag(λ) Uᵀ), and not to all there are, the denoiser errs in two ways: on average
it shrinks more, which is the denoiser `denoisers.finite_data`, and two sets of images give two denoisers.
Both follow from one number κ, with λ' = (1 − 1/N) λ, and hold as that file says (Wang, Zavatone-Veth &
Pehlevan 2026, arXiv 2602.02908).

Where two disjoint sets are drawn from M images without replacement, and λ is of these M, the squared distance
is M/(M − 1) times as large: that of the means is 2Σ/N · M/(M − 1), exactly, and to first order the denoiser
is a mean over images as well. This factor is left out.
"""

import functools

import numpy as np
from jaxtyping import Float

from gauss_diffusion import parallel, sampling
from gauss_diffusion.denoisers import finite_data
from gauss_diffusion.types import Array, ArrayLike, GaussianStats, Image, Sigma, Sigmas


def halves_distance2(
  stats: GaussianStats, x: Float[ArrayLike, "*n _H _W _C"], sigma: Sigma, num: int
) -> Float[np.ndarray, "*n"]:
  """Return the expected ‖D₁(x) − D₂(x)‖² between the Gaussian denoisers of two disjoint sets of N images.

  With ``x̃ = Uᵀ(x − μ)`` and ``s = Σ_i κ² λ_i / (λ'_i + κ)²``::

    2/N · [s + s Σ_j λ'_j x̃_j² / (λ'_j + κ)² + Σ_i κ² λ_i λ'_i x̃_i² / (λ'_i + κ)⁴] / (1 − df₂),
    df₂ = (1/N) Σ_i λ_i λ'_i / (λ'_i + κ)².

  The first term is of the estimated means; the second of the covariances (Wang, Zavatone-Veth & Pehlevan
  2026); the third of each mode's own variance, which spreads twice as much as a covariance of two modes.

  Args:
    stats: mean and covariance of all images, many more than N.
    x: noisy images [..., H, W, C].
    sigma: their noise level > 0, a scalar.
    num: N >= 1; one image alone gives ``D = y`` and 2 tr Σ.

  Returns:
    float64 [...], summed over pixels.

  Raises:
    ValueError: as `finite_data.kappa`, and when `x` is not shaped as the mean.
  """
  mean, basis, lam = (np.asarray(leaf, np.float64) for leaf in stats)
  if x.shape[-3:] != mean.shape:
    raise ValueError(f"`x` has shape {x.shape}; `stats` describe images of shape {mean.shape}")
  level = finite_data.kappa(lam, sigma, num)
  modes2 = ((np.asarray(x) - mean).reshape(*x.shape[:-3], -1) @ basis) ** 2
  fitted = finite_data.fitted(lam, num)
  resolvent = 1 / (fitted + level)
  spread = lam * (level * resolvent) ** 2
  covariances = modes2 @ (fitted * resolvent**2 * (spread.sum() + spread))
  return np.asarray(2 / num * (spread.sum() + covariances) / (1 - finite_data.overlap(lam, level, num)))


def redraw(stats: GaussianStats, num: int, rng: np.random.Generator) -> GaussianStats:
  """Return mean and covariance of N images drawn from N(μ, Σ), without drawing them (Bartlett 1933).

  In the eigenbasis the covariance is ``Λ^½ Tᵀ T Λ^½ / N``, with T upper trapezoidal of χ and normal entries:
  what a QR decomposition makes of N − 1 rows of unit noise.

  Args:
    stats: μ and Σ.
    num: N >= 1.
    rng: the source of the draw, advanced by it.

  Returns:
    float64 statistics of rank min(N − 1, K).

  Raises:
    ValueError: when `num` is less than 1.
  """
  if num < 1:
    raise ValueError(f"`num` is {num}; want at least 1 image")
  mean, basis, lam = (np.asarray(leaf, np.float64) for leaf in stats)
  shift = basis @ (np.sqrt(lam / num) * rng.standard_normal(len(lam)))
  rank = min(num - 1, len(lam))
  rows = np.triu(rng.standard_normal((rank, len(lam))), 1)
  np.fill_diagonal(rows, np.sqrt(rng.chisquare(num - 1 - np.arange(rank))))
  _, singular, directions = np.linalg.svd(rows * np.sqrt(lam / num), full_matrices=False)
  return GaussianStats(mean + shift.reshape(mean.shape), basis @ directions.T, singular**2)


def halves_samples(
  stats: GaussianStats,
  noise: Float[np.ndarray, "n H W C"],
  sigmas: Sigmas,
  num: int,
  *,
  method: str,
  pairs: int,
  seed: int = 0,
) -> Float[np.ndarray, "{pairs} n"]:
  """Return how far samples of two such denoisers from the same noise lie apart, in units of chance.

  Parametric bootstrap: `pairs` pairs of Gaussian denoisers of N images drawn from N(μ, Σ) each.
  ``‖a_i − b_i‖ / mean over j ≠ i of ‖a_i − b_j‖``, a and b the samples, as `measures.distance` has it.

  Args:
    stats: mean and covariance of all images.
    noise: unit latents, at least two.
    sigmas: the sampler's levels [T], falling; as `sampling.gaussian_trajectory`, like `method`.
    num: N >= 1.
    method: "exact" or a solver.
    pairs: number of pairs, at least 1.
    seed: of the draws.

  Raises:
    ValueError: on fewer than two latents or one pair, and as `redraw` and `sampling.gaussian_trajectory`.
  """
  if len(noise) < 2:
    raise ValueError(f"`noise` holds {len(noise)} latents; want at least 2, a sample and an unrelated one")
  if pairs < 1:
    raise ValueError(f"`pairs` is {pairs}; want at least 1")
  rng = np.random.default_rng(seed)
  found = []
  for _ in range(pairs):
    a, b = (_samples(redraw(stats, num, rng), noise, sigmas, method) for _ in range(2))
    apart = np.stack([np.linalg.norm(one - b, axis=1) for one in a])
    same = np.diagonal(apart)
    found.append(same * (len(a) - 1) / (apart.sum(1) - same))
  return np.stack(found)


def _samples(
  stats: GaussianStats, noise: Float[np.ndarray, "n H W C"], sigmas: Sigmas, method: str
) -> Float[np.ndarray, "n D"]:
  shared = stats, np.asarray(sigmas, noise.dtype)
  x = parallel.map_samples(_sampled(method), shared, noise)
  return x.reshape(len(x), -1).astype(np.float64)


@functools.cache
def _sampled(method: str):
  return functools.partial(_end, method)  # one function a method, so that each is compiled once


def _end(
  method: str, shared: tuple[GaussianStats, Float[Array, " T"]], noise: Image
) -> Float[Array, "H W C"]:
  stats, sigmas = shared
  return sampling.gaussian_trajectory(stats, noise, sigmas, method=method).x[-1]
