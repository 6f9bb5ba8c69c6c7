"""A figure as part of a page: SVG that follows the page's theme, its series by name, its numbers as text."""

import io
import json
import re
import xml.etree.ElementTree as ET
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.container import BarContainer
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from gauss_diffusion.plots import numbers, style
from gauss_diffusion.plots.numbers import Panel, number

IMAGE_DPI = 160  # of pictures inside the figure, as in its PNG
MOST_POINTS = 100  # of a curve whose values a reader may point at: beyond, they can't be told apart
MOST_ROWS = 40  # of a table of numbers; longer curves are read off the figure, or from the results
LEAST_FULL = 0.5  # of such a table: curves with no place in common make none
DIGITS = 2  # after the point, of coordinates: a figure is 921.6 wide

_text = mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "gauss_diffusion"})  # the same in every run
_ROOT = {
  "xmlns": "http://www.w3.org/2000/svg",
  "font-family": "DejaVu Sans, Verdana, sans-serif",  # Matplotlib's own, and what is as wide
  "stroke-linejoin": "round",
  "style": "fill:#000000",  # which Matplotlib doesn't say
  "role": "img",
}
_COORDINATES = {"d", "x", "y", "transform", "width", "height"}
_ARTIST = "artist-"
_HREF = "{http://www.w3.org/1999/xlink}href"
_FONT = re.compile(r" *font-family: [^;]*;?")
_COLOR = re.compile(r"#([0-9a-f]{6})\b")
_NUMBER = re.compile(r"-?\d+\.\d+(?:e-?\d+)?")
_VARIABLE = re.compile(r"var\(--c-([0-9a-f]{6}),")
_SIGNS = {r"\tau": "τ", r"\propto": "∝"}  # commands of mathematics -> characters
_REFERENCE = re.compile(r"(?:url\()?#(?P<id>[^)]*)\)?")


class Inline(NamedTuple):
  """A figure to be put into a page."""

  markup: str  # an <svg>
  colors: frozenset[str]  # "rrggbb": each is ``var(--c-rrggbb,#rrggbb)``, for the page to say otherwise
  series: dict[str, str]  # name -> colour, as CSS
  panels: list[Panel]


class _Series(NamedTuple):
  """What is drawn under one name."""

  name: str
  points: list[tuple[float, float, str]]  # place in the SVG, and what stands there


@style.talk
@_text
def inline(figure: Figure, title: str, prefix: str) -> Inline:
  """Return a figure for a page; the same figure gives the same bytes.

  A labelled curve is a series of that name, and so is whatever carries the name as its ``gid``. Their groups
  say so in ``data-series`` and ``data-points``, see page.html. Artists whose ``gid`` is
  `style.AS_IS` keep their colours in every theme.

  Args:
    figure: any; if it has been saved, its layout stays as it is.
    title: what it shows, for those who don't see it.
    prefix: of every id in it, unlike that of any other figure of the page.
  """
  named = _named(figure)
  keys, gids = {artist: f"{_ARTIST}{i}" for i, artist in enumerate(named)}, [each.get_gid() for each in named]
  drawn = io.StringIO()
  try:
    for artist, key in keys.items():
      artist.set_gid(key)
    figure.savefig(drawn, format="svg", dpi=IMAGE_DPI, metadata={"Date": None}, transparent=True)
  finally:
    for artist, gid in zip(named, gids):
      artist.set_gid(gid)
  # Only now it is laid out, and values have their places.
  series = {
    keys[artist]: _Series(name, _points(artist)) for artist, name in named.items() if name != style.AS_IS
  }
  root = ET.fromstring(drawn.getvalue())
  for element in root.iter():
    element.tag = element.tag.partition("}")[2]
  _tidy(root, series, as_is=False)
  _rename(root, prefix)
  headings = dict.fromkeys(filter(None, map(_heading, figure.axes)))
  box = root.attrib["viewBox"]
  root.attrib.clear()
  root.attrib.update(_ROOT | {"viewBox": box, "aria-label": f"{title} {'; '.join(headings)}".strip()})
  root.attrib["style"] = _themed(root.attrib["style"])
  markup = ET.tostring(root, encoding="unicode")
  panels = [panel for panel in map(_panel, figure.axes) if panel.rows]
  return Inline(markup, frozenset(_VARIABLE.findall(markup)), _names(figure), panels)


def _named(figure: Figure) -> dict[Artist, str]:
  """Return what is, or goes along with, a series, and its name; and what is to stay as it is."""
  found: dict[Artist, str] = {}
  for axis in figure.axes:
    found |= {line: _plain(str(line.get_label())) for line in _curves(axis)}
    found |= {bar: _plain(str(bars.get_label())) for bars in _bars(axis) for bar in bars}
  also = {each: _plain(str(each.get_gid())) for each in figure.findobj(lambda each: bool(each.get_gid()))}
  return also | found


def _curves(axis: Axes) -> list[Line2D]:
  return [line for line in axis.lines if _is_name(line.get_label()) and np.size(line.get_xdata())]


def _bars(axis: Axes) -> list[BarContainer]:
  return [bars for bars in axis.containers if isinstance(bars, BarContainer) and _is_name(bars.get_label())]


def _is_name(label: object) -> bool:
  return bool(label) and not str(label).startswith("_")  # Matplotlib's own for what has none


def _points(line: Artist) -> list[tuple[float, float, str]]:
  """Return where the values of a curve stand and what they are; of what is none, and of guides, nothing."""
  if not isinstance(line, Line2D) or not isinstance(line.axes, Axes) or line not in _curves(line.axes):
    return []
  values, axis = _values(line), line.axes
  width, height = axis.figure.bbox.size  # in dots; the SVG is in points
  scale = 72 * style.WIDTH / width
  if len(values) > MOST_POINTS:
    return []
  found = []
  for (x, y), place in zip(values, axis.transData.transform(values)):
    if np.isfinite(place).all() and axis.bbox.padded(1).contains(*place):
      at = f"{number(y)} at {number(x)}"
      found.append((round(place[0] * scale, 1), round((height - place[1]) * scale, 1), at))
  return found


def _values(line: Line2D) -> np.ndarray:
  """Return the points [N, 2] of a curve, none of a guide that isn't in the axes' own units."""
  is_data = line.axes is not None and line.get_transform() == line.axes.transData
  return np.asarray(line.get_xydata() if is_data else np.empty((0, 2)), float)


def _names(figure: Figure) -> dict[str, str]:
  """Return the series in the order in which they were drawn, each with its colour."""
  found: dict[str, str] = {}
  for axis in figure.axes:
    for line in _curves(axis):
      found.setdefault(_plain(str(line.get_label())), _themed(to_hex(line.get_color())))
    for bars in _bars(axis):
      found.setdefault(_plain(str(bars.get_label())), _themed(to_hex(bars[0].get_facecolor())))
  return found


def _tidy(element: ET.Element, series: dict[str, _Series], as_is: bool) -> None:
  """Leave out what only a drawing program wants, shorten numbers, name series, let the page set colours."""
  gid = element.get("id", "")
  if gid.startswith("legend_"):
    element.set("class", "legend")
  as_is = as_is or gid.startswith(_ARTIST) and gid not in series
  if gid in series:
    name, points = series[gid]
    element.set("data-series", name)
    if points:
      element.set("data-points", json.dumps(points, ensure_ascii=False, separators=(",", ":")))
  if "style" in element.attrib:
    own = _FONT.sub("", element.attrib["style"]).replace(": ", ":").replace("; ", ";").rstrip(";")
    if as_is and "fill:" not in own:
      own += ";fill:#000000"
    element.set("style", own if as_is else _themed(own))
  for name in _COORDINATES & set(element.attrib):
    short = _NUMBER.sub(lambda found: f"{round(float(found[0]), DIGITS):g}", element.attrib[name])
    element.set(name, " ".join(short.split()))
  if element.get("transform", "").startswith("rotate(-0 "):
    del element.attrib["transform"]
  for child in list(element):
    if child.tag in ("metadata", "style"):
      element.remove(child)
    else:
      _tidy(child, series, as_is)
  if element.tag not in ("text", "tspan"):
    element.text = None
  element.tail = None


def _themed(css: str) -> str:
  """Return CSS in which the page may set every colour, and which is right without a page."""
  return _COLOR.sub(r"var(--c-\1,#\1)", css)


def _rename(root: ET.Element, prefix: str) -> None:
  """Keep the ids that something refers to, and make them unlike those of other figures."""
  wanted: dict[str, str] = {}
  for element in root.iter():
    if _HREF in element.attrib:
      element.set("href", element.attrib.pop(_HREF))
    for name in ("href", "clip-path"):
      if found := _REFERENCE.fullmatch(element.get(name, "")):
        reference = wanted.setdefault(found["id"], f"{prefix}-{len(wanted)}")
        element.set(name, f"#{reference}" if name == "href" else f"url(#{reference})")
  for element in root.iter():
    if (own := element.attrib.pop("id", "")) in wanted:
      element.set("id", wanted[own])


def _panel(axis: Axes) -> Panel:
  """Return the numbers of one panel: those that it tells, or of curves and bars few enough for a table."""
  if told := numbers.table(axis):
    return told._replace(title=told.title or _heading(axis))
  columns: dict[str, dict[str, str]] = {}
  for line in _curves(axis):
    if 0 < len(_values(line)) <= MOST_ROWS:
      values = {number(x): number(y) for x, y in _values(line) if np.isfinite([x, y]).all()}
      columns.setdefault(_plain(str(line.get_label())), values)
  for bars in _bars(axis):
    places = [_plain(label.get_text()) for label in axis.get_yticklabels()]
    columns[_plain(str(bars.get_label()))] = dict(
      zip(places, map(number, np.asarray(bars.datavalues, float)))
    )
  rows = list(dict.fromkeys(place for values in columns.values() for place in values))
  if sum(map(len, columns.values())) < len(rows) * len(columns) * LEAST_FULL:
    rows = []
  cells = [[place, *(values.get(place, "") for values in columns.values())] for place in rows]
  return Panel(_heading(axis), _name(axis, "x"), _name(axis, "y"), list(columns), cells)


def _heading(axis: Axes) -> str:
  return _plain(axis.get_title(loc="left"))


def _name(axis: Axes, which: str) -> str:
  """Return the name of an axis, which may stand at another panel that shares it, or at the whole figure."""
  sharing = {"x": axis.get_shared_x_axes, "y": axis.get_shared_y_axes}[which]()
  own = [axis, *sharing.get_siblings(axis)]
  names = [str(getattr(each, f"get_{which}label")()) for each in own]
  figure = axis.get_figure(root=True)
  names.append(str(getattr(figure, f"get_sup{which}label")() if figure else ""))
  return _plain(next(filter(None, names), ""))


def _plain(text: str) -> str:
  """Return text on one line and without the marks of mathematics."""
  for command, sign in _SIGNS.items():
    text = text.replace(command, sign)
  return " ".join(re.sub(r"[${}\\]|mathrm", "", text).split())
