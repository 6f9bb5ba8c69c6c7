"""What each denoiser makes of one noisy image, and where the network just passes it on (figs. 5, 15, 17, 18).

Levels are those of the sampler nearest to the ones asked for: affine maps exist at no others.
"""

import typing

import numpy as np
from ml_collections import ConfigDict
from tqdm import tqdm

from gauss_diffusion import edm, parallel, results
from gauss_diffusion.analyses import subject as subjects
from gauss_diffusion.plots import denoised as figure
from gauss_diffusion.probes import score_gap

if typing.TYPE_CHECKING:
  from gauss_diffusion.results import xarray

VERSION = 1
DERIVATIVES = False
FIGURE = figure
DEFAULTS = {
  "sigmas": (60.0, 4.0, 1.5, 0.5),
  "pure_noise": (4.0,),
  "denoisers": ("network", "gaussian", "linear (held-out)", "multi-delta"),
  "shown": 4,
  "images": 100,
}
MEANINGS = {
  "sigmas": "noise levels of noisy images, the nearest of the sampler's",
  "pure_noise": "noise levels of inputs that hold no image",
  "denoisers": "that denoise them, a row each",
  "shown": "images that are drawn",
  "images": "held-out images that are measured",
}
OF_HELD_OUT = ("images", "shown")
COMPARED = ("network", "gaussian")  # whose likeness to the identity is measured


def uses(settings: ConfigDict) -> tuple[str, ...]:
  """Return the denoisers that it evaluates."""
  return tuple(dict.fromkeys([*settings.denoisers, *COMPARED]))


def evaluations(settings: ConfigDict, levels: int, solver: str, dimension: int) -> dict[str, int]:
  """Return how many images each denoiser is given."""
  inputs = settings.shown * (len(settings.sigmas) + len(settings.pure_noise))
  found = dict.fromkeys(settings.denoisers, inputs)
  return found | {name: found.get(name, 0) + levels * settings.images for name in COMPARED}


def check(config: ConfigDict, shape: tuple[int, int, int], num_held_out: int) -> None:
  """Refuse unknown denoisers, levels that are none, and more images than are kept apart."""
  settings = config.denoised
  subjects.check_denoisers("denoised.denoisers", settings.denoisers, config.analyses)
  for field in ("sigmas", "pure_noise"):
    if not all(sigma > 0 for sigma in settings[field]):
      raise ValueError(f"`denoised.{field}` is {settings[field]}; want noise levels > 0")
  if not settings.sigmas:
    raise ValueError("`denoised.sigmas` is empty; want at least one noise level")
  for field in ("shown", "images"):
    if not 1 <= settings[field] <= num_held_out:
      raise ValueError(f"`denoised.{field}` is {settings[field]}; there are {num_held_out} held-out images")


def compute(subject: subjects.Subject, settings: ConfigDict, title: str) -> "xarray.Dataset":
  """Denoise the same inputs by every denoiser; compare noisy images with what becomes of them."""
  clean, noise = (
    subjects.held_out(subject, settings.shown),
    subjects.noise(subject, "denoised", settings.shown),
  )
  wanted = [*settings.sigmas, *settings.pure_noise]
  levels = np.array([edm.nearest(subject.sigmas, sigma) for sigma in wanted])
  sigmas, has_image = subject.sigmas[levels], np.arange(len(levels)) < len(settings.sigmas)
  scale = sigmas.astype(np.float32)[:, None, None, None, None]
  inputs = np.where(has_image[:, None, None, None, None], clean, 0) + scale * noise
  outputs = []
  for name in tqdm(settings.denoisers, f"denoised, {title}", unit="denoiser", delay=2):
    denoise = subjects.denoiser(subject, name)
    outputs.append([parallel.denoise(denoise, x, sigma) for x, sigma in zip(inputs, sigmas)])

  images = subjects.held_out(subject, settings.images)
  noise = subjects.noise(subject, "identity", settings.images)
  cosine, nmse = np.empty((2, len(COMPARED), len(subject.sigmas), settings.images), np.float32)
  for s, sigma in enumerate(tqdm(subject.sigmas, f"identity, {title}", unit="level", delay=2)):
    x = images + np.float32(sigma) * noise
    for d, name in enumerate(COMPARED):
      output = parallel.denoise(subjects.denoiser(subject, name), x, sigma)
      cosine[d, s] = _cosine(x, output)
      nmse[d, s] = score_gap.nmse(x, output)
  return results.labelled(
    {
      "cosine": (("compared", "sigma", "image"), cosine),
      "nmse": (("compared", "sigma", "image"), nmse),
      "clean": (("shown", *subjects.IMAGE), clean, subjects.PIXELS),
      "input_sigma": ("input", sigmas, subjects.PIXELS),
      "has_image": ("input", has_image),
      "inputs": (("input", "shown", *subjects.IMAGE), inputs, subjects.PIXELS),
      "outputs": (("denoiser", "input", "shown", *subjects.IMAGE), outputs, subjects.PIXELS),
    },
    {
      "sigma": ("sigma", subject.sigmas, subjects.PIXELS),
      "compared": list(COMPARED),
      "denoiser": list(settings.denoisers),
    },
  )


def _cosine(one: np.ndarray, two: np.ndarray) -> np.ndarray:
  product = np.linalg.norm(one.reshape(len(one), -1), axis=1) * np.linalg.norm(
    two.reshape(len(two), -1), axis=1
  )
  return np.sum(one * two, axis=score_gap.IMAGE) / np.where(product > 0, product, 1)
