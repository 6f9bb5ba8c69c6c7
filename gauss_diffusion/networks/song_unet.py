"""The U-Nets of Song et al. 2021, DDPM++ and NCSN++, in the form of EDM (Karras et al. 2022, table 7)."""

import math
from typing import Literal

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Float

from gauss_diffusion.networks import layers, unet
from gauss_diffusion.types import Array, ArrayLike

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
  resample_filter: tuple[int, ...] = layers.BOX

  @nn.compact
  def __call__(
    self,
    x: Float[Array, "N H W C"],
    embedding: Float[Array, "N E"],
    kept: Float[Array, "N M"] | None = None,
  ) -> Float[Array, "N h w F"]:
    h = nn.silu(layers.GroupNorm(EPS, name="norm0")(x))
    h = layers.Conv(self.features, name="conv0")(layers.resample(h, self.resample, self.resample_filter))
    h = h + layers.Linear(self.features, name="affine")(embedding)[:, None, None]
    h = nn.silu(layers.GroupNorm(EPS, name="norm1")(h))
    h = h if kept is None else h * kept.reshape(h.shape).astype(h.dtype)
    h = layers.Conv(self.features, gain=NEARLY_ZERO, name="conv1")(h)

    if self.resample != "keep" or x.shape[-1] != self.features:
      x = layers.resample(x, self.resample, self.resample_filter)
      x = layers.Conv(self.features, width=1, name="skip")(x)
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
  out_channels: int = 0  # of F's image, 0 for as many as `img_channels`
  label_dim: int = 0  # number of classes, 0 for an unconditional network
  augment_dim: int = 0  # length of the augmentation label
  model_channels: int = 128
  channel_mult: tuple[int, ...] = (1, 2, 2, 2)  # width of each resolution, in units of model_channels
  channel_mult_emb: int = 4
  num_blocks: int = 4  # per resolution; the decoder has one more
  attn_resolutions: tuple[int, ...] = (16,)
  dropout: float = 0.10
  label_dropout: float = 0.0  # share of training samples that lose their label
  embedding_type: Literal["positional", "fourier"] = "positional"
  channel_mult_noise: int = 1  # length of the noise label's embedding, in units of model_channels
  encoder_type: Literal["standard", "skip", "residual"] = (
    "standard"  # how it sees the image at each resolution
  )
  decoder_type: Literal["standard", "skip"] = "standard"  # skip: each resolution adds to the image put out
  resample_filter: tuple[int, ...] = layers.BOX
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
    encoder, decoder = list(unet.encoder(self)), list(unet.decoder(self, all_attend=False))
    kept = {}
    if train and self.dropout:
      kept = unet.dropout_masks(self.make_rng("dropout"), self.dropout, len(x), encoder + decoder)

    def block(stage, x):
      kind = nn.remat(Block) if self.remat else Block
      layer = kind(stage.features, stage.resample, stage.attention, self.resample_filter, name=stage.name)
      return layer(x, embedding, kept.get(stage.name))

    # The image itself, or what became of it, that the encoder sees again at each resolution.
    pyramid = x
    x = layers.Conv(self.model_channels, name=f"enc_{self.img_resolution}x{self.img_resolution}_conv")(x)
    skips = [x]
    for stage in encoder:
      x = block(stage, x)
      if stage.resample == "halve":
        x, pyramid = self._see_again(stage, x, pyramid)
      skips.append(x)

    image = None
    for stage in decoder:
      if stage.joins_skip:
        x = jnp.concatenate([x, skips.pop()], axis=-1)
      x = block(stage, x)
      if stage.ends_level and (self.decoder_type == "skip" or stage.resolution == self.img_resolution):
        image = self._put_out(stage, x, image)
    assert image is not None  # the last stage puts it out
    return image

  def _see_again(
    self, stage: unet.Stage, x: Float[Array, "N H W F"], pyramid: Float[Array, "N ..."]
  ) -> tuple[Float[Array, "N H W F"], Float[Array, "N ..."]]:
    aux = f"enc_{stage.resolution}x{stage.resolution}_aux"
    if self.encoder_type == "skip":
      pyramid = layers.halve(pyramid, self.resample_filter)
      x = x + layers.Conv(stage.features, width=1, name=f"{aux}_skip")(pyramid)
    if self.encoder_type == "residual":
      # The filter follows the convolution, whose output it reads past the border too.
      margin = len(self.resample_filter) // 2 - 1
      pyramid = layers.Conv(stage.features, margin=margin, name=f"{aux}_residual")(pyramid)
      x = pyramid = (x + layers.halve(pyramid, self.resample_filter, margin)) * math.sqrt(0.5)
    return x, pyramid

  def _put_out(
    self, stage: unet.Stage, x: Float[Array, "N H W F"], coarser: Float[Array, "N h w O"] | None
  ) -> Float[Array, "N H W O"]:
    aux = f"dec_{stage.resolution}x{stage.resolution}_aux"
    x = nn.silu(layers.GroupNorm(EPS, name=f"{aux}_norm")(x))
    image = layers.Conv(self.out_channels or self.img_channels, gain=NEARLY_ZERO, name=f"{aux}_conv")(x)
    return image if coarser is None else image + layers.double(coarser, self.resample_filter)

  def _embed(
    self,
    noise_label: Float[Array, " N"],
    class_labels: Float[ArrayLike, "N L"] | None,
    augment_labels: Float[ArrayLike, "N A"] | None,
    train: bool,
  ) -> Float[Array, "N E"]:
    features = self.model_channels * self.channel_mult_noise
    if self.embedding_type == "fourier":
      e = layers.FourierEmbedding(features, name="map_noise")(noise_label)
    else:
      e = layers.positional_embedding(noise_label, features)
    if self.label_dim:
      if class_labels is None:
        class_labels = jnp.zeros((len(e), self.label_dim), e.dtype)
      if train and self.label_dropout:
        class_labels = unet.drop_labels(self.make_rng("dropout"), self.label_dropout, class_labels)
      e = e + layers.Linear(features, name="map_label")(class_labels * math.sqrt(self.label_dim))
    if self.augment_dim and augment_labels is not None:
      e = e + layers.Linear(features, use_bias=False, name="map_augment")(augment_labels)
    for name in ("map_layer0", "map_layer1"):
      e = nn.silu(layers.Linear(self.model_channels * self.channel_mult_emb, name=name)(e))
    return e


def check(net: SongUNet) -> None:
  """Refuse options that do not fit each other."""
  unet.check(net)
  if len(net.resample_filter) % 2:
    raise ValueError(f"`resample_filter` is {net.resample_filter}; want an even number of taps")
