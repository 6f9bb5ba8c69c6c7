"""Networks that know one noise level each, every one at its own (Li et al. 2024, fig. 24)."""

import itertools

from matplotlib.figure import Figure

from gauss_diffusion.plots import style
from gauss_diffusion.readings import measures
from gauss_diffusion.readings.measures import Reading

TITLE = "One network for each noise level"
LOOK_FOR = (
  "Every point is another network, trained at that noise level alone, with no preconditioning that knows of "
  "noise. Left: is it as linear as one that is trained at all levels? Right: its distance to the Gaussian "
  "denoiser, solid, and to the memorizing one, dashed."
)
NEEDS = measures.Needs(
  {"linearity": (), "score_gap.pairs": (("network", "gaussian"), ("network", "multi-delta"))}
)
_DISTANCES = {"gaussian": "-", "multi-delta": "--"}


@style.talk
def draw(readings: list[Reading], sweep: str) -> Figure:
  """Draw linearity and distances of each network at the level that it was trained on, a line for each group.

  Args:
    readings: of the study; those with results of `linearity` and `score_gap` are shown.
    sweep: not used.
  """
  del sweep
  figure = style.figure(5.6)
  linear, apart = figure.subplots(1, 2)
  groups: dict[str, dict[float, list[Reading]]] = {}
  for reading in sorted(readings, key=measures.trained_on):
    if {"linearity", "score_gap"} <= set(reading.found):
      own = groups.setdefault(reading.entry["group"], {})
      own.setdefault(measures.trained_on(reading)[0], []).append(reading)
  for color, (group, levels) in zip(itertools.cycle(style.CATEGORIES), groups.items()):
    look = {"color": color, "marker": "o"}
    scores = [[measures.linearity(one, measures.trained_on(one)) for one in own] for own in levels.values()]
    style.points(linear, list(levels), scores, label=group, **look)
    for other, dash in _DISTANCES.items():
      gaps = [
        [measures.gap(one, "network", other, measures.trained_on(one)) for one in own]
        for own in levels.values()
      ]
      style.points(
        apart, list(levels), gaps, linestyle=dash, label=f"{group} to {style.named(other)}", **look
      )
  linear.set(title="How linear?", ylabel="linearity score")
  apart.set(title="Gaussian or memorizer?", ylabel="RMSE")
  for axis in (linear, apart):
    style.sigma_axis(axis)
  entries = [axis.get_legend_handles_labels() for axis in (linear, apart)]
  handles, labels = ([*one, *two] for one, two in zip(*entries))
  # A column for each group: its linearity, then its distances.
  order = sorted(
    range(len(labels)), key=lambda i: i if i < len(groups) else (i - len(groups)) // len(_DISTANCES)
  )
  figure.legend(
    [handles[i] for i in order],
    [labels[i] for i in order],
    loc="outside lower center",
    ncols=max(len(groups), 1),
  )
  return figure
