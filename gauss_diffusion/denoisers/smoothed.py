"""The memorizer, smoothed: its mean over inputs that are moved a little, which draws between images."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from gauss_diffusion.denoisers import levels, multi_delta
from gauss_diffusion.denoisers.family import Family, Option
from gauss_diffusion.types import Array, ArrayLike, Image, Number, Pixels, Sigma


class Smoothed(NamedTuple):
  """Training images, and by how much inputs are moved."""

  images: levels.Source
  noise: Float[ArrayLike, "M H W C"]  # unit normal, the same for every input
  width: Number  # its standard deviation, on the [-1, 1] scale


def fit(images: Pixels, *, width: float, draws: int, seed: int) -> Smoothed:
  """Return the record of images uint8 [N, H, W, C], with `draws` of noise from the seed."""
  noise = np.random.default_rng(seed).standard_normal((draws, *images.shape[1:]), np.float32)
  return Smoothed(levels.placed(images), noise, np.float64(width))


def denoise(smoothed: Smoothed, x: Image, sigma: Sigma) -> Float[Array, "H W C"]:
  """Estimate ``x0`` from `x` by the mean of the multi-delta denoiser over M inputs about it.

  ``D(x; σ) = (1/M) Σ_j D_M(x + s ε_j; σ)`` (Scarvelis et al. 2023, arXiv 2310.12395). At low noise it is a
  mean of the images that are nearest to the moved inputs, and no longer one image. It costs M times what
  `multi_delta.denoise` does.

  Args:
    smoothed: see `fit`.
    x: one noisy image [H, W, C] on the [-1, 1] scale.
    sigma: scalar noise level > 0, in the same units.

  Returns:
    The estimate, with the shape and dtype of `x`. Of width 0 it is D_M.

  Raises:
    ValueError: as `multi_delta.denoise`, and when `x` is not shaped as the images.
  """
  want = levels.array(smoothed.images).shape[1:]
  if x.shape != want:
    raise ValueError(f"`x` has shape {x.shape}; `smoothed` holds images of shape {want}")
  x = jnp.asarray(x)
  noise, width = (jnp.asarray(leaf, x.dtype) for leaf in (smoothed.noise, smoothed.width))
  estimate = jax.vmap(partial(multi_delta.denoise, smoothed.images), (0, None))
  return estimate(x[None] + width * noise, sigma).mean(0)


FAMILY = Family(
  title="smoothed multi-delta",
  fit=fit,
  denoise=denoise,
  options={
    "width": Option(0.1, "standard deviation s of what is added to inputs, on the [-1, 1] scale", 0.0, 1e6),
    "draws": Option(16, "inputs M that are averaged over", 1, 10**6),
    "seed": Option(0, "of the draws", 0, 2**32 - 1),
  },
  most_values=multi_delta.MAX_PIXELS,
  exact=True,
)
