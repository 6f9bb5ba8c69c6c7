"""What a person waits for: a study on a fresh machine, its first line and step, and again when all is done.

Nothing else does this work, so that there is no peer but the clock.
"""

import os
import pathlib
import shutil
import subprocess
import sys
import time

import numpy as np

from benchmarks.workload import Facts, Side, Size, Workload
from gauss_diffusion import command_line

WORKDIR = "study"
TICK = 0.01  # seconds between looks at what has been written


def command(size: Size, folder: pathlib.Path) -> list[str]:
  """Return what a person types."""
  config = f"--config={size['config']}"
  return [sys.executable, "-m", "gauss_diffusion.main", config, f"--workdir={folder / WORKDIR}"]


def start(size: Size, folder: pathlib.Path) -> subprocess.Popen:
  """Start the study with caches of its own, in the folder."""
  given = "JAX_NUM_CPU_DEVICES", *command_line.LARGE_PAGES  # to sides, while a study sees to these itself
  environment = {key: value for key, value in os.environ.items() if key not in given}
  environment |= {"HOME": str(folder), "XDG_CACHE_HOME": str(folder / "cache"), "PYTHONUNBUFFERED": "1"}
  return subprocess.Popen(
    command(size, folder), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment
  )


def waited(study: subprocess.Popen) -> None:
  """Wait for the study's end.

  Raises:
    RuntimeError: when it failed.
  """
  study.communicate()
  if study.returncode:
    raise RuntimeError(f"the study ended with {study.returncode}")


def cold(size: Size, folder: pathlib.Path) -> Side:
  """Return the study without any cache; facts are the seconds to its first line and to its first steps."""

  def run() -> Facts:
    for name in (WORKDIR, "cache", ".cache"):
      shutil.rmtree(folder / name, ignore_errors=True)
    began = time.perf_counter()
    study = start(size, folder)
    assert study.stdout is not None
    study.stdout.readline()
    facts = {"first line": time.perf_counter() - began}
    while study.poll() is None and not list((folder / WORKDIR).glob("models/*/metrics.jsonl")):
      time.sleep(TICK)
    facts["first steps"] = time.perf_counter() - began
    waited(study)
    return facts

  return Side(run, lambda: np.zeros(1))


def warm(size: Size, folder: pathlib.Path) -> Side:
  """Return the same command again, when nothing is left to do."""

  def run() -> Facts:
    waited(start(size, folder))
    return {}

  run()
  return Side(run, lambda: np.zeros(1))


FULL, QUICK = {"config": "configs/digits.py"}, {"config": "configs/digits.py:smoke"}
WORKLOADS = {
  "study": Workload("Digits study, cold", cold, {}, FULL, QUICK, seconds=(90, 60), rounds=1),
  "rerun": Workload("Warm rerun that finds nothing to do", warm, {}, FULL, QUICK, seconds=(2, 1)),
}
