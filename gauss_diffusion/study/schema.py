"""The schema of a study: every field with its default, and how a config adds models.

A study is a `ConfigDict`: the data, the models to put under the microscope, the analyses to run. Files in
`configs/` start from `default()` and change what differs.
"""

from typing import Any

from ml_collections import ConfigDict

from gauss_diffusion import analyses, edm
from gauss_diffusion.denoisers import FAMILIES, family

SOURCES = (
  "checkpoint",
  "function",
  "denoiser",
  "linear",
)  # fields of a model; the one that is set says where it comes from


def default() -> ConfigDict:
  """Return a study with every field at its default and no model yet; see `add_model`."""
  config = ConfigDict()
  config.title = "Untitled study"
  config.seed = 0  # of data order, weights, noise, latents
  config.smoke = False  # a quick look, from which nothing follows: its report says so

  config.data = ConfigDict()
  config.data.name = "digits"  # digits, files, or any TFDS image data set
  config.data.dir = ""  # TFDS: a prepared data directory; empty means TFDS's own default
  config.data.path = ""  # files: a folder, a .zip, a .npy or .npz
  config.data.cache = ""  # decoded images and statistics; empty means ~/.cache/gauss_diffusion
  config.data.size = 0  # resize to size x size pixels; 0 leaves images as they are
  config.data.crop = False  # centre-crop to a square first
  config.data.held_out = 360  # images kept apart from all training
  config.data.drop_duplicates = False  # leave out images that equal or nearly equal another

  config.network = ConfigDict()
  config.network.preconditioning = "edm"  # or vp, ve, iddpm, none
  config.network.name = (
    "ddpmpp"  # or ncsnpp, adm, edm2, diffusers, skip, dit; each takes those of the fields that it knows
  )
  config.network.model_channels = 16
  config.network.channel_mult = (1, 2)
  config.network.num_blocks = 1
  config.network.attn_resolutions = ()
  config.network.dropout = 0.0
  config.network.num_levels = 1  # skip
  config.network.skip_channels = 4  # skip
  config.network.patch_size = 2  # dit, and the three that follow
  config.network.hidden_size = 96
  config.network.depth = 4
  config.network.num_heads = 4
  config.network.sigma_data = edm.SIGMA_DATA

  config.train = ConfigDict()
  config.train.steps = 500  # 0: the network stays as it is initialised
  config.train.batch = 64
  config.train.learning_rate = 4e-3
  config.train.rampup_images = 5_000
  config.train.ema_halflife_images = 5_000.0
  config.train.ema_rampup = 0.1
  config.train.flips = False
  config.train.noise_law = ""  # edm, log-uniform, ...; empty: the one that goes with the preconditioning
  config.train.p_mean = edm.P_MEAN  # edm
  config.train.p_std = edm.P_STD  # edm
  config.train.sigma_min = edm.SIGMA_MIN  # log-uniform, and the plain autoencoder's own
  config.train.sigma_max = edm.SIGMA_MAX  # the same; equal to sigma_min it is a single level
  config.train.log_every = 10  # steps
  config.train.checkpoint_every = 250  # steps
  config.train.keep = 2  # newest checkpoints kept
  config.train.alarm_every = 0  # steps between looks for memorization, a multiple of log_every; 0: none
  config.train.dtype = "float32"  # in which networks compute, or bfloat16; parameters stay float32
  config.train.remat = False  # recompute activations in the backward pass: less memory, more time
  config.train.conditional = False  # the network is told the class, of data with labels; see `class_label`
  config.train.label_dropout = 0.0  # share of its training samples that have no class

  config.models = ConfigDict()
  config.replicates = 1  # networks of each model: other seeds, and other images where the pool has more
  config.controls = ()  # judged in the place of the models, see `study.members.CONTROLS`

  config.sampler = ConfigDict()  # noise levels of samples, trajectories, distillation, score gaps
  config.sampler.levels = 10
  config.sampler.sigma_min = edm.SIGMA_MIN
  config.sampler.sigma_max = edm.SIGMA_MAX
  config.sampler.solver = "euler"

  config.denoisers = ConfigDict()  # options of the ideal denoisers
  for name, known in FAMILIES.items():
    config.denoisers[name] = ConfigDict(family.defaults(known))

  config.sweep = ""  # what changes along the models: size, width or time
  config.analyses = ("distillation", "linearity", "score_gap", "trajectories", "samples", "gain")
  config.figures = ()  # of the whole study, beside one for each analysis, and `knowledge` of score_gap
  config.claims = ()  # of the paper, to be decided by the results
  for name, analysis in analyses.ANALYSES.items():
    config[name] = ConfigDict(analysis.DEFAULTS)
  return config


def add_model(
  config: ConfigDict,
  label: str,
  size: int,
  part: int = 0,
  *,
  title: str = "",
  group: str = "",
) -> ConfigDict:
  """Add a model, held against the first `size` images (0: all); returns its entry for changes.

  It is a network trained here on these images, unless one of its fields `checkpoint` (a folder with a trained
  network), `function` (``my_model.py:f``), `denoiser` (a key of `denoisers.FAMILIES`) or `linear` is set. Its
  `seed`, `network` and `train` follow the study's until one of their fields is set here, so that both
  ``--config.train.steps=10`` and ``--config.models.LABEL.train.steps=10`` mean what they say. Models that
  differ in `train.steps` alone are one run, looked at several times.

  Args:
    config: the study.
    label: of the model's folder.
    size: number of training images.
    part: 1 is the subset disjoint from part 0 of the same size.
    title: what figures call it, ``N = <size>`` when left out.
    group: what claims and figures of the whole study know it by.
  """
  model = ConfigDict({"title": title or f"N = {size or 'all'}", "size": size, "part": part, "group": group})
  model.checkpoint = ""  # a folder with a trained network, such as an imported one
  model.function = ""  # FILE.py:NAME, a function of NumPy arrays, see `denoisers.external`
  model.jax = False  # that function is of JAX, of one image [H, W, C] and a scalar sigma, and has derivatives
  model.denoiser = ""  # an ideal denoiser or one that has learned nothing, fitted to the model's images
  model.linear = ""  # the label of another model, whose best affine map on held-out images this one is
  model.surrogate = (
    False  # trained and looked at on draws from N(mean, covariance) in the place of the images
  )
  # What a class-conditional network is told: 'none', or a class by its label, '3'. It is then held against
  # the images of that class, as any other denoiser that has a class here.
  model.class_label = ""
  model.seed = config.get_oneway_ref("seed")
  for section in ("network", "train"):
    model[section] = ConfigDict({field: config[section].get_oneway_ref(field) for field in config[section]})
  config.models[label] = model
  return model


def source(entry: Any) -> str:
  """Return where a model comes from: one of `SOURCES`, or ``training``."""
  return next((field for field in SOURCES if entry[field]), "training")


def shrink(config: ConfigDict) -> None:
  """Make networks and analyses small enough for a look at everything: the `:smoke` of every config."""
  config.smoke = True
  config.network.model_channels = 8
  config.network.channel_mult = (1,)
  config.train.steps = 40
  config.train.batch = 32
  config.train.checkpoint_every = 40
  config.train.log_every = 5
  config.sampler.levels = 5
  config.distillation.pairs = 512
  config.distillation.subspaces = (1, 4)
  config.input_law.pairs = 256
  config.input_law.images = 16
  config.descent.steps = 20
  config.descent.batch = 32
  config.linearity.levels = 5
  config.linearity.pairs = 8
  config.score_gap.images = 16
  config.denoised.images = 16
  config.trajectories.latents = 1
  config.samples.num = 16
  config.teleportation.latents = 4
  config.teleportation.fine = 16
  config.halves.images = 16
  config.halves.latents = 4
  config.halves.pairs = 1
  config.gain.pairs = 2
  config.gain.directions = 8
  config.directions.images = 16
  config.directions.directions = 8
  config.calibration.images = 4
  config.likelihood.images = 4
  config.likelihood.levels = 6
  config.explained.images = 16
  config.explained.directions = 8
  config.modes.latents = 2
  config.perturbation.latents = 2
