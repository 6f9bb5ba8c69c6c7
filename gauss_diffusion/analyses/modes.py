"""Where the network's Jacobian acts most, on the way from noise to image (Li et al. 2024, fig. 28-29)."""

import typing

import numpy as np
from ml_collections import ConfigDict
from tqdm import tqdm

from gauss_diffusion import results
from gauss_diffusion.analyses import subject as subjects
from gauss_diffusion.plots import modes as figure
from gauss_diffusion.probes import modes

if typing.TYPE_CHECKING:
  from gauss_diffusion.results import xarray

VERSION = 1
DERIVATIVES = True
FIGURE = figure
DEFAULTS = {"latents": 8, "vectors": 8, "iterations": 4}


def uses(settings: ConfigDict) -> tuple[str, ...]:
  """Return the denoisers that it evaluates."""
  return ("network",)


def evaluations(settings: ConfigDict, levels: int, solver: str, dimension: int) -> dict[str, int]:
  """Return how many images each denoiser is given; a product with its Jacobian counts 2, a transposed 3."""
  block = settings.vectors + modes.OVERSAMPLING
  pushes, pulls = (settings.iterations + 1) * block, settings.iterations * block
  if dimension <= pushes + pulls:  # the whole Jacobian is as cheap
    pushes, pulls = dimension, 0
  return {"network": settings.latents * (subjects.calls(levels, solver) + levels * (2 * pushes + 3 * pulls))}


def check(config: ConfigDict, shape: tuple[int, int, int], num_held_out: int) -> None:
  """Refuse counts of which there must be at least one, and more vectors than dimensions."""
  settings, dimension = config.modes, int(np.prod(shape))
  for field in ("latents", "iterations"):
    if settings[field] < 1:
      raise ValueError(f"`modes.{field}` is {settings[field]}; want at least 1")
  if not 1 <= settings.vectors <= dimension:
    raise ValueError(f"`modes.vectors` is {settings.vectors}; want 1 to {dimension}")


def compute(subject: subjects.Subject, settings: ConfigDict, title: str) -> "xarray.Dataset":
  """Compare the leading singular vectors at each state x_t of the PF-ODE with the principal components.

  With u_1 ... u_k the first left singular vectors of the Jacobian at one state and p_1 ... p_k the first
  eigenvectors of the training covariance, `correlation` is |⟨u_i, p_j⟩|, and `alignment` the share of the
  former's span that lies in the latter's, ``Σ_ij ⟨u_i, p_j⟩² / k``: 1 for the Gaussian denoiser, `chance` for
  k random directions. A training covariance of rank below k has zeros in place of components.
  """
  k = settings.vectors
  noise = subjects.noise(subject, "latents", settings.latents)
  x = np.asarray(subjects.sample(subject, subject.network, noise).x)
  components = np.zeros((k, noise[0].size))
  found = subject.stats.basis.T[:k]
  components[: len(found)] = found

  values, overlaps, vectors = [], [], []
  for t, sigma in enumerate(tqdm(subject.sigmas, f"modes, {title}", unit="level", delay=2)):
    at = modes.singular_vectors(
      subject.network, x[:, t], sigma, k, iterations=settings.iterations, seed=subject.seed
    )
    values.append(at.values)
    overlaps.append(np.abs(at.left @ components.T))
    vectors.append(at.left[0].reshape(k, *noise.shape[1:]))
  correlation = np.stack(overlaps)
  return results.labelled(
    {
      "values": (("sigma", "latent", "vector"), values),
      "correlation": (("sigma", "latent", "vector", "component"), correlation),
      "alignment": (("sigma", "latent"), np.mean(np.sum(correlation**2, axis=-1), axis=-1)),
      "chance": ((), len(found) / noise[0].size),
      # Of the first latent.
      "vectors": (("sigma", "vector", *subjects.IMAGE), np.stack(vectors).astype(np.float32)),
      "components": (
        ("component", *subjects.IMAGE),
        components.reshape(k, *noise.shape[1:]).astype(np.float32),
      ),
    },
    {
      "sigma": ("sigma", subject.sigmas, subjects.PIXELS),
      "vector": np.arange(1, k + 1),
      "component": np.arange(1, k + 1),
    },
  )
