"""Layers that the networks are made of, NHWC, named as in the reference's state dict of EDM's family.

Each layer computes in the dtype of its input, from parameters that are float32. Convolutions and matmuls of
float32 are of float32 on accelerators too.

A parameter's initialiser returns the width of the law it is drawn from, not a draw; `networks.init` draws
all of them at once. The tensor's name says which law: ``kernel`` and ``bias`` are uniform of this half-width,
those in `GAUSSIAN` are normal of this standard deviation, ``scale`` starts at the value itself.
"""

import math
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Key

from gauss_diffusion.types import Array, ArrayLike

GAUSSIAN = ("freqs", "table", "direction")
FOURIER_SCALE = 16.0  # standard deviation of the Fourier features' frequencies
BOX = (1, 1)  # the filter that averages two neighbours, or repeats a pixel


def spread(value: float) -> Callable[[Key[Array, ""], tuple[int, ...]], Float[Array, "..."]]:
  """Return an initialiser that states the width of a law: see the head of this file."""
  return lambda key, shape: jnp.full(shape, value, jnp.float32)


def glorot(fan_in: int, fan_out: int) -> tuple[float, float]:
  """Return Glorot's half-width of a kernel, ``sqrt(6 / (fan_in + fan_out))``, and of its bias, 0."""
  return math.sqrt(6 / (fan_in + fan_out)), 0.0


def lecun(fan_in: int, fan_out: int) -> tuple[float, float]:
  """Return the half-widths of a kernel and its bias, ``1 / sqrt(fan_in)`` for both (ADM, torch's default)."""
  del fan_out
  return 1 / math.sqrt(fan_in), 1 / math.sqrt(fan_in)


class Linear(nn.Module):
  """Fully connected layer on the last axis."""

  features: int
  use_bias: bool = True
  gain: float = 1.0
  law: Callable[[int, int], tuple[float, float]] = glorot

  @nn.compact
  def __call__(self, x: Float[ArrayLike, "*n I"]) -> Float[Array, "*n F"]:
    fans = x.shape[-1], self.features
    of_kernel, of_bias = self.law(*fans)
    kernel = self.param("kernel", spread(self.gain * of_kernel), fans).astype(x.dtype)
    y = jnp.matmul(x, kernel, precision=precision(x.dtype))
    if self.use_bias:
      bias = self.param("bias", spread(self.gain * of_bias), (self.features,)).astype(x.dtype)
      y = y + jnp.expand_dims(bias, range(x.ndim - 1))
    return y


class Conv(nn.Module):
  """Convolution of odd width of an image in a sea of zeros.

  `margin` pixels beyond the image's border are put out as well. With a `stride` of 2 every other pixel is put
  out, from the one of index `first` on, 0 or 1.
  """

  features: int
  width: int = 3
  gain: float = 1.0
  law: Callable[[int, int], tuple[float, float]] = glorot
  margin: int = 0
  stride: int = 1
  first: int = 0

  @nn.compact
  def __call__(self, x: Float[ArrayLike, "N H W I"]) -> Float[Array, "N h w F"]:
    window = (self.width, self.width)
    of_kernel, of_bias = self.law(*(math.prod(window) * c for c in (x.shape[-1], self.features)))
    kernel = self.param("kernel", spread(self.gain * of_kernel), (*window, x.shape[-1], self.features))
    bias = self.param("bias", spread(self.gain * of_bias), (self.features,)).astype(x.dtype)
    around = self.width // 2 + self.margin
    y = jax.lax.conv_general_dilated(
      x,  # type: ignore[arg-type]  # NumPy's arrays are welcome too
      kernel.astype(x.dtype),
      (self.stride, self.stride),
      [(around - self.first, around + self.first + 1 - self.stride)] * 2,
      dimension_numbers=("NHWC", "HWIO", "NHWC"),
      precision=precision(x.dtype),
    )
    return y + bias[None, None, None]


class Table(nn.Module):
  """A vector for each class: rows of a table, weighted by the labels [N, K]."""

  features: int

  @nn.compact
  def __call__(self, labels: Float[ArrayLike, "*n L"]) -> Float[Array, "*n F"]:
    table = self.param("table", spread(1.0), (labels.shape[-1], self.features)).astype(labels.dtype)
    return jnp.matmul(labels, table, precision=precision(labels.dtype))


def precision(dtype: jnp.dtype) -> str | None:
  """Return what keeps an accelerator from rounding float32 factors to TF32 or bfloat16."""
  return None if dtype == jnp.bfloat16 else "highest"


class GroupNorm(nn.Module):
  """Normalise each image over space and groups of channels. Statistics are float32 at least."""

  eps: float
  groups: int = 0  # 0 for at least four channels in each, 32 at most

  @nn.compact
  def __call__(self, x: Float[ArrayLike, "N H W C"]) -> Float[Array, "N H W C"]:
    dtype, x = x.dtype, x.astype(jnp.promote_types(x.dtype, jnp.float32))
    _, h, w, channels = x.shape
    scale = self.param("scale", spread(1.0), (channels,))
    bias = self.param("bias", spread(0.0), (channels,))
    groups = self.groups or min(32, channels // 4)
    if channels % groups:
      raise ValueError(
        f"{channels} channels do not split into {groups} groups; try a multiple of 32 as `model_channels`"
      )
    # Sums over pixels first, then over a group's channels as one small matmul: 4 times faster on CPU
    # than one reduction over both, whose strides do not vectorise.
    size = channels // groups
    average = jnp.asarray(np.kron(np.eye(groups), np.full((size, size), 1 / (h * w * size))), x.dtype)

    def group_mean(y):
      return jnp.matmul(y.sum((1, 2)), average, precision="highest")[:, None, None]

    x = x - group_mean(x)
    inverse_std = jax.lax.rsqrt(group_mean(jnp.square(x)) + self.eps)
    return (inverse_std * scale[None, None, None] * x + bias[None, None, None]).astype(dtype)


class FourierEmbedding(nn.Module):
  """Sines, then cosines, of the noise label at frequencies that are drawn once and never trained."""

  channels: int

  @nn.compact
  def __call__(self, noise_label: Float[ArrayLike, " N"]) -> Float[Array, "N F"]:
    freqs = self.param("freqs", spread(FOURIER_SCALE), (self.channels // 2,))
    freqs = jax.lax.stop_gradient(freqs).astype(noise_label.dtype)
    return _waves(noise_label, 2 * math.pi * freqs)


def positional_embedding(
  noise_label: Float[ArrayLike, " N"], channels: int, endpoint: bool = True
) -> Float[Array, "N {channels}"]:
  """Return sines, then cosines, of the noise label, [N, channels].

  Frequencies fall geometrically from 1 to 1e-4, which is the last one (DDPM++) or, without `endpoint`, would
  be the next (ADM).
  """
  frequency = 1e-4 ** np.linspace(0.0, 1.0, channels // 2, endpoint=endpoint)
  return _waves(noise_label, jnp.asarray(frequency, noise_label.dtype))


def _waves(label: Float[ArrayLike, " N"], frequency: Float[ArrayLike, " F"]) -> Float[Array, "N 2*F"]:
  angle = label[:, None] * frequency[None]
  return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], axis=-1)


def halve(
  x: Float[Array, "N H W C"], taps: tuple[int, ...] = BOX, margin: int = 0
) -> Float[Array, "N H//2-{margin} W//2-{margin} C"]:
  """Filter along both axes and keep every other pixel, ``y_i = sum_k f_k x_{2i + k + 1 - K/2}``.

  Args:
    x: images [N, H, W, C], H and W even, zero outside.
    taps: the filter f but for its norm: K values, an even number, made to sum to 1.
    margin: pixels beyond each border that `x` holds, and that are used instead of zeros; at most K / 2 - 1.

  Returns:
    [N, H / 2, W / 2, C], with H and W counted without the margin.
  """
  n, h, w, c = x.shape
  if taps == BOX:
    return x.reshape(n, h // 2, 2, w // 2, 2, c).mean((2, 4))
  return _filter(x, lambda size: _halving(size - 2 * margin, taps, margin))


def double(x: Float[Array, "N H W C"], taps: tuple[int, ...] = BOX) -> Float[Array, "N 2*H 2*W C"]:
  """Set zeros between pixels and filter with 2 f along both axes: the transpose of `halve`, times 4.

  ``y_{2i + k + 1 - K/2} += 2 f_k x_i``; with the box each pixel is repeated. See `halve` for the arguments.

  Returns:
    [N, 2 H, 2 W, C].
  """
  n, h, w, c = x.shape
  if taps == BOX:
    return jnp.broadcast_to(x[:, :, None, :, None], (n, h, 2, w, 2, c)).reshape(n, 2 * h, 2 * w, c)
  return _filter(x, lambda size: 2 * _halving(2 * size, taps).T)


def _halving(size: int, taps: tuple[int, ...], margin: int = 0) -> Float[np.ndarray, "half full"]:
  """Return `halve` along one axis as a matrix [size / 2, size + 2 margin], float64."""
  output, tap = np.indices((size // 2, len(taps)))
  pixel = 2 * output + tap + 1 - len(taps) // 2 + margin
  matrix = np.zeros((size // 2, size + 2 * margin))
  inside = (pixel >= 0) & (pixel < size + 2 * margin)
  matrix[output[inside], pixel[inside]] = (np.asarray(taps) / np.sum(taps))[tap[inside]]
  return matrix


def _filter(
  x: Float[Array, "N H W C"], matrix_of: Callable[[int], Float[np.ndarray, "h H"]]
) -> Float[Array, "N h w C"]:
  # A matmul along each axis: several times faster on CPU than a convolution of each channel by itself.
  rows, columns = (jnp.asarray(matrix_of(size), x.dtype) for size in x.shape[1:3])
  exact = precision(x.dtype)
  x = jnp.einsum("ih,nhwc->niwc", rows, x, precision=exact)
  return jnp.einsum("jw,niwc->nijc", columns, x, precision=exact)


def resample(x: Float[Array, "N H W C"], how: str, taps: tuple[int, ...] = BOX) -> Float[Array, "N h w C"]:
  """Keep, halve or double the resolution."""
  return {"keep": lambda x, taps: x, "halve": halve, "double": double}[how](x, taps)


def attend(qkv: Float[Array, "N H W Q"], heads: int = 1) -> Float[Array, "N H W Q/3"]:
  """Apply self-attention over all pixels, ``softmax(q k^T / sqrt(C)) v`` in each head of C channels.

  Query, key and value of a channel are neighbours: qkv [N, H, W, 3 heads C] is [..., heads, C, 3]. The
  softmax is float32 at least.
  """
  n, h, w, channels = qkv.shape
  size = channels // (3 * heads)
  q, k, v = jnp.moveaxis(qkv.reshape(n, h * w, heads, size, 3), -1, 0)
  exact, at_least_single = precision(qkv.dtype), jnp.promote_types(qkv.dtype, jnp.float32)
  logits = jnp.einsum(
    "nqhc,nkhc->nhqk", q, k, precision=exact, preferred_element_type=at_least_single
  ) / math.sqrt(size)
  weight = jax.nn.softmax(logits, axis=-1).astype(qkv.dtype)
  return jnp.einsum("nhqk,nkhc->nqhc", weight, v, precision=exact).reshape(n, h, w, -1)
