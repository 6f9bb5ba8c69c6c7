"""What an analysis looks at: one denoiser under the microscope, its images, and what it is held against."""

import math
import typing
import zlib
from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.tree_util import Partial

from gauss_diffusion import sampling
from gauss_diffusion.denoisers import FAMILIES, affine
from gauss_diffusion.images import to_float
from gauss_diffusion.types import Affine, Array, Denoiser, GaussianStats, Trajectory

if typing.TYPE_CHECKING:
  from gauss_diffusion.results import xarray

NETWORK = "network"  # what every result calls the denoiser under the microscope, whatever it is
# Its best affine maps, as the analysis `distillation` finds them, by the law of their inputs.
LINEAR = {"linear (train)": "train", "linear (held-out)": "held-out"}
DENOISERS = (NETWORK, *LINEAR, *FAMILIES)
LAWS = ("train", "held-out")  # of noisy inputs
IMAGE = ("y", "x", "channel")  # axes of an image
PIXELS = "[-1, 1]"  # the unit of pixels, noise levels and distances per pixel


class Subject(NamedTuple):
  """One denoiser under the microscope; where it came from, no analysis asks."""

  network: Denoiser
  stats: GaussianStats  # of the images
  train: np.ndarray  # [N, H, W, C], the images that it is held against, uint8 pixels or float32
  held_out: np.ndarray  # [M, H, W, C], the same
  sigmas: np.ndarray  # [T] falling: the sampler's levels, at which affine maps exist
  solver: str
  seed: int
  records: dict[str, Any]  # family -> what it was fitted to, of those that the analyses name
  distillation: "xarray.Dataset | None"  # what that analysis found, where an analysis reads it
  pool: GaussianStats | None = None  # of all training images of the study, where an analysis reads it


def denoiser(subject: Subject, name: str) -> Denoiser:
  """Return one of `DENOISERS`: the subject itself, its best affine maps, or a family fitted to its images."""
  if name == NETWORK:
    return subject.network
  if name in LINEAR:
    assert subject.distillation is not None, f"{name!r} needs what the analysis `distillation` found"
    maps = subject.distillation.sel(law=LINEAR[name])
    return Partial(affine.denoise, Affine(*(maps[field].to_numpy() for field in Affine._fields)))
  return Partial(FAMILIES[name].denoise, subject.records[name])


def check_denoisers(field: str, names: Iterable[str], analyses: Iterable[str]) -> None:
  """Refuse no, repeated or unknown denoisers, and linear ones without the analysis that fits them."""
  names = list(names)
  if not names:
    raise ValueError(f"`{field}` is empty; want at least one denoiser of {', '.join(DENOISERS)}")
  if len(set(names)) < len(names):
    raise ValueError(f"`{field}` names a denoiser twice: {', '.join(names)}")
  for name in names:
    if name not in DENOISERS:
      raise ValueError(f"`{field}` has no denoiser {name!r}; known: {', '.join(DENOISERS)}")
    if name in LINEAR and "distillation" not in analyses:
      raise ValueError(f"`{field}` asks for {name!r}, which needs 'distillation' among `analyses`")


def check_directions(field: str, num: int, shape: tuple[int, int, int]) -> None:
  """Refuse no direction, and more than images of a shape have."""
  most = math.prod(shape)
  if not 1 <= num <= most:
    raise ValueError(
      f"`{field}` is {num}; images of {' x '.join(map(str, shape))} have {most} directions: want 1 to {most}"
    )


def noise(subject: Subject, tag: str, num: int) -> np.ndarray:
  """Return unit Gaussian noise [num, H, W, C] that depends on the study's seed and the tag alone.

  Every model and every denoiser of a study sees the same noise.
  """
  shape = (num, *subject.train.shape[1:])
  return np.random.default_rng([subject.seed, *tag.encode()]).standard_normal(shape, np.float32)


def held_out(subject: Subject, num: int) -> np.ndarray:
  """Return the first `num` held-out images as floats in [-1, 1]."""
  return to_float(subject.held_out[:num])


def train(subject: Subject, num: int) -> np.ndarray:
  """Return `num` training images as floats in [-1, 1]; fewer than that are taken again from the first."""
  return to_float(subject.train[np.arange(num) % len(subject.train)])


def components(subject: Subject, num: int) -> np.ndarray:
  """Return which principal components to look at, indices [at most `num`].

  They are spread evenly over the logarithm of their rank, so that both the leading and the faint are seen.
  """
  rank = len(subject.stats.eigenvalues)
  chosen = np.unique(np.geomspace(1, max(rank, 1), num).round().astype(int)) - 1
  return chosen[chosen < rank]


def fitting(subject: Subject, law: str, reserved: int, fits: int) -> list[np.ndarray]:
  """Return the clean images of each of a number of fits on one law of inputs.

  Training images are their own law: each fit has them all. Held-out images are a sample: each fit has a part
  of its own, of those after the first `reserved`, on which maps are evaluated.
  """
  if law == "train":
    return [subject.train] * fits
  return [subject.held_out[reserved + part :: fits] for part in range(fits)]


def sample(subject: Subject, denoise: Denoiser, noise: np.ndarray) -> Trajectory:
  """Run the PF-ODE from each of the latents [n, H, W, C] on the study's grid; fields gain an axis n."""
  return sampling.sample_many(denoise, noise, subject.sigmas, solver=subject.solver, batch=32)


def calls(levels: int, solver: str) -> int:
  """Return how often `sample` calls the denoiser for one latent: Heun corrects every step but the last."""
  return levels if solver == "euler" else 2 * levels - 1


def key(subject: Subject, tag: str) -> Array:
  """Return a key that depends on the study's seed and the tag alone."""
  return jax.random.fold_in(jax.random.key(subject.seed), zlib.crc32(tag.encode()))
