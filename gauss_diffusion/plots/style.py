"""The look that all figures share: sizes, colours, a curve with its intervals, a sheet of images."""

import itertools
import re
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence

import matplotlib as mpl
import matplotlib.ticker
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import ArrayLike

from gauss_diffusion.denoisers import FAMILIES
from gauss_diffusion.plots import numbers
from gauss_diffusion.readings import intervals
from gauss_diffusion.readings.intervals import Interval
from gauss_diffusion.readings.measures import Reading
from gauss_diffusion.results import SHOWN, VALUES

if typing.TYPE_CHECKING:
  from gauss_diffusion.results import xarray

# Model's title -> what one analysis found of each of its networks, in the order of the study.
Results = Mapping[str, Sequence["xarray.Dataset"]]
Entries = tuple[list[Artist], list[str]]  # of a legend: handles and labels

WIDTH = 12.8  # inches; a 16:9 slide is 12.8 x 7.2
SMALL = 11.5  # points, the smallest text
_ENTRIES = 16  # of a legend; models beyond have colours between those of their neighbours
AS_IS = "as is"  # the `gid` of what keeps its colours in a dark page, such as text on a coloured ground

talk = mpl.rc_context(
  {
    "font.size": 13,
    "axes.titlesize": 14,
    "axes.titlelocation": "left",
    "axes.labelsize": 13,
    "xtick.labelsize": SMALL,
    "ytick.labelsize": SMALL,
    "legend.fontsize": 12.5,
    "legend.title_fontsize": 12.5,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.edgecolor": "0.35",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "0.91",
    "grid.linewidth": 0.8,
    "lines.linewidth": 2.2,
    "lines.solid_capstyle": "round",
    "xtick.color": "0.25",
    "ytick.color": "0.25",
    "pdf.fonttype": 42,
  }
)

# Okabe and Ito's colour-blind-safe palette.
BLACK, ORANGE, SKY, GREEN, BLUE, VERMILLION, PURPLE = (
  "#000000 #E69F00 #56B4E9 #009E73 #0072B2 #D55E00 #CC79A7".split()
)
CATEGORIES = (BLUE, ORANGE, GREEN, VERMILLION, SKY, PURPLE, BLACK, "#999999")
# Denoisers keep their colour in every figure: these have the one named here, families without one get the
# next of the palette in the order of the registry, and names that are no family's what comes after.
DENOISERS = {
  "gaussian": BLUE,
  "linear (train)": GREEN,
  "linear (held-out)": ORANGE,
  "multi-delta": VERMILLION,
}
# Tol's: wine, olive, indigo, teal, rose, sand, forest, cyan, magenta, brown, steel, navy, gold, pink, sea.
_MORE = tuple(
  "#882255 #999933 #332288 #44AA99 #CC6677 #DDCC77 #117733 #88CCEE #AA4499 #661100 #6699CC "
  "#004488 #997700 #EE99AA #225555 #AAAA00".split()
)
DASHES = {  # of those that may lie on each other, or on the Gaussian or multi-delta one
  "linear (train)": (0, (4, 1.5)),
  "linear (held-out)": (0, (1.2, 1.2)),
  "ppca": (0, (6, 1.5)),
  "shrunk": (0, (2.5, 1)),
  "stationary": (0, (5, 1.2, 1.2, 1.2)),
  "finite_data": (0, (3, 1.2, 1.2, 1.2, 1.2, 1.2)),
  "mixture": (0, (8, 1.2, 2.5, 1.2)),
  "smoothed": (0, (6, 1.2, 1.2, 1.2, 1.2, 1.2)),
  "golden": (0, (10, 2)),
}


_OVER = {"networks": "_over networks", "images": "_over images"}  # labels of bands and bars, in no legend

# How an interval over networks looks, and one over images: light and dark, long and thick.
_BAND_ALPHA = {"networks": 0.14, "images": 0.3}
_BAR_WIDTH = {"networks": 1.4, "images": 3.4}


def figure(height: float) -> Figure:
  """Return an empty figure as wide as a slide, `height` inches tall, without pyplot's global state."""
  layout = ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08, wspace=0.03, hspace=0.03)
  return Figure(figsize=(WIDTH, height), layout=layout)


def grid(count: int) -> tuple[int, int]:
  """Return rows and columns for `count` small multiples: one row as long as they stay readable."""
  columns = count if count <= 4 else -(-count // 2) if count <= 8 else 4
  return -(-count // columns), columns


def panels(count: int) -> tuple[Figure, np.ndarray]:
  """Return a figure of `count` panels that share their axes, and these [rows, columns], the last spare."""
  rows, columns = grid(count)
  made = figure(5.4 if rows == 1 else 3.3 * rows + 0.8)
  return made, made.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)


def sigma_panels(axes: np.ndarray, count: int) -> None:
  """Make x the noise level in `panels` once drawn, named below the lowest of each column; hide the spare."""
  columns = axes.shape[1]
  for axis in axes.flat[:count]:
    sigma_axis(axis)
  for axis in axes.flat[:-columns]:
    axis.set_xlabel("")
  for axis in axes.flat[count:]:
    axis.set_axis_off()
    above = axes[-2, axis.get_subplotspec().colspan.start]
    above.tick_params(labelbottom=True)
    above.set_xlabel("noise level σ")


def spread(items: Iterable, most: int) -> list:
  """Return at most `most` of the items, evenly spread, the first and the last among them."""
  items = list(items)
  if len(items) <= most:
    return items
  return [items[i] for i in np.linspace(0, len(items) - 1, most).round().astype(int)]


def model_colors(labels: Iterable[str]) -> dict[str, typing.Any]:
  """Return label -> colour: a sequence, light to dark, for labels that differ by a number only."""
  labels = list(labels)
  if len({re.sub(r"[\d.,]+", "#", label) for label in labels}) == 1:
    return dict(zip(labels, mpl.colormaps["viridis"](np.linspace(0, 0.87, len(labels))[::-1])))
  return dict(zip(labels, itertools.cycle(CATEGORIES + _MORE)))


def denoiser_colors(names: Iterable[str]) -> dict[str, str]:
  """Return denoiser -> colour, the same in every figure for each of the registry's families."""
  names = list(names)
  others = [name for name in dict.fromkeys([*FAMILIES, *names]) if name not in DENOISERS]
  free = [color for color in CATEGORIES + _MORE if color not in DENOISERS.values()]
  colors = DENOISERS | dict(zip(others, itertools.cycle(free)))
  return {name: colors[name] for name in names}


def named(denoiser: str) -> str:
  """Return a denoiser's name as a figure spells it: its title in the registry, where it has one."""
  return FAMILIES[denoiser].title if denoiser in FAMILIES else denoiser


def row_name(denoiser: str) -> str:
  """Return a denoiser's name as it stands beside a row of images: brackets on a line of their own."""
  return named(denoiser).replace(" (", "\n(")


def interval(values: Sequence[ArrayLike]) -> Interval:
  """Return the mean over a model's networks with its 95 % interval.

  Args:
    values: one array for each network, its images (or pairs, states, ...) along the last axis.

  Returns:
    Of several networks, Student's t interval over their means; of one, the bootstrap interval over its
    images, which says nothing about another network.
  """
  if len(values) == 1:
    return intervals.bootstrap_mean(values[0])
  return intervals.t_interval(_network_means(values))


def curve(axis: Axes, x: ArrayLike, values: Sequence[ArrayLike], **line: typing.Any) -> None:
  """Draw the mean over a model's networks against `x`, in bands of its 95 % intervals.

  The light band is `interval` over networks, the dark one over images with the networks as they are. The
  light one doesn't widen the axis: of two networks it would be all that one sees.

  Args:
    axis: to draw on.
    x: [X].
    values: one array [X, images] for each network.
    line: keywords of `Axes.plot`; a `gid` in place of a `label` is that of a curve it goes along with.
  """
  x = np.asarray(x)
  axis.update_datalim([(at, mean) for means in _network_means(values).T for at, mean in zip(x, means)])
  (drawn,) = axis.plot(x, interval(values).mean, **line)
  for (_, low, high), look in _intervals(values):
    band(drawn, low, high, look)


def band(line: Line2D, low: np.ndarray, high: np.ndarray, over: str = "networks") -> None:
  """Draw an interval about a line, [X] its ends; `over` networks, without widening the axis, or images."""
  x = np.asarray(line.get_xdata())
  outline = np.concatenate([np.stack([x, low], 1), np.stack([x, high], 1)[::-1]])
  drawn = PolyCollection(
    [outline], facecolor=line.get_color(), linewidth=0, zorder=1.5, alpha=_BAND_ALPHA[over]
  )
  label = str(line.get_label())
  drawn.set_gid(line.get_gid() if label.startswith("_") else label)
  drawn.set_label(_OVER[over])
  assert line.axes is not None
  line.axes.add_collection(drawn, autolim=over == "images")


def points(axis: Axes, x: ArrayLike, values: Sequence[Sequence[ArrayLike]], **line: typing.Any) -> None:
  """Draw the mean over networks at each `x`, in bars of its 95 % intervals.

  The long bar is `interval` over networks, the thick one over images. As in `curve`, the long one doesn't
  widen the axis.

  Args:
    axis: to draw on.
    x: [X].
    values: at each x, one array [images] for each network that is there.
    line: keywords of `Axes.plot`.
  """
  x = np.asarray(x)
  axis.update_datalim([(at, mean) for at, each in zip(x, values) for mean in _network_means(each)])
  (drawn,) = axis.plot(x, [interval(each).mean for each in values], **line)
  bars = [
    (look, ((at, low), (at, high)))
    for at, each in zip(x, values)
    for (_, low, high), look in _intervals(each)
  ]
  for look in _BAR_WIDTH:
    ends = [bar for name, bar in bars if name == look]
    drawn_bars = LineCollection(
      ends, color=drawn.get_color(), linewidth=_BAR_WIDTH[look], zorder=drawn.get_zorder()
    )
    drawn_bars.set_gid(line.get("label") or line.get("gid"))
    drawn_bars.set_label(_OVER[look])
    axis.add_collection(drawn_bars, autolim=look == "images")


def entries(
  axis: Axes,
  results: Mapping[str, Sequence],
  *,
  bars: bool = False,
  images: bool = True,
  unit: str = "networks",
) -> Entries:
  """Return the handles and labels of a legend: those of `axis`, and what its bands or bars are.

  Of more than sixteen models some are named, from the first to the last.

  Args:
    axis: with labelled lines.
    results: model's title -> its networks, whatever stands for them.
    bars: whether intervals are drawn as bars.
    images: whether one over images is named, where the figure has it: a study that was kept small may not.
    unit: what a model has several of.
  """
  drawn = list(zip(*axis.get_legend_handles_labels()))
  models = spread([label for _, label in drawn if label in results], _ENTRIES)
  shown = [(handle, label) for handle, label in drawn if label in models or label not in results]
  handles, labels = [handle for handle, _ in shown], [label for _, label in shown]
  more_handles, more_labels = interval_entries(axis, results, bars=bars, images=images, unit=unit)
  return handles + more_handles, labels + more_labels


def interval_entries(
  axis: Axes,
  results: Mapping[str, Sequence],
  *,
  bars: bool = False,
  images: bool = True,
  unit: str = "networks",
) -> Entries:
  """Return the handles and labels that say what bands or bars are; arguments as of `entries`."""
  drawn = (artist for each in axis.figure.axes for artist in each.collections)
  images = images and any(artist.get_label() == _OVER["images"] for artist in drawn)
  counts = sorted({len(networks) for networks in results.values()})
  several = [str(count) for count in counts if count > 1]
  says = {"networks": f"95 % over {'–'.join(several[:1] + several[1:][-1:])} {unit}"} if several else {}
  says |= {"images": "95 % over images"} if images else {}
  return [_bar_key(look) if bars else _band_key(look) for look in says], list(says.values())


def by_title(readings: Iterable[Reading]) -> dict[str, list[Reading]]:
  """Return a model's title -> the readings of its networks, in the order given."""
  models: dict[str, list[Reading]] = {}
  for reading in readings:
    models.setdefault(reading.title, []).append(reading)
  return models


def _band_key(look: str) -> Patch:
  return Patch(facecolor="0.2", linewidth=0, alpha=_BAND_ALPHA[look])


def _bar_key(look: str) -> Line2D:
  return Line2D(
    [], [], color="0.35", linestyle="none", marker="|", markersize=15, markeredgewidth=_BAR_WIDTH[look]
  )


def _network_means(values: Sequence[ArrayLike]) -> np.ndarray:
  return np.stack([np.mean(np.asarray(each, np.float64), axis=-1) for each in values], axis=-1)


def _intervals(values: Sequence[ArrayLike]) -> Iterator[tuple[Interval, str]]:
  """Yield the interval over networks, where there are several, and that over the images of all of them.

  The images are resampled together; where networks have different numbers of them there is no such interval.
  """
  arrays = [np.asarray(each, np.float64) for each in values]
  if len(arrays) > 1:
    yield interval(arrays), "networks"
  if len({each.shape for each in arrays}) == 1:
    mean = np.mean(arrays, axis=0)
    if np.any(np.ptp(mean, axis=-1)):  # there is none of images that their mean stands for
      yield intervals.bootstrap_mean(mean), "images"


def sigma_axis(axis: Axes) -> None:
  """Make x the noise level, on a logarithmic scale."""
  axis.set_xscale("log")
  plain_log(axis.xaxis)
  axis.set_xlabel("noise level σ")


def plain_log(axis: Axis) -> None:
  """Label a logarithmic axis that is drawn on in plain numbers: powers of ten, where few, more between."""
  low, high = axis.get_view_interval()
  between = (1, 2, 3, 5, 7) if high < 10 * low else (1, 2, 5) if high < 100 * low else (1,)
  axis.set_major_locator(mpl.ticker.LogLocator(subs=between))
  axis.set_major_formatter("{x:g}")
  axis.set_minor_locator(mpl.ticker.NullLocator())


def pictures(found: "xarray.Dataset", name: str) -> "xarray.DataArray":
  """Return images of a result, by the name of their array, as `sheet` shows them.

  Where data are floats that is how the study decoded some of them: the first along axes of many.
  """
  decoded = found.get(f"{name}{SHOWN}")
  if decoded is None:
    return found[name]
  cut = {axis: axis.removesuffix(SHOWN) for axis in map(str, decoded.dims) if axis.endswith(SHOWN)}
  return decoded.rename(cut) / np.float32(127.5) - 1


def unit(results: Results) -> str:
  """Return what distances of analyses are in: those of floats are on the scale that their study gave them."""
  floats = any(found.attrs.get(VALUES) for networks in results.values() for found in networks)
  return "values as the study scales them" if floats else "pixels in [−1, 1]"


def note(figure: Figure, results: Iterable["xarray.Dataset"]) -> None:
  """Say below a figure how its images came about, where they were decoded from floats."""
  arrays = [array for found in results for name, array in found.items() if str(name).endswith(SHOWN)]
  if arrays:
    figure.supxlabel(f"images: {arrays[0].attrs['how']}", size=SMALL, color="0.35", x=0.01, ha="left")


def sheet(
  axis: Axes,
  images: ArrayLike,
  rows: Sequence[str],
  columns: Sequence[str],
  *,
  block: int = 0,
  named: bool = True,
  apart: int | None = 0,
) -> None:
  """Show images in [-1, 1], [R, C, H, W, channels], as one sheet with row and column headings.

  Of channels other than one and three, the first three are shown, or the first. Pixels keep their scale (-1
  black, 1 white) and their edges; values beyond are clipped, and NaN is paper.

  Args:
    axis: to draw on.
    images: [R, C, H, W, channels].
    rows: headings [R].
    columns: headings [C].
    block: the first so many rows stand apart from those below.
    named: whether the headings of rows are shown.
    apart: the row from which the panel's table of numbers says how far each image lies; None: of none.
  """
  if apart is not None:
    far = numbers.apart(images, np.asarray(images)[apart])
    headings = [" ".join(name.split()) or str(i + 1) for i, name in enumerate(columns)]
    said = f"RMSE to {' '.join(rows[apart].split())}, pixels in [−1, 1]"
    numbers.tabulate(axis, "image", said, rows, headings, far)
  images = np.asarray(images, np.float32)
  images = images[..., : 3 if images.shape[-1] >= 3 else 1]
  images = np.nan_to_num(np.clip((images + 1) / 2, 0, 1), nan=1)
  num_rows, num_columns, height, width, channels = images.shape
  zoom = -(-96 // height)
  gap, wide = 7, 20 if 0 < block < num_rows else 0  # zoomed pixels between images, and more between blocks
  images = np.broadcast_to(images, (*images.shape[:4], 3)) if channels == 1 else images
  images = images.repeat(zoom, axis=2).repeat(zoom, axis=3)
  images = np.pad(images, ((0, 0), (0, 0), (0, gap), (0, gap), (0, 0)), constant_values=1.0)
  step_y, step_x = images.shape[2:4]
  page = images.transpose(0, 2, 1, 3, 4).reshape(num_rows * step_y, num_columns * step_x, 3)
  page = np.insert(page, [block * step_y] * wide, 1.0, axis=0)
  axis.imshow(page[:-gap, :-gap], interpolation="nearest")
  axis.set_anchor("N")  # headings then have the room that the layout gave them
  below = wide * (np.arange(num_rows) >= block)
  axis.set_xticks((np.arange(num_columns) + 0.5) * step_x - gap / 2 - 0.5, columns)
  axis.set_yticks(
    (np.arange(num_rows) + 0.5) * step_y + below - gap / 2 - 0.5, rows if named else [""] * num_rows
  )
  axis.tick_params(length=0)
  axis.grid(False)
  axis.spines[:].set_visible(False)


def level_colors(count: int) -> np.ndarray:
  """Return colours for noise levels, in order, apart from those of models."""
  return mpl.colormaps["plasma"](np.linspace(0.1, 0.8, count))


def count(number: float) -> str:
  """Return a large count as a tick shows it: 1437, 50k, 2.5M."""
  for unit, letter in ((1e6, "M"), (1e3, "k")):
    if number >= 10 * unit or (number >= unit and unit == 1e6):
      return f"{number / unit:.3g}{letter}"
  return f"{number:g}"
