"""The paper's own study: FFHQ at 64 x 64, EDM's networks, from 68 images to all (Li et al. 2024).

python -m gauss_diffusion.main --config=configs/ffhq64.py --config.data.path=ffhq64.zip --workdir=runs/ffhq

The archive is what EDM's `dataset_tool.py` makes of FFHQ, or any folder of its 70,000 pictures. The recipe is
that of EDM for this data: NCSN++ of 63 million parameters, batches of 256, augmentation with probability
0.15; each network sees 70 million images, as in the paper. That held networks against another data set; here
2,000 of the 70,000 images are kept apart, so that the largest network has 68,000.

Not run yet; for many hosts, see `launch/`. A pass of one image is 82 GFLOP, and the training of one network
takes 17 EFLOP: 6.0 hours of eight devices that do 100 TFLOP/s each. What analyses take, `--dry_run` says.
"""

from ml_collections import ConfigDict

from gauss_diffusion.study import recipes, schema

SIZES = (68, 137, 1_094, 8_750, 35_000, 0)


def get_config(arg: str = "") -> ConfigDict:
  """Return the study; `arg` is empty or ``smoke`` (digits)."""
  config = recipes.paper_size(arg, "From memorization to the Gaussian, FFHQ")
  if arg != "smoke":
    config.data.name = "files"
    config.data.size = 64
    config.data.held_out = 2_000
    config.network.name = "ncsnpp"
    config.network.channel_mult = (1, 2, 2, 2)
    config.network.dropout = 0.05
    config.train.batch = 256
    config.train.steps = 274_400  # 70 million images
    config.train.learning_rate = 2e-4
    config.train.checkpoint_every = 5_000
    config.distillation.pairs = 24_576  # two a coordinate, the least that there can be
  config.train.augment = 0.15
  for size in SIZES if arg != "smoke" else (16, 0):
    schema.add_model(config, f"n{size}" if size else "all", size)
  return config
