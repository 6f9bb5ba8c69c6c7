"""Posterior means of whole patches, averaged where they overlap: the patch set posterior composites, PSPC.

Each is over the same patch of every training image (Niedoba et al. 2024). Their patches are squares, or of
any shape: the pixels that a place of a network's output is most sensitive to.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float

from gauss_diffusion.denoisers import levels
from gauss_diffusion.denoisers.family import Family, Shape
from gauss_diffusion.denoisers.levels import Distance
from gauss_diffusion.denoisers.local import masks, posterior, windows
from gauss_diffusion.denoisers.local.windows import Windows
from gauss_diffusion.types import Array, ArrayLike, Image, Pixels, Sigma


class Squares(NamedTuple):
  """Training images, and how wide the patches are."""

  images: levels.Source
  windows: Windows


class Flexible(NamedTuple):
  """Training images, and patches as masks, at some noise levels."""

  images: levels.Source
  masks: Bool[ArrayLike, "S P H W"]  # such as `masks.hottest`; together the P of a level hold every pixel
  sigma: Float[ArrayLike, " S"]  # the nearest level's are taken, in ratio


def check(where: str, shape: Shape, num: int, *, window: int, growth: float) -> None:
  """Refuse patches that do not fit into images (H, W, C).

  Raises:
    ValueError: naming the option, with `where` before it.
  """
  height, width, _ = shape
  if window > min(height, width) and not growth:
    raise ValueError(
      f"`{where}window` is {window}; on images of {height} x {width} want at most {min(height, width)}"
    )


def fit(images: Pixels, *, window: int, growth: float) -> Squares:
  """Return the record of images uint8 [N, H, W, C], with patches ``window σ^growth`` wide."""
  shape = images.shape[1:]
  check("", shape, len(images), window=window, growth=growth)
  return Squares(levels.placed(images), windows.power_law(window, growth, range(1, min(shape[:2]) + 1)))


def denoise(record: Squares, x: Image, sigma: Sigma, *, chunk: int = 64) -> Float[Array, "H W C"]:
  """Estimate ``x0`` from `x` as the mean of the posterior means of all square patches that fit in.

  ``D(x; σ) = (Σ_c CᵀC)⁻¹ Σ_c Cᵀ E[x0_c | x_c]``, where C cuts out patch c (Niedoba et al. 2024).
  Images are streamed twice in chunks; the result does not depend on `chunk`. Derivatives of any order pass
  through.

  Args:
    record: see `fit`.
    x: one noisy image [H, W, C] on the [-1, 1] scale.
    sigma: scalar noise level > 0, in the same units.
    chunk: images in one step of the stream.

  Returns:
    The estimate, with the shape and dtype of `x`.
  """
  levels.check_images(record.images, x, chunk)

  def of_width(width):
    rows, columns = (jnp.arange(length) - width // 2 for length in x.shape[:2])
    rows, columns = ((first >= 0) & (first + width <= len(first)) for first in (rows, columns))
    gather = partial(windows.sums, width=width)

    def spread(weight):  # a pixel is in the patches that are where its own patch is, mirrored
      return gather(weight[:, ::-1, ::-1])[:, ::-1, ::-1]

    return _composite(record.images, x, sigma, chunk, gather, spread, rows[:, None] & columns[None])

  return windows.switch(record.windows, sigma, of_width)


def denoise_flexible(record: Flexible, x: Image, sigma: Sigma, *, chunk: int = 64) -> Float[Array, "H W C"]:
  """Estimate ``x0`` from `x` as `denoise` does, from patches of any shape; a pixel in none is NaN."""
  levels.check_images(record.images, x, chunk)
  distance = jnp.abs(jnp.log(jnp.asarray(record.sigma, x.dtype)) - jnp.log(jnp.asarray(sigma, x.dtype)))
  mask = jnp.asarray(record.masks)[jnp.argmin(distance)]
  flat = mask.reshape(len(mask), -1)

  def gather(maps):
    return masks.sums(jax.tree.map(lambda leaf: leaf.reshape(len(leaf), -1), maps), flat)

  def spread(weight):
    return jnp.matmul(weight, flat.astype(weight.dtype), precision="highest").reshape(-1, *mask.shape[1:])

  return _composite(record.images, x, sigma, chunk, gather, spread, jnp.ones(len(mask), bool))


def _composite(
  images: levels.Source,
  x: Image,
  sigma: Sigma,
  chunk: int,
  gather: Callable[[Distance], Distance],
  spread: Callable[[Float[Array, " n *place"]], Float[Array, "n H W"]],
  patches: Bool[Array, "*place"],
) -> Float[Array, "H W C"]:
  """Return the mean over patches: `gather` sums over each of them, `spread` over those that hold a pixel."""
  x = jnp.asarray(x)
  variance = levels.variance(sigma, x.dtype)
  query = posterior.split(jnp.moveaxis(x, -1, 0))
  zero = jnp.zeros(patches.shape, x.dtype)

  def distances(y, fresh):
    y = tuple(jnp.moveaxis(levels.centred(y), -1, 0))
    taken = fresh.reshape(-1, *[1] * patches.ndim) & patches[None]
    return y, gather(posterior.maps(query, y)), taken

  def absorb(found, y, fresh):
    _, distance, taken = distances(y, fresh)
    return posterior.absorb(found, distance, taken, partial(posterior.summed, ()), query.unit, variance)

  found = levels.fold(absorb, posterior.empty(zero, 0), images, chunk)

  def add(total, y, fresh):
    y, distance, taken = distances(y, fresh)
    weight = spread(posterior.weights(found, distance, taken, query.unit, variance))
    return tuple(old + jnp.sum(weight * each, axis=0) for old, each in zip(total, y, strict=True))

  total = levels.fold(add, (jnp.zeros(x.shape[:2], x.dtype),) * x.shape[-1], images, chunk)
  count = spread(patches[None].astype(x.dtype))[0]
  return levels.to_pixels(jnp.stack(total, axis=-1) / count[..., None])


FAMILY = Family(
  title="PSPC-Square",
  fit=fit,
  denoise=denoise,
  options=windows.OPTIONS,
  most_values=levels.MAX_PIXELS,
  exact=True,
  check=check,
)
