"""Every pixel from the window around it: the posterior mean over windows of the training images.

Kamb & Ganguli 2024 derive these denoisers from what convolutional networks can compute. They differ in the
windows that a pixel's own is compared with: those at the same place of every image (LS, local), those at any
place (ELS, equivariant too), or at any place that the border cuts in the same way (ELS of a network that is
told by its padding where the border is).
"""

from collections.abc import Callable, Sequence
from functools import partial, reduce
from operator import add
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Bool, Float, Int

from gauss_diffusion import parallel
from gauss_diffusion.denoisers import levels
from gauss_diffusion.denoisers.family import Family, Shape
from gauss_diffusion.denoisers.levels import Distance, Query
from gauss_diffusion.denoisers.local import posterior, windows
from gauss_diffusion.denoisers.local.posterior import Posterior
from gauss_diffusion.denoisers.local.windows import Windows
from gauss_diffusion.types import Array, Denoiser, Image, Pixels, Sigma

TILE = 128  # windows compared with all of a sample at once, so that what is known of the pairs stays near by


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
  pool, Ωp that around p (Kamb & Ganguli 2024). Windows at any place are compared with all of x in products of
  matrices; those at the same place, or cut by the border, by sums of squared differences over windows, whose
  cost does not depend on their width. Images are streamed in chunks; the result does not depend on `chunk`.
  Derivatives of any order pass through.

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
  stream = partial(levels.fold, images=record.images, chunk=chunk)
  variance = levels.variance(sigma, x.dtype)

  query = posterior.split(x)

  def of_width(width):
    if not pool.moves:
      return _staying(stream, query, variance, width, [(0, 0)])
    reach = width // 2
    if pool.wraps:
      pads = ((reach, reach), (reach, reach), (0, 0))
      q, rest = (jnp.pad(each, pads, "wrap") for each in (query.q, query.rest))
      return _moving(stream, query._replace(q=q, rest=rest), variance, width)
    height, length, _ = x.shape
    cross = [(0, j) for j in range(length)] + [(i, 0) for i in range(1, height)]
    cut = _staying(stream, query, variance, width, cross)  # rows or columns at the border stay
    moving = _moving(stream, query, variance, width)
    return cut.at[reach : height - reach, reach : length - reach].set(moving)

  return levels.to_pixels(windows.switch(record.windows, sigma, of_width))


def _moving(
  stream: Callable[..., Posterior], query: Query, variance: Float[Array, ""], width: int
) -> Float[Array, "h w C"]:
  """Return the posterior mean, in levels, for every window of a sample that fits in: over those anywhere."""
  q, rest = (windows.cut(each, width) for each in (query.q, query.rest))
  shape, channels = q.shape[:2], query.rest.shape[-1]
  q, rest = (each.reshape(-1, each.shape[-1]).T for each in (q, rest))
  blocks = [slice(start, start + levels.BLOCK) for start in range(0, len(q), levels.BLOCK)]
  middle = slice(width**2 // 2 * channels, (width**2 // 2 + 1) * channels)

  @jax.checkpoint
  def tile(found, patches):
    y, taken = patches
    near = reduce(add, (jnp.sum(y[:, block] ** 2, axis=1).astype(jnp.int32) for block in blocks))
    q_y = reduce(add, (_dot(y[:, block], q[block]).astype(jnp.int32) for block in blocks))
    near, taken = (jnp.broadcast_to(each[:, None], q_y.shape) for each in (near, taken))
    distance = Distance(near, q_y, _dot(y, rest))
    values = jnp.concatenate([jnp.ones_like(y[:, :1]), y[:, middle]], axis=1).T

    def summed(weight):
      return tuple(_dot(values, weight))

    return posterior.absorb(found, distance, taken, summed, query.unit, variance), None

  def absorb(found, images, fresh):
    y = windows.cut(levels.centred(images).astype(rest.dtype), width)
    taken = jnp.broadcast_to(fresh[:, None, None], y.shape[:3]).reshape(-1)
    y = y.reshape(len(taken), -1)
    y, taken = (jnp.pad(each, ((0, -len(y) % TILE),) + ((0, 0),) * (each.ndim - 1)) for each in (y, taken))
    tiles = (each.reshape(-1, TILE, *each.shape[1:]) for each in (y, taken))
    return jax.lax.scan(tile, found, tuple(tiles))[0]

  found = stream(absorb, posterior.empty(rest[0], channels))
  return posterior.mean(found).reshape(*shape, channels)


def _staying(
  stream: Callable[..., Posterior],
  query: Query,
  variance: Float[Array, ""],
  width: int,
  shifts: Sequence[tuple[int, int]],
) -> Float[Array, "H W C"]:
  """Return the posterior mean, in levels, over windows some shifts away that the border cuts alike."""
  q, rest = (jnp.moveaxis(each, -1, 0) for each in (query.q, query.rest))
  query = query._replace(q=q, rest=rest)
  channels, height, length = rest.shape

  def absorb(found, images, fresh):
    y = jnp.tile(jnp.moveaxis(levels.centred(images), -1, 0), (1, 1, 2, 2))

    @jax.checkpoint
    def moved(found, shift):
      down, right = shift
      here = jax.lax.dynamic_slice(y, (0, 0, down, right), (channels, len(images), height, length))
      here = jax.lax.optimization_barrier(tuple(here))  # else each use slices anew
      distance = windows.sums(posterior.maps(query, here), width)
      rows, columns = _alike(height, down, width // 2), _alike(length, right, width // 2)
      taken = fresh[:, None, None] & (rows[:, None] & columns[None])[None]
      summed = partial(posterior.summed, here)
      return posterior.absorb(found, distance, taken, summed, query.unit, variance), None

    return jax.lax.scan(moved, found, tuple(jnp.array(shifts).T))[0]

  return posterior.mean(stream(absorb, posterior.empty(rest[0], channels)))


def _alike(length: int, shift: Int[Array, ""], reach: int) -> Bool[Array, " length"]:
  """Return for each place on an axis if the border cuts its window as that of the place a shift away."""
  here = jnp.arange(length)
  there = (here + shift) % length
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


_dot = partial(jnp.matmul, precision="highest")


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
