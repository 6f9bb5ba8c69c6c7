"""Ask what a diffusion model has learned: how Gaussian, how linear, how memorized.

What a notebook needs is here; everything is a pure function of arrays::

    import gauss_diffusion as gd
    from jax.tree_util import Partial

    stats = gd.statistics.gaussian_stats(images)         # uint8 [N, H, W, C]
    gaussian = Partial(gd.denoisers.gaussian.denoise, stats)
    gaussian(x, sigma)                                   # one image [H, W, C]
"""

from gauss_diffusion import data, denoisers, distill, edm, networks, probes, sampling, statistics
from gauss_diffusion.training import checkpoint
from gauss_diffusion.types import Affine, Denoiser, GaussianStats, Trajectory

__all__ = [
  "Affine",
  "Denoiser",
  "GaussianStats",
  "Trajectory",
  "checkpoint",
  "data",
  "denoisers",
  "distill",
  "edm",
  "networks",
  "probes",
  "sampling",
  "statistics",
]
