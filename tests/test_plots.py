"""Every figure draws what the arrays say, labelled, legible and without global state."""

import itertools

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from gauss_diffusion import plots, results
from gauss_diffusion.analyses import FIGURES
from gauss_diffusion.analyses.subject import DENOISERS, IMAGE
from gauss_diffusion.denoisers import FAMILIES
from gauss_diffusion.plots import style
from gauss_diffusion.readings import intervals

SIGMA = np.geomspace(80, 0.002, 10)
LAWS = ["train", "held-out"]
ELSEWHERE = (
  "distillation",
  "halves",
  "input_law",
  "descent",
  "denoised",
  "directions",
  "calibration",
  "explained",
  "likelihood",
  "teleportation",
)  # each tested beside its analysis
PAIRS = (
  ("network", "gaussian"),
  ("network", "linear (train)"),
  ("network", "linear (held-out)"),
  ("network", "multi-delta"),
  ("linear (held-out)", "gaussian"),
)
NAMES = {  # denoisers that a figure shows, where nothing else is asked for
  "trajectories": ("network", "gaussian", "linear (held-out)", "multi-delta"),
  "samples": ("gaussian", "network"),
}


def fake(name: str, num_models: int, *, networks=1, image=(8, 8, 1), names=(), pairs=PAIRS) -> dict:
  """Return title -> random results of each of its networks, labelled as the analysis does it."""
  rng = np.random.default_rng(0)
  s, p, k, n = len(SIGMA), 5, 6, 9
  names = list(names or NAMES.get(name, ()))

  def found():
    match name:
      case "linearity":
        values = rng.uniform(0, 0.5, (4, 2, s, 3, p))
        fields = ("cosine", "nmse", "centred_cosine", "centred_nmse")
        return results.labelled(
          {field: (("inputs", "sigma", "alpha2", "sample"), each) for field, each in zip(fields, values)},
          {"inputs": ["noisy image", "pure noise"], "sigma": SIGMA, "alpha2": [0.99, 0.5, 0.75]},
        )
      case "score_gap":
        rmse = (("law", "pair", "sigma", "image"), rng.uniform(0, 1, (2, len(pairs), s, p)))
        one, two = zip(*pairs)
        return results.labelled(
          {"rmse": rmse, "nmse": rmse, "floor": ("image", rng.uniform(0, 1, p))},
          {"law": LAWS, "sigma": SIGMA, "one": ("pair", list(one)), "two": ("pair", list(two))},
        )
      case "trajectories":
        denoised = rng.normal(size=(len(names), 2, s, *image))
        return results.labelled(
          {"denoised": (("denoiser", "latent", "sigma", *IMAGE), denoised)},
          {"denoiser": names, "sigma": SIGMA},
        )
      case "samples":
        images = rng.normal(size=(2, len(names), n, *image))
        values = rng.uniform(0, 1, (2, len(names), n))
        return results.labelled(
          {
            "samples": (("denoiser", "sample", *IMAGE), images[0]),
            "neighbours": (("denoiser", "sample", *IMAGE), images[1]),
            "gl": (("denoiser", "sample"), values[0]),
            "memorized": (("denoiser", "sample"), values[1] < 0.5),
          },
          {"denoiser": names},
        )
      case "gain":
        residuals = zip(("asymmetry", "constancy", "displacement"), rng.uniform(0, 1, (3, s, p)))
        return results.labelled(
          {field: (("sigma", "point"), values) for field, values in residuals}
          | {"eigenvalues": ("direction", np.geomspace(3, 0.01, k))}
          | {"gain": (("sigma", "direction", "point"), rng.uniform(0, 1, (s, k, p)))},
          {"sigma": SIGMA},
        )
      case "modes":
        correlation, images = rng.uniform(0, 1, (s, p, k, k)), rng.normal(size=(s + 1, k, *image)) / 8
        return results.labelled(
          {
            "values": (("sigma", "latent", "vector"), rng.uniform(0, 1, (s, p, k))),
            "gaussian_values": (("sigma", "component"), rng.uniform(0, 1, (s, k))),
            "correlation": (("sigma", "latent", "vector", "component"), correlation),
            "alignment": (("sigma", "latent"), rng.uniform(0, 1, (s, p))),
            "chance": ((), 0.1),
            "vectors": (("sigma", "vector", *IMAGE), images[1:]),
            "estimates": (("sigma", *IMAGE), images[1:, 0]),
            "components": (("component", *IMAGE), images[0]),
            "mean": (IMAGE, images[0, 0]),
          },
          {"sigma": SIGMA, "vector": np.arange(1, k + 1), "component": np.arange(1, k + 1)},
        )
      case "perturbation":
        images, move = rng.normal(size=(3, 2, 2, n, *image)), ("sigma", "direction", "sign", "latent")
        return results.labelled(
          {
            "length": ("sigma", 3 * SIGMA[::4]),
            "unmoved": (("latent", *IMAGE), images[0, 0, 0]),
            "samples": ((*move, *IMAGE), images),
            "change": (move, rng.uniform(0.01, 1, (3, 2, 2, n))),
          },
          {"sigma": SIGMA[::4], "direction": ["first singular vector", "random"], "sign": [-1, 1]},
        )
      case "training":
        images = np.arange(1, 200) * 1280.0
        lines = {"step": images / 128, "images": images, "loss": rng.uniform(0.2, 1, 199)}
        return results.labelled({field: ("line", values) for field, values in lines.items()}, {})

  return {f"N = {2 ** (i + 4)}": [found() for _ in range(networks)] for i in range(num_models)}


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
@pytest.mark.parametrize("name", [name for name in FIGURES if name not in ELSEWHERE])
def test_figures_are_labelled_and_legible(name, num_models):
  before = dict(mpl.rcParams)
  found = fake(name, num_models)
  figure = FIGURES[name].draw(found)
  words = legible(figure)
  assert isinstance(figure, Figure)
  assert not mpl._pylab_helpers.Gcf.figs and dict(mpl.rcParams) == before, "global state leaked"

  for axes in figure.axes:
    if not axes.axison or axes.images or axes.get_label() == "<colorbar>":
      continue
    assert axes.get_xlabel() or not axes.xaxis.get_tick_params()["labelbottom"]
    assert axes.get_xscale() == "log" or axes.get_xlabel() == "singular vector"
    assert axes.get_ylabel() or axes.get_title(loc="left") or figure.get_supylabel()

  expected = {"trajectories": style.spread(found, 2)}.get(name, list(found))
  assert all(label in words for label in expected)


@pytest.mark.parametrize("name", ["samples", "score_gap", "training"])
def test_eight_models_with_long_titles_are_legible_and_told_apart(name):
  groups = ("25,000", "64, 4 channels", "64", "64, 150 steps")
  labels = [f"halves of {group}, {part}" for group in groups for part in (1, 2)]
  figure = FIGURES[name].draw(dict(zip(labels, fake(name, len(labels)).values())))
  words = legible(figure)
  assert all(label in words for label in labels)
  assert len(set(style.model_colors(labels).values())) == len(labels)


@pytest.mark.parametrize("num_models", [1, 2, 4, 8])
@pytest.mark.parametrize("name", ["samples", "score_gap", "trajectories"])
def test_every_denoiser_of_a_study_is_shown_and_legible(name, num_models):
  _, *others = DENOISERS
  pairs = [("network", other) for other in others]
  found = fake(name, num_models, names=DENOISERS[:5] if name == "samples" else DENOISERS, pairs=pairs)
  words = legible(FIGURES[name].draw(found)).replace("\n", " ")
  asked = found["N = 16"][0].two if name == "score_gap" else found["N = 16"][0].denoiser
  assert len(asked) >= 5 and all(style.named(denoiser) in words for denoiser in asked.to_numpy())


def test_linearity_draws_mean_absolute_cosine_at_one_half():
  found = {title: [one.assign(cosine=-one.cosine)] for title, (one,) in fake("linearity", 2).items()}
  axes = plots.linearity.draw(found).axes
  for line, (one,) in zip(axes[1].lines, found.values()):
    half = one.sel(inputs="pure noise", alpha2=0.5)
    np.testing.assert_allclose(line.get_ydata(), np.abs(half.cosine).mean("sample"), rtol=1e-12)
  half = found["N = 16"][0].sel(inputs="noisy image", alpha2=0.5)
  np.testing.assert_allclose(axes[3].lines[0].get_ydata(), half.centred_nmse.mean("sample"))


def test_score_gap_draws_held_out_inputs_and_the_floor():
  found = fake("score_gap", 1)
  *curves, floor = plots.score_gap.draw(found).axes[0].lines
  np.testing.assert_allclose(floor.get_ydata(), found["N = 16"][0].floor.mean())
  assert len(curves) == 4
  for line, (one, two) in zip(curves, PAIRS):
    assert line.get_label() == style.named(two)
    gap = found["N = 16"][0].rmse.sel(law="held-out", one=one, two=two)
    np.testing.assert_allclose(line.get_ydata(), gap.mean("image"))


def test_score_gap_draws_whatever_pairs_a_study_asks_for():
  pairs = [("patch", "other"), ("patch", "new"), ("x", "y"), ("patch", "multi-delta"), ("y", "z")]
  found = fake("score_gap", 1, pairs=pairs)
  axes = plots.score_gap.draw(found).axes[0]
  assert [line.get_label() for line in axes.lines] == ["other", "new", "multi-delta"]
  assert len({line.get_color() for line in axes.lines}) == 3
  for line, pair in zip(axes.lines, (0, 1, 3)):
    np.testing.assert_allclose(line.get_ydata(), found["N = 16"][0].rmse.values[1, pair].mean(-1))


def test_gain_of_a_gaussian_denoiser_lies_on_the_curve():
  (found,) = fake("gain", 1)["N = 16"]
  found["gain"] = 0 * found.gain + found.eigenvalues / (found.eigenvalues + found.sigma**2)
  curve, *points = [line for line in plots.gain.draw({"N = 16": [found]}).axes[0].lines]
  x = np.concatenate([line.get_xdata() for line in points])
  np.testing.assert_allclose(np.concatenate([line.get_ydata() for line in points]), x / (1 + x), rtol=1e-12)
  np.testing.assert_allclose(curve.get_ydata(), curve.get_xdata() / (1 + curve.get_xdata()))


def test_trajectories_draw_a_row_a_denoiser():
  (found,) = fake("trajectories", 1)["N = 16"]
  found.denoised[:] = -1
  found.denoised.loc["network"] = 1
  page = plots.trajectories.draw({"N = 16": [found]}).axes[0].images[0].get_array()
  assert page[: len(page) // 5].min() == 1 and page[len(page) // 3 :, 5].min() == 0
  (found,) = fake("trajectories", 1)["N = 16"]
  page = plots.trajectories.draw({"N = 16": [found]}).axes[0].images[0].get_array()
  want = found.denoised.sel(denoiser="gaussian").isel(latent=0, sigma=2)
  tile = page[103:199:12, 206:302:12]  # the second row, the third level
  np.testing.assert_allclose(tile[..., 0], np.clip((want[..., 0] + 1) / 2, 0, 1), atol=1e-6)


@pytest.mark.parametrize(
  "first, names", [("network", ("gaussian", "network", "kernel")), ("mean", ("mean",))]
)
def test_samples_show_the_network_or_else_the_first_and_then_the_others(first, names):
  (found,) = fake("samples", 1, names=names)["N = 16"]
  axis = plots.samples.draw({"N = 16": [found]}).axes[0]
  own, title = found.sel(denoiser=first), axis.get_title(loc="left")
  assert f"GL {own.gl.values.mean():.2f} ±" in title
  assert f"{own.memorized.values.mean():.0%} memor" in title
  assert [label.get_text() for label in axis.get_xticklabels()] == [f"{x:.2f}" for x in own.gl.values[:8]]
  others = [name for name in names if name != first]
  rows = {style.named(first): own.samples, "nearest": own.neighbours}
  drawn = {name: found.samples.sel(denoiser=name) for name in others}
  apart = {name: np.sqrt(np.mean((each - own.samples) ** 2)).item() for name, each in drawn.items()}
  rows |= {f"{style.named(name)}\nPFD {apart[name]:.2f}": each for name, each in drawn.items()}
  assert [label.get_text() for label in axis.get_yticklabels()] == list(rows)
  page = axis.images[0].get_array()
  for y, images in zip(axis.get_yticks(), rows.values()):  # an image is 8 pixels of 12 points
    top = round(y - 47.5)
    tile = page[top : top + 96 : 12, 103:199:12, 0]  # of the second sample
    np.testing.assert_allclose(tile, np.clip((images.values[1, :, :, 0] + 1) / 2, 0, 1), atol=1e-6)


def test_each_family_has_one_colour_in_every_figure():
  colors = style.denoiser_colors(DENOISERS[1:])
  assert len(set(colors.values())) == len(DENOISERS) - 1
  assert colors["gaussian"] == style.BLUE and colors["multi-delta"] == style.VERMILLION
  assert colors["linear (train)"] == style.GREEN and colors["linear (held-out)"] == style.ORANGE
  for names in itertools.combinations([*FAMILIES, "a family that is gone"], 3):
    for name, color in style.denoiser_colors(reversed(names)).items():
      assert color == colors.get(name, color)
      assert name in colors or color not in colors.values()


def test_denoisers_that_may_lie_on_each_other_have_dashes_of_their_own():
  assert set(style.DASHES) <= set(DENOISERS)
  assert len(set(style.DASHES.values())) == len(style.DASHES)


def test_figures_take_names_from_the_registry_and_keep_those_it_lacks():
  assert style.named("gaussian") == "Gaussian" and style.named("skip") == FAMILIES["skip"].title != "skip"
  for name in ("network", "linear (train)", "a family that is gone"):
    assert style.named(name) == name


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


def test_rows_of_a_sheet_stand_apart():
  images = np.random.default_rng(0).uniform(-1, 1, (3, 2, 8, 8, 1))
  together, apart = Figure().subplots(1, 2)
  style.sheet(together, images, "abc", "de")
  style.sheet(apart, images, "abc", "de", block=2)
  one, two = (axis.images[0].get_array() for axis in (together, apart))
  more, place = len(two) - len(one), 2 * (96 + 7)
  assert more > 0
  np.testing.assert_array_equal(np.concatenate([two[:place], two[place + more :]]), one)
  assert two[place : place + more].min() == 1
  np.testing.assert_allclose(apart.get_yticks() - together.get_yticks(), [0, 0, more])


def test_models_that_differ_by_a_number_get_a_sequence_of_colours():
  luminance = [
    color[:3] @ [0.2126, 0.7152, 0.0722]
    for color in style.model_colors([f"N = {n}" for n in range(7)]).values()
  ]
  assert all(np.diff(luminance) < -0.02)
  assert set(style.model_colors(["VP", "VE"]).values()) == {style.BLUE, style.ORANGE}
  assert len(set(style.model_colors([chr(97 + i) for i in range(12)]).values())) == 12


def test_spread_keeps_both_ends():
  assert style.spread("abcdefg", 3) == ["a", "d", "g"]
  assert style.spread("ab", 3) == ["a", "b"]
  assert [style.grid(count) for count in (1, 4, 7, 8, 9)] == [(1, 1), (1, 4), (2, 4), (2, 4), (3, 4)]


def test_saving_twice_gives_the_same_bytes(tmp_path):
  paths = [
    plots.save(plots.samples.draw(fake("samples", 2, image=(32, 32, 3))), tmp_path / run / "N = 0.5")
    for run in ("one", "two")
  ]
  for one, two in zip(*paths):
    assert one.name in ("N = 0.5.png", "N = 0.5.pdf")
    assert one.read_bytes() == two.read_bytes()


def network_values(num_networks: int) -> list[np.ndarray]:
  return list(np.random.default_rng(0).uniform(0, 1, (num_networks, 4, 30)))


def t_ends(means: np.ndarray) -> np.ndarray:
  """Return the ends of Student's 95 % interval along the last axis, from its table of quantiles."""
  quantile = {2: 12.706204736, 3: 4.302652730, 5: 2.776445105}[means.shape[-1]]  # of n - 1 degrees of freedom
  half = quantile * means.std(-1, ddof=1) / np.sqrt(means.shape[-1])
  return np.stack([means.mean(-1) - half, means.mean(-1) + half])


def outline(band) -> np.ndarray:
  """Return the lower and upper ends of a band."""
  y = band.get_paths()[0].vertices[:-1, 1]
  return np.stack([y[:4], y[4:8][::-1]])


@pytest.mark.parametrize("num_networks", [2, 3, 5])
def test_of_several_networks_the_wide_band_is_students_over_their_means(num_networks):
  values = network_values(num_networks)
  axis = Figure().subplots()
  style.curve(axis, [1, 2, 3, 4], values)
  means = np.mean(values, axis=2).T
  np.testing.assert_allclose(axis.lines[0].get_ydata(), means.mean(1), rtol=1e-12)
  networks, images = axis.collections
  np.testing.assert_allclose(outline(networks), t_ends(means), rtol=1e-8)  # of the quantiles above
  np.testing.assert_allclose(outline(images), intervals.bootstrap_mean(np.mean(values, axis=0))[1:])
  assert images.get_alpha() > networks.get_alpha()


def test_of_one_network_the_band_is_over_its_images():
  (values,) = network_values(1)
  axis = Figure().subplots()
  style.curve(axis, [1, 2, 3, 4], [values])
  (band,) = axis.collections
  np.testing.assert_allclose(outline(band), intervals.bootstrap_mean(values)[1:])
  assert not any(label.endswith("networks") for label in style.entries(axis, {"A": [values]})[1])


def test_the_band_over_networks_does_not_hide_the_curve():
  values = [np.full((4, 30), 1.0), np.full((4, 30), 2.0)]  # of two, 1.5 ± 6.4
  axis = Figure().subplots()
  style.curve(axis, [1, 2, 3, 4], values)
  np.testing.assert_allclose(axis.dataLim.intervaly, [1, 2])
  style.points(axis, [1, 2], [[each[0] for each in values]] * 2)
  np.testing.assert_allclose(axis.dataLim.intervaly, [1, 2])


def test_points_take_any_number_of_networks_and_images():
  values = [list(network_values(3)[i][0, : 30 - 5 * i] for i in range(3)), [network_values(1)[0][1]]]
  axis = Figure().subplots()
  style.points(axis, [1, 2], values)
  means = [np.mean([each.mean() for each in there]) for there in values]
  np.testing.assert_allclose(axis.lines[0].get_ydata(), means, rtol=1e-12)
  networks, images = (np.array(bars.get_segments()) for bars in axis.collections)
  assert networks.shape == (1, 2, 2) and images.shape == (1, 2, 2)  # images differ in number at the first
  np.testing.assert_allclose(
    networks[0, :, 1], t_ends(np.array([each.mean() for each in values[0]])), rtol=1e-8
  )
  np.testing.assert_allclose(images[0, :, 1], intervals.bootstrap_mean(values[1][0])[1:])


def test_the_legend_says_what_bands_are():
  axis = Figure().subplots()
  axis.plot([0], [0], label="A")
  for counts, words in (
    ((1,), []),
    ((5, 5), ["95 % over 5 networks"]),
    ((1, 2, 5), ["95 % over 2–5 networks"]),
  ):
    models = {str(i): [None] * count for i, count in enumerate(counts)}
    assert style.entries(axis, models)[1] == ["A", *words]
    other = axis.figure.add_subplot()
    style.curve(other, [1, 2, 3, 4], [np.ones((4, 30))] * 2)  # whose images are all alike
    assert style.entries(axis, models)[1] == ["A", *words]
    style.curve(other, [1, 2, 3, 4], network_values(1))
    assert style.entries(axis, models)[1] == ["A", *words, "95 % over images"]
    assert style.entries(axis, models, images=False, bars=True)[1] == ["A", *words]
    other.remove()


@pytest.mark.parametrize("networks", [2, 5])
@pytest.mark.parametrize("name", [name for name in FIGURES if name not in ELSEWHERE])
def test_figures_of_several_networks_are_legible_and_say_so(name, networks):
  words = legible(FIGURES[name].draw(fake(name, 3, networks=networks)))
  if name not in ("training", "trajectories"):
    assert f"{networks} networks" in words


def test_training_draws_a_line_a_network():
  axis = FIGURES["training"].draw(fake("training", 2, networks=3)).axes[0]
  assert len(axis.lines) == 2 * 2 * 3
  assert len(axis.get_legend_handles_labels()[1]) == 2


def test_samples_title_is_of_all_networks():
  found = fake("samples", 1, networks=3)
  axis = plots.samples.draw(found).axes[0]
  means = np.array([one.gl.sel(denoiser="network").values.mean() for one in found["N = 16"]])
  low, high = t_ends(means)
  assert f"GL {means.mean():.2f} ± {(high - low) / 2:.2f}," in axis.get_title(loc="left")
  assert "(3 networks)" in axis.get_title(loc="left")


def test_the_training_figure_shows_what_the_alarm_saw_and_where_it_began():
  quiet, loud = (fake("training", 1)["N = 16"][0] for _ in range(2))
  gap = np.full(199, np.nan)
  gap[9::10] = np.linspace(0, 3, 20)[: len(gap[9::10])]
  columns = {"gap": gap, "copies": gap / 4, "memorizing": np.where(np.isnan(gap), np.nan, gap > 1)}
  loud = loud.assign({f"alarm_{name}": ("line", values) for name, values in columns.items()})
  figure = FIGURES["training"].draw({"N = 16": [loud], "N = 64": [quiet]})
  assert "Copies among samples" in legible(figure)
  _, errors, copies = figure.axes
  curve, mark = errors.lines[:2]
  np.testing.assert_allclose(curve.get_ydata(), np.exp(gap[9::10]))
  np.testing.assert_allclose(curve.get_xdata(), loud.images[9::10])
  first = np.flatnonzero(gap > 1)[0]
  assert (mark.get_xdata()[0], mark.get_ydata()[0]) == (loud.images[first], np.exp(gap[first]))
  np.testing.assert_allclose(copies.lines[1].get_ydata(), gap[first] / 4)
  assert len(FIGURES["training"].draw({"N = 64": [quiet]}).axes) == 1


def test_a_legend_names_as_many_models_as_it_has_room_for():
  found = fake("linearity", 39)
  figure = plots.linearity.draw(found)
  named = [text.get_text() for text in figure.legends[0].get_texts() if text.get_text() in found]
  assert len(named) == 16 and [named[0], named[-1]] == [list(found)[0], list(found)[-1]] and legible(figure)
