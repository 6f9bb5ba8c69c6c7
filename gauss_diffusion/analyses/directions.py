"""What the network does along each principal component of its images, over whole noisy images.

The analysis `gain` asks the same of the Jacobian, at a point; here no derivative is taken.
"""

import typing

import numpy as np
from ml_collections import ConfigDict
from tqdm import tqdm

from gauss_diffusion import parallel, results
from gauss_diffusion.analyses import subject as subjects
from gauss_diffusion.plots import directions as figure
from gauss_diffusion.probes import spectrum

if typing.TYPE_CHECKING:
  from gauss_diffusion.results import xarray

VERSION = 1
DERIVATIVES = False
FIGURE = figure
DEFAULTS = {"images": 100, "directions": 32}
MEANINGS = {
  "images": "held-out images",
  "directions": "eigenvectors of the training covariance, spread over their rank",
}
OF_HELD_OUT = ("images",)


def uses(settings: ConfigDict) -> tuple[str, ...]:
  """Return the denoisers that it evaluates."""
  return ("network",)


def evaluations(settings: ConfigDict, levels: int, solver: str, dimension: int) -> dict[str, int]:
  """Return how many images each denoiser is given."""
  return {"network": levels * settings.images}


def check(config: ConfigDict, shape: tuple[int, int, int], num_held_out: int) -> None:
  """Refuse too few images for a slope, more than are kept apart, and no direction or more than there are."""
  settings = config.directions
  if not 2 <= settings.images <= num_held_out:
    raise ValueError(
      f"`directions.images` is {settings.images}; want at least 2, and of {num_held_out} held-out images"
    )
  subjects.check_directions("directions.directions", settings.directions, shape)


def compute(subject: subjects.Subject, settings: ConfigDict, title: str) -> "xarray.Dataset":
  """Denoise noisy held-out images; keep the coordinates of input, output and clean image along components.

  Coordinates are ``⟨u_i, x − μ⟩``. Those of the Gaussian denoiser's output are `gain` times the input's, with
  ``gain = λ/(λ + σ²)``; `effective_dimension` is the sum of these over all components, not those kept alone.
  """
  chosen = subjects.components(subject, settings.directions)
  mean, basis = (np.asarray(leaf, np.float64) for leaf in subject.stats[:2])

  def along(images: np.ndarray) -> np.ndarray:  # [n, H, W, C] -> [directions, n]
    return basis[:, chosen].T @ (images - mean).reshape(len(images), -1).T

  images = subjects.held_out(subject, settings.images)
  noise = subjects.noise(subject, "directions", len(images))
  inputs, outputs = np.empty((2, len(subject.sigmas), len(chosen), len(images)), np.float32)
  for s, sigma in enumerate(tqdm(subject.sigmas, f"directions, {title}", unit="level", delay=2)):
    x = images + np.float32(sigma) * noise
    inputs[s], outputs[s] = along(x), along(parallel.denoise(subject.network, x, sigma))
  gains = np.stack([spectrum.gaussian_gains(subject.stats, sigma) for sigma in subject.sigmas])
  return results.labelled(
    {
      "input": (("sigma", "direction", "image"), inputs, subjects.PIXELS),
      "output": (("sigma", "direction", "image"), outputs, subjects.PIXELS),
      "clean": (("direction", "image"), along(images), subjects.PIXELS),
      "gain": (("sigma", "direction"), gains[:, chosen]),
      "effective_dimension": ("sigma", gains.sum(1)),
      "eigenvalues": ("direction", subject.stats.eigenvalues[chosen], f"{subjects.PIXELS}^2"),
      "index": ("direction", chosen),
    },
    {"sigma": ("sigma", subject.sigmas, subjects.PIXELS)},
  )
