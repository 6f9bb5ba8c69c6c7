"""The Gaussian denoiser at ten noise levels."""

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
}
