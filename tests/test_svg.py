"""A figure in a page says what its series, numbers and colours are, and is the same in every run."""

import base64
import io
import json
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image
from test_plots import fake

from gauss_diffusion.analyses import FIGURES
from gauss_diffusion.plots import style, svg

X, Y = np.array([0.01, 0.1, 1.0, 10.0]), np.array([0.5, 0.25, 0.125, 1.0])
ROUNDED = 0.06  # of coordinates, to one digit in `data-points` and two in a path
HOSTILE = "<script>alert('x')</script>\"&"


@style.talk
def figure() -> Figure:
  """Return two panels: curves on a logarithmic axis with a companion and a guide, and bars."""
  made = style.figure(4.0)
  left, right = made.subplots(1, 2)
  style.curve(left, X, [np.stack([Y, Y + 0.1], axis=1)], color="#440154", label="N = 16")
  left.plot(X, Y / 2, ":", color="#440154", gid="N = 16")
  left.axhline(0.3, color="0.35", label="guide")
  left.annotate("+", (0.1, 0.5), color="white", gid=style.AS_IS)
  left.set(xscale="log", title="Left", ylabel=r"RMSE$_L \propto \tau$")
  left.set_xlabel("σ")
  right.barh([0, 1], [0.25, 0.75], color="#e69f00", label="bars")
  right.set_yticks([0, 1], ["one", "two"])
  made.legend(*left.get_legend_handles_labels(), loc="outside lower center")
  return made


def parsed(inline: svg.Inline) -> ET.Element:
  return ET.fromstring(inline.markup.replace(' xmlns="http://www.w3.org/2000/svg"', ""))


def test_values_stand_where_their_curve_goes():
  root = parsed(svg.inline(figure(), "T", "a"))
  curve, *_ = [each for each in root.iter("g") if "data-points" in each.attrib]
  places = json.loads(curve.get("data-points"))
  drawn = np.array(re.findall(r"[\d.]+", curve.find("path").get("d")), float).reshape(-1, 2)
  np.testing.assert_allclose([place[:2] for place in places], drawn, atol=ROUNDED)
  means = Y + 0.05  # of two images
  assert [said for *_, said in places] == [f"{y:.4g} at {x:g}" for x, y in zip(X, means)]


def test_the_numbers_drawn_are_a_table():
  left, right = svg.inline(figure(), "T", "a").panels
  assert left[:4] == ("Left", "σ", "RMSE_L ∝ τ", ["N = 16"])  # a guide has no numbers
  assert left.rows == [["0.01", "0.55"], ["0.1", "0.3"], ["1", "0.175"], ["10", "1.05"]]
  assert right.names == ["bars"] and right.rows == [["one", "0.25"], ["two", "0.75"]]


def test_a_series_is_its_curve_and_all_that_goes_along():
  inline = svg.inline(figure(), "T", "a")
  root = parsed(inline)
  assert list(inline.series) == ["N = 16", "guide", "bars"]
  assert inline.series["N = 16"] == "var(--c-440154,#440154)"
  of = [each.get("data-series") for each in root.iter("g") if "data-series" in each.attrib]
  assert of.count("N = 16") == 3  # the curve, its band and its companion, not its key in the legend
  assert of.count("guide") == 1 and of.count("bars") == 2
  (legend,) = [each for each in root.iter("g") if each.get("class") == "legend"]
  assert {text.text for text in legend.iter("text")} == {"N = 16", "guide"}


def test_the_page_sets_every_colour_but_those_on_a_coloured_ground():
  inline = svg.inline(figure(), "T", "a")
  bare = re.findall(r"(?<!,)#[0-9a-f]{6}", inline.markup)
  assert bare == ["#ffffff"]  # the sign on colour
  assert {"000000", "440154", "595959", "e69f00"} <= inline.colors
  assert inline.colors == set(re.findall(r"var\(--c-([0-9a-f]{6}),#\1\)", inline.markup))


def test_pictures_keep_their_pixels():
  made = style.figure(4.0)
  style.sheet(made.subplots(), np.linspace(-1, 1, 64).reshape(1, 1, 8, 8, 1), ["row"], ["column"])
  (image,) = parsed(svg.inline(made, "T", "a")).iter("image")
  picture = Image.open(io.BytesIO(base64.b64decode(image.get("href").partition(",")[2]))).convert("L")
  assert picture.getextrema() == (0, 255) and len(set(picture.get_flattened_data())) == 64


@pytest.mark.parametrize("name", ["gain", "linearity", "modes", "samples", "score_gap", "training"])
def test_the_same_figure_gives_the_same_bytes_and_ids_of_its_own(name):
  found = fake(name, 3)
  one, again = (svg.inline(FIGURES[name].draw(found), "T", "a") for _ in range(2))
  assert one == again
  other = svg.inline(FIGURES[name].draw(found), "T", "b").markup
  ids, others = (re.findall(r' id="([^"]+)"', markup) for markup in (one.markup, other))
  assert len(set(ids + others)) == len(ids + others)
  assert set(re.findall(r'url\(#([^)]+)\)|href="#([^"]+)"', other)) == {
    (each, "") if f"url(#{each})" in other else ("", each) for each in others
  }
  assert not re.search(r"metadata|<style|DOCTYPE|\d{4}-\d\d-\d\d", one.markup)


def test_drawing_again_changes_nothing():
  made = figure()
  gids = {artist: artist.get_gid() for artist in made.findobj()}
  once = svg.inline(made, "T", "a")
  assert all(artist.get_gid() == gid for artist, gid in gids.items())
  assert svg.inline(made, "T", "a") == once


def test_what_it_shows_is_said_to_those_who_do_not_see_it():
  root = parsed(svg.inline(FIGURES["samples"].draw(fake("samples", 2)), "Samples", "a"))
  assert root.get("role") == "img" and re.match(
    r"Samples N = 16 GL 0\.\d\d ± .* memorized; N = ", root.get("aria-label")
  )


def test_hostile_names_are_text():
  made = style.figure(4.0)
  axis = made.subplots()
  axis.plot([0, 1], [0, 1], label=HOSTILE)
  axis.set_title(HOSTILE)
  inline = svg.inline(made, HOSTILE, "a")
  assert "<script" not in inline.markup
  root = parsed(inline)
  assert HOSTILE in root.get("aria-label") and HOSTILE in {each.get("data-series") for each in root.iter()}
