"""On which images is a network distilled? Only held-out ones tell memory from knowledge.

python -m gauss_diffusion.main --config=configs/input_law.py --workdir=runs/input_law
python -m gauss_diffusion.main --config=configs/input_law.py:digits --workdir=runs/input_law_digits

For any law of the data, the best affine fit to its exact posterior mean on noisy *training* images is the
Gaussian denoiser (tower rule): the exact memorizer looks Gaussian there too.

`:digits` takes an estimated seven minutes on two cores, `:cpu` an hour on one. Expect the memorizer's
map to be the Gaussian denoiser when fitted on training images, and far from it on held-out ones. The
network with 1437 digits is no nearer to it than who has learned nothing, since at high noise it is not;
that with 50,000 images of CIFAR-10 at 16 x 16 is, by 0.011, though not at sigma = 4 either.

The full size has not been run yet: an estimated four minutes of one H100 for its three networks, 5 GB of
its memory each, and half an hour or more of 16 cores for a thousand maps of networks and controls.
"""

from ml_collections import ConfigDict

from gauss_diffusion.study import recipes, schema

SIZES = {"": (64, 782, 50_000), "cpu": (64, 782, 50_000), "digits": (16, 64, 1_437), "smoke": (16, 1_437)}


def get_config(arg: str = "") -> ConfigDict:
  """Return the study; `arg` is empty (CIFAR-10), ``cpu``, ``digits`` or ``smoke``."""
  config = recipes.start(arg, "The law of the inputs")
  config.sweep = "size"
  config.analyses = ("input_law", "samples")
  claims = (
    "memorizer looks gaussian",
    "training images flatter the memorizer",
    "memorizing network looks gaussian",
    "held-out images tell",
    "held-out images tell knowledge",
  )
  recipes.judge(config, arg, claims, networks=True)
  if arg == "cpu":
    config.input_law.pairs = 6_144  # eight for each pixel and channel
  for size in SIZES[arg]:
    schema.add_model(config, f"n{size}", size)
  return config
