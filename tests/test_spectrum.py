"""Weights of affine maps against the Gaussian denoiser's, where the answer is known (D6, D8)."""

import numpy as np
import pytest
import scipy.stats

from gauss_diffusion.probes import spectrum
from gauss_diffusion.types import GaussianStats

SHAPE = (3, 2, 2)
D = 12
SIGMA = 0.7
F64 = 1e-10


def statistics(eigenvalues, seed=0):
  basis = scipy.stats.ortho_group.rvs(D, random_state=seed)[:, : len(eigenvalues)]
  return GaussianStats(np.zeros(SHAPE), basis, np.asarray(eigenvalues, float))


def gaussian_weight(stats, sigma):
  covariance = stats.basis * stats.eigenvalues @ stats.basis.T
  return covariance @ np.linalg.inv(covariance + sigma**2 * np.eye(D))


DISTINCT = statistics(2.0 ** -np.arange(D))
LOW_RANK = statistics([3.0, 1.0, 0.5, 0.1])


def test_gaussian_gains():
  expected = np.linalg.eigvalsh(gaussian_weight(DISTINCT, SIGMA))[::-1]
  np.testing.assert_allclose(spectrum.gaussian_gains(DISTINCT, SIGMA), expected, rtol=F64)
  float32 = DISTINCT._replace(eigenvalues=np.float32(DISTINCT.eigenvalues))
  assert spectrum.gaussian_gains(float32, SIGMA).dtype == np.float64


@pytest.mark.parametrize("stats", [DISTINCT, LOW_RANK])
@pytest.mark.parametrize("sigma", [0.002, 0.7, 80.0])
def test_weight_gap_ends(stats, sigma):  # D6
  weight = gaussian_weight(stats, sigma)
  assert spectrum.weight_gap(weight, stats, sigma) < 1e-8  # the reference inverts Σ + σ² I
  assert spectrum.weight_gap(np.zeros((D, D)), stats, sigma) == pytest.approx(1, abs=F64)
  noise = np.random.default_rng(0).normal(size=(D, D))
  expected = np.linalg.norm(noise) / np.linalg.norm(weight)
  assert spectrum.weight_gap(weight + noise, stats, sigma) == pytest.approx(expected, rel=1e-8)


def test_weight_gap_of_no_covariance():
  none = statistics([])
  assert spectrum.weight_gap(np.zeros((D, D)), none, SIGMA) == 0
  assert spectrum.weight_gap(np.eye(D), none, SIGMA) == np.inf
  np.testing.assert_allclose(spectrum.singular_correlation(np.eye(D), none, SIGMA, 3), 1, atol=F64)


def test_asymmetry():
  noise = np.random.default_rng(0).normal(size=(D, D))
  assert spectrum.asymmetry(noise + noise.T) == spectrum.asymmetry(np.zeros((D, D))) == 0
  assert spectrum.asymmetry(noise - noise.T) == pytest.approx(2, abs=F64)
  # Symmetric and antisymmetric parts are orthogonal.
  turned = 3 * np.eye(2) + np.array([[0, -1], [1, 0]])
  assert spectrum.asymmetry(turned) == pytest.approx(2 * np.sqrt(2 / 20), abs=F64)


@pytest.mark.parametrize("stats", [DISTINCT, LOW_RANK])
def test_own_vectors_correlate_fully(stats):
  np.testing.assert_allclose(
    spectrum.singular_correlation(gaussian_weight(stats, SIGMA), stats, SIGMA, D), 1, atol=1e-6
  )


def test_rotation_in_a_plane_gives_its_cosine():
  basis, gains = DISTINCT.basis, spectrum.gaussian_gains(DISTINCT, SIGMA)
  angle = 0.4
  turn = np.eye(D)
  turn[1:3, 1:3] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
  weight = (basis @ turn) * gains @ (basis @ turn).T
  expected = np.ones(5)
  expected[1:3] = np.cos(angle)
  np.testing.assert_allclose(spectrum.singular_correlation(weight, DISTINCT, SIGMA, 5), expected, atol=F64)
  # Only left singular vectors count, without their sign, at any scale.
  other = -3 * weight @ scipy.stats.ortho_group.rvs(D, random_state=1)
  np.testing.assert_allclose(spectrum.singular_correlation(other, DISTINCT, SIGMA, 5), expected, atol=F64)
  # The same eigenvalues within one cluster are the same subspace.
  clustered = spectrum.singular_correlation(weight, DISTINCT, SIGMA, 5, tolerance=0.999)
  np.testing.assert_allclose(clustered, 1, atol=F64)


def test_rotated_clusters_score_one():
  stats = statistics([4.0, 1.0, 1.0, 1.0, 0.2, 0.1])
  spin = np.eye(6)
  spin[1:4, 1:4] = scipy.stats.ortho_group.rvs(3, random_state=3)
  spun = stats._replace(basis=stats.basis @ spin)
  # Unequal gains, so that the three vectors of `weight` are well defined, and not those of `stats`.
  weight = spun.basis * np.array([0.9, 0.7, 0.6, 0.5, 0.2, 0.1]) @ spun.basis.T
  np.testing.assert_allclose(spectrum.singular_correlation(weight, stats, SIGMA, 6), 1, atol=F64)
  assert np.min(np.abs(np.diag(spin[1:4, 1:4]))) < 0.9  # one by one they do differ
  # A cluster is whole even where k cuts through it.
  np.testing.assert_allclose(spectrum.singular_correlation(weight, stats, SIGMA, 2), 1, atol=F64)


def test_orthogonal_order_scores_zero():
  weight = LOW_RANK.basis * np.array([0.1, 0.2, 0.3, 0.4]) @ LOW_RANK.basis.T
  np.testing.assert_allclose(spectrum.singular_correlation(weight, LOW_RANK, SIGMA, 4), 0, atol=F64)


@pytest.mark.parametrize("size", [1e-3, 1e-2, 5e-2])
def test_davis_kahan(size):  # D8
  """For a symmetric perturbation, the leading cluster turns by at most 2 ‖W - W_G‖_F/gap."""
  stats = statistics([3.0, 3.0, 3.0, 0.2, 0.1])
  rng, gaussian = np.random.default_rng(0), gaussian_weight(stats, SIGMA)
  gains = spectrum.gaussian_gains(stats, SIGMA)
  for _ in range(20):
    noise = rng.normal(size=(D, D))
    weight = gaussian + size * (noise + noise.T)
    found = spectrum.singular_correlation(weight, stats, SIGMA, 3)
    turned = np.sqrt(2 * (3 - np.sum(found**2)))  # ‖P_L - P_G‖_F
    assert 0 < turned <= 2 * np.linalg.norm(weight - gaussian) / (gains[2] - gains[3])


@pytest.mark.parametrize(
  "call, named",
  [
    (lambda: spectrum.gaussian_gains(DISTINCT, 0.0), "sigma"),
    (lambda: spectrum.weight_gap(np.eye(D), DISTINCT, -1.0), "sigma"),
    (lambda: spectrum.weight_gap(np.eye(D + 1), DISTINCT, 1.0), "weight"),
    (lambda: spectrum.weight_gap(np.full((D, D), np.nan), DISTINCT, 1.0), "weight"),
    (lambda: spectrum.singular_correlation(np.eye(D), DISTINCT, 1.0, 0), "k"),
    (lambda: spectrum.singular_correlation(np.eye(D), DISTINCT, 1.0, D + 1), "k"),
  ],
)
def test_refuses(call, named):
  with pytest.raises(ValueError, match=f"^`{named}`"):
    call()
