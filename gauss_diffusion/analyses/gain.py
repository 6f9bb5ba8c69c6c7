"""What the network's Jacobian does: gain along the data's principal axes, symmetry, constancy."""

import typing

import numpy as np
from ml_collections import ConfigDict
from tqdm import tqdm

from gauss_diffusion import parallel, results
from gauss_diffusion.analyses import subject as subjects
from gauss_diffusion.plots import gain as figure
from gauss_diffusion.probes import jacobian

if typing.TYPE_CHECKING:
  from gauss_diffusion.results import xarray

VERSION = 1
DERIVATIVES = True
FIGURE = figure
DEFAULTS = {"pairs": 8, "directions": 16}
MEANINGS = {
  "pairs": "of held-out images",
  "directions": "eigenvectors of the training covariance, spread over their rank",
}
OF_HELD_OUT = ("pairs",)


def uses(settings: ConfigDict) -> tuple[str, ...]:
  """Return the denoisers that it evaluates."""
  return ("network",)


def evaluations(settings: ConfigDict, levels: int, solver: str, dimension: int) -> dict[str, int]:
  """Return how many images each denoiser is given; a product with its Jacobian counts 2."""
  probes = jacobian.random_probes(1, dimension, seed=0).shape[1]
  return {"network": levels * 2 * settings.pairs * 2 * (settings.directions + probes + 1)}


def check(config: ConfigDict, shape: tuple[int, int, int], num_held_out: int) -> None:
  """Refuse more pairs than images, and no direction or more than there are."""
  settings = config.gain
  if not 1 <= settings.pairs <= num_held_out // 2:
    raise ValueError(
      f"`gain.pairs` is {settings.pairs}; {num_held_out} held-out images make 1 to {num_held_out // 2}"
    )
  subjects.check_directions("gain.directions", settings.directions, shape)


def _measure(shared, x, probes):
  denoise, sigma, directions = shared
  return jacobian.local_linearity(denoise, x[0], x[1], sigma, directions, probes)


def compute(subject: subjects.Subject, settings: ConfigDict, title: str) -> "xarray.Dataset":
  """Probe pairs of noisy held-out images along eigenvectors of the training covariance, see `components`."""
  chosen = subjects.components(subject, settings.directions)
  # Padded with zeros, so that models of any rank share one compile.
  directions = np.zeros((settings.directions, len(subject.stats.basis)), np.float32)
  directions[: len(chosen)] = subject.stats.basis.T[chosen]
  images = subjects.held_out(subject, 2 * settings.pairs)
  noise = subjects.noise(subject, "gain", len(images))
  probes = jacobian.random_probes(settings.pairs, images[0].size, seed=subject.seed).astype(np.float32)
  found = []
  for sigma in tqdm(subject.sigmas, f"gain, {title}", unit="level", delay=2):
    pairs = (images + np.float32(sigma) * noise).reshape(settings.pairs, 2, *images.shape[1:])
    shared = (subject.network, np.float32(sigma), directions)
    found.append(parallel.map_samples(_measure, shared, pairs, probes, batch=settings.pairs))
  # Each pair gives two points: [P, 2] -> [2 P].
  arrays = {
    name: np.stack([getattr(local, name).reshape(2 * settings.pairs) for local in found])
    for name in ("asymmetry", "constancy", "displacement")
  }
  gain = np.stack([local.gain.reshape(2 * settings.pairs, -1).T[: len(chosen)] for local in found])
  eigenvalues = subject.stats.eigenvalues[chosen]
  return results.labelled(
    {name: (("sigma", "point"), values) for name, values in arrays.items()}
    | {
      "gain": (("sigma", "direction", "point"), gain),
      "eigenvalues": ("direction", eigenvalues, f"{subjects.PIXELS}^2"),
      "index": ("direction", chosen),
    },
    {"sigma": ("sigma", subject.sigmas, subjects.PIXELS)},
  )
