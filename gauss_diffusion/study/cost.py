"""What a study would cost from nothing: evaluations of denoisers, time, memory, disk. None of it is run.

Times follow from counted operations and from how fast this machine does such operations, measured in about a
second. Where devices are idle they are right within a factor of two. Whether what is left to do fits in
memory is told without measuring, and, where it does by far, without tracing networks.
"""

import functools
import pathlib
import platform
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from gauss_diffusion import analyses, hosts, networks, parallel, results
from gauss_diffusion.analyses import subject as subjects
from gauss_diffusion.denoisers import FAMILIES, external
from gauss_diffusion.probes import modes
from gauss_diffusion.study import pipeline
from gauss_diffusion.study.members import analyses_of
from gauss_diffusion.study.subjects import Model
from gauss_diffusion.training import checkpoint
from gauss_diffusion.types import Array

STEP = 3  # evaluations that the forward and backward pass of one image in training cost
PARAMETER = 4  # bytes
# What XLA holds at a time of all intermediate results, whose bytes `cost_analysis` knows: 0.3 to 0.5 and 0.04
# to 0.07 by `compiled.memory_analysis()` of DDPM++, ADM and DiT at 8 x 8 and 32 x 32.
KEPT_IN_TRAINING, KEPT_IN_DENOISING = 0.4, 0.06
LATENTS, PROBES = 32, 16  # at a time: of `analyses.subject.sample`, of `jacobian.random_probes`
SHARED = ("statistics", "compile")  # stages that are no step of their own: others wait for them
DRAWING, FIGURE = 2.0, 500_000  # seconds, and bytes on disk, of one figure and its part of the report
RESULT = 100_000  # bytes of a result and its card, but for maps; images may add a few MB
# Operations of factorisations of n x n, in units of n³: what a matrix product does in their time at n = 1024.
EIGH, SVD, SOLVE = 20, 50, 5
# Seconds of one compile without a cache, of a network with as many parameter arrays as `TENSORS`, on two idle
# CPU cores: the network of `configs/digits.py`, each program's first call less its second; where the cards of
# that study, of its first model and with an empty cache, say more, the mean of both.
COMPILE = {"train": 24.0, "denoise": 5.0, "score": 4.0, "sample": 3.0, "push": 8.0, "pull": 8.0}
TENSORS = 130
COMPILE_IDEAL = 1.0  # of an ideal denoiser, for every number of images anew
PROGRAMS = {  # of analyses that do more than denoise
  "linearity": ("score",),
  "explained": ("denoise", "sample"),
  "score_gap": ("denoise", "sample"),
  "trajectories": ("sample",),
  "samples": ("sample",),
  "teleportation": ("sample",),
  "gain": ("push",),
  "calibration": ("push",),
  "likelihood": ("push", "denoise"),
  "modes": ("sample", "push", "pull"),
  "perturbation": ("sample", "push", "pull"),
}
AT_A_TIME = {  # the setting of an analysis by which its evaluations under way at a time are multiplied
  "linearity": "pairs",
  "gain": "pairs",
  "modes": "latents",
  "perturbation": "latents",
}
# No block of a network makes more maps as large as its input and as wide as its widest layer, nor more of
# attention, nor more matrices of that width: no network that the test knows makes more than half as many.
MAPS, ATTENTIONS, MATRICES = 100, 8, 60
WIDTHS = (16, 64)  # channels of the layers by which devices are measured
PATCH = 500  # operations of such a layer in the time that one patch takes at one place of a local denoiser
PAIR = 50  # the same of windows anywhere, which products compare
IDEAL_WIDTH = 16  # of layers that are as fast as an ideal denoiser's arithmetic
PROBE_SECONDS = 0.2
# Parameters and their like on each device: with average, two moments, gradients as tensors and as one vector,
# updates.
ON_DEVICE = 7
RATE = 1e14  # operations a second, for which a training's hours are said beside those of this machine
SECONDS = (("s", 1), ("min", 60), ("h", 3600))
COUNTS = (("", 1), ("thousand", 1e3), ("million", 1e6), ("billion", 1e9))
OPERATIONS = (("FLOP", 1), ("GFLOP", 1e9), ("TFLOP", 1e12), ("PFLOP", 1e15), ("EFLOP", 1e18))
BYTES = (("kB", 1e3), ("MB", 1e6), ("GB", 1e9), ("TB", 1e12))


class Stage(NamedTuple):
  """One piece of work."""

  what: str  # its kind, and the label of its model: "train n16"
  evaluations: int  # passes of one image through a network or another denoiser
  seconds: float
  bytes_memory: float  # at its peak beside the data, one host and its devices together
  bytes_disk: float  # that it leaves behind


class _Peak(NamedTuple):
  """The memory of one piece of work, ``fixed + each * number`` bytes."""

  what: str
  fixed: float
  each: float
  number: int  # as it is
  field: str  # that says the number


class _Network(NamedTuple):
  tensors: int  # parameter arrays
  parameters: int
  width: int
  flops: float  # of one evaluation
  results: float  # bytes of all intermediate results of one evaluation


def estimate(config: ConfigDict, models: list[Model], num_held_out: int) -> list[Stage]:
  """Return what each piece of a study's work would cost, as if nothing of it had been done.

  Networks are traced, never initialised or compiled; functions from outside are timed on a few images.

  Args:
    config: the study, checked.
    models: all or some of its models.
    num_held_out: images kept apart from training.
  """
  stages = [_train(model, steps) for model, steps in _steps(models)]
  subsets = {model.subset.fingerprint: model for model in reversed(models)}  # each is looked at once
  stages += [_statistics(model) for model in models if model is subsets[model.subset.fingerprint]]
  for model in models:
    derivatives = model.source != "function" or model.entry.jax
    derivatives = derivatives or isinstance(_function(model.entry.function), external.Differentiable)
    for name in analyses_of(config, model.member):
      if derivatives or not analyses.ANALYSES[name].DERIVATIVES:
        stages.append(_analyse(name, config, model, num_held_out))
  figures = len(config.analyses) + len(config.figures) + 2  # of training and of what is known, or of claims
  stages.append(Stage("report", 0, DRAWING * figures, 0, FIGURE * figures))
  compiled = _programs(config, models)
  return [*stages, Stage(f"compile {len(compiled)} programs", 0, sum(compiled.values()), 0, 0)]


def table(stages: list[Stage]) -> str:
  """Return stages and their total as text, a line each, 100 columns at most."""
  memory = max((stage.bytes_memory for stage in stages), default=0)
  count, seconds, _, disk = (sum(numbers) for numbers in zip(*(stage[1:] for stage in stages)))
  lines = [f"{'stage':<13} {'model':<28} {'evaluations':>14} {'time':>9} {'memory':>9} {'disk':>9}"]
  for stage in [*stages, Stage("total", count, seconds, memory, disk)]:
    kind, _, label = stage.what.partition(" ")
    numbers = amount(stage.evaluations), amount(stage.seconds, SECONDS)
    sizes = amount(stage.bytes_memory, BYTES), amount(stage.bytes_disk, BYTES)
    label = label if len(label) <= 28 else f"{label[:27]}…"
    lines.append(f"{kind:<13} {label:<28} {numbers[0]:>14} {numbers[1]:>9} {sizes[0]:>9} {sizes[1]:>9}")
  devices = f"{jax.device_count()} × {jax.devices()[0].device_kind}"
  lines.append(f"on {platform.node()[:40]}, {devices[:30]}; a cache saves the compiles")
  return "\n".join(lines)


def described(models: list[Model]) -> str:
  """Return a line on each different network that is trained: its size, its training, a device's memory.

  Hours are those of one device that does `RATE` operations a second, for machines other than this one.
  """
  lines: dict[str, list[str]] = {}
  for model in models:
    if model.source == "training":
      network, train = _network(model), model.entry.train
      operations = STEP * train.steps * train.batch * network.flops
      peak = _training_peak(model, network)
      memory = PARAMETER * network.parameters * ON_DEVICE + peak.each * train.batch / jax.local_device_count()
      said = (
        f"{model.card['network']['name']}: {amount(network.parameters, COUNTS)} parameters, {train.steps:,} "
        f"steps of {train.batch} images, {amount(memory, BYTES)} a device; {amount(operations, OPERATIONS)}, "
        f"{amount(operations / RATE, SECONDS)} at {RATE / 1e12:g} TFLOP/s"
      )
      lines.setdefault(said, []).append(model.label)
  return "\n".join(f"{said}: {len(labels)} such" for said, labels in lines.items())


def check(
  config: ConfigDict, models: list[Model], num_held_out: int, workdir: pathlib.Path, memory: int | float
) -> None:
  """Refuse a study of which something that is left to do does not fit in memory.

  Args:
    config: the study, checked.
    models: all or some of its models.
    num_held_out: images kept apart from training.
    workdir: of the study, with what is done already.
    memory: bytes that there are.

  Raises:
    ValueError: naming the stage, what it needs, what there is, and what would fit.
  """

  def peaks(network):
    for model in models:
      undone = [
        name
        for name in analyses_of(config, model.member)
        if not results.exists(workdir / "results" / name / model.label)
      ]
      steps = model.entry.train.steps
      untrained = model.source == "training" and checkpoint.latest_step(model.folder) != steps
      own = network(model) if model.card and (untrained or undone) else None
      if untrained and own:
        yield _training_peak(model, own)
      if undone:
        yield _statistics_peak(model)
      for name in undone:
        yield _analysis_peak(name, config, model, own, num_held_out)

  def largest(network):
    return max(peaks(network), key=_bytes, default=None)

  if (bound := largest(_bound)) and _bytes(bound) > memory:
    peak = largest(_network)
    if _bytes(peak) > memory:
      most = int((memory - peak.fixed) / peak.each) if peak.each else 0
      fits = f"`{peak.field}` of at most {most}" if most > 0 else "smaller images, by `data.size`"
      needed, there = amount(_bytes(peak), BYTES), amount(memory, BYTES)
      raise ValueError(f"`{peak.what}` needs about {needed} of memory, and there are {there}; want {fits}")


def _steps(models: list[Model]) -> list[tuple[Model, int]]:
  """Return the models trained here, and the steps that each makes after those of the one it continues."""
  found = []
  for run in pipeline.runs([model for model in models if model.source == "training"]):
    before = 0
    for model in run:
      found.append((model, model.entry.train.steps - before))
      before = model.entry.train.steps
  return found


def _train(model: Model, steps: int) -> Stage:
  network, train = _network(model), model.entry.train
  evaluations = STEP * steps * train.batch
  checkpoints = min(train.keep, -(-train.steps // train.checkpoint_every))
  return Stage(
    f"train {model.label}",
    evaluations,
    evaluations * network.flops / _device_rate(network.width, train.dtype),
    _bytes(_training_peak(model, network)),
    checkpoints * 4 * PARAMETER * network.parameters,
  )


def _training_peak(model: Model, network: _Network) -> _Peak:
  train = model.entry.train
  narrow = train.dtype == "bfloat16" and jax.default_backend() != "cpu"  # a CPU holds it as float32
  activations = KEPT_IN_TRAINING * network.results / (2 if narrow else 1) / jax.process_count()
  # Parameters, their average and two moments, on devices also gradients and updates.
  copies = 4 + ON_DEVICE * jax.local_device_count()
  fixed, field = copies * PARAMETER * network.parameters, f"models.{model.label}.train.batch"
  return _Peak(f"train {model.label}", fixed, activations, train.batch, field)


def _statistics(model: Model) -> Stage:
  num, dimension = len(model.subset.images), model.subset.images[0].size
  rank = min(num, dimension)
  seconds, peak = _moments(num, dimension) / _host_rate(), _statistics_peak(model)
  return Stage(peak.what, 0, seconds, _bytes(peak), 8 * dimension * rank)


def _statistics_peak(model: Model) -> _Peak:
  num, dimension = len(model.subset.images), model.subset.images[0].size
  rank = min(num, dimension)
  memory = 8 * (4 * rank**2 + dimension * rank)  # the matrix, its eigenvectors, LAPACK's work; the basis
  return _Peak(f"statistics {model.label}", memory, 0, 0, "")


def _moments(num: int, dimension: int) -> int:
  """Return the operations of `statistics.gaussian_stats`: in the smaller space, and from there to pixels."""
  rank = min(num, dimension)
  to_pixels = (2 + EIGH) * dimension * rank**2 if num <= dimension else 0
  return 2 * num * dimension * rank + EIGH * rank**3 + to_pixels


def _analyse(name: str, config: ConfigDict, model: Model, num_held_out: int) -> Stage:
  settings, levels, dimension = config[name], config.sampler.levels, model.subset.images[0].size
  counts = analyses.ANALYSES[name].evaluations(settings, levels, config.sampler.solver, dimension)
  operations, _, disk = _maps(name, settings, counts, levels, dimension, num_held_out)
  seconds = sum(count * _pass_seconds(used, config, model) for used, count in counts.items())
  seconds += operations / _host_rate()
  peak = _analysis_peak(name, config, model, _network(model) if model.card else None, num_held_out)
  return Stage(peak.what, sum(counts.values()), seconds, _bytes(peak), RESULT + disk)


def _analysis_peak(
  name: str, config: ConfigDict, model: Model, network: _Network | None, num_held_out: int
) -> _Peak:
  analysis, settings, levels = analyses.ANALYSES[name], config[name], config.sampler.levels
  dimension, devices = model.subset.images[0].size, jax.local_device_count()
  counts = analysis.evaluations(settings, levels, config.sampler.solver, dimension)
  _, fixed, _ = _maps(name, settings, counts, levels, dimension, num_held_out)
  if set(subjects.LINEAR) & set(analysis.uses(settings)):  # the maps of both laws; one law's on each device
    fixed += 4 * dimension**2 * levels * (len(subjects.LAWS) + devices)
  if network is None:
    return _Peak(f"{name} {model.label}", fixed, 0, 0, "")
  fixed += PARAMETER * network.parameters * (1 + devices)
  each = KEPT_IN_DENOISING * network.results * _in_flight(name, settings, dimension) / jax.process_count()
  if name not in AT_A_TIME:
    return _Peak(f"{name} {model.label}", fixed + each, 0, 0, "")
  number = settings[AT_A_TIME[name]]
  return _Peak(f"{name} {model.label}", fixed, each / number, number, f"{name}.{AT_A_TIME[name]}")


def _bytes(peak: _Peak) -> float:
  return peak.fixed + peak.each * peak.number


def _in_flight(name: str, settings: ConfigDict, dimension: int) -> int:
  """Return how many evaluations of the network are under way at a time."""
  match name:
    case "linearity":
      return settings.pairs * (2 + 2 * len(settings.alpha2))
    case "gain":
      return 2 * settings.pairs * 2 * (settings.directions + PROBES + 1)
    case "calibration":
      return 2 * analyses.calibration.BATCH * settings.probes
    case "likelihood":
      return analyses.likelihood.in_flight(settings, dimension)
    case "modes":
      return 3 * settings.latents * (settings.vectors + modes.OVERSAMPLING)
    case "perturbation":
      return 3 * settings.latents * (1 + modes.OVERSAMPLING)
    case "trajectories" | "samples" | "teleportation":
      return LATENTS
  return parallel.samples_in_flight(dimension)


def _maps(
  name: str, settings: ConfigDict, counts: dict[str, int], levels: int, dimension: int, num_held_out: int
) -> tuple[int | float, int | float, int]:
  """Return what affine maps cost to find: operations on the host, bytes of memory, bytes kept on disk.

  The same of outputs that are kept whole.
  """
  square, cube = dimension**2, dimension**3
  a_map, problem = (
    4 * square,
    3 * 8 * square,
  )  # least squares, in place: two moments, and what is added to them
  if jax.default_backend() != "cpu":  # two sums in two parts, and as much that is added
    problem += jax.local_device_count() * 8 * 4 * square

  def least_squares(pairs):
    return 4 * pairs * square / jax.process_count() + SOLVE * cube

  match name:
    case "explained":
      fields = (len(settings.denoisers) + 1) * settings.images * dimension
      inner = len(analyses.explained.LAWS) * levels * 2 * (len(settings.denoisers) + 1) * fields
      return inner, (4 * levels + 3 * 8) * fields, 4 * levels * settings.images * dimension
    case "distillation":  # each map is the mean of fits; their singular vectors and norms are compared
      maps, fits = len(subjects.LAWS) * levels, analyses.distillation.FITS
      pairs = counts["network"] / (fits * maps)
      operations = maps * (fits * least_squares(pairs) + ((fits + 2) * EIGH + 12) * cube)
      return operations, 2 * maps * a_map + max(problem, 8 * 8 * square), maps * a_map  # then stacked
    case "halves":  # the pairs of Gaussians that are drawn, by singular value decomposition
      return 2 * settings.pairs * SVD * cube, problem, 0
    case "input_law":
      sigmas = min(len(settings.sigmas), levels)
      maps = len(settings.denoisers) * len(subjects.LAWS) * sigmas * settings.repeats
      operations = maps * (least_squares(settings.pairs) + 2 * cube)
      return operations, 3 * settings.repeats * a_map + problem, 0
    case "descent":
      sigmas, recorded = min(len(settings.sigmas), levels), settings.steps // settings.record_every
      steps = settings.steps * (4 * settings.batch + 10) * square
      compared = (SVD + 6 * recorded) * cube
      operations = sigmas * (steps + least_squares(settings.steps * settings.batch) + compared)
      operations += 2 * _moments(num_held_out, dimension)
      return operations, sigmas * (recorded + 4) * a_map + problem, 0
  return 0, 0, 0


def _pass_seconds(name: str, config: ConfigDict, model: Model) -> float:
  """Return the seconds of one evaluation of a denoiser that an analysis names."""
  num, *shape = model.subset.images.shape
  dimension = int(np.prod(shape))
  if name == subjects.NETWORK and model.card:
    network = _network(model)
    passes = 2 if model.entry.guidance else 1  # with the class and without
    return passes * network.flops / _device_rate(network.width, "float32")
  if name == subjects.NETWORK and model.source == "function":
    return _function_seconds(model.entry.function, model.entry.jax, tuple(shape))
  rank = min(config.denoisers.gaussian.rank or num, num, dimension)
  operations = {"gaussian": 4 * dimension * rank} | dict.fromkeys(subjects.LINEAR, 2 * dimension**2)
  operations |= dict.fromkeys(("shrunk", "finite_data"), 4 * dimension * min(num, dimension))
  operations["ppca"] = 4 * dimension * min(config.denoisers.ppca.rank, num, dimension)
  mixture = config.denoisers.mixture
  operations["mixture"] = 8 * mixture.components * dimension * min(mixture.rank or dimension, dimension)
  operations |= _class_operations(model, config, dimension)
  # Three products with every training image, one with the weights, and norms.
  operations |= dict.fromkeys(("multi-delta", "kernel", "golden"), 10 * num * dimension)
  operations["smoothed"] = 10 * num * dimension * config.denoisers.smoothed.draws
  places = shape[0] * shape[1]
  operations |= {"ls": PATCH * num * places, "pspc": 2 * PATCH * num * places}
  operations |= dict.fromkeys(("els", "els_borders"), PAIR * num * places**2)
  operations |= {"pca_locality": (10 * num + 2 * min(num, dimension)) * dimension**2}
  ideal = model.entry.denoiser if name == subjects.NETWORK else name
  return operations.get(ideal, dimension) / _device_rate(IDEAL_WIDTH, "float32")


def _class_operations(model: Model, config: ConfigDict, dimension: int) -> dict[str, int]:
  """Return the operations of one evaluation of those denoisers that are fitted to labels."""
  counts = np.bincount(model.subset.labels) if model.subset.labels is not None else np.zeros(1, int)
  found = {}
  for name, classes in (("class_mixture", len(counts)), ("class_gaussian", 1)):
    rank = min(config.denoisers[name].rank or dimension, counts.max(), dimension)
    # The mixture goes to and from each class's components for its probability, and again for its estimate.
    found[name] = 4 * dimension * int(rank) * (2 * classes if name == "class_mixture" else 1)
  return found


@functools.cache
def _function(place: str) -> Callable[..., Any]:
  """Return a user's function, whose file is run once however often costs are estimated."""
  return external.load(place)


@functools.cache
def _function_seconds(place: str, of_jax: bool, shape: tuple[int, ...]) -> float:
  """Return the seconds that one image takes under a user's function, once it is compiled or loaded."""
  function, x, sigma = _function(place), np.zeros((8, *shape), np.float32), np.ones(8, np.float32)
  if of_jax:
    function = jax.jit(jax.vmap(function))
  for _ in range(2):
    start = time.perf_counter()
    jax.block_until_ready(function(x, sigma))
  return (time.perf_counter() - start) / len(x)


def _network(model: Model) -> _Network:
  card = model.card["network"]
  return _traced(networks.create(**card).model, networks.width_field(card["name"]))


def _bound(model: Model) -> _Network:
  """Return no less than `_network` says of memory, and in no time."""
  net = networks.create(**model.card["network"]).model
  match model.card["network"]["name"]:
    case "dit":
      side = attended = net.img_resolution // net.patch_size
      blocks, width, heads = net.depth + 2, net.hidden_size, net.num_heads
    case "skip":
      side, attended = net.img_resolution, 0
      blocks, width, heads = 2 * net.num_levels + 1, net.model_channels, 0
    case "ddpmpp" | "ncsnpp" | "adm" | "edm2" | "diffusers":
      levels = len(net.channel_mult)
      side = net.img_resolution
      attended = min(side, max(net.attn_resolutions, default=0) or side >> (levels - 1))
      blocks, width = levels * (2 * net.num_blocks + 3) + 2, net.model_channels * max(net.channel_mult)
      heads = width // (getattr(net, "attention_head_dim", 64) or width) + 1
    case _:
      return _network(model)
  numbers = blocks * (MAPS * width * side**2 + ATTENTIONS * heads * attended**4)
  return _Network(0, MATRICES * blocks * width**2, width, 0, PARAMETER * numbers)


@functools.cache
def _traced(raw: Any, width_field: str) -> _Network:
  """Trace one evaluation of a raw network, a linen module, and count what it would compute."""

  def evaluate(x, noise_label):
    class_labels = jnp.zeros((1, raw.label_dim)) if raw.label_dim else None
    out, variables = raw.init_with_output(jax.random.key(0), x, noise_label, class_labels)
    return out, variables["params"]

  image = (1, raw.img_resolution, raw.img_resolution, raw.img_channels)
  traced = jax.jit(evaluate).trace(*(jax.ShapeDtypeStruct(shape, jnp.float32) for shape in (image, (1,))))
  leaves = jax.tree.leaves(traced.out_info[1])
  parameters = sum(leaf.size for leaf in leaves)
  found = traced.lower().cost_analysis() or {}
  flops = found.get("flops") or 2.0 * parameters * raw.img_resolution**2
  results = found.get("bytes accessedout{}", flops / 10) - PARAMETER * parameters  # these are results here
  return _Network(len(leaves), parameters, getattr(raw, width_field), flops, max(results, 0))


def _device_rate(width: int, dtype: str) -> float:
  """Return the operations per second of all devices together in a network of some width.

  On a CPU narrow layers are slower than wide ones, between 16 and 64 channels by a factor of two: a power of
  the width through these two.
  """
  narrow, wide = (_measured_rate(channels, dtype) for channels in WIDTHS)
  power = np.log(wide / narrow) / np.log(WIDTHS[1] / WIDTHS[0])
  return narrow * (np.clip(width, 4, 128) / WIDTHS[0]) ** power


@functools.cache
def _measured_rate(channels: int, dtype: str) -> float:
  x = np.zeros((parallel.BATCH * jax.process_count(), 8, 8, channels), jnp.dtype(dtype))
  kernel = np.zeros((3, 3, channels, channels), jnp.dtype(dtype))

  def seconds(times):
    start = time.perf_counter()
    parallel.map_samples(_convolve, (kernel, np.int32(times)), x, batch=len(x))
    return hosts.slowest(time.perf_counter() - start)

  seconds(1)  # compiles
  once, times = seconds(1), 2
  while (taken := seconds(times)) < once + PROBE_SECONDS:
    times *= 4
  return (times - 1) * 2 * 9 * x.size * channels / (taken - once)


def _convolve(shared: tuple[Array, Array], x: Array) -> Array:
  kernel, times = shared
  precision = None if x.dtype == jnp.bfloat16 else "highest"

  def layer(_, h):
    axes = ("NHWC", "HWIO", "NHWC")
    h = jax.lax.conv_general_dilated(
      h[None], kernel, (1, 1), "SAME", dimension_numbers=axes, precision=precision
    )
    return jax.nn.silu(h[0])

  return jax.lax.fori_loop(0, times, layer, x)


@functools.cache
def _host_rate() -> float:
  """Return the operations per second of float64 matrix products on the host."""
  matrix = np.ones((1024, 1024))
  for _ in range(2):
    start = time.perf_counter()
    matrix @ matrix
  return 2 * 1024**3 / (time.perf_counter() - start)


def _programs(config: ConfigDict, models: list[Model]) -> dict[tuple, float]:
  """Return the distinct programs that will be compiled, with their seconds."""
  found: dict[tuple, float] = {}
  for model in models:
    card, scale = str(model.card), _network(model).tensors / TENSORS if model.card else 0
    if model.source == "training":
      found[card, str(model.entry.train.to_dict() | {"steps": 0})] = scale * COMPILE["train"]
    for name in analyses_of(config, model.member):
      programs = PROGRAMS.get(name, ("denoise",))
      if model.card:
        found |= {(card, program): scale * COMPILE[program] for program in programs}
      ideal = set(analyses.ANALYSES[name].uses(config[name])) & set(FAMILIES)
      found |= {(family, len(model.subset.images), programs): COMPILE_IDEAL for family in ideal}
  return found


def amount(value: int | float, units: tuple[tuple[str, int | float], ...] = (("", 1),)) -> str:
  """Return a number with two digits in the largest unit of which there is one, such as ``3.8 h``."""
  if not value:
    return "–"
  unit, size = max(
    (each for each in units if value >= 0.995 * each[1]), key=lambda each: each[1], default=units[0]
  )
  digits = float(f"{value / size:.2g}")
  number = f"{digits:,.0f}" if digits >= 10 else f"{digits:g}" if digits >= 0.1 else "< 0.1"
  return f"{number} {unit}".rstrip()
