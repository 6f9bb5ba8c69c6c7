"""Denoising loss while training, one curve per network, and what the alarm saw of it, where it looked."""

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gauss_diffusion.plots import style

TITLE = "Training"
LOOK_FOR = (
  "Faint: the loss as logged; bold: its mean over neighbouring steps, a line for each network. An untrained "
  "network scores about 1. Large training sets level off at what noise has destroyed for good; small ones "
  "keep falling while the network memorizes. Where a study looks for that (`train.alarm_every`): the "
  "error on held-out images over that on training images, and the share of copies among a few samples. The "
  "circle is the first look at which the network is said to memorize: the errors differ by more than chance "
  "explains, and by a factor above 2, the dotted line. Copies follow."
)
_WINDOWS = 40  # of bold points a curve, spaced evenly in log images


@style.talk
def draw(results: style.Results) -> Figure:
  """Draw training loss against images seen, both logarithmic.

  Args:
    results: model's title -> of each of its networks, `images` and `loss` along the axis `line`, of the
      lines of its metrics.
  """
  watched = any("alarm_gap" in found for networks in results.values() for found in networks)
  figure = style.figure(6.0)
  axis, *others = figure.subplots(1, 1 + 2 * watched, squeeze=False)[0]
  colors = style.model_colors(results)
  for label, networks in results.items():
    for i, found in enumerate(networks):
      images, loss = found.images.to_numpy(), found.loss.to_numpy()
      line = {"color": colors[label], "gid": label, "linewidth": 2.2 if len(networks) == 1 else 1.2}
      axis.plot(images, loss, color=colors[label], gid=label, alpha=0.25 / len(networks), linewidth=1)
      axis.plot(*_smooth(images, loss), label=label if i == 0 else None, **line)
  axis.set(xscale="log", yscale="log", ylabel="training loss  (EDM weighting)")
  style.plain_log(axis.yaxis)
  if watched:
    _draw_alarm(others[0], others[1], results, colors)
  for each in (axis, *others):
    each.set(xscale="log", xlabel="images seen")
    style.plain_log(each.xaxis)
    each.xaxis.set_major_formatter(mpl.ticker.EngFormatter(sep=""))
  figure.legend(*axis.get_legend_handles_labels(), loc="outside right upper")
  return figure


def _draw_alarm(errors: Axes, copies: Axes, results: style.Results, colors: dict) -> None:
  """Draw the ratio of errors and the share of copies at every look, and the first that raised the alarm."""
  for label, networks in results.items():
    for found in networks:
      if "alarm_gap" not in found:
        continue
      at = found.isel(line=np.flatnonzero(found.alarm_gap.notnull()))
      images = at.images.to_numpy()
      line = {"color": colors[label], "gid": label, "linewidth": 2.2 if len(networks) == 1 else 1.2}
      errors.plot(images, np.exp(at.alarm_gap), **line)
      copies.plot(images, at.alarm_copies, **line)
      for first in np.flatnonzero(at.alarm_memorizing)[:1]:
        mark = {"markersize": 9, "markerfacecolor": "white", "markeredgewidth": 2, "color": colors[label]}
        mark["gid"] = label
        errors.plot(images[first], np.exp(at.alarm_gap[first]), "o", **mark)
        copies.plot(images[first], at.alarm_copies[first], "o", **mark)
  errors.axhline(2, color="0.35", linestyle=":", linewidth=1.4, zorder=1)
  errors.set(yscale="log", title="Error on held-out images", ylabel="over that on training images")
  style.plain_log(errors.yaxis)
  copies.set(title="Copies among samples", ylabel="share")


def _smooth(images: np.ndarray, loss: np.ndarray) -> tuple[list, list]:
  """Return means over windows that are equally long in log images."""
  window = np.digitize(images, np.geomspace(images[0], images[-1], _WINDOWS + 1)[1:-1])
  groups = [window == w for w in np.unique(window)]
  return [np.exp(np.log(images[g]).mean()) for g in groups], [loss[g].mean() for g in groups]
