"""How sure a statistic is, and what that makes of a claim.

The unit is the network. Of several sets of networks, each of other seeds and images, Student's t interval
over their statistics says where the statistic lies; of a single one its samples do, and what is said is
said of this network. Summary verdicts of a study share one error rate by Holm's procedure, levels of a
strip by Bonferroni's.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import scipy.special
from jaxtyping import Bool, Float

from gauss_diffusion.readings import intervals, measures
from gauss_diffusion.readings.claims import claim as claims
from gauss_diffusion.readings.claims.claim import Claim
from gauss_diffusion.readings.claims.statistics import Prepared
from gauss_diffusion.readings.intervals import Interval
from gauss_diffusion.readings.measures import Reading

HOLDS, FAILS, OPEN = "holds", "does not hold", "not decided"
FEW = "too few to decide"
CANNOT_FAIL, CANNOT_HOLD = "cannot fail here", "cannot hold here"
ENOUGH = 5  # networks: of fewer a t interval is so wide, and normality so untested, that nothing is decided
CONFIDENCE = 0.95
ROUNDING = 1e-6  # of what is measured, in float32 and of order 1: the least standard error of any statistic
RESAMPLES = 2000

Sets = Sequence[list[Reading]]  # each one network of every model, in the order of the sweep


class Estimate(NamedTuple):
  """What a statistic is found to be."""

  value: Interval  # at `CONFIDENCE`, before any correction
  p: float  # two-sided, of the statistic being at the end of the region
  sigma: Float[np.ndarray, " S"] | None  # of the strip, falling
  strip: Interval | None  # simultaneous over the levels, [S]
  networks: int
  rank: float | None  # Spearman's correlation beside a slope, mean over networks


def estimate(claim: Claim, sets: Sets) -> Estimate:
  """Return a claim's statistic with its intervals.

  With two or more sets: mean and t interval over the sets' statistics. With one: the statistic of the means
  over samples, ± t times its bootstrap standard error over samples, which the ingredients share; of
  ingredients without samples nothing is known about the spread, and the interval is the whole line.

  Args:
    claim: whose statistic.
    sets: at least one; all analyses that it needs must be there.
  """
  return _estimated(claim, [claim.compute(readings) for readings in sets])


def of_models(claim: Claim, sets: Sets) -> dict[str, Estimate]:
  """Return the statistic of each model alone, by its title, where a claim's is the least over models."""
  prepared = [claim.compute(readings) for readings in sets]
  return {title: _estimated(claim, [each.models[title] for each in prepared]) for title in prepared[0].models}


def _estimated(claim: Claim, prepared: list[Prepared]) -> Estimate:
  sigma = _sigma(prepared[0])
  exact = [_evaluated(claim, each, sigma) for each in prepared]  # (summary [1], levels [S, 1])
  limit = claim.region[0] if math.isfinite(claim.region[0]) else claim.region[1]
  if len(prepared) > 1:
    summaries, freedom = np.concatenate([summary for summary, _ in exact]), len(prepared) - 1
    mean, error = summaries.mean(), summaries.std(ddof=1) / math.sqrt(len(prepared))
    levels = np.concatenate([each for _, each in exact], axis=1)
    means, errors = levels.mean(1), levels.std(1, ddof=1) / math.sqrt(len(prepared))
  else:
    num = _num_samples(prepared[0])
    drawn = _evaluated(claim, prepared[0], sigma, resampled=True)
    freedom = max(num - 1, 1)
    mean, means = exact[0][0][0], exact[0][1][:, 0]
    unbiased = math.sqrt(num / freedom)  # a bootstrap's spread is that of a variance over n
    error, errors = (
      values.std(-1) * unbiased if num > 1 else np.full(values.shape[:-1], np.inf) for values in drawn
    )
  error, errors = np.hypot(error, ROUNDING), np.hypot(errors, ROUNDING)
  width = intervals.student_quantile((1 + CONFIDENCE) / 2, freedom)
  wide = intervals.student_quantile(1 - (1 - CONFIDENCE) / 2 / max(len(means), 1), freedom)
  ranks = [_rank(claim, each, sigma) for each in prepared if each.rank]
  return Estimate(
    _around(mean, width, error),
    _p(mean - limit, error, freedom),
    sigma,
    None if sigma is None else _around(means, wide, errors),
    len(prepared),
    float(np.mean(ranks)) if ranks else None,
  )


def side(region: tuple[float, float], value: Interval) -> str:
  """Return whether all of an interval lies inside a region, all of it outside, or neither."""
  low, high = region
  if value.low > low and value.high < high:
    return HOLDS
  return FAILS if value.high <= low or value.low >= high else OPEN


def decided(claims_and_estimates: Sequence[tuple[Claim, Estimate]], error_rate: float) -> list[str]:
  """Return summary verdicts that are all right with probability 1 − `error_rate` (Holm 1979).

  Sorted by p, the k-th of m claims is decided while ``p_k ≤ error_rate/(m − k + 1)`` and all before it are.
  """
  verdicts = [OPEN] * len(claims_and_estimates)
  order = np.argsort([found.p for _, found in claims_and_estimates], kind="stable")
  for k, index in enumerate(order):
    claim, found = claims_and_estimates[index]
    if not found.p <= error_rate / (len(order) - k):
      break
    low, high = claim.region
    verdicts[index] = HOLDS if low < found.value.mean < high else FAILS
  return verdicts


def controls(claim: Claim, sets: Sets) -> dict[str, dict[str, Any]]:
  """Judge a claim on each control that has a role in it, at `CONFIDENCE`.

  Args:
    claim: what is claimed.
    sets: of the networks; their readings' `controls` take their places.

  Returns:
    control -> its role, value and verdict, or why there is none.
  """
  found: dict[str, dict[str, Any]] = {}
  for name, role in claim.controls.items():
    if not all(name in reading.controls for readings in sets for reading in readings):
      continue
    replaced = [[_in_place(claim, reading, name) for reading in readings] for readings in sets]
    why = lacking(claim, [reading for readings in replaced for reading in readings])
    if why:
      found[name] = {"role": role, "value": None, "verdict": f"not judged: {why}"}
      continue
    judged = estimate(claim, replaced)
    found[name] = {"role": role, "value": judged.value, "verdict": side(claim.region, judged.value)}
  return found


def lacking(claim: Claim, readings: list[Reading]) -> str:
  """Return which readings lack a result that the claim needs, and why; empty when none does."""
  analyses = dict.fromkeys(place.partition(".")[0] for place in claim.needs.results)
  reasons = [
    f"{reading.title}: {reading.absent.get(analysis, f'no result of {analysis}')}"
    for reading in readings
    for analysis in analyses
    if analysis not in reading.found
  ]
  return "; ".join(dict.fromkeys(reasons))


def overruled(claim: Claim, verdict: str, networks: int, found: dict[str, dict[str, Any]]) -> tuple[str, str]:
  """Return the verdict that controls and too few networks leave, and the reason where they change it."""
  passed = [name for name, row in found.items() if row["verdict"] == HOLDS]
  negative = [name for name in passed if found[name]["role"] == claims.MUST_NOT_PASS]
  failed = [
    name
    for name, row in found.items()
    if row["role"] == claims.MUST_PASS and row["value"] is not None and name not in passed
  ]
  if negative:
    return CANNOT_FAIL, f"passed by {', '.join(negative)}"
  if claim.networks and networks < ENOUGH:  # too few for a reference, too
    return FEW, f"{networks} of {ENOUGH} networks"
  if failed:
    return CANNOT_HOLD, f"not passed by {', '.join(failed)}"
  return verdict, ""


def _in_place(claim: Claim, reading: Reading, control: str) -> Reading:
  if claim.replaced and reading.entry["group"] not in claim.replaced:
    return reading
  return reading.controls[control]._replace(controls=reading.controls)


def _sigma(prepared: Prepared) -> Float[np.ndarray, " S"] | None:
  for array in prepared.ingredients:
    if not isinstance(array, np.ndarray) and "sigma" in array.dims:
      return array.sigma.to_numpy()
  return None


def _samples(array: Any, sigma: Float[np.ndarray, " S"] | None) -> Float[np.ndarray, "S n"]:
  """Return an ingredient as [level, sample]; one without levels is the same at each."""
  values = np.asarray(array, np.float64)
  if "sigma" not in getattr(array, "dims", ()):
    values = np.broadcast_to(values, (1 if sigma is None else len(sigma), *values.shape))
  return values[:, None] if values.ndim == 1 else values


def _num_samples(prepared: Prepared) -> int:
  """Return the least number of samples of an ingredient; they may count different ones: pairs, latents."""
  sigma = _sigma(prepared)
  return min(_samples(array, sigma).shape[-1] for array in prepared.ingredients)


def _evaluated(
  claim: Claim, prepared: Prepared, sigma: Float[np.ndarray, " S"] | None, *, resampled: bool = False
) -> tuple[Float[np.ndarray, " B"], Float[np.ndarray, "S B"]]:
  """Return summary and levels of a statistic: of the samples' means, or of their bootstrap means.

  One seed for all: ingredients of as many samples share their resamples.
  """
  arrays = [_samples(array, sigma) for array in prepared.ingredients]
  if resampled:
    means = np.stack([intervals.resampled_means(array, RESAMPLES, seed=0) for array in arrays])
  else:
    means = np.stack([array.mean(-1, keepdims=True) for array in arrays])
  levels = np.asarray(prepared.combine(means))  # [S, B]
  return _summary(claim, levels, sigma), levels


def _summary(
  claim: Claim, levels: Float[np.ndarray, "S B"], sigma: Float[np.ndarray, " S"] | None
) -> Float[np.ndarray, " B"]:
  inside = _inside(claim, sigma, len(levels))
  if claim.over == claims.WORST:
    return levels[inside].min(0) if math.isfinite(claim.region[0]) else levels[inside].max(0)
  return levels[inside].mean(0)


def _inside(claim: Claim, sigma: Float[np.ndarray, " S"] | None, num: int) -> Bool[np.ndarray, " S"]:
  if sigma is None or claim.band is None:
    return np.ones(num, bool)
  return measures.within(sigma, claim.band)


def _rank(claim: Claim, prepared: Prepared, sigma: Float[np.ndarray, " S"] | None) -> float:
  assert prepared.rank is not None
  arrays = [_samples(array, sigma).mean(-1) for array in prepared.ingredients]
  inside = _inside(claim, sigma, len(arrays[0]))
  return float(np.mean(prepared.rank(np.stack(arrays))[inside]))


def _around(mean: Any, width: float, error: Any) -> Interval:
  return Interval(mean, mean - width * error, mean + width * error)


def _p(distance: float, error: float, freedom: int) -> float:
  return float(2 * scipy.special.stdtr(freedom, -abs(distance) / error))
