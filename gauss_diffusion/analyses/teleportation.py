"""How far the Gaussian solution may stand in for the sampler (Wang & Vastola 2024, "teleportation")."""

import typing

import numpy as np
from ml_collections import ConfigDict
from tqdm import tqdm

from gauss_diffusion import edm, parallel, results, sampling
from gauss_diffusion.analyses import subject as subjects
from gauss_diffusion.plots import teleportation as figure

if typing.TYPE_CHECKING:
  from gauss_diffusion.results import xarray

VERSION = 1
DERIVATIVES = False
FIGURE = figure
DEFAULTS = {"latents": 32, "fine": 64}
MEANINGS = {
  "latents": "from which sampling starts",
  "fine": "levels of the sampling that is held for exact",
}
SHOWN = 4  # latents of which samples are kept
STARTS = ("teleported", "fewer levels")


def uses(settings: ConfigDict) -> tuple[str, ...]:
  """Return the denoisers that it evaluates."""
  return ("network",)


def evaluations(settings: ConfigDict, levels: int, solver: str, dimension: int) -> dict[str, int]:
  """Return how many images each denoiser is given."""
  runs = (len(STARTS) * (levels - 2) + 1) * subjects.calls(levels, solver)
  return {"network": settings.latents * (runs + subjects.calls(settings.fine, "heun"))}


def check(config: ConfigDict, shape: tuple[int, int, int], num_held_out: int) -> None:
  """Refuse no latent, and a reference that is no finer than the sampler."""
  settings, levels = config.teleportation, config.sampler.levels
  if settings.latents < 1:
    raise ValueError(f"`teleportation.latents` is {settings.latents}; want at least 1")
  if settings.fine < 2 * levels:
    raise ValueError(
      f"`teleportation.fine` is {settings.fine}; want at least {2 * levels}, twice the `sampler.levels`"
    )


def compute(subject: subjects.Subject, settings: ConfigDict, title: str) -> "xarray.Dataset":
  """Start the sampler at each of its levels but the last, at the state of the Gaussian denoiser's exact flow.

  All runs are from the same latents. `error` is the distance per pixel of a sample to that of a much finer
  run, by Heun on `fine` levels from the first noise on; `full_error` that of the sampler's own full run. A
  start that leaves the error at or below it has saved calls at equal quality. What as many calls do without
  the Gaussian solution, on fewer levels over the whole range, is the other `start`. `change` is the distance
  to the full run's sample. For the Gaussian denoiser every state of the exact flow is its own: there a
  teleported sample differs from the exact one by the error of the remaining steps alone.
  """
  noise, sigmas = subjects.noise(subject, "latents", settings.latents), subject.sigmas
  fine = edm.sigma_grid(settings.fine, sigmas[-1], sigmas[0])
  reference = subject._replace(sigmas=fine, solver="heun")
  best, full = (
    np.asarray(subjects.sample(by, subject.network, noise).x)[:, -1] for by in (reference, subject)
  )
  states = parallel.map_samples(_states, (subject.stats, sigmas.astype(np.float32)), noise)

  skips = range(len(sigmas) - 1)
  samples = np.empty((len(STARTS), len(skips), *noise.shape), np.float32)
  for skip in tqdm(skips, f"teleportation, {title}", unit="start", delay=2):
    if not skip:
      samples[:, skip] = full
      continue
    # A step from a level to itself changes nothing: grids of one length share one compile.
    fewer = edm.sigma_grid(len(sigmas) - skip, sigmas[-1], sigmas[0])
    grids = sigmas.clip(max=sigmas[skip]), np.concatenate([np.full(skip, sigmas[0]), fewer])
    starts = states[:, skip] / np.float32(sigmas[skip]), noise
    for i, (grid, start) in enumerate(zip(grids, starts)):
      samples[i, skip] = subjects.sample(subject._replace(sigmas=grid), subject.network, start).x[:, -1]

  calls = subjects.calls(len(sigmas), subject.solver)
  left = [subjects.calls(len(sigmas) - skip, subject.solver) for skip in skips]
  move = ("start", "sigma", "latent")
  pictures = ("latent", *subjects.IMAGE)
  return results.labelled(
    {
      "error": (move, _rms(samples - best), subjects.PIXELS),
      "change": (move, _rms(samples - full), subjects.PIXELS),
      "full_error": ("latent", _rms(full - best), subjects.PIXELS),
      "saved": ("sigma", calls - np.array(left)),
      "calls": ((), calls),
      "samples": (("start", "sigma", "shown", *subjects.IMAGE), samples[:, :, :SHOWN], subjects.PIXELS),
      "fine": (("shown", *pictures[1:]), best[:SHOWN], subjects.PIXELS),
    },
    {"start": list(STARTS), "sigma": ("sigma", sigmas[:-1], subjects.PIXELS)},
  )


def _states(shared, noise):
  stats, sigmas = shared
  return sampling.gaussian_trajectory(stats, noise, sigmas).x


def _rms(difference: np.ndarray) -> np.ndarray:
  return np.sqrt(np.mean(difference**2, axis=(-3, -2, -1), dtype=np.float64))
