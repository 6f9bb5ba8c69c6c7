"""Where the network's Jacobian acts most, on the way from noise to image (Li et al. 2024, fig. 28-29).

The basis in which a denoiser shrinks its input, and how much it keeps of each direction, are what Kadkhodaie
et al. 2024 (fig. 5) look at: in networks that generalize, waves that follow the shapes of the one image.
"""

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

VERSION = 2
DERIVATIVES = True
FIGURE = figure
DEFAULTS = {"latents": 8, "vectors": 8, "iterations": 4}
MEANINGS = {
  "latents": "from which sampling starts",
  "vectors": "leading singular vectors of the Jacobian",
  "iterations": "of randomised subspace iteration",
}


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
  k random directions. A training covariance of rank below k has zeros in place of components. `values` is the
  share of each direction that the denoiser keeps, `gaussian_values` that of a component under the Gaussian
  denoiser, ``λ/(λ + σ²)``; `estimates` are what the network sees in the states whose vectors are kept.
  """
  k = settings.vectors
  noise = subjects.noise(subject, "latents", settings.latents)
  way = subjects.sample(subject, subject.network, noise)
  x = np.asarray(way.x)
  components, variances = np.zeros((k, noise[0].size)), np.zeros(k)
  found = subject.stats.basis.T[:k]
  components[: len(found)], variances[: len(found)] = found, subject.stats.eigenvalues[:k]

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
      "gaussian_values": (("sigma", "component"), variances / (variances + subject.sigmas[:, None] ** 2)),
      "correlation": (("sigma", "latent", "vector", "component"), correlation),
      "alignment": (("sigma", "latent"), np.mean(np.sum(correlation**2, axis=-1), axis=-1)),
      "chance": ((), len(found) / noise[0].size),
      # Of the first latent.
      "estimates": (("sigma", *subjects.IMAGE), np.asarray(way.denoised)[0], subjects.PIXELS),
      "vectors": (("sigma", "vector", *subjects.IMAGE), np.stack(vectors).astype(np.float32)),
      "mean": (subjects.IMAGE, np.asarray(subject.stats.mean, np.float32), subjects.PIXELS),
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
