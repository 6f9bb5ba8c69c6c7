"""One Gaussian, whose exact denoiser is known, written in every parametrisation and on every schedule."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from gauss_diffusion.denoisers import external, parametrisations
from gauss_diffusion.denoisers.parametrisations import from_eps, from_flow, from_v, from_x0

SHAPE = (3, 2, 2)
MEAN, VARIANCE = np.random.default_rng(0).uniform(0.1, 0.9, (2, *SHAPE))  # of independent pixels
STEPS = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))  # Ho et al. 2020
SCHEDULES = {
  "discrete": parametrisations.discrete(STEPS),
  "vp": parametrisations.vp(),
  "cosine": parametrisations.cosine(),
  "ve": parametrisations.ve(),
  "straight": parametrisations.straight(),
}
# α and s at t, as the papers write them.
PATHS = {
  "discrete": lambda t: (np.sqrt(STEPS[int(t)]), np.sqrt(1 - STEPS[int(t)])),
  "vp": lambda t: (
    np.exp(-(19.9 * t**2 / 4 + 0.1 * t / 2)),
    np.sqrt(-np.expm1(-(19.9 * t**2 / 2 + 0.1 * t))),
  ),
  "cosine": lambda t: (np.sqrt(kept_by_cosine(t)), np.sqrt(1 - kept_by_cosine(t))),
  "ve": lambda t: (1.0, t),
  "straight": lambda t: (1 - t, t),
}
TIMES = {"discrete": (0, 1, 500, 999), "ve": (0.01, 1.0, 50.0)}


def kept_by_cosine(t):
  return (np.cos((t + 0.008) / 1.008 * np.pi / 2) / np.cos(0.008 / 1.008 * np.pi / 2)) ** 2


def gaussian(x, sigma):
  """Posterior mean of N(MEAN, VARIANCE), a pixel at a time."""
  return MEAN + VARIANCE / (VARIANCE + sigma**2) * (x - MEAN)


def networks(path):
  """Return the exact ε, v and x0 of x_t and t, from the posterior of ``x_t = α x0 + s ε`` alone."""

  def both(x_t, t):
    alpha, s = path(t)
    x0 = MEAN + alpha * VARIANCE / (alpha**2 * VARIANCE + s**2) * (x_t - alpha * MEAN)
    return alpha, s, x0, (x_t - alpha * x0) / s

  return {
    from_eps: lambda x_t, t: both(x_t, t)[3],
    from_v: lambda x_t, t: both(x_t, t)[0] * both(x_t, t)[3] - both(x_t, t)[1] * both(x_t, t)[2],
    from_x0: lambda x_t, t: both(x_t, t)[2],
  }


def in_batches(f):
  return lambda x_t, t: np.stack([f(one, time) for one, time in zip(x_t, t)])


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("adapter", [from_eps, from_v, from_x0])
def test_the_gaussian_in_every_parametrisation_is_its_denoiser(name, adapter):
  """In float64, at levels that the papers' own α and s give."""
  times = TIMES.get(name, (0.01, 0.5, 0.98))
  sigma = np.array([s / alpha for alpha, s in map(PATHS[name], times)])
  x = np.random.default_rng(1).normal(size=(len(sigma), *SHAPE))
  rounded = (lambda t: PATHS[name](round(t))) if name == "discrete" else PATHS[name]
  denoise = adapter(in_batches(networks(rounded)[adapter]), SCHEDULES[name])
  want = gaussian(x, sigma[:, None, None, None])
  np.testing.assert_allclose(denoise(x, sigma), want, rtol=1e-9)


@pytest.mark.parametrize("data_at", [0, 1])
def test_velocities_of_straight_paths(data_at):
  def velocity(x_t, t):
    t = t if data_at == 0 else 1 - t
    x0 = MEAN + (1 - t) * VARIANCE / ((1 - t) ** 2 * VARIANCE + t**2) * (x_t - (1 - t) * MEAN)
    noise = (x_t - (1 - t) * x0) / t
    return noise - x0 if data_at == 0 else x0 - noise

  sigma = np.array([0.01, 1.0, 80.0])
  x = np.random.default_rng(1).normal(size=(3, *SHAPE))
  denoise = from_flow(in_batches(velocity), data_at=data_at)
  np.testing.assert_allclose(denoise(x, sigma), gaussian(x, sigma[:, None, None, None]), rtol=1e-9)


@pytest.mark.parametrize("name", SCHEDULES)
def test_time_and_level_are_inverse_and_as_the_papers_have_them(name):
  schedule = SCHEDULES[name]
  for t in TIMES.get(name, (0.01, 0.3, 0.98)):
    alpha, s = PATHS[name](t)
    np.testing.assert_allclose(schedule.sigma_of_t(np.float64(t)), s / alpha, rtol=1e-9)
    np.testing.assert_allclose(schedule.scale(np.float64(s / alpha)), alpha, rtol=1e-9)
    np.testing.assert_allclose(schedule.t_of_sigma(np.float64(s / alpha)), t, rtol=1e-9, atol=1e-9)
  low, high = max(schedule.low, 1e-3), min(schedule.high, 1e3)
  levels = np.geomspace(low, high, 50)
  np.testing.assert_allclose(schedule.sigma_of_t(schedule.t_of_sigma(levels)), levels, rtol=1e-9)
  times = schedule.t_of_sigma(jnp.asarray(levels, jnp.float32))
  assert times.dtype == jnp.float32
  np.testing.assert_allclose(times, schedule.t_of_sigma(levels), rtol=2e-5, atol=2e-4)


def test_functions_of_jax_keep_their_derivatives():
  mean, variance = jnp.asarray(MEAN, jnp.float32), jnp.asarray(VARIANCE, jnp.float32)

  def eps(x_t, t):
    sigma = SCHEDULES["vp"].sigma_of_t(t)
    x = x_t * jnp.sqrt(1 + sigma**2)
    return (x - mean - variance / (variance + sigma**2) * (x - mean)) / sigma

  denoise = Partial(from_eps(eps, SCHEDULES["vp"]))
  x = jnp.asarray(np.random.default_rng(1).normal(size=SHAPE), jnp.float32)
  jacobian = jax.jit(jax.jacfwd(denoise))(x, jnp.float32(0.5)).reshape(12, 12)
  np.testing.assert_allclose(jacobian, np.diag((VARIANCE / (VARIANCE + 0.25)).ravel()), atol=1e-4)


def test_a_level_outside_of_the_schedule_is_refused_and_marked_where_it_cannot_be():
  ones = lambda x_t, t: 1 + 0 * x_t  # noqa: E731
  denoise = from_eps(ones, SCHEDULES["discrete"])
  x = np.zeros((2, *SHAPE), np.float32)
  with pytest.raises(
    ValueError, match="`sigma` is 0.002, and the schedule of this network goes from 0.01.*`sampler.sigma_m"
  ):
    denoise(x, np.float32([0.5, 0.002]))
  with pytest.raises(ValueError, match="`sigma` is 200"):
    denoise(jnp.asarray(x[0]), 200.0)
  found = jax.jit(denoise)(jnp.asarray(x), jnp.float32([0.5, 0.002]))
  np.testing.assert_array_equal(np.isnan(found).all((1, 2, 3)), [False, True])
  ends = np.float32([SCHEDULES["discrete"].low, SCHEDULES["discrete"].high])
  assert np.isfinite(denoise(x, ends)).all()  # float32 of the ends themselves is inside


def test_as_a_function_from_outside():
  """The adapted function takes the batches that callbacks hand over."""
  denoise = external.denoiser(from_x0(lambda x_t, t: x_t / 2, SCHEDULES["ve"]))
  x = np.ones((4, *SHAPE), np.float32)
  found = jax.vmap(denoise, (0, None))(x, 0.5)
  np.testing.assert_array_equal(found, x / 2)


@pytest.mark.parametrize("steps", [[0.5], [0.5, 0.6], [1.0, 0.5], [0.5, 0.0], [[0.5, 0.4]], []])
def test_steps_that_are_no_schedule(steps):
  with pytest.raises(ValueError, match="`alphas_cumprod` are .* want two or more falling numbers"):
    parametrisations.discrete(np.array(steps))


def test_constants_that_are_no_schedule():
  with pytest.raises(ValueError, match="`beta_min`, `beta_max` are 0.1, 0.1; want them positive and rising"):
    parametrisations.vp(0.1, 0.1)
  with pytest.raises(ValueError, match="`shift` is -0.1"):
    parametrisations.cosine(-0.1)
  with pytest.raises(ValueError, match="`data_at` is 2; want 0 or 1"):
    from_flow(lambda x, t: x, data_at=2)


# The schedules that diffusers knows by name: β of each step, written out.
NAMED = {
  "linear": lambda t: 1e-4 + (0.02 - 1e-4) * t / 99,
  "scaled_linear": lambda t: (0.01 + (0.02**0.5 - 0.01) * t / 99) ** 2,
  "squaredcos_cap_v2": lambda t: min(1 - kept_by_cosine((t + 1) / 100) / kept_by_cosine(t / 100), 0.999),
}


@pytest.mark.parametrize("name", NAMED)
def test_a_schedule_by_name_is_its_betas(name):
  schedule, kept = parametrisations.trained_steps(name, num_train_timesteps=100), 1.0
  for t in range(100):
    kept *= 1 - NAMED[name](t)
    np.testing.assert_allclose(schedule.sigma_of_t(t), np.sqrt((1 - kept) / kept), rtol=1e-9)


@pytest.mark.parametrize(
  ("words", "named"),
  [
    ({"beta_schedule": "sigmoid"}, "`beta_schedule` is 'sigmoid'; known: linear, scaled_linear, squaredcos"),
    ({"num_train_timesteps": 1}, "`num_train_timesteps` is 1; want 2"),
    ({"beta_start": 0.03}, "`beta_start`, `beta_end` are 0.03, 0.02"),
    ({"beta_end": 1.0}, "`beta_start`, `beta_end` are 0.0001, 1.0"),
  ],
)
def test_words_that_are_no_schedule_are_named(words, named):
  with pytest.raises(ValueError, match=named):
    parametrisations.trained_steps(**words)
