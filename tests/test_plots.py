"""Every figure draws what the arrays say, labelled, legible and without global state."""

import itertools

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from gauss_diffusion import plots
from gauss_diffusion.plots import style

SIGMA = np.geomspace(80, 0.002, 10)
LAWS = np.array(["train", "held-out"])
ELSEWHERE = ("input_law", "descent", "denoised")  # each tested beside its analysis
PAIRS = np.array(
  [
    "network / gaussian",
    "network / linear (train)",
    "network / linear (held-out)",
    "network / multi-delta",
    "linear (held-out) / gaussian",
  ]
)


def fake(name: str, num_models: int, image=(8, 8, 1)) -> dict:
  """Return label -> random arrays of the shapes that the analysis stores."""
  rng = np.random.default_rng(0)
  s, p, k, n, t = len(SIGMA), 5, 6, 9, 10

  def arrays():
    match name:
      case "linearity":
        values = rng.uniform(0, 0.5, (4, 2, s, 3, p))
        names = ("cosine", "nmse", "centred_cosine", "centred_nmse")
        inputs = np.array(["noisy image", "pure noise"])
        return {
          "sigma": SIGMA,
          "alpha2": np.array([0.99, 0.5, 0.75]),
          "inputs": inputs,
          **dict(zip(names, values)),
        }
      case "score_gap":
        rmse = rng.uniform(0, 1, (2, 5, s, p))
        return {
          "sigma": SIGMA,
          "pair": PAIRS,
          "law": LAWS,
          "rmse": rmse,
          "nmse": rmse,
          "floor": rng.uniform(0, 1, p),
        }
      case "distillation":
        gap, correlation = rng.uniform(0, 1, (2, s)), rng.uniform(0, 1, (2, s, k))
        return {"sigma": SIGMA, "law": LAWS, "weight_gap": gap, "singular_correlation": correlation}
      case "trajectories":
        denoisers = np.array(["network", "gaussian", "linear (held-out)", "multi-delta"])
        denoised = rng.normal(size=(4, 2, t, *image))
        return {"sigma": np.append(SIGMA, 0), "denoiser": denoisers, "denoised": denoised}
      case "samples":
        images = rng.normal(size=(2, 2, n, *image))
        values = {"gl": rng.uniform(0, 1, (2, n)), "memorized": rng.uniform(0, 1, (2, n)) < 0.5}
        return {
          "denoiser": np.array(["gaussian", "network"]),
          "samples": images[0],
          "neighbours": images[1],
          **values,
        }
      case "gain":
        residuals = dict(zip(("asymmetry", "constancy", "displacement"), rng.uniform(0, 1, (3, s, p))))
        lam = np.geomspace(3, 0.01, k)
        return {"sigma": SIGMA, "eigenvalues": lam, "gain": rng.uniform(0, 1, (s, k, p)), **residuals}
      case "modes":
        correlation, images = rng.uniform(0, 1, (s, p, k, k)), rng.normal(size=(s + 1, k, *image)) / 8
        return {
          "sigma": SIGMA,
          "correlation": correlation,
          "alignment": rng.uniform(0, 1, (s, p)),
          "chance": np.array(0.1),
          "vectors": images[1:],
          "components": images[0],
        }
      case "perturbation":
        directions = np.array(["first singular vector", "random"])
        images = rng.normal(size=(3, 2, 2, n, *image))
        return {
          "sigma": SIGMA[::4],
          "direction": directions,
          "length": 3 * SIGMA[::4],
          "unmoved": images[0, 0, 0],
          "samples": images,
          "change": rng.uniform(0.01, 1, (3, 2, 2, n)),
        }
      case "training":
        images = np.arange(1, 200) * 1280.0
        return {"step": images / 128, "images": images, "loss": rng.uniform(0.2, 1, 199)}

  return {f"N = {2 ** (i + 4)}": arrays() for i in range(num_models)}


def texts(figure) -> list[Text]:
  """Return the texts that a reader sees: tick labels only within their axis."""
  renderer = figure._get_renderer()
  seen = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]
  ticks = {label for axes in figure.axes for axis in (axes.xaxis, axes.yaxis) for label in axis.majorTicks}
  drawn = {
    label for axes in figure.axes for axis in (axes.xaxis, axes.yaxis) for label in axis._update_ticks()
  }
  hidden = {label for tick in ticks - drawn for label in (tick.label1, tick.label2)}
  off = {text for axes in figure.axes if not axes.axison for text in axes.findobj(Text)}
  return [text for text in seen if text not in hidden | off and text.get_window_extent(renderer).width > 0]


def legible(figure) -> str:
  """Check that texts are large enough, on the page and clear of each other; return all their words."""
  figure.draw_without_rendering()
  shown = texts(figure)
  assert min(text.get_fontsize() for text in shown) >= 11
  boxes = [(text.get_text(), text.get_window_extent()) for text in shown]
  for (one, a), (two, b) in itertools.combinations(boxes, 2):
    assert not a.overlaps(b), (one, two)
  page = figure.bbox
  for text, box in boxes:
    assert page.x0 <= box.x0 and box.x1 <= page.x1 and page.y0 <= box.y0 and box.y1 <= page.y1, text
  return " ".join(text for text, _ in boxes)


@pytest.mark.parametrize("num_models", [1, 4, 7])
@pytest.mark.parametrize("name", [name for name in plots.PLOTS if name not in ELSEWHERE])
def test_figures_are_labelled_and_legible(name, num_models):
  before = dict(mpl.rcParams)
  results = fake(name, num_models)
  figure = plots.PLOTS[name].draw(results)
  words = legible(figure)
  assert isinstance(figure, Figure)
  assert not mpl._pylab_helpers.Gcf.figs and dict(mpl.rcParams) == before, "global state leaked"

  for axes in figure.axes:
    if not axes.axison or axes.images or axes.get_label() == "<colorbar>":
      continue
    assert axes.get_xlabel() or not axes.xaxis.get_tick_params()["labelbottom"]
    assert axes.get_xscale() == "log" or axes.get_xlabel() == "singular vector"
    assert axes.get_ylabel() or axes.get_title(loc="left") or figure.get_supylabel()

  expected = {"trajectories": style.spread(results, 2)}.get(name, list(results))
  assert all(label in words for label in expected)


@pytest.mark.parametrize("name", ["samples", "score_gap", "training"])
def test_eight_models_with_long_titles_are_legible_and_told_apart(name):
  groups = ("25,000", "64, 4 channels", "64", "64, 150 steps")
  labels = [f"halves of {group}, {part}" for group in groups for part in (1, 2)]
  figure = plots.PLOTS[name].draw(dict(zip(labels, fake(name, len(labels)).values())))
  words = legible(figure)
  assert all(label in words for label in labels)
  assert len(set(style.model_colors(labels).values())) == len(labels)


def test_linearity_draws_mean_absolute_cosine_at_one_half():
  results = fake("linearity", 2)
  for arrays in results.values():
    arrays["cosine"] *= -1
  axes = plots.linearity.draw(results).axes
  for line, arrays in zip(axes[1].lines, results.values()):
    np.testing.assert_allclose(line.get_ydata(), np.abs(arrays["cosine"][1, :, 1]).mean(-1), rtol=1e-12)
  np.testing.assert_allclose(
    axes[3].lines[0].get_ydata(), results["N = 16"]["centred_nmse"][0, :, 1].mean(-1)
  )


def test_score_gap_draws_held_out_inputs_and_the_floor():
  arrays = fake("score_gap", 1)["N = 16"]
  *curves, floor = plots.score_gap.draw({"N = 16": arrays}).axes[0].lines
  np.testing.assert_allclose(floor.get_ydata(), arrays["floor"].mean())
  for line, values in zip(curves, arrays["rmse"][1, :4]):
    np.testing.assert_allclose(line.get_ydata(), values.mean(-1))


def test_score_gap_draws_whatever_pairs_a_study_asks_for():
  arrays = fake("score_gap", 1)["N = 16"]
  arrays["pair"] = np.array(["patch / other", "patch / new", "patch / multi-delta", "x / y", "y / z"])
  axes = plots.score_gap.draw({"N = 16": arrays}).axes[0]
  assert [line.get_label() for line in axes.lines] == ["other", "new", "multi-delta"]
  assert len({line.get_color() for line in axes.lines}) == 3
  for line, values in zip(axes.lines, arrays["rmse"][1]):
    np.testing.assert_allclose(line.get_ydata(), values.mean(-1))


def test_gain_of_a_gaussian_denoiser_lies_on_the_curve():
  arrays = fake("gain", 1)["N = 16"]
  lam = arrays["eigenvalues"]
  arrays["gain"] = np.repeat((lam / (lam + SIGMA[:, None] ** 2))[..., None], 3, -1)
  curve, *points = [line for line in plots.gain.draw({"N = 16": arrays}).axes[0].lines]
  x = np.concatenate([line.get_xdata() for line in points])
  np.testing.assert_allclose(np.concatenate([line.get_ydata() for line in points]), x / (1 + x), rtol=1e-12)
  np.testing.assert_allclose(curve.get_ydata(), curve.get_xdata() / (1 + curve.get_xdata()))


def test_trajectories_put_the_network_first_and_samples_show_the_network():
  arrays = fake("trajectories", 1)["N = 16"]
  arrays["denoised"][:] = -1
  arrays["denoised"][0] = 1  # the network
  page = plots.trajectories.draw({"N = 16": arrays}).axes[0].images[0].get_array()
  assert page[: len(page) // 5].min() == 1 and page[len(page) // 3 :, 5].min() == 0
  arrays = fake("samples", 1)["N = 16"]
  title = plots.samples.draw({"N = 16": arrays}).axes[0].get_title(loc="left")
  assert (
    f"GL {arrays['gl'][1].mean():.2f} ±" in title and f"{arrays['memorized'][1].mean():.0%} memor" in title
  )


@pytest.mark.parametrize("channels", [1, 3])
def test_sheet_keeps_pixels_and_their_scale(channels):
  images = np.random.default_rng(0).uniform(-2, 2, (2, 3, 8, 8, channels))
  axis = Figure().subplots()
  style.sheet(axis, images, "ab", "cde")
  shown = axis.images[0].get_array()
  zoom, gap = 12, 7
  for row, column in itertools.product(range(2), range(3)):
    y, x = row * (8 * zoom + gap), column * (8 * zoom + gap)
    tile = shown[y : y + 8 * zoom : zoom, x : x + 8 * zoom : zoom]
    expected = np.broadcast_to(np.clip((images[row, column] + 1) / 2, 0, 1), (8, 8, 3))
    np.testing.assert_allclose(tile, expected, atol=1e-7)  # float32
  assert shown.shape == (16 * zoom + gap, 24 * zoom + 2 * gap, 3)


def test_models_that_differ_by_a_number_get_a_sequence_of_colours():
  luminance = [
    color[:3] @ [0.2126, 0.7152, 0.0722]
    for color in style.model_colors([f"N = {n}" for n in range(7)]).values()
  ]
  assert all(np.diff(luminance) < -0.02)
  assert set(style.model_colors(["VP", "VE"]).values()) == {style.BLUE, style.ORANGE}
  assert len(style.model_colors([chr(97 + i) for i in range(9)])) == 9


def test_spread_keeps_both_ends():
  assert style.spread("abcdefg", 3) == ["a", "d", "g"]
  assert style.spread("ab", 3) == ["a", "b"]
  assert [style.grid(count) for count in (1, 4, 7, 8, 9)] == [(1, 1), (1, 4), (2, 4), (2, 4), (3, 4)]


def test_saving_twice_gives_the_same_bytes(tmp_path):
  paths = [
    plots.save(plots.samples.draw(fake("samples", 2, (32, 32, 3))), tmp_path / run / "N = 0.5")
    for run in ("one", "two")
  ]
  for one, two in zip(*paths):
    assert one.name in ("N = 0.5.png", "N = 0.5.pdf")
    assert one.read_bytes() == two.read_bytes()
