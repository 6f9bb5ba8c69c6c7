"""The best affine map of any denoiser at each noise level, ``min over W, b of E‖W y + b − D(y; σ)‖²``.

Li et al. 2024, eq. 9; ``y = x0 + σ · noise``, with x0 drawn from the images passed. Which images decides
what the answer means: on noisy *training* images every posterior mean, the exact memorizer included, has the
Gaussian denoiser as its best affine map; only on *held-out* images do the maps tell denoisers apart.

Every noise is used with both signs. On a trained network that cut the variance of W, for the same number of
pairs, to a third at high noise and an eighth at σ = 0.02, and cost nothing in between. Where noise makes up
most of y, the part of the residual that is even in the noise cancels from W; the odd part is one number
twice, and n pairs are worth n/2 independent ones.
"""

import functools
from collections.abc import Iterable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
from jaxtyping import Float, Int, Key, Shaped, UInt8
from tqdm import tqdm

from gauss_diffusion import moments, parallel
from gauss_diffusion.images import to_float
from gauss_diffusion.moments import Pairs
from gauss_diffusion.types import Affine, Array, ArrayLike, Denoiser, GaussianStats, Images, Sigma, Sigmas

_BLOCK = 1024  # pairs in one float64 update of the moments: keeps BLAS busy within 100 MB at D = 3072


class Fit(NamedTuple):
  """How well the affine maps fit."""

  residual_mse: Float[np.ndarray, " S"]  # mean square of D(y) - W y - b per coordinate, on the fit's pairs
  num_pairs: int  # at each level


class Descent(NamedTuple):
  """How gradient descent went."""

  residual_mse: Float[np.ndarray, " S"]  # mean square of D(y) - W y - b per coordinate, on fresh pairs
  learning_rate: Float[np.ndarray, " S"]  # derived from the spectrum
  loss: Float[np.ndarray, "num_steps S"]  # mean square residual of the iterate before each step
  step: Int[np.ndarray, " R"]  # the number of steps done when each entry of the history was recorded
  history: list[Affine]  # R, the maps so far


def closed_form(
  denoise: Denoiser,
  images: Shaped[np.ndarray, "..."],
  sigmas: Sigmas,
  key: Key[Array, ""],
  *,
  num_pairs: int = 8192,
) -> tuple[Affine, Fit]:
  """Fit the affine maps by least squares, ``W = Cov(D, y) Cov(y)⁻¹``, ``b = E[D] − W E[y]``.

  Moments are streamed, each process and device summing its share, see `moments`. Each process then solves the
  same equations in float64, one level at a time and in place: beside the maps, the host's memory holds two
  matrices D x D of float64, and while moments are summed a third.

  Args:
    denoise: the denoiser, a pytree; compiled once for all levels.
    images: uint8 or float32 [N, H, W, C]; visited equally often, in an order drawn from `key`.
    sigmas: noise levels [S], all > 0.
    key: decides the noise and the order of the images; the number of devices does not matter.
    num_pairs: how many (y, D(y)) at each level, at least 2 D: D noises with both signs. The residual on fresh
      pairs exceeds `residual_mse` by a factor of about (m / (m - D))². With n pairs m is n where residuals
      are independent (1.3 at 8 D pairs, 1.8 at 4 D, 4 at 2 D), and n/2 at high noise for residuals that are
      odd in the noise (1.8, 4, no bound); for even ones the factor is near 1.

  Returns:
    The maps, in JAX's default float type, and the record of the fit.

  Raises:
    ValueError: on images, levels or a number of pairs that cannot determine the maps, or a denoiser that
      returns NaN or infinity.
  """
  sigmas = _checked(images, sigmas)
  dimension = images[0].size
  if num_pairs < 2 * dimension:
    raise ValueError(f"`num_pairs` is {num_pairs}; {dimension} coordinates need at least {2 * dimension}")
  key_order, key_noise = jax.random.split(key)
  order, denoise = _order(images, key_order), parallel.put(denoise)
  blocks = np.array_split(np.arange(num_pairs), max(1, num_pairs // _BLOCK))

  dtype = jax.dtypes.canonicalize_dtype(np.float64)
  weight = np.empty((len(sigmas), dimension, dimension), dtype)
  bias, residual_mse = np.empty((len(sigmas), dimension), dtype), np.empty(len(sigmas))
  for s, sigma in enumerate(sigmas):
    key_level = jax.random.fold_in(key_noise, s)
    pairs = (_pairs(denoise, images, order, sigma, key_level, index) for index in blocks)
    weight[s], bias[s], residual_mse[s] = least_squares(pairs)
  return Affine(weight, bias, sigmas.astype(dtype)), Fit(residual_mse, num_pairs)


def gradient_descent(
  denoise: Denoiser,
  images: Shaped[np.ndarray, "..."],
  sigmas: Sigmas,
  key: Key[Array, ""],
  *,
  num_steps: int = 2000,
  batch: int = 256,
  record_every: int | None = None,
) -> tuple[Affine, Descent]:
  """Fit the affine maps by stochastic gradient descent from zero, all levels at once.

  Inputs are centred on the images' mean and every step sees fresh noise. On the Gaussian denoiser the
  expected iterate after n steps, along an eigenvector of the images' covariance with eigenvalue λ, is
  ``γ (1 − (1 − 2 η (λ + σ²))ⁿ)`` with γ = λ/(λ + σ²).

  The learning rate is one at which batches of B are sure to converge (Jain et al. 2018):
  ``η = B / (2 (R² + (B − 1) L))`` with the largest curvature L = λ_max + σ² and
  R² = max‖x0 − μ‖² + L + (D + 4) σ², so that E[‖z‖² z zᵀ] ≤ R² E[z zᵀ]; for large B it is 1 / (2 L). The
  bias is the weight of a constant input √L, and so is learned as fast as the first mode.

  Returned is a running average of the iterates with weights that grow as n³ (Shamir & Zhang 2013, η = 3): it
  forgets the transient and, at a constant learning rate, averages the noise of the steps away.

  Args:
    denoise: the denoiser, a pytree; compiled once for all levels.
    images: uint8 or float32 [N, H, W, C]; visited equally often, in an order drawn from `key`.
    sigmas: noise levels [S], all > 0.
    key: decides the noise and the order of the images.
    num_steps: steps at each level. A mode needs several L / (λ + σ²), so that at low noise the weakest are
      out of reach; `closed_form` has no such limit.
    batch: pairs in each step at each level.
    record_every: add the maps so far to the history whenever this many more steps are done; None for never.

  Returns:
    The maps, in JAX's default float type, and the record of the descent.

  Raises:
    ValueError: on images, levels or counts that make no sense, or a denoiser that returns NaN or infinity.
  """
  sigmas = _checked(images, sigmas)
  for name, count in (("num_steps", num_steps), ("batch", batch), ("record_every", record_every or 1)):
    if count < 1:
      raise ValueError(f"`{name}` is {count}; want at least 1")
  key_order, key_noise = jax.random.split(key)
  order, denoise = _order(images, key_order), parallel.put(denoise)
  mean, radius, variance = _extent(images)
  dimension, curvature = len(mean), variance + sigmas**2
  learning_rate = batch / (2 * (radius + (dimension + 4) * sigmas**2 + batch * curvature))

  dtype = jax.dtypes.canonicalize_dtype(np.float64)
  keys = [jax.random.fold_in(key_noise, s) for s in range(len(sigmas))]
  constant = np.broadcast_to(np.sqrt(curvature)[:, None, None], (len(sigmas), batch, 1))

  def draw(step):
    index = np.arange(step * batch, (step + 1) * batch)
    pairs = [_pairs(denoise, images, order, sigma, k, index) for sigma, k in zip(sigmas, keys)]
    y, target = (np.stack(part) for part in zip(*pairs))
    return np.concatenate([y - mean, constant], axis=-1, dtype=dtype), target

  def affine(theta):
    weight = np.asarray(theta[..., :-1])
    bias = np.asarray(theta[..., -1]) * np.sqrt(curvature)[:, None] - weight @ mean
    return Affine(weight, bias.astype(dtype), sigmas.astype(dtype))

  theta, average = (jnp.zeros((len(sigmas), dimension, dimension + 1), dtype) for _ in range(2))
  rate, losses, steps, history = learning_rate.astype(dtype), [], [], []
  for step in tqdm(range(num_steps), "gradient descent", unit="step", delay=2):
    theta, average, loss = _descend(theta, average, *draw(step), rate, step)
    losses.append(loss)
    if record_every and (step + 1) % record_every == 0:
      steps.append(step + 1)
      history.append(affine(average))
  residual_mse = np.mean(np.square(_residual(average, *draw(num_steps)), dtype=np.float64), axis=(1, 2))
  return affine(average), Descent(residual_mse, learning_rate, np.array(losses), np.array(steps), history)


def expected_noise2(residual_mse: float, num_pairs: int, stats: GaussianStats, sigma: float) -> float:
  """Return the squared weight gap that Monte-Carlo noise alone makes in a map fitted by `closed_form`.

  ``E‖Ŵ − W‖²_F = D r² tr(Cov(y)⁻¹) / (m − D − 2)``, in units of ‖W_G‖²_F, from m independent pairs with an
  intercept, Gaussian y, and residuals of mean square r² wherever y lies. The n pairs of `closed_form` count
  as m = n/2, which holds for residuals that are odd in the noise, at high noise; others leave less noise.

  Args:
    residual_mse: mean square residual per coordinate on the fit's own pairs; r² is m / (m − D − 1) of it.
    num_pairs: n. With n/2 up to D + 2 the expectation is infinite.
    stats: of the images of the fit, not all alike.
    sigma: noise level.
  """
  eigenvalues = np.asarray(stats.eigenvalues, np.float64)
  dimension, independent = len(stats.basis), num_pairs // 2
  if independent <= dimension + 2:
    return np.inf
  variance = residual_mse * independent / (independent - dimension - 1)
  precision = np.sum(1 / (eigenvalues + sigma**2)) + (dimension - len(eigenvalues)) / sigma**2
  size2 = np.sum((eigenvalues / (eigenvalues + sigma**2)) ** 2)
  with np.errstate(divide="ignore", invalid="ignore"):
    return float(dimension * variance * precision / ((independent - dimension - 2) * size2))


def pairs_needed(gap: float, noise2: float, num_pairs: int, dimension: int) -> int:
  """Return how many pairs decide a weight gap of this size: their noise alone makes no larger one.

  Noise falls as ``1 / (n/2 − D − 2)``, see `expected_noise2`; this is the least even n at which it reaches
  ``gap²``. The product of two fits, `probes.spectrum.weight_gap2`, tells smaller gaps than that.

  Args:
    gap: ‖W − W_G‖/‖W_G‖ to be decided, > 0.
    noise2: squared weight gap that noise makes at `num_pairs`, expected or measured.
    num_pairs: at which it is that large.
    dimension: D, coordinates of an image.

  Raises:
    ValueError: on a gap that is not > 0, or pairs too few for their noise to be finite.
  """
  if not gap > 0:
    raise ValueError(f"`gap` is {gap}; want a weight gap > 0")
  spare = num_pairs // 2 - dimension - 2
  if spare < 1 or not np.isfinite(noise2):
    raise ValueError(
      f"`num_pairs` is {num_pairs} and `noise2` {noise2}; want more than {2 * (dimension + 2)} pairs for "
      f"{dimension} coordinates, and the finite noise that they leave"
    )
  return 2 * (dimension + 2 + max(1, int(np.ceil(spare * noise2 / gap**2))))


def least_squares(pairs: Iterable[Pairs]) -> tuple[Float[np.ndarray, "D D"], Float[np.ndarray, " D"], float]:
  """Regress targets on inputs, blocks of (y [n, D], target [n, D]): weight, bias, residual per coordinate."""
  num, origin_y, origin_d, sum_y, sum_d, sum_dd, yy, dy = moments.of_pairs(pairs)
  yy -= np.outer(sum_y, sum_y / num)
  dy -= np.outer(sum_d, sum_y / num)
  # In place: LAPACK wants columns, which are rows of the transposes.
  factor = scipy.linalg.cholesky(yy.T, lower=True, overwrite_a=True, check_finite=False)
  options = {"lower": True, "overwrite_b": True, "check_finite": False}
  half = scipy.linalg.solve_triangular(factor, dy.T, **options)
  explained = np.vdot(half.T, half.T)
  weight = scipy.linalg.solve_triangular(factor, half, trans="T", **options).T
  bias = origin_d + sum_d / num - weight @ (origin_y + sum_y / num)
  residual = sum_dd - np.vdot(sum_d, sum_d) / num - explained
  return weight, bias, max(float(residual), 0.0) / (num * len(bias))  # only rounding takes it below 0


@functools.partial(jax.jit, donate_argnums=(0, 1))
def _descend(
  theta: Float[Array, "S D D+1"],
  average: Float[Array, "S D D+1"],
  z: Float[Array, "S B D+1"],
  target: Float[Array, "S B D"],
  rate: Float[Array, " S"],
  step: Int[Array, ""],
) -> tuple[Float[Array, "S D D+1"], Float[Array, "S D D+1"], Float[Array, " S"]]:
  residual = _residual(theta, z, target)
  gradient = 2 * jnp.einsum("sbi,sbj->sij", residual, z, precision="highest") / z.shape[1]
  theta = theta - rate[:, None, None] * gradient
  average = average + 4 / (step + 4) * (theta - average)
  return theta, average, jnp.mean(residual**2, axis=(1, 2))


def _residual(
  theta: Float[Array, "S D D+1"], z: Float[ArrayLike, "S B D+1"], target: Float[ArrayLike, "S B D"]
) -> Float[Array, "S B D"]:
  return jnp.einsum("sij,sbj->sbi", theta, z, precision="highest") - target


def _pairs(
  denoise: Denoiser,
  images: Images,
  order: Int[np.ndarray, " N"],
  sigma: float,
  key: Key[Array, ""],
  index: Int[np.ndarray, " n"],
) -> Pairs:
  x0 = images[order[index // 2 % len(images)]]
  y = parallel.map_samples(_noisy, (sigma, key), x0, index)
  target = parallel.denoise(denoise, y, sigma)
  if not np.isfinite(target).all():
    raise ValueError(f"`denoise` returns NaN or infinity at `sigma` = {sigma}; want finite images")
  return y.reshape(len(index), -1), target.reshape(len(index), -1)


def _noisy(
  shared: tuple[Sigma, Key[Array, ""]],
  image: UInt8[Array, "H W C"] | Float[Array, "H W C"],
  index: Int[Array, ""],
) -> Float[Array, "H W C"]:
  sigma, key = shared
  x0 = to_float(image)
  noise = jax.random.normal(jax.random.fold_in(key, index // 2), x0.shape)
  return x0 + sigma * (1 - 2 * (index % 2)) * noise


def _extent(images: Images) -> tuple[Float[np.ndarray, " D"], float, float]:
  """Return the images' mean, their largest squared distance from it, and the largest variance."""
  rows, dimension = images.reshape(len(images), -1), images[0].size
  blocks = range(0, len(rows), _BLOCK)
  mean = sum(to_float(rows[i : i + _BLOCK]).sum(0, dtype=np.float64) for i in blocks) / len(rows)
  radius, covariance = 0.0, np.zeros((dimension, dimension))
  for i in blocks:
    centred = to_float(rows[i : i + _BLOCK]) - mean
    radius = max(radius, np.square(centred).sum(1).max())
    covariance += centred.T @ centred / len(rows)
  last = dimension - 1
  return mean, radius, scipy.linalg.eigh(covariance, eigvals_only=True, subset_by_index=[last, last])[0]


def _order(images: Images, key: Key[Array, ""]) -> Int[np.ndarray, " N"]:
  # On the host: a permutation compiled by JAX costs a second for every new number of images.
  return np.random.default_rng(np.asarray(jax.random.key_data(key))).permutation(len(images))


def _checked(images: Shaped[np.ndarray, "..."], sigmas: Sigmas) -> Float[np.ndarray, " S"]:
  dtype = np.asarray(images).dtype
  if np.ndim(images) != 4 or dtype not in (np.uint8, np.float32) or not len(images):
    raise ValueError(f"`images` is {dtype} {list(np.shape(images))}; want uint8 or float32 [N, H, W, C]")
  sigmas = np.asarray(sigmas, np.float64)
  if sigmas.ndim != 1 or not np.all(sigmas > 0):
    raise ValueError(f"`sigmas` is {sigmas}; want a list of noise levels, all > 0")
  return sigmas
