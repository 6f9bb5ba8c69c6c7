"""Mean, covariance and eigenbasis of 50,000 images of 3072 values."""

import pathlib

import numpy as np

from benchmarks import images
from benchmarks.workload import Peer, Side, Size, Work, Workload, timed
from gauss_diffusion import statistics

LEADING = 100  # eigenvalues that are compared: the smallest are below what float32 resolves


def training(size: Size) -> np.ndarray:
  """Return the images."""
  return images.made_up(size["images"], size["side"], size["channels"])


def ours(size: Size, folder: pathlib.Path) -> Side:
  """Return the package's statistics: exact integers, float64."""
  y = training(size)
  side = timed(lambda: statistics.gaussian_stats(y))
  return side._replace(answer=lambda: np.asarray(statistics.gaussian_stats(y).eigenvalues)[:LEADING])


def theirs(size: Size, folder: pathlib.Path) -> Side:
  """Return `torch.cov`, then its singular vectors, in float32."""
  import torch

  from benchmarks.torch_network import DEVICE

  y = torch.from_numpy(training(size).reshape(size["images"], -1)).to(DEVICE)

  @torch.inference_mode()
  def solve() -> np.ndarray:
    covariance = torch.cov((y.float() / 127.5 - 1).T, correction=0)
    return torch.linalg.svd(covariance)[1].cpu().numpy()

  return timed(solve)._replace(answer=lambda: solve()[:LEADING])


def product(size: Size) -> Work:
  """Return the half of the product that is not its mirror image, and the least of an eigenproblem, 4/3 D³."""
  dimension = size["side"] ** 2 * size["channels"]
  return Work(size["images"] * dimension**2 + 4 / 3 * dimension**3, 1.0 * size["images"] * dimension)


WORKLOADS = {
  "covariance": Workload(
    "Covariance and eigenbasis, N = 50,000, d = 3072",
    ours,
    {"PyTorch, cov and svd": Peer("torch", theirs)},
    {"images": 50_000, "side": 32, "channels": 3},
    {"images": 300, "side": 8, "channels": 1},
    product,
    1e-3,
    (1.5, 1.8),
    rounds=3,
  )
}
