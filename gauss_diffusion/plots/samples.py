"""Samples of each network above their nearest training images."""

import numpy as np

from gauss_diffusion.plots import style
from gauss_diffusion.readings import intervals

TITLE = "Samples and their nearest training images"
LOOK_FOR = (
  "Each sample stands above the training image nearest to it. The number is their relative distance ‖x − "
  "nearest‖/‖x‖, whose mean is the GL score: near 0 when a network returns training images, and growing "
  "with the training set. A sample counts as memorized when its nearest training image is less than a "
  "third as far away as the second nearest."
)
_PAIRS = 8


@style.talk
def draw(results: dict):
  """Draw the first samples of each network, uncurated, as pairs.

  Args:
    results: model label -> arrays of the `samples` analysis.
  """
  columns = 1 if len(results) == 1 else 2
  rows = -(-len(results) // columns)
  figure = style.figure(4.1 if columns == 1 else 2.4 * rows)
  axes = figure.subplots(rows, columns, squeeze=False)
  for axis, (label, arrays) in zip(axes.flat, results.items()):
    network = list(arrays["denoiser"]).index("network")
    gl = arrays["gl"][network]
    pairs = np.stack([arrays["samples"][network], arrays["neighbours"][network]])[:, :_PAIRS]
    style.sheet(axis, pairs, ("sample", "nearest"), [f"{score:.2f}" for score in gl[:_PAIRS]])
    axis.annotate(
      "GL", (0, 0), (-3.5, -3.5), "axes fraction", "offset points", ha="right", va="top", size=style.SMALL
    )
    mean, low, high = intervals.bootstrap_mean(gl)
    memorized = np.mean(arrays["memorized"][network])
    axis.set_title(f"{label}\nGL {mean:.2f} ± {(high - low) / 2:.2f},  {memorized:.0%} memorized")
  for axis in axes.flat[len(results) :]:
    axis.set_axis_off()
  return figure
