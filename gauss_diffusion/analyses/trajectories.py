"""The same noise, denoised step by step by each denoiser (Li et al. 2024, fig. 2 right, fig. 3)."""

import typing

from ml_collections import ConfigDict
from tqdm import tqdm

from gauss_diffusion import results
from gauss_diffusion.analyses import subject as subjects
from gauss_diffusion.plots import trajectories as figure

if typing.TYPE_CHECKING:
  from gauss_diffusion.results import xarray

VERSION = 1
DERIVATIVES = False
FIGURE = figure
DEFAULTS = {"latents": 4, "denoisers": ("network", "gaussian", "linear (held-out)", "multi-delta")}
MEANINGS = {
  "latents": "from which sampling starts",
  "denoisers": "that are sampled",
}


def uses(settings: ConfigDict) -> tuple[str, ...]:
  """Return the denoisers that it evaluates."""
  return tuple(settings.denoisers)


def evaluations(settings: ConfigDict, levels: int, solver: str, dimension: int) -> dict[str, int]:
  """Return how many images each denoiser is given."""
  return dict.fromkeys(settings.denoisers, settings.latents * subjects.calls(levels, solver))


def check(config: ConfigDict, shape: tuple[int, int, int], num_held_out: int) -> None:
  """Refuse unknown denoisers and a request for no trajectory."""
  settings = config.trajectories
  subjects.check_denoisers("trajectories.denoisers", settings.denoisers, config.analyses)
  if settings.latents < 1:
    raise ValueError(f"`trajectories.latents` is {settings.latents}; want at least 1")


def compute(subject: subjects.Subject, settings: ConfigDict, title: str) -> "xarray.Dataset":
  """Run the PF-ODE from shared latents under every denoiser."""
  noise = subjects.noise(subject, "latents", settings.latents)
  bar = tqdm(settings.denoisers, f"trajectories, {title}", unit="denoiser", delay=2)
  runs = [subjects.sample(subject, subjects.denoiser(subject, name), noise) for name in bar]
  path = ("denoiser", "latent", "state", *subjects.IMAGE)
  return results.labelled(
    {
      "x": (path, [run.x for run in runs], subjects.PIXELS),
      "denoised": (
        ("denoiser", "latent", "sigma", *subjects.IMAGE),
        [run.denoised for run in runs],
        subjects.PIXELS,
      ),
      "state_sigma": ("state", runs[0].sigma[0], subjects.PIXELS),
    },
    {"denoiser": list(settings.denoisers), "sigma": ("sigma", subject.sigmas, subjects.PIXELS)},
  )
