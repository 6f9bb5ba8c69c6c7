"""Samples of each network above their nearest training images, and what other denoisers draw."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gauss_diffusion.plots import numbers, style
from gauss_diffusion.readings import measures

TITLE = "Samples and their nearest training images"
LOOK_FOR = (
  "Each sample stands above the training image nearest to it. The number is their relative distance ‖x − "
  "nearest‖/‖x‖, whose mean is the GL score: near 0 when a network returns training images, and growing "
  "with the training set. A sample counts as memorized when its nearest training image is less than a "
  "third as far away as the second nearest. Further down, what other denoisers draw from the same noise, "
  "with the probability flow distance to the network, the RMSE a pixel between the two maps from noise to "
  "image: a network that generalizes draws much what the Gaussian denoiser does, in finer detail."
)
_SHOWN = 8  # samples side by side


@style.talk
def draw(results: style.Results) -> Figure:
  """Draw the first samples, uncurated: the network's with their neighbours, then the other denoisers'.

  Args:
    results: model's title -> what the analysis `samples` found of each of its networks.
  """
  columns = 1 if len(results) == 1 else 2
  rows = -(-len(results) // columns)
  size = 1.4 if columns == 1 else 0.64  # inches an image
  images = 1 + max(networks[0].sizes["denoiser"] for networks in results.values())
  figure = style.figure(rows * (images * size + 1.3))
  axes = figure.subplots(rows, columns, squeeze=False)
  for axis, (label, networks) in zip(axes.flat, results.items()):
    _draw_model(axis, label, networks)
  for axis in axes.flat[len(results) :]:
    axis.set_axis_off()
  style.note(figure, [networks[0] for networks in results.values()])
  return figure


def _draw_model(axis: Axes, label: str, networks: Sequence) -> None:
  """Show the first network's samples, and in the title what holds of all of them."""
  found = networks[0]
  names = list(found.denoiser.to_numpy())
  first = "network" if "network" in names else names[0]
  others = [name for name in names if name != first]
  own = [each.sel(denoiser=first) for each in networks]
  shown = [style.pictures(found, name).isel(sample=slice(_SHOWN)) for name in ("samples", "neighbours")]
  samples, nearest = shown
  images = np.stack([samples.sel(denoiser=first), nearest.sel(denoiser=first), *samples.sel(denoiser=others)])
  scores = found.gl.sel(denoiser=first).to_numpy()[:_SHOWN]
  apart = {name: measures.pfd(found, name, first) for name in others}
  rows = [style.row_name(first), "nearest"]
  rows += [f"{style.row_name(name)}\nPFD {distance:.2f}" for name, distance in apart.items()]
  style.sheet(axis, images, rows, [f"{score:.2f}" for score in scores], block=2, apart=None)
  cells = [scores, *numbers.apart(images[1:], images[0])]
  said = "GL score of each sample, and RMSE to it, pixels in [−1, 1]"
  numbers.tabulate(axis, "sample", said, ["GL", *rows[1:]], [str(i + 1) for i in range(len(cells[0]))], cells)
  axis.xaxis.tick_top()
  axis.annotate(
    "GL", (0, 1), (-3.5, 3.5), "axes fraction", "offset points", ha="right", va="bottom", size=style.SMALL
  )
  mean, low, high = style.interval([each.gl for each in own])
  memorized = np.mean([each.memorized.mean() for each in own])
  of = f"  ({len(own)} networks)" if len(own) > 1 else ""
  axis.set_title(f"{label}\nGL {mean:.2f} ± {(high - low) / 2:.2f},  {memorized:.0%} memorized{of}", pad=10)
