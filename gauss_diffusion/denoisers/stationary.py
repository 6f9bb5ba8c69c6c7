"""The best denoiser for stationary Gaussian data: a Wiener filter, which treats every place alike."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Complex, Float

from gauss_diffusion.denoisers.family import Family
from gauss_diffusion.images import to_float
from gauss_diffusion.types import Array, ArrayLike, Image, Images, Sigma

CHUNK = 2**20  # values of the images that are floats at a time


class Stationary(NamedTuple):
  """A Gaussian on a torus whose law no shift changes.

  ``S(ω) = V(ω) diag(s(ω)) V(ω)ᴴ`` [C, C] couples the channels of one frequency, and nothing couples two.
  """

  mean: Float[ArrayLike, " C"]  # of every pixel of a channel
  basis: Complex[ArrayLike, "H W C C"]  # V, unitary
  eigenvalues: Float[ArrayLike, "H W C"]  # s >= 0, variances on the [-1, 1] scale


def fit(images: Images) -> Stationary:
  """Return mean and mean power spectrum of images [N, H, W, C].

  A law that no shift changes has one mean for all pixels of a channel, so the mean is [C], and what the
  images' mean image has beyond it is power. ``S(ω) = (1/N) Σ_n ŷ_n(ω) ŷ_n(ω)ᴴ``, ŷ the orthonormal transform
  of an image about this mean: all circular shifts of the images have this covariance. In float64 on the host,
  of N D (log D + C) operations and D C values, so that any size of image will do.
  """
  num, height, width, channels = images.shape
  exact = np.int64 if images.dtype == np.uint8 else np.float64
  mean = images.sum(axis=(0, 1, 2), dtype=exact) / (num * height * width)
  mean = mean / 127.5 - 1 if images.dtype == np.uint8 else mean
  spectrum = np.zeros((height, width, channels, channels), np.complex128)
  chunk = max(CHUNK // images[0].size, 1)
  for start in range(0, num, chunk):
    centred = to_float(images[start : start + chunk], np.float64) - mean
    waves = np.fft.fft2(centred, axes=(1, 2), norm="ortho")
    spectrum += np.einsum("nhwc,nhwd->hwcd", waves, waves.conj())
  eigenvalues, basis = np.linalg.eigh(spectrum / num)
  floor = channels * np.finfo(np.float64).eps * eigenvalues.max()  # eigh's own rounding
  return Stationary(mean, basis, np.where(eigenvalues > floor, eigenvalues, 0))


def denoise(stationary: Stationary, x: Image, sigma: Sigma) -> Float[Array, "H W C"]:
  """Estimate ``x0`` from `x` by the Wiener filter of the images' power spectrum.

  ``D̂(ω) = S(ω) (S(ω) + σ² I)⁻¹ x̂(ω)`` about the mean: the posterior mean of a stationary Gaussian, which is
  the Gaussian denoiser of the images in all their circular shifts, and the best of all affine ones that
  commute with shifts. Of D (log D + C) operations.

  Args:
    stationary: mean and power spectrum.
    x: one noisy image [H, W, C] on the [-1, 1] scale, of the size that the spectrum is of.
    sigma: scalar noise level > 0, in the same units.

  Returns:
    The estimate, with the shape and dtype of `x`.

  Raises:
    ValueError: when `x` is not of that size.
  """
  if x.shape != stationary.eigenvalues.shape:
    want = stationary.eigenvalues.shape
    raise ValueError(f"`x` has shape {x.shape}; `stationary` describes images of shape {want}")
  x = jnp.asarray(x)
  mean, eigenvalues = (jnp.asarray(leaf, x.dtype) for leaf in (stationary.mean, stationary.eigenvalues))
  basis = jnp.asarray(stationary.basis, jnp.result_type(x.dtype, jnp.complex64))
  gain = eigenvalues / (eigenvalues + jnp.asarray(sigma, x.dtype) ** 2)
  waves = jnp.fft.fft2(x - mean[None, None], axes=(0, 1))
  modes = gain * jnp.einsum("hwck,hwc->hwk", basis.conj(), waves, precision="highest")
  waves = jnp.einsum("hwck,hwk->hwc", basis, modes, precision="highest")
  return mean[None, None] + jnp.fft.ifft2(waves, axes=(0, 1)).real


FAMILY = Family("stationary Gaussian", fit, denoise)
