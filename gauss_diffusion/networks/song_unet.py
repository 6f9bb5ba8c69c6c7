"""The U-Net of Song et al. 2021 in its DDPM++ form, as EDM parametrises it (Karras et al. 2022, table 7)."""

import math
from collections.abc import Iterator
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from gauss_diffusion.networks import layers

EPS = 1e-6
NEARLY_ZERO = 1e-5  # gain of the last layer of a residual branch: a block starts as its skip
ATTENTION_GAIN = math.sqrt(0.2)


class Block(nn.Module):
  """Residual block: two convolutions with the embedding added between, then optional self-attention.

  `kept` is the dropout mask of the second convolution's input, scaled by 1 / (1 - rate), or None.
  """

  features: int
  resample: str = "keep"  # or "halve", "double"
  attention: bool = False

  @nn.compact
  def __call__(self, x, embedding, kept=None):
    resample = {"keep": lambda x: x, "halve": layers.halve, "double": layers.double}[self.resample]

    h = resample(nn.silu(layers.GroupNorm(EPS, name="norm0")(x)))
    h = layers.Conv(self.features, name="conv0")(h)
    h = h + layers.Linear(self.features, name="affine")(embedding)[:, None, None]
    h = nn.silu(layers.GroupNorm(EPS, name="norm1")(h))
    h = h if kept is None else h * kept.reshape(h.shape)
    h = layers.Conv(self.features, gain=NEARLY_ZERO, name="conv1")(h)

    if self.resample != "keep" or x.shape[-1] != self.features:
      x = layers.Conv(self.features, width=1, name="skip")(resample(x))
    x = (x + h) * math.sqrt(0.5)

    if self.attention:
      h = layers.GroupNorm(EPS, name="norm2")(x)
      h = layers.Conv(3 * self.features, width=1, gain=ATTENTION_GAIN, name="qkv")(h)
      h = layers.Conv(self.features, width=1, gain=NEARLY_ZERO, name="proj")(layers.attend(h))
      x = (x + h) * math.sqrt(0.5)
    return x


class SongUNet(nn.Module):
  """Raw network F: image [N, H, W, C] and noise label [N] to image, fields named as in the reference."""

  img_resolution: int
  img_channels: int
  label_dim: int = 0  # number of classes, 0 for an unconditional network
  augment_dim: int = 0  # length of the augmentation label
  model_channels: int = 128
  channel_mult: tuple[int, ...] = (1, 2, 2, 2)  # width of each resolution, in units of model_channels
  channel_mult_emb: int = 4
  num_blocks: int = 4  # per resolution; the decoder has one more
  attn_resolutions: tuple[int, ...] = (16,)
  dropout: float = 0.10
  label_dropout: float = 0.0  # share of training samples that lose their label

  @nn.compact
  def __call__(self, x, noise_label, class_labels=None, augment_labels=None, train=False):
    shape = (self.img_resolution, self.img_resolution, self.img_channels)
    if x.shape[1:] != shape:
      raise ValueError(f"images are {x.shape[1:]}; `img_resolution` and `img_channels` want {shape}")
    if class_labels is not None and not self.label_dim:
      raise ValueError("`class_labels` were given to an unconditional network; want `label_dim` > 0")

    embedding = self._embed(noise_label, class_labels, augment_labels, train)
    encoder, decoder = list(_encoder(self)), list(_decoder(self))
    kept = self._dropout_masks(len(x), encoder + decoder) if train and self.dropout else {}

    def block(stage, x):
      layer = Block(stage.features, stage.resample, stage.attention, name=stage.name)
      return layer(x, embedding, kept.get(stage.name))

    top = f"{self.img_resolution}x{self.img_resolution}"
    skips = [layers.Conv(self.model_channels, name=f"enc_{top}_conv")(x)]
    for stage in encoder:
      skips.append(block(stage, skips[-1]))
    x = skips[-1]
    for stage in decoder:
      if stage.joins_skip:
        x = jnp.concatenate([x, skips.pop()], axis=-1)
      x = block(stage, x)
    x = nn.silu(layers.GroupNorm(EPS, name=f"dec_{top}_aux_norm")(x))
    return layers.Conv(self.img_channels, gain=NEARLY_ZERO, name=f"dec_{top}_aux_conv")(x)

  def _embed(self, noise_label, class_labels, augment_labels, train):
    e = layers.positional_embedding(noise_label, self.model_channels)
    if self.label_dim:
      if class_labels is None:
        class_labels = jnp.zeros((len(e), self.label_dim), e.dtype)
      if train and self.label_dropout:
        kept = jax.random.bernoulli(self.make_rng("dropout"), 1 - self.label_dropout, (len(e), 1))
        class_labels = class_labels * kept
      e = e + layers.Linear(self.model_channels, name="map_label")(class_labels * math.sqrt(self.label_dim))
    if self.augment_dim and augment_labels is not None:
      e = e + layers.Linear(self.model_channels, use_bias=False, name="map_augment")(augment_labels)
    for name in ("map_layer0", "map_layer1"):
      e = nn.silu(layers.Linear(self.model_channels * self.channel_mult_emb, name=name)(e))
    return e

  def _dropout_masks(self, num, stages):
    """Draw the masks of all blocks at once: a generator per block costs a second of compile time each."""
    sizes = [stage.resolution**2 * stage.features for stage in stages]
    kept = jax.random.bernoulli(self.make_rng("dropout"), 1 - self.dropout, (num, sum(sizes)))
    masks = jnp.split(kept / (1 - self.dropout), np.cumsum(sizes)[:-1], axis=1)
    return {stage.name: mask for stage, mask in zip(stages, masks, strict=True)}


def check(net: SongUNet) -> None:
  """Refuse options that do not fit each other."""
  coarsest = 2 ** (len(net.channel_mult) - 1)
  if net.img_resolution % coarsest:
    raise ValueError(
      f"`img_resolution` is {net.img_resolution}; {len(net.channel_mult)} levels in `channel_mult` "
      f"want a multiple of {coarsest}"
    )
  if net.model_channels % 4:
    raise ValueError(f"`model_channels` is {net.model_channels}; want a multiple of 4")


class _Stage(NamedTuple):
  """One block's place in the network."""

  name: str
  resolution: int  # of its output
  features: int
  resample: str = "keep"
  attention: bool = False
  joins_skip: bool = False


def _encoder(net: SongUNet) -> Iterator[_Stage]:
  features = net.model_channels
  for level, mult in enumerate(net.channel_mult):
    resolution = net.img_resolution >> level
    prefix = f"enc_{resolution}x{resolution}"
    if level > 0:
      yield _Stage(f"{prefix}_down", resolution, features, "halve")
    features = net.model_channels * mult
    for i in range(net.num_blocks):
      yield _Stage(f"{prefix}_block{i}", resolution, features, attention=resolution in net.attn_resolutions)


def _decoder(net: SongUNet) -> Iterator[_Stage]:
  features = net.model_channels * net.channel_mult[-1]
  for level, mult in reversed(list(enumerate(net.channel_mult))):
    resolution = net.img_resolution >> level
    prefix = f"dec_{resolution}x{resolution}"
    if level == len(net.channel_mult) - 1:
      yield _Stage(f"{prefix}_in0", resolution, features, attention=True)
      yield _Stage(f"{prefix}_in1", resolution, features)
    else:
      yield _Stage(f"{prefix}_up", resolution, features, "double")
    features = net.model_channels * mult
    for i in range(net.num_blocks + 1):
      attention = i == net.num_blocks and resolution in net.attn_resolutions
      yield _Stage(f"{prefix}_block{i}", resolution, features, attention=attention, joins_skip=True)
