"""The memorizer of the few images that matter to an input, and how far it is from that of all."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from gauss_diffusion.denoisers import levels, multi_delta
from gauss_diffusion.denoisers.family import Family, Option
from gauss_diffusion.types import Array, ArrayLike, Image, Number, Pixels, Sigma

CHUNK = 1024  # images that are floats at a time


class Golden(NamedTuple):
  """Training images, how many of them are used, and a ball that holds them all."""

  images: levels.Source
  slots: Int[ArrayLike, " m"]  # one for each image that is used: compilers must know how many
  centre: Image
  radius: Number  # Euclidean, on the [-1, 1] scale


def fit(images: Pixels, *, nearest: int) -> Golden:
  """Return the record of images uint8 [N, H, W, C], of which the `nearest` to an input are used, or all."""
  centre = images.mean(axis=0, dtype=np.float64) / 127.5 - 1
  radius2 = 0.0
  for start in range(0, len(images), CHUNK):
    offset = images[start : start + CHUNK] / 127.5 - 1 - centre
    radius2 = max(radius2, np.max(np.sum(offset**2, axis=(1, 2, 3))))
  return Golden(
    levels.placed(images), np.arange(min(nearest, len(images))), centre, np.float64(np.sqrt(radius2))
  )


def denoise(golden: Golden, x: Image, sigma: Sigma) -> Float[Array, "H W C"]:
  """Estimate ``x0`` from `x` as the posterior mean under its m nearest images.

  ``D(x; σ) = Σ_{i ≤ m} w_i y_(i)``, ``w = softmax(-|x - y_(i)|² / 2σ²)``, y_(1) the nearest image and so on:
  the golden subset of arXiv 2602.16498. It shows how few images matter, and spares no time: distances to all
  N images are taken, exactly, as in `multi_delta.denoise`, in 8 N D operations and three numbers an image.

  Args:
    golden: see `fit`.
    x: one noisy image [H, W, C] on the [-1, 1] scale.
    sigma: scalar noise level > 0, in the same units.

  Returns:
    The estimate, with the shape and dtype of `x`; with m = N it is D_M.

  Raises:
    ValueError: as `multi_delta.denoise`, and when `x` is not shaped as the images.
  """
  return _estimate(golden, *_weighed(golden, jnp.asarray(x), sigma, len(golden.slots)))


def error_bound(golden: Golden, x: Image, sigma: Sigma) -> Float[Array, ""]:
  """Return a bound on the distance of `denoise` from the multi-delta denoiser of all images.

  With r the weight of the images that are left out over that of those that are kept, D_M lies at the share
  r/(1 + r) of the way from D to the mean of those left out, which is within a ball of radius R about c::

    ‖D − D_M‖ ≤ r/(1 + r) · (R + ‖D − c‖),    r ≤ (N − m) w_(m+1) / Σ_{i ≤ m} w_(i).

  Equal for two images of which one is kept.

  Args:
    golden: see `fit`.
    x: one noisy image [H, W, C] on the [-1, 1] scale.
    sigma: scalar noise level > 0, in the same units.

  Returns:
    The Euclidean norm over all values, on the [-1, 1] scale, but for rounding; 0 where no image is left out.

  Raises:
    ValueError: as `denoise`.
  """
  x, kept, num = jnp.asarray(x), len(golden.slots), len(levels.array(golden.images))
  weights, places = _weighed(golden, x, sigma, min(kept + 1, num))
  ratio = (num - kept) * weights[-1] / weights[:kept].sum()
  centre, radius = (jnp.asarray(leaf, x.dtype) for leaf in (golden.centre, golden.radius))
  apart = jnp.linalg.norm((_estimate(golden, weights[:kept], places[:kept]) - centre).reshape(-1))
  return ratio / (1 + ratio) * (radius + apart)


def _weighed(
  golden: Golden, x: Float[Array, "H W C"], sigma: Sigma, count: int
) -> tuple[Float[Array, " {count}"], Int[Array, " {count}"]]:
  """Return the weights of the nearest images, relative to the nearest, and their places."""
  if x.shape != golden.centre.shape:
    raise ValueError(f"`x` has shape {x.shape}; `golden` holds images of shape {golden.centre.shape}")
  closeness, places = jax.lax.top_k(-multi_delta.gaps(golden.images, x), count)
  return jnp.exp(closeness / (2 * jnp.asarray(sigma, x.dtype) ** 2)), places


def _estimate(golden: Golden, weights: Float[Array, " n"], places: Int[Array, " n"]) -> Float[Array, "H W C"]:
  offset = levels.some(golden.images, places).astype(weights.dtype) - 127.5
  share = weights / weights.sum()
  return jnp.tensordot(share, offset, 1, precision="highest") / 127.5


FAMILY = Family(
  title="golden subset",
  fit=fit,
  denoise=denoise,
  options={"nearest": Option(64, "images m that are used, the nearest to an input", 1, 10**9)},
  most_values=multi_delta.MAX_PIXELS,
  exact=True,
)
