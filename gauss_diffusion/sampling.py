"""From noise to image along the probability-flow ODE: by a solver, or exactly where the data is Gaussian.

``dx/dσ = (x − D(x; σ)) / σ`` (Karras et al. 2022, eq. 1 with σ(t) = t), from ``x = σ_0 · noise`` down the
levels and then to 0. Between two levels with ratio ``r = σ'/σ``, Euler's step is ``x̃ = r x + (1 − r) D``
and Heun's correction adds ``½ (1/r − 1) (D(x̃; σ') − D)``: written so, nothing large cancels, and the last
step, r = 0, returns D to the last bit.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Float

from gauss_diffusion import parallel
from gauss_diffusion.types import Array, ArrayLike, Denoiser, GaussianStats, Image, Sigma, Sigmas, Trajectory


class Evaluation(NamedTuple):
  """One call of the denoiser and what becomes of x: ``keep x + (1 − keep) D + correct (D − previous D)``."""

  sigma: Float[Array, "..."]
  keep: Float[Array, "..."]
  correct: Float[Array, "..."]


def _euler(sigmas: Float[Array, " T"]) -> Evaluation:
  keep = jnp.append(sigmas[1:], 0) / sigmas
  return Evaluation(sigmas, keep, jnp.zeros_like(keep))


def _heun(sigmas: Float[Array, " T"]) -> Evaluation:
  # Predictor and corrector take turns; the last step, to 0, has no corrector.
  predict = _euler(sigmas)
  correct = Evaluation(jnp.roll(sigmas, -1), jnp.ones_like(sigmas), (1 / predict.keep - 1) / 2)
  return jax.tree.map(lambda p, c: jnp.stack([p, c], axis=1).reshape(-1)[:-1], predict, correct)


SOLVERS = {"euler": _euler, "heun": _heun}


def sample(
  denoise: Denoiser, noise: Float[ArrayLike, "*image"], sigmas: Sigmas, *, solver: str = "euler"
) -> Trajectory:
  """Solve the probability-flow ODE for one image (Karras et al. 2022, algorithm 1 without churn).

  Heun's last step, to 0, is Euler's, as in EDM. One scan over the calls of the denoiser: it is compiled
  once, and called T times by Euler, 2 T - 1 times by Heun.

  Args:
    denoise: the denoiser, a pytree; so vmap with ``in_axes=(None, 0, None)``.
    noise: standard normal [H, W, C]; its dtype is that of the trajectory.
    sigmas: levels [T] in the order visited, all > 0; the final 0 is appended here.
    solver: one of `SOLVERS`.

  Raises:
    ValueError: on an unknown solver, or levels that are not all > 0.
  """
  if solver not in SOLVERS:
    raise ValueError(f"`solver` is {solver!r}; known are {', '.join(SOLVERS)}")
  sigmas = _levels(sigmas, noise.dtype)
  evaluations = SOLVERS[solver](sigmas)

  def evaluate(carry, evaluation):
    x, previous = carry
    sigma, keep, correct = evaluation
    x0_hat = denoise(x, sigma)
    x_next = keep * x + (1 - keep) * x0_hat + correct * (x0_hat - previous)
    return (x_next, x0_hat), (x, x0_hat)

  x_start = noise * sigmas[0]
  (x_end, _), (x, x0_hat) = jax.lax.scan(evaluate, (x_start, jnp.zeros_like(x_start)), evaluations)
  stride = -(-len(evaluations.sigma) // len(sigmas))  # calls per step; the first sees the state itself
  x = jnp.concatenate([x[::stride], x_end[None]])
  return Trajectory(jnp.append(sigmas, 0), x, x0_hat[::stride])


def sample_many(
  denoise: Denoiser,
  noise: Float[np.ndarray, "n H W C"],
  sigmas: Sigmas,
  *,
  solver: str = "euler",
  batch: int | None = None,
) -> Trajectory:
  """Solve the probability-flow ODE for every latent, over all devices; compiled once a kind of denoiser.

  Args:
    denoise: the denoiser, a pytree.
    noise: standard normal [n, H, W, C], n at least 1.
    sigmas: as of `sample`.
    solver: one of `SOLVERS`.
    batch: latents in flight at once, see `parallel.map_samples`.

  Returns:
    NumPy arrays, of which each field has a first axis n.

  Raises:
    ValueError: as `sample`, and when there is no latent.
  """
  if solver not in SOLVERS:
    raise ValueError(f"`solver` is {solver!r}; known are {', '.join(SOLVERS)}")
  if not len(noise):
    raise ValueError("`noise` is empty; want at least one latent [H, W, C]")
  levels = np.asarray(sigmas, noise.dtype)
  _levels(levels, levels.dtype)
  return parallel.map_samples(_SOLVE[solver], (denoise, levels), noise, batch=batch)


def _solve(solver: str, shared: tuple[Denoiser, Float[Array, " T"]], noise: Image) -> Trajectory:
  denoise, sigmas = shared
  return sample(denoise, noise, sigmas, solver=solver)


_SOLVE = {solver: functools.partial(_solve, solver) for solver in SOLVERS}  # each is compiled once


def gaussian_trajectory(
  stats: GaussianStats, noise: Image, sigmas: Sigmas, *, method: str = "exact"
) -> Trajectory:
  """Return the trajectory of the Gaussian denoiser in closed form, mode by mode, with two matmuls in all.

  ``x_σ = μ + Σ_i g_i(σ) u_i u_iᵀ (x_T − μ)``, ``D(x_σ) = μ + Σ_i λ_i/(λ_i+σ²) g_i(σ) u_i u_iᵀ (x_T − μ)``
  with ``g_i = √((λ_i+σ²)/(λ_i+σ_T²))`` (Li et al. 2024, eq. 7; Wang & Vastola 2024). Outside the span of
  the data λ = 0. A solver's name gives the product of its steps' gains in place of g: what `sample` returns
  with that solver and the Gaussian denoiser, discretisation error included.

  Args:
    stats: mean and covariance of the data.
    noise: standard normal [H, W, C]; its dtype is that of the trajectory.
    sigmas: levels [T] in the order visited, all > 0; the final 0 is appended here.
    method: "exact" or one of `SOLVERS`.

  Raises:
    ValueError: on an unknown method, or levels that are not all > 0.
  """
  if method != "exact" and method not in SOLVERS:
    raise ValueError(f"`method` is {method!r}; known are exact, {', '.join(SOLVERS)}")
  sigmas = _levels(sigmas, noise.dtype)
  mean, basis, eigenvalues = jax.tree.map(lambda leaf: jnp.asarray(leaf, noise.dtype), stats)
  lam = jnp.append(eigenvalues, 0)  # the last mode stands for everything outside the span
  if method == "exact":
    gain = _flow(lam, sigmas)
  else:
    gain = sample(Partial(_shrink, lam), jnp.ones_like(lam) / sigmas[0], sigmas, solver=method)

  centred = (noise * sigmas[0] - mean).reshape(-1)
  modes = jnp.einsum("dk,d->k", basis, centred, precision="highest")
  outside = gain.x[:, -1:]
  in_span = jnp.concatenate([gain.x[:, :-1] - outside, gain.denoised[:, :-1]]) * modes[None]
  in_span = jnp.einsum("tk,dk->td", in_span, basis, precision="highest")
  x, x0_hat = jnp.split(in_span, [len(gain.x)])
  x = x + outside * centred[None]
  x, x0_hat = (part.reshape(-1, *noise.shape) + mean[None] for part in (x, x0_hat))
  return Trajectory(gain.sigma, x, x0_hat)


def _flow(lam: Float[Array, " K"], sigmas: Float[Array, " T"]) -> Trajectory:
  levels = jnp.append(sigmas, 0)
  gain = jnp.sqrt((lam[None] + levels[:, None] ** 2) / (lam[None] + sigmas[0] ** 2))
  return Trajectory(levels, gain, jax.vmap(_shrink, (None, 0, 0))(lam, gain[:-1], sigmas))


def _shrink(lam: Float[Array, " K"], x: Float[Array, " K"], sigma: Sigma) -> Float[Array, " K"]:
  return lam / (lam + sigma**2) * x


def _levels(sigmas: Sigmas, dtype: np.dtype) -> Float[Array, " T"]:
  concrete = not isinstance(sigmas, jax.core.Tracer)
  if np.ndim(sigmas) != 1 or (concrete and not np.all(np.asarray(sigmas) > 0)):
    raise ValueError(f"`sigmas` is {sigmas}; want a list of noise levels, all > 0")
  return jnp.asarray(sigmas, dtype)
