"""Gaussian classes in float32: which class it was is known as well as the noisy image itself allows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gauss_diffusion.denoisers import class_gaussian
from gauss_diffusion.denoisers.class_gaussian import ClassMixture

SHAPE = (8, 8, 3)
SIGMAS = (1e-3, 0.01, 0.1, 1.0, 10.0, 80.0, 1e4)
# Nats: of sums of 192 terms of order one, and what rounding x to float32, by about 2e-8 of each pixel, does
# by itself, √192 · 2e-8 / σ, ten times over. Without differences the error is twenty times as large.
SUMS, ROUNDING = 5e-6, 3e-6


def mixture(ranks, apart=0.02, seed=0):
  """Return a float64 mixture of classes of such ranks, each with a basis of its own."""
  rng, size = np.random.default_rng(seed), int(np.prod(SHAPE))
  most, kinds = max(ranks), len(ranks)
  basis, eigenvalues = np.zeros((kinds, size, most)), np.zeros((kinds, most))
  for kind, rank in enumerate(ranks):
    basis[kind, :, :rank] = np.linalg.qr(rng.standard_normal((size, size)))[0][:, :rank]
    eigenvalues[kind, :rank] = 0.3 * np.arange(1, rank + 1) ** -1.5 * rng.uniform(0.9, 1.1)
  mean = apart * rng.standard_normal((kinds, *SHAPE))
  return ClassMixture(np.arange(1, kinds + 1) / np.sum(np.arange(1, kinds + 1)), mean, basis, eigenvalues)


def alike(sigma, rank=40):
  """Return three classes on one basis that noise of this level confuses, after one that is far from them."""
  rng, one = np.random.default_rng(1), mixture((rank,))
  mean = one.mean + 0.05 * sigma * rng.standard_normal((4, *SHAPE)) + 0.5 * rng.standard_normal(SHAPE)
  mean[0] += 0.5
  eigenvalues = one.eigenvalues * np.array([[1.0], [1.0], [1.3], [0.8]])
  return ClassMixture(np.array([0.1, 0.2, 0.2, 0.5]), mean, one.basis.repeat(4, axis=0), eigenvalues)


def logs(record, x, sigma):
  """Return log π_c N(x; μ_c, Σ_c + σ² I) by dense matrices in float64."""
  found = []
  for share, mean, basis, lam in zip(*record):
    total = basis * lam @ basis.T + sigma**2 * np.eye(x.size)
    y = (x - mean).ravel()
    found.append(np.log(share) - (np.linalg.slogdet(total)[1] + y @ np.linalg.solve(total, y)) / 2)
  return np.array(found) - np.logaddexp.reduce(found)


def drawn(record, kind, sigma, seed):
  rng = np.random.default_rng(seed)
  z = np.sqrt(record.eigenvalues[kind]) * rng.standard_normal(record.eigenvalues.shape[1])
  x0 = record.mean[kind] + (record.basis[kind] @ z).reshape(SHAPE)
  return (x0 + sigma * rng.standard_normal(SHAPE)).astype(np.float32)


def agrees(record, sigma, seed):
  """Hold an image of each class against the dense reference; return the greatest probabilities."""
  greatest = []
  for kind in range(len(record.share)):
    x = drawn(record, kind, sigma, seed + kind)
    found = np.asarray(class_gaussian.responsibilities(record, x, np.float32(sigma)), np.float64)
    want = logs(record, x.astype(np.float64), float(np.float32(sigma)))
    assert np.isfinite(found).all() and found.sum() == pytest.approx(1, abs=1e-6)
    seen = want > -20
    np.testing.assert_allclose(
      np.log(found[seen]), want[seen], atol=SUMS + ROUNDING / sigma, err_msg=str(sigma)
    )
    assert (found[~seen] < 1e-8).all()
    greatest.append(np.exp(want.max()))
  return greatest


@pytest.mark.parametrize("sigma", SIGMAS)
def test_probabilities_of_classes_in_float32_are_those_of_float64(sigma):
  for ranks in ((192, 192, 192), (40, 60, 50), (0, 3, 192)):
    agrees(mixture(ranks), sigma, seed=0)


@pytest.mark.parametrize("sigma", SIGMAS)
def test_classes_that_noise_confuses_are_weighed_as_exactly(sigma):
  assert min(agrees(alike(sigma), sigma, seed=5)) < 0.95  # or there was nothing to weigh


def test_classes_that_noise_has_drowned_have_their_shares():
  record = mixture((40, 60, 50))
  for sigma in (1e4, 1e6):
    x = drawn(record, 0, sigma, seed=0)
    found = class_gaussian.responsibilities(record, x, np.float32(sigma))
    # What is left of densities is of the order (x − μ) · δμ / σ².
    np.testing.assert_allclose(found, record.share, atol=20 / sigma)


def test_two_classes_that_are_one_share_its_probability_whatever_the_noise():
  one = mixture((40,))
  twice = ClassMixture(np.array([0.25, 0.75]), *(np.concatenate([leaf, leaf]) for leaf in one[1:]))
  for sigma in (1e-6, 1e-3, 1.0, 1e3, 1e6):
    x = drawn(one, 0, sigma, seed=1)
    found = class_gaussian.responsibilities(twice, x, np.float32(sigma))
    np.testing.assert_allclose(found, [0.25, 0.75], rtol=1e-6)


def test_a_derivative_is_the_posterior_covariance(x64):
  """``σ² ∂D/∂x = Cov(x0 | x) = Σ w_c (C_c + D_c D_cᵀ) − D Dᵀ`` (Tweedie's second moment)."""
  record, sigma = mixture((5, 9, 7)), 0.6
  x = drawn(record, 1, sigma, seed=3).astype(np.float64)
  jacobian = jax.jacfwd(class_gaussian.denoise, 1)(record, jnp.asarray(x), sigma).reshape(x.size, x.size)
  weights = np.exp(logs(record, x, sigma))
  second, mean = 0, 0
  for weight, mu, basis, lam in zip(weights, *record[1:]):
    estimate = mu.ravel() + basis @ (lam / (lam + sigma**2) * (basis.T @ (x - mu).ravel()))
    second = second + weight * (
      basis * (lam * sigma**2 / (lam + sigma**2)) @ basis.T + np.outer(estimate, estimate)
    )
    mean = mean + weight * estimate
  np.testing.assert_allclose(sigma**2 * jacobian, second - np.outer(mean, mean), atol=1e-10)
  assert 0.01 < weights.max() < 0.99  # so that the classes matter


def test_an_image_of_another_shape_is_refused():
  with pytest.raises(ValueError, match=r"`x` has shape \(8, 8, 1\); `mixture` describes"):
    class_gaussian.denoise(mixture((3, 2)), np.zeros((8, 8, 1)), 1.0)
