"""What linear distillation can tell: the same denoisers distilled on noisy training and on held-out images.

On noisy training images every exact posterior mean, the memorizer included, has the Gaussian denoiser as its
best affine fit, since E[D] = μ and Cov(D, y) = Cov(x0, y) = Σ whatever the data (tower rule). A small gap
there says that a network is well trained; only on held-out images can it say that the network generalizes.
"""

import typing

import jax
import numpy as np
from jax.tree_util import Partial
from ml_collections import ConfigDict
from tqdm import tqdm

from gauss_diffusion import distill, edm, parallel, results
from gauss_diffusion.analyses import subject as subjects
from gauss_diffusion.denoisers import affine
from gauss_diffusion.plots import input_law as figure
from gauss_diffusion.probes import score_gap, spectrum
from gauss_diffusion.types import Affine

if typing.TYPE_CHECKING:
  from gauss_diffusion.results import xarray

VERSION = 2
DERIVATIVES = False
FIGURE = figure
DEFAULTS = {
  "denoisers": ("multi-delta", "network"),
  "sigmas": (10.0, 4.0, 1.5, 0.5, 0.1, 0.02),
  "pairs": 2048,
  "repeats": 2,
  "images": 100,
}
MEANINGS = {
  "denoisers": "that are distilled",
  "sigmas": "noise levels, the nearest of the sampler's",
  "pairs": "of noisy image and output, for each fit",
  "repeats": "fits on new pairs",
  "images": "first held-out ones, to which no map is fitted, where maps are compared",
}
OF_HELD_OUT = ("images",)
PER_COORDINATE = {"pairs": 32}


def uses(settings: ConfigDict) -> tuple[str, ...]:
  """Return the denoisers that it evaluates."""
  return tuple(dict.fromkeys([*settings.denoisers, "gaussian"]))


def evaluations(settings: ConfigDict, levels: int, solver: str, dimension: int) -> dict[str, int]:
  """Return how many images each denoiser is given."""
  fits = min(len(settings.sigmas), levels) * settings.repeats
  found = dict.fromkeys(settings.denoisers, len(subjects.LAWS) * fits * settings.pairs)
  compared = len(settings.denoisers) * len(subjects.LAWS) * settings.images
  for name in subjects.LINEAR:  # the maps found, by the law of their fit
    found[name] = found.get(name, 0) + fits * compared
  gaussian = len(subjects.LAWS) * min(len(settings.sigmas), levels) * compared
  return found | {"gaussian": found.get("gaussian", 0) + gaussian}


def check(config: ConfigDict, shape: tuple[int, int, int], num_held_out: int) -> None:
  """Refuse unknown denoisers, and counts that determine no map or no spread."""
  settings, dimension = config.input_law, int(np.prod(shape))
  subjects.check_denoisers("input_law.denoisers", settings.denoisers, config.analyses)
  if not settings.sigmas or not all(sigma > 0 for sigma in settings.sigmas):
    raise ValueError(f"`input_law.sigmas` is {settings.sigmas}; want noise levels > 0")
  if settings.pairs < 2 * dimension:
    raise ValueError(
      f"`input_law.pairs` is {settings.pairs}; an affine map of {dimension} pixels needs at least "
      f"{2 * dimension}"
    )
  if settings.repeats < 2:
    raise ValueError(f"`input_law.repeats` is {settings.repeats}; a spread needs at least 2")
  if not 1 <= settings.images <= num_held_out - settings.repeats:
    raise ValueError(
      f"`input_law.images` is {settings.images}; want at least 1, and of the {num_held_out} held-out images "
      f"one left for each of the {settings.repeats} repeats of a fit"
    )


def compute(subject: subjects.Subject, settings: ConfigDict, title: str) -> "xarray.Dataset":
  """Distil each denoiser on both laws, R times over; compare maps and outputs with the Gaussian denoiser's.

  A gap is a norm: noise in the map adds to its square, and averages out over no number of repeats. On
  held-out images, of which each repeat has its own, noise is that of the images too. `weight_noise` and
  `output_noise` are the gaps that noise alone makes, from the spread of the repeats:
  ``√(Σ_r ‖W_r − W̄‖²/(R − 1)) / ‖W_G‖``, and of the outputs likewise, per image. The mean squared gap minus
  the squared noise is the mean of ⟨W_r − W_G, W_q − W_G⟩ over r ≠ q, without bias, and may be negative.
  """
  nearest = [edm.nearest(subject.sigmas, sigma) for sigma in settings.sigmas]
  sigmas = subject.sigmas[np.unique(nearest)]
  num = settings.images
  clean = subjects.train(subject, num), subjects.held_out(subject, num)
  noise = subjects.noise(subject, "input law", num)
  found: dict[str, list] = {"weight_gap": [], "weight_noise": [], "output_gap": [], "output_noise": []}
  for name in settings.denoisers:
    denoise = subjects.denoiser(subject, name)
    for law in subjects.LAWS:
      images = subjects.fitting(subject, law, num, settings.repeats)
      key_law = jax.random.fold_in(subjects.key(subject, "input law"), subjects.LAWS.index(law))
      for s, sigma in enumerate(tqdm(sigmas, f"{name} ({law}), {title}", unit="level", delay=2)):
        key = jax.random.fold_in(key_law, s)
        maps = [
          distill.closed_form(denoise, each, [sigma], jax.random.fold_in(key, r), num_pairs=settings.pairs)[0]
          for r, each in enumerate(images)
        ]
        inputs = [x0 + np.float32(sigma) * noise for x0 in clean]
        for field, value in _compare(subject, maps, inputs, sigma).items():
          found[field].append(value)
  shape = (len(settings.denoisers), len(subjects.LAWS), len(sigmas))
  arrays = {name: np.reshape(values, shape + np.shape(values)[1:]) for name, values in found.items()}
  fit = ("denoiser", "law", "sigma")  # `law` is that of the fit, `evaluated` that of the inputs compared
  axes = {
    "weight_gap": ("repeat",),
    "weight_noise": (),
    "output_gap": ("evaluated", "repeat", "image"),
    "output_noise": ("evaluated", "image"),
  }
  return results.labelled(
    {name: ((*fit, *axes[name]), values) for name, values in arrays.items()},
    {
      "denoiser": list(settings.denoisers),
      "law": list(subjects.LAWS),
      "evaluated": list(subjects.LAWS),
      "sigma": ("sigma", sigmas, subjects.PIXELS),
    },
  )


def _compare(
  subject: subjects.Subject, maps: list[Affine], inputs: list[np.ndarray], sigma: float
) -> dict[str, np.ndarray]:
  """Return the gaps of R maps at one level, [R], and of their outputs for each input law, [laws, R, n]."""
  weights = np.stack([each.weight[0] for each in maps])
  gaussian = subjects.denoiser(subject, "gaussian")
  wanted = [parallel.denoise(gaussian, x, sigma) for x in inputs]
  outputs = np.stack(
    [[parallel.denoise(Partial(affine.denoise, each), x, sigma) for each in maps] for x in inputs]
  )
  with np.errstate(divide="ignore", invalid="ignore"):  # a single training image has W_G = 0
    weight_noise = np.sqrt(np.var(weights, axis=0, ddof=1, dtype=np.float64).sum()) / np.linalg.norm(
      spectrum.gaussian_gains(subject.stats, sigma)
    )
  return {
    "weight_gap": np.array([spectrum.weight_gap(weight, subject.stats, sigma) for weight in weights]),
    "weight_noise": weight_noise,
    "output_gap": np.stack(
      [[score_gap.rmse(one, want) for one in of_law] for of_law, want in zip(outputs, wanted)]
    ),
    "output_noise": np.sqrt(np.mean(np.var(outputs, axis=1, ddof=1), axis=score_gap.IMAGE)),
  }
