"""What networks are made of: ideal denoisers, what networks share beyond them, and what each has alone."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import ArrayLike

from gauss_diffusion import edm
from gauss_diffusion.plots import style
from gauss_diffusion.readings import explained, projection
from gauss_diffusion.readings.headline import SIGMA

TITLE = "What is the network made of?"
LOOK_FOR = (
  "Top, for each model: all that the raw network says of noisy held-out images beyond their mean. Colours "
  "are what ideal denoisers of its own training images explain of that energy, fitted on one half of the "
  "images and read on the other. Where several explain the same they share the credit (Shapley): at high "
  "noise, where they are one, all have as much. Below 0 one explains less than nothing. Points are what "
  "they explain together. Grey is what they leave: dark, what networks of the same recipe have in common "
  "whatever their seed, be it knowledge or a common error; light, what each has alone. The bars reach from "
  "what is lost without a denoiser to what it explains alone, with a point at its share. Bottom: the "
  "energy itself, small where a network says little; what all explain together on noisy training images, "
  "on held-out ones and on states that the sampler visits; how that differs from image to image; and which "
  "part of each principal component they leave."
)
_MOST = 4  # models side by side
_REMAINS = {explained.SHARED: "0.5", explained.OWN: "0.85", explained.REST: "0.7"}
_DASHES: dict[str, Any] = {"held-out": "-", "train": (0, (5, 1.5)), "trajectory": (0, (1.2, 1.2))}
_LEAST, _LEFT, _FAINT = -0.25, 1.5, 1e-2  # the least share, the largest remainder and the least λ/σ² shown


@style.talk
def draw(results: style.Results) -> Figure:
  """Draw the shares over sigma, a panel for each model; below, credit, inputs, images and components.

  Args:
    results: model's title -> what the analysis `explained` found of each of its networks.
  """
  sigma = next(iter(results.values()))[0].sigma.to_numpy()
  level = edm.nearest(sigma, SIGMA)
  at = f"σ = {sigma[level]:.2g}"
  figure = style.figure(9.6)
  top, bottom = figure.subfigures(2, 1, height_ratios=(1.7, 1), squeeze=False)[:, 0]
  shown = style.spread(results, _MOST)
  axes = top.subplots(2, len(shown), sharex="row", sharey="row", squeeze=False, height_ratios=(4, 1))
  for title, parts, credit in zip(shown, *axes):
    _draw_parts(parts, results[title])
    _draw_credit(credit, results[title], level)
    parts.set_title(title)
    credit.set_xlabel(f"last in to first in, {at}")
  axes[0, 0].set_ylabel("share of the output's energy")
  handles, labels = style.entries(axes[0, 0], results, bars=True)
  top.legend(handles[::-1], labels[::-1], loc="outside right upper")

  energy, inputs, images, components = bottom.subplots(1, 4)
  for (title, networks), color in zip(results.items(), style.model_colors(results).values()):
    style.curve(energy, sigma, [explained.energy(found) for found in networks], color=color, gid=title)
    _draw_inputs(inputs, networks, color=color, gid=title)
    each = np.sort(np.mean([explained.of_images(found)[level] for found in networks], axis=0))
    images.plot(each, (np.arange(len(each)) + 0.5) / len(each), color=color, gid=title)
    left = [explained.of_components(found)[level] for found in networks]
    place = np.mean([found.eigenvalues for found in networks], axis=0) / sigma[level] ** 2
    style.curve(components, place, left, color=color, marker="o", markersize=4, label=title)
  energy.set(title="Energy of the output", ylabel="per pixel, raw network")
  energy.set_ylim(bottom=0)
  style.sigma_axis(energy)
  inputs.set(title="Explained together", ylabel="share of the energy")
  inputs.set_ylim(max(inputs.get_ylim()[0], _LEAST), 1)
  style.sigma_axis(inputs)
  images.set(title="Image by image", xlabel=f"explained, {at}", ylabel="share of images")
  components.set(title="Along components", xlabel=f"λ / σ², {at}", ylabel="share that is left")
  images.set_xlim(max(images.get_xlim()[0], _LEAST), 1)
  components.set_xscale("log")
  components.set_xlim(left=max(components.get_xlim()[0], _FAINT))
  components.set_ylim(0, min(components.get_ylim()[1], _LEFT))
  style.plain_log(components.xaxis)
  handles, labels = components.get_legend_handles_labels()
  handles += [Line2D([], [], color="0.3", linestyle=dash) for dash in _DASHES.values()]
  bottom.legend(handles, [*labels, *_DASHES], loc="outside lower center", ncols=7)
  return figure


def _draw_parts(axis: Axes, networks: Sequence) -> None:
  """Stack the shares, those below 0 downwards, and draw what the ideal denoisers explain together."""
  sigma = networks[0].sigma.to_numpy()
  parts = explained.parts(networks)
  families = explained.families(networks[0])
  colors = style.denoiser_colors(families) | _REMAINS
  above, below = np.zeros((2, len(sigma)))
  for name in parts[0]:
    share = np.mean([part[name].mean(-1) for part in parts], axis=0)
    up, down = above + np.maximum(share, 0), below + np.minimum(share, 0)
    axis.fill_between(sigma, above, up, color=colors[name], linewidth=0, label=style.named(name))
    axis.fill_between(sigma, down, below, color=colors[name], linewidth=0)
    axis.plot(sigma, up, color="white", linewidth=0.8)
    above, below = up, down
  together = [explained.together(found) for found in networks]
  line = {"color": style.BLACK, "marker": "o", "markersize": 4, "linewidth": 1.2}
  style.points(axis, sigma, _by_level(together), label="explained together", **line)
  axis.axhline(0, color="0.35", linewidth=0.8)
  style.sigma_axis(axis)
  axis.margins(x=0.02, y=0.02)


def _draw_credit(axis: Axes, networks: Sequence, level: int) -> None:
  """Draw each denoiser's credit at a level: a bar from last in to first in, a point at its share."""
  subsets = np.mean([explained.subsets(found)[:, level].mean(-1) for found in networks], axis=0)
  colors = style.denoiser_colors(explained.families(networks[0])).values()
  measures = projection.last_in(subsets), projection.first_in(subsets), projection.shapley(subsets)
  for i, (color, last, first, share) in enumerate(zip(colors, *measures)):
    axis.plot([last, first], [i, i], color=color, linewidth=5, alpha=0.4, solid_capstyle="butt")
    axis.plot(share, i, "o", color=color, markersize=6)
  axis.axvline(0, color="0.35", linewidth=0.8)
  axis.set_yticks([])
  axis.set_ylim(-0.7, len(colors) - 0.3)


def _draw_inputs(axis: Axes, networks: Sequence, **line: Any) -> None:
  """Draw what the ideal denoisers explain together on each law of inputs, with intervals on held-out ones."""
  sigma = networks[0].sigma.to_numpy()
  for law, dash in _DASHES.items():
    values = [explained.together(found, law) for found in networks]
    if law == "held-out":
      style.curve(axis, sigma, values, **line)
    else:
      axis.plot(sigma, np.mean([each.mean(-1) for each in values], axis=0), linestyle=dash, **line)


def _by_level(values: Sequence[ArrayLike]) -> list[list[np.ndarray]]:
  """Return arrays [S, n] of networks as `style.points` wants them: for each level those of each network."""
  return [[np.asarray(each)[s] for each in values] for s in range(len(np.asarray(values[0])))]
