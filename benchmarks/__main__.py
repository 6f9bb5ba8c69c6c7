"""Time the package beside its peers and beside what this machine can do, in the same run.

    python -m benchmarks
    python -m benchmarks train_8 neighbours --rounds=9
    python -m benchmarks --quick

Each side of a workload has a process of its own, and they take turns; before, all must give one answer. Peers
need ``pip install -e '.[benchmarks]'``, and are left out without. A full run takes hours on two cores, and
is kept in benchmarks/results/ under the model of this machine; so leave nothing else running. A quick one, of
tiny sizes, shows that all works and nothing else.
"""

import argparse
import importlib.metadata
import json
import pathlib
import re
import sys
import time
from typing import Any

from benchmarks import machine, table
from benchmarks.alternate import FailedError, measure
from benchmarks.workloads import WORKLOADS

LIBRARIES = ("jax", "numpy", "torch", "faiss-cpu")


def main() -> None:
  """Measure, print a table, and keep what was measured."""
  parser = argparse.ArgumentParser(
    prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument(
    "workloads", nargs="*", metavar="WORKLOAD", help=f"all, or some of {', '.join(WORKLOADS)}"
  )
  parser.add_argument(
    "--quick", action="store_true", help="tiny sizes, two rounds, kept only where --to says"
  )
  parser.add_argument(
    "--rounds", type=int, help="turns of each side; by default as many as the workload asks for"
  )
  parser.add_argument("--to", type=pathlib.Path, help="folder of results, by default benchmarks/results")
  args = parser.parse_args()
  for name in args.workloads:
    if name not in WORKLOADS:
      parser.error(f"`{name}` is no workload; known are {', '.join(WORKLOADS)}")
  if args.rounds is not None and args.rounds < 1:
    parser.error(f"`--rounds` is {args.rounds}; want at least 1")
  chosen = args.workloads or [
    name for name in WORKLOADS if WORKLOADS[name].device == "any" or machine.is_gpu()
  ]
  folder = args.to or (None if args.quick else table.RESULTS)
  result: dict[str, Any] = {"machine": machine.name(), "versions": versions(), "workloads": {}}
  failed = []
  for name in chosen:
    workload = WORKLOADS[name]
    print(f"{workload.title} ...", file=sys.stderr, flush=True)
    rounds = args.rounds or (2 if args.quick else workload.rounds)
    others, began = machine.others(), time.monotonic()
    try:
      measured = measure(name, workload, "quick" if args.quick else "full", rounds)
    except (FailedError, ValueError) as reason:
      print(f"error: {reason}", file=sys.stderr)
      failed.append(name)
      continue
    for side in measured["left_out"]:
      print(f"  without {side}: `{workload.peers[side].module}` is not installed", file=sys.stderr)
    at_work = (machine.others() - others) / (time.monotonic() - began)
    result["workloads"][name] = measured | {"others": at_work}
    if folder:
      keep(result, folder)
  if result["workloads"]:
    print(table.plain(result))
  sys.exit(1 if failed else 0)


def versions() -> dict[str, str]:
  """Return library -> version, of those that are installed."""
  found = {}
  for library in LIBRARIES:
    try:
      found[library] = importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
      continue
  return found


def keep(result: dict[str, Any], folder: pathlib.Path) -> None:
  """Write results of this machine; workloads that were not measured now stay as they were."""
  folder.mkdir(parents=True, exist_ok=True)
  path = folder / f"{re.sub('[^a-z0-9]+', '-', result['machine'].lower()).strip('-')}.json"
  old = json.loads(path.read_text()) if path.exists() else {"workloads": {}}
  found = old["workloads"] | result["workloads"]
  workloads = {name: found[name] for name in WORKLOADS if name in found}
  path.write_text(json.dumps(result | {"workloads": workloads}, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
  main()
