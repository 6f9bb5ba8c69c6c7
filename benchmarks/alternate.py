"""Time the sides of a workload in turn, each in its own process, so that drift hits all of them alike."""

import importlib.util
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from typing import Any, NamedTuple

import numpy as np

from benchmarks import machine
from benchmarks.side import FLOOR
from benchmarks.workload import OURS, Workload, error
from gauss_diffusion import command_line

PAUSE = 0.3  # seconds after each turn: threads of the side before stop spinning within 0.2
QUARTILES = (25, 50, 75)


class Process(NamedTuple):
  """A side that waits for its turn."""

  name: str
  serving: subprocess.Popen


class FailedError(RuntimeError):
  """A side that did not get ready, or died."""


def measure(name: str, workload: Workload, size: str, rounds: int) -> dict[str, Any]:
  """Return what a workload took, as plain JSON: see `summary`.

  Args:
    name: of the workload.
    workload: itself.
    size: "full" or "quick".
    rounds: how often each side runs, one after another.

  Raises:
    FailedError: when a side does not get ready or dies.
    ValueError: when two sides disagree by more than the workload's tolerance.
  """
  wanted = {side: peer for side, peer in workload.peers.items() if peer.device == "any" or machine.is_gpu()}
  absent = [side for side, peer in wanted.items() if not importlib.util.find_spec(peer.module)]
  present = [side for side in wanted if side not in absent]
  sides: list[Process] = []
  with tempfile.TemporaryDirectory() as folder:
    try:
      for side in (OURS, *present, FLOOR):
        sides.append(_start(name, side, size, pathlib.Path(folder)))
      errors = {}
      for side in present:
        errors[side] = error(*(np.load(pathlib.Path(folder) / f"{each}.npy") for each in (OURS, side)))
        if not errors[side] <= workload.tolerance:
          raise ValueError(
            f"`{name}`: {side} and ours differ by {errors[side]:.2g}; want at most {workload.tolerance:.2g}"
          )
      turns: dict[str, list[dict]] = {process.name: [] for process in sides}
      for turn in range(rounds):
        for process in sides[turn % len(sides) :] + sides[: turn % len(sides)]:
          time.sleep(PAUSE)
          turns[process.name].append(_ask(process))
    finally:
      for process in sides:
        process.serving.kill()
        process.serving.wait()
  return summary(workload, size, turns) | {"errors": errors, "left_out": absent}


def summary(workload: Workload, size: str, turns: dict[str, list[dict]]) -> dict[str, Any]:
  """Return medians with quartiles: seconds of each side, each peer's ratio to ours, the floor.

  A ratio is the median over rounds of the peer's seconds over ours of the same round.
  """
  seconds = {side: np.array([turn["seconds"] for turn in each]) for side, each in turns.items()}
  rates = {
    rate: float(np.median([turn["facts"][rate] for turn in turns[FLOOR]])) for rate in ("flops", "bytes")
  }
  chosen = getattr(workload, size)
  work = workload.work(chosen)
  return {
    "title": workload.title,
    "size": dict(chosen),
    "rounds": len(turns[OURS]),
    "seconds": {side: _quartiles(taken) for side, taken in seconds.items() if side != FLOOR},
    "ratios": {
      side: _quartiles(taken / seconds[OURS]) for side, taken in seconds.items() if side not in (OURS, FLOOR)
    },
    "facts": {
      side: {fact: float(np.median([turn["facts"][fact] for turn in each])) for fact in each[0]["facts"]}
      for side, each in turns.items()
      if side != FLOOR
    },
    "rates": rates,
    "floor": max(work.flops / rates["flops"], work.bytes / rates["bytes"]),
    "tolerance": workload.tolerance,
    "targets": list(workload.targets),
    "target_seconds": list(workload.seconds),
  }


def _quartiles(values: np.ndarray) -> list[float]:
  return [float(value) for value in np.percentile(values, QUARTILES)]


def _start(name: str, side: str, size: str, folder: pathlib.Path) -> Process:
  command = [sys.executable, "-m", "benchmarks.side", name, side, size, str(folder)]
  with open(folder / f"{side}.log", "w") as log:
    serving = subprocess.Popen(
      command,
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      stderr=log,
      text=True,
      env=os.environ | command_line.LARGE_PAGES,
    )
  process = Process(side, serving)
  try:
    _answer(process)
  except FailedError:
    serving.wait()
    said = (folder / f"{side}.log").read_text().strip().splitlines()
    raise FailedError(
      f"`{name}`: {side} does not get ready: {said[-1] if said else 'it says nothing'}"
    ) from None
  return process


def _ask(process: Process) -> dict:
  assert process.serving.stdin is not None
  process.serving.stdin.write("go\n")
  process.serving.stdin.flush()
  return _answer(process)


def _answer(process: Process) -> dict:
  assert process.serving.stdout is not None
  line = process.serving.stdout.readline()
  if not line:
    raise FailedError(f"{process.name} ended")
  return json.loads(line)
