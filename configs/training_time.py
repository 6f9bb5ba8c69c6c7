"""Gaussian first, memorized later: snapshots along one run on few images (Li et al. 2024, fig. 8, 18).

python -m gauss_diffusion.main --config=configs/training_time.py --workdir=runs/training_time
python -m gauss_diffusion.main --config=configs/training_time.py:digits --workdir=runs/training_time_digits

The snapshot with the lowest denoising error on held-out images, ringed in the sweep figure, is the best time
to stop.

`:digits`, five networks of each snapshot and their surrogates, takes half an hour to an hour on two cores,
`:cpu`, without best affine maps, an estimated hour and a half. Expect the best stop at 100 steps on 16
digits, and at 300 on 64 images of CIFAR-10 at 16 x 16; at the end most samples are copies. On CIFAR-10 the
distance to the Gaussian denoiser is least at 600 steps. The full size has not been run yet: an estimated two
minutes of one H100, and again for the surrogates, 5 GB of its memory; an hour or more of 16 cores for the
distillation of 20 snapshots and controls, and 16 GB on disk.
"""

from ml_collections import ConfigDict

from gauss_diffusion.study import recipes, schema

SIZE = {"": 782, "cpu": 64, "digits": 16, "smoke": 16}
STEPS = {
  "": (100, 200, 400, 800, 1_600, 3_200, 6_400),
  "cpu": (75, 150, 300, 600, 1_200, 2_400, 4_800),
  "digits": (25, 50, 100, 200, 400, 800, 1_600),
  "smoke": (10, 20, 40),
}


def get_config(arg: str = "") -> ConfigDict:
  """Return the study; `arg` is empty (CIFAR-10), ``cpu``, ``digits`` or ``smoke``."""
  config = recipes.start(arg, "Training time, on a small training set")
  config.sweep = "time"
  config.analyses = ("distillation", "linearity", "score_gap", "samples", "denoised")
  config.figures = ("sweep",)
  if arg == "cpu":
    recipes.without_maps(config)
  claims = (
    "time turns",
    "time overfits",
    "time memorizes",
  )
  recipes.judge(config, arg, claims, networks=True)
  for steps in STEPS[arg]:
    model = schema.add_model(config, f"s{steps}", SIZE[arg], title=f"{steps} steps")
    model.train.steps = steps
  return config
