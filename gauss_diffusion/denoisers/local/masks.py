"""Patches of any shape: sums over the pixels that masks hold, and the masks that hold most of a heat map."""

from functools import partial

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from gauss_diffusion.denoisers.levels import Distance
from gauss_diffusion.types import Array, ArrayLike

DIGIT = 512  # integers are summed in two digits, so that float32 holds sums over 2^15 pixels exactly

_dot = partial(jnp.matmul, precision="highest")


def sums(maps: Distance, mask: Bool[Array, "P Q"]) -> Distance:
  """Return the sums of maps [n, Q] over each of P masks, [n, P]; those of integers are exact."""
  weight = mask.T.astype(maps.rest_y.dtype)

  def total(digit):
    return _dot(digit.astype(weight.dtype), weight).astype(jnp.int32)

  def exact(leaf):
    return total(leaf // DIGIT) * DIGIT + total(leaf % DIGIT)

  return Distance(exact(maps.near), exact(maps.q_y), _dot(maps.rest_y, weight))


def hottest(heat: Float[ArrayLike, "*n H W"], share: float) -> Bool[np.ndarray, "*n H W"]:
  """Return masks of the fewest pixels that hold a share of a heat map (Niedoba et al. 2024).

  Args:
    heat: how much a place depends on each pixel, >= 0 with a positive sum; such as the mean over noisy images
      of a network's |∂D_p/∂x_q|, summed over channels.
    share: above 0, at most 1, which is every pixel of any heat.
  """
  heat = np.asarray(heat, np.float64)
  flat = heat.reshape(*heat.shape[:-2], -1)
  order = np.argsort(-flat, axis=-1, kind="stable")
  falling = np.take_along_axis(flat, order, axis=-1)
  before = np.cumsum(falling, axis=-1) - falling  # what hotter pixels hold
  held = before < share * np.sum(flat, axis=-1, keepdims=True)
  mask = np.zeros(flat.shape, bool)
  np.put_along_axis(mask, order, held, axis=-1)
  return mask.reshape(heat.shape)
