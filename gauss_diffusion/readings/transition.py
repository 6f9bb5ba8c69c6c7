"""When a network has learned to generalize, and when it begins to copy (Bonnaire et al. 2025)."""

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from gauss_diffusion.readings import measures
from gauss_diffusion.readings.measures import Reading

NEAR_BEST = 0.05  # of the least held-out error, above it
COPIED = 0.01  # share of samples


def generalization_time(readings: list[Reading]) -> float:
  """Return τ_gen, the first step at which the held-out error is within `NEAR_BEST` of its least.

  Between two snapshots the error is taken as linear in the logarithm of the step; a run whose first snapshot
  is within already began to be at that snapshot or before.

  Args:
    readings: snapshots of one run with results of `score_gap`.
  """
  return generalized(*_curve(readings, measures.error))


def memorization_time(readings: list[Reading]) -> float:
  """Return τ_mem, the first step at which more than `COPIED` of the samples are copies; inf if none is.

  Between two snapshots the share is taken as linear in the logarithm of the step.

  Args:
    readings: snapshots of one run with results of `samples`.
  """
  return copying(*_curve(readings, measures.memorized))


def generalized(steps: Float[ArrayLike, " S"], error: Float[ArrayLike, " S"]) -> float:
  """Return `generalization_time` of held-out errors at the steps of the snapshots."""
  return first_below(steps, error, (1 + NEAR_BEST) * np.min(error))


def copying(steps: Float[ArrayLike, " S"], share: Float[ArrayLike, " S"]) -> float:
  """Return `memorization_time` of shares of copies at the steps of the snapshots."""
  return first_below(steps, -np.asarray(share), -COPIED)


def first_below(steps: Float[ArrayLike, " S"], values: Float[ArrayLike, " S"], limit: float) -> float:
  """Return where values first fall to a limit: linear in log step between snapshots, inf if never.

  Args:
    steps: of the snapshots, rising and positive.
    values: there.
    limit: to reach.
  """
  steps, values = np.asarray(steps, np.float64), np.asarray(values, np.float64)
  reached = np.flatnonzero(values <= limit)
  if not len(reached):
    return np.inf
  after = reached[0]
  if after == 0:
    return float(steps[0])
  before = after - 1
  fraction = (values[before] - limit) / (values[before] - values[after])
  return float(steps[before] * (steps[after] / steps[before]) ** fraction)


def exponent(sizes: Float[ArrayLike, " n"], times: Float[ArrayLike, " n"]) -> float:
  """Return p of the least-squares line ``ln τ = p ln N + c`` over the times that are finite.

  NaN where they are of fewer than two sizes.
  """
  sizes, times = np.asarray(sizes, np.float64), np.asarray(times, np.float64)
  finite = np.isfinite(times)
  if len(set(sizes[finite])) < 2:
    return np.nan
  x, y = np.log(sizes[finite]), np.log(times[finite])
  return float((x - x.mean()) @ (y - y.mean()) / ((x - x.mean()) @ (x - x.mean())))


def _curve(readings, measure) -> tuple[np.ndarray, np.ndarray]:
  readings = sorted(readings, key=lambda reading: reading.entry["train"]["steps"])
  steps = np.array([reading.entry["train"]["steps"] for reading in readings], np.float64)
  return steps, np.array([measure(reading).mean() for reading in readings])
