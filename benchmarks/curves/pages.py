"""Tables and figures of the documentation, from what is kept."""

import collections
import json
import math
import pathlib
import re
from collections.abc import Sequence
from typing import Any

from benchmarks.curves.points import CURVES, LARGE, Curve, Point
from benchmarks.table import RESULTS, duration

KEPT = RESULTS / "curves"
SITE = pathlib.Path(__file__).parents[2] / "docs" / "site"
OVER = {"images": "N", "side": "D", "samples": "samples", "levels": "levels", "devices": "devices"}


def of(curve: Curve, found: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
  """Return a curve's rows, those that were measured, in its order."""
  rows = {tuple(row[field] for field in Point._fields): row for row in found if row["kind"] == "generated"}
  return [rows[point] for point in map(tuple, curve.points()) if point in rows]


def exponent(own: Sequence[dict[str, Any]], over: str, measured: str) -> float:
  """Return the slope in logarithms between the last two points of a curve."""
  (x0, y0), (x1, y1) = ((row["values" if over == "side" else over], row[measured]) for row in own[-2:])
  return math.log(y1 / y0) / math.log(x1 / x0) if min(y0, y1) > 0 else 0.0


def exponents(found: Sequence[dict[str, Any]]) -> str:
  """Return the table of curves."""
  lines = ["| Task | Over | Seconds (exponent) | MB (exponent) | Why |", "|---|---|---|---|---|"]
  for curve in CURVES:
    own = of(curve, found)
    if len(own) < 2:
      continue
    field, ends = "values" if curve.over == "side" else curve.over, (own[0], own[-1])
    seconds, memory = (
      f"{exponent(own, curve.over, measured):.2f}".replace("-", "−") for measured in ("seconds", "memory")
    )
    cells = (
      curve.task,
      f"{OVER[curve.over]} {' … '.join(f'{row[field]:,}' for row in ends)}",
      f"{' … '.join(duration(row['seconds']) for row in ends)} ({seconds})",
      f"{' … '.join(format(row['memory'] / 1e6, ',.0f') for row in ends)} ({memory})",
      curve.why,
    )
    lines.append(f"| {' | '.join(cells)} |")
  return "\n".join(lines)


def streamed(found: Sequence[dict[str, Any]]) -> str:
  """Return the table of what may be larger than memory."""
  lines = ["| Task | Images | D | N | GB of pixels | Memory, MB | Seconds |", "|---|---|--:|--:|--:|--:|--:|"]
  for row in found:
    size, seconds = row["images"] * row["values"] / 1e9, float(f"{row['seconds']:.2g}")
    lines.append(
      f"| {row['task']} | {row['kind']} | {row['values']:,} | {row['images']:,} | {size:.3g} | "
      f"{row['memory'] / 1e6:,.0f} | {seconds:g} |"
    )
  return "\n".join(lines)


def draw_curves(found: Sequence[dict[str, Any]], path: pathlib.Path) -> None:
  """Draw seconds above memory, a column for each quantity."""
  import matplotlib

  matplotlib.use("agg")
  import matplotlib.pyplot as plt

  columns = [over for over in OVER if over != "devices"]
  tasks = list(dict.fromkeys(curve.task for curve in CURVES))
  figure, axes = plt.subplots(
    2, len(columns), sharey="row", figsize=(3.1 * len(columns), 6), layout="constrained"
  )
  for curve in CURVES:
    own = of(curve, found)
    if curve.over == "devices" or not own:
      continue
    column = columns.index(curve.over)
    x = [row["values" if curve.over == "side" else curve.over] for row in own]
    for axis, name, unit in zip(axes[:, column], ("seconds", "memory"), (1, 1e6), strict=True):
      axis.plot(
        x, [row[name] / unit for row in own], "o-", color=f"C{tasks.index(curve.task)}", label=curve.task
      )
  for column, over in enumerate(columns):
    for axis, name in zip(axes[:, column], ("seconds", "memory of its own (MB)"), strict=True):
      axis.set(xscale="log", yscale="log", ylabel=name if column == 0 else "")
    axes[1, column].set(xlabel={"images": "images N", "side": "values of an image D"}.get(over, over))
  handles = dict((line.get_label(), line) for axis in axes.flat for line in axis.lines)
  figure.legend([handles[task] for task in tasks], tasks, loc="outside lower center", ncols=len(tasks))
  figure.savefig(path, dpi=130)
  plt.close(figure)


def draw_streamed(found: Sequence[dict[str, Any]], path: pathlib.Path) -> None:
  """Draw the memory and the seconds of generated images over their number."""
  import matplotlib

  matplotlib.use("agg")
  import matplotlib.pyplot as plt

  made = [row for row in found if row["kind"] == "generated"]
  drawn = collections.Counter((row["task"], row["values"]) for row in made)
  made = [row for row in made if drawn[row["task"], row["values"]] > 1]
  figure, axes = plt.subplots(1, 2, figsize=(9, 4), layout="constrained")
  for task, values in [curve for curve, points in drawn.items() if points > 1]:
    own = [row for row in made if (row["task"], row["values"]) == (task, values)]
    for axis, name, unit in zip(axes, ("memory", "seconds"), (1e6, 1), strict=True):
      axis.plot(
        [row["images"] for row in own],
        [row[name] / unit for row in own],
        marker="o",
        linestyle="-" if values < 10_000 else "--",
        label=f"{task}, D = {values:,}",
      )
  for values, color in zip(sorted({row["values"] for row in made}), ("0.75", "0.5"), strict=True):
    nums = sorted({row["images"] for row in made if row["values"] == values})
    pixels = [num * values / 1e6 for num in nums]
    axes[0].plot(nums, pixels, color=color, linestyle=":", label=f"the pixels, D = {values:,}")
  for axis, name in zip(axes, ("memory of its own (MB)", "seconds"), strict=True):
    axis.set(xscale="log", yscale="log", xlabel="images N", ylabel=name)
  figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8)
  figure.savefig(path, dpi=130)
  plt.close(figure)


SETS = {"curves": (CURVES, exponents, draw_curves), "large": (LARGE, streamed, draw_streamed)}
PAGES = {"curves": "curves", "large": "large_data"}


def write(name: str) -> None:
  """Write a page's table and figure from what is kept."""
  kept = json.loads((KEPT / f"{name}.json").read_text())
  page, (_, table, draw) = SITE / f"{PAGES[name]}.md", SETS[name]
  shown = f"\\1\n{kept['machine']}.\n\n{table(kept['rows'])}\n\\2"
  page.write_text(re.sub("(<!-- rows -->).*(<!-- /rows -->)", shown, page.read_text(), flags=re.DOTALL))
  draw(kept["rows"], page.with_suffix(".png"))
