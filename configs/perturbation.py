"""Move along the Jacobian's first singular vector at high, middle and low noise (Li et al. 2024, fig. 30).

python -m gauss_diffusion.main --config=configs/perturbation.py --workdir=runs/perturbation
python -m gauss_diffusion.main --config=configs/perturbation.py:digits --workdir=runs/perturbation_digits

`:digits` takes half a minute on two cores. Expect a move at high noise to change the picture, and none at the
lowest noise.
"""

from ml_collections import ConfigDict

from gauss_diffusion.study import recipes, schema


def get_config(arg: str = "") -> ConfigDict:
  """Return the study; `arg` is empty (CIFAR-10), ``cpu``, ``digits`` or ``smoke``."""
  config = recipes.start(arg, "Along a singular vector")
  config.analyses = ("perturbation",)
  claims = (
    "global before detail",
    "push keeps its length",
    "nothing at low noise",
    "singular vectors move more",
  )
  recipes.judge(config, arg, claims)
  schema.add_model(config, "all", 0, title="all images")
  return config
