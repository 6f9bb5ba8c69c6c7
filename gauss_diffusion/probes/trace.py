"""Trace and diagonal of a denoiser's Jacobian J(x) = ∂D(x; σ)/∂x, from products J v alone.

Both take the part of J that acts on a basis Q of its range exactly, and the rest from random signs (Hutch++,
Meyer, Musco, Musco & Woodruff 2021).
"""

import numpy as np
from jaxtyping import Float

from gauss_diffusion import parallel
from gauss_diffusion.probes import jacobian
from gauss_diffusion.types import Array, ArrayLike, Denoiser, Image, Sigma

_BLOCK = 256  # directions of one image at a time


def trace(
  denoise: Denoiser, x: Float[ArrayLike, "n H W C"], sigma: float, products: int, *, seed: int = 0
) -> Float[np.ndarray, " n"]:
  """Return tr J(x; σ) at each of n points, float64: exactly, or by Hutch++ where that takes fewer products.

  With Q an orthonormal basis of J times a third of the products as random signs, ``tr J = tr QᵀJQ +
  tr (I − QQᵀ) J (I − QQᵀ)``: the first part is taken exactly, the second as the mean of gᵀJg over the last
  third, g random signs without their part in Q (Meyer, Musco, Musco & Woodruff 2021). It is unbiased, and
  exact where a third is the rank of J; the error falls as one over the number of products.

  Args:
    denoise: a denoiser with derivatives, a pytree.
    x: noisy images [n, H, W, C].
    sigma: noise level of all of them.
    products: J v to be made at each point, at least 3; from D on the trace is exact, with D of them.
    seed: of the directions.

  Raises:
    ValueError: on fewer than 3 products, or a denoiser that returns NaN or infinity.
  """
  if products >= x[0].size:
    return diagonal(denoise, x, sigma, products, seed=seed).reshape(len(x), -1).sum(axis=1)
  basis, onto, signs = _range(denoise, x, sigma, products, seed)
  rest = signs - _within(basis, signs)
  found = np.sum(basis * onto, axis=(1, 2))
  return found + np.sum(rest * _push(denoise, x, sigma, rest), axis=(1, 2)) / signs.shape[1]


def diagonal(
  denoise: Denoiser, x: Float[ArrayLike, "n H W C"], sigma: float, products: int, *, seed: int = 0
) -> Float[np.ndarray, "n H W C"]:
  """Return the diagonal of J(x; σ) at each of n points, float64: as an image, what a pixel says of itself.

  For an exact posterior mean, σ² times it is the variance of each clean pixel given x. With Q as in `trace`,
  ``diag J = diag J QQᵀ + diag J (I − QQᵀ)``: the first part is taken exactly, the second as the mean of
  ``g ⊙ J (I − QQᵀ) g`` over random signs g (Bekas, Kokiopoulou & Saad 2007). It is unbiased; what one pixel's
  estimate is uncertain by are the other entries of its row of J (I − QQᵀ).

  Args:
    denoise: a denoiser with derivatives, a pytree.
    x: noisy images [n, H, W, C].
    sigma: noise level of all of them.
    products: as `trace`.
    seed: of the directions.

  Raises:
    ValueError: as `trace`.
  """
  size = x[0].size
  if products < size:
    basis, onto, signs = _range(denoise, x, sigma, products, seed)
    rest = _push(denoise, x, sigma, signs - _within(basis, signs))
    found = np.sum(basis * onto, axis=1) + np.mean(signs * rest, axis=1)
  else:
    rows = np.eye(size, dtype=x.dtype)
    level = np.asarray(sigma, x.dtype)
    batch = in_flight(len(x), size, products)
    parts = [
      parallel.map_samples(_gain, (denoise, level, rows[start : start + _BLOCK]), x, batch=batch)
      for start in range(0, size, _BLOCK)
    ]
    found = _finite(np.concatenate(parts, axis=1).astype(np.float64), sigma)
  return found.reshape(x.shape)


def in_flight(num: int, size: int, products: int) -> int:
  """Return how many of a number of points with D pixels are looked at at once, given the products at each."""
  return min(num, parallel.samples_in_flight(size * tangents(size, products)))


def tangents(size: int, products: int) -> int:
  """Return how many products at a point of D pixels are made at once."""
  return products // 3 if products < size else min(size, _BLOCK)


def _range(
  denoise: Denoiser, x: Float[ArrayLike, "n H W C"], sigma: float, products: int, seed: int
) -> tuple[Float[np.ndarray, "n T D"], Float[np.ndarray, "n T D"], Float[np.ndarray, "n T D"]]:
  """Return orthonormal rows Q in the range of J, J Q, and as many random signs of their own."""
  if products < 3:
    raise ValueError(f"`products` is {products}; want at least 3")
  signs = np.random.default_rng(seed).choice([-1.0, 1.0], (2, len(x), products // 3, x[0].size))
  basis = np.swapaxes(np.linalg.qr(np.swapaxes(_push(denoise, x, sigma, signs[0]), 1, 2))[0], 1, 2)
  return basis, _push(denoise, x, sigma, basis), signs[1]


def _within(
  basis: Float[np.ndarray, "n T D"], rows: Float[np.ndarray, "n T D"]
) -> Float[np.ndarray, "n T D"]:
  return rows @ np.swapaxes(basis, 1, 2) @ basis


def _gain(shared: tuple[Denoiser, Sigma, Float[ArrayLike, "T D"]], x: Image) -> Float[Array, " T"]:
  denoise, sigma, rows = shared
  return jacobian.gain(denoise, x, sigma, rows)


def _products(shared: tuple[Denoiser, Sigma], x: Image, tangents: Float[Array, "T D"]) -> Float[Array, "T D"]:
  denoise, sigma = shared
  return jacobian.pushforward(denoise, x, sigma, tangents)[1]


def _push(
  denoise: Denoiser, x: Float[ArrayLike, "n H W C"], sigma: float, directions: Float[np.ndarray, "n T D"]
) -> Float[np.ndarray, "n T D"]:
  """Return J v for every direction at every point, float64."""
  shared, batch = (denoise, np.asarray(sigma, x.dtype)), parallel.samples_in_flight(directions[0].size)
  directions = directions.astype(x.dtype)
  products = parallel.map_samples(_products, shared, np.asarray(x), directions, batch=min(len(x), batch))
  return _finite(products.astype(np.float64), sigma)


def _finite(values: Float[np.ndarray, "*n"], sigma: float) -> Float[np.ndarray, "*n"]:
  if not np.isfinite(values).all():
    raise ValueError(f"`denoise` has a Jacobian with NaN or infinite entries at noise level {sigma}")
  return values
