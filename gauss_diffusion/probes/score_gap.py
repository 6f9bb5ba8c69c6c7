"""How far apart two denoisers are on the same noisy image.

Scores differ by a factor, ``score_1 - score_2 = (D_1 - D_2) / sigma^2``; as in the paper the gap is
that of the denoisers, on the scale of the images [-1, 1], with no normalisation by sigma.
"""

from typing import NamedTuple

import chex
import jax.numpy as jnp
from jaxtyping import Float

from gauss_diffusion.types import Array, ArrayLike, Denoiser, GaussianStats, Image, Sigma

IMAGE = (-3, -2, -1)  # the axes H, W, C; axes before them are samples


class ScoreGap(NamedTuple):
  """The gap between two denoisers on one noisy image."""

  rmse: Float[Array, ""]
  nmse: Float[Array, ""]


def rmse(d1: Float[ArrayLike, "... H W C"], d2: Float[ArrayLike, "... H W C"]) -> Float[Array, "..."]:
  """Return ‖d₁ - d₂‖/√D of images [..., H, W, C] (Li et al. 2024, eq. 10 is the mean over samples).

  Symmetric. The root lies inside the mean over samples: average these values, not their squares.
  """
  chex.assert_equal_shape([d1, d2])
  return jnp.sqrt(jnp.mean((d1 - d2) ** 2, axis=IMAGE))


def nmse(d1: Float[ArrayLike, "... H W C"], d2: Float[ArrayLike, "... H W C"]) -> Float[Array, "..."]:
  """Return ‖d₁ - d₂‖/‖d₁‖ of images [..., H, W, C] (Li et al. 2024, eq. 53): norms, not their squares.

  Not symmetric: `d1` is the reference. A ratio 0/0 counts as 0.
  """
  chex.assert_equal_shape([d1, d2])
  difference = jnp.sqrt(jnp.sum((d1 - d2) ** 2, axis=IMAGE))
  return difference / jnp.where(difference > 0, jnp.sqrt(jnp.sum(d1**2, axis=IMAGE)), 1)


def gaps(denoise_1: Denoiser, denoise_2: Denoiser, x: Image, sigma: Sigma) -> ScoreGap:
  """Return the gap between two denoisers on a noisy image `x` [H, W, C]; the first is the reference."""
  d1, d2 = denoise_1(x, sigma), denoise_2(x, sigma)
  return ScoreGap(rmse(d1, d2), nmse(d1, d2))


def low_noise_floor(stats: GaussianStats, x: Float[ArrayLike, "*n H W C"]) -> Float[Array, "*n"]:
  """Return ‖(I - P)(x - μ)‖/√D of images [..., H, W, C]: the gap of D_G to the identity as sigma → 0.

  P projects on the span of the training images about their mean, of rank at most N - 1. Any denoiser
  that keeps a clean image `x` has this rmse to D_G: a property of the data, not of a network.
  """
  x = jnp.asarray(x)
  mean, basis = jnp.asarray(stats.mean, x.dtype), jnp.asarray(stats.basis, x.dtype)
  chex.assert_equal_shape_suffix([mean, x], 3)
  centred = (x - jnp.broadcast_to(mean, x.shape)).reshape(*x.shape[:-3], -1)
  within = jnp.matmul(jnp.matmul(centred, basis, precision="highest"), basis.T, precision="highest")
  return jnp.sqrt(jnp.mean((centred - within) ** 2, axis=-1))
