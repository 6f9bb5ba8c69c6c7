"""How close the best affine approximation of each network lies to the Gaussian denoiser."""

import typing
from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import ArrayLike

from gauss_diffusion.plots import style

if typing.TYPE_CHECKING:
  from gauss_diffusion.results import xarray

TITLE = "Is the network's best affine approximation the Gaussian denoiser?"
LOOK_FOR = (
  "Fitted on noisy training images (left), every exact denoiser has the Gaussian map as its best affine "
  "approximation, the exact memorizer included: a small gap there shows good training, not Gaussian "
  "structure. Only on held-out images (right) does the gap tell networks that generalize (small) from "
  "those that memorize (large). The gap is free of the noise of the fits, and can come out below 0 where it "
  "is small; dotted is the gap that noise alone would make. Below, how much of the leading k singular "
  "vectors of the map lies in the leading k principal components. Where two fits of one map (dashed) agree "
  "little with each other, noise decides which vectors lead."
)
_HEADINGS = {"train": "Fitted on training images", "held-out": "Fitted on held-out images"}
_MOST = 4  # subspaces side by side
_LINEAR = 0.1  # gaps up to this are on a linear scale, which has room for those below 0


@style.talk
def draw(results: style.Results) -> Figure:
  """Draw the weight gap against sigma for both input laws, and the subspaces' agreement (held-out).

  Args:
    results: model's title -> what the analysis `distillation` found of each of its networks.
  """
  figure = style.figure(7.2)
  top, bottom = figure.subfigures(2, 1, height_ratios=(1.25, 1), squeeze=False)[:, 0]
  colors = style.model_colors(results)
  axes = top.subplots(1, 2, sharey=True)
  axes[0].set_yscale("symlog", linthresh=_LINEAR)  # before anything is drawn: its margins are in this scale
  axes[0].yaxis.set_major_formatter("{x:g}")
  for axis, (law, heading) in zip(axes, _HEADINGS.items()):
    for label, networks in results.items():
      sigma, of_law = networks[0].sigma, [found.sel(law=law) for found in networks]
      gaps, noise = (_of_each(of_law, name) for name in ("weight_gap2", "weight_noise2"))
      (line,) = axis.plot(
        sigma, signed_root(gaps.mean(0)), "o-", markersize=5, color=colors[label], label=label
      )
      network_band(line, gaps, signed_root)
      axis.plot(sigma, signed_root(noise.mean(0)), ":", linewidth=1.4, color=colors[label], gid=label)
    axis.plot([], [], ":", linewidth=1.4, color="0.35", label="noise alone")
    axis.plot(sigma, np.ones(len(sigma)), "--", linewidth=1.4, color="0.35", label="W$_L$ = 0")
    axis.set_title(heading)
    style.sigma_axis(axis)
  axes[0].set_ylabel("weight gap  ‖W$_L$ − W$_G$‖ / ‖W$_G$‖")
  top.legend(*style.entries(axes[0], results, images=False), loc="outside right upper")

  dimensions = style.spread(next(iter(results.values()))[0].k.to_numpy(), _MOST)
  panels = bottom.subplots(1, len(dimensions), sharey=True, squeeze=False)[0]
  for axis, k in zip(panels, dimensions):
    for label, networks in results.items():
      sigma, of_k = networks[0].sigma, [found.sel(law="held-out", k=k) for found in networks]
      shared = _of_each(of_k, "subspace")
      (line,) = axis.plot(sigma, shared.mean(0), "o-", markersize=4, color=colors[label], label=label)
      network_band(line, shared, np.asarray)
      between = _of_each(of_k, "subspace_between_fits")
      axis.plot(sigma, between.mean(0), "--", linewidth=1.2, color=colors[label], gid=label)
    axis.set_title(f"k = {k}")
    style.sigma_axis(axis)
  panels[0].set_ylim(-0.03, 1.03)
  panels[0].set_ylabel("mean cos², held-out")
  dashes = panels[0].plot([], [], "--", linewidth=1.2, color="0.35", label="between two fits")
  bottom.legend(handles=dashes, loc="outside right upper")
  return figure


def signed_root(square: ArrayLike) -> np.ndarray:
  """Return the root of a squared gap's estimate, and minus that of its size where it is below 0."""
  return np.sign(square) * np.sqrt(np.abs(square))


def network_band(line: Line2D, values: np.ndarray, drawn_as: Callable[[np.ndarray], np.ndarray]) -> None:
  """Draw the interval over networks of values [networks, S], where there are several.

  Of a single image the Gaussian map is 0, and there is no gap relative to it.
  """
  if len(values) > 1 and np.isfinite(values).all():
    _, low, high = style.interval(list(values[..., None]))
    style.band(line, drawn_as(low), drawn_as(high))


def _of_each(networks: Sequence["xarray.Dataset"], name: str) -> np.ndarray:
  return np.stack([found[name].to_numpy() for found in networks])
