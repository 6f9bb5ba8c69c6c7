"""What each model has learned of images beyond their mean and covariance, and at which noise levels."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import SymmetricalLogLocator

from gauss_diffusion.plots import style
from gauss_diffusion.readings import knowledge, measures
from gauss_diffusion.readings.knowledge import Errors
from gauss_diffusion.readings.measures import Reading

TITLE = "What has each model learned beyond two moments, and where?"
LOOK_FOR = (
  "Top: errors on held-out images. The Gaussian denoiser knows their mean and covariance; grey lines have "
  "learned nothing. Below, the Gaussian share is which part of the network's knowledge two moments explain. "
  "It tends to 1 at low noise whatever the network, and where that does worse than the Gaussian it is above "
  "1, or no number. The gain is which part of the Gaussian's squared error the network avoids: below 0, two "
  "moments alone do better. The nats sum it up from high noise down to each level. No network finds more "
  "than there are; yet of few images the covariance is singular, and then they grow without end towards low "
  "noise and say how few the images were."
)
NEEDS = measures.Needs({"score_gap": ()})
_MOST = 4  # panels of errors side by side
_MODELS = 8  # in each panel below
_LINES: dict[str, dict[str, Any]] = {
  "network": {"color": style.BLACK, "zorder": 3},
  "gaussian": {"color": style.BLUE},
  "multi-delta": {"color": style.VERMILLION},
  "mean": {"color": "0.6", "linestyle": "-", "linewidth": 1.4},
  "skip": {"color": "0.6", "linestyle": "--", "linewidth": 1.4},
  "identity": {"color": "0.6", "linestyle": ":", "linewidth": 1.4},
}
_WORSE = 1.5  # the largest share shown
_LOSS = -1.0  # the least gain shown: twice the Gaussian's error


@style.talk
def draw(readings: list[Reading], sweep: str) -> Figure:
  """Draw errors of every denoiser over sigma, a panel for each model; Gaussian share, gain and nats of all.

  Args:
    readings: of the study; those with results of `score_gap` are shown.
    sweep: not used.
  """
  del sweep
  models = {
    title: [reading.found["score_gap"].sortby("sigma", ascending=False) for reading in networks]
    for title, networks in style.by_title(one for one in readings if "score_gap" in one.found).items()
  }
  figure = style.figure(7.6)
  top, bottom = figure.subfigures(2, 1, height_ratios=(1, 1.1), squeeze=False)[:, 0]
  shown = style.spread(models, _MOST)
  axes = top.subplots(1, len(shown), sharex=True, sharey=True, squeeze=False)[0]
  for axis, title in zip(axes, shown):
    _draw_errors(axis, models[title])
    axis.set_title(title)
  axes[0].set_ylabel("RMSE on held-out images")
  top.legend(*style.entries(axes[0], models), loc="outside right upper")

  share, gain, nats = bottom.subplots(1, 3, sharex=True)
  nats.set_yscale("symlog", linthresh=1)  # before anything is drawn: its margins are in this scale
  colors = style.model_colors(models)
  for title in style.spread(models, _MODELS):
    line = {"color": colors[title], "label": title}
    _draw(share, models[title], _share, marker="o", markersize=4, **line)
    _draw(gain, models[title], _gain, **line)
    _draw(nats, models[title], _nats, **line)
  share.axhline(1, color="0.35", linewidth=1.2, zorder=1)
  share.set_ylim(0, _WORSE)
  share.set_title("Gaussian share")
  share.set_ylabel("of the knowledge")
  gain.axhline(0, color="0.35", linewidth=1.2, zorder=1)
  gain.set_ylim(max(gain.get_ylim()[0], _LOSS), min(gain.get_ylim()[1], 1))
  gain.set_title("Gain over the Gaussian")
  gain.set_ylabel("of its squared error")
  nats.axhline(0, color="0.35", linewidth=1.2, zorder=1)
  nats.yaxis.set_major_locator(SymmetricalLogLocator(base=10, linthresh=1))
  nats.yaxis.get_major_locator().set_params(numticks=7)
  nats.set_title("Nats beyond it, down to σ")
  bottom.legend(*style.entries(gain, models), loc="outside right upper")
  return figure


def _draw_errors(axis: Axes, networks: Sequence) -> None:
  for name, line in _LINES.items():
    if name in networks[0].denoiser:
      errors = [found.error.sel(denoiser=name, clean="held-out") for found in networks]
      style.curve(axis, networks[0].sigma, errors, label=style.named(name), **line)
  knows_nothing = max(float(found.error.sel(denoiser="mean", clean="held-out").mean()) for found in networks)
  axis.set_ylim(0, 1.3 * knows_nothing)
  style.sigma_axis(axis)


def _draw(axis: Axes, networks: Sequence, statistic: Callable[..., Errors], **line) -> None:
  """Draw a statistic of each network at those levels where it is a number for all of them."""
  values = [statistic(found) for found in networks]
  known = np.all([np.isfinite(each).all(1) for each in values], axis=0)
  if known.any():
    sigma = networks[0].sigma.to_numpy()[known]
    style.curve(axis, sigma, [each[known] for each in values], **line)
  style.sigma_axis(axis)


def _share(found) -> Errors:
  return knowledge.gaussian_share(*_errors(found, "mean", "gaussian", "network"))


def _gain(found) -> Errors:
  return knowledge.gain_over_gaussian(*_errors(found, "gaussian", "network"))


def _nats(found) -> Errors:
  """Return the nats down to each level but the highest, which has none: NaN there."""
  sigma, (gaussian, network) = found.sigma.to_numpy(), _errors(found, "gaussian", "network")
  down_to = [knowledge.nats(sigma[:end], gaussian[:end], network[:end]) for end in range(2, len(sigma) + 1)]
  return np.stack([np.full(gaussian.shape[1], np.nan), *down_to])


def _errors(found, *denoisers: str) -> list[Errors]:
  return [knowledge.squared_error(found, denoiser) for denoiser in denoisers]
