"""Images that are Gaussian: their moments, and that each stream of draws is one of its own."""

import numpy as np
import pytest

from gauss_diffusion import data, images, statistics
from gauss_diffusion.study import schema, subjects, surrogate
from gauss_diffusion.types import GaussianStats


@pytest.fixture(scope="module")
def dataset():
  return data.load("digits", held_out=360, seed=0)


@pytest.fixture(scope="module")
def stats(dataset):
  return statistics.gaussian_stats(dataset.pool)


def test_one_draw_is_the_mean_and_a_sum_of_components(stats):
  found = surrogate.draw(stats, 3, 7)
  z = np.random.default_rng(7).standard_normal((3, len(stats.eigenvalues)), np.float32).astype(np.float64)
  want = (
    np.einsum("dk,k,nk->nd", stats.basis, np.sqrt(stats.eigenvalues), z).reshape(found.shape) + stats.mean
  )
  # float32 sums of 64 terms of order 1.
  np.testing.assert_allclose(found, want, atol=64 * np.finfo(np.float32).eps)
  assert found.dtype == np.float32 and found.shape == (3, 8, 8, 1)


def test_draws_have_the_moments_of_the_images(stats):
  num = 2**15
  draws = surrogate.draw(stats, num, 0).reshape(num, -1).astype(np.float64)
  z = (draws - stats.mean.ravel()) @ stats.basis
  scale = np.sqrt(np.where(stats.eigenvalues > 0, stats.eigenvalues, 1))
  z = (z / scale)[:, stats.eigenvalues > 1e-3 * stats.eigenvalues.max()]
  # Five standard errors of means, variances and correlations of independent standard normals.
  assert abs(z.mean(0)).max() < 5 / np.sqrt(num)
  assert abs((z.T @ z) / num - np.eye(z.shape[1])).max() < 5 * np.sqrt(2 / num)
  # A normal's fourth moment is 3, of standard error √(96/n); that of digits' pixels is not.
  assert abs((z**4).mean(0) - 3).max() < 6 * np.sqrt(96 / num)


def test_draws_keep_to_the_span_of_the_images(dataset):
  few = statistics.gaussian_stats(dataset.pool[:5])
  draws = surrogate.draw(few, 50, 0).reshape(50, -1) - few.mean.ravel()
  assert np.linalg.matrix_rank(draws, tol=1e-4) == 4


def test_a_single_image_gives_itself(dataset):
  one = statistics.gaussian_stats(dataset.pool[:1])
  want = np.broadcast_to(images.to_float(dataset.pool[:1]), (4, 8, 8, 1))
  np.testing.assert_allclose(surrogate.draw(one, 4, 0), want, atol=1e-6)


def test_the_seed_decides_and_more_draws_begin_alike(stats):
  few, many, other = (surrogate.draw(stats, *each) for each in ((5, 1), (9, 1), (5, 2)))
  np.testing.assert_allclose(few, many[:5], atol=1e-6)  # sums of a matrix product may be ordered otherwise
  np.testing.assert_array_equal(few, surrogate.draw(stats, 5, 1))
  assert abs(few - other).max() > 0.1


def test_draws_are_not_clipped_and_pass_the_edge_as_they_are():
  wide = GaussianStats(np.zeros((1, 1, 1)), np.array([100.0]), np.eye(1))
  draws = surrogate.draw(wide, 100, 0)
  assert abs(draws).max() > 10
  np.testing.assert_array_equal(images.to_float(draws), draws)


def test_training_images_and_held_out_ones_are_other_draws_for_every_network(dataset, tmp_path):
  config = schema.default()
  for part in (0, 1):
    schema.add_model(config, f"part{part}", 16, part, title=f"part {part}")
  config.claims, config.controls, config.replicates = ("nearest to gaussian",), ("surrogate",), 2
  models = subjects.models(config, dataset, tmp_path)
  streams = []
  for model in models:
    seen = subjects.training_images(model, tmp_path), subjects.held_out_images(model, dataset, tmp_path)
    if model.entry.surrogate:
      assert len(seen[0]) == surrogate.DRAWS and len(seen[1]) == len(dataset.held_out)
      streams += [np.round(draws[:9], 4).tobytes() for draws in seen]
    else:
      np.testing.assert_array_equal(seen[0], model.subset.images)
      np.testing.assert_array_equal(seen[1], dataset.held_out)
  assert len(streams) == 8 == len(set(streams))
