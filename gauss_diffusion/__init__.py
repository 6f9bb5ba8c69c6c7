"""Ask what a diffusion model has learned: how Gaussian, how linear, how memorized.

What a notebook needs is here; everything is a pure function of arrays::

    import gauss_diffusion as gd
    from jax.tree_util import Partial

    stats = gd.statistics.gaussian_stats(images)         # uint8 or float32 [N, H, W, C]
    gaussian = Partial(gd.denoisers.gaussian.denoise, stats)
    gaussian(x, sigma)                                   # one image [H, W, C]

Where to look:

    data, images     load a data set by name, or latents; take a subset; pixels to [-1, 1] and back
    statistics       mean, eigenbasis and eigenvalues of images, exact
    denoisers        the ideal denoisers (`denoisers.FAMILIES`), any function as a denoiser (`external`)
    parallel         many images at once, over all devices: `parallel.denoise(denoiser, x, sigma)`
    networks         EDM's networks; a trained one as a denoiser
    training         training a network: `training.loop.run`, and the alarm for memorization
    checkpoint       trained networks: `checkpoint.load_ema(workdir, label)`
    edm, sampling    noise levels and preconditionings; from noise to image, `sampling.sample_many`
    probes           what can be asked of a denoiser: linearity, jacobian, score_gap, generalization, ...
    distill          the best affine map of any denoiser
    results          what a study found: `results.open(workdir)`, arrays with named axes
    intervals        bootstrap intervals of per-sample values
    plots            the figures of a report, of results
"""

import importlib
import os
import sys
from types import ModuleType
from typing import TYPE_CHECKING

# OpenBLAS's threads spin for twenty milliseconds after a product, on cores that XLA, or SciPy's own OpenBLAS,
# wants by then: on two cores that made a small least squares fifty times slower. Read as NumPy is imported.
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")

from gauss_diffusion import command_line, interrupts

# Of ``python -m gauss_diffusion.main``, which finds the module while ``-m`` stands in its name's place. The
# imports below take seconds.
if sys.argv[:1] == ["-m"] and any(word.startswith("gauss_diffusion.") for word in sys.orig_argv):
  interrupts.die()
  command_line.use_large_pages()
  command_line.greet()

from gauss_diffusion import (
  data,
  denoisers,
  distill,
  edm,
  images,
  networks,
  parallel,
  probes,
  results,
  sampling,
  statistics,
)
from gauss_diffusion.readings import intervals
from gauss_diffusion.types import Affine, Denoiser, GaussianStats, Trajectory

if TYPE_CHECKING:
  from gauss_diffusion import plots, training
  from gauss_diffusion.training import checkpoint

__version__ = "0.2.0"

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
  "images",
  "intervals",
  "networks",
  "parallel",
  "plots",
  "probes",
  "results",
  "sampling",
  "statistics",
  "training",
]

# Orbax and matplotlib take most of a second to import: these come when they are asked for.
_LATER = {
  "checkpoint": "gauss_diffusion.training.checkpoint",
  "plots": "gauss_diffusion.plots",
  "training": "gauss_diffusion.training",
}


def __getattr__(name: str) -> ModuleType:
  if name not in _LATER:
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
  return importlib.import_module(_LATER[name])


def __dir__() -> list[str]:
  return [*__all__, "__version__"]
