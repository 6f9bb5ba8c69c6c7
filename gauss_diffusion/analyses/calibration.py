"""Whether the network's Jacobian knows its error: posterior variance, Stein's estimate, symmetry."""

import typing

import numpy as np
from ml_collections import ConfigDict
from tqdm import tqdm

from gauss_diffusion import parallel, results
from gauss_diffusion.analyses import subject as subjects
from gauss_diffusion.plots import calibration as figure
from gauss_diffusion.probes import calibration, jacobian, trace

if typing.TYPE_CHECKING:
  from gauss_diffusion.results import xarray

VERSION = 2
DERIVATIVES = True
FIGURE = figure
DEFAULTS = {"images": 32, "probes": 16}
MEANINGS = {
  "images": "held-out images",
  "probes": "random vectors for the trace of a Jacobian, of each image",
}
OF_HELD_OUT = ("images",)
BATCH = 32  # images at a time, each with all of its probes
SHOWN = 2  # images of which pictures are kept
PRODUCTS = 192  # with the Jacobian, for one picture of uncertainty; as many as pixels, if these are fewer


def uses(settings: ConfigDict) -> tuple[str, ...]:
  """Return the denoisers that it evaluates."""
  return ("network",)


def evaluations(settings: ConfigDict, levels: int, solver: str, dimension: int) -> dict[str, int]:
  """Return how many images each denoiser is given; a product with its Jacobian counts 2."""
  pictures = min(SHOWN, settings.images) * min(PRODUCTS, dimension)
  return {"network": levels * (2 * settings.images * min(settings.probes, dimension) + 2 * pictures)}


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
  """Measure error and Jacobian on noisy held-out images; as many probes as pixels make it exact.

  Of the first images there are pictures: `inputs`, `estimates`, and `deviation`, ``σ √(diag J)``, which for
  an exact denoiser is the standard deviation of each clean pixel given the input; 0 where the estimate of the
  variance is negative.
  """
  images = subjects.held_out(subject, settings.images)
  noise = subjects.noise(subject, "calibration", len(images))
  probes = jacobian.random_probes(len(images), images[0].size, settings.probes, seed=subject.seed)
  probes = probes.astype(np.float32)
  found, inputs, deviation = [], [], []
  for sigma in tqdm(subject.sigmas, f"calibration, {title}", unit="level", delay=2):
    shared = subject.network, np.float32(sigma)
    found.append(parallel.map_samples(_calibrate, shared, images, noise, probes, batch=BATCH))
    x = images[:SHOWN] + shared[1] * noise[:SHOWN]
    variance = trace.diagonal(subject.network, x, float(sigma), PRODUCTS, seed=subject.seed)
    inputs.append(x)
    deviation.append((sigma * np.sqrt(variance.clip(min=0))).astype(np.float32))
  arrays = {name: [getattr(each, name) for each in found] for name in calibration.Calibration._fields}
  asymmetry, denoised = arrays.pop("asymmetry"), arrays.pop("denoised")
  pictures = {"inputs": inputs, "estimates": [each[:SHOWN] for each in denoised], "deviation": deviation}
  return results.labelled(
    {name: (("sigma", "image"), squares, f"{subjects.PIXELS}^2") for name, squares in arrays.items()}
    | {"asymmetry": (("sigma", "image"), asymmetry)}
    | {"clean": (("shown", *subjects.IMAGE), images[:SHOWN], subjects.PIXELS)}
    | {name: (("sigma", "shown", *subjects.IMAGE), each, subjects.PIXELS) for name, each in pictures.items()},
    {"sigma": ("sigma", subject.sigmas, subjects.PIXELS)},
  )
