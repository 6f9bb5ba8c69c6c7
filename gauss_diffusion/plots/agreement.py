"""Do networks trained on disjoint halves of the data draw the same pictures from the same noise?"""

import numpy as np
from matplotlib.figure import Figure

from gauss_diffusion.plots import style
from gauss_diffusion.readings import measures
from gauss_diffusion.readings.measures import Reading

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
def draw(readings: list[Reading], sweep: str) -> Figure:
  """Draw samples of each pair of readings and how far they lie apart.

  Args:
    readings: of the study; each of the `measures.halves` of one replicate is a pair, left out where either
      lacks `samples`.
    sweep: not used.
  """
  del sweep
  pairs = _pairs([reading for reading in readings if "samples" in reading.found])
  columns, rows = 2, max(1, -(-len(pairs) // 2))
  figure = style.figure(2.6 + 3.3 * rows)
  top, bottom = figure.subfigures(2, 1, height_ratios=(3.3 * rows, 2.6), squeeze=False)[:, 0]
  axes = top.subplots(rows, columns, squeeze=False)
  for axis, (pair, *_) in zip(axes.flat, pairs.values()):
    shown = [(denoiser, part) for denoiser in ("network", "gaussian") for part in (0, 1)]
    images = [_pictures(pair[part], denoiser) for denoiser, part in shown]
    labels = [f"{style.named(denoiser)} {part + 1}" for denoiser, part in shown]
    style.sheet(axis, np.stack(images), labels, [""] * len(images[0]))
    axis.set_title(_title(pair))
  for axis in axes.flat[len(pairs) :]:
    axis.set_axis_off()

  axis = bottom.subplots()
  height = 0.26
  place = np.arange(len(pairs))
  for b, (name, (one, other, color)) in enumerate(_BARS.items()):
    values = [style.interval([measures.apart(pair, one, other) for pair in each]) for each in pairs.values()]
    means = np.array([value.mean for value in values])
    ends = np.reshape([(value.mean - value.low, value.high - value.mean) for value in values], (-1, 2)).T
    axis.barh(place + (b - 1) * height, means, height, color=color, label=name, xerr=ends, ecolor="0.25")
  axis.set_yticks(place, [_title(pair) for pair, *_ in pairs.values()])
  axis.invert_yaxis()
  axis.grid(axis="y", visible=False)
  axis.set_xlim(0, max(1.05, axis.get_xlim()[1]))
  axis.axvline(1, color="0.35", linestyle="--", linewidth=1.4)
  axis.set_xlabel("distance of samples from the same noise  (1 = unrelated)")
  alone = all(len(each) == 1 for each in pairs.values())
  keys = style.entries(axis, pairs, bars=True, images=alone, unit="pairs")
  bottom.legend(*keys, loc="outside right upper")
  style.note(figure, [one.found["samples"] for pair, *_ in pairs.values() for one in pair])
  return figure


def _pairs(readings: list[Reading]) -> dict[str, list[tuple[Reading, Reading]]]:
  """Return a group -> its pairs, one of each replicate that has both halves."""
  pairs: dict[str, list[tuple[Reading, Reading]]] = {}
  for replicate in sorted({reading.replicate for reading in readings}):
    for name, pair in measures.halves([one for one in readings if one.replicate == replicate]).items():
      pairs.setdefault(name, []).append(pair)
  return pairs


def _pictures(reading: Reading, denoiser: str) -> np.ndarray:
  pictures = style.pictures(reading.found["samples"], "samples")
  return pictures.sel(denoiser=denoiser).isel(sample=slice(_COLUMNS)).to_numpy()


def _title(pair: tuple[Reading, Reading]) -> str:
  return pair[0].title.rsplit(",", 1)[0]
