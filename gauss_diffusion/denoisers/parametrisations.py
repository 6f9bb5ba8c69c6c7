"""Networks that predict something else than the clean image, on time instead of a noise level, as denoisers.

A diffusion network ``f(x_t, t)`` is trained on ``x_t = α x0 + s ε`` at time t. Divided by α that is the
instrument's own ``x = x0 + σ ε``, with σ = s/α: a schedule says what α and t are at σ. An ε-network of
`diffusers`, in a file for ``--config.function``::

    schedule = parametrisations.discrete(scheduler.alphas_cumprod.numpy())
    denoise = parametrisations.from_eps(f, schedule)  # f takes NumPy arrays x_t [N, H, W, C] and t [N]

The result takes what `f` takes, arrays of NumPy or of JAX, and of JAX it has derivatives. A level outside of
the schedule is an error; inside jit, where none can be raised, what comes out is NaN.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from gauss_diffusion.denoisers.external import Differentiable
from gauss_diffusion.types import ArrayLike, Number

Images = Float[ArrayLike, "*n H W C"]  # one image, or a batch of them
Levels = Float[ArrayLike, "*n"] | Number  # noise levels or times, one of each image
Function = Callable[..., Any]  # (images, levels or times) -> images

MOST_STEPS = 10**6  # of a schedule
ROUNDING = 1e-6  # relative, by which a level may lie outside of a schedule


class Schedule(NamedTuple):
  """What a network knows a noise level by; functions of arrays of NumPy or JAX."""

  scale: Callable[[Levels], Levels]  # sigma -> α, by which x_t = α x
  t_of_sigma: Callable[[Levels], Levels]
  sigma_of_t: Callable[[Levels], Levels]
  low: float  # the lowest level of it
  high: float  # the highest


def discrete(alphas_cumprod: Float[ArrayLike, "..."] | Sequence[float]) -> Schedule:
  """Return the schedule of a variance-preserving network trained at steps 0, 1, ..., T - 1.

  ``α² = ᾱ``, ``s² = 1 − ᾱ`` (Ho et al. 2020). Between two steps log σ is linear in t; a network that has
  learned its steps by a table must round t itself, and be asked at ``sigma_of_t`` of whole steps.

  Args:
    alphas_cumprod: ᾱ of each step [T], falling, within (0, 1).

  Raises:
    ValueError: when they are not.
  """
  kept = np.asarray(alphas_cumprod, np.float64)
  if kept.ndim != 1 or len(kept) < 2 or not (np.diff(kept) < 0).all() or not (0 < kept[-1] and kept[0] < 1):
    raise ValueError(
      f"`alphas_cumprod` are {kept.shape} from {kept.max(initial=0):g} to {kept.min(initial=0):g}; want two "
      "or more falling numbers within (0, 1); a last step of no signal is no noise level, leave it out"
    )
  steps, logs = np.arange(len(kept)), np.log((1 - kept) / kept) / 2
  low, high = np.exp(logs[[0, -1]])
  return Schedule(
    _preserving,
    lambda sigma: _of(sigma).interp(_of(sigma).log(sigma), logs, steps),
    lambda t: _of(t).exp(_of(t).interp(t, steps, logs)),
    float(low),
    float(high),
  )


def trained_steps(
  beta_schedule: str = "linear",
  beta_start: float = 1e-4,
  beta_end: float = 0.02,
  num_train_timesteps: int = 1000,
) -> Schedule:
  """Return the `discrete` schedule that `diffusers` knows by these words, ``ᾱ_t = Π (1 − β_s)`` over s ≤ t.

  Args:
    beta_schedule: a key of `BETAS`.
    beta_start: of the first step; the cosine schedule has its own.
    beta_end: of the last.
    num_train_timesteps: how many steps.

  Raises:
    ValueError: on another schedule, or when there is no such.
  """
  if beta_schedule not in BETAS:
    raise ValueError(f"`beta_schedule` is {beta_schedule!r}; known: {', '.join(BETAS)}")
  if not 2 <= num_train_timesteps <= MOST_STEPS:
    raise ValueError(f"`num_train_timesteps` is {num_train_timesteps}; want 2 to {MOST_STEPS}")
  if not 0 < beta_start <= beta_end < 1:
    raise ValueError(f"`beta_start`, `beta_end` are {beta_start}, {beta_end}; want 0 < start <= end < 1")
  return discrete(np.cumprod(1 - BETAS[beta_schedule](beta_start, beta_end, num_train_timesteps)))


def _cosine_betas(start: float, end: float, steps: int) -> Float[np.ndarray, " {steps}"]:
  """Return β of Nichol & Dhariwal 2021, eq. 17: from the ratio of neighbours' ᾱ, 0.999 at most."""
  angle = (np.arange(steps + 1) / steps + 0.008) / 1.008 * np.pi / 2
  return np.minimum(1 - np.cos(angle[1:]) ** 2 / np.cos(angle[:-1]) ** 2, 0.999)


# By the names of `diffusers`: first β, last β, number of steps -> β of each step, float64.
BETAS: dict[str, Callable[[float, float, int], Float[np.ndarray, " T"]]] = {
  "linear": np.linspace,
  "scaled_linear": lambda start, end, steps: np.linspace(start**0.5, end**0.5, steps) ** 2,
  "squaredcos_cap_v2": _cosine_betas,
}


def vp(beta_min: float = 0.1, beta_max: float = 20.0) -> Schedule:
  """Return the variance-preserving schedule of Song et al. 2021: t in [0, 1], β linear in t.

  ``σ² = exp(½ β_d t² + β_min t) − 1`` with ``β_d = β_max − β_min`` (Karras et al. 2022, table 1).

  Raises:
    ValueError: unless 0 < beta_min < beta_max.
  """
  if not 0 < beta_min < beta_max < math.inf:
    raise ValueError(f"`beta_min`, `beta_max` are {beta_min}, {beta_max}; want them positive and rising")
  slope = beta_max - beta_min

  def t_of_sigma(sigma):
    grown = _of(sigma).log1p(sigma**2)  # t without a difference of nearly equal numbers
    return 2 * grown / (beta_min + _of(sigma).sqrt(beta_min**2 + 2 * slope * grown))

  def sigma_of_t(t):
    return _of(t).sqrt(_of(t).expm1(slope * t**2 / 2 + beta_min * t))

  return Schedule(_preserving, t_of_sigma, sigma_of_t, 0.0, math.sqrt(math.expm1(slope / 2 + beta_min)))


def cosine(shift: float = 0.008) -> Schedule:
  """Return the cosine schedule of Nichol & Dhariwal 2021: t in [0, 1), ``ᾱ ∝ cos²(π/2 (t + a)/(1 + a))``.

  Args:
    shift: a, at least 0; 0 is ``σ = tan(π t / 2)``.

  Raises:
    ValueError: when it is negative.
  """
  if not 0 <= shift < math.inf:
    raise ValueError(f"`shift` is {shift}; want a number from 0 on")
  quarter, first = math.pi / 2 / (1 + shift), math.tan(math.pi / 2 * shift / (1 + shift))

  def t_of_sigma(sigma):  # tan² of the angle is (1 − c)/c with c = ᾱ cos² of the first angle
    xp = _of(sigma)
    return xp.arctan(xp.sqrt(first**2 + (1 + first**2) * sigma**2)) / quarter - shift

  def sigma_of_t(t):
    tangent = _of(t).tan(quarter * (t + shift))
    return _of(t).sqrt((tangent - first) * (tangent + first) / (1 + first**2))

  return Schedule(_preserving, t_of_sigma, sigma_of_t, 0.0, math.inf)


def ve() -> Schedule:
  """Return the schedule of a network that sees x itself and is told σ: α = 1, t = σ."""
  return Schedule(lambda sigma: 1 + 0 * sigma, lambda sigma: sigma, lambda t: t, 0.0, math.inf)


def straight() -> Schedule:
  """Return the schedule of straight paths from image to noise: α = 1 − t, s = t, t in [0, 1)."""
  return Schedule(
    lambda sigma: 1 / (1 + sigma), lambda sigma: sigma / (1 + sigma), lambda t: t / (1 - t), 0.0, math.inf
  )


def from_eps(f: Function, schedule: Schedule) -> Function:
  """Return the denoiser of a network that predicts the noise: ``x0 = x − σ ε``.

  Args:
    f: (x_t, t) -> ε, of one image [H, W, C] and a scalar of JAX, or of batches [N, H, W, C] and [N]; of an
      `external.Differentiable` the result is one, too.
    schedule: on which it was trained.

  Returns:
    A function of the same kind, (x, sigma) -> x0.
  """
  return _adapted(f, schedule, lambda x, eps, alpha, sigma: x - sigma * eps)


def from_v(f: Function, schedule: Schedule) -> Function:
  """Return the denoiser of a network that predicts ``v = α ε − s x0`` (Salimans & Ho 2022); see `from_eps`.

  ``x0 = (α x_t − s v)/(α² + s²)``.
  """
  return _adapted(f, schedule, lambda x, v, alpha, sigma: (x - sigma / alpha * v) / (1 + sigma**2))


def from_x0(f: Function, schedule: Schedule) -> Function:
  """Return the denoiser of a network that predicts the clean image from x_t and t; see `from_eps`."""
  return _adapted(f, schedule, lambda x, x0, alpha, sigma: x0)


def from_flow(f: Function, *, data_at: int = 0) -> Function:
  """Return the denoiser of a network that predicts the velocity of straight paths (Liu et al. 2023).

  ``x_t = (1 − t) x0 + t ε`` moves by ``u = ε − x0``, so that ``x0 = x_t − t u``.

  Args:
    f: (x_t, t) -> velocity, dx_t/dt; see `from_eps`.
    data_at: the time of images, 0 or 1; with 1 noise is at 0 and the velocity is ``x0 − ε``.

  Raises:
    ValueError: on another time.
  """
  if data_at not in (0, 1):
    raise ValueError(f"`data_at` is {data_at}; want 0 or 1, the time at which there is no noise")
  forward = f if data_at == 0 else _reversed(f)
  return _adapted(forward, straight(), lambda x, u, alpha, sigma: alpha * (x - sigma * u))


def _adapted(f: Function, schedule: Schedule, recover: Callable[..., Any]) -> Function:
  def denoise(x: Images, sigma: Levels) -> Float[ArrayLike, "*n H W C"]:
    xp = _of(x)
    levels = xp.asarray(sigma, x.dtype)
    inside = (schedule.low * (1 - ROUNDING) <= levels) & (levels <= schedule.high * (1 + ROUNDING))
    if not isinstance(inside, jax.core.Tracer) and not inside.all():
      raise ValueError(
        f"`sigma` is {float(levels[~inside].flatten()[0]):g}, and the schedule of this network goes from "
        f"{schedule.low:g} to {schedule.high:g}; want levels within, of a study by `sampler.sigma_min` and "
        "`sampler.sigma_max`"
      )
    alpha = schedule.scale(levels)
    shape = (*levels.shape, *[1] * (x.ndim - levels.ndim))
    of_pixels = [xp.reshape(leaf, shape) for leaf in (alpha, levels, inside)]
    predicted = f(of_pixels[0] * x, schedule.t_of_sigma(levels))
    return xp.where(of_pixels[2], recover(x, predicted, *of_pixels[:2]), xp.nan)

  if not isinstance(f, Differentiable):
    return denoise

  def coefficients(sigma):  # D(x) = own x + other f(scale x)
    scale, level = (np.asarray(leaf)[:, None, None, None] for leaf in (schedule.scale(sigma), sigma))
    zero, one = np.zeros_like(level), np.ones_like(level)
    return recover(one, zero, scale, level), recover(zero, one, scale, level), scale

  def jvp(x, sigma, tangent):
    own, other, scale = coefficients(sigma)
    return own * tangent + other * f.jvp(scale * x, schedule.t_of_sigma(sigma), scale * tangent)

  def vjp(x, sigma, cotangent):
    own, other, scale = coefficients(sigma)
    return own * cotangent + scale * f.vjp(scale * x, schedule.t_of_sigma(sigma), other * cotangent)

  return Differentiable(denoise, jvp, vjp)


def _reversed(f: Function) -> Function:
  """Return the velocity in the time 1 − t."""
  if not isinstance(f, Differentiable):
    return lambda x_t, t: -f(x_t, 1 - t)
  products = (lambda x_t, t, v, of=of: -of(x_t, 1 - t, v) for of in (f.jvp, f.vjp))
  return Differentiable(lambda x_t, t: -f(x_t, 1 - t), *products)


def _preserving(sigma: Levels) -> Levels:
  """Return α where ``α² + s² = 1``."""
  return 1 / _of(sigma).sqrt(1 + sigma**2)


def _of(array: Any) -> Any:
  """Return the library that an array is of."""
  return jnp if isinstance(array, jax.Array) else np
