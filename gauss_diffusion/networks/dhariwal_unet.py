"""The U-Net of Dhariwal & Nichol 2021, ADM, in the form of EDM (Karras et al. 2022, table 7)."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Float

from gauss_diffusion.networks import layers, unet
from gauss_diffusion.types import Array, ArrayLike

EPS = 1e-5
CHANNELS_PER_HEAD = 64  # at least; fewer channels than this have no attention


class Block(nn.Module):
  """Residual block, its second norm scaled and shifted by the embedding, then optional self-attention.

  `kept` is the dropout mask of the second convolution's input, scaled by 1 / (1 - rate), or None.
  """

  features: int
  resample: str = "keep"  # or "halve", "double"
  attention: bool = False

  @nn.compact
  def __call__(
    self,
    x: Float[Array, "N H W C"],
    embedding: Float[Array, "N E"],
    kept: Float[Array, "N M"] | None = None,
  ) -> Float[Array, "N h w F"]:
    h = layers.resample(nn.silu(layers.GroupNorm(EPS, name="norm0")(x)), self.resample)
    h = layers.Conv(self.features, law=layers.lecun, name="conv0")(h)
    modulation = layers.Linear(2 * self.features, law=layers.lecun, name="affine")(embedding)
    scale, shift = jnp.split(modulation[:, None, None], 2, axis=-1)
    h = nn.silu(layers.GroupNorm(EPS, name="norm1")(h) * (scale + 1) + shift)
    h = h if kept is None else h * kept.reshape(h.shape).astype(h.dtype)
    h = layers.Conv(self.features, gain=0.0, name="conv1")(h)

    x = layers.resample(x, self.resample)
    if x.shape[-1] != self.features:
      x = layers.Conv(self.features, width=1, law=layers.lecun, name="skip")(x)
    x = x + h

    heads = self.features // CHANNELS_PER_HEAD
    if self.attention and heads:
      h = layers.GroupNorm(EPS, name="norm2")(x)
      h = layers.Conv(3 * self.features, width=1, law=layers.lecun, name="qkv")(h)
      x = x + layers.Conv(self.features, width=1, gain=0.0, name="proj")(layers.attend(h, heads))
    return x


class DhariwalUNet(nn.Module):
  """Raw network F: image [N, H, W, C] and noise label [N] to image, fields named as in the reference."""

  img_resolution: int
  img_channels: int
  out_channels: int = 0  # of F's image, 0 for as many as `img_channels`
  label_dim: int = 0  # number of classes, 0 for an unconditional network
  augment_dim: int = 0  # length of the augmentation label
  model_channels: int = 192
  channel_mult: tuple[int, ...] = (1, 2, 3, 4)  # width of each resolution, in units of model_channels
  channel_mult_emb: int = 4
  num_blocks: int = 3  # per resolution; the decoder has one more
  attn_resolutions: tuple[int, ...] = (32, 16, 8)
  dropout: float = 0.10
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
    encoder, decoder = list(unet.encoder(self)), list(unet.decoder(self, all_attend=True))
    kept = {}
    if train and self.dropout:
      kept = unet.dropout_masks(self.make_rng("dropout"), self.dropout, len(x), encoder + decoder)

    def block(stage, x):
      kind = nn.remat(Block) if self.remat else Block
      layer = kind(stage.features, stage.resample, stage.attention, name=stage.name)
      return layer(x, embedding, kept.get(stage.name))

    features = self.model_channels * self.channel_mult[0]
    first = f"enc_{self.img_resolution}x{self.img_resolution}_conv"
    skips = [layers.Conv(features, law=layers.lecun, name=first)(x)]
    for stage in encoder:
      skips.append(block(stage, skips[-1]))
    x = skips[-1]
    for stage in decoder:
      if stage.joins_skip:
        x = jnp.concatenate([x, skips.pop()], axis=-1)
      x = block(stage, x)
    x = nn.silu(layers.GroupNorm(EPS, name="out_norm")(x))
    return layers.Conv(self.out_channels or self.img_channels, gain=0.0, name="out_conv")(x)

  def _embed(
    self,
    noise_label: Float[Array, " N"],
    class_labels: Float[ArrayLike, "N L"] | None,
    augment_labels: Float[ArrayLike, "N A"] | None,
    train: bool,
  ) -> Float[Array, "N E"]:
    waves = layers.positional_embedding(noise_label, self.model_channels, endpoint=False)
    e = jnp.roll(waves, self.model_channels // 2, axis=-1)  # cosines, then sines
    if self.augment_dim and augment_labels is not None:
      e = e + layers.Linear(self.model_channels, use_bias=False, gain=0.0, name="map_augment")(augment_labels)
    features = self.model_channels * self.channel_mult_emb
    e = nn.silu(layers.Linear(features, law=layers.lecun, name="map_layer0")(e))
    e = layers.Linear(features, law=layers.lecun, name="map_layer1")(e)
    if self.label_dim and class_labels is not None:
      if train and self.label_dropout:
        class_labels = unet.drop_labels(self.make_rng("dropout"), self.label_dropout, class_labels)
      e = e + layers.Table(features, name="map_label")(class_labels)
    return nn.silu(e)


def check(net: DhariwalUNet) -> None:
  """Refuse options that do not fit each other."""
  unet.check(net)
  for mult in net.channel_mult:
    features = net.model_channels * mult
    if features % max(features // CHANNELS_PER_HEAD, 1):
      raise ValueError(
        f"`model_channels` is {net.model_channels}: {features} channels do not split into "
        f"{features // CHANNELS_PER_HEAD} heads; try a multiple of {CHANNELS_PER_HEAD}"
      )
