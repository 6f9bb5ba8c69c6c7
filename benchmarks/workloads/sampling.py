"""From noise to images along the ODE with Euler's steps."""

import functools
import pathlib

import jax
import numpy as np

from benchmarks import network
from benchmarks.workload import Peer, Side, Size, Work, Workload, timed
from benchmarks.workloads import training
from gauss_diffusion import edm, networks, sampling


def levels(size: Size) -> np.ndarray:
  """Return the levels that are visited before 0."""
  return edm.sigma_grid(size["levels"])


def latents(size: Size) -> np.ndarray:
  """Return what the images begin as."""
  shape = (size["batch"], size["img_resolution"], size["img_resolution"], size["img_channels"])
  return np.random.default_rng(0).standard_normal(shape, np.float32)


def ours(size: Size, folder: pathlib.Path) -> Side:
  """Return the package's sampler, over all devices."""
  params, noise = network.parameters(size, folder), latents(size)
  trained = networks.Trained(params=params, network=network.create(size))
  denoise = jax.tree_util.Partial(networks.denoise, trained)

  def solve() -> np.ndarray:
    return np.asarray(sampling.sample_many(denoise, noise, levels(size), batch=size["batch"]).x[:, -1])

  return timed(solve)


def theirs(layout: str, compiled: bool, size: Size, folder: pathlib.Path) -> Side:
  """Return the same in PyTorch, without gradients."""
  import torch

  from benchmarks import torch_network

  memory_format = getattr(torch, layout)
  denoiser = torch_network.load(size, folder, memory_format).eval()
  denoise = torch.compile(denoiser) if compiled else denoiser
  noise, sigmas = latents(size), levels(size)

  @torch.inference_mode()
  def solve() -> np.ndarray:
    x = torch_network.images(noise, memory_format) * float(sigmas[0])
    for now, then in zip(sigmas, [*sigmas[1:], 0.0], strict=True):
      x0_hat = denoise(x, torch.full((len(x),), float(now), device=x.device))
      x = x0_hat + (then / now) * (x - x0_hat)
    return torch_network.array(x)

  return timed(solve)


PEERS = {
  "PyTorch": Peer("torch", functools.partial(theirs, "contiguous_format", False)),
  "PyTorch, channels_last": Peer("torch", functools.partial(theirs, "channels_last", False)),
  "PyTorch, channels_last, compiled": Peer("torch", functools.partial(theirs, "channels_last", True), "gpu"),
}


def operations(size: Size) -> Work:
  """Return those of a forward pass at each level."""
  return Work(flops=size["levels"] * size["batch"] * training.forward(size))


def workload(title: str, full: Size, targets: tuple[float, float]) -> Workload:
  """Return the sampler on a network."""
  return Workload(title, ours, PEERS, full, training.QUICK | TEN, operations, 1e-3, targets)


TEN = {"levels": 10}
WORKLOADS = {
  f"sample_{side}": workload(
    f"Sampler, Euler on 10 levels, {side} × {side}, batch {batch}",
    training.WORKLOADS[f"train_{side}"].full | TEN | {"batch": batch},
    targets,
  )
  for side, batch, targets in ((8, 128, (1.7, 2)), (16, 64, (1.5, 2)), (32, 32, (1.3, 2)))
}
