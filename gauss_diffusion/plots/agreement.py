"""Do networks trained on disjoint halves of the data draw the same pictures from the same noise?"""

import numpy as np

from gauss_diffusion.plots import style
from gauss_diffusion.readings import intervals, measures

TITLE = "Same noise, disjoint training sets"
LOOK_FOR = (
  "Each column starts from one noise; each pair of rows comes from two models that share no training image. "
  "Networks of large halves draw the same pictures, networks of small ones their own training images; the "
  "Gaussian denoisers of even the small halves agree. Stopping early, or a narrow network, brings the "
  "networks of small halves back together. The bars give the distance between the two networks' samples, "
  "from both networks' to both Gaussians', and between the Gaussians', in units of the distance between "
  "samples from different noise: 0 for the same picture, 1 for unrelated ones."
)
NEEDS = measures.Needs({"samples.denoisers": ("network", "gaussian")}, paired=True)
_COLUMNS = 7
_BARS = {
  "network to network": ("network", "network", style.ORANGE),
  "network to Gaussian": ("network", "gaussian", style.GREEN),
  "Gaussian to Gaussian": ("gaussian", "gaussian", style.BLUE),
}


@style.talk
def draw(models: list, sweep: str):
  """Draw samples of each pair of models and how far they lie apart.

  Args:
    models: `measures.Model`s with results of `samples`; each of their `measures.halves` is a pair.
    sweep: not used.
  """
  del sweep
  pairs = measures.halves(models)
  columns = 2
  rows = -(-len(pairs) // columns)
  figure = style.figure(2.6 + 3.3 * rows)
  top, bottom = figure.subfigures(2, 1, height_ratios=(3.3 * rows, 2.6))
  axes = top.subplots(rows, columns, squeeze=False)
  for axis, (name, pair) in zip(axes.flat, pairs.items()):
    names = list(pair[0].found["samples"]["denoiser"])
    shown = [(d, m) for d in ("network", "gaussian") for m in pair]
    images = np.stack([m.found["samples"]["samples"][names.index(d)][:_COLUMNS] for d, m in shown])
    labels = [f"{style.named(d)} {i + 1}" for d in ("network", "gaussian") for i in range(2)]
    style.sheet(axis, images, labels, [""] * images.shape[1])
    axis.set_title(pair[0].title.rsplit(",", 1)[0])
  for axis in axes.flat[len(pairs) :]:
    axis.set_axis_off()

  axis = bottom.subplots()
  height = 0.26
  place = np.arange(len(pairs))
  for b, (name, (one, other, color)) in enumerate(_BARS.items()):
    values = [intervals.bootstrap_mean(measures.apart(pair, one, other)) for pair in pairs.values()]
    means = np.array([value.mean for value in values])
    ends = np.array([(value.mean - value.low, value.high - value.mean) for value in values]).T
    axis.barh(place + (b - 1) * height, means, height, color=color, label=name, xerr=ends, ecolor="0.25")
  axis.set_yticks(place, [pair[0].title.rsplit(",", 1)[0] for pair in pairs.values()])
  axis.invert_yaxis()
  axis.grid(axis="y", visible=False)
  axis.set_xlim(0, max(1.05, axis.get_xlim()[1]))
  axis.axvline(1, color="0.35", linestyle="--", linewidth=1.4)
  axis.set_xlabel("distance of samples from the same noise  (1 = unrelated)")
  bottom.legend(*axis.get_legend_handles_labels(), loc="outside right upper")
  return figure
