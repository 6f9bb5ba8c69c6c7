"""Classifier-free guidance of any two denoisers, and what it consists of where both are Gaussian."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from gauss_diffusion.types import Array, ArrayLike, Denoiser, GaussianStats, Image, Number, Sigma


class Guided(NamedTuple):
  """A denoiser that knows the class, one that does not, and how far to go from the one past the other."""

  conditional: Denoiser
  unconditional: Denoiser
  weight: Number  # w; 0 is the conditional denoiser, −1 the unconditional one


class Contrast(NamedTuple):
  """The guidance of two Gaussian denoisers at one noise level, ``shift + V diag(γ) Vᵀ (x − mean)``."""

  shift: Image
  mean: Image  # of the class
  directions: Float[ArrayLike, "D R"]  # orthonormal columns V, in order of falling γ
  values: Float[ArrayLike, " R"]  # γ, in (−1, 1)


class Pieces(NamedTuple):
  """What guidance adds to one noisy image; the sum is ``D_c(x; σ) − D_∅(x; σ)``."""

  shift: Float[Array, "H W C"]  # towards the class's mean, whatever the image
  positive: Float[Array, "H W C"]  # along directions in which the class varies more than all images
  negative: Float[Array, "H W C"]  # along those in which it varies less


def denoise(guided: Guided, x: Image, sigma: Sigma) -> Float[Array, "H W C"]:
  """Estimate ``x0`` from `x`, guided: ``D_c(x; σ) + w (D_c(x; σ) − D_∅(x; σ))`` (Ho & Salimans 2022, eq. 6).

  ``Partial(guidance.denoise, Guided(...))`` is a `Denoiser` and a pytree, and the guided sampler is
  `sampling.sample` with it.

  Args:
    guided: two denoisers, themselves pytrees, and the weight.
    x: one noisy image [H, W, C].
    sigma: scalar noise level > 0.

  Returns:
    The estimate, with the shape and dtype of `x`. Guided, it is the posterior mean of no law in general.
  """
  of_class, of_all = guided.conditional(x, sigma), guided.unconditional(x, sigma)
  return of_class + jnp.asarray(guided.weight, of_class.dtype) * (of_class - of_all)


def contrast(of_class: GaussianStats, of_all: GaussianStats, sigma: Sigma) -> Contrast:
  """Take the guidance of two Gaussian denoisers apart (Li, Wang & Qu 2025, arXiv 2505.19210).

  With ``W = Σ (Σ + σ² I)⁻¹`` of each, ``D_c − D_∅ = (I − W_∅)(μ_c − μ_∅) + (W_c − W_∅)(x − μ_c)``: a shift of
  the mean, and contrastive principal components, the eigenvectors of ``W_c − W_∅``, positive and negative.
  Computed in float64 on the host, in the span of both covariances: beyond it W_c and W_∅ are 0.

  Args:
    of_class: mean and covariance of the class.
    of_all: those of what is guided away from, such as of the images of all classes.
    sigma: noise level > 0.

  Returns:
    The record, float64, R at most the sum of both ranks.

  Raises:
    ValueError: when the two are of images of different shapes.
  """
  if of_class.mean.shape != of_all.mean.shape:
    raise ValueError(
      f"`of_class` describes images of shape {of_class.mean.shape}, `of_all` of {of_all.mean.shape}; want one"
    )
  (mean, own, own_gain), (center, every, gain) = (_shrinkage(stats, sigma) for stats in (of_class, of_all))
  difference = (mean - center).reshape(-1)
  shift = difference - every @ (gain * (every.T @ difference))
  span, _ = np.linalg.qr(np.concatenate([own, every], axis=1))
  own, every = span.T @ own, span.T @ every
  values, vectors = np.linalg.eigh(own * own_gain @ own.T - every * gain @ every.T)
  return Contrast(shift.reshape(mean.shape), mean, span @ vectors[:, ::-1], values[::-1])


def pieces(contrast: Contrast, x: Image) -> Pieces:
  """Return the three pieces of the guidance of one noisy image [H, W, C], in its dtype."""
  x = jnp.asarray(x)
  shift, mean, directions, values = (jnp.asarray(leaf, x.dtype) for leaf in contrast)
  modes = jnp.matmul((x - mean).reshape(-1), directions, precision="highest")

  def along(kept):
    return jnp.matmul(directions, kept * modes, precision="highest").reshape(x.shape)

  return Pieces(shift, along(jax.nn.relu(values)), along(-jax.nn.relu(-values)))


def _shrinkage(
  stats: GaussianStats, sigma: Sigma
) -> tuple[Float[np.ndarray, "H W C"], Float[np.ndarray, "D K"], Float[np.ndarray, " K"]]:
  """Return mean, basis, and the eigenvalues of W, in float64."""
  mean, basis, eigenvalues = (np.asarray(leaf, np.float64) for leaf in stats)
  return mean, basis, eigenvalues / (eigenvalues + float(sigma) ** 2)
