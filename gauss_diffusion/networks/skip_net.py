"""The Skip network: convolutions down and up, with thin skips between (Ulyanov et al. 2018).

Theirs normalises over the batch. A denoiser is a function of one image, so here every image is normalised on
its own, over groups of channels.
"""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Float

from gauss_diffusion.networks import layers, unet
from gauss_diffusion.networks.embedding import Embedding
from gauss_diffusion.types import Array, ArrayLike

EPS = 1e-5
SLOPE = 0.2  # of the leaky ReLU below zero
NEARLY_ZERO = 1e-5  # gain of the last layer: a new network puts out nothing


class Block(nn.Module):
  """Two convolutions, each normalised and rectified, with the embedding added after the first one's norm."""

  features: int
  widths: tuple[int, int]  # of the convolutions, in pixels

  @nn.compact
  def __call__(self, x: Float[Array, "N H W C"], embedding: Float[Array, "N E"]) -> Float[Array, "N H W F"]:
    for i, width in enumerate(self.widths):
      x = layers.GroupNorm(EPS, name=f"norm{i}")(layers.Conv(self.features, width=width, name=f"conv{i}")(x))
      if i == 0:
        x = x + layers.Linear(self.features, name="affine")(embedding)[:, None, None]
      x = nn.leaky_relu(x, SLOPE)
    return x


class SkipNet(nn.Module):
  """Raw network F: image [N, H, W, C] and noise label [N] to image."""

  img_resolution: int
  img_channels: int
  label_dim: int = 0  # number of classes, 0 for an unconditional network
  augment_dim: int = 0  # length of the augmentation label
  model_channels: int = 128
  skip_channels: int = 4
  num_levels: int = 4  # each halves the resolution
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
    channels = self.model_channels
    embed = Embedding(channels, self.augment_dim, self.label_dropout, name="embedding")
    embedding = nn.silu(embed(noise_label, class_labels, augment_labels, train)).astype(x.dtype)
    kind = nn.remat(Block) if self.remat else Block

    skips = []
    for level in range(self.num_levels):
      skips.append(layers.Conv(self.skip_channels, width=1, name=f"skip{level}")(x))
      x = kind(channels, (3, 3), name=f"down{level}")(layers.halve(x), embedding)
    for level in reversed(range(self.num_levels)):
      x = jnp.concatenate([skips.pop(), layers.double(x)], axis=-1)
      x = kind(channels, (3, 1), name=f"up{level}")(x, embedding)
    return layers.Conv(self.img_channels, width=1, gain=NEARLY_ZERO, name="out")(x)


def check(net: SkipNet) -> None:
  """Refuse options that do not fit each other."""
  coarsest = 2**net.num_levels
  if net.img_resolution % coarsest:
    raise ValueError(
      f"`img_resolution` is {net.img_resolution}; {net.num_levels} `num_levels` want a multiple of {coarsest}"
    )
  if net.model_channels % 4:
    raise ValueError(f"`model_channels` is {net.model_channels}; want a multiple of 4")
