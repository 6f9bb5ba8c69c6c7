"""Curves: points in processes of their own, slopes, and pages made from what is kept."""

import json

import pytest

from benchmarks.curves import measure, pages
from benchmarks.curves.points import CURVES, LARGE, Curve, Point


def rows_of(curve, seconds, memory):
  return [
    {"kind": "generated", "values": point.values, "seconds": seconds(point), "memory": memory(point)}
    | point._asdict()
    for point in curve.points()
  ]


def test_an_exponent_is_the_slope_at_the_end():
  curve = Curve("statistics", "side", (4, 8, 16), "")
  rows = rows_of(curve, lambda point: 3e-9 * point.values**2, lambda point: 7.0)
  assert pages.exponent(rows, "side", "seconds") == pytest.approx(2)
  assert pages.exponent(rows, "side", "memory") == 0
  rows[0]["seconds"] = 99.0  # what is not at the end
  assert pages.exponent(rows, "side", "seconds") == pytest.approx(2)


def test_curves_share_points_and_none_is_lost():
  rows = [row for curve in CURVES for row in rows_of(curve, lambda point: 1.0, lambda point: 1e6)]
  rows.reverse()
  for curve in CURVES:
    found = pages.of(curve, rows)
    assert [row[curve.over] for row in found] == list(curve.at)
  assert pages.exponents(rows).count("\n") == 1 + len(CURVES)


@pytest.mark.processes
@pytest.mark.parametrize("once", [True, False])
def test_points_are_measured(once):
  curve = Curve("neighbours", "images", (1_000, 2_000), "")
  found = measure.rows([curve], once, quick=True)
  assert [row["images"] for row in found] == [64]  # both points are as small
  assert found[0]["seconds"] > 0 and found[0]["memory"] >= 0


@pytest.mark.parametrize("task", sorted({curve.task for curve in (*CURVES, *LARGE)}))
def test_every_task_runs(task, tmp_path):
  path = tmp_path / "images.npy"
  measure.generate(path, 20, 8)
  point = measure._few(Point(task, levels=2))._replace(images=20, devices=measure.machine.cores())
  measure.prepare(point, measure.np.load(path, mmap_mode="r"))()


@pytest.mark.parametrize("name", pages.SETS)
def test_pages_are_what_is_kept(name):
  path = pages.KEPT / f"{name}.json"
  if not path.exists():
    pytest.skip("no curves are kept")
  kept = json.loads(path.read_text())
  assert pages.SETS[name][1](kept["rows"]) in (pages.SITE / f"{pages.PAGES[name]}.md").read_text()
