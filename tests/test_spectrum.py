"""Weights of affine maps against the Gaussian denoiser's, where the answer is known (D6, D8)."""

import numpy as np
import pytest
import scipy.linalg
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
  assert spectrum.weight_gap2(np.eye(D), -np.eye(D), none, SIGMA) == -np.inf
  assert spectrum.weight_gap2(np.zeros((D, D)), np.eye(D), none, SIGMA) == 0


def test_asymmetry():
  noise = np.random.default_rng(0).normal(size=(D, D))
  assert spectrum.asymmetry(noise + noise.T) == spectrum.asymmetry(np.zeros((D, D))) == 0
  assert spectrum.asymmetry(noise - noise.T) == pytest.approx(2, abs=F64)
  # Symmetric and antisymmetric parts are orthogonal.
  turned = 3 * np.eye(2) + np.array([[0, -1], [1, 0]])
  assert spectrum.asymmetry(turned) == pytest.approx(2 * np.sqrt(2 / 20), abs=F64)


def fits(num, weight, size, seed=0):
  """Yield pairs of fits of a map, with errors like those of least squares on inputs of unequal variance."""
  rng = np.random.default_rng(seed)
  scale = size * np.geomspace(0.3, 3, D)
  for _ in range(num):
    yield tuple(weight + rng.normal(size=(2, D, D)) * scale)


@pytest.mark.parametrize("away", [0.0, 0.1])
def test_two_fits_estimate_the_squared_gap_without_bias(away):
  gaussian = gaussian_weight(DISTINCT, SIGMA)
  offset = np.random.default_rng(5).normal(size=(D, D))
  offset *= away * np.linalg.norm(gaussian) / np.linalg.norm(offset)
  found = np.array(
    [
      (spectrum.weight_gap2(one, two, DISTINCT, SIGMA), spectrum.weight_noise2(one, two, DISTINCT, SIGMA))
      for one, two in fits(4000, gaussian + offset, 0.05)
    ]
  )
  noise = D * np.sum((0.05 * np.geomspace(0.3, 3, D)) ** 2) / np.linalg.norm(gaussian) ** 2
  error = found.std(axis=0) / np.sqrt(len(found))
  # Five standard errors: of the estimate, and of the noise of a mean of two fits.
  assert np.all(np.abs(found.mean(axis=0) - [away**2, noise / 2]) < 5 * error)
  assert noise > 50 * error[0]  # the square of one fit, whose bias this is, would be seen
  assert (found[:, 0] < 0).any()


def test_gap_and_noise_add_up_to_the_gap_of_the_mean():
  for one, two in fits(3, gaussian_weight(LOW_RANK, SIGMA), 0.1):
    parts = spectrum.weight_gap2(one, two, LOW_RANK, SIGMA) + spectrum.weight_noise2(
      one, two, LOW_RANK, SIGMA
    )
    assert parts == pytest.approx(spectrum.weight_gap((one + two) / 2, LOW_RANK, SIGMA) ** 2, rel=F64)


def test_operator_norm():
  noise = np.random.default_rng(0).normal(size=(D, D))
  assert spectrum.operator_norm(noise) == pytest.approx(np.linalg.svd(noise)[1][0], rel=F64)
  assert spectrum.operator_norm(np.zeros((D, D))) == 0


def test_left_vectors_are_those_of_the_singular_values():
  noise = np.random.default_rng(0).normal(size=(D, D))
  cosines = np.sum(spectrum.left_vectors(-3 * noise) * np.linalg.svd(noise)[0], axis=0)
  np.testing.assert_allclose(np.abs(cosines), 1, atol=1e-8)  # gaps between squares of singular values


@pytest.mark.parametrize("weight", [np.eye(64), 0.7 * np.eye(64), np.zeros((64, 64)), np.ones((64, 64))])
def test_isotropic_maps_have_orthonormal_vectors(weight):
  left = spectrum.left_vectors(weight)
  np.testing.assert_allclose(left.T @ left, np.eye(64), atol=F64)
  assert 0 <= spectrum.shared_energy(left[:, :8], np.eye(64)[:, :8]) <= 1


def test_shared_energy_is_the_mean_squared_cosine_of_principal_angles():
  rng = np.random.default_rng(1)
  one, two = (np.linalg.qr(rng.normal(size=(D, 4)))[0] for _ in range(2))
  expected = np.mean(np.cos(scipy.linalg.subspace_angles(one, two)) ** 2)
  assert spectrum.shared_energy(one, two) == pytest.approx(expected, rel=1e-7)  # of arccos
  turn = scipy.stats.ortho_group.rvs(4, random_state=2)
  assert spectrum.shared_energy(one @ turn, two[:, ::-1]) == pytest.approx(expected, rel=1e-7)
  assert spectrum.shared_energy(one, one @ turn) == pytest.approx(1, rel=F64)
  assert spectrum.shared_energy(np.eye(D)[:, :4], np.eye(D)[:, 4:8]) == 0


def test_random_subspaces_share_k_of_d():
  rng = np.random.default_rng(2)
  found = [
    spectrum.shared_energy(np.linalg.qr(rng.normal(size=(D, 3)))[0], np.eye(D)[:, :3]) for _ in range(900)
  ]
  assert np.mean(found) == pytest.approx(3 / D, abs=5 * np.std(found) / 30)


def test_jitter_of_gains_costs_little_of_the_leading_subspaces():
  """Principal components in a slightly other order: one by one they're wrong, as subspaces they're right."""
  stats = statistics(np.arange(1, D + 1)[::-1] ** 2.0)
  jitter = 1 + 0.07 * np.random.default_rng(3).normal(size=D)
  gains = spectrum.gaussian_gains(stats, 8.0) * jitter
  weight = stats.basis * gains @ stats.basis.T
  assert spectrum.weight_gap(weight, stats, 8.0) < 0.13
  left = spectrum.left_vectors(weight)
  assert np.sum(np.abs(np.sum(left * stats.basis, axis=0)) < 0.5) >= 2  # a swap
  for k in range(1, D + 1):
    assert spectrum.shared_energy(left[:, :k], stats.basis[:, :k]) > 1 - 1.01 / k


def test_noise_turns_the_mean_map_a_quarter_as_far_as_the_fits_from_each_other():
  weight, missing = gaussian_weight(DISTINCT, SIGMA), []
  for one, two in fits(1000, weight, 2e-3):
    mean, first, second = (spectrum.left_vectors(each)[:, :2] for each in ((one + two) / 2, one, two))
    missing.append(
      (1 - spectrum.shared_energy(mean, DISTINCT.basis[:, :2]), 1 - spectrum.shared_energy(first, second))
    )
  mean, between = np.mean(missing, axis=0)
  # To first order in the noise; five standard errors of a ratio of 1000.
  error = np.std([one / two for one, two in missing]) / np.sqrt(1000)
  assert mean / between == pytest.approx(1 / 4, abs=5 * error) and error < 0.01


def test_clusters_are_what_a_perturbation_can_mix():
  gains = spectrum.gaussian_gains(LOW_RANK, SIGMA)  # 0.86, 0.67, 0.51, 0.17, and eight of 0
  np.testing.assert_allclose(gains, [0.860, 0.671, 0.505, 0.169], atol=1e-3)
  for perturbation, sizes in (
    (0.0, [1, 1, 1, 1, 8]),
    (0.168, [1, 2, 1, 8]),
    (0.17, [1, 2, 9]),
    (0.2, [3, 9]),
    (1.0, [12]),
  ):
    found = spectrum.clusters(LOW_RANK, SIGMA, perturbation)
    np.testing.assert_array_equal(found, np.repeat(np.arange(len(sizes)), sizes))
  # Equal eigenvalues are one cluster, equal up to rounding too.
  equal = statistics([2.0, 1.0, 1 - 1e-15, 0.5])
  np.testing.assert_array_equal(spectrum.clusters(equal, SIGMA, 0.0)[:5], [0, 1, 1, 2, 3])
  np.testing.assert_array_equal(spectrum.clusters(statistics([]), SIGMA, 0.0), np.zeros(D))


def test_a_cluster_is_compared_as_a_whole():
  stats = statistics([3.0, 1.0, 1.0, 1.0, 0.2, 0.1])
  spin = np.eye(6)
  spin[1:4, 1:4] = scipy.stats.ortho_group.rvs(3, random_state=3)
  basis = stats.basis @ spin
  weight = basis * np.array([0.9, 0.7, 0.6, 0.5, 0.2, 0.1]) @ basis.T
  left, cluster = spectrum.left_vectors(weight), spectrum.clusters(stats, SIGMA, 1e-3)
  np.testing.assert_allclose(spectrum.cluster_energy(left, stats, cluster), 1, atol=F64)
  alone = spectrum.cluster_energy(left, stats, np.minimum(np.arange(D), 6))
  np.testing.assert_allclose(alone[1:4], np.diag(spin[1:4, 1:4]) ** 2, atol=F64)
  # A turn by an angle between two clusters of one and three, and between the null space and the last.
  for i, j, share in ((0, 1, [1, 1 / 3]), (5, 6, [1, 1 / 6])):
    turn, whole = np.eye(D), np.hstack([stats.basis, scipy.linalg.null_space(stats.basis.T)])
    turn[[i, i, j, j], [i, j, i, j]] = [np.cos(0.4), -np.sin(0.4), np.sin(0.4), np.cos(0.4)]
    energy = spectrum.cluster_energy(whole @ turn, stats, cluster)
    expected = np.ones(D)
    for at, size in zip((i, j), share):
      expected[cluster == cluster[at]] = 1 - size * np.sin(0.4) ** 2
    np.testing.assert_allclose(energy, expected, atol=F64)


def test_where_noise_can_mix_all_of_them_nothing_is_said():
  weight = np.eye(D) + 1e-3 * np.random.default_rng(0).normal(size=(D, D))
  cluster = spectrum.clusters(DISTINCT, 1e-4, spectrum.operator_norm(weight - np.eye(D)))
  np.testing.assert_array_equal(spectrum.cluster_energy(spectrum.left_vectors(weight), DISTINCT, cluster), 1)


@pytest.mark.parametrize("size", [1e-3, 1e-2, 5e-2])
def test_davis_kahan(size):  # D8
  """For a symmetric perturbation, the leading cluster turns by at most 2 ‖W - W_G‖_F/gap."""
  stats = statistics([3.0, 3.0, 3.0, 0.2, 0.1])
  rng, gaussian = np.random.default_rng(0), gaussian_weight(stats, SIGMA)
  gains = spectrum.gaussian_gains(stats, SIGMA)
  for _ in range(20):
    noise = rng.normal(size=(D, D))
    weight = gaussian + size * (noise + noise.T)
    left = spectrum.left_vectors(weight)
    found = spectrum.shared_energy(left[:, :3], stats.basis[:, :3])
    turned = np.sqrt(2 * 3 * (1 - found))  # ‖P_L - P_G‖_F
    assert 0 < turned <= 2 * np.linalg.norm(weight - gaussian) / (gains[2] - gains[3])
    # The leading three are a cluster as long as the perturbation is smaller than the gap behind them.
    cluster = spectrum.clusters(stats, SIGMA, spectrum.operator_norm(weight - gaussian))
    if cluster[3] == 1:
      assert spectrum.cluster_energy(left, stats, cluster)[0] == pytest.approx(found, abs=F64)


@pytest.mark.parametrize(
  "call, named",
  [
    (lambda: spectrum.gaussian_gains(DISTINCT, 0.0), "sigma"),
    (lambda: spectrum.weight_gap(np.eye(D), DISTINCT, -1.0), "sigma"),
    (lambda: spectrum.weight_gap(np.eye(D + 1), DISTINCT, 1.0), "weight"),
    (lambda: spectrum.weight_gap(np.full((D, D), np.nan), DISTINCT, 1.0), "weight"),
    (lambda: spectrum.weight_gap2(np.eye(D + 1), np.eye(D + 1), DISTINCT, 1.0), "weight"),
    (lambda: spectrum.weight_noise2(np.full((D, D), np.inf), np.eye(D), DISTINCT, 1.0), "weight"),
    (lambda: spectrum.clusters(DISTINCT, 0.0, 1.0), "sigma"),
  ],
)
def test_refuses(call, named):
  with pytest.raises(ValueError, match=f"^`{named}`"):
    call()
