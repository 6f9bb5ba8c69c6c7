"""Whether the network's Jacobian knows its error: posterior variance, Stein's estimate, symmetry."""

import typing

import numpy as np
from ml_collections import ConfigDict
from tqdm import tqdm

from gauss_diffusion import parallel, results
from gauss_diffusion.analyses import subject as subjects
from gauss_diffusion.plots import calibration as figure
from gauss_diffusion.probes import calibration, jacobian

if typing.TYPE_CHECKING:
  from gauss_diffusion.results import xarray

VERSION = 1
DERIVATIVES = True
FIGURE = figure
DEFAULTS = {"images": 32, "probes": 16}
BATCH = 32  # images at a time, each with all of its probes


def uses(settings: ConfigDict) -> tuple[str, ...]:
  """Return the denoisers that it evaluates."""
  return ("network",)


def evaluations(settings: ConfigDict, levels: int, solver: str, dimension: int) -> dict[str, int]:
  """Return how many images each denoiser is given; a product with its Jacobian counts 2."""
  return {"network": 2 * levels * settings.images * min(settings.probes, dimension)}


def check(config: ConfigDict, shape: tuple[int, int, int], num_held_out: int) -> None:
  """Refuse more images than are kept apart, and too few probes."""
  settings = config.calibration
  if not 1 <= settings.images <= num_held_out:
    raise ValueError(f"`calibration.images` is {settings.images}; there are {num_held_out} held-out images")
  if settings.probes < 2:
    raise ValueError(f"`calibration.probes` is {settings.probes}; asymmetry needs at least 2")


def _calibrate(shared, x0, noise, probes):
  denoise, sigma = shared
  return calibration.calibrate(denoise, x0, noise, sigma, probes)


def compute(subject: subjects.Subject, settings: ConfigDict, title: str) -> "xarray.Dataset":
  """Measure error and Jacobian on noisy held-out images; as many probes as pixels make it exact."""
  images = subjects.held_out(subject, settings.images)
  noise = subjects.noise(subject, "calibration", len(images))
  probes = jacobian.random_probes(len(images), images[0].size, settings.probes, seed=subject.seed)
  probes = probes.astype(np.float32)
  found = []
  for sigma in tqdm(subject.sigmas, f"calibration, {title}", unit="level", delay=2):
    shared = subject.network, np.float32(sigma)
    found.append(parallel.map_samples(_calibrate, shared, images, noise, probes, batch=BATCH))
  arrays = {name: [getattr(each, name) for each in found] for name in calibration.Calibration._fields}
  asymmetry = arrays.pop("asymmetry")
  return results.labelled(
    {name: (("sigma", "image"), squares, f"{subjects.PIXELS}^2") for name, squares in arrays.items()}
    | {"asymmetry": (("sigma", "image"), asymmetry)},
    {"sigma": ("sigma", subject.sigmas, subjects.PIXELS)},
  )
