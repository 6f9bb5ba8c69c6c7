"""Denoising score matching, the one training objective."""

from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Float, Key

from gauss_diffusion import edm
from gauss_diffusion.types import Array


def denoising_loss(
  denoise_batch: Callable[[Float[Array, "B H W C"], Float[Array, " B"]], Float[Array, "B H W C"]],
  x0: Float[Array, "B H W C"],
  keys: Key[Array, " B"],
  *,
  noise_law: edm.NoiseLaw = edm.training_noise,
) -> Float[Array, " B"]:
  """Return the weighted denoising error of each image (Li et al. 2024, eq. 3; Karras et al. 2022, eq. 2).

  ``lambda(sigma) ||D(x0 + sigma eps; sigma) - x0||^2 / d`` with sigma and lambda of the noise law,
  ``eps ~ N(0, I)``. An untrained network (D = c_skip x) scores about 1 at every sigma, but for a
  plain autoencoder (D = 0), which scores the images' power.

  Args:
    denoise_batch: ``(x, sigma) -> x0_hat``.
    x0: clean images in [-1, 1].
    keys: one key per image: an image's noise does not depend on the device that holds it.
    noise_law: one of `edm.TRAINING_NOISE`, its constants bound by `functools.partial`.

  Returns:
    The errors, dimensionless.
  """
  chex.assert_rank(x0, 4)
  chex.assert_equal_shape_prefix([x0, keys], 1)
  key_sigma, key_noise = jnp.moveaxis(jax.vmap(jax.random.split)(keys), 1, 0)
  sigma, weight = jax.vmap(lambda key: noise_law(key, ()))(key_sigma)
  noise = jax.vmap(lambda key: jax.random.normal(key, x0.shape[1:], x0.dtype))(key_noise)
  x0_hat = denoise_batch(x0 + sigma[:, None, None, None] * noise, sigma)
  return jnp.mean((x0_hat - x0) ** 2, axis=(1, 2, 3)) * weight
