"""What each denoiser makes of the same noisy images, and how near the network is to passing them on."""

import numpy as np
from matplotlib.figure import Figure

from gauss_diffusion.plots import style

TITLE = "The same noisy image, denoised by each"
LOOK_FOR = (
  "At high noise all denoisers give nearly the mean, whatever they have learned. In between, a network that "
  "generalizes gives what the Gaussian denoiser gives, and one that memorizes a training image, even from "
  "pure noise. At low noise the network passes its input on (cosine 1, distance 0); the Gaussian denoiser "
  "does so only as far as the training images span the input."
)
_MOST = 4  # sheets side by side
_COLUMNS = 20  # images side by side


@style.talk
def draw(results: style.Results) -> Figure:
  """Draw a sheet per model, a column per input and a row per denoiser; below, cosine and distance.

  Args:
    results: model's title -> what the analysis `denoised` found of each of its networks.
  """
  shown = style.spread(results, _MOST)
  first = results[shown[0]][0]
  num_levels = first.sizes["input"]
  rows = ["clean", "input", *map(style.row_name, first.denoiser.to_numpy())]
  images = max(1, min(first.sizes["shown"], _COLUMNS // (len(shown) * num_levels)))
  width = 0.88 * style.WIDTH / max(len(shown) * images * num_levels, 6)  # inches an image
  figure = style.figure(len(rows) * width + 4.5)
  top, bottom = figure.subfigures(2, 1, height_ratios=(len(rows) * width + 1.2, 3.3), squeeze=False)[:, 0]
  for axis, label in zip(top.subplots(1, len(shown), squeeze=False)[0], shown):
    found = results[label][0]
    levels = [
      f"{sigma:.2g}" if has_image else f"noise\n{sigma:.2g}"
      for sigma, has_image in zip(found.input_sigma.to_numpy(), found.has_image.to_numpy())
    ]
    levels[0] = f"σ = {levels[0]}"
    headings = [level if i == 0 else "" for level in levels for i in range(images)]
    style.sheet(axis, _page(found, images), rows, headings, named=label == shown[0])
    axis.xaxis.tick_top()
    axis.set_title(label, y=1.0, pad=38)  # above two lines of headings

  colors = style.model_colors(results)
  axes = bottom.subplots(1, 2)
  for name, dashes in (("network", "-"), ("gaussian", (0, (3, 1.5)))):
    for label, networks in results.items():
      compared = [found.sel(compared=name) for found in networks]
      for axis, field in zip(axes, ("cosine", "nmse")):
        line = {"label": label} if name == "network" else {"gid": label, "linewidth": 1.4}
        values = [each[field] for each in compared]
        style.curve(axis, compared[0].sigma, values, color=colors[label], linestyle=dashes, **line)
  gaussian = {"color": "0.35", "linestyle": (0, (3, 1.5)), "linewidth": 1.4}
  axes[0].plot([], [], **gaussian, label=style.named("gaussian"))
  axes[0].set_title("Cosine between input and output")
  axes[1].set_title("Distance, relative to the input")
  axes[0].set_ylabel("⟨x, D⟩ / ‖x‖‖D‖")
  axes[1].set_ylabel("‖D − x‖ / ‖x‖")
  axes[1].set_yscale("log")
  style.plain_log(axes[1].yaxis)
  for axis in axes:
    style.sigma_axis(axis)
  bottom.legend(*style.entries(axes[0], results), loc="outside right upper")
  style.note(figure, [networks[0] for networks in results.values()])
  return figure


def _page(found, images: int) -> np.ndarray:
  """Return [rows, levels * images, H, W, C]; the clean image is NaN where the input has none."""
  shown = [style.pictures(found, name).isel(shown=slice(images)) for name in ("clean", "inputs", "outputs")]
  clean, inputs, outputs = shown
  along = inputs.dims
  clean = clean.where(found.has_image).transpose(*along)
  page = np.stack([clean, inputs, *outputs.transpose("denoiser", *along)])
  return page.reshape(len(page), -1, *page.shape[3:])
