"""Every pixel from what the Gaussian denoiser reads for it: locality as the pixels' covariance has it."""

from functools import partial
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from gauss_diffusion import statistics
from gauss_diffusion.denoisers import levels
from gauss_diffusion.denoisers.family import Family, Option
from gauss_diffusion.denoisers.local import masks, posterior
from gauss_diffusion.types import Array, GaussianStats, Image, Number, Pixels, Sigma

MOST_VALUES = 2**12  # W is a matrix of as many rows and columns, made anew for each noise level


class Locality(NamedTuple):
  """Training images, their covariance, and how little of W still counts."""

  images: levels.Source
  stats: GaussianStats
  threshold: Number  # of |W_ij / W_ii|, as a share of the largest


def fit(images: Pixels, *, threshold: float) -> Locality:
  """Return the record of images uint8 [N, H, W, C]."""
  return Locality(levels.placed(images), statistics.gaussian_stats(images), np.float64(threshold))


def read(record: Locality, sigma: Sigma, dtype: jnp.dtype) -> Bool[Array, "D D"]:
  """Return which values i each value j is estimated from, [j, i].

  ``|W_ij / W_ii| ≥ threshold · max``, with W = U diag(λ/(λ + σ²)) Uᵀ the matrix of the Gaussian denoiser: as
  the code of Lukoianov et al. 2025 has it, where the row that normalises is that of the value that is read.
  """
  basis, eigenvalues = jnp.asarray(record.stats.basis, dtype), jnp.asarray(record.stats.eigenvalues, dtype)
  gain = eigenvalues / (eigenvalues + jnp.asarray(sigma, dtype) ** 2)
  weight = jnp.matmul(basis * gain[None], basis.T, precision="highest")
  own = jnp.diagonal(weight)
  share = jnp.abs(weight / jnp.where(own > 0, own, 1)[:, None])
  return (share >= jnp.asarray(record.threshold, dtype) * jnp.max(share)).T


def denoise(record: Locality, x: Image, sigma: Sigma, *, chunk: int = 256) -> Float[Array, "H W C"]:
  """Estimate each value of ``x0`` as its posterior mean over the training images, given what `read` says.

  ``D(x; σ)_j = Σ_n w_nj y_nj``, ``w_nj = softmax_n(-Σ_i M_ji (x_i - y_ni)² / 2σ²)`` (Lukoianov et al. 2025),
  with one softmax over all images: theirs is one for each chunk, and the mean of those. A pixel's channels
  are values of their own. Images are streamed in chunks; the result does not depend on `chunk`.

  Args:
    record: see `fit`.
    x: one noisy image [H, W, C] on the [-1, 1] scale.
    sigma: scalar noise level > 0, in the same units.
    chunk: images in one step of the stream.

  Returns:
    The estimate, with the shape and dtype of `x`.
  """
  levels.check_images(record.images, x, chunk)
  x = jnp.asarray(x)
  variance = levels.variance(sigma, x.dtype)
  query = posterior.split(x.reshape(1, -1))
  mask = read(record, sigma, x.dtype)

  def absorb(found, y, fresh):
    y = (levels.centred(y).reshape(len(y), -1),)
    distance = masks.sums(posterior.maps(query, y), mask)
    taken = jnp.broadcast_to(fresh[:, None], y[0].shape)
    return posterior.absorb(found, distance, taken, partial(posterior.summed, y), query.unit, variance)

  found = levels.fold(absorb, posterior.empty(x.reshape(-1), 1), record.images, chunk)
  return levels.to_pixels(posterior.mean(found)).reshape(x.shape)


FAMILY = Family(
  title="PCA locality",
  fit=fit,
  denoise=denoise,
  options={
    "threshold": Option(0.02, "least share of the largest |W_ij / W_ii| for value j to read i", 1e-6, 1.0)
  },
  most_values=MOST_VALUES,
  exact=True,
)
