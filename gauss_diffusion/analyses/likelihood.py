"""How likely the network finds images it was trained on and images it was not, in a little noise."""

import typing

import numpy as np
from jax.tree_util import Partial
from ml_collections import ConfigDict
from tqdm import tqdm

from gauss_diffusion import edm, results
from gauss_diffusion.analyses import subject as subjects
from gauss_diffusion.denoisers import gaussian
from gauss_diffusion.plots import likelihood as figure
from gauss_diffusion.probes import likelihood, trace

if typing.TYPE_CHECKING:
  from gauss_diffusion.results import xarray

VERSION = 1
DERIVATIVES = True
FIGURE = figure
DEFAULTS = {
  "images": 16,
  "sigmas": (2.0, 0.5, 0.1),
  "levels": 64,
  "products": 64,
}
MEANINGS = {
  "images": "training and as many held-out images",
  "sigmas": "noise added to images, whose law's density is asked for; images without noise have none",
  "levels": "of the integral, from there up to the sampler's highest",
  "products": "with the Jacobian, for one trace",
}
OF_HELD_OUT = ("images",)
DENSITIES = ("network", "gaussian", "multi-delta")


def uses(settings: ConfigDict) -> tuple[str, ...]:
  """Return the denoisers that it evaluates."""
  return ("network",)


def evaluations(settings: ConfigDict, levels: int, solver: str, dimension: int) -> dict[str, int]:
  """Return how many images each denoiser is given; a product with its Jacobian counts 2."""
  products = 2 * min(settings.products // 3 * 3, dimension)
  way = settings.levels * products + 2 * (settings.levels - 1)
  return {"network": len(subjects.LAWS) * len(settings.sigmas) * settings.images * way}


def in_flight(settings: ConfigDict, dimension: int) -> int:
  """Return how many evaluations are under way at a time; a product with the Jacobian counts 2."""
  num = len(subjects.LAWS) * settings.images
  at_once = trace.in_flight(num, dimension, settings.products)
  return 2 * at_once * trace.tangents(dimension, settings.products)


def check(config: ConfigDict, shape: tuple[int, int, int], num_held_out: int) -> None:
  """Refuse more images than are kept apart, levels beyond the sampler's, and too few of anything."""
  settings, sampler = config.likelihood, config.sampler
  if not 1 <= settings.images <= num_held_out:
    raise ValueError(f"`likelihood.images` is {settings.images}; there are {num_held_out} held-out images")
  if not settings.sigmas or not all(0 < sigma < sampler.sigma_max for sigma in settings.sigmas):
    raise ValueError(
      f"`likelihood.sigmas` is {settings.sigmas}; want noise levels > 0 and below `sampler.sigma_max`, "
      f"{sampler.sigma_max:g}"
    )
  if settings.levels < 2:
    raise ValueError(f"`likelihood.levels` is {settings.levels}; want at least 2")
  if settings.products < 3:
    raise ValueError(f"`likelihood.products` is {settings.products}; want at least 3")


def compute(subject: subjects.Subject, settings: ConfigDict, title: str) -> "xarray.Dataset":
  """Follow noisy training and held-out images up the probability-flow ODE, one way for each first level.

  `log_density` is in nats, of the law of images in that noise. That of the Gaussian N(μ, Σ + σ²I) and of the
  memorizer, the kernel density of the training images, are known in closed form. The Gaussian denoiser goes
  the same way as the network, from the same points, by the same steps and the same random signs: what its
  way gives beyond the closed form, `way_error`, is taken off the network's. What is left falls as the square
  of the number of levels; it is largest where a memorizer turns from one image to another.
  """
  clean = np.concatenate(
    [subjects.train(subject, settings.images), subjects.held_out(subject, settings.images)]
  )
  noise = np.tile(subjects.noise(subject, "likelihood", settings.images), (len(subjects.LAWS), 1, 1, 1))
  known = Partial(gaussian.denoise, subject.stats)
  found, errors = [], []
  for sigma in tqdm(settings.sigmas, f"likelihood, {title}", unit="level", delay=2):
    x = clean + np.float32(sigma) * noise
    grid = edm.sigma_grid(settings.levels, sigma, subject.sigmas[0])[::-1]
    ways = [
      likelihood.log_density(each, x, grid, subject.stats, settings.products, seed=subject.seed).log_density
      for each in (subject.network, known)
    ]
    exact = likelihood.gaussian_log_density(subject.stats, x, sigma)
    errors.append(ways[1] - exact)
    memorizer = likelihood.kernel_log_density(subject.train, x, sigma)
    found.append([ways[0] - errors[-1], exact, memorizer])
  laws = (len(subjects.LAWS), settings.images)
  shape = (len(settings.sigmas), len(DENSITIES), *laws)
  return results.labelled(
    {
      "log_density": (("sigma", "denoiser", "clean", "image"), np.reshape(found, shape), "nats"),
      "way_error": (("sigma", "clean", "image"), np.reshape(errors, (len(errors), *laws)), "nats"),
      "dimension": ((), clean[0].size),
    },
    {
      "sigma": ("sigma", np.array(settings.sigmas, float), subjects.PIXELS),
      "denoiser": list(DENSITIES),
      "clean": list(subjects.LAWS),
    },
  )
