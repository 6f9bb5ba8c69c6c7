"""How nearly linear a network is at forty noise levels, on a hundred pairs of images at each."""

import functools
import pathlib

import jax
import numpy as np

from benchmarks import images, network
from benchmarks.workload import Peer, Side, Size, Work, Workload, timed
from benchmarks.workloads import training
from gauss_diffusion import edm, networks
from gauss_diffusion.probes import linearity


def pairs(size: Size) -> tuple[np.ndarray, np.ndarray]:
  """Return pairs of images with pairs of noises, each [2, n, H, W, C]."""
  x0 = images.made_up(2 * size["pairs"], size["img_resolution"], size["img_channels"]).astype(np.float32)
  x0 = (x0 / 127.5 - 1).reshape(2, size["pairs"], *x0.shape[1:])
  return x0, np.random.default_rng(2).standard_normal(x0.shape, np.float32)


def ours(size: Size, folder: pathlib.Path) -> Side:
  """Return the package's probe, which also takes the scores about a centre: four evaluations a pair."""
  trained = networks.Trained(params=network.parameters(size, folder), network=network.create(size))
  denoise, (x0, noise) = jax.tree_util.Partial(networks.denoise, trained), pairs(size)
  centre = x0.mean((0, 1))

  def solve() -> np.ndarray:
    found = []
    for sigma in edm.sigma_grid(size["levels"]).astype(np.float32):
      x1, x2 = x0 + sigma * noise
      scores = linearity.score_many(denoise, x1, x2, sigma, centre=centre, batch=len(x1))
      found.append(np.asarray(scores.cosine))
    return np.stack(found)

  return timed(solve)


def theirs(together: int, size: Size, folder: pathlib.Path) -> Side:
  """Return a loop in PyTorch over the levels and over pairs, so many at once: three evaluations a pair."""
  import torch

  from benchmarks import torch_network

  denoiser, (x0, noise) = torch_network.load(size, folder).eval(), pairs(size)
  (x1, x2), (n1, n2) = ([torch_network.images(each) for each in two] for two in (x0, noise))

  @torch.inference_mode()
  def solve() -> np.ndarray:
    found = []
    for sigma in edm.sigma_grid(size["levels"]).astype(np.float32).tolist():
      cosines = []
      for some in torch.arange(size["pairs"]).split(together or size["pairs"]):
        level = torch.full((len(some),), sigma, device=x1.device)
        one, two = x1[some] + sigma * n1[some], x2[some] + sigma * n2[some]
        d1, d2 = denoiser(one, level), denoiser(two, level)
        mixed = denoiser(0.5**0.5 * (one + two), level).flatten(1)
        cosines.append(torch.cosine_similarity(mixed, 0.5**0.5 * (d1 + d2).flatten(1)))
      found.append(torch.cat(cosines).cpu().numpy())
    return np.stack(found)

  return timed(solve)


def operations(size: Size) -> Work:
  """Return those of three forward passes for each pair at each level."""
  return Work(flops=3 * size["levels"] * size["pairs"] * training.forward(size))


WORKLOADS = {
  "linearity": Workload(
    "Linearity of a network of digits, 40 levels, 100 pairs",
    ours,
    {
      "PyTorch, pair by pair": Peer("torch", functools.partial(theirs, 1)),
      "PyTorch, all pairs at once": Peer("torch", functools.partial(theirs, 0)),
    },
    network.sized(8, 1, 16, (1, 2)) | {"levels": 40, "pairs": 100},
    network.sized(8, 1, 8, (1, 2)) | {"levels": 3, "pairs": 4},
    operations,
    1e-3,
    (3, 10),
    rounds=3,
  )
}
