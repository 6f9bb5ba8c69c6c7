"""Where the Jacobian's leading singular vectors point, and what they look like, along the noise levels."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.image import AxesImage

from gauss_diffusion.plots import style

TITLE = "Are the leading directions of the network's Jacobian the principal components?"
LOOK_FOR = (
  "On the way from noise to image, the share of the span of the Jacobian's first left singular vectors that "
  "lies in the span of as many principal components of the training images: 1 for the Gaussian denoiser at "
  "every noise level. The paper finds high noise aligned, middle noise adapted to the one image that is "
  "emerging, and low noise without pattern. A bright diagonal says that vectors and components agree one by "
  "one, a bright block that only their spans do. In the images, grey is 0."
)
_MAPS = 8  # heat maps side by side
_ROWS, _COLUMNS = 4, 8  # noise levels and singular vectors shown as images


@style.talk
def draw(results: style.Results) -> Figure:
  """Draw alignment against sigma; for the first and the last model, correlations and vectors as images.

  Args:
    results: model's title -> what the analysis `modes` found of each of its networks.
  """
  shown = style.spread(results, 2)
  figure = style.figure(8.6)
  top, middle, bottom = figure.subfigures(3, 1, height_ratios=(2.5, 2.4, 3.7), squeeze=False)[:, 0]
  _draw_alignment(top, results)
  most = _MAPS // len(shown)
  widths = [1] * most + ([0.2] + [1] * most) * (len(shown) - 1)
  axes = middle.subplots(1, len(widths), sharey=True, squeeze=False, width_ratios=widths)[0]
  sheets = bottom.subplots(1, len(shown), squeeze=False)[0]
  maps = []
  for i, label in enumerate(shown):
    found = results[label][0]
    mean = np.mean([each.correlation.mean("latent").to_numpy() for each in results[label]], axis=0)
    correlation = found.correlation.isel(latent=0).copy(data=mean)
    names = [f"σ = {sigma:.2g}" for sigma in found.sigma.to_numpy()]
    for j, level in enumerate(style.spread(range(len(names)), most)):
      maps.append(axes[i * (most + 1) + j])
      image = _draw_correlation(maps[-1], correlation.isel(sigma=level))
      maps[-1].set_title(f"{'' if j else label}\n{names[level]}", fontsize=13)
    levels = style.spread(range(len(names)), _ROWS)
    vectors = np.stack([found.components, *found.vectors.isel(sigma=levels)])[:, :_COLUMNS]
    peak = np.abs(vectors).max(axis=(2, 3, 4), keepdims=True)
    vectors = vectors / np.where(peak > 0, peak, 1)
    rows = ["principal\ncomponents"] + [names[level] for level in levels]
    columns = [str(v + 1) for v in range(vectors.shape[1])]
    style.sheet(sheets[i], vectors, [""] * len(rows) if i else rows, columns)
    sheets[i].set_title(label)
    sheets[i].set_xlabel("singular vector, at one state")
  for axis in set(axes) - set(maps):
    axis.set_axis_off()
  axes[0].set_ylabel("component")
  middle.supxlabel("singular vector", fontsize=13)
  middle.colorbar(image, ax=axes, label="|cos|, mean", pad=0.02, aspect=12)
  return figure


def _draw_alignment(figure: SubFigure, results: style.Results) -> None:
  axis = figure.subplots()
  colors = style.model_colors(results)
  for label, networks in results.items():
    values = [found.alignment for found in networks]
    style.curve(axis, networks[0].sigma, values, color=colors[label], label=label)
  found = networks[0]
  axis.axhline(found.chance.item(), color="0.35", linestyle="--", linewidth=1.4, label="random directions")
  count = found.sizes["component"]
  axis.set_title(f"Span of the first {count} singular vectors within that of the first {count} components")
  axis.set_ylabel("share of the span")
  axis.set_ylim(0, 1.02)
  style.sigma_axis(axis)
  figure.legend(*style.entries(axis, results), loc="outside right upper")


def _draw_correlation(axis: Axes, correlation) -> AxesImage:
  """Show [k, k], component up, singular vector to the right; the first at the lower left."""
  count = correlation.sizes["vector"]
  ends, upright = (0.5, count + 0.5), correlation.transpose("component", "vector").to_numpy()
  image = axis.imshow(upright, cmap="cividis", vmin=0, vmax=1, origin="lower", extent=(*ends, *ends))
  axis.set_xticks([1, count])
  axis.set_yticks([1, count])
  axis.grid(False)
  return image
