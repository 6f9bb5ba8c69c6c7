"""What N images do to the Gaussian denoiser: laws against draws of images, in NumPy float64."""

import itertools

import numpy as np
import pytest

from gauss_diffusion.probes import finite_data
from gauss_diffusion.readings import measures
from gauss_diffusion.results import labelled
from gauss_diffusion.types import GaussianStats

SHAPE = (4, 4, 2)
D = 32
F64 = 1e-10  # relative, for chains of small float64 operations
F32 = 1e-4  # of samples, which start at 80 times their size
SIGMAS = (0.1, 0.4, 1.0, 3.0, 20.0)
SPECTRUM = 2.0 * np.arange(1, D + 1) ** -1.2


@pytest.fixture(scope="module")
def stats():
  rng = np.random.default_rng(0)
  basis = np.linalg.qr(rng.normal(size=(D, D)))[0]
  return GaussianStats(rng.normal(size=SHAPE) / 3, basis, SPECTRUM)


def images_of(stats, num, rng):
  """Draw rows [num, D] of N(μ, Σ)."""
  return stats.mean.ravel() + (rng.normal(size=(num, D)) * np.sqrt(stats.eigenvalues)) @ stats.basis.T


def denoiser_of(rows, sigma):
  """``W x + b`` of the rows' own mean and covariance (1/N)."""
  mean, covariance = rows.mean(0), np.cov(rows.T, bias=True)
  weight = np.linalg.solve(covariance + sigma**2 * np.eye(D), covariance).T
  return weight, mean - weight @ mean


def noisy(stats, sigma, count=4):
  rng = np.random.default_rng(7)
  return images_of(stats, count, rng) + sigma * rng.normal(size=(count, D))


def measured(stats, num, sigma, pairs):
  """Return the mean squared distance at `noisy` over pairs of draws, and its standard error."""
  rng, x, apart = np.random.default_rng(num), noisy(stats, sigma), []
  for _ in range(pairs):
    (w, b), (v, c) = (denoiser_of(images_of(stats, num, rng), sigma) for _ in range(2))
    apart.append(np.mean(np.sum((x @ (w - v).T + b - c) ** 2, axis=1)))
  return np.mean(apart), np.std(apart) / np.sqrt(pairs)


def predicted(stats, num, sigma):
  x = noisy(stats, sigma).reshape(-1, *SHAPE)
  return finite_data.halves_distance2(stats, x, sigma, num).mean()


@pytest.mark.parametrize("num", [4, 16, 128])
@pytest.mark.parametrize("sigma", SIGMAS)
def test_distance_of_halves_is_the_measured_one(stats, num, sigma):
  """Within 5 %, of which Monte-Carlo error is a half: the law is asymptotic in N."""
  mean, error = measured(stats, num, sigma, 1000)
  assert error < 0.025 * mean
  np.testing.assert_allclose(mean, predicted(stats, num, sigma), rtol=0.05, atol=2 * error)


def test_distance_to_first_order_for_any_spectrum(stats):
  """As N grows, N times the distance is the sum of three terms at κ = σ², by the delta method."""
  steep = stats._replace(eigenvalues=10.0 ** -np.arange(D))  # one mode has nearly all variance
  sigma, num = 0.5, 10**9
  x = noisy(steep, sigma)[0]
  lam, basis = steep.eigenvalues, steep.basis
  precision = basis / (lam + sigma**2) @ basis.T
  covariance = basis * lam @ basis.T
  z = precision @ (x - steep.mean.ravel())
  # D = x − σ² (Σ + σ²)⁻¹ (x − μ): to first order σ² P (dΣ z + dμ), with Cov(dΣ z) = (zᵀΣz Σ + Σ z zᵀ Σ)/N.
  spread = (1 + z @ covariance @ z) * covariance + np.outer(covariance @ z, covariance @ z)
  want = 2 / num * sigma**4 * np.trace(precision @ spread @ precision)
  got = finite_data.halves_distance2(steep, x.reshape(SHAPE), sigma, num)
  np.testing.assert_allclose(got, want, rtol=1e-8)  # 1/N beside 1


def test_distance_in_its_limits(stats):
  x = noisy(stats, 1.0).reshape(-1, *SHAPE)
  trace = stats.eigenvalues.sum()
  np.testing.assert_allclose(finite_data.halves_distance2(stats, x, 1.0, 1), 2 * trace, rtol=F64)
  # At high noise denoisers are the means of their images.
  np.testing.assert_allclose(finite_data.halves_distance2(stats, x, 1e6, 16), 2 * trace / 16, rtol=1e-6)
  # At low noise with many images both leave x as it is.
  assert finite_data.halves_distance2(stats, x, 1e-5, 1000).max() < 1e-12
  flat = GaussianStats(stats.mean, stats.basis[:, :0], stats.eigenvalues[:0])
  assert not finite_data.halves_distance2(flat, x, 1.0, 5).any()


def test_disjoint_sets_of_a_finite_pool(stats):
  """At high noise the distance is exactly M/(M − 1) times that law, over all pairs of disjoint sets."""
  pool, num, sigma = images_of(stats, 6, np.random.default_rng(3)), 2, 1e5
  _, singular, directions = np.linalg.svd(pool - pool.mean(0), full_matrices=False)
  of_pool = GaussianStats(pool.mean(0).reshape(SHAPE), directions[:5].T, singular[:5] ** 2 / 6)
  apart = []
  for one in itertools.combinations(range(6), num):
    for other in itertools.combinations(sorted(set(range(6)) - set(one)), num):
      (w, b), (v, c) = (denoiser_of(pool[list(chosen)], sigma) for chosen in (one, other))
      apart.append(np.sum(((w - v) @ pool.mean(0) + b - c) ** 2))
  want = finite_data.halves_distance2(of_pool, of_pool.mean, sigma, num)
  np.testing.assert_allclose(np.mean(apart), 6 / 5 * want, rtol=1e-8)  # λ/σ²


def test_distance_is_invariant(stats):
  rng = np.random.default_rng(2)
  x = noisy(stats, 0.4).reshape(-1, *SHAPE)
  plain = finite_data.halves_distance2(stats, x, 0.4, 16)
  assert plain.shape == (4,) and plain.dtype == np.float64
  one = finite_data.halves_distance2(stats, x[2].astype(np.float32), np.float32(0.4), 16)
  np.testing.assert_allclose(one, plain[2], rtol=F32)
  scaled = GaussianStats(3 * stats.mean, stats.basis, 9 * stats.eigenvalues)
  got = finite_data.halves_distance2(scaled, 3 * x, 1.2, 16)
  np.testing.assert_allclose(got, 9 * plain, rtol=F64)
  rotation = np.linalg.qr(rng.normal(size=(D, D)))[0]
  turned = stats._replace(mean=(rotation @ stats.mean.ravel()).reshape(SHAPE), basis=rotation @ stats.basis)
  got = finite_data.halves_distance2(turned, (x.reshape(-1, D) @ rotation.T).reshape(x.shape), 0.4, 16)
  np.testing.assert_allclose(got, plain, rtol=F64)


@pytest.mark.parametrize("num", [2, 10, 33, 100])
def test_redrawn_covariances_are_wishart(stats, num):
  """Mean (1 − 1/N) λ and variance (N − 1)/N² · λ_i λ_j (1 + δ_ij) of each entry, in the eigenbasis."""
  rng, draws = np.random.default_rng(4), 4000
  few = GaussianStats(stats.mean, stats.basis[:, :4], stats.eigenvalues[:4])
  drawn = [finite_data.redraw(few, num, rng) for _ in range(draws)]
  assert drawn[0].basis.shape == (D, min(num - 1, 4)) and np.all(np.diff(drawn[0].eigenvalues) <= 0)
  np.testing.assert_allclose(drawn[0].basis.T @ drawn[0].basis, np.eye(min(num - 1, 4)), atol=F64)
  turned = [few.basis.T @ each.basis for each in drawn]
  entries = np.stack([u * each.eigenvalues @ u.T for u, each in zip(turned, drawn)])
  scale = np.sqrt(np.outer(few.eigenvalues, few.eigenvalues))
  want = (1 - 1 / num) * np.eye(4)
  spread = (num - 1) / num**2 * (1 + np.eye(4))
  five = 5 / np.sqrt(draws)  # standard errors
  assert np.all(np.abs(entries.mean(0) / scale - want) < five * np.sqrt(spread))
  np.testing.assert_allclose(entries.var(0) / scale**2, spread, rtol=five * 4)  # kurtosis up to 15
  shifts = np.stack([(each.mean - few.mean).ravel() @ few.basis for each in drawn])
  np.testing.assert_allclose(shifts.var(0), few.eigenvalues / num, rtol=five * 2)


def test_one_image_redrawn_has_no_covariance(stats):
  drawn = finite_data.redraw(stats, 1, np.random.default_rng(0))
  assert drawn.basis.shape == (D, 0) and drawn.eigenvalues.shape == (0,)
  assert np.abs(drawn.mean - stats.mean).max() > 0.1


def reading(samples):
  found = labelled(
    {"samples": (("denoiser", "sample", "y", "x", "channel"), samples[None])}, {"denoiser": ["network"]}
  )
  return measures.Reading("", {}, {"samples": found}, {})


@pytest.mark.parametrize("num", [12, 200])
def test_samples_of_halves_are_as_far_apart_as_those_of_drawn_images(stats, num):
  noise = np.random.default_rng(5).normal(size=(12, *SHAPE)).astype(np.float32)
  levels, pairs = np.geomspace(80, 0.02, 8), 60
  got = finite_data.halves_samples(stats, noise, levels, num, method="euler", pairs=pairs)
  assert got.shape == (pairs, 12)
  rng, want = np.random.default_rng(6), []
  for _ in range(pairs):
    ends = []
    for rows in (images_of(stats, num, rng), images_of(stats, num, rng)):
      x = 80 * noise.reshape(12, D).astype(np.float64)
      for level, below in zip(levels, [*levels[1:], 0]):
        weight, bias = denoiser_of(rows, level)
        x = x + (below / level - 1) * (x - (x @ weight.T + bias))
      ends.append(reading(x.reshape(12, *SHAPE)))
    want.append(measures.distance(*ends))
  error = np.hypot(np.std(np.mean(got, 1)), np.std(np.mean(want, 1))) / np.sqrt(pairs)
  assert abs(np.mean(got) - np.mean(want)) < 4 * error < 0.1 * np.mean(want)


def test_samples_of_endless_halves_are_the_same(stats):
  noise = np.random.default_rng(5).normal(size=(5, *SHAPE)).astype(np.float32)
  levels = np.geomspace(80, 0.02, 8)
  exact, euler = (
    finite_data.halves_samples(stats, noise, levels, 10**10, method=method, pairs=1, seed=3)
    for method in ("exact", "euler")
  )
  assert exact.max() < F32 and euler.max() < F32 and (exact != euler).any()
  apart = [
    finite_data.halves_samples(stats, noise, levels, 20, method="heun", pairs=2, seed=s) for s in (0, 0, 1)
  ]
  np.testing.assert_array_equal(apart[0], apart[1])
  assert (apart[0] != apart[2]).all() and (apart[0][0] != apart[0][1]).all()


def test_what_cannot_be_is_refused(stats):
  x, noise = np.zeros(SHAPE), np.zeros((2, *SHAPE), np.float32)
  with pytest.raises(ValueError, match="^`sigma` is 0.0; want a noise level > 0"):
    finite_data.halves_distance2(stats, x, 0.0, 5)
  with pytest.raises(ValueError, match="^`num` is 0; want at least 1"):
    finite_data.halves_distance2(stats, x, 1.0, 0)
  with pytest.raises(ValueError, match="^`num` is 0; want at least 1"):
    finite_data.redraw(stats, 0, np.random.default_rng(0))
  with pytest.raises(ValueError, match="^`x` has shape"):
    finite_data.halves_distance2(stats, np.zeros((4, 2, 4)), 1.0, 5)
  for changes, named in (
    ({"pairs": 0}, "pairs"),
    ({"noise": noise[:1]}, "noise"),
    ({"method": "rk4"}, "method"),
  ):
    asked = {"noise": noise, "sigmas": [1.0], "num": 5, "method": "euler", "pairs": 1} | changes
    with pytest.raises(ValueError, match=f"^`{named}`"):
      finite_data.halves_samples(stats, **asked)
