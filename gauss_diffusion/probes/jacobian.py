"""Local linearity: what a denoiser's Jacobian J(x) = ∂D(x; σ)/∂x does, asked with products J v only.

The gain along the eigenvectors of the data covariance, the asymmetry, the change of J from point to
point and the error of the tangent over a finite step are all 0, or λ/(λ + σ²), for the Gaussian
denoiser. The Jacobian of any exact posterior mean is symmetric: σ² J = Cov(x₀|x).
"""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from gauss_diffusion.types import Array, ArrayLike, Denoiser, Image, Sigma


class LocalLinearity(NamedTuple):
  """What the Jacobians at two points say; the leading axis is the point, x1 then x2."""

  gain: Float[ArrayLike, "2 K"]  # uᵀJu for each direction
  asymmetry: Float[ArrayLike, "2"]  # ‖J - Jᵀ‖_F / ‖J‖_F, from 0 (symmetric) to 2 (antisymmetric)
  constancy: Float[ArrayLike, "2"]  # ‖J(x1) - J(x2)‖_F / ‖J‖_F, 0 when the Jacobian is the same at both
  displacement: Float[ArrayLike, "2"]  # ‖Δ - J δ‖ / ‖Δ‖ with δ the step to the other point, Δ the change of D


def pushforward(
  denoise: Denoiser, x: Image, sigma: Sigma, tangents: Float[ArrayLike, "T D"]
) -> tuple[Float[Array, "H W C"], Float[Array, "T D"]]:
  """Return D(x; σ) and J(x) v for each row v of `tangents`, evaluating D once.

  Args:
    denoise: a denoiser.
    x: noisy image [H, W, C].
    sigma: scalar noise level.
    tangents: directions [T, D] in flattened image space; the identity gives the whole Jᵀ.

  Returns:
    The denoised image [H, W, C] and the products [T, D].
  """
  chex.assert_shape(tangents, (None, x.size))

  def product(tangent):
    return jax.jvp(lambda x: denoise(x, sigma), (x,), (tangent.reshape(x.shape),))

  denoised, products = jax.vmap(product)(jnp.asarray(tangents, x.dtype))
  return denoised[0], products.reshape(tangents.shape)


def gain(
  denoise: Denoiser, x: Image, sigma: Sigma, directions: Float[ArrayLike, "K D"]
) -> Float[Array, " K"]:
  """Return uᵀ J(x) u for each row u of `directions` [K, D]: λ/(λ + σ²) for D_G and u an eigenvector.

  Args:
    denoise: a denoiser.
    x: noisy image [H, W, C].
    sigma: scalar noise level.
    directions: unit vectors [K, D], as a rule ``stats.basis.T[:K]``.

  Returns:
    Gains [K].
  """
  return _along(directions, pushforward(denoise, x, sigma, directions)[1])


def local_linearity(
  denoise: Denoiser,
  x1: Image,
  x2: Image,
  sigma: Sigma,
  directions: Float[ArrayLike, "K D"],
  probes: Float[ArrayLike, "m D"],
) -> LocalLinearity:
  """Measure gain, asymmetry and constancy of the Jacobian, and the tangent's error from x1 to x2.

  Frobenius norms are estimated on m random orthonormal columns Q [D, m], the rows of `probes`::

    constancy² = ‖(J(x1) - J(x2)) Q‖² / ‖JQ‖²

  and likewise in `asymmetry`. Numerator and denominator are unbiased up to one common factor, and the
  ratio is exact when m = D. Forward products are enough: no transpose of the network is compiled, and
  the network itself once, with K + m + 1 tangents at each of the two points. A ratio 0/0 counts as 0.

  Args:
    denoise: a denoiser.
    x1: noisy image [H, W, C].
    x2: another noisy image [H, W, C] at the same noise level.
    sigma: scalar noise level of both.
    directions: unit vectors [K, D], as a rule ``stats.basis.T[:K]``.
    probes: from `random_probes`, [m, D]; a set of its own for every pair keeps the pairs' errors
      independent.

  Returns:
    One row per point, so that P pairs give 2P samples of every quantity.

  Raises:
    ValueError: on fewer than 2 probes.
  """
  chex.assert_equal_shape([x1, x2])
  num_directions, num_probes, probes = len(directions), len(probes), jnp.asarray(probes, x1.dtype)
  directions, delta = jnp.asarray(directions, x1.dtype), (x2 - x1).reshape(1, -1)
  tangents = jnp.concatenate([directions, probes, delta])
  denoised, products = jax.vmap(lambda x: pushforward(denoise, x, sigma, tangents))(jnp.stack([x1, x2]))
  along, probed, step = jnp.split(products, [num_directions, num_directions + num_probes], axis=1)

  change = jnp.broadcast_to((denoised[1] - denoised[0]).reshape(1, 1, -1), step.shape)
  return LocalLinearity(
    gain=jax.vmap(_along, in_axes=(None, 0))(directions, along),
    asymmetry=asymmetry(probed, probes),
    constancy=_ratio(probed[:1] - probed[1:], probed),
    displacement=_ratio(change - step, change),
  )


def asymmetry(products: Float[Array, "*n m D"], probes: Float[ArrayLike, "m D"]) -> Float[Array, "*n"]:
  """Return ‖J - Jᵀ‖_F / ‖J‖_F, estimated on m random orthonormal columns Q [D, m], the rows of `probes`.

  ``asymmetry² = (D - 1)/(m - 1) ‖QᵀJQ - (QᵀJQ)ᵀ‖² / ‖JQ‖²``: both are unbiased up to one common factor, and
  the ratio is exact when m = D. Otherwise that of one point has a relative standard error near 1/m, up to
  3/m when J - Jᵀ has only a few directions. 0/0 counts as 0.

  Args:
    products: J q for each row of `probes`, [m, D], at any number of points, from `pushforward`.
    probes: from `random_probes`, [m, D].

  Raises:
    ValueError: on fewer than 2 probes.
  """
  num_probes, num_dims = probes.shape
  if num_probes < 2:
    raise ValueError(f"`probes` has {num_probes} row; asymmetry needs at least 2 probe vectors")
  compressed = jnp.einsum("...id,jd->...ij", products, probes, precision="highest")  # (QᵀJQ)ᵀ
  scale = ((num_dims - 1) / (num_probes - 1)) ** 0.5
  return _ratio(scale * (compressed - compressed.mT), products)


def random_probes(
  num_sets: int, num_dims: int, num_probes: int = 16, *, seed: int
) -> Float[np.ndarray, "{num_sets} m {num_dims}"]:
  """Return sets of random orthonormal rows, float64 [num_sets, min(num_probes, num_dims), num_dims].

  Drawn on the host: a QR factorisation inside a function mapped over CPU devices can deadlock, since
  its subtasks wait for the one pool of threads that the devices share.
  """
  shape = (num_sets, num_dims, min(num_probes, num_dims))
  columns, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal(shape))
  return columns.mT


def _along(directions: Float[ArrayLike, "K D"], products: Float[Array, "K D"]) -> Float[Array, " K"]:
  return jnp.sum(directions * products, axis=-1)


def _ratio(difference: Float[Array, "*#n _ _"], reference: Float[Array, "*n _ _"]) -> Float[Array, "*n"]:
  """Return the ratio of the Frobenius norms over the last two axes, 0/0 as 0."""
  top = jnp.linalg.norm(difference, axis=(-2, -1))
  bottom = jnp.linalg.norm(reference, axis=(-2, -1))
  return top / jnp.where(top > 0, bottom, 1)
