"""Linear distillation by gradient descent: its way to the closed form, and what map it heads for."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gauss_diffusion import edm
from gauss_diffusion.plots import numbers, style

TITLE = "Linear distillation by gradient descent: where does it lead, and how fast?"
LOOK_FOR = (
  "Above, the gap between the map found so far and the Gaussian denoiser's. Descent must end at the least-"
  "squares map (dotted), and its expected course (dashed) is known beforehand: the less noise, the more "
  "steps it takes, and stopped early it says more about descent than about the network. Below, that map "
  "itself: for a network that generalizes it is nearly symmetric, has the Gaussian's singular values "
  "λ/(λ + σ²) and, in order, the principal components as its leading singular vectors."
)
_MOST = 4  # panels side by side
_SIGMA = 4.0  # the level of the lower panels, as in fig. 14


@style.talk
def draw(results: style.Results) -> Figure:
  """Draw gaps over steps per model; asymmetry, singular values and vectors at the level nearest to 4.

  Args:
    results: model's title -> what the analysis `descent` found of each of its networks.
  """
  outer = style.spread(results, 2)
  figure = style.figure(6.1 + 1.45 * len(outer))
  heights = (3.1, 3.0, 1.45 * len(outer))
  top, middle, bottom = figure.subfigures(3, 1, height_ratios=heights, squeeze=False)[:, 0]
  shown = style.spread(results, _MOST)
  axes = top.subplots(1, len(shown), sharex=True, sharey=True, squeeze=False)[0]
  for axis, label in zip(axes, shown):
    _draw_gap(axis, results[label])
    axis.set_title(label)
  axes[0].set_ylabel("‖W − W$_G$‖ / ‖W$_G$‖")
  top.legend(*style.entries(axes[0], results, images=False), loc="outside right upper")

  colors = style.model_colors(results)
  axes = middle.subplots(1, 2)
  for label, networks in results.items():
    at, color = [_at_level(found) for found in networks], colors[label]
    style.curve(axes[0], at[0].step, _each(at, "asymmetry"), color=color, label=label)
    axes[0].axhline(
      np.mean(_each(at, "best_asymmetry")), color=color, linestyle=":", linewidth=1.6, gid=label
    )
    rank = np.arange(1, at[0].sizes["rank"] + 1)
    dots = {"linestyle": "none", "marker": ".", "markersize": 5}
    style.curve(axes[1], rank, _each(at, "singular_values"), color=color, gid=label, **dots)
    axes[1].plot(rank, np.mean(_each(at, "gains"), axis=0), color=color, gid=label, linewidth=1.4)
  sigma = f"σ = {at[0].sigma.item():.2g}"
  _steps_axis(axes[0])
  axes[0].set_title(f"Asymmetry of the map, {sigma}")
  axes[0].set_ylabel("‖W − Wᵀ‖ / ‖W‖")
  axes[1].set_title(f"Singular values (points) and λ/(λ+σ²), {sigma}")
  axes[1].set(xscale="log", xlabel="rank", ylabel="singular value")
  for axis in axes:
    axis.set_ylim(bottom=0)
  style.plain_log(axes[1].xaxis)
  middle.legend(*style.entries(axes[0], results, images=False), loc="outside right upper")

  for axis, label in zip(bottom.subplots(len(outer), 1, squeeze=False)[:, 0], outer):
    at = _at_level(results[label][0])
    pages = [_contrast(at.vectors.to_numpy()), _contrast(at.components.to_numpy())]
    blank = np.full((len(pages[0]) - len(pages[1]), *pages[0].shape[1:]), np.nan)
    pages[1] = np.concatenate([pages[1], blank])
    headings = [""] * len(pages[0])
    style.sheet(axis, np.stack(pages), ("singular vector", "component"), headings, apart=None)
    pairs = zip(at.vectors.to_numpy(), at.components.to_numpy())
    cells = [[abs((one * other).sum())] for one, other in pairs]
    ranks = [str(i + 1) for i in range(len(cells))]
    numbers.tabulate(axis, "rank", "of singular vector and component", ranks, ["|cosine|"], cells)
    axis.set_title(f"{label}:  leading left singular vectors and principal components, {sigma}")
  return figure


def _draw_gap(axis: Axes, networks: Sequence) -> None:
  steps, sigmas = networks[0].step.to_numpy(), networks[0].sigma.to_numpy()
  for sigma, color in zip(sigmas, style.level_colors(len(sigmas))):
    at = [found.sel(sigma=sigma) for found in networks]
    name = f"σ = {sigma:.2g}"
    style.curve(axis, steps, _each(at, "weight_gap"), color=color, label=name)
    expected = np.mean(_each(at, "expected_gap"), axis=0)
    axis.plot(steps, expected, color=color, linestyle="--", linewidth=1.3, gid=name)
    axis.axhline(np.mean(_each(at, "best_gap")), color=color, linestyle=":", linewidth=1.6, gid=name)
  for name, dashes in (("descent", "-"), ("expected", "--"), ("least squares", ":")):
    axis.plot([], [], color="0.35", linestyle=dashes, linewidth=1.6, label=name)
  axis.set_yscale("log")
  style.plain_log(axis.yaxis)
  _steps_axis(axis)


def _steps_axis(axis: Axes) -> None:
  axis.set_xscale("log")
  style.plain_log(axis.xaxis)
  axis.set_xlabel("steps")


def _each(networks: Sequence, name: str) -> list[np.ndarray]:
  """Return one array of each network, with an axis of length one in the place of images."""
  return [found[name].to_numpy()[..., None] for found in networks]


def _at_level(found):
  return found.isel(sigma=edm.nearest(found.sigma.to_numpy(), _SIGMA))


def _contrast(images: np.ndarray) -> np.ndarray:
  """Scale each image so that its largest entry is 1: unit vectors alone are too faint to see."""
  largest = np.abs(images).max(axis=(1, 2, 3), keepdims=True)
  return images / np.where(largest > 0, largest, 1)
