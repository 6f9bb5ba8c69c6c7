"""The stationary Gaussian against the Gaussian denoiser of all shifts, and dense NumPy float64."""

import jax
import numpy as np
import pytest
from jax.tree_util import Partial

from gauss_diffusion import statistics
from gauss_diffusion.denoisers import gaussian, stationary

F64 = 1e-10  # of float64 transforms of 60 terms
F32 = 1e-5  # of float32 ones

SIGMA = 0.3
SHAPES = [(4, 5, 1), (5, 4, 3), (1, 6, 2), (6, 1, 3)]


def images_of(count, shape, seed=0):
  """Draw images with neighbours and colours that are alike, and a mean image that is not flat."""
  noise = np.random.default_rng(seed).normal(size=(count, *shape))
  smooth = noise + sum(share * np.roll(noise, 1, axis) for axis, share in ((1, 1.0), (2, 0.5), (3, 0.7)))
  return np.clip(100 + 25 * smooth + 5 * np.arange(shape[1])[:, None], 0, 255).astype(np.uint8)


def orbit(images):
  """Return the images in all circular shifts."""
  height, width = images.shape[1:3]
  return np.concatenate([np.roll(images, (i, j), (1, 2)) for i in range(height) for j in range(width)])


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("sigma", [0.002, SIGMA, 80.0])
def test_it_is_the_gaussian_of_all_shifts(x64, shape, sigma):
  images, x = images_of(7, shape), np.random.default_rng(1).normal(size=shape)
  want = gaussian.denoise(statistics.gaussian_stats(orbit(images)), x, sigma)
  got = jax.jit(stationary.denoise)(stationary.fit(images), x, sigma)
  np.testing.assert_allclose(got, want, rtol=0, atol=F64)


def test_channels_are_coupled_within_a_frequency():
  grey = np.repeat(images_of(20, (4, 4, 1)), 3, axis=3)
  record = stationary.fit(grey)
  assert np.sum(record.eigenvalues > 0) == 16  # of 48: grey is one direction of colour
  x = np.random.default_rng(1).normal(size=(4, 4, 3)).astype(np.float32)
  got = np.asarray(stationary.denoise(record, x, SIGMA))
  np.testing.assert_allclose(got, np.broadcast_to(got[..., :1], got.shape), atol=F32)


def test_streaming_does_not_matter(monkeypatch):
  images = images_of(50, (5, 4, 3))
  whole = stationary.fit(images)
  monkeypatch.setattr(stationary, "CHUNK", 7 * 60)
  for one, other in zip(whole, stationary.fit(images), strict=True):
    assert one.shape == other.shape
  np.testing.assert_allclose(stationary.fit(images).eigenvalues, whole.eigenvalues, rtol=F64)


def test_wrong_shape_is_named():
  record = stationary.fit(images_of(3, (4, 5, 1)))
  for shape in ((4, 4, 1), (5, 4, 1), (4, 5, 3)):
    with pytest.raises(ValueError, match=r"`x` has shape .* of shape \(4, 5, 1\)"):
      stationary.denoise(record, np.zeros(shape), SIGMA)


def test_jit_vmap_pmap_float32():
  images = images_of(30, (16, 16, 3))
  bound = Partial(stationary.denoise, stationary.fit(images))
  x = np.random.default_rng(1).normal(size=(8, 16, 16, 3))
  sigma = np.geomspace(0.002, 80, 8)
  with jax.enable_x64(True):
    want = [np.asarray(bound(*each)) for each in zip(x, sigma)]
  x, sigma = x.astype(np.float32), sigma.astype(np.float32)
  for mapped in (jax.vmap, jax.pmap):
    got = mapped(lambda denoise, x, sigma: denoise(x, sigma), in_axes=(None, 0, 0))(bound, x, sigma)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, want, rtol=0, atol=F32)
