"""The paper's networks on CIFAR-10 at full size: from 782 images to 50,000 (Li et al. 2024, fig. 12, 13, 27).

python -m gauss_diffusion.main --config=configs/cifar10_paper.py --config.data.dir=DIR --workdir=runs/cifar

`DIR` is a prepared TFDS directory. The recipe is that of EDM for this data: DDPM++ of 56 million parameters,
batches of 512, dropout 0.13, augmentation with probability 0.12; each network sees 70 million images, as in
the paper, where EDM's own saw 200 million.

Not run yet; for many hosts, see `launch/`. A pass of one image is 40 GFLOP, and the training of one network
takes 8.5 EFLOP: 2.9 hours of eight devices that do 100 TFLOP/s each. What analyses take, `--dry_run` says.
"""

from ml_collections import ConfigDict

from gauss_diffusion.study import recipes, schema

SIZES = (782, 3_125, 12_500, 50_000)


def get_config(arg: str = "") -> ConfigDict:
  """Return the study; `arg` is empty or ``smoke`` (digits)."""
  config = recipes.paper_size(arg, "From memorization to the Gaussian, CIFAR-10 with EDM's networks")
  if arg != "smoke":
    config.data.name = "cifar10"
    config.data.held_out = 10_000
    config.network.channel_mult = (2, 2, 2)
    config.network.dropout = 0.13
    config.train.batch = 512
    config.train.steps = 137_200  # 70 million images
    config.train.learning_rate = 1e-3
    config.train.checkpoint_every = 2_500
    config.distillation.pairs = 24_576
  config.train.augment = 0.12
  for size in SIZES if arg != "smoke" else (16, 1_437):
    schema.add_model(config, f"n{size}", size)
  return config
