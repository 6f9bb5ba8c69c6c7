"""Gaussian denoiser: invariants G1-G7, G12-G14 (eq. numbers: Li et al. 2024) against dense NumPy float64."""

import jax
import numpy as np
import pytest
from jax.tree_util import Partial

from gauss_diffusion import edm, statistics
from gauss_diffusion.denoisers import gaussian
from gauss_diffusion.types import GaussianStats

F64 = 1e-10  # relative, for chains of small float64 matmuls
F32 = 1e-5  # relative, for the same in float32

SHAPE = (2, 3, 2)
D = 12
SIGMA = 0.3
denoise = jax.jit(gaussian.denoise)
denoise_batch = jax.jit(jax.vmap(gaussian.denoise, (None, 0, None)))


def images_of(count, seed=0):
  return np.random.default_rng(seed).integers(0, 256, (count, *SHAPE), dtype=np.uint8)


def stats_of(mean, covariance):
  """A record from dense moments."""
  values, vectors = np.linalg.eigh(covariance)
  return GaussianStats(mean.reshape(SHAPE), vectors[:, ::-1].copy(), values[::-1].copy())


def moments(images):
  rows = images.reshape(len(images), -1) / 127.5 - 1
  return rows.mean(axis=0), np.cov(rows.T, bias=True)


def dense(mean, covariance, x, sigma):
  """``W x + b`` with W = Sigma (Sigma + sigma^2 I)^-1, b = (I - W) mu."""
  weight = covariance @ np.linalg.inv(covariance + sigma**2 * np.eye(D))
  return (weight @ x.ravel() + (np.eye(D) - weight) @ mean).reshape(SHAPE)


@pytest.fixture
def x():
  return np.random.default_rng(1).normal(size=SHAPE)


@pytest.mark.parametrize("count", [50, 5])
@pytest.mark.parametrize("sigma", [0.002, SIGMA, 80.0])
def test_g1_affine_closed_form(x64, x, count, sigma):
  images = images_of(count)
  stats = statistics.gaussian_stats(images)
  np.testing.assert_allclose(denoise(stats, x, sigma), dense(*moments(images), x, sigma), rtol=F64, atol=F64)
  np.testing.assert_allclose(denoise(stats, stats.mean, sigma), stats.mean, rtol=F64)


def test_g2_jacobian(x64, x):
  stats = statistics.gaussian_stats(images_of(50))
  gain = stats.eigenvalues / (stats.eigenvalues + SIGMA**2)
  jacobian = jax.jit(jax.jacfwd(lambda x: gaussian.denoise(stats, x, SIGMA).ravel()))
  here, there = (np.asarray(jacobian(point)).reshape(D, D) for point in (x, 3 * x + 1))
  np.testing.assert_allclose(here @ stats.basis, stats.basis * gain, rtol=0, atol=F64)
  np.testing.assert_allclose(here, there, rtol=0, atol=F64)
  np.testing.assert_allclose(here, here.T, rtol=0, atol=F64)
  assert np.all(gain >= 0) and np.all(gain < 1)


def test_g3_score(x64, x):
  images = images_of(50)
  mean, covariance = moments(images)
  noisy = covariance + SIGMA**2 * np.eye(D)

  def log_density(x):
    return jax.scipy.stats.multivariate_normal.logpdf(x.ravel(), mean, noisy)

  score = (denoise(statistics.gaussian_stats(images), x, SIGMA) - x) / SIGMA**2
  np.testing.assert_allclose(score, jax.jit(jax.grad(log_density))(x), rtol=0, atol=F64 / SIGMA**2)
  np.testing.assert_allclose(np.ravel(score), -np.linalg.solve(noisy, x.ravel() - mean), rtol=0, atol=1e-9)


def test_g4_dual_form(x64, x):
  images = images_of(5)
  rows = images.reshape(5, -1) / 127.5 - 1
  centred = rows - rows.mean(axis=0)
  weight = centred.T @ np.linalg.inv(centred @ centred.T + 5 * SIGMA**2 * np.eye(5)) @ centred
  want = rows.mean(axis=0) + weight @ (x.ravel() - rows.mean(axis=0))
  np.testing.assert_allclose(np.ravel(denoise(statistics.gaussian_stats(images), x, SIGMA)), want, rtol=F64)


@pytest.mark.parametrize("sigma", [0.01, SIGMA, 10.0])
def test_g5_limits(x64, x, sigma):
  stats = statistics.gaussian_stats(images_of(5))
  assert len(stats.eigenvalues) == 4
  estimate, offset = np.asarray(denoise(stats, x, sigma)), x - stats.mean
  rounding = 1 + F64
  bound = stats.eigenvalues[0] / sigma**2 * np.linalg.norm(offset)
  assert np.linalg.norm(estimate - stats.mean) <= bound * rounding
  projected = stats.mean + (stats.basis @ (stats.basis.T @ offset.ravel())).reshape(SHAPE)
  bound = sigma**2 / (stats.eigenvalues[-1] + sigma**2) * np.linalg.norm(offset)
  assert np.linalg.norm(estimate - projected) <= bound * rounding


def test_rank_zero_is_the_mean(x64, x):
  stats = statistics.gaussian_stats(images_of(1))
  np.testing.assert_array_equal(denoise(stats, x, SIGMA), stats.mean)


def test_g6_shift_rotation_scale(x64, x):
  mean, covariance = moments(images_of(50))
  rng = np.random.default_rng(2)
  rotation, shift = np.linalg.qr(rng.normal(size=(D, D)))[0], rng.normal(size=D)
  plain = np.ravel(denoise(stats_of(mean, covariance), x, SIGMA))
  moved = stats_of(rotation @ mean + shift, rotation @ covariance @ rotation.T)
  at = (rotation @ x.ravel() + shift).reshape(SHAPE)
  np.testing.assert_allclose(np.ravel(denoise(moved, at, SIGMA)), rotation @ plain + shift, rtol=0, atol=F64)
  scaled = stats_of(3 * mean, 9 * covariance)
  np.testing.assert_allclose(np.ravel(denoise(scaled, 3 * x, 3 * SIGMA)), 3 * plain, rtol=0, atol=F64)


def test_g7_shift_augmented_data_is_a_wiener_filter(x64):
  images = np.random.default_rng(0).integers(0, 256, (3, 4, 5, 1), dtype=np.uint8)
  orbit = np.concatenate([np.roll(images, (i, j), (1, 2)) for i in range(4) for j in range(5)])
  stats = statistics.gaussian_stats(orbit)
  centred = images[..., 0] / 127.5 - 1 - stats.mean[0, 0, 0]  # all pixels of an orbit share one mean
  power = np.mean(np.abs(np.fft.fft2(centred)) ** 2, axis=0) / 20  # variance of each orthonormal mode
  x = np.random.default_rng(1).normal(size=(4, 5, 1))
  filtered = np.fft.ifft2(power / (power + SIGMA**2) * np.fft.fft2((x - stats.mean)[..., 0])).real
  estimate = np.asarray(denoise(stats, x, SIGMA))
  np.testing.assert_allclose(estimate[..., 0], stats.mean[..., 0] + filtered, rtol=0, atol=F64)
  rolled = denoise(stats, np.roll(x, (1, 2), (0, 1)), SIGMA)
  np.testing.assert_allclose(rolled, np.roll(estimate, (1, 2), (0, 1)), rtol=0, atol=F64)


def test_g12_expected_error_for_any_data(x64):
  images = images_of(7)  # far from Gaussian: seven deltas
  stats = statistics.gaussian_stats(images)
  rng = np.random.default_rng(3)
  x0 = images[rng.integers(0, 7, 20_000)] / 127.5 - 1
  estimate = denoise_batch(stats, x0 + SIGMA * rng.normal(size=x0.shape), SIGMA)
  error = np.sum((np.asarray(estimate) - x0) ** 2, axis=(1, 2, 3))
  want = np.sum(stats.eigenvalues * SIGMA**2 / (stats.eigenvalues + SIGMA**2))
  assert abs(error.mean() - want) < 5 * error.std() / np.sqrt(len(error))


def test_g13_edm_preconditioning_of_nothing(x64, x):
  """With F = 0, c_skip x is the Gaussian denoiser of N(0, sigma_data^2 I)."""
  isotropic = stats_of(np.zeros(D), edm.SIGMA_DATA**2 * np.eye(D))
  for sigma in edm.sigma_grid(4):
    scalings = edm.precondition(sigma)
    np.testing.assert_allclose(denoise(isotropic, x, sigma), scalings.c_skip * x, rtol=F64)
    np.testing.assert_allclose(edm.loss_weight(sigma) * scalings.c_out**2, 1, rtol=F64)
    np.testing.assert_allclose(scalings.c_in**2 * (sigma**2 + edm.SIGMA_DATA**2), 1, rtol=F64)
    # Target of F is (x0 - c_skip (x0 + sigma n)) / c_out, with x0 of variance sigma_data^2 and n of 1.
    signal, noise = (1 - scalings.c_skip) * edm.SIGMA_DATA, scalings.c_skip * sigma
    np.testing.assert_allclose((signal**2 + noise**2) / scalings.c_out**2, 1, rtol=F64)


def test_g14_variance_preserving_form(x64, x):
  images, alpha_bar = images_of(50), 0.4
  mean, covariance = moments(images)
  # E[x0 | z] for z = sqrt(alpha_bar) x0 + sqrt(1 - alpha_bar) n
  joint = alpha_bar * covariance + (1 - alpha_bar) * np.eye(D)
  gain = np.sqrt(alpha_bar) * covariance @ np.linalg.inv(joint)
  want = mean + gain @ (x.ravel() - np.sqrt(alpha_bar) * mean)
  sigma = np.sqrt((1 - alpha_bar) / alpha_bar)
  got = denoise(statistics.gaussian_stats(images), x / np.sqrt(alpha_bar), sigma)
  np.testing.assert_allclose(np.ravel(got), want, rtol=0, atol=F64)


def test_wrong_shape_is_named(x):
  with pytest.raises(ValueError, match="`x` has shape"):
    gaussian.denoise(statistics.gaussian_stats(images_of(5)), x[:1], SIGMA)


def test_jit_vmap_pmap_float32():
  images = images_of(50)
  bound = Partial(gaussian.denoise, statistics.gaussian_stats(images))
  x = np.random.default_rng(1).normal(size=(8, *SHAPE)).astype(np.float32)
  sigma = np.geomspace(0.002, 80, 8).astype(np.float32)
  want = np.array([dense(*moments(images), *pair) for pair in zip(x, sigma, strict=True)])
  single = bound(x[3], sigma[3])
  assert single.dtype == np.float32
  np.testing.assert_allclose(single, want[3], rtol=0, atol=F32)
  batch = jax.jit(jax.vmap(lambda denoise, x, sigma: denoise(x, sigma), (None, 0, 0)))(bound, x, sigma)
  np.testing.assert_allclose(batch, want, rtol=0, atol=F32)
  spread = jax.pmap(lambda denoise, x, sigma: denoise(x, sigma), in_axes=(None, 0, 0))(bound, x, sigma)
  np.testing.assert_allclose(spread, want, rtol=0, atol=F32)
