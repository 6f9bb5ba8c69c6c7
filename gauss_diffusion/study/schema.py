"""The schema of a study: every field with its default and meaning, and how a config adds models.

A study is a `ConfigDict`: the data, the models to put under the microscope, the analyses to run. Files in
`configs/` start from `default()` and change what differs.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from gauss_diffusion import analyses, edm
from gauss_diffusion.denoisers import FAMILIES, family
from gauss_diffusion.training import loop


class Field(NamedTuple):
  """One thing that a study says."""

  default: Any
  meaning: str  # and its unit


TRAIN = loop.Settings()
STUDY = {
  "title": Field("Untitled study", "what the report is called"),
  "seed": Field(0, "of data order, weights, noise, latents"),
  "smoke": Field(False, "a quick look, from which nothing follows: its report says so"),
  "replicates": Field(1, "networks of each model: other seeds, and other images where the pool has more"),
  "controls": Field(
    (), "what is judged in the models' places: mean, skip, identity, untrained, gaussian, ..."
  ),
  "sweep": Field("", "what changes along the models: size, width or time"),
  "analyses": Field(
    ("distillation", "linearity", "score_gap", "trajectories", "samples", "gain"),
    "that look at every model, each with a section of its name",
  ),
  "figures": Field((), "of the whole study, beside one for each analysis"),
  "claims": Field((), "of the paper, to be decided by the results"),
}
SECTIONS = {
  "data": {
    "name": Field("digits", "digits, files, or any TFDS image data set"),
    "dir": Field("", "TFDS: a prepared data directory; empty means TFDS's own default"),
    "path": Field("", "files: a folder, a .zip, a .npy or .npz, of pixels or of floats such as latents"),
    "cache": Field("", "of decoded images and statistics; empty means ~/.cache/gauss_diffusion"),
    "size": Field(0, "resize to size x size pixels; 0 leaves images as they are"),
    "crop": Field(False, "centre-crop to a square first"),
    "held_out": Field(360, "images kept apart from all training"),
    "scale": Field(
      "", "files of floats: a number that they are divided by, or standardise: mean 0, standard deviation 0.5"
    ),
    "decoder": Field(
      "", "of floats: FILE.py:NAME, from values as the file has them to images, which figures then show"
    ),
    "drop_duplicates": Field(False, "leave out images that equal or nearly equal another"),
  },
  "network": {
    "preconditioning": Field("edm", "edm, vp, ve, iddpm or none"),
    "name": Field(
      "ddpmpp",
      "ddpmpp, ncsnpp, adm, edm2, diffusers, skip or dit; each takes those of the fields that it knows",
    ),
    "model_channels": Field(16, "of the first level of a U-Net"),
    "channel_mult": Field((1, 2), "times as many channels, level by level"),
    "num_blocks": Field(1, "residual blocks a level"),
    "attn_resolutions": Field((), "pixels a side of the levels with self-attention"),
    "dropout": Field(0.0, "share of activations dropped in training"),
    "num_levels": Field(1, "skip: how often the image is halved"),
    "skip_channels": Field(4, "skip: channels of a skip connection"),
    "patch_size": Field(2, "dit: pixels a side of a token"),
    "hidden_size": Field(96, "dit: channels of a token"),
    "depth": Field(4, "dit: blocks"),
    "num_heads": Field(4, "dit: of attention"),
    "sigma_data": Field(edm.SIGMA_DATA, "standard deviation of a pixel that the preconditioning supposes"),
  },
  "train": {
    "steps": Field(TRAIN.steps, "of training; 0: the network stays as it is initialised"),
    "batch": Field(TRAIN.batch, "images a step, over all devices"),
    "learning_rate": Field(TRAIN.learning_rate, "of Adam, after the ramp"),
    "rampup_images": Field(TRAIN.rampup_images, "images until the learning rate is reached"),
    "ema_halflife_images": Field(
      TRAIN.ema_halflife_images, "images in which the moving average of parameters forgets half"
    ),
    "ema_rampup": Field(TRAIN.ema_rampup, "the half-life is at most this share of the images seen"),
    "flips": Field(TRAIN.flips, "mirror images left to right, half of them"),
    "augment": Field(TRAIN.augment, "probability of each kind of EDM's augmentation; 0: none"),
    "noise_law": Field(
      TRAIN.noise_law, "edm, log-uniform, ...; empty: the one that goes with the preconditioning"
    ),
    "p_mean": Field(TRAIN.p_mean, "edm: mean of ln sigma"),
    "p_std": Field(TRAIN.p_std, "edm: standard deviation of ln sigma"),
    "sigma_min": Field(TRAIN.sigma_min, "log-uniform, and the plain autoencoder's own: lowest noise level"),
    "sigma_max": Field(TRAIN.sigma_max, "the same, highest; equal to sigma_min it is a single level"),
    "log_every": Field(TRAIN.log_every, "steps"),
    "checkpoint_every": Field(TRAIN.checkpoint_every, "steps"),
    "keep": Field(TRAIN.keep, "newest checkpoints kept"),
    "alarm_every": Field(
      TRAIN.alarm_every, "steps between looks for memorization, a multiple of log_every; 0: none"
    ),
    "dtype": Field(TRAIN.dtype, "in which networks compute, or bfloat16; parameters stay float32"),
    "remat": Field(TRAIN.remat, "recompute activations in the backward pass: less memory, more time"),
    "conditional": Field(False, "the network is told the class, of data with labels; see `class_label`"),
    "label_dropout": Field(0.0, "share of its training samples that have no class"),
  },
  "sampler": {
    "levels": Field(10, "noise levels of samples, trajectories, distillation, score gaps"),
    "sigma_min": Field(edm.SIGMA_MIN, "the lowest, in units of pixels in [-1, 1]"),
    "sigma_max": Field(edm.SIGMA_MAX, "the highest"),
    "solver": Field("euler", "euler or heun"),
  },
}
MODEL = {
  "title": Field("N = SIZE", "what figures call it"),
  "size": Field(0, "number of training images; 0: all"),
  "part": Field(0, "1 is the subset disjoint from part 0 of the same size"),
  "group": Field("", "what claims and figures of the whole study know it by"),
  "checkpoint": Field("", "a folder with a trained network, such as an imported one"),
  "function": Field("", "FILE.py:NAME, a function of NumPy arrays, see `denoisers.external`"),
  "jax": Field(
    False, "that function is of JAX, of one image [H, W, C] and a scalar sigma: it has derivatives"
  ),
  "denoiser": Field(
    "",
    "an ideal denoiser or one that has learned nothing, fitted to the model's images, instead of a network",
  ),
  "linear": Field("", "the label of another model, whose best affine map on held-out images this one is"),
  "surrogate": Field(False, "trained and looked at on draws from N(mean, covariance) in place of the images"),
  "class_label": Field(
    "",
    "what a class-conditional network is told: none, or a class by its label or name, and it is then held "
    "against the images of that class, as any other denoiser that has a class here; all: a model of each",
  ),
  "guidance": Field(
    0.0, "weight w of the class over none, D_c + w (D_c - D), of a class-conditional network"
  ),
}
SOURCES = (
  "checkpoint",
  "function",
  "denoiser",
  "linear",
)  # fields of a model: the one set says where it is from


def default() -> ConfigDict:
  """Return a study with every field at its default and no model yet; see `add_model`."""
  config = ConfigDict(_defaults(STUDY))
  for name, fields in SECTIONS.items():
    config[name] = ConfigDict(_defaults(fields))
  config.models = ConfigDict()
  config.denoisers = ConfigDict()  # options of the ideal denoisers
  for name, known in FAMILIES.items():
    config.denoisers[name] = ConfigDict(family.defaults(known))
  for name, analysis in analyses.ANALYSES.items():
    config[name] = ConfigDict(analysis.DEFAULTS)
  return config


def fields() -> Iterator[tuple[str, Field]]:
  """Yield every field of a study by its name on a command line, ``--config.NAME=VALUE``."""
  yield from STUDY.items()
  for section, own in SECTIONS.items():
    yield from ((f"{section}.{name}", field) for name, field in own.items())
  for name, field in MODEL.items():
    yield f"models.LABEL.{name}", field
  yield "models.LABEL.seed", Field("seed", "as that of the study, until set here")
  for section in ("network", "train"):
    yield f"models.LABEL.{section}.FIELD", Field(f"{section}.FIELD", "as that of the study, until set here")
  for name, known in FAMILIES.items():
    for option, value in known.options.items():
      yield f"denoisers.{name}.{option}", Field(value.default, value.meaning)
  for name, analysis in analyses.ANALYSES.items():
    for option, meaning in analysis.MEANINGS.items():
      yield f"{name}.{option}", Field(analysis.DEFAULTS[option], meaning)


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
  model = ConfigDict(_defaults(MODEL))
  model.title, model.size, model.part, model.group = title or f"N = {size or 'all'}", size, part, group
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


def _defaults(fields: dict[str, Field]) -> dict[str, Any]:
  return {name: field.default for name, field in fields.items()}
