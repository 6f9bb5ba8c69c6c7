"""What each denoiser sees on its way from the same noise to an image."""

from matplotlib.figure import Figure

from gauss_diffusion.plots import style

TITLE = "From the same noise: what each denoiser sees"
LOOK_FOR = (
  "Every row starts from the same noise and shows D(x; σ) as σ falls. A network that generalizes follows "
  "the Gaussian and linear rows in layout and contrast, with finer detail; one that memorizes ends on a "
  "training image, as multi-delta always does."
)


@style.talk
def draw(results: style.Results) -> Figure:
  """Draw the denoised images of the first latent, for the first and the last model.

  Args:
    results: model's title -> what the analysis `trajectories` found of each of its networks.
  """
  labels = style.spread(results, 2)
  most, size = (10, 1.15) if len(labels) == 1 else (6, 0.94)  # columns a model, inches an image
  figure = style.figure(results[labels[0]][0].sizes["denoiser"] * size + 0.85)
  axes = figure.subplots(1, len(labels), squeeze=False)[0]
  for axis, label in zip(axes, labels):
    found = results[label][0]
    seen = style.pictures(found, "denoised").isel(
      latent=0, sigma=style.spread(range(found.sizes["sigma"]), most)
    )
    levels = [f"{sigma:.2g}" for sigma in seen.sigma.to_numpy()]
    levels[0] = f"σ = {levels[0]}"
    names = [style.row_name(name) for name in seen.denoiser.to_numpy()]
    style.sheet(axis, seen.to_numpy(), names, levels, named=axis is axes[0])
    axis.xaxis.tick_top()
    axis.set_title(label, pad=12)
  style.note(figure, [networks[0] for networks in results.values()])
  return figure
