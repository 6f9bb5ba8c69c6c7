"""How close the best affine approximation of each network lies to the Gaussian denoiser."""

import numpy as np
from matplotlib.figure import Figure

from gauss_diffusion.plots import style

TITLE = "Is the network's best affine approximation the Gaussian denoiser?"
LOOK_FOR = (
  "Fitted on noisy training images (left), every exact denoiser has the Gaussian map as its best affine "
  "approximation, the exact memorizer included: a small gap there shows good training, not Gaussian "
  "structure. Only on held-out images (right) does the gap tell networks that generalize (small) from "
  "those that memorize (large). Below, bright means that a singular vector of the fitted map lies where "
  "the Gaussian denoiser has it; vectors of equal eigenvalues count as one group."
)
_HEADINGS = {"train": "Fitted on training images", "held-out": "Fitted on held-out images"}
_MOST = 7  # heat maps side by side


@style.talk
def draw(results: style.Results) -> Figure:
  """Draw the weight gap against sigma for both input laws, and |cos| of singular vectors (held-out).

  Args:
    results: model's title -> what the analysis `distillation` found.
  """
  figure = style.figure(7.2)
  top, bottom = figure.subfigures(2, 1, height_ratios=(1.25, 1), squeeze=False)[:, 0]
  colors = style.model_colors(results)
  axes = top.subplots(1, 2, sharey=True)
  for axis, (law, heading) in zip(axes, _HEADINGS.items()):
    for label, found in results.items():
      gap = found.weight_gap.sel(law=law).to_numpy()
      axis.plot(found.sigma.to_numpy(), gap, "o-", markersize=5, color=colors[label], label=label)
    axis.axhline(1, color="0.35", linestyle="--", linewidth=1.4, label="W$_L$ = 0")
    axis.set_title(heading)
    axis.set_yscale("log")
    style.plain_log(axis.yaxis)
    style.sigma_axis(axis)
  axes[0].set_ylabel("weight gap  ‖W$_L$ − W$_G$‖ / ‖W$_G$‖")
  top.legend(*axes[0].get_legend_handles_labels(), loc="outside right upper")

  shown = style.spread(results, _MOST)
  maps = bottom.subplots(1, len(shown), sharey=True, squeeze=False)[0]
  for axis, label in zip(maps, shown):
    correlation = results[label].singular_correlation.sel(law="held-out")
    vectors, levels = np.arange(correlation.sizes["vector"] + 1) + 0.5, _edges(correlation.sigma.to_numpy())
    mesh = axis.pcolormesh(vectors, levels, correlation.to_numpy(), cmap="cividis", vmin=0, vmax=1)
    mesh.set_rasterized(True)
    axis.set_yscale("log")
    style.plain_log(axis.yaxis)
    axis.grid(False)
    axis.set_title(label)
    axis.set_xlabel("singular vector")
  maps[0].set_ylabel("noise level σ")
  bottom.colorbar(mesh, ax=maps, label="|cos|, held-out fit", pad=0.02, aspect=12)
  return figure


def _edges(sigma: np.ndarray) -> np.ndarray:
  """Return the borders of cells around logarithmically spaced levels."""
  log = np.log(sigma)
  middle = (log[1:] + log[:-1]) / 2
  return np.exp(np.concatenate([[2 * log[0] - middle[0]], middle, [2 * log[-1] - middle[-1]]]))
