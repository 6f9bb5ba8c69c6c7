"""The network's best affine approximation at each noise level, on two input laws (Li et al. 2024, eq. 9).

On noisy *training* images any posterior-mean denoiser, the exact memorizer included, has the Gaussian
denoiser as its best affine fit. Only *held-out* images tell memorization and generalization apart.
"""

import inspect
import typing

import jax
import numpy as np
from ml_collections import ConfigDict
from tqdm import tqdm

from gauss_diffusion import distill, results
from gauss_diffusion.analyses import subject as subjects
from gauss_diffusion.plots import distillation as figure
from gauss_diffusion.probes import spectrum
from gauss_diffusion.types import Affine

if typing.TYPE_CHECKING:
  from gauss_diffusion.results import xarray

VERSION = 1
DERIVATIVES = False
FIGURE = figure
DEFAULTS = {"method": "closed_form", "pairs": 1280, "steps": 2000, "singular_vectors": 32}
METHODS = ("closed_form", "gradient_descent")


def uses(settings: ConfigDict) -> tuple[str, ...]:
  """Return the denoisers that it evaluates."""
  return ("network",)


def evaluations(settings: ConfigDict, levels: int, solver: str, dimension: int) -> dict[str, int]:
  """Return how many images each denoiser is given."""
  if settings.method == "closed_form":
    pairs = settings.pairs
  else:
    pairs = (settings.steps + 1) * inspect.signature(distill.gradient_descent).parameters["batch"].default
  return {"network": len(subjects.LAWS) * levels * pairs}


def check(config: ConfigDict, shape: tuple[int, int, int], num_held_out: int) -> None:
  """Refuse an unknown method, or too few pairs to determine the map."""
  settings, dimension = config.distillation, int(np.prod(shape))
  if settings.method not in METHODS:
    raise ValueError(f"`distillation.method` has no {settings.method!r}; known: {', '.join(METHODS)}")
  if settings.pairs < 2 * dimension:
    maps = len(subjects.LAWS) * config.sampler.levels
    raise ValueError(
      f"`distillation.pairs` is {settings.pairs}; an affine map of {dimension} pixels needs at least "
      f"{2 * dimension}: for each model {maps * 2 * dimension:,} passes through the network, and maps of "
      f"{maps * 4 * dimension**2 / 1e9:.3g} GB; --dry_run says how long that takes"
    )
  if not 1 <= settings.singular_vectors <= dimension:
    raise ValueError(f"`distillation.singular_vectors` is {settings.singular_vectors}; want 1 to {dimension}")


def compute(subject: subjects.Subject, settings: ConfigDict, title: str) -> "xarray.Dataset":
  """Distil on both laws; compare each map with the Gaussian denoiser's."""
  found = [_distil(subject, law, settings, title) for law in subjects.LAWS]
  axes = {"weight": ("output", "input"), "bias": ("output",), "singular_correlation": ("vector",)}
  return results.labelled(
    {
      name: (("law", "sigma", *axes.get(name, ())), np.stack([values[name] for values in found]))
      for name in found[0]
    }
    | {"pairs": ((), settings.pairs)},
    {
      "law": list(subjects.LAWS),
      "sigma": ("sigma", subject.sigmas, subjects.PIXELS),
      "vector": np.arange(1, settings.singular_vectors + 1),
    },
  )


def _distil(subject: subjects.Subject, law: str, settings: ConfigDict, title: str) -> dict[str, np.ndarray]:
  images = subject.train if law == "train" else subject.held_out
  key = subjects.key(subject, law)
  if settings.method == "closed_form":
    fits = []
    for s, sigma in enumerate(tqdm(subject.sigmas, f"distil ({law}), {title}", unit="level", delay=2)):
      level_key = jax.random.fold_in(key, s)
      fits.append(distill.closed_form(subject.network, images, [sigma], level_key, num_pairs=settings.pairs))
    affine = Affine(*(np.concatenate(leaves) for leaves in zip(*(affine for affine, _ in fits))))
    residual_mse = np.concatenate([fit.residual_mse for _, fit in fits])
  else:
    affine, descent = distill.gradient_descent(
      subject.network, images, subject.sigmas, key, num_steps=settings.steps
    )
    residual_mse = descent.residual_mse
  compare = [(weight, subject.stats, sigma) for weight, sigma in zip(affine.weight, subject.sigmas)]
  return {
    "weight": affine.weight,
    "bias": affine.bias,
    "fit_rmse": np.sqrt(residual_mse),
    "weight_gap": np.array([spectrum.weight_gap(*each) for each in compare]),
    "singular_correlation": np.array(
      [spectrum.singular_correlation(*each, settings.singular_vectors) for each in compare]
    ),
  }
