"""Generalization first, copies later, and how much later: sizes times snapshots (Bonnaire et al. 2025).

python -m gauss_diffusion.main --config=configs/transition.py:digits --workdir=runs/transition_digits

The snapshots of a size are one run at a constant learning rate. Its moving average forgets half in the last
tenth of the steps or faster, which shifts a time by less than the factor of two between snapshots. The alarm
for memorization looks on: how early it is raised, and whether it is where nothing is copied.

`:digits` makes 12 thousand steps; with its analyses it takes a quarter to half an hour on two cores. Expect
copies from 133, 267, 565 and 1,722 steps on at 16, 32, 64 and 128 digits, none at 256 in 4,096 steps, and the
error near its best at 61, 74, 118, 156 and 226.

`:cpu`, 29 thousand steps, takes an hour with other work. Expect copies from 610, 1,240 and 3,390 steps on at
64, 128 and 256 images of CIFAR-10 at 16 x 16, as N^1.24, and the error near its best at 140, 180 and 240, as
N^0.40. The full size has not been run to its end.
"""

from ml_collections import ConfigDict

from gauss_diffusion.study import recipes, schema

SIZES = {
  "": (64, 256, 1_024, 4_096),
  "cpu": (64, 128, 256),
  "digits": (16, 32, 64, 128, 256),
  "smoke": (16, 32),
}
ALARM_EVERY = {"": 100, "cpu": 100, "digits": 40, "smoke": 10}  # steps
STEPS = {
  "": tuple(100 * 2**i for i in range(9)),
  "cpu": tuple(75 * 2**i for i in range(8)),
  "digits": tuple(2**i for i in range(4, 13)),
  "smoke": (10, 20, 40),
}


def get_config(arg: str = "") -> ConfigDict:
  """Return the study; `arg` is empty (CIFAR-10), ``cpu``, ``digits`` or ``smoke``."""
  config = recipes.start(arg, "Size and time of training")
  config.analyses = ("score_gap", "samples")
  config.score_gap.pairs = (("network", "gaussian"), ("network", "multi-delta"))
  config.train.rampup_images = 0
  config.train.alarm_every = ALARM_EVERY[arg]
  if arg != "smoke":
    config.samples.num = 300
  config.samples.denoisers = ("network",)
  config.figures = ("transition",)
  recipes.judge(config, arg, ("copies wait",))
  if arg == "digits":
    config.train.batch = 32
    config.train.learning_rate = 2e-3
  for size in SIZES[arg]:
    for steps in STEPS[arg]:
      if arg == "digits" and steps > 32 * size:
        break  # it copies by then
      model = schema.add_model(config, f"n{size}_s{steps}", size, title=f"N = {size}, {steps:,} steps")
      model.train.steps = steps
  return config
