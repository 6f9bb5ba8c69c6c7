"""What each denoiser sees on its way from the same noise to an image."""

from gauss_diffusion.plots import style

TITLE = "From the same noise: four denoising trajectories"
LOOK_FOR = (
  "Every row starts from the same noise and shows D(x; σ) as σ falls. A network that generalizes follows "
  "the Gaussian and linear rows in layout and contrast, with finer detail; one that memorizes ends on a "
  "training image, as multi-delta always does."
)


@style.talk
def draw(results: dict):
  """Draw the denoised images of the first latent, for the first and the last model.

  Args:
    results: model label -> arrays of the `trajectories` analysis.
  """
  labels = style.spread(results, 2)
  most, size = (10, 1.15) if len(labels) == 1 else (6, 0.94)  # columns a model, inches an image
  figure = style.figure(len(results[labels[0]]["denoiser"]) * size + 0.85)
  axes = figure.subplots(1, len(labels), squeeze=False)[0]
  for axis, label in zip(axes, labels):
    arrays = results[label]
    columns = style.spread(range(arrays["denoised"].shape[2]), most)
    levels = [f"{sigma:.2g}" for sigma in arrays["sigma"][columns]]
    levels[0] = f"σ = {levels[0]}"
    names = [style.named(name).replace(" (", "\n(") if axis is axes[0] else "" for name in arrays["denoiser"]]
    style.sheet(axis, arrays["denoised"][:, 0, columns], names, levels)
    axis.xaxis.tick_top()
    axis.set_title(label, pad=12)
  return figure
