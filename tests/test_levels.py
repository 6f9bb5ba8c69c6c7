"""Images that stay on the host: denoisers find what they find with those on the devices, to the last bit."""

import os
import pathlib
import subprocess
import sys

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


@pytest.fixture(autouse=True)
def every_way(monkeypatch):
  monkeypatch.setattr(multi_delta, "SMALL", 0)  # sets as small as these would take one way at any noise


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


GROWN = """
import pathlib, resource, sys
import numpy as np
from jax.tree_util import Partial
from gauss_diffusion import parallel
from gauss_diffusion.denoisers import multi_delta

def denoised(path):
  images = np.load(path, mmap_mode="r")[1:]  # at an odd place: JAX takes what is aligned on a CPU as it lies
  x = np.linspace(-1, 1, images[0].size, dtype=np.float32).reshape(1, *images.shape[1:])
  return parallel.denoise(Partial(multi_delta.denoise, multi_delta.fit(images)), x, 2.0)

multi_delta.levels.ON_DEVICE = 2**20
denoised(sys.argv[1])
status = pathlib.Path("/proc/self/status").read_text()
limit = 1024 * int(status.split("VmData:")[1].split()[0]) + int(sys.argv[3])  # maps of files are no data
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
print(denoised(sys.argv[2]).tobytes().hex())
"""


@pytest.mark.processes
@pytest.mark.skipif(not pathlib.Path("/proc/self/statm").exists(), reason="limits of memory are Linux's")
def test_streamed_images_take_no_memory(tmp_path):
  """A sixteenth of 256 MB has been denoised with; the whole has to do with less than half of its own size."""
  images = np.random.default_rng(0).integers(0, 256, (2**16, 63, 65, 1), np.uint8)
  for name, num in (("few", len(images) // 16), ("many", len(images))):
    np.save(tmp_path / f"{name}.npy", images[:num])
  want = brute_force(images[1:], np.linspace(-1, 1, 63 * 65), 2.0)
  paths = [str(tmp_path / f"{name}.npy") for name in ("few", "many")]
  command = [sys.executable, "-c", GROWN, *paths, str(images.nbytes // 2)]
  environment = os.environ | {"JAX_PLATFORMS": "cpu"}
  found = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
  assert found.returncode == 0, found.stderr[-2000:]
  got = np.frombuffer(bytes.fromhex(found.stdout.split()[-1]), np.float32)
  np.testing.assert_allclose(got, want, rtol=0, atol=2e-6)


def brute_force(images, x, sigma):
  """Return the posterior mean in float64, from differences."""
  rows, square = images.reshape(len(images), -1), np.empty(len(images))
  for start in range(0, len(rows), 1024):
    square[start : start + 1024] = np.sum((rows[start : start + 1024] / 127.5 - 1 - x) ** 2, axis=1)
  weight = np.exp(-(square - square.min()) / (2 * sigma**2))
  few = weight > 1e-12
  return weight[few] @ (rows[few] / 127.5 - 1) / weight.sum()


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
