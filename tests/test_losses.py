"""Denoising score matching against closed forms of the expected loss."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gauss_diffusion import edm
from gauss_diffusion.training import losses


@pytest.mark.parametrize(
  ("name", "expected"), [("edm", 1.0), ("vp", 1.0), ("ve", 1.0), ("iddpm", 1.0), ("none", edm.SIGMA_DATA**2)]
)
def test_untrained_denoiser_scores_one_on_matched_data(name, expected):
  # D = c_skip x on data of variance sigma_data²: under EDM lambda E|D - x0|² / d = lambda c_out² = 1 at every
  # sigma; where c_skip = 1 the error is the noise, and lambda = 1 / sigma²; a plain autoencoder puts out 0.
  x0 = edm.SIGMA_DATA * jax.random.normal(jax.random.key(0), (4096, 4, 4, 1))
  keys = jax.random.split(jax.random.key(1), len(x0))

  def untrained(x, sigma):
    return edm.PRECONDITIONINGS[name](sigma).c_skip[:, None, None, None] * x

  loss = losses.denoising_loss(untrained, x0, keys, noise_law=edm.TRAINING_NOISE[name])
  assert loss.shape == (4096,)
  standard_error = np.std(loss) / np.sqrt(len(loss))
  assert abs(loss.mean() - expected) < 5 * standard_error
  assert standard_error < 0.01


def test_perfect_denoiser_scores_zero():
  x0 = jnp.full((8, 4, 4, 1), 0.3)
  keys = jax.random.split(jax.random.key(0), 8)
  assert not losses.denoising_loss(lambda x, sigma: jnp.full_like(x, 0.3), x0, keys).any()


def test_weight_and_noise_are_the_laws():
  # D = x leaves the noise: the loss is lambda(sigma) sigma^2 mean(eps^2) with the same draw as the input's.
  x0 = jnp.zeros((512, 2, 2, 1))
  seen = {}

  def identity(x, sigma):
    seen.update(x=x, sigma=sigma)
    return x

  law = functools.partial(edm.training_noise, p_mean=0.5, p_std=0.1)
  loss = losses.denoising_loss(identity, x0, jax.random.split(jax.random.key(2), 512), noise_law=law)
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
