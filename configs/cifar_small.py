"""CIFAR-10 with small networks: one that can memorize its images, one that has to generalize.

    python -m gauss_diffusion.main --config=configs/cifar_small.py --workdir=runs/cifar
    python -m gauss_diffusion.main --config=configs/cifar_small.py:cpu --workdir=runs/cifar_cpu

`--config.data.dir=DIR` points at a prepared TFDS directory where the data cannot be downloaded. The
first command wants a GPU; `:cpu` works on 16 x 16 pixels and smaller networks.

The recipe is that of `configs/dataset_size.py`, of whose sizes these are two. `:cpu` takes about 20 minutes
on two cores. Expect what `results/exploratory/dataset_size/cifar10_16` has for 64 and 50,000 images of the
JPEG copy: GL score 0.44 and 0.71, linearity score at sigma = 0.47 0.89 and 0.99, RMSE to the Gaussian
denoiser there 0.23 and 0.06. The full size has not been run yet: no numbers to expect. Estimated for one
H100: 5 GB of its memory for each network, three minutes of training for both, and then ten minutes or more
with 16 cores, of which the distillation takes nearly all; 1.7 GB on disk.
"""

from ml_collections import ConfigDict

from gauss_diffusion.study import recipes, schema

SIZES = {"": (782, 50_000), "cpu": (64, 50_000), "smoke": (16, 1_437)}


def get_config(arg: str = "") -> ConfigDict:
  """Return the study; `arg` is empty (a GPU), ``cpu`` (two cores) or ``smoke`` (digits)."""
  recipes.check_variant(arg, "cpu", "smoke")
  config = recipes.start(arg, "From memorization to the Gaussian")
  if arg != "smoke":
    config.linearity.levels = 19
  for size in SIZES[arg]:
    schema.add_model(config, f"n{size}", size)
  return config
