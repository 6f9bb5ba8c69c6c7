"""The best denoiser for a kernel density estimate: every training image, a little blurred by noise."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from gauss_diffusion.denoisers import levels, multi_delta
from gauss_diffusion.denoisers.family import Family, Option
from gauss_diffusion.types import Array, ArrayLike, Number, Pixels, Sigma


class Kernel(NamedTuple):
  """Training images and the width of the Gaussian around each."""

  images: levels.Source
  bandwidth: Number  # on the [-1, 1] scale


def fit(images: Pixels, *, bandwidth: float) -> Kernel:
  """Return the record of images uint8 [N, H, W, C] and a bandwidth on the [-1, 1] scale."""
  return Kernel(levels.placed(images), np.float64(bandwidth))


def denoise(kernel: Kernel, x: Float[ArrayLike, "*image"], sigma: Sigma) -> Float[Array, "*image"]:
  """Estimate ``x0`` from `x` as the posterior mean under ``(1/N) Σ_i N(y_i, s² I)``.

  ``D(x; σ) = (s² x + σ² D_M(x; √(σ² + s²))) / (s² + σ²)``, with D_M the multi-delta denoiser: of the noise
  and the kernel together D_M removes what leads to a training image, and σ²/(σ² + s²) of that is noise.

  Args:
    kernel: see `fit`.
    x: one noisy image [H, W, C] on the [-1, 1] scale.
    sigma: scalar noise level > 0, in the same units.

  Returns:
    The estimate, with the shape and dtype of `x`. As s → 0 it is D_M; as s → ∞ it is x.

  Raises:
    ValueError: as `multi_delta.denoise`.
  """
  sigma, bandwidth = jnp.asarray(sigma, x.dtype), jnp.asarray(kernel.bandwidth, x.dtype)
  total = jnp.hypot(sigma, bandwidth)
  keep = (bandwidth / total) ** 2
  return keep * x + (1 - keep) * multi_delta.denoise(kernel.images, x, total)


FAMILY = Family(
  title="kernel",
  fit=fit,
  denoise=denoise,
  options={"bandwidth": Option(0.1, "width s of the kernel, pixels on the [-1, 1] scale", 1e-6, 1e6)},
  most_values=levels.MAX_PIXELS,
  exact=True,
)
