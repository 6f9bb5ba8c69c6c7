"""What the denoiser does along each principal component: its slope, and its distance to the Gaussian."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gauss_diffusion.plots import gain, style
from gauss_diffusion.readings.ratios import slope

TITLE = "Along which principal components does the network leave the Gaussian denoiser?"
LOOK_FOR = (
  "Top, along a principal component of variance λ, the slope of the output's coordinate on the input's: for "
  "the Gaussian denoiser λ/(λ+σ²), the black curve. Bottom, the squared distance to the Gaussian denoiser "
  "there, as a part of that one's own error λσ²/(λ+σ²). Points on the curve above and far from 0 below are a "
  "network that is Gaussian only on average. Of an exact denoiser this part is by how much the Gaussian's "
  "error could be lower, at most 1."
)
_MOST = 4  # models side by side
_FAR = 2.0  # of the parts shown: a denoiser farther off has learned less than the Gaussian knows


@style.talk
def draw(results: style.Results) -> Figure:
  """Draw regression slopes and squared distances to the Gaussian denoiser, component by component.

  Args:
    results: model's title -> what the analysis `directions` found of each of its networks.
  """
  figure = style.figure(7.2)
  shown = style.spread(results, _MOST)
  axes = figure.subplots(2, len(shown), sharex=True, sharey="row", squeeze=False)
  levels = gain.telling_levels(results[shown[-1]][0])
  ratio = np.geomspace(2e-3, 5e2, 200)
  for (slopes, distances), label in zip(axes.T, shown):
    slopes.plot(ratio, ratio / (1 + ratio), color=style.BLACK, linewidth=1.6, label="λ/(λ+σ²)", zorder=3)
    networks = results[label]
    for index, color in zip(levels, style.level_colors(len(levels))):
      at = [found.isel(sigma=index) for found in networks]
      _draw(slopes, at, [slope(found.input, found.output) for found in at], color)
      _draw(distances, at, [_distance(found) for found in at], color)
    slopes.set_title(label)
    distances.set_xlabel("λ / σ²")
  axes[0, 0].set_xscale("log")
  axes[0, 0].set_xlim(ratio[0], ratio[-1])
  style.plain_log(axes[0, 0].xaxis)
  axes[0, 0].set_xticks([0.01, 1, 100])
  axes[0, 0].set_ylabel("slope of the output")
  axes[1, 0].set_ylabel("(D − D_G)², part of D_G's error")
  axes[1, 0].set_ylim(0, min(axes[1, 0].get_ylim()[1], _FAR))
  figure.legend(*style.entries(axes[0, 0], results), loc="outside right upper")
  return figure


def _distance(found) -> np.ndarray:
  """Return the squared distance to the Gaussian denoiser over its expected error, [directions, images]."""
  gap = found.output - found.gain * found.input
  return (gap**2 / (found.gain * found.sigma**2)).transpose("direction", "image").to_numpy()


def _draw(axis: Axes, networks: Sequence, values: Sequence[np.ndarray], color) -> None:
  """Draw values [directions, images] of each network at their components' mean eigenvalue."""
  sigma = networks[0].sigma.item()
  place = np.mean([found.eigenvalues for found in networks], axis=0) / sigma**2
  line = {"linestyle": "none", "marker": "o", "markersize": 4.5, "color": color}
  style.curve(axis, place, values, label=f"σ = {sigma:.2g}", **line)
