"""What the network and its Gaussian denoiser make of shared inputs, to compare subjects of disjoint images.

Beside it stands how far apart two Gaussian denoisers of as many images each should be, and their samples from
the same noise, known from the moments of all images without a network (Wang, Zavatone-Veth & Pehlevan 2026,
arXiv 2602.02908).
"""

import typing

import numpy as np
from jax.tree_util import Partial
from ml_collections import ConfigDict
from tqdm import tqdm

from gauss_diffusion import parallel, results
from gauss_diffusion.analyses import subject as subjects
from gauss_diffusion.denoisers import gaussian
from gauss_diffusion.plots import halves as figure
from gauss_diffusion.probes import finite_data

if typing.TYPE_CHECKING:
  from gauss_diffusion.results import xarray

VERSION = 3
DERIVATIVES = False
FIGURE = figure
DEFAULTS = {"images": 100, "latents": 100, "pairs": 4}
MEANINGS = {
  "images": "held-out images",
  "latents": "from which samples' distance is predicted",
  "pairs": "of Gaussian denoisers drawn to predict it",
}
OF_HELD_OUT = ("images",)
DENOISERS = ("network", "gaussian")


def uses(settings: ConfigDict) -> tuple[str, ...]:
  """Return the denoisers that it evaluates."""
  return DENOISERS


def evaluations(settings: ConfigDict, levels: int, solver: str, dimension: int) -> dict[str, int]:
  """Return how many images each denoiser is given."""
  return dict.fromkeys(DENOISERS, levels * settings.images)


def check(config: ConfigDict, shape: tuple[int, int, int], num_held_out: int) -> None:
  """Refuse more images than are kept apart, fewer than two latents, and no pair."""
  settings = config.halves
  if not 1 <= settings.images <= num_held_out:
    raise ValueError(f"`halves.images` is {settings.images}; there are {num_held_out} held-out images")
  if settings.latents < 2:
    raise ValueError(
      f"`halves.latents` is {settings.latents}; want at least 2, a sample and an unrelated one"
    )
  if settings.pairs < 1:
    raise ValueError(f"`halves.pairs` is {settings.pairs}; want at least 1")


def compute(subject: subjects.Subject, settings: ConfigDict, title: str) -> "xarray.Dataset":
  """Denoise noisy held-out images, the same for every subject of a study.

  `deviations` are outputs less those of the Gaussian denoiser of all images: small where the outputs are
  alike, so that their differences lose nothing to rounding. `predicted` is the expected squared distance per
  pixel, at each input, between the Gaussian denoisers of two disjoint sets of as many images as the subject
  has. `samples_predicted` is the distance of their samples, in units of chance, for `pairs` pairs of
  Gaussians as they would be fitted to so many images.
  """
  assert subject.pool is not None, "want the statistics of all training images of the study"
  images = subjects.held_out(subject, settings.images)
  noise = subjects.noise(subject, "halves", len(images))
  denoisers = [subjects.denoiser(subject, name) for name in DENOISERS]
  pool = Partial(gaussian.denoise, subject.pool)
  deviations, predicted = [], []
  for sigma in tqdm(subject.sigmas, f"halves, {title}", unit="level", delay=2):
    x = images + np.float32(sigma) * noise
    shared = parallel.denoise(pool, x, sigma)
    deviations.append([parallel.denoise(denoise, x, sigma) - shared for denoise in denoisers])
    squared = finite_data.halves_distance2(subject.pool, x, sigma, len(subject.train))
    predicted.append(squared / images[0].size)
  latents = subjects.noise(subject, "latents", settings.latents)
  apart = finite_data.halves_samples(
    subject.pool,
    latents,
    subject.sigmas,
    len(subject.train),
    method=subject.solver,
    pairs=settings.pairs,
    seed=subject.seed,
  )
  return results.labelled(
    {
      "deviations": (
        ("denoiser", "sigma", "image", *subjects.IMAGE),
        np.stack(deviations, 1),
        subjects.PIXELS,
      ),
      "predicted": (("sigma", "image"), predicted, f"{subjects.PIXELS}^2"),
      "samples_predicted": (("pair", "latent"), apart),
    },
    {"denoiser": list(DENOISERS), "sigma": ("sigma", subject.sigmas, subjects.PIXELS)},
  )
