"""Claims of a study along the noise levels: where each holds, and which controls pass the same test."""

import textwrap
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from gauss_diffusion.plots import numbers, style

TITLE = "Where does each claim hold?"
LOOK_FOR = (
  "A row is a claim, a cell a noise level; the verdict of the whole stands beside it, and then what the same "
  "test says of the controls, filled where one passes. A negative control has learned nothing of what is "
  "claimed: where it passes, in red, the claim says little. A reference, such as the Gaussian denoiser "
  "itself, must pass; in red where it fails."
)


class _Look(NamedTuple):
  color: str
  symbol: str
  ink: str  # of the symbol
  gid: str | None = style.AS_IS  # of the symbol, black or white on its colour


_LOOKS = {
  "holds": _Look(style.BLUE, "+", "white"),
  "does not hold": _Look(style.ORANGE, "−", "black"),
  "not decided": _Look("0.87", "?", "0.3", None),
}
_OTHER = _Look(
  style.PURPLE, "!", "black"
)  # of verdicts in other words, such as that a claim cannot fail here
_ALARM, _CALM = style.VERMILLION, "0.35"
_WRONG = {("negative", "holds"), ("reference", "does not hold")}
_SHAPES = {"negative": "s", "reference": "o"}  # of controls, by their role
_FILLS = {"holds": "full", "does not hold": "none"}  # else half
_SYMBOLS = 16  # levels that have a symbol each
_LETTERS = 40  # in a line of a statement
_LINE, _LEAST, _CELL = 0.235, 0.6, 0.36  # inches: a line of text, the least height of a row, that of a cell
_HEADER, _FOOTER = 1.3, 1.65  # inches
# Left and right ends, as parts of the width.
_STRIPS, _VERDICT, _CONTROLS = (0.325, 0.65), 0.66, (0.8, 0.985)


@style.talk
def draw(rows: list[dict[str, Any]]) -> Figure:
  """Draw each claim's verdicts over the noise levels, its summary, and the verdicts of its controls.

  Args:
    rows: of judged claims, each with `claim` and `verdict`; where it is judged level by level with `strip`,
      whose `sigma` and `verdict` have one entry a level; and with `controls`, name -> its `role`, "negative"
      or "reference", and its `verdict`.
  """
  statements = [textwrap.wrap(row["claim"], _LETTERS) for row in rows]
  heights = [max(_LEAST, 0.17 + _LINE * len(lines)) for lines in statements]
  figure = style.figure(_HEADER + sum(heights) + _FOOTER)
  figure.set_layout_engine("none")  # texts of any length must not move the columns
  strips, controls = (_column(figure, *ends) for ends in (_STRIPS, _CONTROLS))
  names = list(dict.fromkeys(name for row in rows for name in row.get("controls") or {}))
  tops = np.cumsum([0, *heights])
  for row, lines, middle in zip(rows, statements, (tops[1:] + tops[:-1]) / 2):
    place: dict[str, Any] = {
      "xycoords": ("figure fraction", "data"),
      "va": "center",
      "annotation_clip": False,
    }
    strips.annotate("\n".join(lines), (0.012, middle), linespacing=1.2, **place)
    if row.get("strip"):
      _draw_strip(strips, middle, row["strip"])
    else:
      strips.annotate(
        "not by noise level", (sum(_STRIPS) / 2, middle), ha="center", color="0.45", size=style.SMALL, **place
      )
    look = _look(row["verdict"])
    strips.annotate(
      look.symbol,
      (_VERDICT + 0.008, middle),
      ha="center",
      weight="bold",
      color=look.ink,
      gid=look.gid,
      **place,
      bbox={"boxstyle": "circle,pad=0.22", "facecolor": look.color, "linewidth": 0},
    )
    strips.annotate("\n".join(textwrap.wrap(row["verdict"], 14)), (_VERDICT + 0.024, middle), **place)
    for name, control in (row.get("controls") or {}).items():
      controls.plot(names.index(name), middle, **_mark(control["role"], control["verdict"]))
  _finish(strips, controls, names, tops)
  _tabulate(strips, controls, names, rows)
  return figure


def _tabulate(strips: Axes, controls: Axes, names: list[str], rows: list[dict[str, Any]]) -> None:
  """Say every verdict: over the noise levels, and of the controls."""
  claims = [row["claim"] for row in rows]
  strip = [row.get("strip") or {"sigma": [], "verdict": []} for row in rows]
  found = [dict(zip(own["sigma"], own["verdict"])) for own in strip]
  levels = sorted({sigma for own in found for sigma in own}, reverse=True)
  cells = [[row["verdict"], *(own.get(sigma, "") for sigma in levels)] for row, own in zip(rows, found)]
  headings = ["all levels", *(f"σ = {sigma:.2g}" for sigma in levels)]
  numbers.tabulate(strips, "claim", "verdict", claims, headings, cells, title="The network")
  if names:
    of = [row.get("controls") or {} for row in rows]
    cells = [[own[name]["verdict"] if name in own else "" for name in names] for own in of]
    headings = list(map(style.named, names))
    numbers.tabulate(controls, "claim", "verdict", claims, headings, cells, title="Controls in its place")


def _column(figure: Figure, left: float, right: float) -> Axes:
  height = figure.get_figheight()
  return figure.add_axes((left, _FOOTER / height, right - left, 1 - (_HEADER + _FOOTER) / height))


def _look(verdict: str) -> _Look:
  return _LOOKS.get(verdict, _OTHER)


def _draw_strip(axis: Axes, middle: float, strip: dict[str, Any]) -> None:
  """Draw a cell for each level; of many levels, neighbours of one verdict share a symbol."""
  order = np.argsort(strip["sigma"])
  edges = _edges(np.asarray(strip["sigma"], float)[order])
  looks = [_look(strip["verdict"][i]) for i in order]
  for low, high, look in zip(edges, edges[1:], looks):
    cell: dict[str, Any] = {"facecolor": look.color, "edgecolor": "white", "linewidth": 1.5}
    axis.barh(middle, high - low, _CELL, low, **cell)
  starts = [i for i in range(len(looks)) if i == 0 or len(looks) <= _SYMBOLS or looks[i] != looks[i - 1]]
  for start, end in zip(starts, [*starts[1:], len(looks)]):
    place, look = np.sqrt(edges[start] * edges[end]), looks[start]
    text: dict[str, Any] = {"ha": "center", "va": "center", "color": look.ink, "gid": look.gid}
    axis.annotate(look.symbol, (place, middle), **text)


def _edges(sigma: np.ndarray) -> np.ndarray:
  """Return the borders of cells around ascending levels, halfway on a logarithmic scale."""
  log = np.log(sigma)
  half = np.diff(log) / 2 if len(log) > 1 else np.array([0.5])
  return np.exp(np.concatenate([[log[0] - half[0]], log[:-1] + half[: len(log) - 1], [log[-1] + half[-1]]]))


def _mark(role: str, verdict: str) -> dict[str, Any]:
  """Return how a control's verdict looks: filled where it passes, in alarm where it must not."""
  color = _ALARM if (role, verdict) in _WRONG else _CALM
  fill = {"fillstyle": _FILLS.get(verdict, "left"), "markerfacecoloralt": "white"}
  return {"color": color, "marker": _SHAPES[role], "linestyle": "none", "markersize": 11, **fill}


def _finish(strips: Axes, controls: Axes, names: list[str], tops: np.ndarray) -> None:
  """Give both columns their scales and headings, and say below what symbols mean."""
  for axis in (strips, controls):
    axis.set_ylim(tops[-1], 0)
    axis.set_yticks(tops[1:-1], [])
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    axis.grid(axis="x", visible=False)
  strips.set_xticks([])
  if strips.patches:
    strips.spines["bottom"].set_visible(True)
    strips.autoscale(axis="x")
    strips.margins(x=0)
    style.sigma_axis(strips)
  controls.set_xlim(-0.6, max(len(names), 1) - 0.4)
  controls.xaxis.tick_top()
  controls.set_xticks(range(len(names)), map(style.named, names), rotation=90)
  figure = strips.figure
  verdicts = [
    Line2D(
      [], [], linestyle="none", marker="s", markersize=15, color=look.color, label=f"{look.symbol}  {name}"
    )
    for name, look in _LOOKS.items()
  ]
  roles = [
    Line2D([], [], **_mark("negative", "does not hold"), label="negative control, fails as it must"),
    Line2D([], [], **_mark("negative", "holds"), label="negative control, passes: alarm"),
    Line2D([], [], **_mark("reference", "holds"), label="reference, passes as it must"),
    Line2D([], [], **_mark("reference", "does not hold"), label="reference, fails: alarm"),
    Line2D([], [], **_mark("negative", "not decided"), label="half filled: not decided"),
  ]
  figure.legend(handles=verdicts, loc="lower left", bbox_to_anchor=(_STRIPS[0] - 0.01, 0.01))
  figure.legend(handles=roles, loc="lower right", bbox_to_anchor=(1, 0.01))
