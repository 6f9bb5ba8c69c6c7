"""The U-Net of DDPM (Ho et al. 2020) in the form of `diffusers`' UNet2DModel, whose names it keeps."""

from collections.abc import Iterator
from typing import Literal

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Float

from gauss_diffusion.networks import layers, unet
from gauss_diffusion.types import Array, ArrayLike


class Block(nn.Module):
  """Residual block: two convolutions, the second one's norm shifted, or scaled and shifted, by the embedding.

  `kept` is the dropout mask of the second convolution's input, scaled by 1 / (1 - rate), or None.
  """

  features: int
  groups: int
  eps: float
  scales: bool  # whether the embedding scales, too

  @nn.compact
  def __call__(
    self,
    x: Float[Array, "N H W C"],
    embedding: Float[Array, "N E"],
    kept: Float[Array, "N M"] | None = None,
  ) -> Float[Array, "N H W F"]:
    h = nn.silu(layers.GroupNorm(self.eps, self.groups, name="norm1")(x))
    h = layers.Conv(self.features, law=layers.lecun, name="conv1")(h)
    width = self.features * (2 if self.scales else 1)
    shift = layers.Linear(width, law=layers.lecun, name="time_emb_proj")(nn.silu(embedding))[:, None, None]
    norm2 = layers.GroupNorm(self.eps, self.groups, name="norm2")
    if self.scales:
      scale, shift = jnp.split(shift, 2, axis=-1)
      h = norm2(h) * (1 + scale) + shift
    else:
      h = norm2(h + shift)
    h = nn.silu(h)
    h = h if kept is None else h * kept.reshape(h.shape).astype(h.dtype)
    h = layers.Conv(self.features, law=layers.lecun, name="conv2")(h)
    if x.shape[-1] != self.features:
      x = layers.Conv(self.features, width=1, law=layers.lecun, name="conv_shortcut")(x)
    return x + h


class Attention(nn.Module):
  """Self-attention over all pixels, added to its input."""

  heads: int
  groups: int
  eps: float
  normalised: bool = True

  @nn.compact
  def __call__(self, x: Float[Array, "N H W C"]) -> Float[Array, "N H W C"]:
    *axes, features = x.shape
    h = layers.GroupNorm(self.eps, self.groups, name="group_norm")(x) if self.normalised else x
    qkv = [layers.Linear(features, law=layers.lecun, name=f"to_{part}")(h) for part in "qkv"]
    h = layers.attend(jnp.stack(qkv, axis=-1).reshape(*axes, 3 * features), self.heads)
    return x + layers.Linear(features, law=layers.lecun, name="to_out")(h)


class DiffusersUNet(nn.Module):
  """Raw network F: image [N, H, W, C] and noise label [N], the step of a schedule, to image."""

  img_resolution: int
  img_channels: int
  out_channels: int = 0  # of F's image, 0 for as many as `img_channels`
  label_dim: int = 0  # number of classes, 0 for an unconditional network
  augment_dim: int = 0  # length of the augmentation label
  model_channels: int = 128
  channel_mult: tuple[int, ...] = (1, 2, 2, 2)  # width of each resolution, in units of model_channels
  num_blocks: int = 2  # per resolution; the decoder has one more
  attn_resolutions: tuple[int, ...] = (16,)  # of the encoder's blocks that attend
  up_attn_resolutions: tuple[int, ...] = (16,)  # of the decoder's
  add_attention: bool = True  # between the two blocks in the middle
  attention_head_dim: int = 0  # channels of a head, 0 for one head of all
  time_embedding_dim: int = 0  # 0 for four times the width of the first resolution
  resnet_time_scale_shift: Literal["default", "scale_shift"] = "default"  # what the embedding does to a block
  flip_sin_to_cos: bool = False  # cosines of the noise label come first
  freq_shift: Literal[0, 1] = 1  # 1: the lowest frequency is 1e-4; 0: it would be the next
  downsample_padding: Literal[0, 1] = (
    0  # rows of zeros above and left of an image to be halved; 0: below, right
  )
  norm_num_groups: int = 0  # of every norm, 0 for at least four channels in each, 32 at most
  norm_eps: float = 1e-6
  dropout: float = 0.0
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
    embedding = self._embed(noise_label, class_labels, augment_labels, train).astype(x.dtype)
    encoder, middle, decoder = list(_encoder(self)), list(_middle(self)), list(_decoder(self))
    kept = {}
    if train and self.dropout:
      stages = encoder + middle + decoder
      kept = unet.dropout_masks(self.make_rng("dropout"), self.dropout, len(x), stages)

    def block(stage, x):
      kind = nn.remat(Block) if self.remat else Block
      scales = self.resnet_time_scale_shift == "scale_shift"
      layer = kind(stage.features, self.norm_num_groups, self.norm_eps, scales, name=stage.name)
      x = layer(x, embedding, kept.get(stage.name))
      if not stage.attention:
        return x
      heads = stage.features // (self.attention_head_dim or stage.features)
      # The library's attention in the middle has no norm where blocks are scaled.
      normalised = not (scales and stage in middle)
      name = stage.name.replace("resnets", "attentions")
      return Attention(heads, self.norm_num_groups, self.norm_eps, normalised, name=name)(x)

    skips = [layers.Conv(_widths(self)[0], law=layers.lecun, name="conv_in")(x)]
    for stage in encoder:
      skips.append(block(stage, skips[-1]))
      if stage.ends_level:
        name = f"{stage.name.partition('_resnets')[0]}_downsamplers_0"
        half = layers.Conv(
          stage.features, law=layers.lecun, stride=2, first=1 - self.downsample_padding, name=name
        )
        skips.append(half(skips[-1]))
    x = skips[-1]
    for stage in middle:
      x = block(stage, x)
    for stage in decoder:
      x = block(stage, jnp.concatenate([x, skips.pop()], axis=-1))
      if stage.ends_level:
        name = f"{stage.name.partition('_resnets')[0]}_upsamplers_0"
        x = layers.Conv(stage.features, law=layers.lecun, name=name)(layers.double(x))
    x = nn.silu(layers.GroupNorm(self.norm_eps, self.norm_num_groups, name="conv_norm_out")(x))
    return layers.Conv(self.out_channels or self.img_channels, law=layers.lecun, name="conv_out")(x)

  def _embed(
    self,
    noise_label: Float[Array, " N"],
    class_labels: Float[ArrayLike, "N L"] | None,
    augment_labels: Float[ArrayLike, "N A"] | None,
    train: bool,
  ) -> Float[Array, "N E"]:
    width = _widths(self)[0]
    e = layers.positional_embedding(noise_label, width, endpoint=self.freq_shift == 1)
    e = jnp.roll(e, width // 2, axis=-1) if self.flip_sin_to_cos else e
    features = self.time_embedding_dim or 4 * width
    e = nn.silu(layers.Linear(features, law=layers.lecun, name="time_embedding_linear_1")(e))
    e = layers.Linear(features, law=layers.lecun, name="time_embedding_linear_2")(e)
    if self.label_dim and class_labels is not None:
      if train and self.label_dropout:
        class_labels = unet.drop_labels(self.make_rng("dropout"), self.label_dropout, class_labels)
      e = e + layers.Table(features, name="class_embedding")(class_labels)
    if self.augment_dim and augment_labels is not None:
      e = e + layers.Linear(features, use_bias=False, law=layers.lecun, name="map_augment")(augment_labels)
    return e


def check(net: DiffusersUNet) -> None:
  """Refuse options that do not fit each other."""
  unet.check(net)
  for width in _widths(net):
    if net.norm_num_groups and width % net.norm_num_groups:
      raise ValueError(f"`norm_num_groups` is {net.norm_num_groups}; want a divisor of {width} channels")
    if net.attention_head_dim and width % net.attention_head_dim:
      raise ValueError(
        f"`attention_head_dim` is {net.attention_head_dim}; want a divisor of {width} channels"
      )


def _widths(net: DiffusersUNet) -> list[int]:
  return [net.model_channels * mult for mult in net.channel_mult]


def _encoder(net: DiffusersUNet) -> Iterator[unet.Stage]:
  """Yield the blocks from the image's resolution down; after the last of a level the image is halved."""
  widths = _widths(net)
  for level, features in enumerate(widths):
    side = net.img_resolution >> level
    for i in range(net.num_blocks):
      ends = i == net.num_blocks - 1 and level < len(widths) - 1
      name = f"down_blocks_{level}_resnets_{i}"
      yield unet.Stage(name, side, features, attention=side in net.attn_resolutions, ends_level=ends)


def _middle(net: DiffusersUNet) -> Iterator[unet.Stage]:
  """Yield the two blocks between encoder and decoder, of which the first may attend."""
  side, features = net.img_resolution >> (len(net.channel_mult) - 1), _widths(net)[-1]
  for i in range(2):
    yield unet.Stage(f"mid_block_resnets_{i}", side, features, attention=net.add_attention and i == 0)


def _decoder(net: DiffusersUNet) -> Iterator[unet.Stage]:
  """Yield the blocks from the coarsest resolution up; after the last of a level the image is doubled."""
  for step, (level, features) in enumerate(reversed(list(enumerate(_widths(net))))):
    side = net.img_resolution >> level
    for i in range(net.num_blocks + 1):
      ends, attends = i == net.num_blocks and level > 0, side in net.up_attn_resolutions
      yield unet.Stage(f"up_blocks_{step}_resnets_{i}", side, features, "keep", attends, True, ends)
