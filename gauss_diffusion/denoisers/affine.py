"""An affine denoiser, one map for each noise level at which it was fitted."""

import jax.numpy as jnp
from jaxtyping import Float

from gauss_diffusion.types import Affine, Array, ArrayLike, Sigma

SIGMA_TOLERANCE = 1e-3  # relative: far above float32 rounding, far below any grid's spacing


def denoise(affine: Affine, x: Float[ArrayLike, "*image"], sigma: Sigma) -> Float[Array, "*image"]:
  """Estimate ``x0`` from `x` by the map fitted at `sigma`.

  ``D(x; σ) = W_σ x + b_σ`` (Li et al. 2024, eq. 9). The map says nothing about other levels, so a
  `sigma` that is not one of ``affine.sigma``, to 0.1 %, gives NaN rather than a wrong image.

  Args:
    affine: weight [S, D, D], bias [S, D] and the levels [S] they were fitted at, in any order.
    x: one noisy image [H, W, C], or any shape of D elements, on the [-1, 1] scale.
    sigma: scalar noise level > 0, in the same units.

  Returns:
    The estimate, with the shape and dtype of `x`.

  Raises:
    ValueError: when the record's shapes disagree with each other or with `x`.
  """
  x = jnp.asarray(x)
  weight, bias, levels = (jnp.asarray(leaf, x.dtype) for leaf in affine)
  want = (*levels.shape, x.size, x.size)
  if levels.ndim != 1 or weight.shape != want or bias.shape != want[:-1]:
    raise ValueError(
      f"`affine` has weight {weight.shape}, bias {bias.shape}, sigma {levels.shape}; for `x` of {x.size} "
      f"elements want [S, {x.size}, {x.size}], [S, {x.size}], [S]"
    )
  distance = jnp.abs(jnp.log(levels) - jnp.log(jnp.asarray(sigma, x.dtype)))
  level = jnp.argmin(distance)
  estimate = jnp.matmul(weight[level], x.reshape(-1), precision="highest") + bias[level]
  return jnp.where(distance[level] < SIGMA_TOLERANCE, estimate, jnp.nan).reshape(x.shape)
