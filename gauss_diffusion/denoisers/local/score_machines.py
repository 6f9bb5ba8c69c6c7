"""Every pixel from the window around it: the posterior mean over windows of the training images.

Kamb & Ganguli 2024 derive these denoisers from what convolutional networks can compute. They differ in the
windows that a pixel's own is compared with: those at the same place of every image (LS, local), those at any
place (ELS, equivariant too), or at any place that the border cuts in the same way (ELS of a network that is
told by its padding where the border is).
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Bool, Float, Int, Int32

from gauss_diffusion import parallel
from gauss_diffusion.denoisers import levels
from gauss_diffusion.denoisers.family import Family, Shape
from gauss_diffusion.denoisers.local import posterior, windows
from gauss_diffusion.denoisers.local.windows import Windows
from gauss_diffusion.types import Array, Denoiser, Image, Pixels, Sigma


class Local(NamedTuple):
  """Training images, and how wide the windows are."""

  images: levels.Source
  windows: Windows


class Pool(NamedTuple):
  """Which windows of the training images a pixel's own is compared with."""

  moves: bool  # those at other places too
  wraps: bool  # whether a noisy image goes on at its other side; if not, there is nothing beyond its border


LS = Pool(moves=False, wraps=False)
ELS = Pool(moves=True, wraps=True)
BORDERS = Pool(moves=True, wraps=False)


def sizes(pool: Pool, shape: Shape) -> range:
  """Return the widths of windows on images (H, W, C): those that fit in, or where they stay, that matter."""
  height, width, _ = shape
  return range(1, (min(height, width) if pool.moves else 2 * max(height, width) - 1) + 1, 2)


def check(where: str, shape: Shape, num: int, *, pool: Pool, window: int, growth: float) -> None:
  """Refuse windows that are even, or do not fit into images (H, W, C).

  Raises:
    ValueError: naming the option, with `where` before it.
  """
  allowed = sizes(pool, shape)
  if window % 2 == 0:
    raise ValueError(f"`{where}window` is {window}; want an odd number of pixels, with one in the middle")
  if window not in allowed and not growth:
    size = f"{shape[0]} x {shape[1]}"
    raise ValueError(f"`{where}window` is {window}; on images of {size} want at most {allowed[-1]}")


def fit(images: Pixels, *, pool: Pool, window: int, growth: float) -> Local:
  """Return the record of images uint8 [N, H, W, C], with windows ``window σ^growth`` wide, an odd number."""
  shape = images.shape[1:]
  check("", shape, len(images), pool=pool, window=window, growth=growth)
  return Local(levels.placed(images), windows.power_law(window, growth, sizes(pool, shape)))


def denoise(record: Local, x: Image, sigma: Sigma, *, pool: Pool, chunk: int = 64) -> Float[Array, "H W C"]:
  """Estimate each pixel of ``x0`` as the posterior mean of the middle pixel of a window.

  ``D(x; σ)_p = Σ_j w_j y_j(middle)``, ``w = softmax_j(-|x_Ωp - y_j|² / 2σ²)`` over the windows y_j of the
  pool, Ωp that around p (Kamb & Ganguli 2024). Every image is moved to every place in turn, where
  squared differences are summed over windows: the cost does not depend on their width. Images are streamed in
  chunks; the result does not depend on `chunk`. Derivatives of any order pass through.

  Args:
    record: see `fit`.
    x: one noisy image [H, W, C] on the [-1, 1] scale.
    sigma: scalar noise level > 0, in the same units.
    pool: one of `LS`, `ELS` and `BORDERS`.
    chunk: images in one step of the stream.

  Returns:
    The estimate, with the shape and dtype of `x`.
  """
  levels.check_images(record.images, x, chunk)
  x = jnp.asarray(x)
  height, width, channels = x.shape
  variance = levels.variance(sigma, x.dtype)
  query = levels.split(jnp.moveaxis(x, -1, 0))
  step = windows.step(record.windows, sigma)
  reach = windows.width(record.windows, step) // 2

  def absorb(found, images, fresh):
    y = jnp.tile(jnp.moveaxis(levels.centred(images), -1, 0), (1, 1, 2, 2))

    @jax.checkpoint
    def moved(found, shift):
      down, right = shift // width, shift % width
      here = jax.lax.dynamic_slice(y, (0, 0, down, right), (channels, len(images), height, width))
      here = jax.lax.optimization_barrier(tuple(here))  # else each use slices anew
      distance = windows.sums(posterior.maps(query, here), record.windows, step, pool.wraps)
      rows, columns = _taken(pool, height, down, reach), _taken(pool, width, right, reach)
      taken = fresh[:, None, None] & (rows[:, None] & columns[None])[None]
      return posterior.absorb(found, distance, taken, here, query.unit, variance), None

    return jax.lax.scan(moved, found, jnp.arange(height * width if pool.moves else 1))[0]

  found = levels.fold(absorb, posterior.empty(x[..., 0], channels), record.images, chunk)
  return levels.to_pixels(jnp.stack(found.weighted, axis=-1) / found.total[..., None])


def _taken(pool: Pool, length: int, shift: Int[Array, ""], reach: Int32[Array, ""]) -> Bool[Array, " length"]:
  """Return for each place on an axis if the window there counts, of an image that was moved."""
  here = jnp.arange(length)
  there = (here + shift) % length
  if pool.wraps:
    return (there >= reach) & (there < length - reach)
  before, after = (jnp.minimum(place, reach) for place in (here, there))
  cut, cut_there = (jnp.minimum(length - 1 - place, reach) for place in (here, there))
  return (before == after) & (cut == cut_there)


def calibrate(
  denoise: Denoiser,
  machine: Callable[..., Image],
  record: Local,
  x: Float[np.ndarray, "n H W C"],
  sigma: Sigma,
  widths: Sequence[int],
) -> int:
  """Return the width of windows at which a local denoiser is most like another one, at one noise level.

  As Kamb & Ganguli 2024 calibrate theirs on a network: for each noisy image the width whose score is nearest
  in direction, then the median over images. `windows.of_levels` makes a record's windows of several.

  Args:
    denoise: what to be like.
    machine: a family's `denoise`, of records as `record`.
    record: see `fit`; its windows do not matter.
    x: noisy images, such as the states of a sampler at this level.
    sigma: their noise level.
    widths: to choose among.
  """
  want = parallel.denoise(denoise, x, sigma) - x
  likeness = []
  for width in widths:
    local = Partial(machine, record._replace(windows=Windows((0.0,), (width,))))
    score = parallel.denoise(local, x, sigma) - x
    cosine = np.sum(score * want, axis=(1, 2, 3)) / np.sqrt(np.sum(score**2, axis=(1, 2, 3)))
    likeness.append(cosine)  # times the length of `want`, the same for every width
  best = np.sort(np.asarray(widths)[np.argmax(likeness, axis=0)])
  return int(best[len(best) // 2])


def _family(title: str, pool: Pool) -> Family:
  return Family(
    title=title,
    fit=partial(fit, pool=pool),
    denoise=partial(denoise, pool=pool),
    options=windows.OPTIONS,
    most_values=levels.MAX_PIXELS,
    exact=True,
    check=partial(check, pool=pool),
  )


LS_FAMILY, ELS_FAMILY, BORDERS_FAMILY = (
  _family("LS", LS),
  _family("ELS", ELS),
  _family("ELS, borders apart", BORDERS),
)
