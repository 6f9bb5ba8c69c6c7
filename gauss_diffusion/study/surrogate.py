"""Images that are Gaussian: draws from the law whose optimal denoiser is known to be the Gaussian one."""

import numpy as np
from jaxtyping import Float

from gauss_diffusion.types import GaussianStats

DRAWS = 2**15  # to train on: the networks of the studies see each a few times at most, and memorize none


def draw(stats: GaussianStats, num: int, seed: int) -> Float[np.ndarray, "{num} H W C"]:
  """Return draws from N(μ, Σ), ``μ + U √Λ z`` with z ~ N(0, I), on the scale of the images.

  They are floats, and may lie outside [-1, 1]: clipped or rounded to pixels they were not Gaussian.

  Args:
    stats: mean and covariance.
    num: how many.
    seed: of the draws.
  """
  noise = np.random.default_rng(seed).standard_normal((num, len(stats.eigenvalues)), np.float32)
  directions = (stats.basis * np.sqrt(stats.eigenvalues)).T.astype(np.float32)
  return (noise @ directions).reshape(num, *stats.mean.shape) + stats.mean.astype(np.float32)
