"""CIFAR-10 with a small network: one set it can memorize, one it has to generalize from.

    python -m gauss_diffusion.main --config=configs/cifar_small.py --workdir=runs/cifar
    python -m gauss_diffusion.main --config=configs/cifar_small.py:cpu --workdir=runs/cifar_cpu

`--config.data.dir=DIR` points at a prepared TFDS directory where the data cannot be downloaded.
"""

from gauss_diffusion import study


def get_config(arg: str = ""):
  """Return the study; `arg` is empty (a GPU), ``cpu`` (two cores) or ``smoke``."""
  config = study.default()
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
  config.train.rampup_images = 500_000
  config.train.ema_halflife_images = 250_000.0
  config.train.learning_rate = 1e-3
  config.train.ema_rampup = 0.05
  config.train.checkpoint_every = 1_000
  config.train.log_every = 50
  config.distillation.pairs = 40_960
  config.linearity.levels = 19
  for size in (782, 50_000):
    study.add_model(config, f"n{size}", size)

  if arg in ("cpu", "smoke"):
    config.network.model_channels = 16
    config.network.channel_mult = (1, 2, 2)
    config.network.num_blocks = 1
    config.network.attn_resolutions = ()
    config.network.dropout = 0.0
    config.train.batch = 64
    config.train.steps = 1_000
    config.train.rampup_images = 5_000
    config.train.ema_halflife_images = 10_000.0
    config.train.checkpoint_every = 100
    config.train.log_every = 10
    config.data.held_out = 2_000
    config.distillation.pairs = 6_144
    config.linearity.levels = 10
    config.linearity.pairs = 50
    config.samples.num = 64
  if arg == "smoke":
    study.shrink(config)
    config.distillation.pairs = 6_144
    config.sampler.levels = 3
  if arg not in ("", "cpu", "smoke"):
    raise ValueError(f"`{arg}` is no variant of this config; known: cpu, smoke")
  return config
