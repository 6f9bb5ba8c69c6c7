"""The Gaussian denoiser at ten noise levels, of an input for each, or of one image and noise for all."""

import functools
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from benchmarks import images
from benchmarks.workload import Peer, Side, Size, Work, Workload, timed
from gauss_diffusion import edm, parallel, statistics
from gauss_diffusion.denoisers import gaussian
from gauss_diffusion.types import GaussianStats

LEVELS = edm.sigma_grid(10)
STATS = "stats.npz"


def clean(size: Size) -> np.ndarray:
  """Return the images under the noise."""
  return images.made_up(size["batch"], size["side"], size["channels"], seed=1)


def stats_of(size: Size, folder: pathlib.Path) -> GaussianStats:
  """Fit, and leave the record in the folder."""
  found = statistics.gaussian_stats(images.made_up(size["images"], size["side"], size["channels"]))
  np.savez(folder / STATS, **found._asdict())
  return found


def inputs(size: Size) -> list[np.ndarray]:
  """Return an input for each level, each with noise of its own."""
  pixels = clean(size)
  return [images.noisy(pixels, sigma, seed=level) for level, sigma in enumerate(LEVELS)]


def ours(size: Size, folder: pathlib.Path) -> Side:
  """Return the package's denoiser, over all devices."""
  denoise = jax.tree_util.Partial(gaussian.denoise, parallel.put(stats_of(size, folder)))
  xs = inputs(size)

  def solve() -> np.ndarray:
    found = [parallel.denoise(denoise, x, sigma, batch=len(x)) for x, sigma in zip(xs, LEVELS, strict=True)]
    return np.stack(found)

  return timed(solve)


def shared(size: Size, folder: pathlib.Path) -> Side:
  """Return the package's denoiser of the same images and noise at all levels, over all devices."""
  stats = parallel.put(stats_of(size, folder))
  x0, noise = clean_and_noise(size)

  def solve() -> np.ndarray:
    found = parallel.map_samples(at_all, (stats, LEVELS.astype(x0.dtype)), x0, noise, batch=len(x0))
    return np.swapaxes(found, 0, 1)

  return timed(solve)


def clean_and_noise(size: Size) -> tuple[np.ndarray, np.ndarray]:
  """Return images on the [-1, 1] scale, and noise."""
  x0 = clean(size).astype(np.float32) / np.float32(127.5) - 1
  return x0, np.random.default_rng(0).standard_normal(x0.shape, np.float32)


def at_all(shared, x0, noise):
  """Return D(x0 + σ n; σ) at every level: image and noise are projected once."""
  stats, sigmas = shared
  modes, slopes = gaussian.modes(stats, x0), gaussian.modes(stats, stats.mean + noise)
  return jax.vmap(lambda sigma: gaussian.of_modes(stats, modes + sigma * slopes, sigma))(sigmas)


def torch_stats(folder: pathlib.Path, dtype: str) -> tuple:
  """Return mean [D], basis [D, K] and eigenvalues [K] as PyTorch's."""
  import torch

  from benchmarks.torch_network import DEVICE

  with np.load(folder / STATS) as found:
    mean, basis, eigenvalues = (
      torch.from_numpy(found[name]).to(DEVICE, getattr(torch, dtype)) for name in found
    )
  return mean.reshape(-1), basis, eigenvalues


def theirs(dtype: str, formula: Callable[..., Any], size: Size, folder: pathlib.Path) -> Side:
  """Return PyTorch's side: the formula at each level's input, of mean, basis, eigenvalues and sigma."""
  import torch

  stats = torch_stats(folder, dtype)
  xs = [torch.from_numpy(x.reshape(len(x), -1)).to(stats[0]) for x in inputs(size)]

  @torch.inference_mode()
  def solve() -> np.ndarray:
    found = [formula(x, *stats, sigma).cpu().numpy() for x, sigma in zip(xs, LEVELS, strict=True)]
    return np.stack(found).reshape(len(LEVELS), -1, size["side"], size["side"], size["channels"])

  return timed(solve)


def their_shared(size: Size, folder: pathlib.Path) -> Side:
  """Return PyTorch's side where image and noise are projected once, and all levels are one product."""
  import torch

  mean, basis, eigenvalues = torch_stats(folder, "float32")
  x0, noise = (torch.from_numpy(each.reshape(len(each), -1)).to(mean) for each in clean_and_noise(size))
  sigmas = torch.from_numpy(LEVELS).to(mean)[:, None, None]

  @torch.inference_mode()
  def solve() -> np.ndarray:
    modes = ((x0 - mean) @ basis + sigmas * (noise @ basis)) * (eigenvalues / (eigenvalues + sigmas**2))
    found = mean.addmm(modes.flatten(0, 1), basis.T).cpu().numpy()
    return found.reshape(len(LEVELS), -1, size["side"], size["side"], size["channels"])

  return timed(solve)


def diagonal(x, mean, basis, eigenvalues, sigma):
  """Multiply by a diagonal matrix, as the paper's code does."""
  return (x - mean) @ basis @ (eigenvalues / (eigenvalues + sigma**2)).diag() @ basis.T + mean


def gains(x, mean, basis, eigenvalues, sigma):
  """Multiply by a vector of gains between two products."""
  modes = (x - mean) @ basis * (eigenvalues / (eigenvalues + sigma**2))
  return mean.addmm(modes, basis.T)


PEERS = {
  "PyTorch, float32": Peer("torch", functools.partial(theirs, "float32", gains)),
  "PyTorch, float64, diagonal": Peer("torch", functools.partial(theirs, "float64", diagonal)),
}


def products(count: int, size: Size) -> Work:
  """Return the operations of so many products with the basis, and the traffic of reading it for each."""
  dimension = size["side"] ** 2 * size["channels"]
  rank = min(dimension, size["images"] - 1)
  return Work(2.0 * count * size["batch"] * dimension * rank, 4.0 * count * dimension * rank)


FULL = {"images": 5000, "side": 32, "channels": 3, "batch": 256}
QUICK = {"images": 200, "side": 8, "channels": 3, "batch": 16}
WORKLOADS = {
  "gaussian": Workload(
    "Gaussian denoiser, 10 levels, an input for each, batch 256, d = 3072",
    ours,
    PEERS,
    FULL,
    QUICK,
    lambda size: products(2 * len(LEVELS), size),
    1e-4,
    (1.0, 1.2),
  ),
  "gaussian_shared": Workload(
    "The same, one image and noise for all levels",
    shared,
    {"PyTorch, float32, projected once": Peer("torch", their_shared)},
    FULL,
    QUICK,
    lambda size: products(len(LEVELS) + 2, size),
    1e-4,
    (1.0, 1.2),
  ),
}
