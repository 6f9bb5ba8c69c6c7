"""Gaps between denoisers: definitions, metric properties Q3 to Q5, and the low-noise floor."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from gauss_diffusion.probes import score_gap
from gauss_diffusion.types import GaussianStats

SHAPE = (3, 2, 2)
D = 12
F64 = 1e-10
F32 = 1e-6  # float32 rounding of a mean of a dozen squares


def wiener(stats, x, sigma):
  gains = stats.eigenvalues / (stats.eigenvalues + sigma**2)
  modes = jnp.matmul((x - stats.mean).ravel(), stats.basis, precision="highest")
  return stats.mean + jnp.matmul(stats.basis, gains * modes, precision="highest").reshape(x.shape)


def scaled(scale, x, sigma):
  return scale * x


def statistics(num):
  """Mean and eigenbasis of `num` random images, by NumPy's SVD, and the images."""
  images = np.random.default_rng(0).normal(size=(num, D)) / 3
  _, singular, basis = np.linalg.svd(images - images.mean(0), full_matrices=False)
  rank = min(num - 1, D)
  mean = images.mean(0).reshape(SHAPE)
  return GaussianStats(mean, basis[:rank].T, singular[:rank] ** 2 / num), images.reshape(num, *SHAPE)


def draw(*shape, seed=0):
  return np.random.default_rng(seed).normal(size=shape)


def test_closed_form(x64):
  d1, d2 = draw(2, *SHAPE)
  np.testing.assert_allclose(score_gap.rmse(d1, d2), np.sqrt(np.sum((d1 - d2) ** 2) / D), rtol=F64)
  np.testing.assert_allclose(
    score_gap.nmse(d1, d2), np.sqrt(np.sum((d1 - d2) ** 2) / np.sum(d1**2)), rtol=F64
  )
  x = draw(*SHAPE, seed=1)
  found = jax.jit(score_gap.gaps)(Partial(scaled, 0.5), Partial(scaled, -1.0), x, 2.0)
  np.testing.assert_allclose(found, [1.5 * np.linalg.norm(x) / np.sqrt(D), 3.0], rtol=F64)


def test_score_difference_times_sigma_squared(x64):
  """The gap of the scores (D - x)/σ² is that of the denoisers, over σ²."""
  x, d1, d2 = draw(3, *SHAPE)
  in_score = score_gap.rmse((d1 - x) / 0.3**2, (d2 - x) / 0.3**2)
  np.testing.assert_allclose(0.3**2 * in_score, score_gap.rmse(d1, d2), rtol=F64)


def test_symmetry_and_zero(x64):  # Q3
  d1, d2 = draw(2, *SHAPE)
  assert score_gap.rmse(d1, d2) == score_gap.rmse(d2, d1)
  assert score_gap.nmse(d1, d2) != score_gap.nmse(d2, d1)
  assert score_gap.nmse(d1, d1) == score_gap.rmse(d1, d1) == 0
  assert score_gap.nmse(0 * d1, 0 * d1) == 0
  assert score_gap.nmse(0 * d1, d2) == np.inf


def test_mean_of_roots_is_below_root_of_mean(x64):  # Q4
  d1, d2 = draw(2, 50, *SHAPE)
  gaps = score_gap.rmse(d1, d2)
  assert gaps.shape == (50,)
  np.testing.assert_allclose(np.mean(gaps**2), np.mean((d1 - d2) ** 2), rtol=F64)
  assert np.mean(gaps) ** 2 < np.mean((d1 - d2) ** 2)
  constant = score_gap.rmse(d1, d1 + 0.3)
  np.testing.assert_allclose(np.mean(constant) ** 2, 0.09, rtol=F64)


@pytest.mark.parametrize("num", [1, 2, 5, 40])
def test_floor_is_the_gap_to_the_identity(x64, num):  # Q5
  stats, images = statistics(num)
  x = draw(7, *SHAPE, seed=1)
  floor = score_gap.low_noise_floor(stats, x)
  assert floor.shape == (7,)
  over = jax.vmap(score_gap.gaps, (None, None, 0, None))
  gap = over(Partial(wiener, stats), Partial(scaled, 1.0), x, 1e-8)
  np.testing.assert_allclose(floor, gap.rmse, atol=F64)
  np.testing.assert_allclose(score_gap.low_noise_floor(stats, images), 0, atol=F64)  # inside the span
  one = jax.jit(score_gap.low_noise_floor)(stats, x[0])
  np.testing.assert_allclose(one, floor[0], atol=F64)


def test_refuses_other_shapes():
  with pytest.raises(AssertionError):
    score_gap.rmse(np.zeros(SHAPE), np.zeros((1, *SHAPE)))
  with pytest.raises(AssertionError):
    score_gap.nmse(np.zeros(SHAPE), np.zeros((1, *SHAPE)))
  with pytest.raises(AssertionError):
    score_gap.low_noise_floor(statistics(5)[0], np.zeros((2, 2, 3)))


def test_pmap_of_vmap_is_one_by_one():
  stats, _ = statistics(5)
  stats, x = jax.tree.map(np.float32, (stats, draw(8, 2, *SHAPE)))

  def of_sample(stats, sigma, x):
    return (
      score_gap.gaps(Partial(wiener, stats), Partial(scaled, sigma), x, sigma),
      score_gap.low_noise_floor(stats, x),
    )

  axes = (None, None, 0)
  everywhere = jax.pmap(jax.vmap(of_sample, axes), in_axes=axes)(stats, np.float32(0.5), x)
  for i, j in [(0, 0), (7, 1)]:
    alone = jax.jit(of_sample)(stats, np.float32(0.5), x[i, j])
    jax.tree.map(lambda a, b, at=(i, j): np.testing.assert_allclose(a[at], b, rtol=F32), everywhere, alone)
