"""The schema of a study, and the checks that refuse a wrong one before any compute is spent.

A study is a `ConfigDict`: the data, the networks to train on it, the analyses to run. Files in
`configs/` start from `default()` and change what differs.
"""

import difflib
import json
import os
import pathlib
import re

from ml_collections import ConfigDict

from gauss_diffusion import analyses, edm, networks, plots, results, sampling
from gauss_diffusion.readings import claims, measures
from gauss_diffusion.training import checkpoint

# Where the data lies may differ from machine to machine; what it is, the fingerprint says.
_PLACES = ("data.dir", "data.path", "data.cache")
# Templates that models copy, and the list of what to run: free to grow.
_TEMPLATES = ("network", "train", "analyses", "title", "sweep", "figures", "claims")


def default() -> ConfigDict:
  """Return a study with every field at its default and no model yet; see `add_model`."""
  config = ConfigDict()
  config.title = "Untitled study"
  config.seed = 0  # of data order, weights, noise, latents

  config.data = ConfigDict()
  config.data.name = "digits"  # digits, files, or any TFDS image data set
  config.data.dir = ""  # TFDS: a prepared data directory; empty means TFDS's own default
  config.data.path = ""  # files: a folder, a .zip, a .npy or .npz
  config.data.cache = ""  # decoded images and statistics; empty means ~/.cache/gauss_diffusion
  config.data.size = 0  # resize to size x size pixels; 0 leaves images as they are
  config.data.crop = False  # centre-crop to a square first
  config.data.held_out = 360  # images kept apart from all training

  config.network = ConfigDict()
  config.network.name = "ddpmpp"
  config.network.model_channels = 16
  config.network.channel_mult = (1, 2)
  config.network.num_blocks = 1
  config.network.attn_resolutions = ()
  config.network.dropout = 0.0
  config.network.sigma_data = edm.SIGMA_DATA

  config.train = ConfigDict()
  config.train.steps = 500
  config.train.batch = 64
  config.train.learning_rate = 4e-3
  config.train.rampup_images = 5_000
  config.train.ema_halflife_images = 5_000.0
  config.train.ema_rampup = 0.1
  config.train.flips = False
  config.train.p_mean = edm.P_MEAN
  config.train.p_std = edm.P_STD
  config.train.log_every = 10  # steps
  config.train.checkpoint_every = 250  # steps
  config.train.keep = 2  # newest checkpoints kept
  config.train.dtype = "float32"  # in which networks compute, or bfloat16; parameters stay float32
  config.train.remat = False  # recompute activations in the backward pass: less memory, more time

  config.models = ConfigDict()

  config.sampler = ConfigDict()  # noise levels of samples, trajectories, distillation, score gaps
  config.sampler.levels = 10
  config.sampler.sigma_min = edm.SIGMA_MIN
  config.sampler.sigma_max = edm.SIGMA_MAX
  config.sampler.solver = "euler"

  config.sweep = ""  # what changes along the models: size, width or time
  config.analyses = ("distillation", "linearity", "score_gap", "trajectories", "samples", "gain")
  config.figures = ()  # of the whole study, beside one for each analysis
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
  network: dict | None = None,
) -> ConfigDict:
  """Add a network trained on the first `size` images (0: all); returns its entry for changes.

  Its `seed`, `network` and `train` follow the study's until one of their fields is set here, so that both
  ``--config.train.steps=10`` and ``--config.models.LABEL.train.steps=10`` mean what they say. Models that
  differ in `train.steps` alone are one run, looked at several times.

  Args:
    config: the study.
    label: of the model's folder.
    size: number of training images.
    part: 1 is the subset disjoint from part 0 of the same size.
    title: what figures call it, ``N = <size>`` when left out.
    group: what claims and figures of the whole study know it by.
    network: another network than the study's, all its options.
  """
  model = ConfigDict({"title": title or f"N = {size or 'all'}", "size": size, "part": part, "group": group})
  model.checkpoint = ""  # a folder with a trained network, such as an imported one; then nothing is trained
  model.seed = config.get_oneway_ref("seed")
  for section in ("network", "train"):
    model[section] = ConfigDict({field: config[section].get_oneway_ref(field) for field in config[section]})
  if network is not None:
    model.network = ConfigDict(network)
  config.models[label] = model
  return model


def labels(config: ConfigDict) -> list[str]:
  """Return the models' labels in the order of the report: by name, numbers in them by value."""

  def natural(label):
    return [(part.isdigit(), int(part) if part.isdigit() else part) for part in re.split(r"(\d+)", label)]

  return sorted(config.models, key=natural)


def shrink(config: ConfigDict) -> None:
  """Make networks and analyses small enough for a look at everything: the `:smoke` of every config."""
  config.network.model_channels = 8
  config.network.channel_mult = (1,)
  config.train.steps = 40
  config.train.batch = 32
  config.train.checkpoint_every = 40
  config.train.log_every = 5
  config.sampler.levels = 5
  config.distillation.pairs = 256
  config.distillation.singular_vectors = 8
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
  config.gain.pairs = 2
  config.gain.directions = 8
  config.modes.latents = 2
  config.perturbation.latents = 2


def cpu_devices(config: ConfigDict) -> int:
  """Return how many devices the CPU should be: one per core, as far as every batch can be shared.

  One JAX device computes on about one core.
  """
  cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
  batches = [model.train.batch for model in config.models.values() if not model.checkpoint]
  return max(num for num in range(1, cores + 1) if not any(batch % num for batch in batches))


def check(config: ConfigDict, shape: tuple[int, int, int], num_pool: int, num_held_out: int) -> None:
  """Refuse a study that cannot run on this data.

  Args:
    config: the study.
    shape: of an image, (H, W, C).
    num_pool: images available for training.
    num_held_out: images kept apart.

  Raises:
    ValueError: naming the field in question and what would be right.
  """
  if shape[0] != shape[1]:
    raise ValueError(
      f"the images are {shape[0]} x {shape[1]}; networks want squares: set `data.crop` or `data.size`"
    )
  if "checkpoint" in config and not config.checkpoint:
    raise ValueError("`checkpoint` is empty; want the folder that an import made")
  if not config.models:
    raise ValueError("`models` is empty; a study needs at least one network to train")
  _check_known("analyses", config.analyses, analyses.ANALYSES)
  _check_known("figures", config.figures, plots.STUDY_PLOTS)
  _check_known("claims", config.claims, claims.CLAIMS)
  if config.sweep:
    _check_known("sweep", [config.sweep], measures.SWEEPS)
  for name in config.claims:
    _check_needs(f"`claims` has {name!r}", claims.CLAIMS[name].needs, config)
  for name in config.figures:
    _check_needs(f"`figures` has {name!r}", plots.STUDY_PLOTS[name].NEEDS, config)
  if len({model.title for model in config.models.values()}) < len(config.models):
    raise ValueError("two `models` have the same `title`; figures tell models apart by it")
  _check_known("sampler.solver", [config.sampler.solver], sampling.SOLVERS)
  sigma_min, sigma_max = config.sampler.sigma_min, config.sampler.sigma_max
  if not 0 < sigma_min < sigma_max:
    raise ValueError(
      f"`sampler.sigma_min`, `sampler.sigma_max` are {sigma_min}, {sigma_max}; noise levels must be "
      "positive and rising"
    )
  if config.sampler.levels < 2:
    raise ValueError(f"`sampler.levels` is {config.sampler.levels}; want at least 2")
  for label, model in config.models.items():
    where = f"models.{label}"
    if not 0 <= model.size <= num_pool:
      raise ValueError(f"`{where}.size` is {model.size}; the data has {num_pool} training images")
    if model.part not in (0, 1):
      raise ValueError(f"`{where}.part` is {model.part}; want 0 or 1")
    if model.part == 1 and not 0 < 2 * model.size <= num_pool:
      raise ValueError(f"`{where}.size` is {model.size}; two disjoint parts need at most {num_pool // 2}")
    if model.checkpoint:
      network_card(model, shape)
      continue
    for field in ("steps", "batch", "log_every", "checkpoint_every", "keep"):
      if model.train[field] < 1:
        raise ValueError(f"`{where}.train.{field}` is {model.train[field]}; want at least 1")
    for field in ("learning_rate", "ema_halflife_images", "ema_rampup", "p_std"):
      if not model.train[field] > 0:
        raise ValueError(f"`{where}.train.{field}` is {model.train[field]}; want a positive number")
    network = networks.create(**network_card(model, shape)["network"])
    networks.compute(network, dtype=model.train.dtype, remat=model.train.remat)
  for name in config.analyses:
    analyses.ANALYSES[name].check(config, shape, num_held_out)


def check_devices(config: ConfigDict, num_devices: int) -> None:
  """Refuse a batch that the devices cannot share equally."""
  for label, model in config.models.items():
    if not model.checkpoint and model.train.batch % num_devices:
      raise ValueError(
        f"`models.{label}.train.batch` is {model.train.batch}, which {num_devices} devices cannot share "
        f"equally; want a multiple of {num_devices}"
      )


def network_card(model: ConfigDict, shape: tuple[int, int, int]) -> dict:
  """Return what a checkpoint must remember to rebuild the network, as plain JSON."""
  if model.checkpoint:
    card = checkpoint.load_card(model.checkpoint)
    made = tuple(card["network"][name] for name in ("img_resolution", "img_resolution", "img_channels"))
    if made != tuple(shape):
      raise ValueError(
        f"`checkpoint` {model.checkpoint!r} holds a network for images {made}, and the data's are {shape}; "
        "set `data.name`, `data.size` or `data.crop`"
      )
    return card
  size, _, channels = shape
  options = {"img_resolution": size, "img_channels": channels, **model.network}
  return {"network": json.loads(json.dumps(options))}


def claim(workdir: pathlib.Path, config: ConfigDict, fingerprint: str) -> bool:
  """Make `workdir` this study's own, or refuse it when it already belongs to another.

  Models and analyses may be added to a study later; what it has already answered may not change, nor
  may the images behind it, known by their `fingerprint`.

  Returns:
    Whether anything about the study is new.

  Raises:
    ValueError: naming the first field that differs.
  """
  old = None
  new = json.loads(config.to_json()) | {"fingerprint": fingerprint}
  path = workdir / "config.json"
  if path.exists():
    old, fields = results.read_json(path), dict(results.leaves(new))
    unasked = set(analyses.ANALYSES) - set(old["analyses"])
    for field, value in results.leaves(old):
      found, section = fields.get(field, value), field.split(".")[0]
      if found != value and field not in _PLACES and section not in unasked.union(_TEMPLATES):
        raise ValueError(
          f"`workdir` {workdir} belongs to a study with `{field}` = {value!r}, not {found!r}; "
          "choose another `--workdir`"
        )
    new["models"] = old["models"] | new["models"]
    new["analyses"] = list(dict.fromkeys([*old["analyses"], *new["analyses"]]))  # ever asked for
  elif workdir.exists() and any(not path.name.startswith(".") for path in workdir.iterdir()):
    raise ValueError(f"`workdir` {workdir} is not empty and holds no study; choose another `--workdir`")
  results.write_json(path, new)
  results.write_json(workdir / "versions.json", results.versions())
  return new != old


def _check_needs(what: str, needs: measures.Needs, config: ConfigDict) -> None:
  """Refuse a claim or figure of the whole study that this study cannot answer."""
  for place, entries in needs.results.items():
    analysis, _, option = place.partition(".")
    if analysis not in config.analyses:
      raise ValueError(f"{what}, which needs {analysis!r} among `analyses`")
    for entry in entries:
      if entry not in config[analysis][option]:
        raise ValueError(f"{what}, which needs {entry!r} among `{place}`")
  if needs.along > 1 and (not config.sweep or len(config.models) < needs.along):
    raise ValueError(
      f"{what}, which follows models along a sweep; set `sweep` to one of {', '.join(measures.SWEEPS)}, and "
      f"have at least {needs.along} `models`"
    )
  parts = {}
  for model in config.models.values():
    parts.setdefault(model.group, []).append(model.part)
  for group in needs.groups:
    if group not in parts:
      raise ValueError(f"{what}, which needs a model of the group {group!r}")
  paired = [group for group in parts if sorted(parts[group]) == [0, 1]]
  for group in needs.halves:
    if group not in paired:
      raise ValueError(f"{what}, which needs two models of the group {group!r}, parts 0 and 1")
  if needs.paired and not paired:
    raise ValueError(f"{what}, which needs two models of one `group`, parts 0 and 1")


def _check_known(field: str, names, known) -> None:
  for name in names:
    if name not in known:
      close = difflib.get_close_matches(name, known, 1)
      hint = f"; did you mean {close[0]!r}?" if close else ""
      raise ValueError(f"`{field}` has no {name!r}; known: {', '.join(known)}{hint}")
