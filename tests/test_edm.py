import functools

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


# The other columns of table 1, written out in NumPy float64.


def iddpm_levels(C_1=0.001, C_2=0.008, M=1000):
  # The recursion solved: u_j² + 1 = a_M / a_j, but for j = 0, where a_0 = 0 is clipped to C_1 a_1.
  a = np.sin(np.pi * np.arange(M + 1) / (2 * M * (C_2 + 1))) ** 2
  a[0] = C_1 * a[1]
  return np.sqrt(a[M] / a - 1)


def vp_time(sigma, beta_d=19.9, beta_min=0.1):
  # The positive root of beta_d t² / 2 + beta_min t = ln(1 + sigma²), by NumPy's eigenvalues of a companion.
  return np.array([np.roots([beta_d / 2, beta_min, -np.log1p(s**2)]).max() for s in np.ravel(sigma)])


def nearest_step(sigma, levels):
  return np.array(
    [len(levels) - 2 - min(range(len(levels)), key=lambda j: abs(levels[j] - s)) for s in sigma]
  )


TABLE = {
  "vp": lambda s: (np.ones(s.shape), -s, (s**2 + 1) ** -0.5, 999 * vp_time(s)),
  "ve": lambda s: (np.ones(s.shape), s, np.ones(s.shape), np.log(s) - np.log(2)),
  "iddpm": lambda s: (np.ones(s.shape), -s, (s**2 + 1) ** -0.5, nearest_step(s, iddpm_levels())),
  "none": lambda s: (np.zeros(s.shape), np.ones(s.shape), np.ones(s.shape), s),
}


@pytest.mark.parametrize("name", TABLE)
def test_preconditionings_are_those_of_the_table(x64, name):
  for got, want in zip(edm.PRECONDITIONINGS[name](jnp.asarray(SIGMAS)), TABLE[name](SIGMAS), strict=True):
    np.testing.assert_allclose(got, want, rtol=1e-9)  # of the reference's roots at small sigma; else 1e-15
  for shape in ((), (1, 4)):
    scalings = edm.PRECONDITIONINGS[name](jnp.full(shape, 0.7))
    assert {scaling.shape for scaling in scalings} == {shape}


def test_vp_counts_the_time_at_which_the_data_has_this_noise(x64):
  time = np.linspace(1e-5, 1, 101)
  sigma = np.sqrt(np.expm1(19.9 * time**2 / 2 + 0.1 * time))
  np.testing.assert_allclose(edm.precondition_vp(sigma).c_noise, 999 * time, rtol=1e-12)
  steep = np.sqrt(np.expm1(3 * time**2 / 2 + 0.4 * time))
  np.testing.assert_allclose(edm.precondition_vp(steep, 3.0, 0.4, M=11).c_noise, 10 * time, rtol=1e-12)
  single = edm.precondition_vp(jnp.asarray(sigma, jnp.float32)).c_noise
  # The time is as sigma² at first: sigma's own rounding of 6e-8 counts twice, and then a few operations.
  np.testing.assert_allclose(single, 999 * time, rtol=5e-7)


def test_iddpm_levels_fall_to_zero():
  levels = edm.iddpm_sigmas()
  assert levels.shape == (1001,) and levels.dtype == np.float64 and levels[-1] == 0
  assert np.all(np.diff(levels) < 0)
  np.testing.assert_allclose(levels, iddpm_levels(), rtol=1e-9)  # 1000 roundings of numbers near 1, less 1
  np.testing.assert_allclose(edm.iddpm_sigmas(0.1, 0.3, 20), iddpm_levels(0.1, 0.3, 20), rtol=1e-11)


def test_iddpm_counts_steps_without_a_slip_in_float32():
  levels = edm.iddpm_sigmas()
  want = 999 - np.arange(1000)
  for rounding in (-4, 0, 4):  # ulps
    sigma = jnp.asarray(levels[:-1] * (1 + rounding * 1.2e-7), jnp.float32)
    np.testing.assert_array_equal(edm.precondition_iddpm(sigma).c_noise, want)


# Training noise.


@functools.partial(jax.jit, static_argnums=(0, 1))
def draw(law, num):
  return law(jax.random.key(1), (num,))


def test_every_preconditioning_has_its_noise():
  assert list(edm.TRAINING_NOISE) == [*edm.PRECONDITIONINGS, "log-uniform"]


def test_log_uniform_noise_has_edms_weight():
  sigma, weight = draw(functools.partial(edm.training_noise_log_uniform, sigma_data=0.7), 1000)
  double = np.asarray(sigma, np.float64)
  np.testing.assert_allclose(weight, 1 / 0.7**2 + 1 / double**2, rtol=1e-6)  # float32
  assert np.mean(double > 10) > 0.1 > 10 * np.mean(draw(edm.training_noise, 1000).sigma > 10)


@pytest.mark.parametrize("name", edm.PRECONDITIONINGS)
def test_the_weight_evens_out_the_raw_networks_loss(name):
  sigma, weight = draw(edm.TRAINING_NOISE[name], 1000)
  c_out = edm.PRECONDITIONINGS[name](sigma).c_out
  np.testing.assert_allclose(weight * c_out**2, 1, rtol=1e-5)  # float32; 1 / sigma² loses little


def in_unit(low, high):
  return lambda sigma: np.log(sigma / low) / np.log(high / low)


@pytest.mark.parametrize(
  ("law", "to_unit"),
  [
    (edm.training_noise_vp, lambda sigma: (vp_time(sigma) - 1e-5) / (1 - 1e-5)),
    (
      functools.partial(edm.training_noise_vp, beta_d=3.0, beta_min=0.4, epsilon_t=0.1),
      lambda sigma: (vp_time(sigma, 3.0, 0.4) - 0.1) / 0.9,
    ),
    (edm.training_noise_ve, in_unit(0.02, 100)),
    (edm.training_noise_none, in_unit(0.002, 80)),
    (edm.training_noise_log_uniform, in_unit(0.002, 80)),
    (functools.partial(edm.training_noise_log_uniform, sigma_min=0.1, sigma_max=9.0), in_unit(0.1, 9)),
    (edm.training_noise, lambda sigma: scipy.stats.norm.cdf(np.log(sigma), -1.2, 1.2)),
  ],
)
def test_training_noise_is_uniform_in_its_variable(law, to_unit):
  unit = to_unit(np.asarray(draw(law, 20_000).sigma, np.float64))
  assert -1e-6 < unit.min() and unit.max() < 1 + 1e-6
  assert scipy.stats.kstest(unit, "uniform").pvalue > 1e-3


def test_iddpm_trains_on_each_of_its_levels():
  levels = np.float32(edm.iddpm_sigmas(M=20))
  sigma = np.asarray(draw(functools.partial(edm.training_noise_iddpm, M=20), 20_000).sigma)
  assert set(np.unique(sigma)) == set(levels[:-1])  # not the last, which is 0
  counts = [(sigma == level).sum() for level in levels[:-1]]
  assert scipy.stats.chisquare(counts).pvalue > 1e-3


@pytest.mark.parametrize(
  "law",
  [
    functools.partial(edm.training_noise, p_mean=np.log(0.47), p_std=0.0),
    functools.partial(edm.training_noise_none, sigma_min=0.47, sigma_max=0.47),
    functools.partial(edm.training_noise_log_uniform, sigma_min=0.47, sigma_max=0.47),
  ],
)
def test_a_law_may_be_a_single_level(law):
  np.testing.assert_allclose(draw(law, 100).sigma, 0.47, rtol=1e-6)


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
