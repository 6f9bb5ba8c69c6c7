"""Superposition: does a denoiser map a mixture of two inputs to the mixture of their outputs?"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from gauss_diffusion import parallel
from gauss_diffusion.types import Array, ArrayLike, Denoiser, Image, Sigma


class Linearity(NamedTuple):
  """Superposition scores of one pair of inputs, each shaped as `alpha2`; linear is cosine 1, nmse 0."""

  cosine: Float[ArrayLike, "*A"]  # signed; the paper's linearity score averages its absolute value over pairs
  nmse: Float[ArrayLike, "*A"]
  centred_cosine: Float[ArrayLike, "*A"]  # the same two about a centre, where affine denoisers are linear too
  centred_nmse: Float[ArrayLike, "*A"]


def score(
  denoise: Denoiser,
  x1: Image,
  x2: Float[ArrayLike, "_H _W _C"],
  sigma: Sigma,
  alpha2: Float[ArrayLike, "*A"] | Sequence[float] | float,
  *,
  centre: Image,
) -> Linearity:
  """Compare D(α x₁ + β x₂) with α D(x₁) + β D(x₂), where α² + β² = 1 keeps the noise level.

  With M = D(α x₁ + β x₂) and S = α D(x₁) + β D(x₂) (Li et al. 2024, sec. 3.1, eqs. 11-12)::

    cosine = ⟨M, S⟩ / ‖M‖‖S‖        linearity score = mean of |cosine| over pairs
    nmse   = ‖M - S‖ / ‖M‖          norms, not their squares

  The official code averages the signed cosine and divides the second by ‖S‖ instead. An affine D
  has a nonzero nmse here (√2 - 1 in the limit of large sigma, at α = β), hence the centred version:
  with x̃ = x - c, it compares D(c + α x̃₁ + β x̃₂) - c with α (D(x₁) - c) + β (D(x₂) - c), and is
  exactly 1 and 0 for the Gaussian denoiser when c is its mean.

  Two zero vectors agree: cosine 1, nmse 0. The denoiser is evaluated 2 + 2A times, in one vmap.

  Args:
    denoise: a denoiser.
    x1: first noisy image [H, W, C].
    x2: second noisy image [H, W, C], of independent noise.
    sigma: scalar noise level of both.
    alpha2: α², a scalar or several [A], in [0, 1].
    centre: c [H, W, C], as a rule the mean of the training images.

  Raises:
    ValueError: if `alpha2` is concrete and leaves [0, 1].
  """
  chex.assert_equal_shape([x1, x2, centre])
  if not isinstance(alpha2, jax.core.Tracer):
    _check(alpha2)
  alpha2, centre = jnp.asarray(alpha2, x1.dtype), jnp.asarray(centre, x1.dtype)
  alpha, beta = (jnp.sqrt(square).reshape(-1, *[1] * x1.ndim) for square in (alpha2, 1 - alpha2))

  def mix(one, two):
    return alpha * one[None] + beta * two[None]

  # One batch, so that a network is compiled once.
  centred_input = centre[None] + mix(x1 - centre, x2 - centre)
  inputs = jnp.concatenate([x1[None], x2[None], mix(x1, x2), centred_input])
  denoised = jax.vmap(denoise, in_axes=(0, None))(inputs, sigma)
  d1, d2, (of_mix, of_centred) = denoised[0], denoised[1], jnp.split(denoised[2:], 2)

  cosine, nmse = jax.vmap(_compare)(of_mix, mix(d1, d2))
  centred = jax.vmap(_compare)(of_centred - centre[None], mix(d1 - centre, d2 - centre))
  return Linearity(*(value.reshape(alpha2.shape) for value in (cosine, nmse, *centred)))


def score_many(
  denoise: Denoiser,
  x1: Float[np.ndarray, "n H W C"],
  x2: Float[np.ndarray, "_n H W C"],
  sigma: Sigma,
  alpha2: Float[ArrayLike, "*A"] | Sequence[float] | float = 0.5,
  *,
  centre: Image,
  batch: int | None = None,
) -> Linearity:
  """Compare every pair of inputs, over all devices: `score`, compiled once a kind of denoiser.

  Args:
    denoise: a denoiser, a pytree.
    x1: first noisy images [n, H, W, C].
    x2: second noisy images, of independent noise.
    sigma: scalar noise level of all.
    alpha2: as of `score`.
    centre: as of `score`.
    batch: pairs in flight at once, see `parallel.map_samples`.

  Returns:
    NumPy arrays [n, *A].

  Raises:
    ValueError: as `score`, and on other numbers of first and second images.
  """
  if len(x1) != len(x2) or not len(x1):
    raise ValueError(f"`x1` and `x2` hold {len(x1)} and {len(x2)} images; want as many, and at least one")
  weights = np.asarray(alpha2, x1.dtype)
  _check(weights)
  shared = denoise, np.asarray(centre, x1.dtype), np.asarray(sigma, x1.dtype), weights
  return parallel.map_samples(_score, shared, x1, x2, batch=batch)


def _score(shared: tuple, x1: Image, x2: Image) -> Linearity:
  denoise, centre, sigma, alpha2 = shared
  return score(denoise, x1, x2, sigma, alpha2, centre=centre)


def _check(alpha2: Any) -> None:
  if not np.all((np.asarray(alpha2) >= 0) & (np.asarray(alpha2) <= 1)):
    raise ValueError(f"`alpha2` is {alpha2}; want values in [0, 1], as alpha^2 + beta^2 = 1")


def _compare(
  of_mix: Float[Array, "H W C"], mix_of: Float[Array, "H W C"]
) -> tuple[Float[Array, ""], Float[Array, ""]]:
  """Return the cosine between the two, and the norm of their difference over that of the first."""
  norm_1, norm_2 = jnp.linalg.norm(of_mix.ravel()), jnp.linalg.norm(mix_of.ravel())
  product, difference = norm_1 * norm_2, jnp.linalg.norm((of_mix - mix_of).ravel())
  cosine = jnp.sum(of_mix * mix_of) / jnp.where(product > 0, product, 1)
  cosine = jnp.where((norm_1 == 0) & (norm_2 == 0), 1, cosine)
  nmse = difference / jnp.where(difference > 0, norm_1, 1)
  return jnp.clip(cosine, -1, 1), nmse
