"""What figures show in pictures, cells and signs stands in tables, too, with the numbers of the results."""

import numpy as np
import pytest
from test_plots import fake
from test_strips import row
from test_transition_plot import readings  # noqa: F401, a fixture

from gauss_diffusion import plots
from gauss_diffusion.analyses import FIGURES
from gauss_diffusion.plots import numbers, strips, style, svg


def tables(figure):
  """Return the tables beside a figure: heading -> row -> column -> text."""
  return {
    panel.title: {name: dict(zip(panel.names, cells, strict=True)) for name, *cells in panel.rows}
    for panel in svg.inline(figure, "T", "a").panels
  }


def assert_numbers(said, want):
  np.testing.assert_allclose([float(each) for each in said], want, rtol=6e-4)  # four digits


@pytest.mark.parametrize("name", ["samples", "trajectories", "perturbation"])
def test_every_sheet_of_images_has_a_table(name):
  figure = FIGURES[name].draw(fake(name, 2))
  sheets = [axis for axis in figure.axes if axis.images]
  assert len(sheets) == 2 and all(numbers.table(axis).rows for axis in sheets)


def test_a_sheet_says_how_far_its_images_lie_from_the_first_row():
  images = np.random.default_rng(0).normal(size=(3, 2, 4, 4, 1))
  images[1, 1] = np.nan  # paper
  made = style.figure(4.0)
  axis = made.subplots()
  style.sheet(axis, images, ["net\nwork", "Gaussian", "skip"], ["σ = 80", ""], named=False)
  axis.set_title("N = 16", loc="left")
  (panel,) = svg.inline(made, "T", "a").panels
  assert panel[:4] == ("N = 16", "image", "RMSE to net work, pixels in [−1, 1]", ["σ = 80", "2"])
  assert [name for name, *_ in panel.rows] == ["net work", "Gaussian", "skip"]
  assert panel.rows[0][1:] == ["0", "0"] and panel.rows[1][2] == ""
  assert_numbers([panel.rows[1][1]], [np.sqrt(((images[1, 0] - images[0, 0]) ** 2).mean())])
  assert_numbers(panel.rows[2][1:], np.sqrt(((images[2] - images[0]) ** 2).mean((1, 2, 3))))
  assert axis.images[0].get_array().max() == 1 and not any(axis.get_yticklabels()[0].get_text())


def test_samples_say_their_scores_and_how_far_others_draw_from_them():
  found = fake("samples", 1)
  said = tables(FIGURES["samples"].draw(found))
  ((_, rows),) = said.items()
  ((result,),) = found.values()
  own = result.sel(denoiser="network")
  assert list(rows)[:2] == ["GL", "nearest"] and list(rows["GL"]) == [str(i) for i in range(1, 9)]
  assert_numbers(rows["GL"].values(), own.gl[:8])
  for name, other in ((list(rows)[2], result.samples.sel(denoiser="gaussian")), ("nearest", own.neighbours)):
    want = np.sqrt(((other - own.samples).to_numpy() ** 2).mean((1, 2, 3)))
    assert_numbers(rows[name].values(), want[:8])


def test_heat_maps_say_their_cells(readings):  # noqa: F811, the fixture
  found = fake("modes", 2)
  said = tables(FIGURES["modes"].draw(found))
  for title, (result,) in found.items():
    for sigma in (result.sigma.to_numpy()[0], result.sigma.to_numpy()[-1]):
      want = result.correlation.sel(sigma=sigma).mean("latent").transpose("component", "vector").to_numpy()
      rows = said[f"{title}, σ = {sigma:.2g}"]
      assert list(rows) == [str(i) for i in range(1, len(want) + 1)]
      assert_numbers([cell for cells in rows.values() for cell in cells.values()], want.ravel())
    components, vectors = (
      array.to_numpy()[:8].astype(np.float64) for array in (result.components, result.vectors[-1])
    )
    cosine = [abs(np.vdot(v, c)) / np.linalg.norm(v) / np.linalg.norm(c) for v, c in zip(vectors, components)]
    *_, lowest = said[title].values()
    assert_numbers(lowest.values(), cosine)

  figure = plots.transition.draw(readings, "")
  shown = [mesh for axis in figure.axes for mesh in axis.collections if hasattr(mesh, "get_coordinates")][:3]
  for (title, rows), mesh in zip(tables(figure).items(), shown):
    want = np.ma.filled(mesh.get_array(), np.nan).reshape(len(rows), -1)
    assert list(rows) == ["16", "32", "64", "128"] and title
    said = np.array([[float(cell or "nan") for cell in cells.values()] for cells in rows.values()])
    np.testing.assert_allclose(said, want, rtol=6e-4)


def test_strips_say_every_verdict():
  rows = [row(i) for i in range(4)]
  said = tables(strips.draw(rows))
  assert list(said) == ["The network", "Controls in its place"]
  for one in rows:
    levels = dict(said["The network"][one["claim"]])
    assert levels.pop("all levels") == one["verdict"]
    want = one["strip"]["verdict"] if one["strip"] else [""] * 10
    assert list(levels.values()) == want and next(iter(levels)) == "σ = 80"
    controls = {style.named(name): control["verdict"] for name, control in one["controls"].items()}
    assert said["Controls in its place"][one["claim"]] == controls
