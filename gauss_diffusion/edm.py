"""The design choices of Karras et al. 2022 ("EDM", table 1): noise levels, their law, the weights.

Everything here is a scalar formula, written for one noise level and valid elementwise on arrays.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Key

from gauss_diffusion.types import Array, ArrayLike, Number

SIGMA_MIN = 0.002
SIGMA_MAX = 80.0
RHO = 7.0
SIGMA_DATA = 0.5  # EDM's constant for images in [-1, 1]
P_MEAN = -1.2
P_STD = 1.2

Levels = Float[ArrayLike, "*s"] | np.floating | float  # noise levels; what follows from them has their shape


class Preconditioning(NamedTuple):
  """Scalars that wrap a raw network F: ``D(x) = c_skip x + c_out F(c_in x; c_noise)``."""

  c_skip: Levels
  c_out: Levels
  c_in: Levels
  c_noise: Levels


class TrainingNoise(NamedTuple):
  """Noise levels to train on, and how much the squared error counts at each."""

  sigma: Float[Array, "*s"]
  weight: Levels


NoiseLaw = Callable[[Key[Array, ""], tuple[int, ...]], TrainingNoise]  # draws as many as the shape holds


def sigma_grid(
  num_steps: int,
  sigma_min: float = SIGMA_MIN,
  sigma_max: float = SIGMA_MAX,
  rho: float = RHO,
) -> Float[np.ndarray, " {num_steps}"]:
  """Return the decreasing noise levels of EDM's sampler (Karras et al. 2022, eq. 5).

  ``sigma_i = (sigma_max^(1/rho) + i/(n-1) (sigma_min^(1/rho) - sigma_max^(1/rho)))^rho``

  Args:
    num_steps: number of levels n, at least 2.
    sigma_min: last level, > 0.
    sigma_max: first level, > sigma_min.
    rho: curvature; larger puts more levels near sigma_min.

  Returns:
    float64 array [n] that starts exactly at sigma_max and ends exactly at sigma_min; the zero that
    a sampler appends is not included.

  Raises:
    ValueError: on fewer than two levels or levels out of order.
  """
  if num_steps < 2:
    raise ValueError(f"`num_steps` is {num_steps}; a grid needs at least 2 levels")
  if not 0 < sigma_min < sigma_max:
    raise ValueError(f"`sigma_min`, `sigma_max` are {sigma_min}, {sigma_max}; want 0 < min < max")
  ramp = np.linspace(0.0, 1.0, num_steps)
  ends = sigma_max ** (1 / rho), sigma_min ** (1 / rho)
  grid = (ends[0] + ramp * (ends[1] - ends[0])) ** rho
  grid[0], grid[-1] = sigma_max, sigma_min
  return grid


def nearest(sigmas: Float[ArrayLike, " S"], sigma: Number) -> int:
  """Return the index of that noise level of `sigmas` which is nearest to `sigma`, in ratio."""
  return int(np.argmin(np.abs(np.log(np.asarray(sigmas) / sigma))))


def sample_sigma(
  key: Key[Array, ""], shape: tuple[int, ...], p_mean: float = P_MEAN, p_std: float = P_STD
) -> Float[Array, "..."]:
  """Draw training noise levels, ``ln sigma ~ N(p_mean, p_std^2)`` (Karras et al. 2022, table 1)."""
  return jnp.exp(p_mean + p_std * jax.random.normal(key, shape))


def loss_weight(sigma: Levels, sigma_data: Number = SIGMA_DATA) -> Levels:
  """Return ``lambda(sigma) = (sigma^2 + sigma_data^2) / (sigma sigma_data)^2``, which is 1 / c_out^2."""
  return (sigma**2 + sigma_data**2) / (sigma * sigma_data) ** 2


def precondition(sigma: Levels, sigma_data: Number = SIGMA_DATA) -> Preconditioning:
  """Return EDM's scalings at `sigma` (Karras et al. 2022, table 1, column "Ours")."""
  total = sigma**2 + sigma_data**2
  return Preconditioning(
    c_skip=sigma_data**2 / total,
    c_out=sigma * sigma_data / jnp.sqrt(total),
    c_in=1 / jnp.sqrt(total),
    c_noise=jnp.log(sigma) / 4,
  )


def precondition_vp(
  sigma: Levels, beta_d: float = 19.9, beta_min: float = 0.1, M: int = 1000
) -> Preconditioning:
  """Return the variance-preserving scalings (Karras et al. 2022, table 1, column "VP").

  ``c_noise = (M - 1) t`` with t the time at which ``sigma^2 = exp(beta_d t^2 / 2 + beta_min t) - 1``.
  """
  exponent = jnp.log1p(sigma**2)
  # The quadratic's root with the sum below: the usual form subtracts nearly equal numbers at small sigma.
  time = 2 * exponent / (jnp.sqrt(beta_min**2 + 2 * beta_d * exponent) + beta_min)
  return Preconditioning(jnp.ones_like(sigma), -sigma, 1 / jnp.sqrt(sigma**2 + 1), (M - 1) * time)


def precondition_ve(sigma: Levels) -> Preconditioning:
  """Return the variance-exploding scalings (Karras et al. 2022, table 1, column "VE")."""
  return Preconditioning(jnp.ones_like(sigma), sigma, jnp.ones_like(sigma), jnp.log(sigma / 2))


def precondition_iddpm(
  sigma: Float[ArrayLike, "*s"], C_1: float = 0.001, C_2: float = 0.008, M: int = 1000
) -> Preconditioning:
  """Return improved DDPM's scalings (Karras et al. 2022, table 1, column "iDDPM").

  ``c_noise = M - 1 - argmin_j |u_j - sigma|``: the step of its schedule that is nearest, see `iddpm_sigmas`.
  """
  levels = jnp.asarray(iddpm_sigmas(C_1, C_2, M), sigma.dtype)
  step = jnp.argmin(jnp.abs(jnp.expand_dims(sigma, -1) - levels.reshape((1,) * sigma.ndim + (-1,))), axis=-1)
  scale = 1 / jnp.sqrt(sigma**2 + 1)
  return Preconditioning(jnp.ones_like(sigma), -sigma, scale, (M - 1 - step).astype(sigma.dtype))


def iddpm_sigmas(C_1: float = 0.001, C_2: float = 0.008, M: int = 1000) -> Float[np.ndarray, " {M}+1"]:
  """Return improved DDPM's noise levels u_0 > ... > u_M = 0, float64 [M + 1] (Karras et al. 2022, table 1).

  ``u_{j-1}^2 = (u_j^2 + 1) / max(a_{j-1} / a_j, C_1) - 1`` with ``a_j = sin^2(pi j / (2 M (C_2 + 1)))``.
  """
  alpha_bar = np.sin(0.5 * np.pi * np.arange(M + 1) / M / (C_2 + 1)) ** 2
  levels = np.zeros(M + 1)
  for j in range(M, 0, -1):
    levels[j - 1] = np.sqrt((levels[j] ** 2 + 1) / max(alpha_bar[j - 1] / alpha_bar[j], C_1) - 1)
  return levels


def precondition_none(sigma: Levels) -> Preconditioning:
  """Return the scalings of a plain denoising autoencoder, D = F (Li et al. 2024, fig. 24)."""
  return Preconditioning(jnp.zeros_like(sigma), jnp.ones_like(sigma), jnp.ones_like(sigma), sigma)


PRECONDITIONINGS: dict[str, Callable[..., Preconditioning]] = {
  "edm": precondition,
  "vp": precondition_vp,
  "ve": precondition_ve,
  "iddpm": precondition_iddpm,
  "none": precondition_none,
}


def training_noise(
  key: Key[Array, ""],
  shape: tuple[int, ...],
  sigma_data: float = SIGMA_DATA,
  p_mean: float = P_MEAN,
  p_std: float = P_STD,
) -> TrainingNoise:
  """Draw EDM's training noise, see `sample_sigma` and `loss_weight`; `p_std` 0 draws exp(p_mean) alone."""
  sigma = sample_sigma(key, shape, p_mean, p_std)
  return TrainingNoise(sigma, loss_weight(sigma, sigma_data))


def training_noise_vp(
  key: Key[Array, ""],
  shape: tuple[int, ...],
  beta_d: float = 19.9,
  beta_min: float = 0.1,
  M: int = 1000,
  epsilon_t: float = 1e-5,
) -> TrainingNoise:
  """Draw variance-preserving training noise (Karras et al. 2022, table 1, column "VP").

  ``sigma^2 = exp(beta_d t^2 / 2 + beta_min t) - 1``, ``t ~ U(epsilon_t, 1)``, ``lambda = 1 / sigma^2``.
  """
  del M  # how finely the network counts t, which is continuous here
  time = jax.random.uniform(key, shape, minval=epsilon_t, maxval=1.0)
  variance = jnp.expm1(beta_d * time**2 / 2 + beta_min * time)
  return TrainingNoise(jnp.sqrt(variance), 1 / variance)


def training_noise_ve(
  key: Key[Array, ""], shape: tuple[int, ...], sigma_min: float = 0.02, sigma_max: float = 100.0
) -> TrainingNoise:
  """Draw variance-exploding training noise (Karras et al. 2022, table 1, column "VE").

  ``ln sigma ~ U(ln sigma_min, ln sigma_max)``, ``lambda = 1 / sigma^2``.
  """
  sigma = _log_uniform(key, shape, sigma_min, sigma_max)
  return TrainingNoise(sigma, 1 / sigma**2)


def training_noise_iddpm(
  key: Key[Array, ""], shape: tuple[int, ...], C_1: float = 0.001, C_2: float = 0.008, M: int = 1000
) -> TrainingNoise:
  """Draw improved DDPM's training noise (Karras et al. 2022, table 1, column "iDDPM").

  ``sigma = u_j``, j uniform in {0 ... M - 1}, ``lambda = 1 / sigma^2``; see `iddpm_sigmas`.
  """
  levels = jnp.asarray(iddpm_sigmas(C_1, C_2, M)[:-1])
  sigma = levels[jax.random.randint(key, shape, 0, M)]
  return TrainingNoise(sigma, 1 / sigma**2)


def training_noise_none(
  key: Key[Array, ""], shape: tuple[int, ...], sigma_min: float = SIGMA_MIN, sigma_max: float = SIGMA_MAX
) -> TrainingNoise:
  """Draw noise for a plain denoising autoencoder: any level of the sampler's range, and no weight.

  ``ln sigma ~ U(ln sigma_min, ln sigma_max)``, ``lambda = 1``. One network learns all levels here; Li et al.
  2024, fig. 24, train one for each, as `sigma_min` = `sigma_max` would.
  """
  sigma = _log_uniform(key, shape, sigma_min, sigma_max)
  return TrainingNoise(sigma, jnp.ones_like(sigma))


def training_noise_log_uniform(
  key: Key[Array, ""],
  shape: tuple[int, ...],
  sigma_data: float = SIGMA_DATA,
  sigma_min: float = SIGMA_MIN,
  sigma_max: float = SIGMA_MAX,
) -> TrainingNoise:
  """Draw every level of the sampler's range equally often, under EDM's weight, see `loss_weight`.

  ``ln sigma ~ U(ln sigma_min, ln sigma_max)``. EDM's own law draws one level in 570 above sigma = 10.
  """
  sigma = _log_uniform(key, shape, sigma_min, sigma_max)
  return TrainingNoise(sigma, loss_weight(sigma, sigma_data))


def _log_uniform(key, shape, low, high):
  return low * (high / low) ** jax.random.uniform(key, shape)


TRAINING_NOISE: dict[str, Callable[..., TrainingNoise]] = {
  "edm": training_noise,
  "vp": training_noise_vp,
  "ve": training_noise_ve,
  "iddpm": training_noise_iddpm,
  "none": training_noise_none,
  "log-uniform": training_noise_log_uniform,
}
"""The noise that goes with each of `PRECONDITIONINGS`, whose constants it takes: table 1, "Training".

The last goes with none of them: beside `training_noise` it changes nothing but how often a level is seen.
"""
