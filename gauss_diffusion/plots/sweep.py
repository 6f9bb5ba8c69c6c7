"""What changes along a study: one panel per measure, against size, width or time."""

from collections.abc import Callable

import numpy as np
from matplotlib.figure import Figure

from gauss_diffusion.plots import style
from gauss_diffusion.readings import measures
from gauss_diffusion.readings.measures import MIDDLE, Reading, Values, spelled

TITLE = "Along the study"
LOOK_FOR = (
  "Top left: samples leave the training set where the GL score rises and the memorized share falls to 0. "
  "Top right: the linearity score at middle noise, whose rise the paper ties to generalization. Bottom left: "
  "distance to the Gaussian denoiser against distance to the memorizing one; where the curves cross, the "
  "network changes sides. Bottom right: denoising error on training and on held-out images; where the two "
  "part the network has begun to memorize, and the lowest held-out error, ringed, is the model that has "
  "learned most."
)
NEEDS = measures.Needs(
  {
    "samples.denoisers": ("network",),
    "linearity": (),
    "score_gap.pairs": (("network", "gaussian"), ("network", "multi-delta")),
  },
  along=2,
)


def _error_on_training_images(reading: Reading) -> np.ndarray:
  return measures.error(reading, "train")


# Analysis, title, name of the y axis, label of a curve -> its measure and colour.
_PANELS: tuple[tuple[str, str, str, dict[str, tuple[Callable[[Reading], Values], str]]], ...] = (
  (
    "samples",
    "Do samples copy training images?",
    "GL score, memorized share",
    {"GL score": (measures.gl, style.BLUE), "memorized share": (measures.memorized, style.VERMILLION)},
  ),
  (
    "linearity",
    "How linear?",
    f"linearity score, {spelled(MIDDLE)}",
    {"": (measures.linearity, style.BLACK)},
  ),
  (
    "score_gap",
    "Gaussian or memorizer?",
    f"RMSE, {spelled(MIDDLE)}",
    {
      "to Gaussian": (measures.to_gaussian, style.BLUE),
      "to multi-delta": (measures.to_memorizer, style.VERMILLION),
    },
  ),
  (
    "score_gap",
    "How well does it denoise?",
    f"denoising RMSE, {spelled(MIDDLE)}",
    {
      "training images": (_error_on_training_images, style.GREEN),
      "held-out images": (measures.error, style.ORANGE),
    },
  ),
)


@style.talk
def draw(readings: list[Reading], sweep: str) -> Figure:
  """Draw GL score, linearity, score differences and denoising error against the sweep's position.

  Args:
    readings: of the study, with results of `samples`, `linearity` and `score_gap`; one that lacks a result is
      left out of the panels that show it.
    sweep: one of `measures.SWEEPS`.
  """
  readings = sorted(readings, key=lambda reading: measures.position(reading, sweep))
  ticks = sorted({measures.position(reading, sweep) for reading in readings})
  figure = style.figure(7.2)
  axes = figure.subplots(2, 2, sharex=True)
  for axis, (analysis, title, name, lines) in zip(axes.flat, _PANELS):
    shown = style.by_title(reading for reading in readings if analysis in reading.found)
    x = [measures.position(networks[0], sweep) for networks in shown.values()]
    for label, (measure, color) in lines.items() if shown else ():
      values = [[measure(reading) for reading in networks] for networks in shown.values()]
      style.points(axis, x, values, color=color, label=label, marker="o")
    axis.set(title=title, ylabel=name, xscale="log")
    axis.set_xticks(ticks, [style.count(value) for value in ticks])
    axis.minorticks_off()
    if len(axis.lines) > 1:
      axis.legend()
  denoised = style.by_title(reading for reading in readings if "score_gap" in reading.found)
  if denoised:
    errors = {
      title: style.interval([*map(measures.error, networks)]).mean for title, networks in denoised.items()
    }
    best = min(errors, key=errors.__getitem__)
    ring = {
      "marker": "o",
      "markersize": 16,
      "fillstyle": "none",
      "color": style.BLACK,
      "markeredgewidth": 1.5,
    }
    axes[1, 1].plot(measures.position(denoised[best][0], sweep), errors[best], **ring)
  for axis in axes[1]:
    axis.set_xlabel(measures.SWEEPS[sweep])
  keys = style.interval_entries(axes[0, 0], style.by_title(readings), bars=True)
  figure.legend(*keys, loc="outside upper right", ncols=2)
  return figure
