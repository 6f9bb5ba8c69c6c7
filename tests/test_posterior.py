"""Identities T1-T6 of any exact posterior mean D*, on data where it is known: a few deltas.

Monte-Carlo averages must agree within five of their own standard errors.
"""

import jax
import numpy as np
import pytest
from jax.tree_util import Partial

from gauss_diffusion import statistics
from gauss_diffusion.denoisers import gaussian, multi_delta

SIGMA = 0.4
COUNT, D = 20_000, 3
IMAGES = np.array([[20, 30, 200], [90, 220, 120], [240, 60, 60], [150, 140, 250]], np.uint8).reshape(
  4, 1, 1, 3
)
POINTS = IMAGES.reshape(4, D) / 127.5 - 1
STATS = statistics.gaussian_stats(IMAGES)
COVARIANCE = np.cov(POINTS.T, bias=True)


@jax.jit
def values_and_jacobians(denoise, y, sigma):
  def one(x):
    jacobian = jax.jacfwd(lambda x: denoise(x, sigma).ravel())(x)
    return denoise(x, sigma).ravel(), jacobian.reshape(D, D)

  return jax.vmap(one)(y)


def draw(sigma, seed=0):
  """Clean and noisy samples, with D* and its Jacobian at the noisy ones."""
  rng = np.random.default_rng(seed)
  x0 = POINTS[rng.integers(0, 4, COUNT)]
  y = x0 + sigma * rng.normal(size=x0.shape)
  best, jacobian = values_and_jacobians(Partial(multi_delta.denoise, IMAGES), y.reshape(-1, 1, 1, D), sigma)
  return x0, y, np.asarray(best), np.asarray(jacobian)


def gaussian_of(y, sigma):
  values, jacobian = values_and_jacobians(Partial(gaussian.denoise, STATS), y.reshape(-1, 1, 1, D), sigma)
  return np.asarray(values), np.asarray(jacobian)


def posterior_covariance(y, sigma):
  """Cov(x0 | y) for every row of y, in float64 NumPy."""
  squares = np.sum((y[:, None] - POINTS) ** 2, axis=-1)
  weight = np.exp(-(squares - squares.min(axis=1, keepdims=True)) / (2 * sigma**2))
  weight /= weight.sum(axis=1, keepdims=True)
  centred = POINTS - (weight @ POINTS)[:, None]
  return np.einsum("ni,nia,nib->nab", weight, centred, centred)


def assert_zero_mean(samples):
  error = samples.std(axis=0) / np.sqrt(len(samples))
  assert np.all(np.abs(samples.mean(axis=0)) <= 5 * error + 1e-12)


def outer(a, b):
  return a[:, :, None] * b[:, None, :]


@pytest.fixture
def sample(x64):
  return draw(SIGMA)


def test_t1_moments_and_orthogonality(sample):
  x0, y, best, _ = sample
  mean = POINTS.mean(axis=0)
  assert_zero_mean(best - mean)
  assert_zero_mean(outer(best - mean, best - mean) + posterior_covariance(y, SIGMA) - COVARIANCE)
  for feature in (y, y**2, np.sin(5 * y), np.sign(y)):
    assert_zero_mean(outer(best - x0, feature))


def test_t2_jacobian_is_posterior_covariance(sample):
  _, y, _, jacobian = sample
  np.testing.assert_allclose(SIGMA**2 * jacobian, posterior_covariance(y, SIGMA), rtol=0, atol=1e-10)
  np.testing.assert_allclose(jacobian, np.swapaxes(jacobian, 1, 2), rtol=0, atol=1e-10)


def test_t3_stein_in_the_noise(sample):
  x0, y, best, jacobian = sample
  assert_zero_mean(jacobian - outer(best, y - x0) / SIGMA**2)
  other, jacobian = gaussian_of(y, SIGMA)
  assert_zero_mean(jacobian - outer(other, y - x0) / SIGMA**2)


def test_t3_gaussian_inputs_give_the_best_affine_slope(x64):
  rng = np.random.default_rng(1)
  y = 0.7 * rng.normal(size=(COUNT, D))
  values, jacobian = values_and_jacobians(Partial(multi_delta.denoise, IMAGES), y.reshape(-1, 1, 1, D), SIGMA)
  assert_zero_mean(np.asarray(jacobian) - outer(np.asarray(values), y) / 0.7**2)


def test_t4_sure(sample):
  x0, y, best, jacobian = sample
  for value, slope in ((best, jacobian), gaussian_of(y, SIGMA)):
    error = np.sum((value - x0) ** 2, axis=1)
    divergence = np.trace(slope, axis1=1, axis2=2)
    sure = np.sum((y - value) ** 2, axis=1) + 2 * SIGMA**2 * divergence - D * SIGMA**2
    assert_zero_mean(error - sure)


def test_t5_error_is_the_trace_and_bounded_by_the_gaussian(x64):
  lam, last, last_error = STATS.eigenvalues, 0.0, 0.0
  for sigma in (0.1, 0.2, SIGMA, 0.8, 3.0):
    x0, y, best, jacobian = draw(sigma)
    trace = sigma**2 * np.trace(jacobian, axis1=1, axis2=2)
    assert_zero_mean(np.sum((best - x0) ** 2, axis=1) - trace)
    mmse, error = trace.mean(), trace.std() / np.sqrt(COUNT)
    linear = np.sum(lam * sigma**2 / (lam + sigma**2))
    assert mmse <= linear + 5 * error
    assert linear <= min(D * sigma**2, lam.sum())
    assert mmse >= last - 5 * np.hypot(error, last_error)
    slack = gaussian_of(y[:1], sigma)[1][0] - jacobian.mean(axis=0)
    spread = np.linalg.norm(jacobian.std(axis=0)) / np.sqrt(COUNT)
    assert np.linalg.eigvalsh(slack).min() >= -5 * spread
    last, last_error = mmse, error


def test_t6_pythagoras(sample):
  x0, y, best, jacobian = sample
  for other in (gaussian_of(y, SIGMA)[0], 0.5 * y, np.tanh(y)):
    excess = np.sum((other - x0) ** 2, axis=1) - np.sum((best - x0) ** 2, axis=1)
    assert_zero_mean(excess - np.sum((other - best) ** 2, axis=1))
  gap = np.sum((gaussian_of(y, SIGMA)[0] - best) ** 2, axis=1)
  linear = np.sum(STATS.eigenvalues * SIGMA**2 / (STATS.eigenvalues + SIGMA**2))
  assert_zero_mean(gap + SIGMA**2 * np.trace(jacobian, axis1=1, axis2=2) - linear)
  assert gap.mean() > 0.01  # the data are far from Gaussian, or this says nothing
