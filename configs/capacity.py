"""Small networks cannot memorize: one small training set, ever wider networks (Li et al. 2024, fig. 7, 18).

python -m gauss_diffusion.main --config=configs/capacity.py --workdir=runs/capacity
python -m gauss_diffusion.main --config=configs/capacity.py:digits --workdir=runs/capacity_digits

`:digits` takes an estimated six minutes on two cores, `:cpu` an hour. Expect a GL score that falls with
width: from 0.20 to 0.07 on 32 digits, from 0.89 to 0.24 on 64 images of CIFAR-10 at 16 x 16.
"""

from ml_collections import ConfigDict

from gauss_diffusion.study import recipes, schema

SIZE = {"": 782, "cpu": 64, "digits": 32, "smoke": 32}
WIDTHS = {"": (8, 16, 32, 64, 128), "cpu": (4, 8, 16, 32), "digits": (4, 8, 16, 32), "smoke": (4, 8)}
STEPS = {"cpu": 2_400, "digits": 2_000}  # narrow networks take longer to learn what they can


def get_config(arg: str = "") -> ConfigDict:
  """Return the study; `arg` is empty (CIFAR-10), ``cpu``, ``digits`` or ``smoke``."""
  config = recipes.start(arg, "Width, on a small training set")
  config.sweep = "width"
  config.analyses = ("distillation", "linearity", "score_gap", "samples", "denoised")
  config.figures = ("sweep",)
  claims = (
    "width leaves",
    "width memorizes",
  )
  recipes.judge(config, arg, claims)
  config.train.steps = STEPS.get(arg, config.train.steps)
  for width in WIDTHS[arg]:
    model = schema.add_model(config, f"c{width}", SIZE[arg], title=f"{width} channels")
    model.network.model_channels = width
  return config
