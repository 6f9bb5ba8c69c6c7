"""The magnitude-preserving U-Net of Karras et al. 2024 ("EDM2", config G): no layer changes a signal's size.

Equations are numbered as in the paper. Trained here, weights are normalised wherever they are
used, but not after every step, as the paper's are besides (its section 2.3): they grow as they learn.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float

from gauss_diffusion.networks import layers, unet
from gauss_diffusion.types import Array, ArrayLike

EPS = 1e-4  # added to a length that is divided by
SILU = 0.596  # root mean square of the silu of a normal number
CLIP = 256.0  # largest activation of a block
CHANNELS_PER_HEAD = 64  # at least; fewer channels than this have no attention


def normalise(x: Float[ArrayLike, "*n C"]) -> Float[Array, "*n C"]:
  """Scale to a root mean square of one over the last axis, ``x / (ε + ‖x‖ / sqrt(C))``."""
  y = jnp.asarray(x, jnp.promote_types(x.dtype, jnp.float32))
  length = jnp.sqrt(jnp.square(y).sum(-1, keepdims=True))
  return (y / (EPS + length / math.sqrt(y.shape[-1]))).astype(x.dtype)


def silu(x: Float[ArrayLike, "*n"]) -> Float[Array, "*n"]:
  """Return ``silu(x) / 0.596``, whose variance is one where that of a normal x is (eq. 81)."""
  return nn.silu(x) / SILU


def add(a: Float[Array, "*n"], b: Float[Array, "*n"], t: float) -> Float[Array, "*n"]:
  """Return ``((1 − t) a + t b) / sqrt((1 − t)² + t²)`` (eq. 88)."""
  return ((1 - t) * a + t * b) / math.sqrt((1 - t) ** 2 + t**2)


def join(a: Float[Array, "*n A"], b: Float[Array, "*n B"], t: float) -> Float[Array, "*n A+B"]:
  """Join channels so that `a` and `b` contribute as 1 − t and t, however many each has (eq. 103)."""
  one, two = a.shape[-1], b.shape[-1]
  scale = math.sqrt((one + two) / ((1 - t) ** 2 + t**2))
  parts = (1 - t) / math.sqrt(one) * scale * a, t / math.sqrt(two) * scale * b
  return jnp.concatenate(parts, axis=-1)


class Layer(nn.Module):
  """Linear map, or convolution of odd `width`, without bias, each output's weights of length one (eq. 47).

  What is learned is their direction.
  """

  features: int
  width: int = 0  # 0: fully connected, on the last axis

  @nn.compact
  def __call__(
    self, x: Float[ArrayLike, "*n I"], gain: Float[ArrayLike, ""] | float = 1.0
  ) -> Float[Array, "*n F"]:
    window = (self.width, self.width) if self.width else ()
    direction = self.param("direction", layers.spread(1.0), (*window, x.shape[-1], self.features))
    fans = direction.reshape(-1, self.features)
    kernel = (normalise(fans.T).T / math.sqrt(len(fans)) * gain).reshape(direction.shape).astype(x.dtype)
    if not self.width:
      return jnp.matmul(x, kernel, precision=layers.precision(x.dtype))
    return jax.lax.conv_general_dilated(
      x,  # type: ignore[arg-type]  # NumPy's arrays are welcome too
      kernel,
      (1, 1),
      [(self.width // 2,) * 2] * 2,
      dimension_numbers=("NHWC", "HWIO", "NHWC"),
      precision=layers.precision(x.dtype),
    )


class Fourier(nn.Module):
  """Cosines of the noise label at frequencies and phases that are drawn once and never trained (eq. 75)."""

  features: int

  @nn.compact
  def __call__(self, noise_label: Float[ArrayLike, " N"]) -> Float[Array, "N {self.features}"]:
    freqs = self.param("freqs", layers.spread(2 * math.pi), (self.features,))
    phases = self.param("phases", layers.spread(math.pi), (self.features,))
    freqs, phases = (jax.lax.stop_gradient(each).astype(noise_label.dtype) for each in (freqs, phases))
    return math.sqrt(2) * jnp.cos(noise_label[:, None] * freqs[None] + phases[None])


class Block(nn.Module):
  """Residual block whose second input is scaled by the embedding, then optional cosine attention (fig. 21).

  `kept` is the dropout mask of the second convolution's input, scaled by 1 / (1 - rate), or None.
  """

  features: int
  encodes: bool  # an encoder's block normalises each pixel of its input
  resample: str
  attention: bool
  res_balance: float
  attn_balance: float

  @nn.compact
  def __call__(
    self,
    x: Float[Array, "N H W C"],
    embedding: Float[Array, "N E"],
    kept: Float[Array, "N M"] | None = None,
  ) -> Float[Array, "N h w F"]:
    x = layers.resample(x, self.resample)
    widens = x.shape[-1] != self.features
    if self.encodes:
      x = normalise(Layer(self.features, 1, name="conv_skip")(x) if widens else x)
    h = Layer(self.features, 3, name="conv_res0")(silu(x))
    gain = self.param("emb_gain", layers.spread(0.0), ())
    scale = Layer(self.features, name="emb_linear")(embedding, gain) + 1
    h = silu(h * scale[:, None, None])
    h = h if kept is None else h * kept.reshape(h.shape).astype(h.dtype)
    h = Layer(self.features, 3, name="conv_res1")(h)
    if not self.encodes and widens:
      x = Layer(self.features, 1, name="conv_skip")(x)
    x = add(x, h, self.res_balance)

    heads = self.features // CHANNELS_PER_HEAD
    if self.attention and heads:
      qkv = Layer(3 * self.features, 1, name="attn_qkv")(x)
      # Of a head's channels, each of query, key and value has length one; see `layers.attend` for the order.
      parts = qkv.reshape(*x.shape[:3], heads, self.features // heads, 3)
      qkv = jnp.moveaxis(normalise(jnp.moveaxis(parts, -1, -2)), -2, -1).reshape(qkv.shape)
      x = add(x, Layer(self.features, 1, name="attn_proj")(layers.attend(qkv, heads)), self.attn_balance)
    return jnp.clip(x, -CLIP, CLIP)


class EDM2(nn.Module):
  """Raw network F: image [N, H, W, C] and noise label [N] to image, fields named as in the reference."""

  img_resolution: int
  img_channels: int
  label_dim: int = 0  # number of classes, 0 for an unconditional network
  augment_dim: int = 0  # length of the augmentation label
  model_channels: int = 192
  channel_mult: tuple[int, ...] = (1, 2, 3, 4)  # width of each resolution, in units of model_channels
  channel_mult_noise: int = 1  # length of the noise label's embedding, in units of model_channels
  channel_mult_emb: int = 4  # length of the whole embedding
  num_blocks: int = 3  # per resolution; the decoder has one more
  attn_resolutions: tuple[int, ...] = (16, 8)
  label_balance: float = 0.5  # between noise label, 0, and class, 1
  concat_balance: float = 0.5  # between the decoder's own, 0, and the encoder's channels, 1
  res_balance: float = 0.3  # between a block's input, 0, and what it makes of it, 1
  attn_balance: float = 0.3
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
  ) -> Float[Array, "N H W C"]:
    unet.check_inputs(self, x, class_labels)
    embedding = self._embed(noise_label, class_labels, augment_labels, train).astype(x.dtype)
    encoder, decoder = list(unet.encoder(self)), list(unet.decoder(self, all_attend=True))
    kept = {}
    if train and self.dropout:
      kept = unet.dropout_masks(self.make_rng("dropout"), self.dropout, len(x), encoder + decoder)

    def block(stage, x, encodes):
      kind = nn.remat(Block) if self.remat else Block
      options = stage.features, encodes, stage.resample, stage.attention, self.res_balance, self.attn_balance
      return kind(*options, name=stage.name)(x, embedding, kept.get(stage.name))

    features = self.model_channels * self.channel_mult[0]
    x = jnp.concatenate([x, jnp.ones_like(x[..., :1])], axis=-1)  # in the place of biases
    skips = [Layer(features, 3, name=f"enc_{self.img_resolution}x{self.img_resolution}_conv")(x)]
    for stage in encoder:
      skips.append(block(stage, skips[-1], True))
    x = skips[-1]
    for stage in decoder:
      if stage.joins_skip:
        x = join(x, skips.pop(), self.concat_balance)
      x = block(stage, x, False)
    gain = self.param("out_gain", layers.spread(0.0), ())
    return Layer(self.img_channels, 3, name="out_conv")(x, gain)

  def _embed(
    self,
    noise_label: Float[Array, " N"],
    class_labels: Float[ArrayLike, "N L"] | None,
    augment_labels: Float[ArrayLike, "N A"] | None,
    train: bool,
  ) -> Float[Array, "N E"]:
    features = self.model_channels * self.channel_mult_emb
    e = Fourier(self.model_channels * self.channel_mult_noise, name="emb_fourier")(noise_label)
    e = Layer(features, name="emb_noise")(e)
    if self.label_dim:
      if class_labels is None:
        class_labels = jnp.zeros((len(e), self.label_dim), e.dtype)
      if train and self.label_dropout:
        class_labels = unet.drop_labels(self.make_rng("dropout"), self.label_dropout, class_labels)
      of_class = Layer(features, name="emb_label")(class_labels * math.sqrt(self.label_dim))
      e = add(e, of_class, self.label_balance)
    if self.augment_dim and augment_labels is not None:
      e = e + Layer(features, name="emb_augment")(augment_labels)
    return silu(e)


def check(net: EDM2) -> None:
  """Refuse options that do not fit each other."""
  coarsest = 2 ** (len(net.channel_mult) - 1)
  if net.img_resolution % coarsest:
    raise ValueError(
      f"`img_resolution` is {net.img_resolution}; {len(net.channel_mult)} levels in `channel_mult` "
      f"want a multiple of {coarsest}"
    )
  for mult in net.channel_mult:
    features = net.model_channels * mult
    heads = max(features // CHANNELS_PER_HEAD, 1)
    if features % heads:
      raise ValueError(
        f"`model_channels` is {net.model_channels}: {features} channels do not split into {heads} heads; "
        f"try a multiple of {CHANNELS_PER_HEAD}"
      )
