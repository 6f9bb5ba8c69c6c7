"""The same noise, denoised step by step by each denoiser (Li et al. 2024, fig. 2 right, fig. 3)."""

import numpy as np
from tqdm import tqdm

from gauss_diffusion.analyses import subject as subjects

DEFAULTS = {"latents": 4, "denoisers": ("network", "gaussian", "linear (held-out)", "multi-delta")}


def check(config, shape, num_held_out: int) -> None:
  """Refuse unknown denoisers and a request for no trajectory."""
  settings = config.trajectories
  subjects.check_denoisers("trajectories.denoisers", settings.denoisers, config.analyses)
  if settings.latents < 1:
    raise ValueError(f"`trajectories.latents` is {settings.latents}; want at least 1")


def compute(subject: subjects.Subject, settings, title: str) -> dict[str, np.ndarray]:
  """Run the PF-ODE from shared latents under every denoiser."""
  noise = subjects.noise(subject, "latents", settings.latents)
  bar = tqdm(settings.denoisers, f"trajectories, {title}", unit="denoiser", delay=2)
  runs = [subjects.sample(subject, subjects.DENOISERS[name](subject), noise) for name in bar]
  return {
    "sigma": runs[0].sigma[0],
    "denoiser": np.array(settings.denoisers),
    "x": np.stack([run.x for run in runs]),
    "denoised": np.stack([run.denoised for run in runs]),
  }
