"""Tables of what was measured: on the terminal, and in README.md from the results that are kept.

    python -m benchmarks.table
    python -m benchmarks.table --check

The second writes nothing, and exits with 1 where README.md, this folder's or the project's, is not what the
results say.
"""

import functools
import json
import pathlib
import re
import sys
from collections.abc import Mapping
from typing import Any

from benchmarks.workload import OURS

HERE = pathlib.Path(__file__).parent
RESULTS, README, FRONT = HERE / "results", HERE / "README.md", HERE.parent / "README.md"
BLOCK = re.compile(r"(<!-- results -->\n).*?(<!-- /results -->)", re.DOTALL)
SPEED = re.compile(r"(<!-- speed -->).*?(<!-- /speed -->)", re.DOTALL)
SHORT = {  # workloads of which the project's README tells
  "training step at 8, 16, 32 pixels": ("train_8", "train_16", "train_32"),
  "sampling": ("sample_8", "sample_16", "sample_32"),
  "Gaussian denoiser": ("gaussian",),
  "exact multi-delta": ("multi_delta",),
  "ELS": ("windows",),
  "neighbours": ("neighbours",),
  "covariance": ("covariance",),
}
NONE = "No results are kept yet.\n"
HEADER = ("workload", "ours", "floor", "peer", "peer's time", "peer / ours", "reach, stretch")


def rows(measured: Mapping[str, Any]) -> list[tuple[str, ...]]:
  """Return a row for each peer of each workload, the best one first, all as text."""
  found: list[tuple[str, ...]] = []
  for each in measured.values():
    own = (each["title"], spread(each["seconds"][OURS]), duration(each["floor"]) if each["floor"] else "–")
    goal = ", ".join(f"{target:g}" for target in each["targets"]) if any(each["targets"]) else "–"
    if any(each["target_seconds"]):
      goal = ", ".join(map(duration, each["target_seconds"]))
    if not each["ratios"]:
      notes = [f"{fact} {duration(value)}" for fact, value in each["facts"][OURS].items()]
      said = "; ".join(notes + [f"{side}: not installed" for side in each["left_out"]])
      found.append((*own, said or "–", "–", "–", goal))
    for i, (side, ratio) in enumerate(sorted(each["ratios"].items(), key=lambda item: item[1][1])):
      reached = each["facts"][side].get("reached", 1.0) == 1.0
      low, middle, high = ratio
      shown = f"{middle:.2f} [{low:.2f}, {high:.2f}]" if reached else f"≥ {middle:.2f}"
      first = own if i == 0 else ("", "", "")
      found.append((*first, side, spread(each["seconds"][side]), shown, goal if i == 0 else ""))
  return found


def spread(quartiles: list[float]) -> str:
  """Return a median with half the distance of the quartiles."""
  low, middle, high = quartiles
  return f"{duration(middle)} ± {100 * (high - low) / 2 / middle:.0f} %"


def duration(seconds: float) -> str:
  """Return seconds in a unit that suits them."""
  return f"{seconds:.3g} s" if seconds >= 1 else f"{1e3 * seconds:.3g} ms"


def markdown(result: Mapping[str, Any]) -> str:
  """Return what is kept of one machine."""
  lines = [HEADER, ("---",) * len(HEADER), *rows(result["workloads"])]
  about = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
  body = "\n".join(f"| {' | '.join(line)} |" for line in lines)
  others = max(each["others"] for each in result["workloads"].values())
  return f"### {result['machine']}\n\n{about}; up to {others:.1f} other processes at work.\n\n{body}\n"


def plain(result: Mapping[str, Any]) -> str:
  """Return the same for a terminal."""
  lines = [HEADER, *rows(result["workloads"])]
  widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
  aligned = ("  ".join(f"{cell:{width}}" for cell, width in zip(line, widths, strict=True)) for line in lines)
  return "\n".join(line.rstrip() for line in aligned)


def speed(result: Mapping[str, Any]) -> str:
  """Return in a line how many times as fast as the best peer the package is."""
  said = []
  for name, workloads in SHORT.items():
    kept = [result["workloads"][each]["ratios"] for each in workloads if each in result["workloads"]]
    best = [min(ratio[1] for ratio in ratios.values()) for ratios in kept if ratios]
    if best:
      said.append(f"{name} {', '.join(f'{ratio:.2f}' for ratio in best)}")
  return f"{result['machine']}: {'; '.join(said)}."


def _between(said: str, block: re.Match) -> str:
  return f"{block[1]}{said}{block[2]}"


def main(check: bool) -> None:
  """Write both README.md anew, or compare."""
  kept = [json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))]
  for path, found, said in (
    (README, BLOCK, "\n".join(map(markdown, kept)) or NONE),
    (FRONT, SPEED, " ".join(map(speed, kept)) or NONE.strip()),
  ):
    old = path.read_text()
    new = found.sub(functools.partial(_between, said), old)
    if check and new != old:
      sys.exit(
        f"`{path.relative_to(HERE.parent)}` is not what the results say; run python -m benchmarks.table"
      )
    if not check:
      path.write_text(new)


if __name__ == "__main__":
  main("--check" in sys.argv[1:])
