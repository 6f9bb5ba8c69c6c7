"""What starting late, at the Gaussian solution, does to samples and how many calls it saves."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gauss_diffusion.plots import numbers, style
from gauss_diffusion.readings.ratios import ratio

EQUAL = 0.05  # what a start may add to the full run's error at equal quality
TITLE = "How much of the way to an image is the Gaussian's?"
LOOK_FOR = (
  "The sampler starts at a lower noise level, at the state to which the exact flow of the Gaussian denoiser "
  "leads from the same noise. Left, how far its sample then lies from that of a much finer run, over the "
  "distance of the sampler's own full run: as long as a solid curve stays near 1, the calls saved are free; "
  f"the circle is the last start that adds at most {EQUAL:.0%}. Dashed, as many calls on fewer levels, "
  "without the Gaussian: the room between is what the Gaussian solution is worth. Right, how far the sample "
  "moves from the full run's: where it begins to, the network leaves the Gaussian. Below, samples from the "
  "same noise."
)
_COLUMNS = {1: 9, 2: 4}  # sheets side by side -> starts shown on each
_ROWS = 3  # latents shown
_DASHES = {"teleported": "-", "fewer levels": (0, (3, 1.5))}


@style.talk
def draw(results: style.Results) -> Figure:
  """Draw errors against calls saved, changes against the level of the start, and samples.

  Args:
    results: model's title -> what the analysis `teleportation` found of each of its networks.
  """
  shown = style.spread(results, 2)
  figure = style.figure(8.4)
  top, bottom = figure.subfigures(2, 1, height_ratios=(4.6, 3.8), squeeze=False)[:, 0]
  left, right = top.subplots(1, 2)
  colors = style.model_colors(results)
  for label, networks in results.items():
    saved, name = networks[0].saved.to_numpy(), label
    for start, dashes in _DASHES.items():
      errors = [ratio(found.error.sel(start=start), found.full_error) for found in networks]
      line = {"color": colors[label], "linestyle": dashes}
      if not np.isfinite(errors).all():  # a memorizer may reach its training image whatever the steps
        left.plot([], [], color=colors[label], label=label if start == "teleported" else None)
        continue
      if start == "teleported":
        free = _free(style.interval(errors).mean)
        line["label"] = name = f"{label}: {saved[free]} saved"
        mark = {"gid": name, "markersize": 9, "markerfacecolor": "white", "markeredgewidth": 2, "zorder": 4}
        left.plot(saved[free], style.interval(errors).mean[free], "o", color=colors[label], **mark)
      else:
        line |= {"gid": name, "linewidth": 1.4}
      style.curve(left, saved, errors, **line)
    changes = [found.change.sel(start="teleported").isel(sigma=slice(1, None)) for found in networks]
    style.curve(right, networks[0].sigma[1:], changes, color=colors[label], gid=name)
  left.axhline(1, color="0.35", linestyle=":", linewidth=1.4, zorder=1)
  left.set(title="Error, over the full run's", ylabel="distance to the fine run, relative", yscale="log")
  left.set_xlabel(f"calls of the denoiser saved, of {networks[0].calls.item()}")
  style.plain_log(left.yaxis)
  right.set(title="Distance to the full run's sample", ylabel=f"RMSE  ({style.unit(results)})")
  right.set_ylim(bottom=0)
  style.sigma_axis(right)
  right.set_xlabel("noise level σ of the start")
  for name, dashes in _DASHES.items():
    left.plot([], [], color="0.35", linestyle=dashes, linewidth=1.6, label=name)
  top.legend(*style.entries(left, results), loc="outside right upper")
  for axis, label in zip(bottom.subplots(1, len(shown), squeeze=False)[0], shown):
    _draw_samples(axis, results[label][0], _COLUMNS[len(shown)])
    axis.set_title(f"{label}: samples by the level of the start", pad=24)
  style.note(figure, [networks[0] for networks in results.values()])
  return figure


def _free(errors: np.ndarray) -> int:
  """Return the last start that, like all before it, is of the full run's quality; errors are relative."""
  worse = np.flatnonzero(errors > 1 + EQUAL)
  return int(worse[0] if len(worse) else len(errors)) - 1


def _draw_samples(axis: Axes, found, columns: int) -> None:
  """Show a latent a row: the fine run's sample, the full run's, and teleported ones."""
  starts = style.spread(range(found.sizes["sigma"]), columns + 1)
  samples = style.pictures(found, "samples").sel(start="teleported").isel(sigma=starts)
  images = np.concatenate([style.pictures(found, "fine").to_numpy()[None], samples.to_numpy()])[:, :_ROWS]
  levels = [f"{sigma:.2g}" for sigma in samples.sigma.to_numpy()[1:]]
  pages, headings = np.swapaxes(images, 0, 1), ["fine", "full", *levels]
  style.sheet(axis, pages, [""] * len(pages), headings, apart=None)
  latents = [str(i + 1) for i in range(len(pages))]
  said = "RMSE to the fine run, pixels in [−1, 1]"
  numbers.tabulate(axis, "start", said, headings, latents, numbers.apart(images, images[0]))
  axis.xaxis.tick_top()
