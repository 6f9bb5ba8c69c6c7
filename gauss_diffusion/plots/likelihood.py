"""How likely noisy images are: held-out ones beside the Gaussian's word, and training ones beside them."""

import numpy as np
from matplotlib.figure import Figure

from gauss_diffusion.plots import style

TITLE = "How likely does the network find an image, and one that it was trained on?"
LOOK_FOR = (
  "The density is that of images in noise σ, and the Gaussian's is known. Left, what the network's is above "
  "it on held-out images, in bits for each pixel and channel: above 0 it has learned more of the images than "
  "mean and covariance. Right, by how much training images are likelier than held-out ones: the Gaussian, "
  "dashed, knows them a little better too where they are few, and the memorizer, dotted, far better. A "
  "network whose curve leaves the dashed for the dotted one has memorized. Grey, left: what following the "
  "Gaussian itself by as many steps is off by, taken off the network's."
)


@style.talk
def draw(results: style.Results) -> Figure:
  """Draw gain over the Gaussian's density on held-out images, and the gap from training to held-out images.

  Args:
    results: model's title -> what the analysis `likelihood` found of each of its networks.
  """
  figure = style.figure(5.2)
  left, right = figure.subplots(1, 2)
  right.set_yscale("symlog", linthresh=0.1)  # before anything is drawn: its margins are in this scale
  colors = style.model_colors(results)
  off = 0.0
  for label, networks in results.items():
    bits = [found.log_density / (found.dimension * np.log(2)) for found in networks]
    sigma, color = networks[0].sigma, colors[label]
    held_out = [each.sel(clean="held-out") for each in bits]
    gains = [each.sel(denoiser="network") - each.sel(denoiser="gaussian") for each in held_out]
    style.curve(left, sigma, gains, color=color, marker="o", label=label)
    gaps = [each.sel(clean="train") - each.sel(clean="held-out") for each in bits]
    for name, dashes in (("network", "-"), ("gaussian", (0, (3, 1.5))), ("multi-delta", (0, (1, 1.5)))):
      values = [each.sel(denoiser=name) for each in gaps]
      line = {"marker": "o"} if name == "network" else {"linewidth": 1.4}
      if name == "network":
        style.curve(right, sigma, values, color=color, linestyle=dashes, **line)
      else:
        right.plot(sigma, style.interval(values).mean, color=color, linestyle=dashes, **line)
    errors = [abs(found.way_error).max() / (found.dimension * np.log(2)) for found in networks]
    off = max(off, *(float(each) for each in errors))
  left.axhspan(-off, off, color="0.85", zorder=0.5)
  for axis in (left, right):
    axis.axhline(0, color="0.35", linewidth=1, zorder=1)
    style.sigma_axis(axis)
  left.set(title="Log-density above the Gaussian's, held-out images", ylabel="bits per dimension")
  right.set(title="Training images above held-out images", ylabel="bits per dimension")
  for name, dashes in (("gaussian", (0, (3, 1.5))), ("multi-delta", (0, (1, 1.5)))):
    left.plot([], [], color="0.35", linestyle=dashes, linewidth=1.4, label=f"{style.named(name)}, right")
  figure.legend(*style.entries(left, results), loc="outside lower center", ncols=4)
  return figure
