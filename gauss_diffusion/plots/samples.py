"""Samples of each network above their nearest training images, and what other denoisers draw."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gauss_diffusion.plots import style
from gauss_diffusion.readings import intervals

TITLE = "Samples and their nearest training images"
LOOK_FOR = (
  "Each sample stands above the training image nearest to it. The number is their relative distance ‖x − "
  "nearest‖/‖x‖, whose mean is the GL score: near 0 when a network returns training images, and growing "
  "with the training set. A sample counts as memorized when its nearest training image is less than a "
  "third as far away as the second nearest. Further down, what other denoisers draw from the same noise: a "
  "network that generalizes draws much what the Gaussian denoiser does, in finer detail."
)
_SHOWN = 8  # samples side by side


@style.talk
def draw(results: style.Results) -> Figure:
  """Draw the first samples, uncurated: the network's with their neighbours, then the other denoisers'.

  Args:
    results: model's title -> what the analysis `samples` found.
  """
  columns = 1 if len(results) == 1 else 2
  rows = -(-len(results) // columns)
  size = 1.4 if columns == 1 else 0.64  # inches an image
  images = 1 + max(found.sizes["denoiser"] for found in results.values())
  figure = style.figure(rows * (images * size + 1.3))
  axes = figure.subplots(rows, columns, squeeze=False)
  for axis, (label, found) in zip(axes.flat, results.items()):
    _draw_model(axis, label, found)
  for axis in axes.flat[len(results) :]:
    axis.set_axis_off()
  return figure


def _draw_model(axis: Axes, label: str, found) -> None:
  names = list(found.denoiser.to_numpy())
  first = "network" if "network" in names else names[0]
  others = [name for name in names if name != first]
  own, shown = found.sel(denoiser=first), found.isel(sample=slice(_SHOWN))
  above = shown.sel(denoiser=first)
  images = np.stack([above.samples, above.neighbours, *shown.samples.sel(denoiser=others)])
  rows = [style.row_name(first), "nearest", *map(style.row_name, others)]
  style.sheet(axis, images, rows, [f"{score:.2f}" for score in above.gl.to_numpy()], block=2)
  axis.xaxis.tick_top()
  axis.annotate(
    "GL", (0, 1), (-3.5, 3.5), "axes fraction", "offset points", ha="right", va="bottom", size=style.SMALL
  )
  mean, low, high = intervals.bootstrap_mean(own.gl)
  memorized = own.memorized.mean().item()
  axis.set_title(f"{label}\nGL {mean:.2f} ± {(high - low) / 2:.2f},  {memorized:.0%} memorized", pad=10)
