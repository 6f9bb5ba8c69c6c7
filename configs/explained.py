"""What is a network made of? Ideal denoisers, what networks share beyond them, and what each has alone.

python -m gauss_diffusion.main --config=configs/explained.py --workdir=runs/explained
python -m gauss_diffusion.main --config=configs/explained.py:digits --workdir=runs/explained_digits

The denoisers: one Gaussian, one for each class, a mixture found by expectation-maximisation, every pixel from
its window (LS), and the memorizer. What networks of one recipe have in common takes several of them to tell:
other seeds, on other images where the pool has more. What each of them draws from the same noise stands below
the network's samples.

`:digits` takes an estimated four minutes on two cores, half of it the training of 15 networks. Expect, at
sigma = 0.47 on held-out images, the ideal denoisers to explain 0.77, 0.83 and 0.87 of the output at 16, 256
and 1437 digits, with the classes' and the memorizer's shares the largest at 16 and the windows' at 1437; what
networks share beyond them to rise from 0.02 to 0.10 and 0.11, and what each has alone to fall from 0.21 to
0.07 and 0.02. At high noise networks say little, and most of that they share.

`:cpu` is two hours on two cores: there ideal denoisers explain 0.73, 0.94 and 0.96 at 64, 782 and 50,000
images; at the largest Gaussian, classes, mixture and windows a fifth each, and networks alone 0.24 at the
smallest and 0.01 at the largest. The full size has not been run yet.
"""

from ml_collections import ConfigDict

from gauss_diffusion.study import recipes, schema

SIZES = {"digits": (16, 256, 1_437), "smoke": (16, 1_437)}
CIFAR_SIZES = (64, 782, 50_000)
REPLICATES = {"": 5, "digits": 5}  # of the others, as few as the study can do with


def get_config(arg: str = "") -> ConfigDict:
  """Return the study; `arg` is empty (CIFAR-10), ``cpu``, ``digits`` or ``smoke``."""
  config = recipes.start(arg, "What is a network made of?")
  config.sweep = "size"
  config.analyses = ("explained", "samples")
  config.explained.denoisers = ("gaussian", "class_mixture", "mixture", "ls", "multi-delta")
  config.samples.denoisers = ("network", *config.explained.denoisers)
  config.replicates = REPLICATES.get(arg, 3)
  if arg == "digits":
    config.explained.images = 48  # of every one of 15 networks the residual is kept
  for size in SIZES.get(arg, CIFAR_SIZES):
    schema.add_model(config, f"n{size}", size)
  return config
