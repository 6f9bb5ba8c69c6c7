"""From generalizing to copying: size of the training set times steps of training (Bonnaire et al. 2025)."""

from collections.abc import Callable

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from gauss_diffusion.plots import numbers, style
from gauss_diffusion.readings import measures, transition
from gauss_diffusion.readings.measures import MIDDLE, Reading, Values, spelled

TITLE = "When copies begin"
LOOK_FOR = (
  "Each row is a training set, each column a snapshot of the network trained on it. The error on held-out "
  f"images has come within {transition.NEAR_BEST:.0%} of its least at τ_gen, and more than "
  f"{transition.COPIED:.0%} of the samples are copies from τ_mem on. If τ_gen stays while τ_mem grows, "
  "large sets leave a window in which training may stop at any time. The GL score is in units of that of "
  "held-out images, which falls too when the training set grows denser: at 1 samples lie as far from it as "
  "new images do."
)
NEEDS = measures.Needs({"score_gap": (), "samples.denoisers": ("network",)})
# Title and name of the colour bar -> its measure.
_MAPS: dict[tuple[str, str], Callable[[Reading], Values]] = {
  ("Error on held-out images", f"RMSE, {spelled(MIDDLE)}"): measures.error,
  ("Copies of training images", "memorized share"): measures.memorized,
  ("Distance to the training images", "relative GL score"): measures.relative_gl,
}
_TIMES: dict[str, tuple[Callable[[list[Reading]], float], str, str]] = {
  r"\tau_\mathrm{gen}": (transition.generalization_time, style.BLACK, "o"),
  r"\tau_\mathrm{mem}": (transition.memorization_time, style.VERMILLION, "s"),
}
_COLORS = ListedColormap(mpl.colormaps["Blues"](np.linspace(0.05, 0.75, 256)))  # lines stay visible on it


@style.talk
def draw(readings: list[Reading], sweep: str) -> Figure:
  """Draw three measures over size and steps with both times, and the times against the size.

  Args:
    readings: of the study; networks with results of `score_gap` and `samples` are shown, untrained ones left
      out. Those of one size and replicate are snapshots of one run.
    sweep: not used.
  """
  del sweep
  figure = style.figure(7.6)
  *maps, last = figure.subplots(2, 2).flat
  shown = [reading for reading in readings if _is_snapshot(reading)]
  times = {name: _times(shown, time) for name, (time, _, _) in _TIMES.items()}
  for axis, ((title, unit), measure) in zip(maps, _MAPS.items()):
    axis.set_title(title)
    if shown:
      _map(axis, shown, measure, unit)
    for name, (_, color, marker) in _TIMES.items():
      mean = _over_networks(times[name])
      axis.plot(list(mean.values()), list(mean), color=color, marker=marker, markersize=5)
  for name, (_, color, marker) in _TIMES.items():
    sizes, found = [size for size, _ in times[name]], list(times[name].values())
    last.plot(
      sizes, np.where(np.isfinite(found), found, np.nan), color=color, marker=marker, linestyle="none"
    )
    mean, power = _over_networks(times[name]), transition.exponent(sizes, found)
    label = f"${name}$" if np.isnan(power) else rf"${name} \propto N^{{{power:.2f}}}$"
    last.plot(list(mean), list(mean.values()), color=color, marker=marker, label=label)
  last.set(title="When?", xlabel="training images N", ylabel="steps")
  last.legend()
  if shown:
    _log_axis(last, "x", [reading.entry["size"] for reading in shown])
    _log_axis(last, "y", [reading.entry["train"]["steps"] for reading in shown])
  return figure


def _is_snapshot(reading: Reading) -> bool:
  trained = bool(reading.entry["network"]) and reading.entry["train"]["steps"] > 0
  return trained and {"score_gap", "samples"} <= set(reading.found)


def _times(readings: list[Reading], time: Callable[[list[Reading]], float]) -> dict[tuple[int, int], float]:
  """Return size and replicate -> the time of that run."""
  runs: dict[tuple[int, int], list[Reading]] = {}
  for reading in sorted(readings, key=lambda reading: reading.entry["size"]):
    runs.setdefault((reading.entry["size"], reading.replicate), []).append(reading)
  return {run: time(snapshots) for run, snapshots in runs.items()}


def _over_networks(times: dict[tuple[int, int], float]) -> dict[int, float]:
  """Return size -> the geometric mean over its runs, of sizes that have reached it in all of them."""
  sizes = dict.fromkeys(size for size, _ in times)
  mean = {size: np.exp(np.mean([np.log(t) for (n, _), t in times.items() if n == size])) for size in sizes}
  return {size: float(time) for size, time in mean.items() if np.isfinite(time)}


def _map(axis: Axes, readings: list[Reading], measure: Callable[[Reading], Values], unit: str) -> None:
  """Colour the cells of size times steps by a measure's mean; those without a network stay white."""
  sizes = sorted({reading.entry["size"] for reading in readings})
  steps = sorted({reading.entry["train"]["steps"] for reading in readings})
  cells: dict[tuple[int, int], list[float]] = {}
  for reading in readings:
    place = sizes.index(reading.entry["size"]), steps.index(reading.entry["train"]["steps"])
    cells.setdefault(place, []).append(measure(reading).mean())
  values = np.full((len(sizes), len(steps)), np.nan)
  for place, found in cells.items():
    values[place] = np.mean(found)
  axis.grid(False)
  axis.set(xlabel="steps", ylabel="training images N")
  mesh = axis.pcolormesh(_edges(steps), _edges(sizes), values, cmap=_COLORS)
  axis.figure.colorbar(mesh, ax=axis, label=unit)
  numbers.tabulate(
    axis, "training images N", f"{unit}, by steps", list(map(str, sizes)), list(map(str, steps)), values
  )
  _log_axis(axis, "x", steps)
  _log_axis(axis, "y", sizes)


def _log_axis(axis: Axes, name: str, values: list[int]) -> None:
  """Make an axis logarithmic, as long as the cells of the given values, a few of which it shows."""
  values = sorted(set(values))
  axis.set(**{f"{name}scale": "log", f"{name}lim": _edges(values)[[0, -1]]})
  ticks, side = style.spread(values, 6), {"x": axis.xaxis, "y": axis.yaxis}[name]
  side.set_ticks(ticks, [style.count(tick) for tick in ticks])
  side.minorticks_off()


def _edges(values: list[int]) -> np.ndarray:
  """Return the edges of cells about some values, halfway between neighbours on a logarithmic scale."""
  logs = np.log(values)
  half = np.diff(logs) / 2 if len(logs) > 1 else np.log([2.0]) / 2
  inner = logs[:-1] + half[: len(logs) - 1]
  return np.exp([logs[0] - half[0], *inner, logs[-1] + half[-1]])
