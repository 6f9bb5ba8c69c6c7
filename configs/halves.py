"""How far apart must denoisers of disjoint halves be, and how far apart are networks (Wang et al. 2026)?

python -m gauss_diffusion.main --config=configs/halves.py --workdir=runs/halves
python -m gauss_diffusion.main --config=configs/halves.py:digits --workdir=runs/halves_digits

Pairs of networks on disjoint halves of growing size, from their own seeds, beside the distance that
random-matrix theory predicts for the Gaussian denoisers of such halves, and for their samples.

`:digits` takes an estimated eight minutes on two cores, `:cpu` an hour and a quarter. Expect samples of the
two Gaussian denoisers to lie as far apart as predicted, within 5 %, from 0.71 of unrelated ones at 16 images
to 0.11 at 718; samples of two networks 1.2 to 2.2 times as far.

On CIFAR-10 at 16 x 16 samples of the Gaussian denoisers lie 0.51 apart at 64 images and 0.03 at 25,000, at
most 11 % farther than predicted; those of networks 1.4, 1.2, 3.2 and 5.8 times as far as predicted, and no
less than 0.16. The prediction is one for Gaussian data. Of photographs it holds to 24 % of the squared
distance of two Gaussian denoisers above sigma = 0.12; there, with 6,250 images or more, that is 1.4 times as
large as predicted, and three times at 0.02 and below.
"""

from ml_collections import ConfigDict

from gauss_diffusion.study import recipes, schema

LARGE = (64, 782, 6_250, 25_000)  # of 50,000 images, halved
SIZES = {"": LARGE, "cpu": LARGE, "digits": (16, 45, 128, 256, 718), "smoke": (16, 128)}


def get_config(arg: str = "") -> ConfigDict:
  """Return the study; `arg` is empty (CIFAR-10), ``cpu``, ``digits`` or ``smoke``."""
  config = recipes.start(arg, "Disjoint halves, predicted")
  config.analyses = ("halves", "samples")
  config.figures = ("halves_distance", "agreement")
  config.halves.images = 20 if arg != "smoke" else 16  # pairs differ more than images do
  recipes.judge(config, arg, (), networks=True)
  for size in SIZES[arg]:
    for part in (0, 1):
      title, group = f"halves of {size:,}, {part + 1}", f"halves of {size}"
      model = schema.add_model(config, f"n{size}_{part + 1}", size, part, title=title, group=group)
      model.seed = config.seed + part
  return config
