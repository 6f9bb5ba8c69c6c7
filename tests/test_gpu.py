"""What must hold on a GPU as on a CPU: exact denoisers, one device through pmap, bfloat16, moved checkpoints.

On a machine with a GPU, without the suite's eight fake CPU devices:

    python3 -m pytest --noconftest -o addopts= -q tests/test_gpu.py
"""

import json
import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from gauss_diffusion import networks, parallel, statistics
from gauss_diffusion.denoisers import gaussian, multi_delta
from gauss_diffusion.training import checkpoint, losses

REPOSITORY = pathlib.Path(__file__).parents[1]
SHAPE = (32, 32, 3)
SIGMAS = (0.02, 0.5, 4.0, 80.0)
# Sums of 3072 products in float32, beside an estimate of size 1. TF32, with ten bits of mantissa, errs by a
# hundred times as much.
F32 = 3e-5
# Networks are some twenty layers deep, and backends sum in other orders.
DEEP = 1e-4
# Products of eight bits of mantissa, 2^-9 each, over twenty layers forwards and backwards.
BFLOAT16 = 0.05
# Six steps of Adam at a rate of 1e-3: where a gradient is all rounding, its sign is the backend's.
MOVED = 6e-3
OPTIONS = {
  "img_resolution": 8,
  "img_channels": 1,
  "model_channels": 16,
  "channel_mult": (1,),
  "num_blocks": 1,
}
# Trains in folders until a step, in a process of its own, on a platform of its own.
TRAIN = """
import json, sys
import numpy as np
from gauss_diffusion import networks
from gauss_diffusion.training import loop
steps, card, *folders = int(sys.argv[1]), json.loads(sys.argv[2]), *sys.argv[3:]
images = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 1), np.uint8)
settings = loop.Settings(
  steps=steps, batch=16, learning_rate=1e-3, rampup_images=32, ema_halflife_images=64.0, ema_rampup=0.5,
  flips=False, noise_law="", p_mean=-1.2, p_std=1.2, sigma_min=0.002, sigma_max=80.0, log_every=2,
  checkpoint_every=3, keep=2, dtype="float32", remat=False,
)
network = networks.create(**card["network"])
for folder in folders:
  loop.run(network, card, images, folder, settings, seed=3, title="test")
"""
CARD = {"network": {"name": "ddpmpp", **OPTIONS, "channel_mult": [1]}}
GPU = jax.default_backend() == "gpu"
wants_gpu = pytest.mark.skipif(not GPU, reason="want a GPU, and a run without the suite's conftest")


@pytest.fixture(scope="module")
def images():
  """Smooth images, whose spectrum falls as that of pictures does."""
  rng = np.random.default_rng(0)
  waves = np.cumsum(np.cumsum(rng.normal(size=(150, *SHAPE)), axis=1), axis=2)
  scaled = waves / np.abs(waves).max(axis=(1, 2, 3), keepdims=True)
  return np.round(127.5 + 127 * scaled).astype(np.uint8)


@pytest.fixture(scope="module")
def stats(images):
  return statistics.gaussian_stats(images)


@pytest.fixture(scope="module")
def noise():
  return np.random.default_rng(1).normal(size=(8, *SHAPE))


def rows(images):
  return images.reshape(len(images), -1) / 127.5 - 1


def noisy(images, noise, sigma):
  """Held against float32 inputs, so that their own rounding is no error."""
  return (images[: len(noise)] / 127.5 - 1 + sigma * noise).astype(np.float32)


@pytest.mark.parametrize("sigma", SIGMAS)
def test_the_gaussian_denoiser_is_that_of_float64(images, stats, noise, sigma):
  x, train = noisy(images, noise, sigma), rows(images)
  got = parallel.denoise(Partial(gaussian.denoise, stats), x, sigma)
  centred = train - train.mean(0)
  # In the space of images: W = Cᵀ (C Cᵀ + N σ²)⁻¹ C.
  solved = np.linalg.solve(centred @ centred.T + len(train) * sigma**2 * np.eye(len(train)), centred)
  x = x.reshape(len(x), -1).astype(np.float64)
  wanted = train.mean(0) + (x - train.mean(0)) @ centred.T @ solved
  np.testing.assert_allclose(got.reshape(len(x), -1), wanted, rtol=0, atol=F32)


@pytest.mark.parametrize("sigma", SIGMAS)
def test_the_memorizer_is_that_of_float64(images, noise, sigma):
  twins = images[:8].copy()
  twins[:, 0, 0, 0] ^= 1  # a grey level apart in a single value: here lies what float32 distances lose
  images = np.concatenate([twins, images])
  x, train = noisy(images, noise, sigma), rows(images)
  got = parallel.denoise(Partial(multi_delta.denoise, images), x, sigma)
  for one, estimate in zip(x.reshape(len(x), -1).astype(np.float64), got.reshape(len(x), -1)):
    squares = np.sum((train - one) ** 2, axis=1)
    weight = np.exp(-(squares - squares.min()) / (2 * np.float64(sigma) ** 2))
    np.testing.assert_allclose(estimate, weight / weight.sum() @ train, rtol=0, atol=F32)


def test_samples_mapped_over_devices_are_samples_alone(images, stats, noise):
  assert jax.local_device_count() == (1 if GPU else 8)
  sigma = np.float32(0.5)
  x = noisy(images, noise, sigma)[:7]  # as many as eight devices cannot share
  mapped = parallel.map_samples(_denoise, (stats, sigma), x, batch=4)
  alone = np.stack([jax.jit(gaussian.denoise)(stats, one, sigma) for one in x])
  np.testing.assert_allclose(mapped, alone, rtol=0, atol=F32)
  placed = parallel.replicate({"w": np.arange(3.0)})["w"]
  assert len(placed.addressable_shards) == jax.local_device_count()
  for shard in placed.addressable_shards:
    np.testing.assert_array_equal(shard.data, np.arange(3.0))


def _denoise(shared, x):
  stats, sigma = shared
  return gaussian.denoise(stats, x, sigma)


@pytest.fixture(scope="module")
def params():
  """Weights away from the initial ones, whose last layers are zero."""
  drawn = networks.init(networks.create("ddpmpp", **OPTIONS), jax.random.key(0))
  rng = np.random.default_rng(2)
  return jax.tree.map(lambda leaf: leaf + 0.1 * rng.normal(size=leaf.shape).astype(np.float32), drawn)


def gradient(dtype, params):
  network = networks.compute(networks.create("ddpmpp", **OPTIONS), dtype=dtype)
  x0 = jnp.asarray(np.random.default_rng(3).uniform(-1, 1, (64, 8, 8, 1)), jnp.float32)
  keys = jax.random.split(jax.random.key(4), len(x0))

  def mean_loss(params):
    return jnp.mean(
      losses.denoising_loss(lambda x, sigma: network.apply({"params": params}, x, sigma), x0, keys)
    )

  grads = jax.jit(jax.grad(mean_loss))(params)
  return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(grads)]).astype(np.float64)


def test_a_gradient_in_bfloat16_is_that_of_float32_to_its_digits(params):
  exact, narrow = gradient("float32", params), gradient("bfloat16", params)
  error = np.linalg.norm(narrow - exact) / np.linalg.norm(exact)
  assert 2**-12 < error < BFLOAT16  # and above what float32 would leave: it is bfloat16


@wants_gpu
def test_a_network_in_float32_is_that_of_the_cpu(params):
  network, sigma = networks.create("ddpmpp", **OPTIONS), np.array([0.05, 0.5, 5.0, 50.0], np.float32)
  x = np.random.default_rng(5).normal(size=(4, 8, 8, 1)).astype(np.float32) * sigma[:, None, None, None]
  apply = jax.jit(network.apply)
  on_gpu = apply({"params": params}, x, sigma)
  with jax.default_device(jax.devices("cpu")[0]):
    on_cpu = apply({"params": params}, x, sigma)
  np.testing.assert_allclose(on_gpu, on_cpu, rtol=0, atol=DEEP * np.abs(on_cpu).max())


@pytest.mark.processes
@pytest.mark.parametrize("first, second", [("cuda", "cpu"), ("cpu", "cuda"), ("cpu", "cpu")])
def test_training_goes_on_from_a_checkpoint_of_another_platform(tmp_path, first, second):
  if "cuda" in (first, second) and not GPU:
    pytest.skip("want a GPU, and a run without the suite's conftest")
  moved, stayed = tmp_path / "moved", tmp_path / "stayed"
  train(3, first, moved)
  train(6, second, moved, stayed)
  (_, found), (_, wanted) = checkpoint.load_ema(moved), checkpoint.load_ema(stayed)
  for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
    np.testing.assert_allclose(one, other, rtol=0, atol=0 if first == second else MOVED)


def train(steps, platform, *folders):
  """Train until a step in a process of its own: JAX takes its platforms once."""
  cache = os.path.expanduser("~/.cache/gauss_diffusion/jax")
  environment = os.environ | {"JAX_PLATFORMS": platform, "JAX_COMPILATION_CACHE_DIR": cache}
  command = [sys.executable, "-c", TRAIN, str(steps), json.dumps(CARD), *map(str, folders)]
  done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=300)
  assert done.returncode == 0, done.stderr
