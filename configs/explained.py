"""What is a network made of? Gaussian, kernel and memorizer, what networks share beyond them, and the rest.

python -m gauss_diffusion.main --config=configs/explained.py --workdir=runs/explained
python -m gauss_diffusion.main --config=configs/explained.py:digits --workdir=runs/explained_digits

What networks of one recipe have in common takes several of them to tell: other seeds, on other images where
the pool has more.

`:digits` is ten minutes of one core, most of it the training of 15 networks. Expect, at sigma = 0.47 on
held-out images, the ideal denoisers to explain 0.76, 0.74 and 0.77 of the output at 16, 256 and 1437 digits,
and what networks share beyond them to rise from 0.03 to 0.19 and 0.21, what each has alone to fall from 0.22
to 0.08 and 0.02. On noisy training images 16 digits explain 0.98. At high noise networks say little, and most
of that is a common error. The full size and `:cpu` have not been run yet.
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
  config.analyses = ("explained",)
  config.replicates = REPLICATES.get(arg, 3)
  if arg == "digits":
    config.explained.images = 180  # small ones: the more, the less the images' own scatter
  for size in SIZES.get(arg, CIFAR_SIZES):
    schema.add_model(config, f"n{size}", size)
  return config
