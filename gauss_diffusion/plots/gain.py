"""What the denoiser's Jacobian does: its gain along each principal component, and how linear it is."""

import typing
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gauss_diffusion.plots import style

if typing.TYPE_CHECKING:
  from gauss_diffusion.results import xarray

TITLE = "Does the network shrink each principal component like the Gaussian denoiser?"
LOOK_FOR = (
  "The Gaussian denoiser passes a principal component of variance λ with gain λ/(λ+σ²), the black curve; "
  "points on it mean that the network's Jacobian does the same. Below, 0 is what the Gaussian denoiser "
  "gives: an exact denoiser of any data has a symmetric Jacobian, and a linear one has the same Jacobian "
  "everywhere."
)
_MOST = 4  # gain panels side by side
_LEVELS = 5  # noise levels a panel
_RESIDUALS = {
  "asymmetry": "Asymmetry of the Jacobian",
  "constancy": "Its change between two points",
  "displacement": "Residual of a finite step",
}


@style.talk
def draw(results: style.Results) -> Figure:
  """Draw measured against predicted gain per model, and the residuals of a linear, symmetric map.

  Args:
    results: model's title -> what the analysis `gain` found of each of its networks.
  """
  figure = style.figure(7.2)
  top, bottom = figure.subfigures(2, 1, height_ratios=(1.15, 1), squeeze=False)[:, 0]
  shown = style.spread(results, _MOST)
  axes = top.subplots(1, len(shown), sharex=True, sharey=True, squeeze=False)[0]
  levels = telling_levels(results[shown[-1]][0])
  for axis, label in zip(axes, shown):
    _draw_gain(axis, results[label], levels)
    axis.set_title(label)
    axis.set_xlabel("λ / σ²")
  axes[0].set_ylabel("gain along the component")
  top.legend(*style.entries(axes[0], results, bars=True), loc="outside right upper")

  colors = style.model_colors(results)
  axes = bottom.subplots(1, len(_RESIDUALS))
  for axis, (name, title) in zip(axes, _RESIDUALS.items()):
    for label, networks in results.items():
      values = [found[name] for found in networks]
      style.curve(axis, networks[0].sigma, values, color=colors[label], label=label)
    axis.set_title(title)
    axis.set_ylim(bottom=0)
    style.sigma_axis(axis)
  axes[0].set_ylabel("relative size")
  bottom.legend(*style.entries(axes[0], results), loc="outside right upper")
  return figure


def telling_levels(found: "xarray.Dataset") -> list[int]:
  """Return the noise levels at which gains are neither all near 0 nor all near 1, thinned out.

  Args:
    found: a result with `eigenvalues` λ, falling, whose gains are λ/(λ+σ²).

  Returns:
    Places of at most five of its levels `sigma`; none of images that are all alike, which have no component.
  """
  lam, sigma = found.eigenvalues.to_numpy(), found.sigma.to_numpy()
  if not len(lam):
    return []
  telling = [i for i in range(len(sigma)) if lam[-1] / 10 < sigma[i] ** 2 < 10 * lam[0]]
  return style.spread(telling or range(len(sigma)), _LEVELS)


def _draw_gain(axis: Axes, networks: Sequence, levels: list[int]) -> None:
  """Draw gain against λ/σ², each network's components in order, at their mean eigenvalue."""
  ratio = np.geomspace(2e-3, 5e2, 200)
  axis.plot(ratio, ratio / (1 + ratio), color=style.BLACK, linewidth=1.6, label="λ/(λ+σ²)", zorder=3)
  for index, color in zip(levels, style.level_colors(len(levels))):
    sigma = networks[0].sigma.to_numpy()[index]
    place = np.mean([found.eigenvalues for found in networks], axis=0) / sigma**2
    gains = [found.gain.isel(sigma=index).to_numpy() for found in networks]
    line = {"linestyle": "none", "marker": "o", "markersize": 4.5, "color": color}
    style.points(axis, place, list(zip(*gains)), label=f"σ = {sigma:.2g}", **line)
  axis.set_xscale("log")
  axis.set_xlim(ratio[0], ratio[-1])
  style.plain_log(axis.xaxis)
  axis.set_xticks([0.01, 1, 100])
