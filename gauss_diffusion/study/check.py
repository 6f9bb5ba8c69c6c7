"""What a study cannot be, refused before any compute is spent."""

import difflib
import functools
import math
import os
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from ml_collections import ConfigDict

from gauss_diffusion import analyses, data, edm, networks, plots, results, sampling
from gauss_diffusion.denoisers import FAMILIES, family
from gauss_diffusion.readings import claims, measures
from gauss_diffusion.study import classes, floats, members, schema
from gauss_diffusion.training import augment, checkpoint, loop

Shape = tuple[int, int, int]

# Ranges of a model's `train` fields: whole numbers, and real ones that must lie strictly between.
_COUNTS = {
  "steps": (0, 10**9),
  "batch": (1, 2**20),
  "rampup_images": (0, 10**15),
  "log_every": (1, 10**9),
  "checkpoint_every": (1, 10**9),
  "keep": (1, 10**6),
  "alarm_every": (0, 10**9),
}
_MOST = 2**20  # of whatever an analysis counts: images, pairs, steps
_LEVELS = 1000  # of noise
_WIDEST = 2**14  # channels, blocks, heads of a network
# Of what a list in an analysis' settings may consist, told by the first entry of its default.
_ENTRIES: tuple[tuple[Any, str], ...] = (
  (str, "names"),
  (tuple | list, "pairs of names"),
  (int, "whole numbers"),
  (int | float, "numbers"),
)
_REALS = {
  "learning_rate": (0, 1e3),
  "ema_halflife_images": (0, 1e15),
  "ema_rampup": (0, 1e6),
  "p_mean": (-20, 20),
  "p_std": (0, 20),
}


def check(config: ConfigDict, shape: Shape, num_pool: int, num_held_out: int, num_classes: int = 0) -> None:
  """Refuse a study that cannot run on this data: names first, then values, then what needs what.

  Args:
    config: the study.
    shape: of an image, (H, W, C).
    num_pool: images available for training.
    num_held_out: images kept apart, of the class with the fewest of those that models are held against.
    num_classes: of the images, 0 where they have no labels.

  Raises:
    ValueError: naming the field in question and what would be right.
  """
  for wrong in problems(config, shape, num_pool, num_held_out, num_classes):
    raise ValueError(wrong)


def problems(
  config: ConfigDict, shape: Shape, num_pool: int, num_held_out: int, num_classes: int = 0
) -> Iterator[str]:
  """Yield all that `check` would refuse, one after another; of one thing what is wrong first."""
  found = False
  for part in _parts(config, shape, num_pool, num_held_out, num_classes):
    try:
      part()
    except ValueError as wrong:
      found = True
      yield str(wrong)
    except Exception:
      if not found:  # else it follows from what was wrong before
        raise


def _parts(
  config: ConfigDict, shape: Shape, num_pool: int, num_held_out: int, num_classes: int
) -> Iterator[Callable[[], object]]:
  """Yield the parts of the check: names first, then values, then what needs what."""
  part = functools.partial
  yield part(_check_outline, config, shape)
  yield part(floats.check_decoder, config)
  yield part(_check_names, "analyses", config.analyses, analyses.ANALYSES)
  yield part(_check_names, "figures", config.figures, plots.STUDY_PLOTS)
  yield part(_check_names, "claims", config.claims, claims.CLAIMS)
  if config.sweep:
    yield part(_check_names, "sweep", [config.sweep], measures.SWEEPS)
  yield part(_check_names, "sampler.solver", [config.sampler.solver], sampling.SOLVERS)
  for name in config.analyses:
    yield part(_check_settings, config, name)
  for label, model in config.models.items():
    yield part(_check_width, label, model)
  yield part(_check_titles, config)
  yield part(_check_sampler, config.sampler)
  for label, model in config.models.items():
    for field in (*_COUNTS, *_REALS) if schema.source(model) == "training" else ():
      yield part(_check_number, label, model, field)
    yield part(_check_model, config, label, model, shape, num_pool, num_classes)
  yield part(_check_names, "controls", config.controls, members.CONTROLS)
  yield part(members.check, config)
  yield part(_check_families, config, shape, num_pool)
  for field, denoiser in floats.asking(config) if config.data.scale else ():
    yield part(floats.check, f"`{field}` has", denoiser)
  for name in config.analyses:
    yield part(_check_analysis, name, config, shape, num_held_out)
  for name in config.claims:
    yield part(_check_claim, name, config, shape)
  for name in config.figures:
    yield part(_check_figure, name, config)
  if config.sweep:
    yield part(_check_sweep, config)


def _check_outline(config: ConfigDict, shape: Shape) -> None:
  """Refuse images that are no squares, and a study of nothing."""
  if shape[0] != shape[1]:
    raise ValueError(
      f"the images are {shape[0]} x {shape[1]}; networks want squares: set `data.crop` or `data.size`"
    )
  for field in ("checkpoint", "function"):
    if field in config and not config[field]:
      wanted = {"checkpoint": "the folder that an import made", "function": "FILE.py:NAME"}[field]
      raise ValueError(f"`{field}` is empty; want {wanted}")
  for field in ("models", "analyses"):
    if not config[field]:
      raise ValueError(f"`{field}` is empty; a study needs at least one")


def _check_titles(config: ConfigDict) -> None:
  if len({model.title for model in config.models.values()}) < len(config.models):
    raise ValueError("two `models` have the same `title`; figures tell models apart by it")


def _check_analysis(name: str, config: ConfigDict, shape: Shape, num_held_out: int) -> None:
  analyses.ANALYSES[name].check(config, shape, num_held_out)


def _check_figure(name: str, config: ConfigDict) -> None:
  _check_needs(f"`figures` has {name!r}", plots.STUDY_PLOTS[name].NEEDS, config)


def _check_claim(name: str, config: ConfigDict, shape: Shape) -> None:
  _check_needs(f"`claims` has {name!r}", claims.CLAIMS[name].needs, config)
  _check_pairs(f"`claims` has {name!r}", claims.CLAIMS[name].needs.pairs * math.prod(shape), config)


def check_text(config: ConfigDict) -> None:
  """Refuse strings that are no text, such as paths of bytes: results couldn't name them."""
  for field, value in results.leaves(config.to_dict()):
    try:
      str(value).encode()
    except UnicodeEncodeError as error:
      raise ValueError(f"`{field}` is {value!r}, which holds bytes that are not UTF-8; want text") from error


def check_images(dataset: data.Dataset) -> None:
  """Refuse images that are all one: they have no direction to vary in, and nothing can be learned of them.

  Raises:
    ValueError: saying how many there are.
  """
  for name, images in (("training", dataset.pool), ("held-out", dataset.held_out)):
    if len(images) > 1 and data.duplicates.one_alone(images):
      raise ValueError(
        f"the {name} images of {dataset.title} are {len(images)} times one; want at least two different ones"
      )


def check_devices(config: ConfigDict, num_devices: int) -> None:
  """Refuse a batch that the devices cannot share equally."""
  for label, model in config.models.items():
    if schema.source(model) == "training" and model.train.batch % num_devices:
      raise ValueError(
        f"`models.{label}.train.batch` is {model.train.batch}, which {num_devices} devices cannot share "
        f"equally; want a multiple of {num_devices}"
      )


def cpu_devices(config: ConfigDict, num_processes: int = 1) -> int:
  """Return how many devices the CPU should be: one per core, as far as every batch can be shared.

  One JAX device computes on about one core.

  Args:
    config: the study.
    num_processes: that share every batch, each with as many devices.
  """
  cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
  batches = [model.train.batch for model in config.models.values() if schema.source(model) == "training"]
  shared = [num for num in range(1, cores + 1) if not any(batch % (num * num_processes) for batch in batches)]
  return max(shared, default=1)


def network_card(config: ConfigDict, model: ConfigDict, shape: Shape, num_classes: int = 0) -> dict[str, Any]:
  """Return what a checkpoint must remember to rebuild a model's network, ``{"network": {...}}``, plain JSON.

  Of the section `network` an architecture takes the fields that it knows; the others must be the study's own.
  One that is told the class knows as many as the images have.
  """
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
  options: dict[str, Any] = {"img_resolution": size, "img_channels": channels}
  for name, value in networks.known(model.network.to_dict(), config.network.to_dict()).items():
    options[name] = list(value) if isinstance(value, tuple) else value
  if model.train.augment:
    options |= {"augment_dim": augment.LABEL}
  if model.train.conditional:
    options |= {"label_dim": num_classes, "label_dropout": model.train.label_dropout}
  return {"network": options}


def _check_settings(config: ConfigDict, name: str) -> None:
  """Refuse counts that no machine finishes, lists that hold something else, and numbers that stand twice."""
  for field, default in analyses.ANALYSES[name].DEFAULTS.items():
    value = config[name][field]
    most = _LEVELS if field == "levels" else _MOST
    if isinstance(value, int) and value > most:
      raise ValueError(f"`{name}.{field}` is {value}; want at most {most}")
    if isinstance(default, tuple) and default:
      kind, wanted = next((kind, wanted) for kind, wanted in _ENTRIES if isinstance(default[0], kind))
      if not all(isinstance(item, kind) for item in value):
        raise ValueError(f"`{name}.{field}` is {value}; want {wanted}")
      if not isinstance(default[0], tuple | str) and len(set(value)) < len(value):
        raise ValueError(f"`{name}.{field}` is {value}; want every number once")


def _check_width(label: str, model: ConfigDict) -> None:
  for field, value in model.network.items():
    for item in value if isinstance(value, tuple) else (value,):
      if isinstance(item, int) and item > _WIDEST:
        raise ValueError(f"`models.{label}.network.{field}` is {value}; want at most {_WIDEST}")


def _check_sampler(sampler: ConfigDict) -> None:
  low, high = sampler.sigma_min, sampler.sigma_max
  if not 1e-6 <= low < high <= 1e6:
    raise ValueError(
      f"`sampler.sigma_min`, `sampler.sigma_max` are {low}, {high}; noise levels must be positive and "
      "rising, from 1e-6 to 1e6"
    )
  if not 2 <= sampler.levels <= _LEVELS:
    raise ValueError(f"`sampler.levels` is {sampler.levels}; want 2 to {_LEVELS}")


def _check_number(label: str, model: ConfigDict, field: str) -> None:
  value, where = model.train[field], f"`models.{label}.train.{field}`"
  least, most = (_COUNTS | _REALS)[field]
  if field in _COUNTS and not least <= value <= most:
    raise ValueError(f"{where} is {value}; want {least} to {most}")
  if field in _REALS and not least < value < most:
    raise ValueError(f"{where} is {value}; want between {least} and {most:g}")


def _check_model(
  config: ConfigDict, label: str, model: ConfigDict, shape: Shape, num_pool: int, num_classes: int
) -> None:
  # Labels become names of folders.
  if not re.fullmatch(r"\w[\w-]{0,99}", label):
    raise ValueError(f"`models` has {label!r}; want a label of letters, digits, _ and -, at most 100")
  where = f"models.{label}"
  if not 0 <= model.size <= num_pool:
    raise ValueError(f"`{where}.size` is {model.size}; the data has {num_pool} training images")
  if model.part not in (0, 1):
    raise ValueError(f"`{where}.part` is {model.part}; want 0 or 1")
  if model.part == 1 and not 0 < 2 * model.size <= num_pool:
    raise ValueError(f"`{where}.size` is {model.size}; two disjoint parts need at most {num_pool // 2}")
  if not 0 <= model.seed < 2**32:
    raise ValueError(f"`{where}.seed` is {model.seed}; want a whole number from 0 to {2**32 - 1}")
  given = [field for field in schema.SOURCES if model[field]]
  if len(given) > 1:
    raise ValueError(f"`{where}` has both `{given[0]}` and `{given[1]}`; a model has one source")
  if model.jax and not model.function:
    raise ValueError(f"`{where}.jax` is true without a `function`; it says of which kind a function is")
  if model.denoiser:
    _check_names(f"{where}.denoiser", [model.denoiser], FAMILIES)
  if model.linear:
    others = [label for label, other in config.models.items() if not other.linear]
    _check_names(f"{where}.linear", [model.linear], others)
    if "distillation" not in config.analyses:
      raise ValueError(f"`{where}.linear` needs 'distillation' among `analyses`, which finds that map")
  if model.surrogate and given:
    raise ValueError(
      f"`{where}` has both `surrogate` and `{given[0]}`; only a network trained here has draws"
    )
  card: dict[str, Any] = {}
  if model.checkpoint:
    card = network_card(config, model, shape)["network"]
    _check_levels(config.sampler, where, networks.levels(networks.create(**card)))
  if schema.source(model) != "training":
    classes.check_label(where, model, card, num_classes)
    return
  _check_noise_law(where, model)
  if not 0 <= model.train.augment <= 1:
    raise ValueError(f"`{where}.train.augment` is {model.train.augment}; want a probability")
  if model.train.augment and model.train.flips:
    raise ValueError(f"`{where}.train` has both `flips` and `augment`, which flips by itself; want one")
  _check_alarm(where, model)
  classes.check_training(where, model, config.data.name, num_classes)
  card = network_card(config, model, shape, num_classes)["network"]
  classes.check_label(where, model, card, num_classes)
  network = networks.create(**card)
  networks.compute(network, dtype=model.train.dtype, remat=model.train.remat)


def _check_levels(sampler: ConfigDict, where: str, levels: tuple[float, float]) -> None:
  """Refuse noise levels that a network's schedule lacks."""
  low, high = levels
  wanted = {}
  if sampler.sigma_min < low:
    wanted["sigma_min"] = _rounded(low, math.ceil)
  if sampler.sigma_max > high:
    wanted["sigma_max"] = _rounded(high, math.floor)
  if wanted:
    flags = " ".join(f"--config.sampler.{field}={value:g}" for field, value in wanted.items())
    raise ValueError(
      f"`sampler.sigma_min`, `sampler.sigma_max` are {sampler.sigma_min}, {sampler.sigma_max}; the network "
      f"of `{where}` knows no levels but those from {low:.5g} to {high:.5g}: add {flags}"
    )


def _rounded(value: float, direction: Callable[[float], int]) -> float:
  """Return a positive number with four digits, rounded up or down."""
  unit = 10.0 ** (math.floor(math.log10(value)) - 3)
  return direction(value / unit) * unit


def _check_alarm(where: str, model: ConfigDict) -> None:
  """Refuse looks for memorization between metric lines, and of a network with a single image."""
  train = model.train
  if train.alarm_every % train.log_every:
    raise ValueError(
      f"`{where}.train.alarm_every` is {train.alarm_every}; want a multiple of `train.log_every`, "
      f"{train.log_every}, in whose lines its numbers stand"
    )
  if train.alarm_every and model.size == 1:
    raise ValueError(f"`{where}.train.alarm_every` is {train.alarm_every}; want 0 with one training image")


def _check_noise_law(where: str, model: ConfigDict) -> None:
  train = model.train
  if train.noise_law:
    _check_names(f"{where}.train.noise_law", [train.noise_law], edm.TRAINING_NOISE)
  low, high = train.sigma_min, train.sigma_max
  if not 1e-6 <= low <= high <= 1e6:
    raise ValueError(
      f"`{where}.train.sigma_min`, `sigma_max` are {low}, {high}; noise levels must be positive and not "
      "falling, from 1e-6 to 1e6"
    )
  if model.network.preconditioning in networks.PREDICTIONS:
    raise ValueError(
      f"`{where}.network.preconditioning` is {model.network.preconditioning!r}, which networks trained here "
      f"cannot have; known: {', '.join(edm.PRECONDITIONINGS)}"
    )
  law = train.noise_law or model.network.preconditioning
  if (low, high) != (edm.SIGMA_MIN, edm.SIGMA_MAX) and "sigma_min" not in loop.NOISE_FIELDS.get(law, ()):
    raise ValueError(
      f"`{where}.train.sigma_min`, `sigma_max` are {low}, {high}, which training noise of the law {law!r} "
      "does not know; set `train.noise_law` to 'log-uniform'"
    )


def _check_families(config: ConfigDict, shape: Shape, num_pool: int) -> None:
  """Refuse options out of range, and images that do not suit a denoiser that something asks for."""
  _check_names("denoisers", config.denoisers, FAMILIES)
  used = [model.denoiser for model in config.models.values() if model.denoiser]
  used += [name for name in config.controls if name in FAMILIES]
  for name in config.analyses:
    used += analyses.ANALYSES[name].uses(config[name])
  for name, options in config.denoisers.items():
    family.check_options(name, FAMILIES[name], options.to_dict())
    for model in config.models.values() if name in used else ():
      family.check_images(name, FAMILIES[name], shape, model.size or num_pool, options.to_dict())


def _check_sweep(config: ConfigDict) -> None:
  """Refuse a sweep along which a model has no place, or no place comparable to that of the others."""
  if config.sweep == "size":
    return
  widths = set()
  for label, model in config.models.items():
    if schema.source(model) != "training":
      raise ValueError(
        f"`sweep` is {config.sweep!r}, and `models.{label}` is not trained here; want `size` or none"
      )
    widths.add(networks.width_field(model.network.name))
  if config.sweep == "width" and len(widths) > 1:
    raise ValueError(
      f"`sweep` is 'width', and the models' widths are different things ({', '.join(sorted(widths))}); "
      "want networks of one kind"
    )


def _check_needs(what: str, needs: measures.Needs, config: ConfigDict) -> None:
  """Refuse a claim or figure of the whole study that this study cannot answer."""
  for place, entries in needs.results.items():
    analysis, _, option = place.partition(".")
    if analysis not in config.analyses:
      raise ValueError(f"{what}, which needs {analysis!r} among `analyses`")
    for entry in entries:
      if entry not in config[analysis][option]:
        if config.data.scale and (unfit := floats.unfit(entry)):
          floats.check(f"{what}, which is about", unfit)
        raise ValueError(f"{what}, which needs {entry!r} among `{place}`")
  for control in needs.controls:
    if control not in config.controls:
      raise ValueError(f"{what}, which needs {control!r} among `controls`")
  if needs.along > 1 and (not config.sweep or len(config.models) < needs.along):
    raise ValueError(
      f"{what}, which follows models along a sweep; set `sweep` to one of {', '.join(measures.SWEEPS)}, and "
      f"have at least {needs.along} `models`"
    )
  parts: dict[str, list[int]] = {}
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


def _check_pairs(what: str, least: int, config: ConfigDict) -> None:
  if config.distillation.pairs < least:
    raise ValueError(
      f"{what}, which {config.distillation.pairs} `distillation.pairs` cannot decide: their noise makes as "
      f"large a gap; want at least {least}"
    )


def _check_names(field: str, names: Iterable[str], known: Iterable[str]) -> None:
  known, seen = list(known), set()
  for name in names:
    if name not in known:
      close = difflib.get_close_matches(name, known, 1) if isinstance(name, str) else []
      hint = f"; did you mean {close[0]!r}?" if close else ""
      raise ValueError(f"`{field}` has no {name!r}; known: {', '.join(known)}{hint}")
    if name in seen:
      raise ValueError(f"`{field}` has {name!r} twice")
    seen.add(name)
