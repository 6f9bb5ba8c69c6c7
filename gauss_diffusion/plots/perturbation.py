"""Samples after a push along the Jacobian's first singular vector, and how far a push moves the sample."""

import numpy as np
from matplotlib.figure import Figure

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
def draw(results: style.Results) -> Figure:
  """Draw pushed samples of the first and the last model, and the change against sigma for all.

  Args:
    results: model's title -> what the analysis `perturbation` found of each of its networks.
  """
  shown = style.spread(results, 2)
  figure = style.figure(8.6)
  top, bottom = figure.subfigures(2, 1, height_ratios=(5.8, 2.8), squeeze=False)[:, 0]
  for axis, label in zip(top.subplots(1, len(shown), squeeze=False)[0], shown):
    found = results[label][0]
    samples, unmoved = (
      style.pictures(found, name).isel(latent=slice(_COLUMNS)) for name in ("samples", "unmoved")
    )
    moved = samples.sel(direction="first singular vector").stack(move=("sigma", "sign"))
    images = np.concatenate([unmoved.to_numpy()[None], moved.transpose("move", ...).to_numpy()])
    names = ["unmoved"]
    for sigma in found.sigma.to_numpy():
      names += [f"σ = {sigma:.2g}  {sign} " for sign in "−+"]
    style.sheet(axis, images, names, [""] * images.shape[1], named=axis is top.axes[0])
    axis.set_title(label)
  axis = bottom.subplots()
  colors = style.model_colors(results)
  for label, networks in results.items():
    for direction, dashes in (("first singular vector", "-"), ("random", "--")):
      changes = [found.change.sel(direction=direction).mean("sign") for found in networks]
      line = {"color": colors[label], "linestyle": dashes, "label" if dashes == "-" else "gid": label}
      style.curve(axis, networks[0].sigma, changes, marker="o", **line)
  strength = (found.length / found.sigma).to_numpy()[0]
  axis.set_title(f"Change of the sample by a push of {strength:g} σ")
  axis.set_ylabel("RMS change of a pixel")
  axis.set_yscale("log")
  style.plain_log(axis.yaxis)
  style.sigma_axis(axis)
  axis.plot([], [], "-", color="0.35", label="first singular vector")
  axis.plot([], [], "--", color="0.35", label="random direction")
  bottom.legend(*style.entries(axis, results), loc="outside right upper")
  style.note(figure, [networks[0] for networks in results.values()])
  return figure
