"""The leading singular vectors of a denoiser's Jacobian J(x) = ∂D(x; σ)/∂x, from products J v and Jᵀ u alone.

Randomized subspace iteration (Halko, Martinsson & Tropp 2011, algorithm 4.4). The products run on the
devices, the small factorisations on the host in float64: on CPU devices those can deadlock under pmap.
"""

from collections.abc import Callable
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from gauss_diffusion import parallel
from gauss_diffusion.probes import jacobian
from gauss_diffusion.types import Array, ArrayLike, Denoiser, Image, Sigma

OVERSAMPLING = 8  # vectors carried beyond those asked for


class Modes(NamedTuple):
  """The leading singular triplets of n Jacobians, ``J right_i = values_i left_i``; float64."""

  left: Float[np.ndarray, "n k D"]  # orthonormal rows; the largest entry of each is positive
  values: Float[np.ndarray, "n k"]  # falling
  right: Float[np.ndarray, "n k D"]  # orthonormal rows


def pullback(
  denoise: Denoiser, x: Image, sigma: Sigma, cotangents: Float[ArrayLike, "T D"]
) -> Float[Array, "T D"]:
  """Return J(x)ᵀ u for each row u of `cotangents` [T, D]: the transpose of `jacobian.pushforward`.

  Args:
    denoise: a denoiser.
    x: noisy image [H, W, C].
    sigma: scalar noise level.
    cotangents: directions [T, D] in flattened image space; the identity gives the whole J.

  Returns:
    The products [T, D].
  """
  chex.assert_shape(cotangents, (None, x.size))
  _, transposed = jax.vjp(lambda x: denoise(x, sigma), x)
  images = jnp.asarray(cotangents, x.dtype).reshape(-1, *x.shape)
  return jax.vmap(transposed)(images)[0].reshape(cotangents.shape)


def singular_vectors(
  denoise: Denoiser,
  x: Float[ArrayLike, "n H W C"],
  sigma: float,
  k: int,
  *,
  iterations: int = 4,
  seed: int = 0,
) -> Modes:
  """Return the first k singular vectors and values of the Jacobian at each of n points.

  From a random block of k + 8 directions, J and Jᵀ are applied in turn. With q iterations the part outside
  the leading subspace shrinks as ``(s_{k+9}/s_k)^(2q + 1)``: quickly where singular values fall. Where they
  hardly do, as at low noise, the vectors found are only some that are stretched as much. If the whole
  Jacobian takes no more products than that, it is taken: exact to the precision of `x`.

  Args:
    denoise: a denoiser with derivatives, a pytree; its two kinds of product are compiled once.
    x: noisy images [n, H, W, C].
    sigma: noise level of all of them.
    k: number of vectors, from 1 to D.
    iterations: q, at least 1.
    seed: of the first directions.

  Raises:
    ValueError: on k or iterations out of range, or a denoiser that returns NaN or infinity.
    TypeError: when the denoiser has no derivatives, as one of `denoisers.external`.
  """
  num_dims = x[0].size
  if not 1 <= k <= num_dims:
    raise ValueError(f"`k` is {k}; want between 1 and {num_dims} singular vectors")
  if iterations < 1:
    raise ValueError(f"`iterations` is {iterations}; want at least 1")
  block = k + OVERSAMPLING
  if num_dims <= (2 * iterations + 1) * block:
    identity = np.broadcast_to(np.eye(num_dims), (len(x), num_dims, num_dims))
    right, products = identity, _apply(_push, denoise, x, sigma, identity)
  else:
    right = jacobian.random_probes(len(x), num_dims, block, seed=seed)
    for _ in range(iterations):
      left = _orthonormal(_apply(_push, denoise, x, sigma, right))
      right = _orthonormal(_apply(_pull, denoise, x, sigma, left))
    products = _apply(_push, denoise, x, sigma, right)
  # The rows of `products` are J v: their right singular vectors are left ones of J.
  rotation, values, left = np.linalg.svd(products, full_matrices=False)
  right = np.swapaxes(rotation, 1, 2) @ right
  largest = np.take_along_axis(left, np.abs(left).argmax(-1)[..., None], axis=-1)
  sign = np.where(largest < 0, -1.0, 1.0)
  return Modes((sign * left)[:, :k], values[:, :k], (sign * right)[:, :k])


def _push(shared: tuple[Denoiser, Sigma], x: Image, tangents: Float[Array, "T D"]) -> Float[Array, "T D"]:
  denoise, sigma = shared
  return jacobian.pushforward(denoise, x, sigma, tangents)[1]


def _pull(shared: tuple[Denoiser, Sigma], x: Image, cotangents: Float[Array, "T D"]) -> Float[Array, "T D"]:
  denoise, sigma = shared
  return pullback(denoise, x, sigma, cotangents)


def _apply(
  products: Callable,
  denoise: Denoiser,
  x: Float[ArrayLike, "n H W C"],
  sigma: float,
  directions: Float[np.ndarray, "n T D"],
) -> Float[np.ndarray, "n T D"]:
  """Map `_push` or `_pull` over the points; float64."""
  shared = denoise, np.asarray(sigma, x.dtype)
  out = parallel.map_samples(products, shared, x, directions.astype(x.dtype), batch=len(x))
  if not np.isfinite(out).all():
    raise ValueError(f"`denoise` has a Jacobian with NaN or infinite entries at noise level {sigma}")
  return out.astype(np.float64)


def _orthonormal(rows: Float[np.ndarray, "n m D"]) -> Float[np.ndarray, "n m D"]:
  """Return orthonormal rows whose span holds that of `rows`."""
  return np.swapaxes(np.linalg.qr(np.swapaxes(rows, 1, 2))[0], 1, 2)
