"""Claims about size and time of training together: `configs/transition.py`."""

import numpy as np

from gauss_diffusion.readings import measures, transition
from gauss_diffusion.readings.claims.claim import NOTHING_LEARNED, POSITIVE, Claim
from gauss_diffusion.readings.claims.statistics import Means, Prepared
from gauss_diffusion.readings.measures import MIDDLE, Needs, Reading, spelled


def copies_wait(readings: list[Reading]) -> Prepared:
  """Return the exponent of τ_mem in N minus that of τ_gen; 0 where fewer than two sizes have both."""
  runs: dict[int, list[Reading]] = {}
  for reading in readings:
    runs.setdefault(reading.entry["size"], []).append(reading)
  for run in runs.values():
    run.sort(key=lambda reading: reading.entry["train"]["steps"])
  ordered = [reading for run in runs.values() for reading in run]
  errors, copies = (
    [measure(reading) for reading in ordered] for measure in (measures.error, measures.memorized)
  )
  steps = [np.array([reading.entry["train"]["steps"] for reading in run], float) for run in runs.values()]
  ends = np.cumsum([len(each) for each in steps])[:-1]

  def one(error: np.ndarray, share: np.ndarray) -> float:
    curves = list(zip(steps, np.split(error, ends), np.split(share, ends)))
    times = np.array(
      [(transition.generalized(*curve[:2]), transition.copying(curve[0], curve[2])) for curve in curves]
    )
    sizes, reached = np.array(list(runs), float), np.isfinite(times).all(1)
    if reached.sum() < 2:
      return 0.0
    general, memory = (transition.exponent(sizes[reached], times[reached, i]) for i in (0, 1))
    return memory - general

  def combine(means: Means) -> np.ndarray:
    error, share = np.split(means.reshape(len(means), -1), 2)
    return np.array([one(*each) for each in zip(error.T, share.T)]).reshape(means.shape[1:])

  return Prepared(errors + copies, combine)


CLAIMS = {
  "copies wait": Claim(
    "The more images, the longer a network draws pictures of its own before it copies",
    "none: Bonnaire et al. 2025",
    f"exponent of τ_mem in N minus that of τ_gen: first step with more than {transition.COPIED:.0%} copies, "
    f"first within {transition.NEAR_BEST:.0%} of the least held-out error, {spelled(MIDDLE)}",
    POSITIVE,
    Needs({"samples.denoisers": ("network",), "score_gap": ()}),
    copies_wait,
    NOTHING_LEARNED,
    networks=False,
  ),
}
