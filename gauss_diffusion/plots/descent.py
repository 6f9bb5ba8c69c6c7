"""Linear distillation by gradient descent: its way to the closed form, and what map it heads for."""

import numpy as np

from gauss_diffusion.plots import style

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
def draw(results: dict):
  """Draw gaps over steps per model; asymmetry, singular values and vectors at the level nearest to 4.

  Args:
    results: model label -> arrays of the `descent` analysis.
  """
  outer = style.spread(results, 2)
  figure = style.figure(6.1 + 1.45 * len(outer))
  top, middle, bottom = figure.subfigures(3, 1, height_ratios=(3.1, 3.0, 1.45 * len(outer)))
  shown = style.spread(results, _MOST)
  axes = top.subplots(1, len(shown), sharex=True, sharey=True, squeeze=False)[0]
  for axis, label in zip(axes, shown):
    _draw_gap(axis, results[label])
    axis.set_title(label)
  axes[0].set_ylabel("‖W − W$_G$‖ / ‖W$_G$‖")
  top.legend(*axes[0].get_legend_handles_labels(), loc="outside right upper")

  colors = style.model_colors(results)
  axes = middle.subplots(1, 2)
  for label, arrays in results.items():
    level, color = _nearest(arrays), colors[label]
    axes[0].plot(arrays["step"], arrays["asymmetry"][level], color=color, label=label)
    axes[0].axhline(arrays["best_asymmetry"][level], color=color, linestyle=":", linewidth=1.6)
    place = np.arange(1, arrays["gains"].shape[1] + 1)
    axes[1].plot(place, arrays["singular_values"][level], ".", markersize=5, color=color)
    axes[1].plot(place, arrays["gains"][level], color=color, linewidth=1.4)
  sigma = f"σ = {arrays['sigma'][level]:.2g}"
  _steps_axis(axes[0])
  axes[0].set_title(f"Asymmetry of the map, {sigma}")
  axes[0].set_ylabel("‖W − Wᵀ‖ / ‖W‖")
  axes[1].set_title(f"Singular values (points) and λ/(λ+σ²), {sigma}")
  axes[1].set(xscale="log", xlabel="rank", ylabel="singular value")
  for axis in axes:
    axis.set_ylim(bottom=0)
  style.plain_log(axes[1].xaxis)
  middle.legend(*axes[0].get_legend_handles_labels(), loc="outside right upper")

  for axis, label in zip(bottom.subplots(len(outer), 1, squeeze=False)[:, 0], outer):
    arrays = results[label]
    pages = [_contrast(arrays["vectors"][_nearest(arrays)]), _contrast(arrays["components"])]
    blank = np.ones((len(pages[0]) - len(pages[1]), *pages[0].shape[1:]))
    pages[1] = np.concatenate([pages[1], blank])
    style.sheet(axis, np.stack(pages), ("singular vector", "component"), [""] * len(pages[0]))
    axis.set_title(f"{label}:  leading left singular vectors and principal components, {sigma}")
  return figure


def _draw_gap(axis, arrays: dict) -> None:
  for s, color in enumerate(style.level_colors(len(arrays["sigma"]))):
    label = f"σ = {arrays['sigma'][s]:.2g}"
    axis.plot(arrays["step"], arrays["weight_gap"][s], color=color, label=label)
    axis.plot(arrays["step"], arrays["expected_gap"][s], color=color, linestyle="--", linewidth=1.3)
    axis.axhline(arrays["best_gap"][s], color=color, linestyle=":", linewidth=1.6)
  for name, dashes in (("descent", "-"), ("expected", "--"), ("least squares", ":")):
    axis.plot([], [], color="0.35", linestyle=dashes, linewidth=1.6, label=name)
  axis.set_yscale("log")
  style.plain_log(axis.yaxis)
  _steps_axis(axis)


def _steps_axis(axis) -> None:
  axis.set_xscale("log")
  style.plain_log(axis.xaxis)
  axis.set_xlabel("steps")


def _nearest(arrays: dict) -> int:
  return int(np.argmin(np.abs(np.log(arrays["sigma"] / _SIGMA))))


def _contrast(images):
  """Scale each image so that its largest entry is 1: unit vectors alone are too faint to see."""
  largest = np.abs(images).max(axis=(1, 2, 3), keepdims=True)
  return images / np.where(largest > 0, largest, 1)
