"""Denoising score matching against closed forms of the expected loss."""

import jax
import jax.numpy as jnp
import numpy as np

from gauss_diffusion import edm, losses


def test_untrained_denoiser_scores_one_on_matched_data():
  # D = c_skip x on data of variance sigma_data^2: lambda E|D - x0|^2 / d = lambda c_out^2 = 1 at every sigma.
  x0 = edm.SIGMA_DATA * jax.random.normal(jax.random.key(0), (4096, 4, 4, 1))
  keys = jax.random.split(jax.random.key(1), len(x0))
  loss = losses.denoising_loss(
    lambda x, sigma: edm.precondition(sigma).c_skip[:, None, None, None] * x, x0, keys
  )
  assert loss.shape == (4096,)
  standard_error = np.std(loss) / np.sqrt(len(loss))
  assert abs(loss.mean() - 1) < 5 * standard_error
  assert standard_error < 0.01


def test_perfect_denoiser_scores_zero():
  x0 = jnp.full((8, 4, 4, 1), 0.3)
  keys = jax.random.split(jax.random.key(0), 8)
  assert not losses.denoising_loss(lambda x, sigma: jnp.full_like(x, 0.3), x0, keys).any()


def test_weight_and_noise_are_edms():
  # D = x leaves the noise: the loss is lambda(sigma) sigma^2 mean(eps^2) with the same draw as the input's.
  x0 = jnp.zeros((512, 2, 2, 1))
  seen = {}

  def identity(x, sigma):
    seen.update(x=x, sigma=sigma)
    return x

  loss = losses.denoising_loss(identity, x0, jax.random.split(jax.random.key(2), 512), p_mean=0.5, p_std=0.1)
  x, sigma = np.asarray(seen["x"], np.float64), np.asarray(seen["sigma"], np.float64)
  weight = (sigma**2 + 0.25) / (0.5 * sigma) ** 2
  np.testing.assert_allclose(loss, weight * (x**2).mean((1, 2, 3)), rtol=1e-5)  # float32
  log_sigma = np.log(sigma)
  assert abs(log_sigma.mean() - 0.5) < 5 * 0.1 / np.sqrt(512)
  assert abs(log_sigma.std() - 0.1) < 5 * 0.1 / np.sqrt(2 * 512)


def test_an_images_noise_does_not_depend_on_its_neighbours():
  x0 = jax.random.normal(jax.random.key(0), (8, 2, 2, 1))
  keys = jax.random.split(jax.random.key(1), 8)
  whole = losses.denoising_loss(lambda x, sigma: jnp.zeros_like(x) + sigma[:, None, None, None], x0, keys)
  part = losses.denoising_loss(
    lambda x, sigma: jnp.zeros_like(x) + sigma[:, None, None, None], x0[3:5], keys[3:5]
  )
  np.testing.assert_array_equal(whole[3:5], part)
