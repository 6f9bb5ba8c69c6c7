"""The smoothed memorizer (L7) against brute force in NumPy float64, and the integral that it estimates."""

import jax
import numpy as np
import pytest
from jax.tree_util import Partial

from gauss_diffusion.denoisers import multi_delta, smoothed

F64 = 1e-10  # of weighted means of images
F32 = 5e-6  # the same in float32, inputs moved in float32 too
SHAPE = (2, 3, 2)
SIGMA = 0.4


def images_of(count, seed=0):
  return np.random.default_rng(seed).integers(60, 196, (count, *SHAPE), dtype=np.uint8)


def brute_force(images, x, sigma):
  y = images / 127.5 - 1
  squares = np.sum((y - x).reshape(len(y), -1) ** 2, axis=1)
  weight = np.exp(-(squares - squares.min()) / (2 * sigma**2))
  return np.tensordot(weight / weight.sum(), y, 1)


@pytest.fixture
def x():
  return 0.4 * np.random.default_rng(1).normal(size=SHAPE)


@pytest.mark.parametrize("sigma", [0.002, SIGMA, 80.0])
def test_mean_over_moved_inputs(x64, x, sigma):
  images = images_of(9)
  record = smoothed.fit(images, width=0.3, draws=7, seed=3)
  want = np.mean([brute_force(images, x + 0.3 * each.astype(float), sigma) for each in record.noise], axis=0)
  got = jax.jit(smoothed.denoise)(record, x, sigma)
  np.testing.assert_allclose(got, want, rtol=0, atol=F64)


def test_l7_unmoved_it_is_the_memorizer(x64, x):
  images = images_of(9)
  record = smoothed.fit(images, width=0.0, draws=5, seed=0)
  want = multi_delta.denoise(images, x, SIGMA)
  np.testing.assert_allclose(smoothed.denoise(record, x, SIGMA), want, rtol=0, atol=F64)


def test_many_draws_are_an_integral(x64):
  """Two images m ± δ: ``m + δ E tanh(δ·(x − m + s ε)/σ²)``, an integral over one dimension."""
  images, width = images_of(2), 0.5
  y = images / 127.5 - 1
  middle, delta = y.mean(0), (y[0] - y[1]) / 2
  x = middle + 0.2 * delta
  nodes, weights = np.polynomial.hermite_e.hermegauss(80)
  along = (np.sum(delta * (x - middle)) + width * np.linalg.norm(delta) * nodes) / SIGMA**2
  tanh = np.tanh(along) @ weights / weights.sum()
  draws = 4000
  got = smoothed.denoise(smoothed.fit(images, width=width, draws=draws, seed=0), x, SIGMA)
  found = np.sum((got - middle) * delta) / np.sum(delta**2)
  spread = np.sqrt(np.tanh(along) ** 2 @ weights / weights.sum() - tanh**2)
  assert abs(found - tanh) < 5 * spread / np.sqrt(draws)
  np.testing.assert_allclose(got, middle + found * delta, rtol=0, atol=F64)  # nothing beside their line


def test_low_noise_leaves_a_mean_of_images_near_to_the_moved_inputs(x64, x):
  images = images_of(9)
  record = smoothed.fit(images, width=0.5, draws=40, seed=0)
  y = images / 127.5 - 1
  nearest = [np.argmin(np.sum((y - x - 0.5 * each) ** 2, axis=(1, 2, 3))) for each in record.noise]
  assert len(set(nearest)) > 1
  np.testing.assert_allclose(smoothed.denoise(record, x, 1e-4), y[nearest].mean(0), rtol=0, atol=F64)


def test_the_seed_is_all_that_is_drawn():
  images = images_of(3)
  one, same, other = (smoothed.fit(images, width=0.1, draws=4, seed=seed).noise for seed in (0, 0, 1))
  np.testing.assert_array_equal(one, same)
  assert (one != other).all()


def test_wrong_shape_is_named():
  record = smoothed.fit(images_of(3), width=0.1, draws=4, seed=0)
  with pytest.raises(ValueError, match="`x` has shape"):
    smoothed.denoise(record, np.zeros((3, 2, 2)), SIGMA)


def test_jit_vmap_pmap_float32():
  images = images_of(9)
  record = smoothed.fit(images, width=0.2, draws=5, seed=0)
  x = np.random.default_rng(1).normal(size=(8, *SHAPE)).astype(np.float32)
  want = [
    np.mean([brute_force(images, each + 0.2 * noise.astype(float), SIGMA) for noise in record.noise], axis=0)
    for each in x
  ]
  bound = Partial(smoothed.denoise, record)
  for mapped in (jax.vmap, jax.pmap):
    got = mapped(lambda denoise, x: denoise(x, np.float32(SIGMA)), in_axes=(None, 0))(bound, x)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, want, rtol=0, atol=F32)
