"""Whether a denoiser's Jacobian knows its error: variance and Stein's estimate over the error measured."""

from matplotlib.figure import Figure

from gauss_diffusion.plots import style
from gauss_diffusion.readings.ratios import ratio

TITLE = "Does the denoiser know how far it may be wrong?"
LOOK_FOR = (
  "Left, the error that an exact posterior mean with this Jacobian would expect, over the error measured on "
  "held-out images: 1 means calibrated, below 1 overconfident; a memorizer, sure of its training image, is "
  "far below. Middle, Stein's estimate needs no clean image and is right on average for any denoiser; at "
  "high noise it drowns in its own spread. Right, σ² times the Jacobian of an exact denoiser is a "
  "covariance, and so symmetric."
)
_MOST = 2.0  # of ratios shown: twice the truth


@style.talk
def draw(results: style.Results) -> Figure:
  """Draw both estimates over the measured error, ratios of means over images, and the Jacobian's asymmetry.

  Args:
    results: model's title -> what the analysis `calibration` found of each of its networks.
  """
  figure = style.figure(5.0)
  axes = figure.subplots(1, 3)
  colors = style.model_colors(results)
  for label, networks in results.items():
    panels = (
      [ratio(found.variance, found.error) for found in networks],
      [ratio(found.sure, found.error) for found in networks],
      [found.asymmetry for found in networks],
    )
    for axis, values in zip(axes, panels):
      style.curve(axis, networks[0].sigma, values, color=colors[label], label=label)
  titles = "Posterior variance over error", "Stein's estimate over error", "Asymmetry of the Jacobian"
  names = "σ² tr J / ‖D − x₀‖²", "SURE / ‖D − x₀‖²", "‖J − Jᵀ‖ / ‖J‖"
  for axis, title, name in zip(axes, titles, names):
    style.sigma_axis(axis)
    axis.set_title(title)
    axis.set_ylabel(name)
    axis.set_ylim(bottom=0)
  for axis in axes[:2]:
    axis.axhline(1, color="0.35", linestyle="--", linewidth=1.4, zorder=1)
    axis.set_ylim(0, _MOST)
  handles, labels = style.entries(axes[0], results)
  figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 5))
  return figure
