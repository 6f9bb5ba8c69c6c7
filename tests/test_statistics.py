"""Statistics against integer and float64 NumPy references."""

import tracemalloc

import numpy as np
import pytest

from gauss_diffusion import statistics

F64 = 1e-12  # rounding of a few thousand float64 operations on numbers of order one


def random_images(count, shape=(4, 4, 3), seed=0):
  rng = np.random.default_rng(seed)
  smooth = rng.normal(size=(count, 5)) @ rng.normal(size=(5, np.prod(shape)))
  noisy = 128 + 25 * smooth + 10 * rng.normal(size=smooth.shape)
  return noisy.clip(0, 255).astype(np.uint8).reshape(count, *shape)


def reference(images):
  """Mean and covariance (1/N) in float64, from the definition."""
  rows = images.reshape(len(images), -1).astype(float)
  rows = rows / 127.5 - 1 if images.dtype == np.uint8 else rows
  centred = rows - rows.mean(axis=0)
  return rows.mean(axis=0), centred.T @ centred / len(rows)


@pytest.mark.parametrize("count", [2, 20, 48, 49, 2500])  # D is 48: sample space, edge, pixel space, 3 chunks
def test_covariance_and_basis(count):
  images = random_images(count)
  mean, covariance = reference(images)
  stats = statistics.gaussian_stats(images)
  scale = stats.eigenvalues[0]
  assert all(leaf.dtype == np.float64 for leaf in stats)
  np.testing.assert_allclose(stats.mean.ravel(), mean, rtol=0, atol=F64)
  rebuilt = stats.basis * stats.eigenvalues @ stats.basis.T
  np.testing.assert_allclose(rebuilt, covariance, rtol=0, atol=F64 * scale)
  np.testing.assert_allclose(stats.basis.T @ stats.basis, np.eye(len(stats.eigenvalues)), rtol=0, atol=F64)
  assert len(stats.eigenvalues) == min(count - 1, 48)
  assert np.all(np.diff(stats.eigenvalues) <= 0) and stats.eigenvalues[-1] > 0


@pytest.mark.parametrize("offset", [0.0, 3000.0])  # of the mean, in standard deviations
@pytest.mark.parametrize("count", [2, 48, 49, 2500])  # sample space, edge, pixel space, 3 chunks
def test_floats_of_any_range(count, offset):
  rng = np.random.default_rng(3)
  spread = np.geomspace(10, 1e-2, 80)  # of a spectrum over six orders of magnitude
  images = (offset + rng.normal(size=(count, 80)) * spread).astype(np.float32).reshape(count, 4, 4, 5)
  rows = images.reshape(count, -1).astype(np.float64)
  mean = np.array([float(np.longdouble(column).mean()) for column in rows.T.astype(np.longdouble)])
  centred = rows - mean
  covariance = centred.T @ centred / count
  stats = statistics.gaussian_stats(images)
  assert all(leaf.dtype == np.float64 for leaf in stats) and stats.basis.shape == (80, min(count - 1, 80))
  np.testing.assert_allclose(stats.mean.ravel(), mean, rtol=F64)
  rebuilt = stats.basis * stats.eigenvalues @ stats.basis.T
  np.testing.assert_allclose(rebuilt, covariance, rtol=0, atol=F64 * stats.eigenvalues[0])
  identity = np.eye(len(stats.eigenvalues))
  np.testing.assert_allclose(stats.basis.T @ stats.basis, identity, rtol=0, atol=F64)


@pytest.mark.parametrize("count", [1, 3, 100])
def test_floats_without_variance_are_rank_zero(count):
  images = np.full((count, 4, 4, 3), 0.1, np.float32)
  stats = statistics.gaussian_stats(images)
  assert stats.basis.shape == (48, 0) and np.all(stats.mean == images[0])


def test_floats_vary_where_they_do():
  images = np.random.default_rng(4).normal(size=(200, 4, 4, 3)).astype(np.float32)
  images[:, 0] = 0.1  # constant values
  assert statistics.gaussian_stats(images).basis.shape == (48, 36)


@pytest.mark.parametrize("pixels", [40, 2 * statistics.STRIP + 40])
def test_second_moment_is_exact(pixels):
  rng = np.random.default_rng(0)
  rows = rng.choice(np.array([0, 1, 2, 255], np.uint8), size=(2100, pixels))
  rows[:, 0] = 0  # the largest product, (-128)^2, in every row: a full chunk sums to 2^24
  centred = rows.astype(np.int64) - 128
  total, moment = statistics._sums(rows)
  want = centred.astype(float).T @ centred.astype(float)  # whole numbers below 2^53
  assert np.array_equal(moment, want) and np.array_equal(total, centred.sum(axis=0))
  assert np.array_equal(statistics._sums(rows, np.float64(128))[1], want)


def test_pixel_and_sample_space_agree():
  images = random_images(40)
  rows = images.reshape(40, -1)
  mean, *primal = statistics._primal(rows)
  np.testing.assert_array_equal(mean, rows.mean(axis=0))
  for one, other in zip(primal, statistics._dual(rows, mean), strict=True):
    # Eigenvectors are equal up to sign, to rounding over the relative gap of this spectrum.
    np.testing.assert_allclose(np.abs(one), np.abs(other), rtol=0, atol=1e-8)


@pytest.mark.parametrize("count, shape", [(100, (20, 20, 3)), (2500, (4, 4, 3))])  # several blocks each
def test_mapped_images_are_those_in_memory(tmp_path, count, shape):
  images = random_images(count, shape)
  np.save(tmp_path / "images.npy", images)
  mapped = statistics.gaussian_stats(np.load(tmp_path / "images.npy", mmap_mode="r"))
  for one, other in zip(mapped, statistics.gaussian_stats(images), strict=True):
    np.testing.assert_array_equal(one, other)


def test_memory_does_not_grow_with_the_images(tmp_path):
  peaks = []
  for count in (3000, 48_000):
    np.save(tmp_path / "images.npy", random_images(count))
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    statistics.gaussian_stats(mapped)  # compiles
    tracemalloc.start()
    statistics.gaussian_stats(mapped)
    peaks.append(tracemalloc.get_traced_memory()[1])
    tracemalloc.stop()
  chunk = 4 * statistics.EXACT_ROWS * mapped[0].size  # that an ended product may still hold
  assert peaks[1] < peaks[0] + chunk + 2**16 < peaks[0] + mapped.nbytes // 8


@pytest.mark.parametrize("tiles", [1, 40])  # sample space, pixel space
@pytest.mark.parametrize("kind", [np.uint8, np.float32])
def test_rank_counts_only_what_varies(tiles, kind):
  few = random_images(4)
  few[:, 0] = 7  # constant pixels
  tiled = np.tile(few, (tiles, 1, 1, 1))
  stats = statistics.gaussian_stats(tiled if kind is np.uint8 else (tiled / 127.5 - 1).astype(kind))
  _, covariance = reference(few if kind is np.uint8 else (few / 127.5 - 1).astype(kind))
  assert stats.basis.shape == (48, 3)
  np.testing.assert_allclose(stats.basis * stats.eigenvalues @ stats.basis.T, covariance, rtol=0, atol=F64)


@pytest.mark.parametrize("images", [random_images(1), np.full((100, 4, 4, 3), 9, np.uint8)])
def test_no_variance_is_rank_zero(images):
  stats = statistics.gaussian_stats(images)
  assert stats.basis.shape == (48, 0) and stats.eigenvalues.shape == (0,)
  np.testing.assert_allclose(stats.mean, images[0] / 127.5 - 1, rtol=0, atol=F64)


@pytest.mark.parametrize(
  "images", [np.zeros((3, 4, 4, 1)), np.zeros((3, 4, 4), np.uint8), np.zeros((0, 4, 4, 1), np.uint8)]
)
def test_wrong_images_are_named(images):
  with pytest.raises(ValueError, match="`images`.*want uint8"):
    statistics.gaussian_stats(images)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_floats_that_are_not_finite_are_named(value):
  images = np.zeros((3, 4, 4, 1), np.float32)
  images[2, 1, 1] = value
  with pytest.raises(ValueError, match="`images` hold NaN or infinity"):
    statistics.gaussian_stats(images)
