"""How nearly linear the network is: superposition scores against noise level (Li et al. 2024, §3.1)."""

import typing

import numpy as np
from ml_collections import ConfigDict
from tqdm import tqdm

from gauss_diffusion import edm, results
from gauss_diffusion.analyses import subject as subjects
from gauss_diffusion.plots import linearity as figure
from gauss_diffusion.probes import linearity

if typing.TYPE_CHECKING:
  from gauss_diffusion.results import xarray

VERSION = 1
DERIVATIVES = False
FIGURE = figure
DEFAULTS = {"levels": 20, "alpha2": (0.5,), "pairs": 100}
MEANINGS = {
  "levels": "noise levels, evenly spaced in the sampler's warped scale",
  "alpha2": "squared weights of the first of two images",
  "pairs": "of held-out images, and of pure noise",
}
OF_HELD_OUT = ("pairs",)
INPUTS = ("noisy image", "pure noise")


def uses(settings: ConfigDict) -> tuple[str, ...]:
  """Return the denoisers that it evaluates."""
  return ("network",)


def evaluations(settings: ConfigDict, levels: int, solver: str, dimension: int) -> dict[str, int]:
  """Return how many images each denoiser is given."""
  return {"network": settings.levels * len(INPUTS) * settings.pairs * (2 + 2 * len(settings.alpha2))}


def check(config: ConfigDict, shape: tuple[int, int, int], num_held_out: int) -> None:
  """Refuse levels, weights or pairs that cannot be."""
  settings = config.linearity
  if settings.levels < 2:
    raise ValueError(f"`linearity.levels` is {settings.levels}; want at least 2")
  if not settings.alpha2 or not all(0 <= alpha2 <= 1 for alpha2 in settings.alpha2):
    raise ValueError(f"`linearity.alpha2` is {settings.alpha2}; want squared weights between 0 and 1")
  if not 1 <= 2 * settings.pairs <= num_held_out:
    raise ValueError(
      f"`linearity.pairs` is {settings.pairs}; {num_held_out} held-out images make "
      f"1 to {num_held_out // 2} pairs"
    )


def compute(subject: subjects.Subject, settings: ConfigDict, title: str) -> "xarray.Dataset":
  """Score pairs of held-out images under one noise draw for all sigma, and pairs of pure noise."""
  sampler = subject.sigmas
  sigmas = edm.sigma_grid(settings.levels, sampler[-1], sampler[0])
  alpha2 = np.asarray(settings.alpha2, np.float32)
  images = subjects.held_out(subject, 2 * settings.pairs)
  noise = subjects.noise(subject, "linearity", len(images))
  scores = []
  for sigma in tqdm(sigmas, f"linearity, {title}", unit="level", delay=2):
    for clean in (images, np.zeros_like(images)):
      x = clean + np.float32(sigma) * noise
      x1, x2, mean = x[: settings.pairs], x[settings.pairs :], subject.stats.mean
      of_pairs = {"centre": mean, "batch": settings.pairs}
      scores.append(linearity.score_many(subject.network, x1, x2, sigma, alpha2, **of_pairs))
  # [S * I] records of [P, A]  ->  [I, S, A, P]
  arrays = {
    field: np.stack([getattr(score, field) for score in scores])
    .reshape(len(sigmas), len(INPUTS), settings.pairs, len(alpha2))
    .transpose(1, 0, 3, 2)
    for field in linearity.Linearity._fields
  }
  return results.labelled(
    {field: (("inputs", "sigma", "alpha2", "sample"), values) for field, values in arrays.items()},
    {
      "inputs": list(INPUTS),
      "sigma": ("sigma", sigmas, subjects.PIXELS),
      "alpha2": np.asarray(settings.alpha2, float),
    },
  )
