"""How far the network is from its Gaussian denoiser, beside what other images would change in that one."""

import numpy as np
from matplotlib.figure import Figure

from gauss_diffusion.plots import style

TITLE = "Is the network farther from its Gaussian denoiser than other images would be?"
LOOK_FOR = (
  "Blue: how far the Gaussian denoisers of two disjoint sets of as many images lie apart, predicted from the "
  "mean and covariance of all images; it falls as 1/√N. Orange: how far the network is from the Gaussian "
  "denoiser of its own images. Where orange lies above blue, the network differs from it by more than the "
  "choice of the images can explain; where it lies below, no comparison of halves could tell them apart."
)


@style.talk
def draw(results: style.Results) -> Figure:
  """Draw the predicted RMSE between halves and the network's to its Gaussian denoiser, one panel per model.

  Args:
    results: model's title -> what the analysis `halves` found of each of its networks.
  """
  figure, axes = style.panels(len(results))
  for axis, (label, networks) in zip(axes.flat, results.items()):
    sigma = networks[0].sigma
    predicted = [np.sqrt(found.predicted) for found in networks]
    style.curve(axis, sigma, predicted, color=style.BLUE, label="two Gaussian denoisers, predicted")
    own = [_from_gaussian(found) for found in networks]
    style.curve(axis, sigma, own, color=style.ORANGE, label="network to its Gaussian denoiser")
    axis.set_title(label)
  style.sigma_panels(axes, len(results))
  figure.supylabel(f"RMSE  ({style.unit(results)})", fontsize=13)
  axes[0, 0].set_ylim(bottom=0)
  figure.legend(*style.entries(axes[0, 0], results), loc="outside lower center", ncols=4)
  return figure


def _from_gaussian(found) -> np.ndarray:
  apart = found.deviations.sel(denoiser="network") - found.deviations.sel(denoiser="gaussian")
  return np.sqrt((apart**2).mean(("y", "x", "channel")).to_numpy())
