"""The figure of sizes and steps: cells, times and exponents are those of the readings."""

import numpy as np
import pytest
from test_plots import legible

from gauss_diffusion import plots, results
from gauss_diffusion.plots import style
from gauss_diffusion.readings import measures, transition
from gauss_diffusion.readings.measures import Reading

STEPS = tuple(2**i for i in range(4, 14))
SIZES = (16, 32, 64, 128)
GENERAL, COPIES = r"\tau_\mathrm{gen}", r"\tau_\mathrm{mem}"


def snapshot(size, steps, replicate=0, **entry):
  """Return a reading of a network that copies from 8 N steps on, and whose error is least at 128 steps."""
  share = np.clip(np.log2((steps or 1) / (8 * size)) / 3, 0, 1)
  error = 0.3 + 0.05 * abs(np.log2((steps or 1) / 128)) + 0.01 * replicate
  score_gap = results.labelled(
    {"error": (("denoiser", "clean", "sigma", "image"), np.full((1, 1, 1, 3), error))},
    {"denoiser": ["network"], "clean": ["held-out"], "sigma": [1.0]},
  )
  samples = results.labelled(
    {
      "gl": (("denoiser", "sample"), np.full((1, 200), 0.4 - 0.3 * share)),
      "memorized": (("denoiser", "sample"), [np.arange(200) < 200 * share]),
      "held_out_gl": ("image", np.full(20, 0.8)),
    },
    {"denoiser": ["network"]},
  )
  entry = {"size": size, "network": {"name": "ddpmpp"}, "train": {"steps": steps, "batch": 8}} | entry
  found = {"score_gap": score_gap, "samples": samples}
  return Reading(f"N = {size}, {steps} steps", entry, found, {}, replicate)


@pytest.fixture(scope="module")
def readings():
  return [snapshot(size, steps) for size in SIZES for steps in STEPS if steps <= 128 * size]


def meshes(figure):
  return [mesh for axis in figure.axes for mesh in axis.collections if hasattr(mesh, "get_coordinates")][:3]


def test_cells_are_measures_and_those_without_a_network_are_empty(readings):
  figure = plots.transition.draw(readings[::-1], "")
  words = legible(figure)
  assert "steps" in words and "training images N" in words and "memorized share" in words
  by_cell = {(reading.entry["size"], reading.entry["train"]["steps"]): reading for reading in readings}
  for mesh, measure in zip(meshes(figure), (measures.error, measures.memorized, measures.relative_gl)):
    drawn = np.ma.filled(mesh.get_array().reshape(len(SIZES), len(STEPS)), np.nan)
    for i, size in enumerate(SIZES):
      for j, steps in enumerate(STEPS):
        want = measure(by_cell[size, steps]).mean() if (size, steps) in by_cell else np.nan
        np.testing.assert_allclose(drawn[i, j], want)
    corners = np.asarray(mesh.get_coordinates())
    assert corners.shape == (len(SIZES) + 1, len(STEPS) + 1, 2)
    np.testing.assert_allclose(corners[0, :, 0], 16 * 2 ** (np.arange(11) - 0.5))
    np.testing.assert_allclose(corners[:, 0, 1], 16 * 2 ** (np.arange(5) - 0.5))


def test_times_are_drawn_where_they_are_and_their_exponents_said(readings):
  figure = plots.transition.draw(readings, "")
  runs = [[reading for reading in readings if reading.entry["size"] == size] for size in SIZES]
  want = [
    [time(run) for run in runs] for time in (transition.generalization_time, transition.memorization_time)
  ]
  assert np.isfinite(want).all()
  for axis in figure.axes[:3]:
    for line, times in zip(axis.lines, want, strict=True):
      np.testing.assert_allclose(line.get_xdata(), times)
      assert list(line.get_ydata()) == list(SIZES)
  last = figure.axes[3]
  for points, line, times in zip(last.lines[::2], last.lines[1::2], want, strict=True):
    assert list(points.get_xdata()) == list(line.get_xdata()) == list(SIZES)
    np.testing.assert_allclose(points.get_ydata(), times)
    np.testing.assert_allclose(line.get_ydata(), times)
  labels = [text.get_text() for text in last.get_legend().get_texts()]
  assert labels == [rf"${GENERAL} \propto N^{{0.00}}$", rf"${COPIES} \propto N^{{1.00}}$"]


def test_of_several_networks_a_cell_is_the_mean_and_each_has_its_times(readings):
  more = [snapshot(16, steps, replicate=1) for steps in STEPS[:4]]  # which never copies
  figure = plots.transition.draw([*readings, *more], "")
  drawn = meshes(figure)[0].get_array().reshape(len(SIZES), len(STEPS))
  np.testing.assert_allclose(drawn[0, 0], measures.error(readings[0]).mean() + 0.005)
  generalized, _, copied, line = figure.axes[3].lines
  assert list(generalized.get_xdata()) == [16, 16, 32, 64, 128]
  assert np.isnan(copied.get_ydata()).tolist() == [False, True, False, False, False]
  assert list(line.get_xdata()) == [32, 64, 128]  # of all networks at 16 there is no time


def test_only_trained_networks_with_results_are_shown(readings):
  untrained, ideal = snapshot(16, 0), snapshot(16, 500, network={})
  bare = snapshot(256, 16)._replace(found={})
  figure = plots.transition.draw([*readings, untrained, ideal, bare], "")
  assert meshes(figure)[0].get_array().size == len(SIZES) * len(STEPS)
  nothing = plots.transition.draw([bare], "")
  legible(nothing)
  assert not meshes(nothing)


@pytest.mark.parametrize("count", [(1, 1), (1, 4), (3, 1)])
def test_few_snapshots_are_legible(count):
  sizes, steps = count
  figure = plots.transition.draw([snapshot(n, s) for n in SIZES[:sizes] for s in STEPS[:steps]], "")
  legible(figure)
  labels = [text.get_text() for text in figure.axes[3].get_legend().get_texts()]
  assert labels == [rf"${GENERAL} \propto N^{{0.00}}$" if sizes > 1 else f"${GENERAL}$", f"${COPIES}$"]
  assert style.WIDTH == figure.get_figwidth()
