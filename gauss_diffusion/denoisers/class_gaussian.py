"""The best denoisers where every class of images is Gaussian: of one class, and of all of them together."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from gauss_diffusion.denoisers import gaussian
from gauss_diffusion.denoisers.family import Family, Option
from gauss_diffusion.types import Array, ArrayLike, GaussianStats, Image, Images, Sigma


class ClassMixture(NamedTuple):
  """Share, mean and covariance of each of K classes; covariances as in `GaussianStats`, of R components.

  Classes of lower rank are filled up with zeros, which say nothing.
  """

  share: Float[ArrayLike, " K"]  # of the images, positive, sum 1
  mean: Float[ArrayLike, "K H W C"]  # in [-1, 1]
  basis: Float[ArrayLike, "K D R"]  # orthonormal columns, or zero
  eigenvalues: Float[ArrayLike, "K R"]  # falling; pixel variance on the [-1, 1] scale


def fit(images: Images, labels: Int[np.ndarray, " N"], *, rank: int) -> ClassMixture:
  """Return the record of those classes that occur among images [N, H, W, C].

  A class of n images has a covariance of rank at most min(n − 1, D), D = H · W · C. Memory and disk are
  ``8 K D R`` bytes, with R the largest rank: 0.8 GB for ten classes of 5,000 images 32 x 32 in colour, unless
  `rank` is lower. Fitting is an eigenproblem a class, and an evaluation K of the Gaussian denoiser's.

  Args:
    images: of all classes.
    labels: the class of each.
    rank: components kept of each class, 0 for all.
  """
  known, counts = np.unique(labels, return_counts=True)
  fits = [gaussian.fit(images[labels == label], rank=rank) for label in known]
  most = max(len(stats.eigenvalues) for stats in fits)

  def padded(array):
    return np.pad(array, [(0, 0)] * (array.ndim - 1) + [(0, most - array.shape[-1])])

  return ClassMixture(
    counts / len(labels),
    np.stack([stats.mean for stats in fits]),
    np.stack([padded(stats.basis) for stats in fits]),
    np.stack([padded(stats.eigenvalues) for stats in fits]),
  )


def denoise(mixture: ClassMixture, x: Image, sigma: Sigma) -> Float[Array, "H W C"]:
  """Estimate ``x0`` from `x` as the posterior mean under ``Σ_c π_c N(μ_c, Σ_c)``.

  ``D(x; σ) = Σ_c w_c D_c(x; σ)``, with D_c the Gaussian denoiser of class c and ``w_c`` the posterior
  probability of the class, see `responsibilities`: what an unconditional network could know at most of
  Gaussian classes, as D_c is what a network could know that is told the class.

  Args:
    mixture: of any number of classes; one gives the Gaussian denoiser.
    x: one noisy image [H, W, C], shaped as the means, in units of the [-1, 1] scale.
    sigma: scalar noise level > 0, in the same units.

  Returns:
    The estimate, with the shape and dtype of `x`.

  Raises:
    ValueError: when `x` is not shaped as the means.
  """
  weights = responsibilities(mixture, x, sigma)
  x = jnp.asarray(x)
  mixture = jax.tree.map(lambda leaf: jnp.asarray(leaf, x.dtype), mixture)
  classes = GaussianStats(mixture.mean, mixture.basis, mixture.eigenvalues)
  estimates = jax.vmap(gaussian.denoise, (0, None, None))(classes, x, sigma)
  return jnp.tensordot(weights, estimates, 1, precision="highest")


def responsibilities(mixture: ClassMixture, x: Image, sigma: Sigma) -> Float[Array, " K"]:
  """Return the posterior probability of each class, ``w_c ∝ π_c N(x; μ_c, Σ_c + σ² I)``.

  Log densities are large, and differ by little or by much. So that float32 gets their differences right at
  every noise level, images are whitened, ``v_c = (Σ_c + σ² I)^(-1/2) (x − μ_c) = x/σ + s_c``, and
  ``|v_c|² − |v_b|² = (s_c − s_b) · (v_c + v_b)`` is taken with b the likeliest class; determinants differ by
  ``Σ_k ln (λ_ck + σ²) − ln (λ_bk + σ²)``, where noise outside the spans cancels.

  Args:
    mixture: see `denoise`.
    x: one noisy image [H, W, C].
    sigma: scalar noise level > 0.

  Returns:
    The probabilities, in the dtype of `x`, in the order of the record.

  Raises:
    ValueError: when `x` is not shaped as the means.
  """
  if x.shape != mixture.mean.shape[1:]:
    raise ValueError(f"`x` has shape {x.shape}; `mixture` describes images of shape {mixture.mean.shape[1:]}")
  x = jnp.asarray(x)
  share, mean, basis, eigenvalues = (jnp.asarray(leaf, x.dtype) for leaf in mixture)
  sigma = jnp.asarray(sigma, x.dtype)
  flat, mean = x.reshape(-1), mean.reshape(len(mean), -1)
  spread = jnp.log1p(eigenvalues / sigma**2)  # [K, R], of the log determinant, over σ² alone
  modes = jnp.einsum("kdr,kd->kr", basis, flat[None] - mean, precision="highest")
  # 1/σ − 1/√(λ + σ²), which is small where λ is beside σ².
  taken = -jnp.expm1(-spread / 2) * modes
  shift = -(mean + jnp.einsum("kdr,kr->kd", basis, taken, precision="highest")) / sigma  # [K, D]

  def relative(best):
    """Return the log probabilities over that of the class `best`."""
    both = 2 * flat[None] / sigma + shift + shift[best][None]
    squares = jnp.sum((shift - shift[best][None]) * both, axis=1)
    determinants = jnp.sum(spread - spread[best][None], axis=1)
    return jnp.log(share / share[best]) - (squares + determinants) / 2

  # Once to find the likeliest, once more because only beside that one differences are exact.
  return jax.nn.softmax(relative(jnp.argmax(relative(0))))


def fit_class(images: Images, labels: Int[np.ndarray, " N"], *, label: int, rank: int) -> GaussianStats:
  """Return mean and eigenbasis of the images of one class, of the first `rank` components, or all for 0.

  Args:
    images: of all classes.
    labels: the class of each.
    label: which class.
    rank: as `gaussian.fit` takes it.

  Raises:
    ValueError: when no image is of that class.
  """
  if label not in labels:
    raise ValueError(
      f"`denoisers.class_gaussian.label` is {label}, and none of {len(labels)} images is of that class; "
      f"want one of {', '.join(map(str, np.unique(labels)))}"
    )
  return gaussian.fit(images[labels == label], rank=rank)


RANK = gaussian.FAMILY.options["rank"]
MIXTURE = Family(
  "class mixture", fit, denoise, {"rank": RANK}, kept=ClassMixture, labelled=True, together=True
)
ONE_CLASS = Family(
  "class Gaussian",
  fit_class,
  gaussian.denoise,
  {"label": Option(0, "the class, by its label", 0, 2**16 - 1), "rank": RANK},
  kept=GaussianStats,
  labelled=True,
  together=True,
)
