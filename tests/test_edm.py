import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from gauss_diffusion import edm

F64 = 1e-12  # a handful of float64 operations
SIGMAS = np.geomspace(1e-3, 100, 41)

# Li et al. 2024, to the four digits they print.
PAPER_GRID = (80, 42.4152, 21.1087, 9.7232, 4.0661, 1.5017, 0.4700, 0.1166, 0.0204, 0.0020)


def test_grid_of_the_paper():
  np.testing.assert_allclose(edm.sigma_grid(10), PAPER_GRID, atol=5e-5)


@pytest.mark.parametrize("num_steps", [2, 10, 18, 257])
def test_grid_falls_and_ends_exactly(num_steps):
  grid = edm.sigma_grid(num_steps)
  assert grid.shape == (num_steps,) and grid.dtype == np.float64
  assert grid[0] == 80 and grid[-1] == 0.002
  assert np.all(np.diff(grid) < 0)


def test_grid_is_even_in_the_power_of_rho():
  powers = edm.sigma_grid(9, 0.01, 50, rho=3) ** (1 / 3)
  np.testing.assert_allclose(np.diff(powers), (powers[-1] - powers[0]) / 8, rtol=F64)


@pytest.mark.parametrize("sigma_data", [0.5, 1.7])
def test_preconditioning_identities(x64, sigma_data):
  # G13: a unit-variance input and target of the raw network, and the weight that evens out its loss.
  c = edm.precondition(jnp.asarray(SIGMAS), sigma_data)
  total = SIGMAS**2 + sigma_data**2
  np.testing.assert_allclose(c.c_in**2 * total, 1, rtol=F64)
  np.testing.assert_allclose(edm.loss_weight(SIGMAS, sigma_data) * c.c_out**2, 1, rtol=F64)
  # Variance of (x0 - c_skip (x0 + sigma noise)) / c_out for Var(x0) = sigma_data².
  target_variance = ((1 - c.c_skip) ** 2 * sigma_data**2 + (c.c_skip * SIGMAS) ** 2) / c.c_out**2
  np.testing.assert_allclose(target_variance, 1, rtol=F64)
  np.testing.assert_allclose(c.c_noise, np.log(SIGMAS) / 4, rtol=F64)


def test_skip_alone_is_the_gaussian_denoiser(x64):
  # G13: with F = 0, D(x) = c_skip x is the posterior mean of N(0, sigma_data² I).
  np.testing.assert_allclose(edm.precondition(SIGMAS).c_skip, 0.25 / (0.25 + SIGMAS**2), rtol=F64)


def test_limits_of_preconditioning(x64):
  low, high = edm.precondition(1e-9), edm.precondition(1e9)
  np.testing.assert_allclose([low.c_skip, low.c_out], [1, 0], atol=1e-8)
  np.testing.assert_allclose([high.c_skip, high.c_out], [0, 0.5], atol=1e-8)


def test_training_law():
  num = 1_000_000
  log_sigma = np.log(np.asarray(edm.sample_sigma(jax.random.key(0), (num,)), np.float64))
  # Five standard errors of the mean and of the standard deviation; 1e-3 is the usual level of a KS test.
  assert abs(log_sigma.mean() + 1.2) < 5 * 1.2 / np.sqrt(num)
  assert abs(log_sigma.std() - 1.2) < 5 * 1.2 / np.sqrt(2 * num)
  assert scipy.stats.kstest((log_sigma + 1.2) / 1.2, "norm").pvalue > 1e-3
  shifted = edm.sample_sigma(jax.random.key(0), (num,), p_mean=-0.2, p_std=2.4)
  np.testing.assert_allclose(np.log(shifted), 2.2 + 2 * log_sigma, atol=1e-5)


@pytest.mark.parametrize(
  ("arguments", "named"),
  [((1,), "`num_steps` is 1"), ((5, 0.0), "0 < min < max"), ((5, 3.0, 2.0), "3.0, 2.0"), ((5, -1.0), "-1.0")],
)
def test_grid_refuses(arguments, named):
  with pytest.raises(ValueError, match=named):
    edm.sigma_grid(*arguments)


def test_under_jit_vmap_and_pmap():
  sigma = jnp.asarray(SIGMAS[:8], jnp.float32)
  want = edm.precondition(sigma)._asdict() | {"weight": edm.loss_weight(sigma)}

  def both(sigma):
    return edm.precondition(sigma)._asdict() | {"weight": edm.loss_weight(sigma)}

  for transform in (jax.jit, jax.vmap, jax.pmap):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), transform(both)(sigma), want)
