"""Samples after a push along the Jacobian's first singular vector, and how far a push moves the sample."""

import numpy as np

from gauss_diffusion.plots import style

TITLE = "What can a push along the first singular vector still change?"
LOOK_FOR = (
  "The state of the ODE at noise level σ is moved by a few σ, to either side, along the first left singular "
  "vector of the Jacobian there, and the ODE is run to its end. The paper finds that at high noise the whole "
  "picture changes, at middle noise details, at low noise nothing. Dashed, a push of the same length in a "
  "random direction: where both curves meet, the singular vector is no better than any direction."
)
_COLUMNS = 8  # latents shown


@style.talk
def draw(results: dict):
  """Draw pushed samples of the first and the last model, and the change against sigma for all.

  Args:
    results: model label -> arrays of the `perturbation` analysis.
  """
  shown = style.spread(results, 2)
  figure = style.figure(8.6)
  top, bottom = figure.subfigures(2, 1, height_ratios=(5.8, 2.8))
  for axis, label in zip(top.subplots(1, len(shown), squeeze=False)[0], shown):
    arrays = results[label]
    along = arrays["samples"][:, list(arrays["direction"]).index("first singular vector")]
    rows = [arrays["unmoved"][None], *along]  # of each level: minus, plus
    images = np.concatenate(rows)[:, :_COLUMNS]
    names = ["unmoved"]
    for sigma in arrays["sigma"]:
      names += [f"σ = {sigma:.2g}  − ", "+ "]
    style.sheet(axis, images, names if axis is top.axes[0] else [""] * len(names), [""] * images.shape[1])
    axis.set_title(label)
  axis = bottom.subplots()
  colors = style.model_colors(results)
  for label, arrays in results.items():
    for direction, dashes in zip(arrays["direction"], ("-", "--")):
      change = arrays["change"][:, list(arrays["direction"]).index(direction)].mean(axis=1)
      name = label if dashes == "-" else None
      style.curve(
        axis, arrays["sigma"], change, color=colors[label], linestyle=dashes, marker="o", label=name
      )
  axis.set_title(f"Change of the sample by a push of {_strength(arrays):g} σ")
  axis.set_ylabel("RMS change of a pixel")
  axis.set_yscale("log")
  style.plain_log(axis.yaxis)
  style.sigma_axis(axis)
  axis.plot([], [], "-", color="0.35", label="first singular vector")
  axis.plot([], [], "--", color="0.35", label="random direction")
  bottom.legend(*axis.get_legend_handles_labels(), loc="outside right upper")
  return figure


def _strength(arrays) -> float:
  return arrays["length"][0] / arrays["sigma"][0]
