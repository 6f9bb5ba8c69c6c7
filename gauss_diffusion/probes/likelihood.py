"""How likely an image is under a denoiser: its log-density, followed along the probability-flow ODE.

Up the noise levels from x at σ_0, ``dx/dσ = (x − D(x; σ))/σ`` and the density thins by the divergence of the
flow (Song et al. 2021, eq. 39): ``ln p(x; σ_0) = ln p(x_S; σ_S) + ∫ (d − tr J(x_σ; σ)) d ln σ``, with J the
Jacobian of D. The density is that of images with noise σ_0, not of images: those on a grid of grey levels,
or on fewer dimensions than pixels, have none.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from gauss_diffusion import parallel
from gauss_diffusion.images import to_float
from gauss_diffusion.probes.trace import trace
from gauss_diffusion.types import Array, ArrayLike, Denoiser, GaussianStats, Image, Images, Sigma, Sigmas


class Likelihood(NamedTuple):
  """What n images are worth, and how that came about."""

  log_density: Float[np.ndarray, " n"]  # ln p(x; σ_0), nats, on the [-1, 1] scale; float64
  trace: Float[np.ndarray, "n S"]  # tr J at every state; float64
  end: Float[ArrayLike, "n H W C"]  # the state at the last level


def log_density(
  denoise: Denoiser,
  x: Float[ArrayLike, "n H W C"],
  sigmas: Sigmas,
  prior: GaussianStats,
  products: int,
  *,
  seed: int = 0,
) -> Likelihood:
  """Return the log-density of noisy images under the flow of a denoiser.

  The states are Heun's, and the integral is the trapezoid rule in ln σ over them: both of second order, and
  exact in directions along which the data do not vary. At the last level the law is taken as
  N(μ, Σ + σ_S² I), exact for Gaussian data. The usual N(0, σ_S² I), which is this with `standard`, leaves out
  the data: of an image it is off by about ‖x₀‖/σ_S nats, ``‖μ‖²/2σ_S²`` and ``½ Σ ln(1 + λ/σ_S²)`` together.

  Args:
    denoise: a denoiser with derivatives, a pytree.
    x: images [n, H, W, C] in noise of the first level.
    sigmas: rising levels [S], at least 2.
    prior: mean and covariance at the last level, noise aside.
    products: with the Jacobian at each state, see `probes.trace`.
    seed: of the directions.

  Raises:
    ValueError: on levels that do not rise from above 0, on too few products, or a denoiser that returns NaN
      or infinity.
  """
  levels = np.asarray(sigmas, np.float64)
  if levels.ndim != 1 or len(levels) < 2 or not levels[0] > 0 or not np.all(np.diff(levels) > 0):
    raise ValueError(f"`sigmas` is {sigmas}; want at least 2 rising noise levels, all > 0")
  x, traces = np.asarray(x), []
  for step, sigma in enumerate(levels):
    if step:
      ends = np.asarray(levels[step - 1 : step + 1], x.dtype)
      batch = min(len(x), parallel.samples_in_flight(x[0].size))
      x = parallel.map_samples(_climb, (denoise, *ends), x, batch=batch)
    traces.append(trace(denoise, x, float(sigma), products, seed=seed + step))
  found, contracted = np.stack(traces, axis=1), np.diff(np.log(levels))
  lost = x[0].size - (found[:, 1:] + found[:, :-1]) / 2
  return Likelihood(gaussian_log_density(prior, x, float(levels[-1])) + lost @ contracted, found, x)


def gaussian_log_density(
  stats: GaussianStats, x: Float[ArrayLike, "n H W C"], sigma: float
) -> Float[np.ndarray, " n"]:
  """Return ``ln N(x; μ, Σ + σ² I)`` of images [n, H, W, C], float64, in nats on the [-1, 1] scale."""
  mean, basis, lam = (np.asarray(leaf, np.float64) for leaf in stats)
  centred = (np.asarray(x, np.float64) - mean).reshape(len(x), -1)
  modes = centred @ basis
  outside = np.sum((centred - modes @ basis.T) ** 2, axis=1) / sigma**2
  square = np.sum(modes**2 / (lam + sigma**2), axis=1) + outside
  volume = np.sum(np.log(lam + sigma**2)) + (mean.size - len(lam)) * np.log(sigma**2)
  return -(square + volume + mean.size * np.log(2 * np.pi)) / 2


def kernel_log_density(
  images: Images, x: Float[ArrayLike, "n H W C"], sigma: float, *, block: int = 2048
) -> Float[np.ndarray, " n"]:
  """Return ``ln 1/N Σ_i N(x; y_i, σ² I)`` of images x [n, H, W, C], float64: what the memorizer believes.

  Its score is that of the multi-delta denoiser of the images y, [N, H, W, C], of which `block` are
  looked at in turn. A training image has at least the density of its noise, less ln N.
  """
  points = np.asarray(x, np.float64).reshape(len(x), -1)
  total = np.full(len(points), -np.inf)
  for start in range(0, len(images), block):
    near = to_float(images[start : start + block], np.float64).reshape(-1, points.shape[1])
    squares = np.sum(points**2, axis=1)[:, None] + np.sum(near**2, axis=1) - 2 * points @ near.T
    total = np.logaddexp(total, np.logaddexp.reduce(-squares / (2 * sigma**2), axis=1))
  return total - np.log(len(images)) - points.shape[1] * np.log(2 * np.pi * sigma**2) / 2


def standard(shape: tuple[int, ...]) -> GaussianStats:
  """Return the statistics of nothing, mean 0 and no variance: in noise σ they are N(0, σ² I)."""
  return GaussianStats(np.zeros(shape), np.zeros((int(np.prod(shape)), 0)), np.zeros(0))


def bits_per_dim(log_density: Float[ArrayLike, "*n"], num_dims: int) -> Float[np.ndarray, "*n"]:
  """Return ``−log₂ p / d`` of a density on the scale of grey levels, 255 of which are [-1, 1].

  8 bits less log₂(256/255) are those of the uniform law.
  """
  return -np.asarray(log_density, np.float64) / (num_dims * np.log(2)) + np.log2(127.5)


def _climb(shared: tuple[Denoiser, Sigma, Sigma], x: Image) -> Float[Array, "H W C"]:
  """Make Heun's step from one level to the next, as `sampling` writes it."""
  denoise, sigma, above = shared
  ratio, x0_hat = above / sigma, denoise(x, sigma)
  predicted = x0_hat + ratio * (x - x0_hat)
  return predicted + (1 / ratio - 1) / 2 * (denoise(predicted, above) - x0_hat)
