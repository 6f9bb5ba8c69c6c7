"""What a study is about to do, and how far it has come, for whoever waits for it."""

import collections
import contextlib
import logging
import pathlib
import sys
import threading
import time
from collections.abc import Callable, Iterator

import jax
from ml_collections import ConfigDict
from tqdm import tqdm

from gauss_diffusion import hosts
from gauss_diffusion.data import Dataset
from gauss_diffusion.study import cost, rebuild
from gauss_diffusion.study.cost import Stage
from gauss_diffusion.study.subjects import Model
from gauss_diffusion.training import checkpoint

PATIENCE = 2.0  # seconds of silence after which a compile is said
TRUST = 30.0  # seconds of work after which what it took counts as much as what it was estimated to take
REPORT = "report"


def undone(models: list[Model], folder: pathlib.Path) -> list[str]:
  """Return what is left to do in a working directory, as `cost.Stage.what` names it, or nothing."""
  lacking = rebuild.lacking(folder)
  found = []
  for model in models:
    untrained = model.source == "training" and checkpoint.latest_step(model.folder) != model.entry.train.steps
    found += [f"train {model.label}"] if untrained else []
    found += [f"{name} {model.label}" for name in lacking.get(model.label, [])]
  return [*found, REPORT] if found else []


def remaining(stages: list[Stage], left: list[str]) -> list[Stage]:
  """Return the stages that are left, each with its part of what all share: statistics, compiles."""
  own = {stage.what: stage for stage in stages if stage.what.partition(" ")[0] not in cost.SHARED}
  shared = sum(stage.seconds for stage in stages if stage.what not in own) / max(len(own), 1)
  return [own[what]._replace(seconds=own[what].seconds + shared) for what in left if what in own]


def plan(
  config: ConfigDict,
  dataset: Dataset,
  models: list[Model],
  left: list[str],
  left_out: list[str],
  followed: list[str],
) -> str:
  """Return what will be done with which data, as lines.

  Args:
    config: the study.
    dataset: its images.
    models: that this process works on.
    left: what there is to do, from `undone`.
    left_out: denoisers among the defaults that do not suit the data, from `floats.leave_out`.
    followed: counts among the defaults that follow the data, from `counts.follow`.
  """
  height, width, channels = dataset.pool.shape[1:]
  trained = collections.Counter(model.entry.train.steps for model in models if model.source == "training")
  kinds = [f"{count} × {steps:,} steps" for steps, count in trained.items()]
  if others := sum(model.source != "training" for model in models):
    kinds.append(f"{others} that need no training")
  work = collections.Counter(what.partition(" ")[0] for what in left)
  images = f"{len(dataset.pool):,} training and {len(dataset.held_out):,} held-out images"
  noted = []
  if dataset.scale:
    noted.append(f"scale     (value − {dataset.scale.shift:g}) / {dataset.scale.factor:g}")
  if left_out:
    noted.append(f"left out  {', '.join(left_out)}, which want uint8 pixels")
  if followed:
    noted.append(f"counts    {', '.join(followed)}, as the data allow")
  return "\n".join(
    [
      f"data      {dataset.title}: {images}, {height} × {width} × {channels}",
      *noted,
      f"models    {', '.join(kinds)}",
      f"analyses  {', '.join(name for name in config.analyses)}",
      f"to do     {len(left)} stages: {', '.join(f'{count} × {name}' for name, count in work.items())}",
    ]
  )


def price(stages: list[Stage]) -> str:
  """Return what the stages from `remaining` will cost, as a line."""
  seconds, disk = (sum(getattr(stage, field) for stage in stages) for field in ("seconds", "bytes_disk"))
  memory = max((stage.bytes_memory for stage in stages), default=0)
  amounts = (
    cost.amount(seconds, cost.SECONDS),
    f"{cost.amount(memory, cost.BYTES)} of memory",
    f"{cost.amount(disk, cost.BYTES)} on disk",
  )
  device = f"{jax.device_count()} × {jax.devices()[0].device_kind}"
  return f"cost      about {', '.join(amounts)}, on {device}"


def announcer(stages: list[Stage]) -> Callable[[str], None]:
  """Return a function that says which stage begins, of how many, and how long all that is left will take.

  The time left is estimated from the cost model, and the longer the work goes on, by how fast it went so far.

  Args:
    stages: in any order; one that is none of these is not announced.
  """
  seconds = {stage.what: stage.seconds for stage in stages}
  begun: list[str] = []
  start = time.monotonic()

  def begin(what: str) -> None:
    if what not in seconds or what in begun:
      return
    done = sum(seconds[each] for each in begun)
    pace = (time.monotonic() - start + TRUST) / (done + TRUST)
    left = cost.amount(pace * (sum(seconds.values()) - done), cost.SECONDS)
    begun.append(what)
    tell(f"stage {len(begun)} of {len(seconds)}: {what}; about {left} left in all")

  return begin


def tell(text: str) -> None:
  """Say something to whoever waits, beside what is printed for others to read on."""
  if hosts.first():
    tqdm.write(text, file=sys.stderr)


@contextlib.contextmanager
def compiling() -> Iterator[None]:
  """Say so whenever JAX is at a compile for longer than a moment; until the block ends."""
  waiting: list[threading.Timer] = []

  class _Told(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
      said = record.getMessage()
      if said.startswith("Compiling "):
        waiting.append(threading.Timer(PATIENCE, tell, ["compiling; a cache will save this next time"]))
        waiting[-1].daemon = True
        waiting[-1].start()
      elif said.startswith("Finished XLA compilation"):
        while waiting:
          waiting.pop().cancel()

  logger, handler = logging.getLogger("jax"), _Told()
  level, propagate = logger.level, logger.propagate
  logger.addHandler(handler)
  logger.setLevel(logging.WARNING)
  logger.propagate = False
  try:
    with jax.log_compiles():
      yield
  finally:
    logger.removeHandler(handler)
    logger.setLevel(level)
    logger.propagate = propagate
    while waiting:
      waiting.pop().cancel()
