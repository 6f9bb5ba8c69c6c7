"""Images that stay on the host: denoisers find what they find with those on the devices, to the last bit."""

import jax
import numpy as np
import pytest
from jax.tree_util import Partial

from gauss_diffusion import parallel
from gauss_diffusion.denoisers import FAMILIES, family, golden, levels, multi_delta

SHAPE = (6, 6, 3)
REMEMBER = ("multi-delta", "kernel", "smoothed", "golden", "ls", "els", "els_borders", "pspc", "pca_locality")


@pytest.fixture
def images(tmp_path):
  pixels = np.random.default_rng(0).integers(0, 256, (37, *SHAPE), np.uint8)
  np.save(tmp_path / "images.npy", pixels)
  return np.load(tmp_path / "images.npy", mmap_mode="r")


def noisy(num):
  return np.random.default_rng(1).normal(size=(num, *SHAPE)).astype(np.float32)


def both(name, images, monkeypatch):
  """Return a family's denoiser with its images on the devices, and with them streamed."""
  options = family.defaults(FAMILIES[name])
  held = FAMILIES[name].fit(images, **options)
  monkeypatch.setattr(levels, "ON_DEVICE", images.nbytes - 1)
  streamed = FAMILIES[name].fit(images, **options)
  largest = max((leaf.size for leaf in jax.tree.leaves(streamed)), default=0)
  assert largest < images.size or name == "pca_locality"  # which has an eigenbasis too
  return Partial(FAMILIES[name].denoise, held), Partial(FAMILIES[name].denoise, streamed)


@pytest.mark.parametrize("name", REMEMBER)
def test_streamed_images_are_those_on_the_devices(name, images, monkeypatch):
  held, streamed = both(name, images, monkeypatch)
  x = noisy(11)
  for sigma in (0.3, 5.0):
    np.testing.assert_array_equal(parallel.denoise(streamed, x, sigma), parallel.denoise(held, x, sigma))


@pytest.mark.parametrize("chunk", [1, 8, 37])
def test_chunks_of_streamed_images_and_gaps(chunk, images):
  x, streamed = noisy(1)[0], levels.Streamed(images)
  for measure in (
    multi_delta.gaps,
    lambda images, x, chunk: multi_delta.denoise(images, x, 0.4, chunk=chunk),
  ):
    np.testing.assert_array_equal(measure(streamed, x, chunk=chunk), measure(images, x, chunk=chunk))


def test_derivatives_of_streamed_images(images):
  x, v = noisy(2)
  streamed = levels.Streamed(images)

  def product(images):
    denoise = lambda x: multi_delta.denoise(images, x, 5.0, chunk=8)  # noqa: E731
    return jax.jit(lambda x, v: (jax.jvp(denoise, (x,), (v,)), jax.vjp(denoise, x)[1](v)))(x, v)

  jax.tree.map(np.testing.assert_array_equal, product(streamed), product(images))


def test_a_bound_of_streamed_images(images):
  x = noisy(3)
  record = golden.fit(images, nearest=5)
  streamed = record._replace(images=levels.Streamed(images))
  bound = jax.jit(jax.vmap(golden.error_bound, (None, 0, None)))
  np.testing.assert_array_equal(bound(streamed, x, 2.0), bound(record, x, 2.0))


def test_wrong_streamed_images_are_named(images):
  with pytest.raises(ValueError, match="`images` are uint8 .37, 108.; want uint8 .N, H, W, C."):
    multi_delta.denoise(levels.Streamed(images.reshape(37, -1)), noisy(1)[0], 1.0)
