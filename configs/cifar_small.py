"""CIFAR-10 with small networks: one that can memorize its images, one that has to generalize.

    python -m gauss_diffusion.main --config=configs/cifar_small.py --workdir=runs/cifar
    python -m gauss_diffusion.main --config=configs/cifar_small.py:cpu --workdir=runs/cifar_cpu

`--config.data.dir=DIR` points at a prepared TFDS directory where the data cannot be downloaded. The
first command wants a GPU; `:cpu` works on 16 x 16 pixels and smaller networks.

`:cpu` takes about 20 minutes on two cores. Expect, for 64 and 50,000 images of the JPEG copy: GL score
0.45 and 0.70, linearity score at sigma = 0.47 0.89 and 0.99, RMSE to the Gaussian denoiser there 0.23
and 0.06. The full size has not been run yet: no numbers to expect.
"""

from gauss_diffusion.study import recipes, schema

VARIANTS = ("", "cpu", "smoke")


def get_config(arg: str = ""):
  """Return the study; `arg` is empty (a GPU), ``cpu`` (two cores) or ``smoke``."""
  if arg not in VARIANTS:
    raise ValueError(f"`{arg}` is no variant of this config; known: cpu, smoke")
  config = schema.default()
  if arg == "":
    config.title = "CIFAR-10, small networks"
    config.data.name = "cifar10"
    config.data.held_out = 10_000
    config.network.model_channels = 64
    config.network.channel_mult = (2, 2, 2)
    config.network.num_blocks = 4
    config.network.attn_resolutions = (16,)
    config.network.dropout = 0.13
    config.train.batch = 512
    config.train.steps = 5_000
    config.train.learning_rate = 1e-3
    config.train.rampup_images = 250_000
    config.train.ema_halflife_images = 250_000.0
    config.train.ema_rampup = 0.05
    config.train.checkpoint_every = 1_000
    config.distillation.pairs = 40_960
  else:
    config.title = "CIFAR-10 at 16 × 16, very small networks"
    recipes.small_cifar(config)
  config.linearity.levels = 19
  for size in (782, 50_000) if arg == "" else (64, 50_000):
    schema.add_model(config, f"n{size}", size)

  if arg == "smoke":
    schema.shrink(config)
    config.distillation.pairs = 2_048
    config.input_law.pairs = 2_048
    config.descent.batch = 128
    config.sampler.levels = 3
  return config
