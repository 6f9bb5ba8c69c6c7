"""The finite-data Gaussian: κ against its equation, the denoiser against the mean of many drawn ones."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gauss_diffusion.denoisers import finite_data
from gauss_diffusion.denoisers.finite_data import FiniteData

SHAPE = (4, 4, 2)
D = 32
F64 = 1e-10  # relative, for chains of small float64 operations
F32 = 1e-5  # relative to the spread of x, for the same in float32 and κ found in it
SPECTRUM = 2.0 * np.arange(1, D + 1) ** -1.2
MEAN = np.random.default_rng(0).normal(size=D) / 3
BASIS = np.linalg.qr(np.random.default_rng(1).normal(size=(D, D)))[0]


def law_of(num):
  return FiniteData(MEAN.reshape(SHAPE), BASIS, SPECTRUM, np.float64(num))


def rows_of(num, rng):
  """Draw rows [num, D] of N(μ, Σ)."""
  return MEAN + (rng.normal(size=(num, D)) * np.sqrt(SPECTRUM)) @ BASIS.T


def denoiser_of(rows, sigma):
  """``W x + b`` of the rows' own mean and covariance (1/N)."""
  mean, covariance = rows.mean(0), np.cov(rows.T, bias=True)
  weight = np.linalg.solve(covariance + sigma**2 * np.eye(D), covariance).T
  return weight, mean - weight @ mean


def bisected(sigma, num):
  """κ by halving an interval in which what the equation leaves over changes its sign."""
  fitted = (1 - 1 / num) * SPECTRUM
  low, high = sigma**2, sigma**2 + SPECTRUM.sum() / num
  for _ in range(200):
    middle = np.sqrt(low * high)
    above = middle * (1 - np.sum(SPECTRUM / (fitted + middle)) / num) > sigma**2
    low, high = (low, middle) if above else (middle, high)
  return high


def expected(x, sigma, num):
  fitted = (1 - 1 / num) * SPECTRUM
  gain = fitted / (fitted + bisected(sigma, num))
  return (MEAN + BASIS @ (gain * (BASIS.T @ (x.ravel() - MEAN)))).reshape(SHAPE)


@pytest.mark.parametrize("sigma", [1e-6, 0.002, 0.3, 80.0, 1e6])
@pytest.mark.parametrize("num", [1, 2, 16, 31, 32, 33, 34, 200, 10**9])
def test_kappa_solves_its_equation(sigma, num):
  lam = np.append(SPECTRUM, [0, 0])  # what never varies says nothing
  kappa = finite_data.kappa(lam, sigma, num)
  assert sigma**2 <= kappa <= sigma**2 + lam.sum() / num
  # Sum of what is left where it is known to be positive: nothing cancels, and the equation holds to rounding.
  overlap = np.sum(lam / ((1 - 1 / num) * lam + kappa)) / num
  # κ (1 − overlap) = σ²: where κ is far above σ², of the 1 no more than rounding is left.
  assert abs(kappa * (1 - overlap) - sigma**2) < 1e-12 * (sigma**2 + kappa)
  np.testing.assert_allclose(finite_data.kappa(SPECTRUM[::-1], sigma, num), kappa, rtol=1e-9)  # N = rank + 1


def test_kappa_in_its_limits():
  one = np.full(D, 0.5)  # equal eigenvalues: a quadratic
  for num, sigma in itertools.product((2, 32, 33, 100), (0.01, 1.0)):
    fitted, linear = 0.5 * (1 - 1 / num), 0.5 * (1 - 1 / num) - sigma**2 - 0.5 * D / num
    root = (-linear + np.sqrt(linear**2 + 4 * fitted * sigma**2)) / 2
    np.testing.assert_allclose(finite_data.kappa(one, sigma, num), root, rtol=1e-9)
  np.testing.assert_allclose(finite_data.kappa(SPECTRUM, 0.3, 10**12), 0.09, rtol=1e-9)
  np.testing.assert_allclose(finite_data.kappa(SPECTRUM, 1e5, 16), 1e10, rtol=1e-9)
  assert finite_data.kappa(np.empty(0), 0.3, 5) == pytest.approx(0.09, rel=1e-15)
  # Fewer images than directions leave noise behind, more of them none.
  assert finite_data.kappa(SPECTRUM, 1e-8, D) > 1e-4 and finite_data.kappa(SPECTRUM, 1e-8, 2 * D) < 1e-15
  falling = [finite_data.kappa(SPECTRUM, 0.3, num) for num in range(1, 100)]
  assert np.all(np.diff(falling) < 0)


@pytest.mark.parametrize("num", [4, 24, 128])
def test_it_is_the_mean_of_many(x64, num):
  rng, sigma, draws = np.random.default_rng(2), 0.4, 1000
  x = rows_of(4, rng) + sigma * rng.normal(size=(4, D))
  found = [denoiser_of(rows_of(num, rng), sigma) for _ in range(draws)]
  outputs = np.stack([x @ w.T + b for w, b in found])
  got = [finite_data.denoise(law_of(num), one.reshape(SHAPE), sigma) for one in x]
  off = outputs.mean(0) - np.reshape(got, x.shape)
  error2 = np.sum(outputs.var(0)) / draws
  weight, bias = denoiser_of(rows_of(10**5, rng), sigma)
  shrinks = np.sum((outputs.mean(0) - x @ weight.T - bias) ** 2) - error2
  assert np.sum(off**2) - error2 < 0.02 * shrinks  # what finite data do on average, to 14 %


@pytest.mark.parametrize("num", [1, 2, 31, 32, 33, 34, 500])
@pytest.mark.parametrize("sigma", [0.002, 0.3, 80.0])
def test_closed_form_in_both_precisions(num, sigma):
  x = rows_of(1, np.random.default_rng(3)).reshape(SHAPE)
  x += sigma * np.random.default_rng(4).normal(size=SHAPE)
  want = expected(x.astype(np.float32).astype(np.float64), sigma, num)
  got = jax.jit(finite_data.denoise)(law_of(num), x.astype(np.float32), sigma)
  assert got.dtype == np.float32
  np.testing.assert_allclose(got, want, rtol=0, atol=F32 * np.abs(x).max())
  with jax.enable_x64(True):
    got = finite_data.denoise(law_of(num), x, sigma)
    # Where κ is a double root, half the digits of its equation are left.
    np.testing.assert_allclose(got, expected(x, sigma, num), rtol=0, atol=1e-9 * np.abs(x).max())


def test_images_are_taken_for_the_law():
  u8 = np.random.default_rng(5).integers(0, 256, (9, *SHAPE), dtype=np.uint8)
  record = finite_data.fit(u8, num=0)
  assert record.num == 9 and finite_data.fit(u8, num=4).num == 4
  rows = u8.reshape(9, -1) / 127.5 - 1
  covariance = record.basis * record.eigenvalues @ record.basis.T
  np.testing.assert_allclose(covariance, np.cov(rows.T, bias=True), atol=F64)


def test_levels_of_a_batch_do_not_mix(x64):
  x = rows_of(3, np.random.default_rng(6)).reshape(3, *SHAPE)
  sigma = np.array([0.002, 0.3, 80.0])
  got = jax.jit(jax.vmap(finite_data.denoise, (None, 0, 0)))(law_of(20), x, sigma)
  want = [expected(*each, 20) for each in zip(x, sigma, strict=True)]
  np.testing.assert_allclose(got, want, rtol=0, atol=1e-9)
  spread = jax.pmap(finite_data.denoise, in_axes=(None, 0, 0))(law_of(20), x, sigma)
  np.testing.assert_allclose(spread, want, rtol=0, atol=1e-9)


def test_the_jacobian_is_a_constant_either_way(x64):
  x = jnp.zeros(SHAPE)
  fitted = SPECTRUM * 19 / 20
  want = BASIS * (fitted / (fitted + bisected(0.3, 20))) @ BASIS.T
  for derivative in (jax.jacfwd, jax.jacrev):
    got = derivative(lambda x: finite_data.denoise(law_of(20), x, 0.3))(x)
    np.testing.assert_allclose(np.reshape(got, (D, D)), want, rtol=0, atol=1e-9)


def test_what_cannot_be_is_refused():
  for sigma in (0.0, -1.0, np.nan):
    with pytest.raises(ValueError, match="^`sigma` is .*; want a noise level > 0"):
      finite_data.kappa(SPECTRUM, sigma, 5)
  with pytest.raises(ValueError, match="^`num` is 0; want at least 1"):
    finite_data.kappa(SPECTRUM, 1.0, 0)
  with pytest.raises(ValueError, match="^`x` has shape"):
    finite_data.denoise(law_of(5), np.zeros((4, 2, 4)), 1.0)
