"""Denoising loss while training, one curve per network."""

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from gauss_diffusion.plots import style

TITLE = "Training"
LOOK_FOR = (
  "Faint: the loss as logged; bold: its mean over neighbouring steps, a line for each network. An untrained "
  "network scores about 1. Large training sets level off at what noise has destroyed for good; small ones "
  "keep falling while the network memorizes."
)
_WINDOWS = 40  # of bold points a curve, spaced evenly in log images


@style.talk
def draw(results: style.Results) -> Figure:
  """Draw training loss against images seen, both logarithmic.

  Args:
    results: model's title -> of each of its networks, `images` and `loss` along the axis `line`, of the
      lines of its metrics.
  """
  figure = style.figure(6.0)
  axis = figure.subplots()
  colors = style.model_colors(results)
  for label, networks in results.items():
    for i, found in enumerate(networks):
      images, loss = found.images.to_numpy(), found.loss.to_numpy()
      line = {"color": colors[label], "linewidth": 2.2 if len(networks) == 1 else 1.2}
      axis.plot(images, loss, color=colors[label], alpha=0.25 / len(networks), linewidth=1)
      axis.plot(*_smooth(images, loss), label=label if i == 0 else None, **line)
  axis.set(xscale="log", yscale="log", xlabel="images seen", ylabel="training loss  (EDM weighting)")
  style.plain_log(axis.xaxis)
  axis.xaxis.set_major_formatter(mpl.ticker.EngFormatter(sep=""))
  style.plain_log(axis.yaxis)
  figure.legend(*axis.get_legend_handles_labels(), loc="outside right upper")
  return figure


def _smooth(images: np.ndarray, loss: np.ndarray) -> tuple[list, list]:
  """Return means over windows that are equally long in log images."""
  window = np.digitize(images, np.geomspace(images[0], images[-1], _WINDOWS + 1)[1:-1])
  groups = [window == w for w in np.unique(window)]
  return [np.exp(np.log(images[g]).mean()) for g in groups], [loss[g].mean() for g in groups]
