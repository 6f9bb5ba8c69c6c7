"""A plain denoising autoencoder for each noise level, with no preconditioning (Li et al. 2024, fig. 24).

python -m gauss_diffusion.main --config=configs/one_level.py --workdir=runs/one_level
python -m gauss_diffusion.main --config=configs/one_level.py:digits --workdir=runs/one_level_digits

Each network D = F is trained at one of the sampler's levels, and has a meaning there alone: the study's own
figure shows each at its own level; analyses, and their figures, evaluate it at all levels.
"""

from ml_collections import ConfigDict

from gauss_diffusion import edm
from gauss_diffusion.study import recipes, schema

LEVELS = {"smoke": (1, 3)}  # of the sampler's grid, from the highest
NETWORKS = {"smoke": ("ddpmpp",)}


def get_config(arg: str = "") -> ConfigDict:
  """Return the study; `arg` is empty (CIFAR-10), ``cpu``, ``digits`` or ``smoke``."""
  config = recipes.start(arg, "One network for each noise level")
  config.analyses = ("linearity", "score_gap")
  config.figures = ("one_level",)
  config.network.preconditioning = "none"
  config.score_gap.pairs = (("network", "gaussian"), ("network", "multi-delta"))
  sampler = config.sampler
  config.linearity.levels = sampler.levels
  sigmas = edm.sigma_grid(sampler.levels, sampler.sigma_min, sampler.sigma_max)
  titles = {"ddpmpp": "DDPM++", "skip": "Skip", "dit": "DiT"}
  for name in NETWORKS.get(arg, titles):
    for level in LEVELS.get(arg, (3, 5, 6, 7)):
      sigma = float(sigmas[level])
      title = f"{titles[name]}, σ = {sigma:.2g}"
      model = schema.add_model(config, f"{name}_level{level}", 0, title=title, group=titles[name])
      model.network.name = name
      model.train.sigma_min = model.train.sigma_max = sigma
  return config
