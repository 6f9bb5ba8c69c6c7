"""The paper in minutes: networks on 16 to 1437 handwritten digits, from memorizing to generalizing.

python -m gauss_diffusion.main --config=configs/digits.py --workdir=runs/digits
python -m gauss_diffusion.main --config=configs/digits.py:smoke --workdir=runs/digits_smoke
"""

from gauss_diffusion import study

SIZES = (16, 64, 256, 1437)


def get_config(arg: str = ""):
  """Return the study; `arg` is empty or ``smoke``."""
  config = study.default()
  config.title = "Handwritten digits: from memorization to the Gaussian"
  config.linearity.levels = 19
  for size in SIZES:
    study.add_model(config, f"n{size}", size)
  if arg == "smoke":
    study.shrink(config)
  elif arg:
    raise ValueError(f"`{arg}` is no variant of this config; known: smoke")
  return config
