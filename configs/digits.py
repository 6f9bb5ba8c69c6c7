"""The paper in minutes: networks on 16 to 1437 handwritten digits, from memorizing to generalizing.

python -m gauss_diffusion.main --config=configs/digits.py --workdir=runs/digits
python -m gauss_diffusion.main --config=configs/digits.py:smoke --workdir=runs/digits_smoke

On two CPU cores: under five minutes with a cold compile cache, the smoke study one. Expect, from 16 to
1437 images: GL score 0.12 to 0.43, memorized share 0.8 to 0, linearity score at sigma = 0.47 from 0.95 to
0.98, RMSE to the Gaussian denoiser there from 0.27 to 0.16.
"""

from ml_collections import ConfigDict

from gauss_diffusion.study import recipes, schema

SIZES = (16, 64, 256, 1437)


def get_config(arg: str = "") -> ConfigDict:
  """Return the study; `arg` is empty or ``smoke``."""
  recipes.check_variant(arg, "smoke")
  config = schema.default()
  config.title = "Handwritten digits: from memorization to the Gaussian"
  config.linearity.levels = 19
  for size in SIZES if arg != "smoke" else (SIZES[0], SIZES[-1]):
    schema.add_model(config, f"n{size}", size)
  if arg == "smoke":
    schema.shrink(config)
  return config
