"""How far apart are networks of disjoint halves, and how far should they be?"""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from gauss_diffusion.plots import style
from gauss_diffusion.readings import halves, measures
from gauss_diffusion.readings.halves import Distances
from gauss_diffusion.readings.measures import Reading

TITLE = "Disjoint halves: the distance that random-matrix theory predicts"
LOOK_FOR = (
  "Lines: the squared distance between the Gaussian denoisers of two disjoint halves, predicted from the "
  "mean and covariance of all images, with nothing fitted (Wang, Zavatone-Veth & Pehlevan 2026). Filled "
  "points: the two Gaussian denoisers that were fitted. Over many pairs their mean should lie on the line, "
  "inside the 10 % band below, where images are Gaussian enough; at low noise they are not. The line is a "
  "mean: one pair alone scatters about it, at high noise by some 40 %. "
  "Open points: the two networks. On the line they differ no more than Gaussian denoisers of these halves "
  "must; above it each has learned its own images; below it they have found something that the two halves "
  "share and their covariances do not. Right, the same of what they draw from the same noise, relative to "
  "what two unrelated samples are apart: predicted from Gaussians as they would be fitted to so many images."
)
NEEDS = measures.Needs({"halves": (), "samples.denoisers": ("network", "gaussian")}, paired=True)
BAND = 0.1  # of the ratio, the accuracy asked of the prediction
_LEVELS = 4  # noise levels drawn against the size
_POINTS: dict[str, dict[str, Any]] = {
  "predicted": {"linestyle": "-"},
  "gaussian": {"linestyle": "none", "marker": "o", "markersize": 6},
  "network": {"linestyle": "none", "marker": "D", "markersize": 7, "fillstyle": "none"},
}
_NAMES = {
  "predicted": "Gaussian denoisers, predicted",
  "gaussian": "Gaussian denoisers",
  "network": "networks",
}


@style.talk
def draw(readings: list[Reading], sweep: str) -> Figure:
  """Draw distances between halves against noise level and size, and what they are of the predicted ones.

  Args:
    readings: of the study, with results of `halves`; see `halves.by_size`.
    sweep: not used.
  """
  del sweep
  found = halves.by_size(readings)
  figure = style.figure(8.4)
  axes = figure.subplots(2, 3)
  colors = style.model_colors(f"N = {size}" for size in found)
  _against_level(axes[0, 0], found, colors)
  _against_size(axes[0, 1], found)
  for axis, name in zip(axes[1], ("gaussian", "network")):
    _ratio(axis, found, colors, name)
  axes[0, 0].set_title("Denoisers, over the noise level")
  axes[0, 1].set_title("Denoisers, over the size")
  axes[1, 0].set_title("Gaussians, of the predicted")
  axes[1, 1].set_title("Networks, of the predicted")
  _samples(axes[0, 2], found)
  _samples(axes[1, 2], found, of_predicted=True)
  axes[0, 2].set_title("Samples, over the size")
  axes[1, 2].set_title("Samples, of the predicted")
  keys = [Line2D([], [], color="0.3", label=_NAMES[name], **look) for name, look in _POINTS.items()]
  figure.legend(handles=keys, loc="outside lower center", ncols=len(keys))
  return figure


def _against_level(axis: Axes, found: dict[int, Distances], colors: dict) -> None:
  for size, distances in found.items():
    color = colors[f"N = {size}"]
    for name, look in _POINTS.items():
      label = f"{size:,}" if name == "predicted" else ""
      axis.plot(distances.sigma, getattr(distances, name), color=color, label=label, gid=f"{size:,}", **look)
  _squared(axis)
  style.sigma_axis(axis)
  if found:
    axis.legend(title="images in a half")


def _against_size(axis: Axes, found: dict[int, Distances]) -> None:
  sizes = list(found)
  sigma = found[sizes[0]].sigma if found else np.empty(0)
  levels = style.spread(np.flatnonzero(measures.within(sigma, measures.MIDDLE)), _LEVELS) if found else []
  for level, color in zip(levels, style.level_colors(len(levels))):
    for name, look in _POINTS.items():
      of_level = f"{sigma[level]:.2g}"
      label = of_level if name == "predicted" else ""
      values = [getattr(distances, name)[level] for distances in found.values()]
      axis.plot(sizes, values, color=color, label=label, gid=of_level, **look)
  _squared(axis)
  _size_axis(axis, sizes)
  if found:
    axis.legend(title="σ")


def _samples(axis: Axes, found: dict[int, Distances], *, of_predicted: bool = False) -> None:
  predicted = np.array([distances.samples_predicted for distances in found.values()])
  if of_predicted:
    axis.axhspan(1 - BAND, 1 + BAND, color="0.9", linewidth=0)
  for name, look in _POINTS.items():
    values = np.array([getattr(distances, f"samples_{name}") for distances in found.values()])
    axis.plot(list(found), values / predicted if of_predicted else values, color="0.2", **look)
  _size_axis(axis, list(found))
  axis.set_ylim(bottom=0)
  axis.set_ylabel("measured / predicted" if of_predicted else "distance  (1 = unrelated)")


def _size_axis(axis: Axes, sizes: list[int]) -> None:
  axis.set_xscale("log")
  axis.set_xticks(sizes, [style.count(size) for size in sizes])
  axis.minorticks_off()
  axis.set_xlabel("images in a half")


def _ratio(axis: Axes, found: dict[int, Distances], colors: dict, name: str) -> None:
  axis.axhspan(1 - BAND, 1 + BAND, color="0.9", linewidth=0)
  axis.axhline(1, color="0.35", linewidth=1.2)
  for size, distances in found.items():
    ratio = getattr(distances, name) / distances.predicted
    look = _POINTS[name] | {"linestyle": ":", "color": colors[f"N = {size}"], "gid": f"{size:,}"}
    axis.plot(distances.sigma, ratio, **look)
  axis.set_yscale("log")
  style.plain_log(axis.yaxis)
  style.sigma_axis(axis)
  axis.set_ylabel("measured / predicted")


def _squared(axis: Axes) -> None:
  axis.set_yscale("log")
  style.plain_log(axis.yaxis)
  axis.set_ylabel("squared distance per pixel")
