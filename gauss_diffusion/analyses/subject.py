"""What an analysis looks at: one trained network, the data behind it, and what to hold it against."""

import functools
import zlib
from typing import NamedTuple

import jax
import numpy as np
from jax.tree_util import Partial

from gauss_diffusion import parallel, sampling
from gauss_diffusion.denoisers import affine, gaussian, multi_delta
from gauss_diffusion.images import to_float
from gauss_diffusion.types import Affine, Array, Denoiser, GaussianStats, Trajectory


class Subject(NamedTuple):
  """One trained network under the microscope; shared by all analyses of its model."""

  network: Denoiser  # the EMA parameters, bound
  stats: GaussianStats  # of the training images
  train: np.ndarray  # uint8 [N, H, W, C]
  held_out: np.ndarray  # uint8 [M, H, W, C]
  sigmas: np.ndarray  # [T] falling: the sampler's levels, at which affine maps exist
  solver: str
  seed: int
  distillation: dict | None  # arrays of the analysis of that name, once it has run


def _affine(subject: Subject, law: str) -> Denoiser:
  arrays = subject.distillation
  row = list(arrays["law"]).index(law)
  return Partial(affine.denoise, Affine(arrays["weight"][row], arrays["bias"][row], arrays["sigma"]))


DENOISERS = {
  "network": lambda subject: subject.network,
  "gaussian": lambda subject: Partial(gaussian.denoise, subject.stats),
  "linear (train)": lambda subject: _affine(subject, "train"),
  "linear (held-out)": lambda subject: _affine(subject, "held-out"),
  "multi-delta": lambda subject: Partial(multi_delta.denoise, subject.train),
}


def check_denoisers(field: str, names, analyses) -> None:
  """Refuse unknown denoisers, and linear ones without the analysis that fits them."""
  for name in names:
    if name not in DENOISERS:
      raise ValueError(f"`{field}` has no denoiser {name!r}; known: {', '.join(DENOISERS)}")
    if name.startswith("linear") and "distillation" not in analyses:
      raise ValueError(f"`{field}` asks for {name!r}, which needs 'distillation' among `analyses`")


def noise(subject: Subject, tag: str, num: int) -> np.ndarray:
  """Return unit Gaussian noise [num, H, W, C] that depends on the study's seed and the tag alone.

  Every model and every denoiser of a study sees the same noise.
  """
  shape = (num, *subject.train.shape[1:])
  return np.random.default_rng([subject.seed, *tag.encode()]).standard_normal(shape, np.float32)


def held_out(subject: Subject, num: int) -> np.ndarray:
  """Return the first `num` held-out images as floats in [-1, 1]."""
  return to_float(subject.held_out[:num])


@functools.cache
def _solve(solver: str):
  return lambda shared, noise: sampling.sample(*shared[:1], noise, shared[1], solver=solver)


def sample(subject: Subject, denoise: Denoiser, noise: np.ndarray) -> Trajectory:
  """Run the PF-ODE from each of the latents [n, H, W, C] on the study's grid; fields gain an axis n."""
  return parallel.map_samples(
    _solve(subject.solver), (denoise, subject.sigmas.astype(np.float32)), noise, batch=32
  )


def key(subject: Subject, tag: str) -> Array:
  """Return a key that depends on the study's seed and the tag alone."""
  return jax.random.fold_in(jax.random.key(subject.seed), zlib.crc32(tag.encode()))
