"""Does a denoiser know how far it may be wrong? Its Jacobian against the error that it makes.

For an exact posterior mean D, σ² J(x) is the covariance of the clean image given x (Tweedie's second
identity): symmetric, with the expected squared error as its trace. For any denoiser of finite mean, Stein's
unbiased risk estimate needs no clean image at all.
"""

from typing import NamedTuple

import chex
import jax.numpy as jnp
from jaxtyping import Float

from gauss_diffusion.probes import jacobian
from gauss_diffusion.types import ArrayLike, Denoiser, Image, Sigma


class Calibration(NamedTuple):
  """What a denoiser's Jacobian says about its error on one noisy image; squares are means over pixels."""

  error: Float[ArrayLike, ""]  # ‖D - x0‖²/D
  variance: Float[ArrayLike, ""]  # σ² tr J/D: the error that an exact posterior mean expects here
  sure: Float[ArrayLike, ""]  # ‖x - D‖²/D + 2 σ² tr J/D - σ²: has the error's mean, whatever the denoiser
  asymmetry: Float[ArrayLike, ""]  # ‖J - Jᵀ‖_F / ‖J‖_F, 0 where σ² J is a covariance
  denoised: Float[ArrayLike, "H W C"]  # D


def calibrate(
  denoise: Denoiser, x0: Image, noise: Image, sigma: Sigma, probes: Float[ArrayLike, "m D"]
) -> Calibration:
  """Compare the error at ``x = x0 + σ noise`` with what the Jacobian there says of it.

  The trace is estimated on m random orthonormal rows q of `probes`, ``tr J ≈ D/m Σ qᵀJq``: unbiased, exact
  when m = D, and exact for a multiple of the identity. Stein's estimate is that of Stein 1981,
  ``E‖D - x0‖² = E[‖x - D‖² + 2 σ² tr J] - D σ²``. It is small by cancellation where the error is far below
  the noise: there its value per image is as uncertain as ``σ² √(2/D)``.

  Args:
    denoise: a denoiser.
    x0: clean image [H, W, C], in [-1, 1].
    noise: standard normal [H, W, C].
    sigma: scalar noise level.
    probes: from `jacobian.random_probes`, [m, D]; a set of its own for every image keeps the images' errors
      independent.

  Raises:
    ValueError: on fewer than 2 probes.
  """
  chex.assert_equal_shape([x0, noise])
  x = x0 + sigma * noise
  probes = jnp.asarray(probes, x.dtype)
  denoised, products = jacobian.pushforward(denoise, x, sigma, probes)
  variance = sigma**2 * jnp.mean(jnp.sum(probes * products, axis=-1))
  return Calibration(
    error=jnp.mean((denoised - x0) ** 2),
    variance=variance,
    sure=jnp.mean((x - denoised) ** 2) + 2 * variance - sigma**2,
    asymmetry=jacobian.asymmetry(products, probes),
    denoised=denoised,
  )
