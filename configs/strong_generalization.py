"""Do networks that share no training image draw the same pictures (Li et al. 2024, fig. 9, 26)?

python -m gauss_diffusion.main --config=configs/strong_generalization.py --workdir=runs/strong
python -m gauss_diffusion.main --config=configs/strong_generalization.py:digits --workdir=runs/strong_digits

Pairs of networks on disjoint halves, from their own seeds: large halves; small halves; small halves stopped
early; small halves with a narrow network.

`:digits`, five pairs of each, takes an estimated six minutes on two cores. Expect distances between the two
networks' samples of 0.24 (large halves), 0.85 (small), 0.56 (stopped early) and 0.81 (narrow). The full size
has not been run yet: an estimated 7 minutes of one H100, 5 GB of its memory for each network.
"""

from ml_collections import ConfigDict

from gauss_diffusion.study import recipes, schema

LARGE = {"": 25_000, "cpu": 25_000, "digits": 718, "smoke": 718}
SMALL = {"": 256, "cpu": 64, "digits": 16, "smoke": 16}
EARLY = {"": 600, "cpu": 150, "digits": 100, "smoke": 20}  # steps
NARROW = {"": 8, "cpu": 4, "digits": 4, "smoke": 4}  # channels


def get_config(arg: str = "") -> ConfigDict:
  """Return the study; `arg` is empty (CIFAR-10), ``cpu``, ``digits`` or ``smoke``."""
  config = recipes.start(arg, "Disjoint halves, same noise")
  config.analyses = ("score_gap", "samples")
  config.score_gap.pairs = (("network", "gaussian"), ("network", "multi-delta"))
  config.figures = ("agreement",)
  claims = (
    "halves agree",
    "gaussians agree",
    "gaussians agree, networks copy",
    "networks are gaussian",
    "networks are nearly gaussian",
    "stopping helps",
    "stopping helps both",
    "narrowing helps",
    "narrowing helps both",
  )
  recipes.judge(config, arg, claims, networks=True)
  large, small = LARGE[arg], SMALL[arg]
  groups = {
    "large": (large, f"halves of {large:,}"),
    "small": (small, f"halves of {small}"),
    "stopped": (small, f"halves of {small}, {EARLY[arg]} steps"),
    "narrow": (small, f"halves of {small}, {NARROW[arg]} channels"),
  }
  for group, (size, title) in groups.items():
    for part in (0, 1):
      label = f"{group}{part + 1}"
      model = schema.add_model(config, label, size, part, title=f"{title}, {part + 1}", group=group)
      model.seed = config.seed + part
      if group == "stopped":
        model.train.steps = EARLY[arg]
      if group == "narrow":
        model.network.model_channels = NARROW[arg]
  return config
