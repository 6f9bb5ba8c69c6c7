"""The network's best affine approximation at each noise level, on two input laws (Li et al. 2024, eq. 9).

On noisy *training* images any posterior-mean denoiser, the exact memorizer included, has the Gaussian
denoiser as its best affine fit. Only *held-out* images tell memorization and generalization apart.

Each map is fitted twice, so that what noise makes is known. On noisy training images the law of inputs is
that of these very images: both fits use all of them, and only the noise differs. Held-out images are a sample
of all that could be: each fit has its own half. Maps of halves of the training images would err in opposite
directions, and take off the gap what images add to it twice over.
"""

import inspect
import typing

import jax
import numpy as np
from ml_collections import ConfigDict
from tqdm import tqdm

from gauss_diffusion import distill, results
from gauss_diffusion.analyses import denoised, input_law, score_gap
from gauss_diffusion.analyses import subject as subjects
from gauss_diffusion.plots import distillation as figure
from gauss_diffusion.probes import spectrum
from gauss_diffusion.types import Affine, Array, GaussianStats

if typing.TYPE_CHECKING:
  from gauss_diffusion.results import xarray

VERSION = 2
DERIVATIVES = False
FIGURE = figure
DEFAULTS = {
  "method": "closed_form",
  "pairs": 640,
  "steps": 2000,
  "reserved": 100,
  "subspaces": (1, 2, 4, 8, 16, 32),
}
MEANINGS = {
  "method": "closed_form, least squares, or gradient_descent, as the paper has it",
  "pairs": "of noisy image and output, for each of the two fits",
  "steps": "of gradient descent",
  "reserved": "first held-out images, to which no map is fitted, so that maps can be evaluated there",
  "subspaces": "dimensions of leading singular vectors that are compared",
}
OF_HELD_OUT = ("reserved",)
PER_COORDINATE = {"pairs": 10}
METHODS = ("closed_form", "gradient_descent")
FITS = 2  # on independent pairs
HELD_OUT = "linear (held-out)"
# Analyses that may evaluate the maps found -> the field that says on how many held-out images.
EVALUATED = {
  "score_gap": (score_gap, "images"),
  "denoised": (denoised, "shown"),
  "input_law": (input_law, "images"),
}


def uses(settings: ConfigDict) -> tuple[str, ...]:
  """Return the denoisers that it evaluates."""
  return ("network",)


def evaluations(settings: ConfigDict, levels: int, solver: str, dimension: int) -> dict[str, int]:
  """Return how many images each denoiser is given."""
  if settings.method == "closed_form":
    pairs = settings.pairs
  else:
    pairs = (settings.steps + 1) * inspect.signature(distill.gradient_descent).parameters["batch"].default
  return {"network": len(subjects.LAWS) * levels * FITS * pairs}


def check(config: ConfigDict, shape: tuple[int, int, int], num_held_out: int) -> None:
  """Refuse an unknown method, too few pairs to determine a map, and too few images to fit or evaluate it."""
  settings, dimension = config.distillation, int(np.prod(shape))
  if settings.method not in METHODS:
    raise ValueError(f"`distillation.method` has no {settings.method!r}; known: {', '.join(METHODS)}")
  if settings.pairs < 2 * dimension:
    maps = len(subjects.LAWS) * config.sampler.levels
    passes = FITS * maps * 2 * dimension
    raise ValueError(
      f"`distillation.pairs` is {settings.pairs}; an affine map of {dimension} pixels needs at least "
      f"{2 * dimension}: for each model {passes:,} passes through the network, and maps of "
      f"{maps * 4 * dimension**2 / 1e9:.3g} GB; --dry_run says how long that takes"
    )
  if not 0 <= settings.reserved <= num_held_out - FITS:
    raise ValueError(
      f"`distillation.reserved` is {settings.reserved}; of {num_held_out} held-out images it must leave at "
      f"least {FITS}, one for each fit: want at most {num_held_out - FITS}, or more in `data.held_out`"
    )
  for name, (analysis, field) in EVALUATED.items():
    if name in config.analyses and HELD_OUT in analysis.uses(config[name]):
      if config[name][field] > settings.reserved:
        raise ValueError(
          f"`{name}.{field}` is {config[name][field]}, of which {HELD_OUT!r} was fitted to all but the first "
          f"{settings.reserved}; want at most that many, or more in `distillation.reserved`"
        )
  subspaces = list(settings.subspaces)
  if (
    not subspaces
    or subspaces != sorted(set(subspaces))
    or not 1 <= subspaces[0] <= subspaces[-1] <= dimension
  ):
    raise ValueError(
      f"`distillation.subspaces` is {settings.subspaces}; want rising dimensions from 1 to {dimension}"
    )


def compute(subject: subjects.Subject, settings: ConfigDict, title: str) -> "xarray.Dataset":
  """Distil on both laws, twice; compare the maps with the Gaussian denoiser's and with each other.

  `weight` and `bias` are means of the two fits. Their squared weight gap is `weight_gap2`, the unbiased
  estimate, plus `weight_noise2`, which two fits measure; `expected_noise2` is what pairs alone should make of
  the latter. `subspace` is the energy that the leading k singular vectors of the mean map and the leading k
  principal components share, NaN beyond the rank of the covariance; `subspace_between_fits` that of the two
  fits: where it is low, noise alone decides which vectors lead. As the mean is the less noisy, noise takes
  from `subspace` only about a quarter of what is missing there. `cluster_energy` compares cluster by cluster,
  of components that errors of operator norm `perturbation` can mix.
  """
  found = [_distil(subject, law, settings, title) for law in subjects.LAWS]
  axes = {
    "weight": ("output", "input"),
    "bias": ("output",),
    **dict.fromkeys(("subspace", "subspace_between_fits"), ("k",)),
    **dict.fromkeys(("cluster", "cluster_energy"), ("component",)),
  }
  return results.labelled(
    {
      name: (("law", "sigma", *axes.get(name, ())), np.stack([values[name] for values in found]))
      for name in found[0]
    }
    | {"pairs": ((), settings.pairs), "disjoint": ("law", [law == "held-out" for law in subjects.LAWS])},
    {
      "law": list(subjects.LAWS),
      "sigma": ("sigma", subject.sigmas, subjects.PIXELS),
      "k": list(settings.subspaces),
      "component": np.arange(1, subject.train[0].size + 1),
    },
  )


def _distil(subject: subjects.Subject, law: str, settings: ConfigDict, title: str) -> dict[str, np.ndarray]:
  key, images = subjects.key(subject, law), subjects.fitting(subject, law, settings.reserved, FITS)
  fits = [
    _fit(subject, each, jax.random.fold_in(key, i), settings, f"{law}, fit {i + 1} of {FITS}, {title}")
    for i, each in enumerate(images)
  ]
  one, two = (np.asarray(maps.weight) for maps, _ in fits)
  mean_mse = np.mean([residual_mse for _, residual_mse in fits], axis=0)
  found: dict[str, list] = {}
  for s, sigma in enumerate(tqdm(subject.sigmas, f"compare maps ({law}), {title}", unit="level", delay=2)):
    compared = _compare(one[s], two[s], subject.stats, sigma, list(settings.subspaces))
    compared["expected_noise2"] = (
      distill.expected_noise2(mean_mse[s], settings.pairs, subject.stats, sigma) / FITS
    )
    for name, value in compared.items():
      found.setdefault(name, []).append(value)
  return {
    "weight": (one + two) / FITS,
    "bias": np.mean([maps.bias for maps, _ in fits], axis=0),
    "fit_rmse": np.sqrt(mean_mse),
    **{name: np.stack(values) for name, values in found.items()},
  }


def _fit(
  subject: subjects.Subject, images: np.ndarray, key: Array, settings: ConfigDict, title: str
) -> tuple[Affine, np.ndarray]:
  """Return the maps of every level, and the mean square residual of each."""
  if settings.method == "gradient_descent":
    affine, descent = distill.gradient_descent(
      subject.network, images, subject.sigmas, key, num_steps=settings.steps
    )
    return affine, descent.residual_mse
  fits = [
    distill.closed_form(
      subject.network, images, [sigma], jax.random.fold_in(key, s), num_pairs=settings.pairs
    )
    for s, sigma in enumerate(tqdm(subject.sigmas, f"distil ({title})", unit="level", delay=2))
  ]
  affine = Affine(*(np.concatenate(leaves) for leaves in zip(*(maps for maps, _ in fits))))
  return affine, np.concatenate([fit.residual_mse for _, fit in fits])


def _compare(
  one: np.ndarray, two: np.ndarray, stats: GaussianStats, sigma: float, subspaces: list[int]
) -> dict[str, np.ndarray | float]:
  """Compare two fits of a map and their mean with the Gaussian denoiser's weight."""
  mean, first, second = (spectrum.left_vectors(weight) for weight in ((one + two) / FITS, one, two))
  rank = len(stats.eigenvalues)
  perturbation = spectrum.operator_norm(one - two) / FITS
  cluster = spectrum.clusters(stats, sigma, perturbation)
  return {
    "weight_gap2": spectrum.weight_gap2(one, two, stats, sigma),
    "weight_noise2": spectrum.weight_noise2(one, two, stats, sigma),
    "subspace": np.array(
      [spectrum.shared_energy(mean[:, :k], stats.basis[:, :k]) if k <= rank else np.nan for k in subspaces]
    ),
    "subspace_between_fits": np.array(
      [spectrum.shared_energy(first[:, :k], second[:, :k]) for k in subspaces]
    ),
    "perturbation": perturbation,
    "cluster": cluster,
    "cluster_energy": spectrum.cluster_energy(mean, stats, cluster),
  }
