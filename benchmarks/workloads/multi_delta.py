"""The multi-delta denoiser of 50,000 images, near-duplicates among them, at ten noise levels."""

import pathlib

import jax
import numpy as np

from benchmarks import images
from benchmarks.workload import Peer, Side, Size, Work, Workload, timed
from gauss_diffusion import edm, parallel
from gauss_diffusion.denoisers import multi_delta

LEVELS = edm.sigma_grid(10)
BLOCK = 4096  # images in a block of the blocked form


def training(size: Size) -> np.ndarray:
  """Return the images that the denoiser remembers."""
  return images.made_up(size["images"], size["side"], size["channels"])


def inputs(size: Size) -> list[np.ndarray]:
  """Return noisy training images, near-duplicates among them, for each level."""
  chosen = training(size)[-size["batch"] :]
  return [images.noisy(chosen, sigma, seed=level) for level, sigma in enumerate(LEVELS)]


def ours(size: Size, folder: pathlib.Path) -> Side:
  """Return the package's denoiser, exact, over all devices."""
  denoise = jax.tree_util.Partial(multi_delta.denoise, parallel.put(training(size)))
  xs = inputs(size)

  def solve() -> np.ndarray:
    return np.stack(
      [parallel.denoise(denoise, x, sigma, batch=len(x)) for x, sigma in zip(xs, LEVELS, strict=True)]
    )

  return timed(lambda: solve())._replace(answer=lambda: solve()[list(size["compared"])])


def prepared(size: Size) -> tuple:
  """Return the images as float32 rows, as a user who has the memory would keep them, and the inputs."""
  import torch

  from benchmarks.torch_network import DEVICE

  rows = torch.from_numpy(training(size).reshape(size["images"], -1)).to(DEVICE).float() / 127.5 - 1
  return rows, [torch.from_numpy(x.reshape(len(x), -1)).to(DEVICE) for x in inputs(size)]


def plain(size: Size, folder: pathlib.Path) -> Side:
  """Return all distances at once by `torch.cdist`, then softmax."""
  import torch

  rows, xs = prepared(size)

  @torch.inference_mode()
  def solve() -> np.ndarray:
    found = []
    for x, sigma in zip(xs, LEVELS, strict=True):
      weight = torch.softmax(torch.cdist(x, rows) ** 2 / (-2 * sigma**2), 1)
      found.append((weight @ rows).cpu().numpy())
    return shaped(found, size)

  return timed(lambda: solve())._replace(answer=lambda: solve()[list(size["compared"])])


def blocked(size: Size, folder: pathlib.Path) -> Side:
  """Return the expanded distance in blocks with a running softmax: the least work in float32."""
  import torch

  rows, xs = prepared(size)
  squares = (rows**2).sum(1)

  @torch.inference_mode()
  def solve() -> np.ndarray:
    found = []
    for x, sigma in zip(xs, LEVELS, strict=True):
      top = x.new_full((len(x), 1), -torch.inf)
      total, mean = x.new_zeros(len(x), 1), torch.zeros_like(x)
      for start in range(0, len(rows), BLOCK):
        y = rows[start : start + BLOCK]
        logit = torch.addmm(squares[start : start + BLOCK], x, y.T, beta=-0.5, alpha=1) / sigma**2
        higher = torch.maximum(top, logit.max(1, keepdim=True).values)
        weight, keep = (logit - higher).exp(), (top - higher).exp()
        total = keep * total + weight.sum(1, keepdim=True)
        mean = torch.addmm(keep * mean, weight, y)
        top = higher
      found.append((mean / total).cpu().numpy())
    return shaped(found, size)

  return timed(lambda: solve())._replace(answer=lambda: solve()[list(size["compared"])])


def shaped(found: list[np.ndarray], size: Size) -> np.ndarray:
  """Return what was found of each level as images."""
  return np.stack(found).reshape(len(LEVELS), -1, size["side"], size["side"], size["channels"])


def least(size: Size) -> Work:
  """Return two products with the images at each level, and reading them once as uint8."""
  values = size["images"] * size["side"] ** 2 * size["channels"]
  return Work(4.0 * len(LEVELS) * size["batch"] * values, 1.0 * len(LEVELS) * values)


# Expanded distances in float32 are wrong at low noise where there are near-duplicates, so that sides are
# compared at those levels at which they can be right.
COMPARED = (0, 1, 2, 3, 4, 5)
FULL = {"images": 50_000, "side": 32, "channels": 3, "batch": 64, "compared": COMPARED}
QUICK = {"images": 300, "side": 8, "channels": 1, "batch": 8, "compared": COMPARED}
PEERS = {"PyTorch, cdist": Peer("torch", plain), "PyTorch, blocked": Peer("torch", blocked)}
WORKLOADS = {
  "multi_delta": Workload(
    "Multi-delta denoiser, N = 50,000, d = 3072, batch 64, 10 levels",
    ours,
    PEERS,
    FULL,
    QUICK,
    least,
    1e-3,
    (1.2, 2.0),
    rounds=3,
  ),
  "multi_delta_large": Workload(
    "Multi-delta denoiser, N = 70,000, d = 12,288, batch 64, 10 levels",
    ours,
    PEERS,
    FULL | {"images": 70_000, "side": 64},
    QUICK,
    least,
    1e-3,
    device="gpu",
    rounds=3,
  ),
}
