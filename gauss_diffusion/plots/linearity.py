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
    results: model's title -> what the analysis `linearity` found.
  """
  figure = style.figure(7.2)
  axes = figure.subplots(2, 2, sharex=True, sharey="row")
  colors = style.model_colors(results)
  for label, found in results.items():
    half = found.isel(alpha2=np.abs(found.alpha2 - 0.5).argmin("alpha2"))
    noisy, pure = half.sel(inputs="noisy image"), half.sel(inputs="pure noise")
    panels = np.abs(noisy.cosine), np.abs(pure.cosine), noisy.nmse, noisy.centred_nmse
    for axis, values in zip(axes.flat, panels):
      style.curve(axis, found.sigma, values, color=colors[label], label=label)
  titles = (
    "Linearity score, noisy image",
    "Linearity score, pure noise",
    "Linearity error, noisy image",
    "Linearity error after centring, noisy image",
  )
  score = f"LS = mean |cosine|  (α² = {half.alpha2:.2g})"
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
  figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside right upper")
  return figure
