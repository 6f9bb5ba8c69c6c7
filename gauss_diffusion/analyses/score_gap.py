"""How far the network is from each denoiser it is held against (Li et al. 2024, eq. 10 and 53)."""

import numpy as np
from tqdm import tqdm

from gauss_diffusion import parallel
from gauss_diffusion.analyses import subject as subjects
from gauss_diffusion.images import to_float
from gauss_diffusion.probes import score_gap

DEFAULTS = {
  "images": 100,
  "pairs": (
    ("network", "gaussian"),
    ("network", "linear (train)"),
    ("network", "linear (held-out)"),
    ("network", "multi-delta"),
    ("linear (held-out)", "gaussian"),
  ),
}
LAWS = ("train", "held-out")


def check(config, shape, num_held_out: int) -> None:
  """Refuse unknown denoisers and more images than are kept apart."""
  settings = config.score_gap
  names = [name for pair in settings.pairs for name in pair]
  subjects.check_denoisers("score_gap.pairs", names, config.analyses)
  if not 1 <= settings.images <= num_held_out:
    raise ValueError(f"`score_gap.images` is {settings.images}; there are {num_held_out} held-out images")


def compute(subject: subjects.Subject, settings, title: str) -> dict[str, np.ndarray]:
  """Denoise the same noisy images by every denoiser, level by level, and take the gaps of the pairs.

  `error` is the network's RMSE to the clean images.
  """
  num = settings.images
  # A training set smaller than `num` is cycled: each image again, under another noise.
  train = to_float(np.resize(subject.train, (num, *subject.train.shape[1:])))
  laws = dict(zip(LAWS, (train, subjects.held_out(subject, num))))
  noise = subjects.noise(subject, "score gap", num)
  names = dict.fromkeys(["network", *(name for pair in settings.pairs for name in pair)])
  denoisers = {name: subjects.DENOISERS[name](subject) for name in names}
  error = np.empty((len(LAWS), len(subject.sigmas), num), np.float32)
  rmse, nmse = np.empty((2, len(LAWS), len(settings.pairs), len(subject.sigmas), num), np.float32)
  for s, sigma in enumerate(tqdm(subject.sigmas, f"score gap, {title}", unit="level", delay=2)):
    for i, images in enumerate(laws.values()):
      x = images + np.float32(sigma) * noise
      outputs = {name: parallel.denoise(denoise, x, sigma) for name, denoise in denoisers.items()}
      error[i, s] = score_gap.rmse(outputs["network"], images)
      for q, (one, two) in enumerate(settings.pairs):
        rmse[i, q, s] = score_gap.rmse(outputs[one], outputs[two])
        nmse[i, q, s] = score_gap.nmse(outputs[one], outputs[two])
  return {
    "sigma": subject.sigmas,
    "law": np.array(LAWS),
    "pair": np.array([" / ".join(pair) for pair in settings.pairs]),
    "rmse": rmse,
    "nmse": nmse,
    "error": error,
    "floor": score_gap.low_noise_floor(subject.stats, laws["held-out"]),
  }
