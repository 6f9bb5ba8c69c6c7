"""Whether a denoiser's Jacobian knows its error: variance and Stein's estimate over the error measured."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gauss_diffusion.plots import numbers, style
from gauss_diffusion.readings.ratios import ratio

TITLE = "Does the denoiser know how far it may be wrong?"
LOOK_FOR = (
  "Left, the error that an exact posterior mean with this Jacobian would expect, over the error measured on "
  "held-out images: 1 means calibrated, below 1 overconfident; a memorizer, sure of its training image, is "
  "far below. Middle, Stein's estimate needs no clean image and is right on average for any denoiser; at "
  "high noise it drowns in its own spread. Right, σ² times the Jacobian of an exact denoiser is a "
  "covariance, and so symmetric. Below, one noisy image: where the estimate is wrong, and where the Jacobian "
  "expects it to be, the standard deviation of each pixel, both on one scale for each level. Outlines are "
  "uncertain where strokes might lie elsewhere; a memorizer expects none until it hesitates between images."
)
_MOST = 2.0  # of ratios shown: twice the truth
_COLUMNS = {1: 14, 2: 7}  # sheets side by side -> noise levels shown on each
_ROWS = ("input", "estimate", "error", "expected")


@style.talk
def draw(results: style.Results) -> Figure:
  """Draw both estimates over the measured error, the Jacobian's asymmetry, and an image with its uncertainty.

  Ratios are of means over images.

  Args:
    results: model's title -> what the analysis `calibration` found of each of its networks.
  """
  shown = style.spread(results, 2)
  figure = style.figure(9.2 if len(shown) > 1 else 9.8)
  top, bottom = figure.subfigures(2, 1, height_ratios=(5.0, 4.2), squeeze=False)[:, 0]
  axes = top.subplots(1, 3)
  colors = style.model_colors(results)
  for label, networks in results.items():
    panels = (
      [ratio(found.variance, found.error) for found in networks],
      [ratio(found.sure, found.error) for found in networks],
      [found.asymmetry for found in networks],
    )
    for axis, values in zip(axes, panels):
      style.curve(axis, networks[0].sigma, values, color=colors[label], label=label)
  titles = "Posterior variance over error", "Stein's estimate over error", "Asymmetry of the Jacobian"
  names = "σ² tr J / ‖D − x₀‖²", "SURE / ‖D − x₀‖²", "‖J − Jᵀ‖ / ‖J‖"
  for axis, title, name in zip(axes, titles, names):
    style.sigma_axis(axis)
    axis.set_title(title)
    axis.set_ylabel(name)
    axis.set_ylim(bottom=0)
  for axis in axes[:2]:
    axis.axhline(1, color="0.35", linestyle="--", linewidth=1.4, zorder=1)
    axis.set_ylim(0, _MOST)
  handles, labels = style.entries(axes[0], results)
  top.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 5))
  for i, (axis, label) in enumerate(zip(bottom.subplots(1, len(shown), squeeze=False)[0], shown)):
    _draw_image(axis, results[label][0], _COLUMNS[len(shown)], named=i == 0)
    axis.set_title(label, pad=24)
  return figure


def _draw_image(axis: Axes, found, columns: int, *, named: bool) -> None:
  """Show the first image at some levels; black is no error, white the largest of both rows at that level."""
  levels = style.spread(range(found.sizes["sigma"]), columns)
  at = found.isel(shown=0, sigma=levels)
  size = np.stack([abs(at.estimates - at.clean).transpose(*at.estimates.dims), at.deviation])
  peak = size.max(axis=(0, 2, 3, 4), keepdims=True)
  pages = np.stack([at.inputs, at.estimates, *(2 * size / np.where(peak > 0, peak, 1) - 1)])
  headings = [f"{sigma:.2g}" for sigma in at.sigma.to_numpy()]
  style.sheet(axis, pages, _ROWS, headings, block=2, named=named, apart=None)
  numbers.tabulate(
    axis, "noise level σ", "RMS over pixels", headings, _ROWS[2:], np.sqrt((size**2).mean((2, 3, 4)).T)
  )
  axis.xaxis.tick_top()
