"""From memorizing to generalizing: one recipe on ever more images (Li et al. 2024, fig. 1, 5, 6, 13, 16).

python -m gauss_diffusion.main --config=configs/dataset_size.py --workdir=runs/dataset_size
python -m gauss_diffusion.main --config=configs/dataset_size.py:digits --workdir=runs/dataset_size_digits

`:digits` takes about an hour on two cores: five networks of each size, as many untrained ones and surrogates,
and the other controls; `:cpu`, without best affine maps, two and a half beside other work. Expect, from 16 to
1437 digits, GL scores of 0.13 to 0.44, copies at 16 and 32 alone, and linearity score and distance to the
Gaussian denoiser in perfect rank order; on CIFAR-10 at 16 x 16 copies at 64 images alone, linearity scores of
0.87 to 0.98, and 0.02 of gain over the Gaussian at 50,000. The full size has not been run to its
end yet: an estimated 7 minutes of one H100 for the training of its networks, 5 GB of its memory each, and as
long again for the surrogates; then hours of 16 cores for the distillation of 48 networks and controls, and 37
GB on disk. `launch/gpu_studies.py` begins with what takes minutes.
"""

import numpy as np
from ml_collections import ConfigDict

from gauss_diffusion.study import recipes, schema

SIZES = {"digits": (16, 32, 64, 256, 1_437), "cpu": (64, 782, 50_000), "smoke": (16, 1_437)}
CIFAR_SIZES = (64, 256, 782, 3_125, 12_500, 50_000)


def get_config(arg: str = "") -> ConfigDict:
  """Return the study; `arg` is empty (CIFAR-10), ``cpu``, ``digits`` or ``smoke``."""
  config = recipes.start(arg, "From memorization to the Gaussian")
  config.sweep = "size"
  config.figures = ("sweep",)
  claims: tuple[str, ...] = (
    "linearity rises",
    "gl rises",
    "gl and linearity",
    "gap falls",
    "lead grows",
    "memorizer",
    "generalizer",
    "nearest to gaussian",
    "beyond gaussian",
    "beyond undertraining",
    "low-noise floor",
    "low noise is learned",
  )
  if arg == "cpu":
    recipes.without_maps(config)
  else:
    claims += ("weights", "subspaces")
    claims += ("linearity outgrows memory",)  # of 50,000 images the memorizer's would take 21 minutes
  recipes.judge(config, arg, claims, networks=True)
  if arg != "smoke":
    config.linearity.levels = 40
    config.linearity.alpha2 = tuple(np.linspace(0.99, 0.5, 5).round(4).tolist())
  for size in SIZES.get(arg, CIFAR_SIZES):
    schema.add_model(config, f"n{size}", size)
  return config
