"""What a push along the Jacobian's first singular vector does to the sample (Li et al. 2024, fig. 30)."""

import typing

import numpy as np
from ml_collections import ConfigDict
from tqdm import tqdm

from gauss_diffusion import edm, results
from gauss_diffusion.analyses import subject as subjects
from gauss_diffusion.plots import perturbation as figure
from gauss_diffusion.probes import modes

if typing.TYPE_CHECKING:
  from gauss_diffusion.results import xarray

VERSION = 1
DERIVATIVES = True
FIGURE = figure
# The paper's levels; the study's nearest are taken.
DEFAULTS = {"levels": (22.79, 1.979, 0.002), "latents": 8, "strength": 3.0, "iterations": 4}
MEANINGS = {
  "levels": "noise levels of the push, the nearest of the sampler's",
  "latents": "from which sampling starts",
  "strength": "length of the push, in units of the noise level",
  "iterations": "of randomised subspace iteration",
}
DIRECTIONS = ("first singular vector", "random")
SIGNS = (-1, 1)


def uses(settings: ConfigDict) -> tuple[str, ...]:
  """Return the denoisers that it evaluates."""
  return ("network",)


def evaluations(settings: ConfigDict, levels: int, solver: str, dimension: int) -> dict[str, int]:
  """Return how many images each denoiser is given; a product with its Jacobian counts 2, a transposed 3."""
  block = 1 + modes.OVERSAMPLING
  pushes, pulls = (settings.iterations + 1) * block, settings.iterations * block
  if dimension <= pushes + pulls:  # the whole Jacobian is as cheap
    pushes, pulls = dimension, 0
  calls, moves = subjects.calls(levels, solver), len(DIRECTIONS) * len(SIGNS)
  at_a_level = 2 * pushes + 3 * pulls + moves * calls
  return {"network": settings.latents * (calls + min(len(settings.levels), levels) * at_a_level)}


def check(config: ConfigDict, shape: tuple[int, int, int], num_held_out: int) -> None:
  """Refuse levels that are none, no latent, and a push of no length."""
  settings = config.perturbation
  if not settings.levels or not all(sigma > 0 for sigma in settings.levels):
    raise ValueError(f"`perturbation.levels` is {settings.levels}; want noise levels > 0")
  for field in ("latents", "iterations"):
    if settings[field] < 1:
      raise ValueError(f"`perturbation.{field}` is {settings[field]}; want at least 1")
  if not settings.strength > 0:
    raise ValueError(f"`perturbation.strength` is {settings.strength}; want a positive number")


def compute(subject: subjects.Subject, settings: ConfigDict, title: str) -> "xarray.Dataset":
  """Run the PF-ODE to a level σ, move by ± strength · σ along a unit direction, and run it to its end.

  The paper does not say how far it moves. Here the length is a multiple of the noise's own standard deviation
  along any direction: a move that leaves the state plausible, and asks what the noise can still decide. Along
  a principal component of variance λ the Gaussian denoiser's flow turns it into a change of the sample by
  ``strength σ √(λ/(λ + σ²))``, the whole of ``strength √λ`` at high noise, and at low noise no more than the
  move. A random direction of the same length is the control.
  """
  n, solve = settings.latents, subjects.sample
  noise = subjects.noise(subject, "latents", n)
  states = np.asarray(solve(subject, subject.network, noise).x)
  nearest = [edm.nearest(subject.sigmas, sigma) for sigma in settings.levels]
  levels = np.unique(nearest)
  random = subjects.noise(subject, "perturbation", n).reshape(n, -1)
  random /= np.linalg.norm(random, axis=1, keepdims=True)

  pushed = []
  for t in tqdm(levels, f"perturbation, {title}", unit="level", delay=2):
    sigma, x = subject.sigmas[t], states[:, t]
    at = modes.singular_vectors(
      subject.network, x, sigma, 1, iterations=settings.iterations, seed=subject.seed
    )
    step = settings.strength * sigma * np.stack([at.left[:, 0], random]).reshape(2, 1, *x.shape)
    moved = x + np.reshape(SIGNS, (2, *[1] * x.ndim)) * step
    # A step from a level to itself changes nothing: grids of one length share one compile.
    rest = subject._replace(sigmas=subject.sigmas.clip(max=sigma))
    start = (moved / sigma).reshape(-1, *x.shape[1:]).astype(np.float32)
    pushed.append(solve(rest, subject.network, start).x[:, -1].reshape(moved.shape))
  samples, unmoved = np.stack(pushed), states[:, -1]
  move = ("sigma", "direction", "sign", "latent")
  return results.labelled(
    {
      "length": ("sigma", settings.strength * subject.sigmas[levels], subjects.PIXELS),
      "unmoved": (("latent", *subjects.IMAGE), unmoved, subjects.PIXELS),
      "samples": ((*move, *subjects.IMAGE), samples, subjects.PIXELS),
      "change": (move, np.sqrt(np.mean((samples - unmoved) ** 2, axis=(-3, -2, -1))), subjects.PIXELS),
    },
    {
      "sigma": ("sigma", subject.sigmas[levels], subjects.PIXELS),
      "direction": list(DIRECTIONS),
      "sign": list(SIGNS),
    },
  )
