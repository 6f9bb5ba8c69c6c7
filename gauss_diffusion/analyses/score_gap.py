"""How far the network is from each denoiser it is held against, and how well each of them denoises.

Distances are those of Li et al. 2024, eq. 10 and 53. They are taken on three laws of inputs: noisy training
images, noisy held-out images, and the states that the network's own sampler visits.
"""

import typing

import numpy as np
from ml_collections import ConfigDict
from tqdm import tqdm

from gauss_diffusion import parallel, results
from gauss_diffusion.analyses import subject as subjects
from gauss_diffusion.denoisers import NULLS
from gauss_diffusion.plots import score_gap as figure
from gauss_diffusion.probes import score_gap

if typing.TYPE_CHECKING:
  from gauss_diffusion.results import xarray

VERSION = 3
DERIVATIVES = False
FIGURE = figure
DEFAULTS = {
  "images": 100,
  "pairs": (
    ("network", "gaussian"),
    ("network", "linear (train)"),
    ("network", "linear (held-out)"),
    ("network", "multi-delta"),
    ("linear (held-out)", "gaussian"),
  ),
}
MEANINGS = {
  "images": "training and as many held-out images, and as many latents",
  "pairs": "of denoisers between which distances are taken",
}
OF_HELD_OUT = ("images",)
LAWS = (*subjects.LAWS, "trajectory")  # of the inputs of gaps; on a trajectory there is no clean image


def pairs(settings: ConfigDict) -> tuple[tuple[str, str], ...]:
  """Return the pairs that it measures: those asked for, and the nulls' distances to network and Gaussian.

  Where the memorizer is in one of the pairs, so is its distance to the Gaussian denoiser.
  """
  found = [*map(tuple, settings.pairs)]
  found += [(null, "gaussian") for null in NULLS] + [(null, "network") for null in NULLS]
  if any("multi-delta" in pair for pair in found):
    found.append(("gaussian", "multi-delta"))
  return tuple(dict.fromkeys(found))


def uses(settings: ConfigDict) -> tuple[str, ...]:
  """Return the denoisers that it evaluates."""
  return tuple(dict.fromkeys(["network", *(name for pair in pairs(settings) for name in pair)]))


def evaluations(settings: ConfigDict, levels: int, solver: str, dimension: int) -> dict[str, int]:
  """Return how many images each denoiser is given."""
  found = dict.fromkeys(uses(settings), len(LAWS) * levels * settings.images)
  found["network"] += settings.images * subjects.calls(levels, solver)
  return found


def check(config: ConfigDict, shape: tuple[int, int, int], num_held_out: int) -> None:
  """Refuse pairs that are none, unknown denoisers, and more images than are kept apart."""
  settings = config.score_gap
  for pair in settings.pairs:
    if isinstance(pair, str) or len(pair) != 2:
      raise ValueError(f"`score_gap.pairs` has {pair!r}; want pairs of denoisers, (('network', 'gaussian'),)")
    subjects.check_denoisers("score_gap.pairs", pair, config.analyses)
  if not settings.pairs:
    raise ValueError("`score_gap.pairs` is empty; want at least one, such as (('network', 'gaussian'),)")
  if len(set(map(tuple, settings.pairs))) < len(settings.pairs):
    raise ValueError(f"`score_gap.pairs` has a pair twice: {settings.pairs}")
  if not 1 <= settings.images <= num_held_out:
    raise ValueError(f"`score_gap.images` is {settings.images}; there are {num_held_out} held-out images")


def compute(subject: subjects.Subject, settings: ConfigDict, title: str) -> "xarray.Dataset":
  """Denoise the same inputs by every denoiser, level by level, and take the gaps of the pairs.

  `error` is each denoiser's RMSE to the clean images; the axis `clean` says from where these are. What the
  sampler visits, from as many latents, has no clean image, and so gaps alone.
  """
  num, measured = settings.images, pairs(settings)
  clean = subjects.train(subject, num), subjects.held_out(subject, num)
  noise = subjects.noise(subject, "score gap", num)
  denoisers = {name: subjects.denoiser(subject, name) for name in uses(settings)}
  latents = subjects.noise(subject, "latents", num)
  visited = np.asarray(subjects.sample(subject, denoisers["network"], latents).x)
  levels = len(subject.sigmas)
  error = np.empty((len(denoisers), len(clean), levels, num), np.float32)
  rmse, nmse = np.empty((2, len(LAWS), len(measured), levels, num), np.float32)
  for s, sigma in enumerate(tqdm(subject.sigmas, f"score gap, {title}", unit="level", delay=2)):
    inputs = [*(images + np.float32(sigma) * noise for images in clean), visited[:, s]]
    for i, x in enumerate(inputs):
      outputs = {name: parallel.denoise(denoise, x, sigma) for name, denoise in denoisers.items()}
      for q, (one, two) in enumerate(measured):
        rmse[i, q, s] = score_gap.rmse(outputs[one], outputs[two])
        nmse[i, q, s] = score_gap.nmse(outputs[one], outputs[two])
      if i < len(clean):
        error[:, i, s] = [score_gap.rmse(output, clean[i]) for output in outputs.values()]
  ones, twos = zip(*measured)
  return results.labelled(
    {
      "rmse": (("law", "pair", "sigma", "image"), rmse, subjects.PIXELS),
      "nmse": (("law", "pair", "sigma", "image"), nmse),
      "error": (("denoiser", "clean", "sigma", "image"), error, subjects.PIXELS),
      "floor": ("image", score_gap.low_noise_floor(subject.stats, clean[1]), subjects.PIXELS),
      "dimension": ((), clean[1][0].size),
    },
    {
      "law": list(LAWS),
      "clean": list(subjects.LAWS),
      "sigma": ("sigma", subject.sigmas, subjects.PIXELS),
      "denoiser": list(denoisers),
      "one": ("pair", list(ones)),
      "two": ("pair", list(twos)),
    },
  )
