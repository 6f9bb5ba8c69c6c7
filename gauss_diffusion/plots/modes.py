"""Where the Jacobian's leading singular vectors point, and what they look like, along the noise levels."""

import matplotlib.ticker
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.image import AxesImage

from gauss_diffusion.plots import numbers, style

TITLE = "Are the leading directions of the network's Jacobian the principal components?"
LOOK_FOR = (
  "On the way from noise to image, the share of the span of the Jacobian's first left singular vectors that "
  "lies in the span of as many principal components of the training images: 1 for the Gaussian denoiser at "
  "every noise level. The paper finds high noise aligned, middle noise adapted to the one image that is "
  "emerging, and low noise without pattern. A bright diagonal says that vectors and components agree one by "
  "one, a bright block that only their spans do. Upper right, the share that the denoiser keeps of each of "
  "its directions at a few levels, dashed what the Gaussian denoiser keeps of the components: a network "
  "that leaves the Gaussian for the one image keeps more. Below, the estimate at a state and the directions "
  "there, grey for 0: waves over the whole frame at high noise, along the image's own shapes further down."
)
_MODELS = 2  # whose maps and vectors are shown
_MAPS = 10  # noise levels side by side
_SHORT = 14  # letters of a title that stand beside a row of maps
_ROWS, _COLUMNS = 7, 8  # noise levels and singular vectors shown as images
_SPECTRA = 4  # noise levels whose singular values are drawn


@style.talk
def draw(results: style.Results) -> Figure:
  """Draw alignment against sigma, what the last model keeps, and images and correlations of it and the first.

  Args:
    results: model's title -> what the analysis `modes` found of each of its networks.
  """
  shown = style.spread(results, _MODELS)
  num_levels = len(style.spread(next(iter(results.values()))[0].sigma, _ROWS))
  legend = 0.29 * (len(results) + _SPECTRA + 3)
  heights = (max(2.6, legend), 1.35 * len(shown) + 0.6, 0.62 * (num_levels + 1) + 1.0)
  figure = style.figure(sum(heights))
  top, middle, bottom = figure.subfigures(3, 1, height_ratios=heights, squeeze=False)[:, 0]
  _draw_alignment(top, results)
  _draw_correlations(middle, {label: results[label] for label in shown})
  for i, (axis, label) in enumerate(zip(bottom.subplots(1, len(shown), squeeze=False)[0], shown)):
    _draw_vectors(axis, results[label][0], named=i == 0)
    axis.set_title(label)
  return figure


def _draw_alignment(figure: SubFigure, results: style.Results) -> None:
  axis, right = figure.subplots(1, 2, width_ratios=(3, 2))
  _draw_values(right, *list(results.items())[-1])
  colors = style.model_colors(results)
  for label, networks in results.items():
    values = [found.alignment for found in networks]
    style.curve(axis, networks[0].sigma, values, color=colors[label], label=label)
  found = networks[0]
  axis.axhline(found.chance.item(), color="0.35", linestyle="--", linewidth=1.4, label="random directions")
  count = found.sizes["component"]
  axis.set_title(f"Span of {count} singular vectors within that of {count} components")
  axis.set_ylabel("share of the span")
  axis.set_ylim(0, 1.02)
  style.sigma_axis(axis)
  handles, labels = style.entries(axis, results)
  levels = right.get_legend_handles_labels()
  figure.legend([*handles, *levels[0]], [*labels, *levels[1]], loc="outside right upper")


def _draw_values(axis: Axes, label: str, networks) -> None:
  """Draw the singular values of one model at some levels, mean over its networks and their latents."""
  sigma = networks[0].sigma.to_numpy()
  levels = style.spread(range(len(sigma)), _SPECTRA)
  for level, color in zip(levels, style.level_colors(len(levels))):
    values = [found["values"].isel(sigma=level).transpose("vector", "latent") for found in networks]
    style.curve(axis, networks[0].vector, values, color=color, label=f"σ = {sigma[level]:.2g}")
    expected = networks[0].gaussian_values.isel(sigma=level)
    axis.plot(expected.component, expected, color=color, linestyle=(0, (3, 1.5)), linewidth=1.4)
  axis.set(title=f"{label}: share kept of each", xlabel="singular vector", ylabel="singular value")
  axis.set_yscale("log")
  style.plain_log(axis.yaxis)
  axis.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(integer=True))


def _draw_correlations(figure: SubFigure, results: style.Results) -> None:
  """Draw a row of maps for each model, one map a level, mean over its networks and their latents."""
  levels = style.spread(range(next(iter(results.values()))[0].sizes["sigma"]), _MAPS)
  axes = figure.subplots(len(results), len(levels), sharex=True, sharey=True, squeeze=False)
  for row, (label, networks) in zip(axes, results.items()):
    mean = np.mean([found.correlation.mean("latent") for found in networks], axis=0)
    correlation = networks[0].correlation.isel(latent=0).copy(data=mean)
    for axis, level in zip(row, levels):
      image = _draw_correlation(axis, correlation.isel(sigma=level))
      sigma = f"σ = {networks[0].sigma[level].item():.2g}"
      axis.set_title(sigma, fontsize=style.SMALL)
      cells = correlation.isel(sigma=level).transpose("component", "vector").to_numpy()
      rows, columns = (list(map(str, range(1, size + 1))) for size in cells.shape)
      said = "|cos| to the singular vectors, mean"
      numbers.tabulate(axis, "component", said, rows, columns, cells, title=f"{label}, {sigma}")
    row[0].set_ylabel(label if len(label) <= _SHORT else f"{label[: _SHORT - 1]}…")
  figure.supylabel("component", fontsize=13)
  figure.supxlabel("singular vector", fontsize=13)
  figure.colorbar(image, ax=axes, label="|cos|, mean", pad=0.02, aspect=12)


def _draw_correlation(axis: Axes, correlation) -> AxesImage:
  """Show [k, k], component up, singular vector to the right; the first at the lower left."""
  count = correlation.sizes["vector"]
  ends, upright = (0.5, count + 0.5), correlation.transpose("component", "vector").to_numpy()
  image = axis.imshow(upright, cmap="cividis", vmin=0, vmax=1, origin="lower", extent=(*ends, *ends))
  axis.set_xticks([1, count])
  axis.set_yticks([1, count])
  axis.grid(False)
  return image


def _draw_vectors(axis: Axes, found, *, named: bool) -> None:
  """Show mean and principal components, and below them estimate and singular vectors at a state a level."""
  levels = style.spread(range(found.sizes["sigma"]), _ROWS)
  vectors = np.stack([found.components, *found.vectors.isel(sigma=levels)])[:, :_COLUMNS]
  length = np.sqrt(np.square(vectors).sum((2, 3, 4)))
  with np.errstate(invalid="ignore"):
    along = np.abs((vectors * vectors[:1]).sum((2, 3, 4))) / (length * length[:1])
  peak = np.abs(vectors).max(axis=(2, 3, 4), keepdims=True)
  vectors = vectors / np.where(peak > 0, peak, 1)
  estimates = np.stack([found["mean"], *found.estimates.isel(sigma=levels)])[:, None]
  rows = ["principal\ncomponents", *(f"σ = {found.sigma[level].item():.2g}" for level in levels)]
  columns = ["D", *(str(v + 1) for v in range(vectors.shape[1]))]
  style.sheet(axis, np.concatenate([estimates, vectors], 1), rows, columns, named=named, apart=None)
  said = "|cos| of its singular vectors, in order, to the components"
  numbers.tabulate(axis, "noise level", said, rows, columns[1:], along)
  axis.set_xlabel("estimate and singular vectors, at one state")
