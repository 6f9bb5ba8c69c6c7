"""What the Gaussian denoisers of N images each give on average: the Gaussian denoiser, at more noise.

Fitted to N images of N(μ, U diag(λ) Uᵀ), the denoiser shrinks more than that of the law, as if there were
more noise. How much follows from one number κ, the level of a deterministic equivalent of the resolvent
(Wang, Zavatone-Veth & Pehlevan 2026, arXiv 2602.02908)::

  κ = σ² + (κ/N) Σ_i λ_i / (λ'_i + κ),    λ' = (1 − 1/N) λ.

λ' is what images' covariance about their own mean is on average: with it the laws hold from N = 1 on. For
Gaussian images they are exact to first order in 1/N, and to leading order where the rank grows with N.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from gauss_diffusion import statistics
from gauss_diffusion.denoisers import gaussian
from gauss_diffusion.denoisers.family import Family, Option
from gauss_diffusion.types import Array, ArrayLike, GaussianStats, Image, Images, Number, Sigma

Spectrum = Float[ArrayLike, " K"]  # of NumPy on the host, or of JAX


class FiniteData(NamedTuple):
  """Mean and covariance of a law, as `GaussianStats`, and how many images of it a denoiser is fitted to."""

  mean: Image
  basis: Float[ArrayLike, "D K"]
  eigenvalues: Spectrum  # λ, of the law
  num: Number  # N


def fit(images: Images, *, num: int) -> FiniteData:
  """Return the record of images [N, H, W, C], taken for the law, and of `num` draws, as many for 0."""
  return FiniteData(*statistics.gaussian_stats(images), np.float64(num or len(images)))


def denoise(law: FiniteData, x: Image, sigma: Sigma) -> Float[Array, "H W C"]:
  """Return what the Gaussian denoisers of N images of the law each say of `x`, on average.

  ``E[D(x; σ)] = μ + U diag(λ' / (λ' + κ)) Uᵀ (x − μ)``. κ is found anew at every σ, in a few dozen times K
  operations beside the 4 D K of `gaussian.denoise`. As N → ∞ it is that of the law, for N = 1 the mean.

  Args:
    law: see `fit`.
    x: one noisy image [H, W, C], shaped as the mean, in units of the [-1, 1] scale.
    sigma: scalar noise level > 0, in the same units.

  Returns:
    The estimate, with the shape and dtype of `x`.

  Raises:
    ValueError: when `x` is not shaped as the mean.
  """
  x = jnp.asarray(x)
  lam, num = (jnp.asarray(leaf, x.dtype) for leaf in (law.eigenvalues, law.num))
  variance = jnp.asarray(sigma, x.dtype) ** 2

  def improve(found):
    _, current = found
    return current, jnp.maximum(newton(lam, current, variance, num), variance)  # below is rounding alone

  above = jnp.full_like(variance, jnp.inf), variance + lam.sum() / num
  level, _ = jax.lax.while_loop(lambda found: found[1] < found[0], improve, above)
  return gaussian.denoise(GaussianStats(law.mean, law.basis, fitted(lam, num)), x, jnp.sqrt(level))


def kappa(eigenvalues: Spectrum, sigma: Sigma, num: int) -> float:
  """Return κ, the variance of noise at which all images would shrink as N of them do at σ.

  ``κ = σ² + (κ/N) Σ_i λ_i / (λ'_i + κ)``, on the host in float64. It lies between σ² and ``σ² + tr Σ / N``,
  and as σ → 0 it goes to 0 where N exceeds the rank, else to a positive limit.

  Args:
    eigenvalues: λ, of the covariance, >= 0 and in any order.
    sigma: scalar noise level > 0, in the units of √λ.
    num: N >= 1.

  Raises:
    ValueError: when `sigma` or `num` is out of range.
  """
  if not sigma > 0:
    raise ValueError(f"`sigma` is {sigma}; want a noise level > 0")
  if num < 1:
    raise ValueError(f"`num` is {num}; want at least 1 image")
  lam = np.asarray(eigenvalues, np.float64)
  variance = float(sigma) ** 2
  current, lower = np.inf, variance + lam.sum() / num
  while lower < current:
    current, lower = lower, newton(lam, lower, variance, num)
  return float(current)


def newton(lam: Spectrum, kappa: Number, variance: Number, num: Number) -> Number:
  """Return a `kappa` that lies nearer to κ.

  What is solved for is convex, so that Newton's steps from above come down to the root and never cross it.
  """
  excess = kappa - kappa * (lam / (fitted(lam, num) + kappa)).sum() / num - variance
  return kappa - excess / (1 - overlap(lam, kappa, num))


def fitted(lam: Spectrum, num: Number) -> Spectrum:
  """Return λ', the eigenvalues as N images have them on average."""
  return (1 - 1 / num) * lam


def overlap(lam: Spectrum, kappa: Number, num: Number) -> Number:
  """Return df₂ < 1: 1/(1 − df₂) is also dκ/dσ²."""
  shrunk = fitted(lam, num)
  return (lam * shrunk / (shrunk + kappa) ** 2).sum() / num


FAMILY = Family(
  title="Gaussian of N",
  fit=fit,
  denoise=denoise,
  options={"num": Option(0, "images N drawn from the law, 0 for as many as there are", 0, 10**9)},
  kept=FiniteData,
)
