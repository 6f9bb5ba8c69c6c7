"""Where studies start: data, network and training, on CIFAR-10, on digits, or shrunk for a quick look.

CIFAR-10 needs a prepared TFDS directory, ``--config.data.dir=DIR``, where it cannot be downloaded.
"""

from ml_collections import ConfigDict

from gauss_diffusion.analyses.subject import LINEAR
from gauss_diffusion.denoisers import NULLS
from gauss_diffusion.study import members, schema

VARIANTS = ("cpu", "digits", "smoke")
REPLICATES = {"digits": 5, "cpu": 3}  # of two cores; fewer than 5 are too few to decide, and show a direction
# A smoke study judges nothing. With 50,000 images the memorizer takes longer than all that is trained.
CONTROLS = {
  "smoke": (*NULLS, "gaussian", "multi-delta", "surrogate"),
  "cpu": tuple(name for name in members.CONTROLS if name != "multi-delta"),
}


def check_variant(arg: str, *known: str) -> None:
  """Refuse what follows the colon of ``--config=FILE.py:ARG`` unless it is empty or known.

  Raises:
    ValueError: naming those that are known.
  """
  if arg and arg not in known:
    raise ValueError(f"`{arg}` is no variant of this config; known: {', '.join(known)}")


def start(arg: str, title: str) -> ConfigDict:
  """Return a study without models.

  Args:
    arg: empty for CIFAR-10 at full size, on a GPU; ``cpu`` for CIFAR-10 at 16 x 16 on two cores; ``digits``
      for minutes on two cores; ``smoke`` for a look at everything, on digits.
    title: of the study; the data's name is appended.

  Raises:
    ValueError: on another `arg`.
  """
  check_variant(arg, *VARIANTS)
  config = schema.default()
  data = {"": "CIFAR-10", "cpu": "CIFAR-10 at 16 × 16"}.get(arg, "digits")
  config.title = f"{title}, {data}"
  if arg == "":
    _cifar(config)
  if arg == "cpu":
    small_cifar(config)
  if arg == "smoke":
    schema.shrink(config)
  return config


def judge(config: ConfigDict, arg: str, claims: tuple[str, ...], *, networks: bool = False) -> None:
  """Let a study decide claims of the paper, on its networks and on every control.

  Its seed is not that of the networks on which the claims were worked out.

  Args:
    config: from `start`.
    arg: the variant.
    claims: keys of `readings.claims.CLAIMS`.
    networks: whether they are about networks in general: then several of each model are trained.
  """
  config.seed = 1
  config.claims = claims
  config.controls = CONTROLS.get(arg, tuple(members.CONTROLS))
  config.replicates = REPLICATES.get(arg, 1) if networks else 1


def paper_size(arg: str, title: str) -> ConfigDict:
  """Return a study of size without models, of what Karras et al. 2022 share among data sets (tables 6 and 7).

  Args:
    arg: empty for a size that wants many devices, or ``smoke`` for a look at everything, on digits.
    title: of the study.

  Raises:
    ValueError: on another `arg`.
  """
  check_variant(arg, "smoke")
  config = schema.default()
  config.title = title
  config.sweep = "size"
  config.figures = ("sweep",)
  config.network.model_channels = 128
  config.network.num_blocks = 4
  config.network.attn_resolutions = (16,)
  config.train.rampup_images = 10_000_000
  config.train.ema_halflife_images = 500_000.0
  config.train.ema_rampup = 0.05
  config.train.log_every = 100
  config.train.dtype = "bfloat16"
  if arg == "smoke":
    schema.shrink(config)
  return config


def without_maps(config: ConfigDict) -> None:
  """Leave out best affine maps, which on two cores take longer to find than networks take to train."""
  config.analyses = tuple(name for name in config.analyses if name != "distillation")
  config.score_gap.pairs = tuple(pair for pair in config.score_gap.pairs if not set(pair) & set(LINEAR))
  for analysis in (config[name] for name in config.analyses if "denoisers" in config[name]):
    analysis.denoisers = tuple(name for name in analysis.denoisers if name not in LINEAR)


def _cifar(config: ConfigDict) -> None:
  """A network of 1.26 million parameters and 2.5 million images: minutes on a current GPU.

  Three at once are trained on 34,600 images a second on one H100: 72 s of it a network. What follows is
  estimated. Training takes 5 GB of a GPU for each network, in bfloat16. One distillation is 980 thousand
  passes in float32, a minute and a half of the GPU, and 10¹⁴ operations in float64 on the host, three
  minutes or more of 16 cores; it needs 2.5 GB of memory, and leaves maps of 760 MB.
  """
  config.data.name = "cifar10"
  config.data.held_out = 10_000
  config.network.model_channels = 32
  config.network.channel_mult = (1, 2, 2)
  config.network.num_blocks = 1
  config.network.attn_resolutions = (16,)
  config.train.batch = 512
  config.train.steps = 4_900
  config.train.learning_rate = 1e-3
  config.train.rampup_images = 100_000
  config.train.ema_halflife_images = 100_000.0
  config.train.ema_rampup = 0.05
  config.train.log_every = 50
  config.train.checkpoint_every = 490
  config.train.dtype = "bfloat16"
  config.distillation.pairs = 24_576  # eight a coordinate: fewer leave noise as large as the gaps in question
  config.input_law.pairs = 24_576  # and a bias that the theorem does not have
  config.descent.sigmas = (4.0,)
  config.descent.batch = 256
  config.descent.record_every = 10


def small_cifar(config: ConfigDict) -> None:
  """A network of 300 thousand parameters and 77 thousand images: minutes on two cores, far from converged."""
  config.data.name = "cifar10"
  config.data.size = 16
  config.data.held_out = 2_000
  config.network.channel_mult = (1, 2, 2)
  config.train.steps = 1_200
  config.train.learning_rate = 2e-3
  config.distillation.pairs = 6_144
  config.input_law.pairs = 8_192
  config.input_law.sigmas = (4.0, 0.5, 0.1)
  config.descent.batch = 256
  config.descent.record_every = 10
