"""What the network draws, and the training images nearest to it (Li et al. 2024, eq. 14, fig. 12)."""

import functools
import typing

import numpy as np
from ml_collections import ConfigDict
from tqdm import tqdm

from gauss_diffusion import parallel, results
from gauss_diffusion.analyses import subject as subjects
from gauss_diffusion.images import to_float
from gauss_diffusion.plots import samples as figure
from gauss_diffusion.probes import generalization

if typing.TYPE_CHECKING:
  from gauss_diffusion.results import xarray

VERSION = 2
DERIVATIVES = False
FIGURE = figure
DEFAULTS = {"num": 100, "denoisers": ("network", "gaussian")}
MEANINGS = {
  "num": "samples of each denoiser, from the same noise",
  "denoisers": "that are sampled",
}


def uses(settings: ConfigDict) -> tuple[str, ...]:
  """Return the denoisers that it evaluates."""
  return tuple(settings.denoisers)


def evaluations(settings: ConfigDict, levels: int, solver: str, dimension: int) -> dict[str, int]:
  """Return how many images each denoiser is given."""
  return dict.fromkeys(settings.denoisers, settings.num * subjects.calls(levels, solver))


def check(config: ConfigDict, shape: tuple[int, int, int], num_held_out: int) -> None:
  """Refuse unknown denoisers and a request for no sample."""
  settings = config.samples
  subjects.check_denoisers("samples.denoisers", settings.denoisers, config.analyses)
  if settings.num < 1:
    raise ValueError(f"`samples.num` is {settings.num}; want at least 1")


def compute(subject: subjects.Subject, settings: ConfigDict, title: str) -> "xarray.Dataset":
  """Sample from shared latents and look up each sample's two nearest training images.

  Held-out images, as many as samples or all there are, are looked up too. Their GL score is what an image
  that no network has copied gets from so many training images: it falls with their number, and so does that
  of samples. Their memorized share is the rate of false alarms.
  """
  noise = subjects.noise(subject, "latents", settings.num)
  out: dict[str, list] = {"samples": [], "neighbours": [], "distance": [], "gl": [], "memorized": []}
  look_up = functools.partial(generalization.neighbours, images=subject.train)
  for name in tqdm(settings.denoisers, f"samples, {title}", unit="denoiser", delay=2):
    samples = np.asarray(subjects.sample(subject, subjects.denoiser(subject, name), noise).x)[:, -1]
    nearest = parallel.share_rows(look_up, samples)
    out["samples"].append(samples)
    out["neighbours"].append(to_float(subject.train[nearest.index[:, 0]]))
    out["distance"].append(nearest.distance)
    out["gl"].append(generalization.gl_score(samples, nearest))
    out["memorized"].append(generalization.memorized(nearest))
  apart = subjects.held_out(subject, settings.num)
  nearest = parallel.share_rows(look_up, apart)
  pictures = ("denoiser", "sample", *subjects.IMAGE)
  return results.labelled(
    {
      "samples": (pictures, out["samples"], subjects.PIXELS),
      "neighbours": (pictures, out["neighbours"], subjects.PIXELS),
      "distance": (("denoiser", "sample", "nearest"), out["distance"], subjects.PIXELS),
      "gl": (("denoiser", "sample"), out["gl"]),
      "memorized": (("denoiser", "sample"), out["memorized"]),
      "held_out_gl": ("image", generalization.gl_score(apart, nearest)),
      "held_out_memorized": ("image", generalization.memorized(nearest)),
    },
    {"denoiser": list(settings.denoisers), "nearest": [1, 2]},
  )
