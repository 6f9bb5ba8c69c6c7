"""Log-densities along the flow against Gaussian and two-delta laws in closed form."""

import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from gauss_diffusion import edm
from gauss_diffusion.denoisers import gaussian
from gauss_diffusion.probes import likelihood
from gauss_diffusion.types import GaussianStats

SHAPE = (3, 2, 1)


@pytest.fixture(scope="module")
def stats():
  rng = np.random.default_rng(0)
  basis = np.linalg.qr(rng.standard_normal((6, 4)))[0]
  return GaussianStats(rng.uniform(-0.5, 0.5, SHAPE), basis, np.array([1.5, 0.4, 0.05, 0.002]))


def gaussian_reference(stats, x, sigma):
  """Return ln N(x; μ, Σ + σ² I) by the textbook's formula."""
  covariance = stats.basis * stats.eigenvalues @ stats.basis.T + sigma**2 * np.eye(6)
  centred = (x - stats.mean).reshape(len(x), -1)
  square = np.sum(centred * np.linalg.solve(covariance, centred.T).T, axis=1)
  return -(square + np.linalg.slogdet(2 * np.pi * covariance)[1]) / 2


def test_the_flow_of_a_gaussian_has_its_density_to_second_order(stats, x64):
  rng = np.random.default_rng(1)
  signal = (rng.standard_normal((5, 4)) * np.sqrt(stats.eigenvalues)) @ stats.basis.T
  x = stats.mean + signal.reshape(5, *SHAPE) + 0.02 * rng.standard_normal((5, *SHAPE))
  want, errors = gaussian_reference(stats, x, 0.02), []
  for num in (20, 40, 80, 160):
    grid = edm.sigma_grid(num, 0.02, 80.0)[::-1]
    found = likelihood.log_density(Partial(gaussian.denoise, stats), x, grid, stats, 6)
    errors.append(np.abs(found.log_density - want).max())
    gains = np.sum(stats.eigenvalues / (stats.eigenvalues + grid[:, None] ** 2), axis=1)
    np.testing.assert_allclose(found.trace, np.broadcast_to(gains, (5, num)), rtol=1e-12)
  assert errors[-1] < 1e-2 < errors[0]
  ratios = np.array(errors[:-1]) / errors[1:]
  assert np.all((ratios > 3.5) & (ratios < 5)), ratios  # 4 when the steps are short


def test_the_usual_prior_is_off_by_what_the_data_add(stats):
  x = 80 * np.random.default_rng(2).standard_normal((4000, *SHAPE)) + stats.mean
  x += (
    np.random.default_rng(3).standard_normal((4000, 4)) * np.sqrt(stats.eigenvalues) @ stats.basis.T
  ).reshape(x.shape)
  exact = likelihood.gaussian_log_density(stats, x, 80.0)
  np.testing.assert_allclose(exact, gaussian_reference(stats, x, 80.0), rtol=1e-10)
  off = likelihood.gaussian_log_density(likelihood.standard(SHAPE), x, 80.0) - exact
  # On average the Kullback-Leibler divergence between the two, of an image about ‖x₀‖/σ.
  lam = stats.eigenvalues / 80**2
  divergence = (np.sum(stats.mean**2) / 80**2 + np.sum(lam - np.log1p(lam))) / 2
  assert -off.mean() == pytest.approx(divergence, abs=5 * off.std() / np.sqrt(4000))
  assert off.std() < np.sqrt(np.sum(stats.mean**2) + np.sum(stats.eigenvalues)) / 80


def test_the_flow_of_two_images_has_the_density_of_their_mixture(x64):
  delta = np.array([0.6, -0.2, 0.3, 0.1, 0.0, 0.5]).reshape(SHAPE)

  def denoise(delta, x, sigma):
    return delta * jnp.tanh(jnp.sum(delta * x) / sigma**2)

  x = np.random.default_rng(4).choice([-1, 1], (6, 1, 1, 1)) * delta
  x = x + 0.3 * np.random.default_rng(5).standard_normal(x.shape)
  either = [-np.sum((x - each) ** 2, axis=(1, 2, 3)) / (2 * 0.3**2) for each in (delta, -delta)]
  want = np.logaddexp(*either) - np.log(2) - 3 * np.log(2 * np.pi * 0.3**2)
  column = delta.reshape(-1, 1) / np.linalg.norm(delta)
  prior = GaussianStats(np.zeros(SHAPE), column, np.array([np.sum(delta**2)]))
  grids = [np.geomspace(0.3, 40, num) for num in (100, 200)]
  found = [likelihood.log_density(Partial(denoise, delta), x, grid, prior, 6).log_density for grid in grids]
  assert np.abs(found[0] - want).max() < 0.05
  assert np.abs(found[1] - want).max() < 0.3 * np.abs(found[0] - want).max()


def test_bits_of_the_uniform_law_are_eight_but_for_one_grey_level():
  uniform = np.full(1, -6 * np.log(2.0))  # on [-1, 1]^6
  assert likelihood.bits_per_dim(uniform, 6) == pytest.approx(np.log2(255))


@pytest.mark.parametrize("sigmas", [[1.0], [1.0, 0.5], [0.0, 1.0]])
def test_levels_must_rise(stats, sigmas):
  with pytest.raises(ValueError, match="`sigmas` is"):
    likelihood.log_density(Partial(gaussian.denoise, stats), np.zeros((1, *SHAPE)), sigmas, stats, 6)
