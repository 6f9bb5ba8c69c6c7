"""What a benchmark is: one question, several ways to answer it, and the least work that any of them needs."""

import pathlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

OURS = "ours"

Size = dict[str, Any]  # how large a workload is; its keys are the workload's own
Facts = Mapping[str, float]  # what a run tells beside its time


class Side(NamedTuple):
  """One way to do a workload, ready to be timed: compiled, with its data in memory."""

  run: Callable[[], Facts]  # once, to the end
  answer: Callable[[], np.ndarray]  # what all sides must agree on; not timed


def timed(solve: Callable[[], Any]) -> Side:
  """Return a side whose run is its answer."""

  def run() -> Facts:
    solve()
    return {}

  run()
  return Side(run, solve)


class Peer(NamedTuple):
  """A side that is not ours."""

  module: str  # without which it is left out
  make: Callable[[Size, pathlib.Path], Side]
  device: str = "any"  # or "gpu"


class Work(NamedTuple):
  """What every side must do: the floor is this at the machine's measured rates, none where it is 0."""

  flops: float = 0.0  # float32
  bytes: float = 0.0  # to and from memory


class Workload(NamedTuple):
  """A question and its sides.

  The side "ours" is made first, and leaves in the folder that all sides are given what the others need of it,
  such as a network's parameters.
  """

  title: str
  ours: Callable[[Size, pathlib.Path], Side]
  peers: Mapping[str, Peer]
  full: Size
  quick: Size
  work: Callable[[Size], Work] = lambda size: Work()
  tolerance: float = 0.0  # of `error`
  targets: tuple[float, float] = (0.0, 0.0)  # reach, stretch: peer's seconds over ours; 0 where there is none
  seconds: tuple[float, float] = (0.0, 0.0)  # the same, where there is no peer: seconds
  device: str = "any"  # or "gpu"
  rounds: int = 5


def error(ours: np.ndarray, theirs: np.ndarray) -> float:
  """Return the largest difference of two answers, relative to the largest magnitude in ours."""
  if ours.shape != theirs.shape:
    raise ValueError(f"answers are of shapes {ours.shape} and {theirs.shape}; want one shape")
  scale = np.abs(ours).max()
  return float(np.abs(ours - theirs).max() / (scale if scale > 0 else 1))
