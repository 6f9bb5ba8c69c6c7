"""The network that training, sampling and distillation are timed on, with parameters that all sides share."""

import pathlib

import flax
import jax
import numpy as np

from benchmarks.workload import Size
from gauss_diffusion import networks
from gauss_diffusion.networks.preconditioned import Preconditioned

PARAMS = "params.npz"  # in the folder of a workload, by path
OPTIONS = (
  "img_resolution",
  "img_channels",
  "model_channels",
  "channel_mult",
  "num_blocks",
  "attn_resolutions",
)
LEVEL = 0.02  # of the noise on initial parameters, whose last layers are nearly zero


def sized(
  side: int, channels: int, width: int, mult: tuple[int, ...], attn: tuple[int, ...] = (), blocks: int = 1
) -> dict:
  """Return the part of a workload's size that is the network: DDPM++ of EDM, without dropout."""
  return dict(zip(OPTIONS, (side, channels, width, mult, blocks, attn), strict=True))


def create(size: Size) -> Preconditioned:
  """Return the network of a workload."""
  return networks.create("ddpmpp", dropout=0.0, **{name: size[name] for name in OPTIONS})


def parameters(size: Size, folder: pathlib.Path) -> dict:
  """Return parameters on which every layer matters, and leave them in the folder."""
  rng = np.random.default_rng(0)
  params = networks.init(create(size), jax.random.key(0))
  params = jax.tree.map(lambda leaf: leaf + LEVEL * rng.standard_normal(leaf.shape, np.float32), params)
  save(params, folder)
  return params


def save(params: dict, folder: pathlib.Path) -> None:
  """Leave parameters in the folder, for sides of PyTorch."""
  np.savez(
    folder / PARAMS,
    **{".".join(path): leaf for path, leaf in flax.traverse_util.flatten_dict(params).items()},
  )


def load(folder: pathlib.Path) -> dict[str, np.ndarray]:
  """Return the parameters that were left in the folder, by path."""
  with np.load(folder / PARAMS) as found:
    return dict(found)
