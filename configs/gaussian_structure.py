"""One well-trained network, its best affine map, the Gaussian (Li et al. 2024, fig. 2-4, 10, 14-17, 25, 27).

python -m gauss_diffusion.main --config=configs/gaussian_structure.py --workdir=runs/structure
python -m gauss_diffusion.main --config=configs/gaussian_structure.py:digits --workdir=runs/structure_digits

`:digits` takes an estimated eight minutes on two cores, `:cpu` an hour on one. Expect, on CIFAR-10 at
16 x 16, a lowest linearity score of 0.971, and a best affine map that replaces the network at high and at low
noise, as it does whoever has learned nothing; at the worst middle level it covers 0.69 of the network's
distance from these, on digits 0.28. Its weights are the Gaussian denoiser's to 20 % up to sigma = 4. Beyond,
where training draws few noise levels, they are not, nor are those of the surrogate, whose answer they are.

The full size, 20 million images, has not been run yet: an estimated 10 minutes of one H100 that other
networks share, and again for the surrogate, 5 GB of its memory each; half an hour or more of 16 cores for
the distillation of nine networks and controls, and 7 GB on disk.
"""

import numpy as np
from ml_collections import ConfigDict

from gauss_diffusion.study import recipes, schema


def get_config(arg: str = "") -> ConfigDict:
  """Return the study; `arg` is empty (CIFAR-10), ``cpu``, ``digits`` or ``smoke``."""
  config = recipes.start(arg, "The hidden Gaussian structure")
  config.analyses = (*config.analyses, "descent", "denoised")
  claims = (
    "linear everywhere",
    "linear in the middle",
    "even weights are worst",
    "linear at high noise",
    "linear knows high noise",
    "linear at low noise",
    "linear knows low noise",
    "linear is gaussian",
    "linear, not gaussian",
    "generalizer",
    "nearest to gaussian",
    "low-noise floor",
    "low noise is learned",
    "identity",
  )
  recipes.judge(config, arg, claims)
  if arg == "":
    config.train.steps = 39_000  # 20 million images
  if arg == "digits":
    config.train.steps = 4_000
    config.distillation.pairs = 8_192  # weights are compared one by one
  if arg == "cpu":
    config.train.steps = 6_000
    config.data.held_out = 10_000
    config.distillation.pairs = 24_576
  if arg != "smoke":
    config.linearity.levels = 40
    config.linearity.alpha2 = tuple(np.linspace(0.99, 0.5, 5).round(4).tolist())
  schema.add_model(config, "all", 0, title="all images")
  return config
