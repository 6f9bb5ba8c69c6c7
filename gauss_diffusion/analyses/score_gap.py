"""How far the network is from each denoiser it is held against (Li et al. 2024, eq. 10 and 53)."""

import typing

import numpy as np
from ml_collections import ConfigDict
from tqdm import tqdm

from gauss_diffusion import parallel, results
from gauss_diffusion.analyses import subject as subjects
from gauss_diffusion.plots import score_gap as figure
from gauss_diffusion.probes import score_gap

if typing.TYPE_CHECKING:
  from gauss_diffusion.results import xarray

VERSION = 1
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


def uses(settings: ConfigDict) -> tuple[str, ...]:
  """Return the denoisers that it evaluates."""
  return tuple(dict.fromkeys(["network", *(name for pair in settings.pairs for name in pair)]))


def evaluations(settings: ConfigDict, levels: int, solver: str, dimension: int) -> dict[str, int]:
  """Return how many images each denoiser is given."""
  return dict.fromkeys(uses(settings), len(subjects.LAWS) * levels * settings.images)


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
  """Denoise the same noisy images by every denoiser, level by level, and take the gaps of the pairs.

  `error` is each denoiser's RMSE to the clean images.
  """
  num = settings.images
  clean = subjects.train(subject, num), subjects.held_out(subject, num)
  noise = subjects.noise(subject, "score gap", num)
  denoisers = {name: subjects.denoiser(subject, name) for name in uses(settings)}
  levels = len(subject.sigmas)
  error = np.empty((len(denoisers), len(clean), levels, num), np.float32)
  rmse, nmse = np.empty((2, len(clean), len(settings.pairs), levels, num), np.float32)
  for s, sigma in enumerate(tqdm(subject.sigmas, f"score gap, {title}", unit="level", delay=2)):
    for i, images in enumerate(clean):
      x = images + np.float32(sigma) * noise
      outputs = {name: parallel.denoise(denoise, x, sigma) for name, denoise in denoisers.items()}
      for d, output in enumerate(outputs.values()):
        error[d, i, s] = score_gap.rmse(output, images)
      for q, (one, two) in enumerate(settings.pairs):
        rmse[i, q, s] = score_gap.rmse(outputs[one], outputs[two])
        nmse[i, q, s] = score_gap.nmse(outputs[one], outputs[two])
  one, two = zip(*settings.pairs)
  return results.labelled(
    {
      "rmse": (("law", "pair", "sigma", "image"), rmse, subjects.PIXELS),
      "nmse": (("law", "pair", "sigma", "image"), nmse),
      "error": (("denoiser", "law", "sigma", "image"), error, subjects.PIXELS),
      "floor": ("image", score_gap.low_noise_floor(subject.stats, clean[1]), subjects.PIXELS),
    },
    {
      "law": list(subjects.LAWS),
      "sigma": ("sigma", subject.sigmas, subjects.PIXELS),
      "denoiser": list(denoisers),
      "one": ("pair", list(one)),
      "two": ("pair", list(two)),
    },
  )
