"""Distance between the network and each simple denoiser against noise level, one panel per model."""

import numpy as np
from matplotlib.figure import Figure

from gauss_diffusion.plots import style

TITLE = "Which simple denoiser does the network resemble?"
LOOK_FOR = (
  "Lower is closer; inputs are noisy held-out images. A memorizing network stays near the multi-delta "
  "denoiser (the exact memorizer); as the training set grows it should leave that one and approach the "
  "Gaussian at middle noise levels. At low noise the distance to the Gaussian is set by the span of the "
  "training images alone: the dashed line is computed without any network. A curve that leaves the panel "
  "is farther than from mid-grey to white."
)

_FAR = 1.0  # from mid-grey to white: beyond this a denoiser knows nothing, and hides what others know


@style.talk
def draw(results: style.Results) -> Figure:
  """Draw the RMSE on held-out inputs between the first pair's first denoiser and each it is paired with.

  Args:
    results: model's title -> what the analysis `score_gap` found of each of its networks.
  """
  figure, axes = style.panels(len(results))
  for axis, (label, networks) in zip(axes.flat, results.items()):
    one = networks[0].one.to_numpy()[0]
    gaps = [found.rmse.sel(law="held-out", one=one) for found in networks]
    others = gaps[0].two.to_numpy()
    for other, color in style.denoiser_colors(others).items():
      line = {"color": color, "linestyle": style.DASHES.get(other, "-"), "label": style.named(other)}
      style.curve(axis, networks[0].sigma, [gap.sel(two=other) for gap in gaps], **line)
    if "gaussian" in others:
      floor = {"color": style.BLUE, "linestyle": "--", "linewidth": 1.3, "zorder": 1.5}
      height = np.mean([found.floor.mean().item() for found in networks])
      axis.axhline(height, **floor, label=f"low-noise floor of {style.named('gaussian')}")
    axis.set_title(label)
  style.sigma_panels(axes, len(results))
  figure.supylabel(f"RMSE to {style.named(one)}  ({style.unit(results)})", fontsize=13)
  axes[0, 0].set_ylim(0, min(axes[0, 0].get_ylim()[1], _FAR))
  handles, labels = style.entries(axes[0, 0], results)
  rows = -(-len(labels) // 5)
  figure.legend(handles, labels, loc="outside lower center", ncols=-(-len(labels) // rows))
  return figure
