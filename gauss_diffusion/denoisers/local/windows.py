"""Square windows around pixels: how wide they are at each noise level, and sums of pixels over them."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, Shaped

from gauss_diffusion.denoisers.family import Option
from gauss_diffusion.types import Array, ArrayLike, Sigma, Sigmas

LADDER = 1.3  # the least ratio of neighbouring widths of windows that grow: one program is compiled for each

OPTIONS = {
  "window": Option(7, "width of the windows in pixels, at σ = 1 where they grow", 1, 10**6),
  "growth": Option(0.75, "exponent b of windows that grow as σ^b, 0 for one width at every σ", 0.0, 10.0),
}

Maps = TypeVar("Maps")  # a pytree of arrays [..., H, W]


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Windows:
  """Which width a window has at a noise level: that of the last step that starts at or below it.

  Part of a record's structure, not of its arrays: a denoiser is compiled for each width.
  """

  start: tuple[float, ...]  # rising noise levels, the first one 0
  width: tuple[int, ...]  # pixels


def power_law(window: int, growth: float, sizes: range) -> Windows:
  """Return windows about ``window σ^growth`` wide: of a ladder of widths, the nearest one in ratio.

  The widths that Niedoba et al. 2024 chose by hand, 3 pixels below σ = 0.4, then 5, 7, 11, 15, 23, and all 32
  from σ = 8 on, are a step or less from ``7 σ^0.75``.

  Args:
    window: the width at σ = 1, or everywhere where nothing grows.
    growth: the exponent, >= 0.
    sizes: the widths allowed. None below 3 is taken, but for a window of less.
  """
  if not growth:
    return Windows((0.0,), (window,))
  ladder = [min(window, 3)]
  while ladder[-1] < sizes[-1]:
    ladder.append(min((size for size in sizes if size >= LADDER * ladder[-1]), default=sizes[-1]))
  between = np.sqrt(np.multiply(ladder[1:], ladder[:-1]))
  return Windows((0.0, *((between / window) ** (1 / growth)).tolist()), tuple(ladder))


def of_levels(sigmas: Sigmas, width: Int[ArrayLike, " S"]) -> Windows:
  """Return windows known at some noise levels, as `calibrate` finds them: those of the nearest, in ratio."""
  order = np.argsort(sigmas)
  levels = np.asarray(sigmas, np.float64)[order]
  return Windows((0.0, *np.sqrt(levels[1:] * levels[:-1]).tolist()), tuple(np.asarray(width)[order].tolist()))


def switch(
  windows: Windows, sigma: Sigma, fn: Callable[[int], Float[Array, "*image"]]
) -> Float[Array, "*image"]:
  """Return ``fn(width)`` of the width at a noise level; what it does is compiled for each width."""
  sigma = jnp.asarray(sigma)
  step = jnp.sum(jnp.asarray(windows.start, sigma.dtype) <= sigma, dtype=jnp.int32) - 1
  return jax.lax.switch(step, [partial(fn, width) for width in windows.width])


def cut(images: Float[Array, "*n H W C"], width: int) -> Float[Array, "*n h w K"]:
  """Return the windows of images that fit in, each with its K = width² C values, channels last."""
  rows, columns = (images.shape[axis] - width + 1 for axis in (-3, -2))
  parts = jnp.stack([images[..., i : i + rows, :, :] for i in range(width)], axis=-2)
  parts = jnp.stack([parts[..., j : j + columns, :, :] for j in range(width)], axis=-3)
  return parts.reshape(*parts.shape[:-3], -1)


def sums(maps: Maps, width: int) -> Maps:
  """Return the sums of maps over the window around each pixel; those of integers are exact.

  The window of width w around pixel p has the w pixels from ``p - w // 2`` on, in rows and in columns, but
  for what is beyond the border: there is nothing.

  Args:
    maps: arrays [..., H, W].
    width: of the windows, in pixels.
  """
  return jax.tree.map(partial(_sums, width=width), maps)


def _sums(maps: Shaped[Array, "..."], width: int) -> Shaped[Array, "..."]:
  for axis in (maps.ndim - 2, maps.ndim - 1):
    maps = _sums_along(maps, width, axis)
  return maps


def _sums_along(maps: Shaped[Array, "..."], width: int, axis: int) -> Shaped[Array, "..."]:
  """Add by doubling: `run` has the sums of 1, 2, 4, ... neighbours, and `width` is a sum of such."""
  part = partial(jax.lax.slice_in_dim, axis=axis)
  length, pads = maps.shape[axis], [(0, 0)] * maps.ndim
  pads[axis] = (width // 2, width - 1 - width // 2)
  run, size, found, taken = jnp.pad(maps, pads), 1, [], 0
  while True:
    if width & size:
      found.append(part(run, taken, taken + length))
      taken += size
    if taken == width:
      return sum(found[1:], found[0])
    run = part(run, 0, run.shape[axis] - size) + part(run, size, None)
    size *= 2
