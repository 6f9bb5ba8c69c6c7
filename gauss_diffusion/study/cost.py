"""What a study would cost from nothing: evaluations of denoisers, time, memory, disk; nothing of it is run.

Times follow from counted operations and from how fast this machine does such operations, measured in about a
second. Expect them to be right within a factor of two where devices are idle.
"""

import functools
import platform
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from gauss_diffusion import analyses, distill, networks, parallel
from gauss_diffusion.analyses import subject as subjects
from gauss_diffusion.denoisers import FAMILIES, external
from gauss_diffusion.study import pipeline
from gauss_diffusion.study.subjects import Model
from gauss_diffusion.types import Array

BACKWARD = 2  # a gradient costs as much as two more evaluations
# Shares of the bytes of all intermediate results, as operations state them, that XLA holds at one time:
# of `compiled.memory_analysis()` of DDPM++, ADM and DiT at 8 x 8 and 32 x 32, 0.26 to 0.36 and 0.03 to 0.06.
KEPT_IN_TRAINING = 0.35
KEPT_IN_DENOISING = 0.06
# Cubes n³ of float64 operations that a matrix product would do in the time of a factorisation, at n = 1024.
EIGH, LEADING, SVD, SOLVE = 20, 15, 50, 5
SMALL_RESULT = 100_000  # bytes of a card and of the numbers of a result, without images and maps
# Seconds of one compile without a cache: a network of 16 channels on 8 x 8 images, two idle CPU cores; from
# the cards of `configs/digits.py`, the first model's seconds less the mean of those that share its programs.
COMPILE = {"train": 20.0, "denoise": 6.0, "score": 3.0, "sample": 2.5, "push": 6.0, "pull": 6.0}
COMPILE_FAMILY = 0.5  # of an ideal denoiser, anew for every number of images
PROGRAMS = {
  "distillation": ("denoise",),
  "input_law": ("denoise",),
  "descent": ("denoise",),
  "linearity": ("score",),
  "score_gap": ("denoise",),
  "denoised": ("denoise",),
  "trajectories": ("sample",),
  "samples": ("sample",),
  "gain": ("push",),
  "modes": ("sample", "push", "pull"),
  "perturbation": ("sample", "push", "pull"),
}


class Stage(NamedTuple):
  """One piece of work, for one model."""

  what: str  # its kind and the model's label, "train n16"
  evaluations: float  # passes of one image through a network or another denoiser
  seconds: float
  bytes_memory: float  # at its peak, beside the data; host and devices together
  bytes_disk: float  # that it leaves behind


class _Network(NamedTuple):
  parameters: int
  flops: float  # of one evaluation
  results: float  # bytes of all intermediate results of one evaluation


class _Demand(NamedTuple):
  """What an analysis asks for beside the passes themselves."""

  in_flight: float = parallel.BATCH  # evaluations at a time
  host: float = 0.0  # float64 operations on the host
  memory: float = 0.0  # bytes of D x D matrices
  maps: int = 0  # D x D, float32, that its result keeps
  pictures: int = 0  # float32 images that its result keeps


def estimate(config: ConfigDict, models: list[Model], num_held_out: int) -> list[Stage]:
  """Return what each piece of a study's work would cost, as if nothing of it had been done.

  Functions from outside are timed on a few images; networks are traced, never initialised or compiled.

  Args:
    config: the study, checked.
    models: all or some of its models.
    num_held_out: images kept apart from training.
  """
  stages = [_train(model, steps) for model, steps in _steps(models)]
  fitted = {model.subset.fingerprint: model for model in reversed(models)}
  stages += [_statistics(model) for model in models if fitted[model.subset.fingerprint] is model]
  for model in models:
    for name in analyses.ANALYSES:
      if name in config.analyses and _answerable(name, model):
        stages.append(_analyse(name, config, model, num_held_out))
  compiles = _compiles(config, models)
  return [*stages, Stage(f"compile {len(compiles)} programs", 0, sum(compiles.values()), 0, 0)]


def table(stages: list[Stage]) -> str:
  """Return stages and their total as text, a line each, 100 columns at most."""
  head = f"{'stage':<13} {'model':<28} {'evaluations':>14} {'time':>9} {'memory':>9} {'disk':>9}"
  lines = [head]
  for stage in stages:
    kind, _, label = stage.what.partition(" ")
    label = label if len(label) <= 28 else label[:27] + "…"
    size = [_bytes(stage.bytes_memory), _bytes(stage.bytes_disk)]
    count, seconds = _count(stage.evaluations), _time(stage.seconds)
    lines.append(f"{kind:<13} {label:<28} {count:>14} {seconds:>9} {size[0]:>9} {size[1]:>9}")
  evaluations, seconds, disk = (sum(getattr(stage, field) for stage in stages) for field in _SUMMED)
  memory = max((stage.bytes_memory for stage in stages), default=0)
  lines.append(
    f"total: {_count(evaluations)} evaluations, {_time(seconds)}, at most {_bytes(memory)} of memory, "
    f"{_bytes(disk)} on disk"
  )
  devices = f"{jax.local_device_count()} × {jax.local_devices()[0].device_kind}"
  lines.append(f"as this machine would do it: {platform.node()}, {devices}"[:100])
  return "\n".join(lines)


_SUMMED = ("evaluations", "seconds", "bytes_disk")


def check(stages: list[Stage], available_memory: float) -> None:
  """Refuse a study with a stage that does not fit in memory.

  Args:
    stages: from `estimate`.
    available_memory: bytes.

  Raises:
    ValueError: naming the stage, what it needs, what there is, and the field that would make it fit.
  """
  for stage in stages:
    if stage.bytes_memory > available_memory:
      kind, _, label = stage.what.partition(" ")
      raise ValueError(
        f"`{kind}` of the model {label!r} needs about {_bytes(stage.bytes_memory)} of memory, and there are "
        f"{_bytes(available_memory)}; {_remedy(kind, label)}"
      )


def _remedy(kind: str, label: str) -> str:
  if kind == "train":
    return f"lower `models.{label}.train.batch`"
  fields = {"gain": "pairs", "linearity": "pairs", "modes": "latents", "perturbation": "latents"}
  if kind in fields:
    return f"lower `{kind}.{fields[kind]}`"
  smaller = "set `data.size` to make the images smaller"
  if kind in ("score_gap", "denoised", "trajectories", "samples"):
    field = "pairs" if kind == "score_gap" else "denoisers"
    return f"leave the linear denoisers out of `{kind}.{field}`, or {smaller}"
  return smaller if kind == "statistics" else f"{smaller}, or leave {kind!r} out of `analyses`"


def _steps(models: list[Model]) -> list[tuple[Model, int]]:
  """Return the models trained here and how many steps of its own each makes, after the one it continues."""
  found = []
  for run in pipeline.runs([model for model in models if model.source == "training"]):
    before = 0
    for model in run:
      found.append((model, model.entry.train.steps - before))
      before = model.entry.train.steps
  return found


def _train(model: Model, steps: int) -> Stage:
  network, train = _network(model), model.entry.train
  evaluations = (1 + BACKWARD) * steps * train.batch
  half = train.dtype == "bfloat16" and jax.default_backend() != "cpu"  # which computes it in float32
  activations = KEPT_IN_TRAINING * network.results * train.batch / (2 if half else 1)
  # Parameters, their average, two moments; on the way, gradients and updates. The state is on the host too.
  memory = activations + 4 * network.parameters * (6 * jax.local_device_count() + 4)
  checkpoints = min(train.keep, -(-train.steps // train.checkpoint_every))
  disk = 4 * 4 * network.parameters * checkpoints
  seconds = evaluations * network.flops / _device_rate(*_layer(model), train.dtype)
  return Stage(f"train {model.label}", evaluations, seconds, memory, disk)


def _statistics(model: Model) -> Stage:
  num, dimension = len(model.subset.images), model.subset.images[0].size
  rank = min(num, dimension)
  seconds = _moments(num, dimension) / _host_rate()
  # The matrix, its eigenvectors and twice as much of LAPACK's work space; the basis.
  memory = 8 * (4 * rank**2 + dimension * rank)
  return Stage(f"statistics {model.label}", 0, seconds, memory, 8 * dimension * rank)


def _moments(num: int, dimension: int) -> float:
  """Return the operations of `statistics.gaussian_stats`: a product, eigenvectors, and where N <= D a QR."""
  rank = min(num, dimension)
  dual = (2 + EIGH) * dimension * rank**2 if num <= dimension else 0
  return 2 * num * dimension * rank + EIGH * rank**3 + dual


def _answerable(name: str, model: Model) -> bool:
  outside = model.source == "function" and not model.entry.jax
  return not (analyses.ANALYSES[name].DERIVATIVES and outside)


def _analyse(name: str, config: ConfigDict, model: Model, num_held_out: int) -> Stage:
  analysis, settings, sampler = analyses.ANALYSES[name], config[name], config.sampler
  dimension = model.subset.images[0].size
  counts = analysis.evaluations(settings, sampler.levels, sampler.solver, dimension)
  demand = _demand(name, settings, sampler.levels, dimension, num_held_out, counts)
  seconds = sum(count * _pass_seconds(used, config, model) for used, count in counts.items())
  seconds += demand.host / _host_rate()
  memory = demand.memory
  if model.card:
    network = _network(model)
    memory += KEPT_IN_DENOISING * network.results * demand.in_flight
    memory += 4 * network.parameters * (1 + jax.local_device_count())
  if set(subjects.LINEAR) & set(analysis.uses(settings)):  # maps of both laws, and one law's on each device
    memory += 4 * dimension**2 * sampler.levels * (2 + jax.local_device_count())
  disk = SMALL_RESULT + 4 * dimension * (demand.pictures + demand.maps * dimension)
  return Stage(f"{name} {model.label}", sum(counts.values()), seconds, memory, disk)


def _demand(name: str, settings, levels: int, dimension: int, num_held_out: int, counts) -> _Demand:
  square, cube = dimension**2, dimension**3
  moments = 5 * 8 * square  # a least-squares problem: two sums, a factor, a solution, a copy

  def least_squares(pairs):
    return 4 * pairs * square + SOLVE * cube

  match name:
    case "distillation":
      maps = len(subjects.LAWS) * levels
      fit = least_squares(counts["network"] / maps)
      # Each map is also held against W_G, and its leading singular vectors are found; lists, then stacked.
      return _Demand(host=maps * (fit + (4 + LEADING) * cube), memory=2 * maps * 4 * square + moments, maps=maps)
    case "input_law":
      maps = len(settings.denoisers) * len(subjects.LAWS) * min(len(settings.sigmas), levels) * settings.repeats
      host = maps * (least_squares(settings.pairs) + 2 * cube)
      return _Demand(host=host, memory=3 * settings.repeats * 4 * square + moments)
    case "descent":
      num, recorded = min(len(settings.sigmas), levels), settings.steps // settings.record_every
      steps = settings.steps * (4 * settings.batch + 10) * square
      fit = least_squares(settings.steps * settings.batch)
      host = num * (steps + fit + (SVD + 6 * recorded) * cube) + 2 * _moments(num_held_out, dimension)
      memory = (recorded + 4) * num * 4 * square + moments
      return _Demand(host=host, memory=memory, pictures=settings.vectors * (num + 1))
    case "linearity":
      return _Demand(in_flight=settings.pairs * (2 + 2 * len(settings.alpha2)))
    case "gain":
      return _Demand(in_flight=counts["network"] / levels)
    case "modes":
      in_flight = 3 * settings.latents * (settings.vectors + 8)
      return _Demand(in_flight=in_flight, pictures=settings.vectors * (levels + 1))
    case "perturbation":
      moved = 4 * min(len(settings.levels), levels)
      return _Demand(in_flight=3 * 9 * settings.latents, pictures=settings.latents * (1 + moved))
    case "denoised":
      inputs = len(settings.sigmas) + len(settings.pure_noise)
      return _Demand(pictures=settings.shown * (1 + inputs * (1 + len(settings.denoisers))))
    case "samples":
      return _Demand(in_flight=32, pictures=2 * settings.num * len(settings.denoisers))
    case "trajectories":
      return _Demand(in_flight=32, pictures=settings.latents * len(settings.denoisers) * (2 * levels + 1))
  return _Demand()
