"""What the network is made of: how much of it ideal denoisers explain, on noisy images and on trajectories.

Everything is on the scale of the raw network and beside a null that knows the mean alone, see
`probes.explained`. What is kept are inner products, of which `readings.explained` makes shares.
"""

import typing
import zlib

import numpy as np
from ml_collections import ConfigDict
from tqdm import tqdm

from gauss_diffusion import edm, parallel, results
from gauss_diffusion.analyses import subject as subjects
from gauss_diffusion.plots import explained as figure
from gauss_diffusion.probes import explained
from gauss_diffusion.readings import projection

if typing.TYPE_CHECKING:
  from gauss_diffusion.results import xarray

VERSION = 3
DERIVATIVES = False
FIGURE = figure
DEFAULTS = {
  "denoisers": ("gaussian", "kernel", "multi-delta"),
  "images": 64,
  "directions": 32,
}
MEANINGS = {
  "denoisers": "that explain, in the order in which they are drawn",
  "images": "of each law of inputs",
  "directions": "eigenvectors of the training covariance, spread over their rank",
}
OF_HELD_OUT = ("images",)
LAWS = (*subjects.LAWS, "trajectory")  # of the inputs
RAW = "c_out"  # the unit of what a network computes before its preconditioning
MOST = 8  # denoisers: shares are taken over all their subsets


def uses(settings: ConfigDict) -> tuple[str, ...]:
  """Return the denoisers that it evaluates: those that explain, the network, and c_skip x of the null."""
  return tuple(dict.fromkeys([*settings.denoisers, subjects.NETWORK, "skip"]))


def evaluations(settings: ConfigDict, levels: int, solver: str, dimension: int) -> dict[str, int]:
  """Return how many images each denoiser is given."""
  found = dict.fromkeys(uses(settings), len(LAWS) * levels * settings.images)
  found["network"] += settings.images * subjects.calls(levels, solver)
  return found


def check(config: ConfigDict, shape: tuple[int, int, int], num_held_out: int) -> None:
  """Refuse denoisers that explain nothing, too many of them, and too few or too many images."""
  settings = config.explained
  subjects.check_denoisers("explained.denoisers", settings.denoisers, config.analyses)
  if subjects.NETWORK in settings.denoisers:
    raise ValueError("`explained.denoisers` has 'network', which is what they are to explain; leave it out")
  if len(settings.denoisers) > MOST:
    raise ValueError(
      f"`explained.denoisers` has {len(settings.denoisers)}; want at most {MOST}: shares are taken over all "
      "their subsets"
    )
  least = 2 * (len(settings.denoisers) + 1)  # in each half one more than there are coefficients
  if not least <= settings.images <= num_held_out:
    raise ValueError(
      f"`explained.images` is {settings.images}; want at least {least}, of which one half is explained by "
      f"the other, and of {num_held_out} held-out images"
    )
  if settings.directions < 1:
    raise ValueError(f"`explained.directions` is {settings.directions}; want at least 1")


def compute(subject: subjects.Subject, settings: ConfigDict, title: str) -> "xarray.Dataset":
  """Denoise the same inputs by every denoiser; keep their inner products, and what they leave of the network.

  On held-out images `residual` is the network's output less its cross-fitted projection on all ideal
  denoisers; `left` and `said` are the squares of its coordinates along components, and of the output's.

  Noise and held-out images are the same for every network of a study, so that networks can be compared;
  `inputs`, a checksum of both, tells whether they are.
  """
  num = settings.images
  train, held_out = subjects.train(subject, num), subjects.held_out(subject, num)
  noise = subjects.noise(subject, "explained", num)
  names = [*settings.denoisers, subjects.NETWORK]
  denoisers = {name: subjects.denoiser(subject, name) for name in dict.fromkeys([*names, "skip"])}
  latents = subjects.noise(subject, "latents", num)
  visited = np.asarray(subjects.sample(subject, denoisers[subjects.NETWORK], latents).x)
  levels, mean = len(subject.sigmas), np.asarray(subject.stats.mean)
  gram = np.empty((len(LAWS), levels, num, len(names), len(names)))
  outputs = np.empty((len(names), levels, *held_out.shape), np.float32)
  for s, sigma in enumerate(tqdm(subject.sigmas, f"explained, {title}", unit="level", delay=2)):
    scale = edm.precondition(sigma, subject.records["skip"])
    noisy = np.float32(sigma) * noise
    inputs = {"train": train + noisy, "held-out": held_out + noisy, "trajectory": visited[:, s]}
    for law, x in inputs.items():
      denoised = {name: parallel.denoise(denoise, x, sigma) for name, denoise in denoisers.items()}
      fields = np.stack([explained.excess(denoised[name], denoised["skip"], mean, scale) for name in names])
      gram[LAWS.index(law), s] = explained.gram(fields)
      if law == "held-out":
        outputs[:, s] = fields
  residual = projection.residual(outputs, gram[LAWS.index("held-out")])
  chosen = subjects.components(subject, settings.directions)
  basis = np.asarray(subject.stats.basis, np.float64)[:, chosen]

  def along(fields: np.ndarray) -> np.ndarray:  # [S, n, H, W, C] -> [S, K, n]
    return np.square(fields.reshape(*fields.shape[:2], -1) @ basis).swapaxes(1, 2)

  return results.labelled(
    {
      "gram": (("law", "sigma", "image", "denoiser", "other"), np.triu(gram)),  # symmetric: kept once
      "residual": (("sigma", "image", *subjects.IMAGE), residual.astype(np.float32), RAW),
      "left": (("sigma", "direction", "image"), along(residual), f"{RAW}^2"),
      "said": (("sigma", "direction", "image"), along(outputs[-1]), f"{RAW}^2"),
      "eigenvalues": ("direction", subject.stats.eigenvalues[chosen], f"{subjects.PIXELS}^2"),
      "index": ("direction", chosen),
      "inputs": ((), zlib.crc32(held_out.tobytes() + noise.tobytes())),
    },
    {
      "law": list(LAWS),
      "sigma": ("sigma", subject.sigmas, subjects.PIXELS),
      "denoiser": names,
      "other": names,
    },
  )
