"""Layers that the U-Nets of the EDM family are made of, NHWC, named as in the reference's state dict.

A parameter's initialiser returns the half-width of the uniform law it is drawn from, not a draw;
`networks.init` multiplies all of them by one vector of uniform numbers. A tensor called ``scale`` is
the exception: it starts at its initialiser's value.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from gauss_diffusion.types import Array


def half_width(gain: float):
  """Return an initialiser of Glorot's uniform bound, ``gain sqrt(6 / (fan_in + fan_out))``."""

  def initialiser(key, shape):
    del key
    *window, fan_in, fan_out = shape
    return jnp.full(shape, gain * math.sqrt(6 / (math.prod(window) * (fan_in + fan_out))), jnp.float32)

  return initialiser


class Linear(nn.Module):
  """Fully connected layer on the last axis."""

  features: int
  use_bias: bool = True

  @nn.compact
  def __call__(self, x):
    kernel = self.param("kernel", half_width(1.0), (x.shape[-1], self.features))
    y = x @ kernel
    if self.use_bias:
      y = y + jnp.expand_dims(self.param("bias", nn.initializers.zeros, (self.features,)), range(x.ndim - 1))
    return y


class Conv(nn.Module):
  """Convolution of odd width, stride 1, zero padding."""

  features: int
  width: int = 3
  gain: float = 1.0

  @nn.compact
  def __call__(self, x):
    shape = (self.width, self.width, x.shape[-1], self.features)
    kernel = self.param("kernel", half_width(self.gain), shape).astype(x.dtype)
    bias = self.param("bias", nn.initializers.zeros, (self.features,))
    y = jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    return y + bias[None, None, None]


class GroupNorm(nn.Module):
  """Normalise each image over space and groups of at least four channels, at most 32 groups."""

  eps: float

  @nn.compact
  def __call__(self, x):
    _, h, w, channels = x.shape
    scale = self.param("scale", nn.initializers.ones, (channels,))
    bias = self.param("bias", nn.initializers.zeros, (channels,))
    groups = min(32, channels // 4)
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
    return x * (inverse_std * scale[None, None, None]) + bias[None, None, None]


def positional_embedding(noise_label: Array, channels: int) -> Array:
  """Return sines, then cosines, of the noise label at frequencies from 1 down to 1e-4, [N, channels]."""
  frequency = 1e-4 ** np.linspace(0.0, 1.0, channels // 2)
  angle = noise_label[:, None] * jnp.asarray(frequency, noise_label.dtype)[None]
  return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], axis=-1)


def halve(x: Array) -> Array:
  """Average each 2 by 2 window."""
  n, h, w, c = x.shape
  return x.reshape(n, h // 2, 2, w // 2, 2, c).mean((2, 4))


def double(x: Array) -> Array:
  """Repeat each pixel into a 2 by 2 window."""
  n, h, w, c = x.shape
  return jnp.broadcast_to(x[:, :, None, :, None], (n, h, 2, w, 2, c)).reshape(n, 2 * h, 2 * w, c)


def attend(qkv: Array) -> Array:
  """Apply single-head self-attention over all pixels, ``softmax(q k^T / sqrt(C)) v``.

  Query, key and value of a channel are neighbours: qkv [N, H, W, 3 C] is [..., C, 3].
  """
  n, h, w, channels = qkv.shape
  q, k, v = jnp.moveaxis(qkv.reshape(n, h * w, channels // 3, 3), -1, 0)
  weight = jax.nn.softmax(jnp.einsum("nqc,nkc->nqk", q, k / math.sqrt(channels // 3)), axis=-1)
  return jnp.einsum("nqk,nkc->nqc", weight, v).reshape(n, h, w, -1)
