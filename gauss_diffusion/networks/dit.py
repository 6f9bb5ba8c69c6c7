"""The diffusion transformer of Peebles & Xie 2023 ("DiT"), with adaLN-Zero blocks."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from gauss_diffusion.networks import layers, unet
from gauss_diffusion.networks.embedding import Embedding
from gauss_diffusion.types import Array, ArrayLike

EPS = 1e-6


class Block(nn.Module):
  """Transformer block on tokens [N, T, D]: attention and MLP, shifted, scaled and gated by the embedding.

  The gates start at zero, so a block starts as the identity.
  """

  num_heads: int
  mlp_ratio: int

  @nn.compact
  def __call__(self, x: Float[Array, "N T D"], embedding: Float[Array, "N E"]) -> Float[Array, "N T D"]:
    width = x.shape[-1]
    modulation = layers.Linear(6 * width, gain=0.0, name="adaLN_modulation")(nn.silu(embedding))
    shift0, scale0, gate0, shift1, scale1, gate1 = jnp.split(modulation[:, None], 6, axis=-1)

    h = normalise(x) * (1 + scale0) + shift0
    h = layers.attend(layers.Linear(3 * width, name="qkv")(h)[:, :, None], self.num_heads)[:, :, 0]
    x = x + gate0 * layers.Linear(width, name="proj")(h)

    h = normalise(x) * (1 + scale1) + shift1
    h = nn.gelu(layers.Linear(self.mlp_ratio * width, name="fc1")(h))
    return x + gate1 * layers.Linear(width, name="fc2")(h)


class DiT(nn.Module):
  """Raw network F: image [N, H, W, C] and noise label [N] to image, fields named as in the paper's code."""

  img_resolution: int
  img_channels: int
  label_dim: int = 0  # number of classes, 0 for an unconditional network
  augment_dim: int = 0  # length of the augmentation label
  patch_size: int = 4
  hidden_size: int = 384
  depth: int = 12  # blocks
  num_heads: int = 6
  mlp_ratio: int = 4  # width of a block's MLP, in units of hidden_size
  label_dropout: float = 0.0  # share of training samples that lose their label
  remat: bool = False  # recompute each block in the backward pass, see `networks.compute`

  @nn.compact
  def __call__(
    self,
    x: Float[Array, "N H W C"],
    noise_label: Float[Array, " N"],
    class_labels: Float[ArrayLike, "N L"] | None = None,
    augment_labels: Float[ArrayLike, "N A"] | None = None,
    train: bool = False,
  ) -> Float[Array, "N H W O"]:
    unet.check_inputs(self, x, class_labels)
    embed = Embedding(self.hidden_size, self.augment_dim, self.label_dropout, name="embedding")
    embedding = embed(noise_label, class_labels, augment_labels, train).astype(x.dtype)

    position = position_embedding(self.img_resolution // self.patch_size, self.hidden_size)
    x = layers.Linear(self.hidden_size, name="patch_embedding")(to_patches(x, self.patch_size))
    x = x + jnp.asarray(position, x.dtype)[None]
    for i in range(self.depth):
      kind = nn.remat(Block) if self.remat else Block
      x = kind(self.num_heads, self.mlp_ratio, name=f"block{i}")(x, embedding)

    modulation = layers.Linear(2 * self.hidden_size, gain=0.0, name="final_modulation")(nn.silu(embedding))
    shift, scale = jnp.split(modulation[:, None], 2, axis=-1)
    x = normalise(x) * (1 + scale) + shift
    x = layers.Linear(self.patch_size**2 * self.img_channels, gain=0.0, name="final_linear")(x)
    return from_patches(x, self.patch_size)


def check(net: DiT) -> None:
  """Refuse options that do not fit each other."""
  if net.img_resolution % net.patch_size:
    raise ValueError(f"`patch_size` is {net.patch_size}; want a divisor of {net.img_resolution} pixels")
  if net.hidden_size % 4:
    raise ValueError(f"`hidden_size` is {net.hidden_size}; want a multiple of 4")
  if net.hidden_size % net.num_heads:
    raise ValueError(f"`num_heads` is {net.num_heads}; want a divisor of `hidden_size`, {net.hidden_size}")


def to_patches(x: Float[Array, "N H W C"], size: int) -> Float[Array, "N T P"]:
  """Cut images [N, H, W, C] into rows of square patches, [N, (H / size) (W / size), size size C]."""
  n, h, w, c = x.shape
  x = x.reshape(n, h // size, size, w // size, size, c)
  return x.swapaxes(2, 3).reshape(n, -1, size * size * c)


def from_patches(x: Float[Array, "N T P"], size: int) -> Float[Array, "N H W C"]:
  """Put the patches of a square image together again, the inverse of `to_patches`."""
  n, num, width = x.shape
  side = math.isqrt(num)
  x = x.reshape(n, side, side, size, size, -1)
  return x.swapaxes(2, 3).reshape(n, side * size, side * size, -1)


def position_embedding(side: int, features: int) -> Float[np.ndarray, "{side}*{side} {features}"]:
  """Return fixed sines and cosines of each patch's column, then row, float64 [side side, features].

  Frequencies fall from 1 towards 1e-4, ``1e-4^(4 i / features)`` (Peebles & Xie 2023, section 3.2).
  """
  row, column = np.divmod(np.arange(side**2), side)
  angle = np.stack([column, row], 1)[:, :, None] * 1e-4 ** (np.arange(features // 4) / (features // 4))
  return np.concatenate([np.sin(angle), np.cos(angle)], axis=-1).reshape(side**2, features)


def normalise(x: Float[Array, "*n D"]) -> Float[Array, "*n D"]:
  """Shift and scale each token [..., D] to mean 0 and variance 1, in float32 at least."""
  y = x.astype(jnp.promote_types(x.dtype, jnp.float32))
  y = y - y.mean(-1, keepdims=True)
  return (y * jax.lax.rsqrt(jnp.square(y).mean(-1, keepdims=True) + EPS)).astype(x.dtype)
