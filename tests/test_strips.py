"""The strips of claims: each cell, summary and control as judged, in words that fit."""

import itertools

import numpy as np
import pytest
from matplotlib.colors import to_rgba
from test_plots import legible

from gauss_diffusion.plots import strips, style

SIGMA = list(np.geomspace(80, 0.002, 10))  # falling, as studies have it
VERDICTS = ["holds", "does not hold", "not decided", "cannot fail here"]
LONG = "The network is nearer to the Gaussian denoiser than every denoiser that has learned nothing"


def row(i: int) -> dict:
  verdicts = [VERDICTS[(i + level) % 3] for level in range(len(SIGMA))]
  return {
    "claim": f"{i}: {LONG}" if i % 2 else f"{i}: short",
    "verdict": VERDICTS[i % 4],
    "strip": {"sigma": SIGMA, "value": [[0.0, 0.0, 0.0]] * 10, "verdict": verdicts} if i != 2 else None,
    "controls": {
      name: {"role": "reference" if name == "gaussian" else "negative", "verdict": VERDICTS[(i + c) % 3]}
      for c, name in enumerate(("mean", "skip", "untrained", "gaussian"))
    },
  }


@pytest.mark.parametrize("num", [1, 5, 12])
def test_strips_are_legible_with_every_statement_in_full(num):
  rows = [row(i) for i in range(num)]
  words = legible(strips.draw(rows)).replace("\n", " ")
  assert all(one["claim"] in words and one["verdict"] in words for one in rows)
  assert all(style.named(name) in words for name in rows[0]["controls"])


def test_cells_are_the_verdicts_at_their_levels():
  rows = [row(0), row(1)]
  axis = strips.draw(rows).axes[0]
  cells = sorted(axis.patches, key=lambda cell: (cell.get_y(), cell.get_x()))
  assert len(cells) == 20
  for cell, (one, i) in zip(cells, itertools.product(rows, reversed(range(10)))):
    assert cell.get_x() < SIGMA[i] < cell.get_x() + cell.get_width()
    color = {"holds": style.BLUE, "does not hold": style.ORANGE, "not decided": "0.87"}
    assert cell.get_facecolor() == to_rgba(color[one["strip"]["verdict"][i]])
  np.testing.assert_allclose([c.get_x() for c in cells[1:10]], [c.get_x() + c.get_width() for c in cells[:9]])


def test_controls_are_filled_where_they_pass_and_red_where_they_are_wrong():
  roles, verdicts = ("negative", "reference"), VERDICTS[:3]
  controls = {
    f"{role} {verdict}": {"role": role, "verdict": verdict}
    for role, verdict in itertools.product(roles, verdicts)
  }
  figure = strips.draw([{"claim": "A", "verdict": "holds", "controls": controls}])
  marks = {name: line for name, line in zip(controls, figure.axes[1].lines)}
  for name, mark in marks.items():
    assert mark.get_fillstyle() == {"holds": "full", "does not hold": "none"}.get(
      name.split(" ", 1)[1], "left"
    )
    wrong = name in ("negative holds", "reference does not hold")
    assert mark.get_color() == (style.VERMILLION if wrong else "0.35")
    assert mark.get_marker() == ("s" if name.startswith("negative") else "o")


def test_of_many_levels_neighbours_of_one_verdict_share_a_symbol():
  said = ["holds"] * 30 + ["not decided"] * 4 + ["holds"] * 15
  strip = {"sigma": np.geomspace(80, 0.002, 49), "verdict": said}
  axis = strips.draw([{"claim": "A", "verdict": "holds", "strip": strip}]).axes[0]
  assert len(axis.patches) == 49
  symbols = [text for text in axis.texts if text.get_ha() == "center" and text.xycoords == "data"]
  assert [text.get_text() for text in sorted(symbols, key=lambda text: text.xy[0])] == ["+", "?", "+"]


def test_one_level_and_no_levels_and_no_controls():
  alone = {"sigma": [4.0], "value": [[0, 0, 0]], "verdict": ["holds"]}
  figure = strips.draw(
    [{"claim": "A", "verdict": "holds", "strip": alone}, {"claim": "B", "verdict": "holds"}]
  )
  assert "not by noise level" in legible(figure)
  (cell,) = figure.axes[0].patches
  assert cell.get_x() < 4 < cell.get_x() + cell.get_width() and "noise level σ" in legible(figure)
  figure = strips.draw([{"claim": "B", "verdict": "holds"}])  # no axis where nothing has a place along it
  assert not len(figure.axes[0].get_xticks()) and "noise level σ" not in legible(figure)
