"""Linear distillation by gradient descent, as the paper does it, beside least squares (figs. 4, 14, 22).

Both see equally many pairs (y, D(y)). Descent needs more steps the less noise there is, and heads for the
least-squares map; that one's symmetry, singular values and vectors are held against the Gaussian denoiser's.
"""

import typing
from collections.abc import Iterator, Sequence

import jax
import numpy as np
import scipy.linalg
from ml_collections import ConfigDict

from gauss_diffusion import distill, edm, results, statistics
from gauss_diffusion.analyses import subject as subjects
from gauss_diffusion.plots import descent as figure
from gauss_diffusion.probes import spectrum
from gauss_diffusion.types import ArrayLike, GaussianStats

if typing.TYPE_CHECKING:
  from gauss_diffusion.results import xarray

VERSION = 1
DERIVATIVES = False
FIGURE = figure
DEFAULTS = {
  "law": "held-out",
  "sigmas": (4.0, 0.5, 0.1),
  "steps": 120,
  "batch": 128,
  "record_every": 2,
  "vectors": 25,
}
MEANINGS = {
  "law": "of the images that noise is added to, train or held-out",
  "sigmas": "noise levels, the nearest of the sampler's",
  "steps": "of gradient descent",
  "batch": "pairs of noisy image and output in a step",
  "record_every": "steps",
  "vectors": "leading singular vectors that are compared",
}


def uses(settings: ConfigDict) -> tuple[str, ...]:
  """Return the denoisers that it evaluates."""
  return ("network",)


def evaluations(settings: ConfigDict, levels: int, solver: str, dimension: int) -> dict[str, int]:
  """Return how many images each denoiser is given."""
  sigmas = min(len(settings.sigmas), levels)
  return {"network": sigmas * settings.batch * (2 * settings.steps + 1)}  # the last draw measures the fit


def check(config: ConfigDict, shape: tuple[int, int, int], num_held_out: int) -> None:
  """Refuse an unknown law, and counts that make no descent or determine no map."""
  settings, dimension = config.descent, int(np.prod(shape))
  if settings.law not in subjects.LAWS:
    raise ValueError(f"`descent.law` has no {settings.law!r}; known: {', '.join(subjects.LAWS)}")
  if not settings.sigmas or not all(sigma > 0 for sigma in settings.sigmas):
    raise ValueError(f"`descent.sigmas` is {settings.sigmas}; want noise levels > 0")
  for field in ("steps", "batch", "record_every"):
    if settings[field] < 1:
      raise ValueError(f"`descent.{field}` is {settings[field]}; want at least 1")
  if settings.record_every > settings.steps:
    raise ValueError(f"`descent.record_every` is {settings.record_every}; there are {settings.steps} steps")
  if settings.steps * settings.batch < 2 * dimension:
    raise ValueError(
      f"`descent.steps` x `descent.batch` is {settings.steps * settings.batch} pairs; an affine map of "
      f"{dimension} pixels needs at least {2 * dimension}"
    )
  if not 1 <= settings.vectors <= dimension:
    raise ValueError(f"`descent.vectors` is {settings.vectors}; want 1 to {dimension}")


def compute(subject: subjects.Subject, settings: ConfigDict, title: str) -> "xarray.Dataset":
  """Descend at the chosen levels, and compare every map on the way with the Gaussian denoiser's."""
  nearest = [edm.nearest(subject.sigmas, sigma) for sigma in settings.sigmas]
  sigmas, images = subject.sigmas[np.unique(nearest)], subject.train
  if settings.law == "held-out":
    images = subject.held_out
  key_descent, key_pairs = jax.random.split(subjects.key(subject, "descent"))
  _, descent = distill.gradient_descent(
    subject.network,
    images,
    sigmas,
    key_descent,
    num_steps=settings.steps,
    batch=settings.batch,
    record_every=settings.record_every,
  )
  least_squares, _ = distill.closed_form(
    subject.network, images, sigmas, key_pairs, num_pairs=settings.steps * settings.batch
  )
  stats = statistics.gaussian_stats(images)
  found: dict[str, list] = {
    name: [] for name in ("weight_gap", "expected_gap", "asymmetry", "singular_values", "gains", "vectors")
  }
  for s, (sigma, best) in enumerate(zip(sigmas, least_squares.weight)):
    path = [each.weight[s] for each in descent.history]
    expected = expected_maps(best, stats, sigma, descent.learning_rate[s], descent.step)
    left, singular_values, _ = scipy.linalg.svd(best.astype(np.float64))
    gains = spectrum.gaussian_gains(subject.stats, sigma)
    found["weight_gap"].append([spectrum.weight_gap(weight, subject.stats, sigma) for weight in path])
    found["expected_gap"].append([spectrum.weight_gap(weight, subject.stats, sigma) for weight in expected])
    found["asymmetry"].append([spectrum.asymmetry(weight) for weight in path])
    found["singular_values"].append(singular_values)
    found["gains"].append(np.pad(gains, (0, len(left) - len(gains))))
    found["vectors"].append(_images(left.T[: settings.vectors], subject.stats))
  compare = list(zip(sigmas, least_squares.weight))
  along, pictures = ("sigma", "step"), subjects.IMAGE
  return results.labelled(
    {name: (along, found[name]) for name in ("weight_gap", "expected_gap", "asymmetry")}
    | {name: (("sigma", "rank"), found[name]) for name in ("singular_values", "gains")}
    | {
      "law": ((), settings.law),
      "learning_rate": ("sigma", descent.learning_rate),
      "best_gap": ("sigma", [spectrum.weight_gap(best, subject.stats, sigma) for sigma, best in compare]),
      "best_asymmetry": ("sigma", [spectrum.asymmetry(best) for _, best in compare]),
      "vectors": (("sigma", "vector", *pictures), found["vectors"]),
      "components": (
        ("component", *pictures),
        _images(subject.stats.basis.T[: settings.vectors], subject.stats),
      ),
    },
    {"sigma": ("sigma", sigmas, subjects.PIXELS), "step": descent.step},
  )


def expected_maps(
  weight: np.ndarray, stats: GaussianStats, sigma: float, rate: float, steps: Sequence[int] | np.ndarray
) -> Iterator[np.ndarray]:
  """Yield the expected maps that `distill.gradient_descent` has found after each of the `steps`.

  Along an eigenvector of the inputs' covariance, eigenvalue λ + σ², the iterate after n steps is
  ``1 − (1 − 2 η (λ + σ²))ⁿ`` times the best map, for any denoiser; its running average likewise.

  Args:
    weight: the best map W [D, D], as least squares finds it.
    stats: of the clean images of the descent, not necessarily of the training set.
    sigma: noise level.
    rate: learning rate η of the descent.
    steps: rising numbers of steps done.
  """
  weight = weight.astype(np.float64)
  decay = 1 - 2 * rate * (np.append(stats.eigenvalues, 0) + sigma**2)  # the last: outside their span
  modes, reached = weight @ stats.basis, np.zeros(len(decay))
  for n in range(1, steps[-1] + 1):
    reached += 4 / (n + 3) * (1 - decay**n - reached)
    if n in steps:
      yield reached[-1] * weight + modes * (reached[:-1] - reached[-1]) @ stats.basis.T


def _images(vectors: ArrayLike, stats: GaussianStats) -> np.ndarray:
  """Return vectors [k, D] as images, each with the sign of the principal component of its place."""
  components = stats.basis.T[: len(vectors)]
  overlap = np.ones(len(vectors))
  overlap[: len(components)] = np.sum(vectors[: len(components)] * components, axis=1)
  return np.where(overlap < 0, -1, 1)[:, None, None, None] * vectors.reshape(-1, *stats.mean.shape)
