"""What the paper claims, each as a statistic of a study's results that can turn out either way.

A claim names the interval in which its statistic must lie. With the statistic's 95 % bootstrap interval over
samples (images, pairs or latents, which all readings share) it *holds* when all of that lies inside, *does
not hold* when all of it lies outside, and is *not decided* otherwise. Networks are not resampled: what is
said is said of the networks of this study. What rises or falls along a sweep must do so with a rank
correlation beyond ± `claim.TREND`: of a handful of networks, less means little.

To add a claim, add an entry to one of the tables; there is one table a study.
"""

from collections.abc import Iterable
from typing import Any

from gauss_diffusion.readings import measures
from gauss_diffusion.readings.claims import (
  architectures,
  halves,
  input_law,
  perturbation,
  size,
  structure,
  time,
  width,
)
from gauss_diffusion.readings.claims.claim import NOT_DECIDED, Claim, holds_if, verdict
from gauss_diffusion.readings.measures import Reading


def merged(tables: Iterable[dict[str, Claim]]) -> dict[str, Claim]:
  """Return the claims of all tables, in their order.

  Raises:
    ValueError: when two tables have a claim of the same name.
  """
  claims = {}
  for table in tables:
    for name, claim in table.items():
      if name in claims:
        raise ValueError(f"two tables of claims have {name!r}; want a name of its own for each claim")
      claims[name] = claim
  return claims


CLAIMS = merged(
  study.CLAIMS for study in (size, structure, width, time, halves, architectures, perturbation, input_law)
)


def judge(names: Iterable[str], readings: list[Reading], sweep: str) -> list[dict[str, Any]]:
  """Return one row per claim: statement, figure, statistic, its value and interval, verdict.

  A claim that needs an analysis which one of the readings lacks is not decided: its row has no value, and
  says ``why``.

  Args:
    names: keys of `CLAIMS`.
    readings: of the study.
    sweep: what changes along it, one of `measures.SWEEPS`, or empty: then in the order given.
  """
  if sweep:
    readings = sorted(readings, key=lambda reading: measures.position(reading, sweep))
  return [_row(CLAIMS[name], readings) for name in names]


def _row(claim: Claim, readings: list[Reading]) -> dict[str, Any]:
  row = {
    "claim": claim.statement,
    "in the paper": claim.source,
    "statistic": claim.statistic,
    "holds if": holds_if(claim),
  }
  why = _lacking(claim, readings)
  if why:
    return row | {"value": None, "verdict": NOT_DECIDED, "why": why}
  value = claim.compute(readings)
  return row | {"value": tuple(map(float, value)), "verdict": verdict(claim, value)}


def _lacking(claim: Claim, readings: list[Reading]) -> str:
  """Return which readings lack a result that the claim needs, and why; empty when none does."""
  analyses = [place.partition(".")[0] for place in claim.needs.results]
  reasons = [
    f"{reading.title}: {reading.absent[analysis]}"
    for reading in readings
    for analysis in analyses
    if analysis in reading.absent
  ]
  return "; ".join(dict.fromkeys(reasons))
