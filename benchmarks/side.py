"""One side of one workload, in a process of its own; `alternate` starts it.

    python -m benchmarks.side WORKLOAD SIDE SIZE FOLDER

It gets ready, writes its answer to FOLDER and says so; then it runs once for every line that it reads, and
writes what that took. What libraries print goes to standard error.
"""

import importlib.util
import json
import os
import pathlib
import sys
import time

import jax
import numpy as np

from benchmarks import machine
from benchmarks.workload import OURS, Side
from benchmarks.workloads import WORKLOADS

FLOOR = "floor"


def make(workload: str, side: str, size: str, folder: pathlib.Path) -> Side:
  """Return a side by its name, ready to be timed."""
  found = WORKLOADS[workload]
  chosen = getattr(found, size)
  if side == FLOOR:
    return machine.floor(chosen, folder)
  return (found.ours if side == OURS else found.peers[side].make)(chosen, folder)


def main(workload: str, side: str, size: str, folder: pathlib.Path) -> None:
  """Serve."""
  told = os.fdopen(os.dup(sys.stdout.fileno()), "w")
  os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

  def tell(what: object) -> None:
    print(json.dumps(what), file=told, flush=True)

  jax.config.update("jax_num_cpu_devices", machine.cores())
  if importlib.util.find_spec("torch") and side not in (OURS, FLOOR):
    import torch

    torch.set_num_threads(machine.cores())
  prepared = make(workload, side, size, folder)
  np.save(folder / f"{side}.npy", np.asarray(prepared.answer(), np.float64))
  tell({"ready": side})
  for _ in sys.stdin:
    start = time.perf_counter()
    facts = prepared.run()
    tell({"seconds": time.perf_counter() - start, "facts": dict(facts)})


if __name__ == "__main__":
  name, chosen, extent, place = sys.argv[1:]
  main(name, chosen, extent, pathlib.Path(place))
