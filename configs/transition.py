"""Generalization first, copies later, and how much later: sizes times snapshots (Bonnaire et al. 2025).

python -m gauss_diffusion.main --config=configs/transition.py:digits --workdir=runs/transition_digits
"""

from ml_collections import ConfigDict

from gauss_diffusion.study import recipes, schema

SIZES = {
  "": (64, 256, 1_024, 4_096),
  "cpu": (64, 128, 256),
  "digits": (16, 32, 64, 128, 256),
  "smoke": (16, 32),
}
STEPS = {
  "": tuple(100 * 2**i for i in range(9)),
  "cpu": tuple(75 * 2**i for i in range(8)),
  "digits": tuple(2**i for i in range(4, 14)),
  "smoke": (10, 20, 40),
}


def get_config(arg: str = "") -> ConfigDict:
  """Return the study; `arg` is empty (CIFAR-10), ``cpu``, ``digits`` or ``smoke``."""
  config = recipes.start(arg, "Size and time of training")
  config.analyses = ("score_gap", "samples")
  config.score_gap.pairs = (("network", "gaussian"), ("network", "multi-delta"))
  config.train.rampup_images = 0
  if arg != "smoke":
    config.samples.num = 300
  config.samples.denoisers = ("network",)
  config.figures = ("transition",)
  if arg == "digits":
    config.train.batch = 32
    config.train.learning_rate = 2e-3
  for size in SIZES[arg]:
    for steps in (steps for steps in STEPS[arg] if arg != "digits" or steps <= 64 * size):
      model = schema.add_model(config, f"n{size}_s{steps}", size, title=f"N = {size}, {steps:,} steps")
      model.train.steps = steps
  return config
