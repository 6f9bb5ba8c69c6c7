"""Linearity score and linearity error against noise level, one line per model."""

import numpy as np
from matplotlib.figure import Figure

from gauss_diffusion.plots import style

TITLE = "How linear is each denoiser?"
LOOK_FOR = (
  "A linear denoiser scores 1. The score dips at middle noise levels, and the dip should become shallower "
  "as the training set grows. At high noise the plain error (lower left) tends to √2 − 1 for every "
  "denoiser that adds the data's mean, even an exactly affine one; what remains once the mean is taken out "
  "(lower right) is nonlinearity."
)
_FLOOR = np.sqrt(2) - 1


@style.talk
def draw(results: style.Results) -> Figure:
  """Draw |cosine|, NMSE and mean-centred NMSE at the hardest mixture, alpha² nearest to 1/2.

  Args:
    results: model's title -> what the analysis `linearity` found of each of its networks.
  """
  figure = style.figure(7.2)
  axes = figure.subplots(2, 2, sharex=True, sharey="row")
  colors = style.model_colors(results)
  for label, networks in results.items():
    halves = [found.isel(alpha2=np.abs(found.alpha2 - 0.5).argmin("alpha2")) for found in networks]
    for axis, values in zip(axes.flat, zip(*map(_panels, halves))):
      style.curve(axis, halves[0].sigma, values, color=colors[label], label=label)
  titles = (
    "Linearity score, noisy image",
    "Linearity score, pure noise",
    "Linearity error, noisy image",
    "Linearity error after centring, noisy image",
  )
  score = f"LS = mean |cosine|  (α² = {halves[0].alpha2:.2g})"
  names = (score, score, "NMSE", "mean-centred NMSE")
  for axis, title, name in zip(axes.flat, titles, names):
    style.sigma_axis(axis)
    axis.set_title(title)
    axis.set_ylabel(name)
    axis.label_outer()
  axes[0, 0].set_ylim(top=1.0 + 0.03 * (1.0 - axes[0, 0].get_ylim()[0]))
  axes[1, 0].set_ylim(bottom=0.0, top=max(1.15 * _FLOOR, axes[1, 0].get_ylim()[1]))
  axes[1, 0].axhline(_FLOOR, color="0.35", linestyle="--", linewidth=1.4)
  axes[1, 0].annotate(
    "√2 − 1, the affine limit",
    (0.02, _FLOOR),
    xycoords=("axes fraction", "data"),
    xytext=(0, 5),
    textcoords="offset points",
    fontsize=style.SMALL,
    color="0.35",
  )
  figure.legend(*style.entries(axes[0, 0], results), loc="outside right upper")
  return figure


def _panels(found) -> tuple:
  noisy, pure = found.sel(inputs="noisy image"), found.sel(inputs="pure noise")
  return np.abs(noisy.cosine), np.abs(pure.cosine), noisy.nmse, noisy.centred_nmse
