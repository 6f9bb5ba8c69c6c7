"""What the way from noise to an image looks like from within: directions, uncertainty, likelihood, shortcuts.

python -m gauss_diffusion.main --config=configs/geometry.py --workdir=runs/geometry
python -m gauss_diffusion.main --config=configs/geometry.py:digits --workdir=runs/geometry_digits

The Jacobian's leading directions beside what the network sees there (Kadkhodaie et al. 2024, fig. 5), the
uncertainty that it states beside the error that it makes, how much likelier it finds images that it was
trained on than others, and how late sampling may start from the Gaussian solution (Wang & Vastola 2024). The
networks are watched while they train: where the alarm for memorization is raised is marked in their curves.

`:digits` takes five minutes on two cores, `:cpu` half an hour. Expect, of 10 calls of the network, 2, 5, 3
to be saved at 16, 256 and 1437 digits; training images 2.8 bits per dimension likelier than others at
sigma = 0.1 with 16 images, and no likelier with 1437; posterior variances that are the errors' up to
sigma = 2 with 256 images or more, and a fifth of them with 16, where the alarm is raised at 160 steps. On
CIFAR-10 at 16 x 16 with 64, 782 and 50,000 images 2, 1 and 1 are saved; training images are 1.7 bits
likelier, and no likelier with 782 or more; variances are the errors' up to sigma = 0.5 with 782 or more;
with 64 the alarm is raised at 600 steps, 500 before a copy is drawn.

That a start is of equal quality when it adds at most 5 % to the error was chosen with these digits in sight.
Nine networks on CIFAR-10 at 16 x 16 that had not been looked at, three each of 64, 782 and 50,000 images,
save 0 to 4 calls of 10 by it, 1.4 on average; 0.7 at 2 %, 2.8 at 10 %.
"""

from ml_collections import ConfigDict

from gauss_diffusion.study import recipes, schema

SIZES = {"digits": (16, 256, 1_437), "cpu": (64, 782, 50_000), "smoke": (16, 1_437)}
CIFAR_SIZES = (64, 782, 50_000)
ALARM_EVERY = {"": 500, "cpu": 100, "digits": 20, "smoke": 10}  # steps


def get_config(arg: str = "") -> ConfigDict:
  """Return the study; `arg` is empty (CIFAR-10), ``cpu``, ``digits`` or ``smoke``."""
  config = recipes.start(arg, "The way from noise to an image, from within")
  config.sweep = "size"
  config.analyses = ("samples", "teleportation", "likelihood", "modes", "calibration")
  config.train.alarm_every = ALARM_EVERY[arg]
  for size in SIZES.get(arg, CIFAR_SIZES):
    schema.add_model(config, f"n{size}", size)
  return config
