"""DDPM++ of EDM in PyTorch, as one would write it there: the same network, from the same parameters."""

import math
import pathlib

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from benchmarks import network
from benchmarks.workload import Size
from gauss_diffusion import edm
from gauss_diffusion.networks import song_unet, unet

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


class Block(nn.Module):
  """Residual block: two convolutions with the embedding added between, then optional self-attention."""

  def __init__(self, stage: unet.Stage, inputs: int, embedding: int):
    super().__init__()
    features = stage.features
    self.stage = stage
    self.norm0, self.norm1 = norm(inputs), norm(features)
    self.conv0, self.conv1 = (nn.Conv2d(each, features, 3, padding=1) for each in (inputs, features))
    self.affine = nn.Linear(embedding, features)
    self.skip = nn.Conv2d(inputs, features, 1) if stage.resample != "keep" or inputs != features else None
    if stage.attention:
      self.norm2 = norm(features)
      self.qkv, self.proj = nn.Conv2d(features, 3 * features, 1), nn.Conv2d(features, features, 1)

  def forward(self, x, embedding):
    h = self.conv0(resample(F.silu(self.norm0(x)), self.stage.resample))
    h = h + self.affine(embedding)[:, :, None, None]
    h = self.conv1(F.silu(self.norm1(h)))
    if self.skip is not None:
      x = self.skip(resample(x, self.stage.resample))
    x = (x + h) * math.sqrt(0.5)
    if self.stage.attention:
      n, c, height, width = x.shape
      q, k, v = self.qkv(self.norm2(x)).reshape(n, 1, c, 3, height * width).unbind(3)
      h = F.scaled_dot_product_attention(*(each.transpose(-1, -2) for each in (q, k, v)))
      h = self.proj(h.transpose(-1, -2).reshape(n, c, height, width))
      x = (x + h) * math.sqrt(0.5)
    return x


class Denoiser(nn.Module):
  """``D(x; sigma)`` under EDM's preconditioning, x [N, C, H, W], sigma [N]."""

  def __init__(self, size: Size):
    super().__init__()
    plan = network.create(size).model
    encoder, decoder = list(unet.encoder(plan)), list(unet.decoder(plan, all_attend=False))
    width = plan.model_channels * plan.channel_mult_emb
    self.map_layer0, self.map_layer1 = nn.Linear(plan.model_channels, width), nn.Linear(width, width)
    inputs, side, skips = plan.model_channels, plan.img_resolution, [plan.model_channels]
    blocks = {}
    for stage in encoder:
      blocks[stage.name], inputs = Block(stage, inputs, width), stage.features
      skips.append(inputs)
    for stage in decoder:
      inputs += skips.pop() if stage.joins_skip else 0
      blocks[stage.name], inputs = Block(stage, inputs, width), stage.features
    self.blocks = nn.ModuleDict(blocks)
    self.first = nn.Conv2d(plan.img_channels, plan.model_channels, 3, padding=1)
    self.last_norm, self.last = norm(inputs), nn.Conv2d(inputs, plan.img_channels, 3, padding=1)
    self.joining = {stage.name for stage in decoder if stage.joins_skip}
    self.encoder, self.decoder = [s.name for s in encoder], [s.name for s in decoder]
    self.register_buffer("frequency", 1e-4 ** torch.linspace(0, 1, plan.model_channels // 2))
    self.places = {
      f"enc_{side}x{side}_conv": "first",
      f"dec_{side}x{side}_aux_norm": "last_norm",
      f"dec_{side}x{side}_aux_conv": "last",
    } | {name: f"blocks.{name}" for name in blocks}

  def forward(self, x, sigma):
    total = sigma**2 + edm.SIGMA_DATA**2
    angle = (sigma.log() / 4)[:, None] * self.frequency
    e = torch.cat([angle.sin(), angle.cos()], 1)
    e = F.silu(self.map_layer1(F.silu(self.map_layer0(e))))
    h = self.first(x / total.sqrt()[:, None, None, None])
    skips = [h]
    for name in self.encoder:
      h = self.blocks[name](h, e)
      skips.append(h)
    for name in self.decoder:
      block = self.blocks[name]
      h = block(torch.cat([h, skips.pop()], 1) if name in self.joining else h, e)
    raw = self.last(F.silu(self.last_norm(h)))
    c_skip, c_out = edm.SIGMA_DATA**2 / total, sigma * edm.SIGMA_DATA / total.sqrt()
    return c_skip[:, None, None, None] * x + c_out[:, None, None, None] * raw


def norm(channels: int) -> nn.GroupNorm:
  """Return EDM's normalisation: at least four channels in a group."""
  return nn.GroupNorm(min(32, channels // 4), channels, eps=song_unet.EPS)


def resample(x: torch.Tensor, how: str) -> torch.Tensor:
  """Keep, halve or double the resolution."""
  if how == "keep":
    return x
  return F.avg_pool2d(x, 2) if how == "halve" else F.interpolate(x, scale_factor=2, mode="nearest")


def load(size: Size, folder: pathlib.Path, memory_format=torch.contiguous_format) -> Denoiser:
  """Return the network with the parameters that ours left in the folder."""
  found = Denoiser(size)
  of = own_names(found)
  state = {of[path]: torch.from_numpy(to_torch(path, leaf)) for path, leaf in network.load(folder).items()}
  found.load_state_dict(state | {"frequency": found.frequency})
  return found.to(DEVICE).to(memory_format=memory_format)


def own_names(denoiser: Denoiser) -> dict[str, str]:
  """Return path in our parameters -> name in PyTorch."""
  names = {}
  for name, _ in denoiser.named_parameters():
    place, kind = name.rsplit(".", 1)
    for ours, theirs in denoiser.places.items():
      if place == theirs or place.startswith(f"{theirs}."):
        place = ours + place[len(theirs) :]
        break
    is_norm = place.rsplit(".", 1)[-1].startswith("norm") or place.endswith("_norm")
    kind = {"weight": "scale" if is_norm else "kernel"}.get(kind, kind)
    names[f"model.{place}.{kind}"] = name
  return names


def to_torch(path: str, leaf: np.ndarray) -> np.ndarray:
  """Return one of our parameters in PyTorch's order of axes."""
  order = {4: (3, 2, 0, 1), 2: (1, 0)}.get(leaf.ndim) if path.endswith("kernel") else None
  return np.ascontiguousarray(leaf.transpose(order)) if order else leaf


def from_torch(path: str, leaf: np.ndarray) -> np.ndarray:
  """Return PyTorch's parameter, or its gradient, in our order of axes."""
  order = {4: (2, 3, 1, 0), 2: (1, 0)}.get(leaf.ndim) if path.endswith("kernel") else None
  return leaf.transpose(order) if order else leaf


def images(x: np.ndarray, memory_format=torch.contiguous_format) -> torch.Tensor:
  """Return images [N, H, W, C] as PyTorch has them, [N, C, H, W]."""
  return torch.from_numpy(np.moveaxis(x, -1, 1).copy()).to(DEVICE).to(memory_format=memory_format)


def array(x: torch.Tensor) -> np.ndarray:
  """Return images [N, C, H, W] as ours, [N, H, W, C]."""
  return np.moveaxis(x.detach().float().cpu().numpy(), 1, -1)


def wait() -> None:
  """Wait for the GPU, where there is one."""
  if DEVICE == "cuda":
    torch.cuda.synchronize()
