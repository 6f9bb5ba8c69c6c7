"""What the paper claims, each as a statistic of a study's results that can turn out either way.

A claim names the region in which its statistic must lie, the noise levels that its verdict is of, and the
controls of which it is known beforehand what it must say: a *negative* one must not pass it, a *reference*
must. A claim that a negative control passes cannot fail, and says nothing of a network that passes it too;
the table says so in place of a verdict, and has beside it the claim that was put in its place.

To add a claim, add an entry to one of the tables; there is one table a study.
"""

from collections.abc import Iterable
from typing import Any

from gauss_diffusion.readings import measures
from gauss_diffusion.readings.claims import (
  architectures,
  halves,
  input_law,
  noise_law,
  perturbation,
  size,
  structure,
  time,
  transition,
  verdicts,
  width,
)
from gauss_diffusion.readings.claims.claim import Claim, holds_if
from gauss_diffusion.readings.measures import Reading

TABLES = (
  size,
  structure,
  width,
  time,
  halves,
  architectures,
  perturbation,
  input_law,
  noise_law,
  transition,
)  # one a study
ERROR_RATE = 0.05  # of the whole table: probability that any of its verdicts on one data set is wrong


def merged(tables: Iterable[dict[str, Claim]]) -> dict[str, Claim]:
  """Return the claims of all tables, in their order.

  Raises:
    ValueError: when two tables have a claim of the same name, or a claim is put in place of one that is none.
  """
  claims = {}
  for table in tables:
    for name, claim in table.items():
      if name in claims:
        raise ValueError(f"two tables of claims have {name!r}; want a name of its own for each claim")
      claims[name] = claim
  for name, claim in claims.items():
    if claim.instead_of and claim.instead_of not in claims:
      raise ValueError(f"the claim {name!r} is put in place of {claim.instead_of!r}, which is no claim")
  return claims


CLAIMS = merged(table.CLAIMS for table in TABLES)


def judge(names: Iterable[str], readings: list[Reading], sweep: str) -> list[dict[str, Any]]:
  """Return one row per claim: statement, figure, statistic, value and interval, verdict, strip, controls.

  A claim that needs an analysis which one of the readings lacks is not decided: its row has no value, and
  says ``why``. A study has of `ERROR_RATE` the share of its claims among all, so that the table of all
  studies keeps to it.

  Args:
    names: keys of `CLAIMS`.
    readings: of the study, of each model as many as it has networks.
    sweep: what changes along it, one of `measures.SWEEPS`, or empty: then in the order given.
  """
  names = list(names)
  sets = replicates(readings, sweep)
  why = {name: verdicts.lacking(CLAIMS[name], readings) for name in names}
  found = {name: verdicts.estimate(CLAIMS[name], sets) for name in names if not why[name]}
  judged = [(CLAIMS[name], each) for name, each in found.items()]
  summary = dict(zip(found, verdicts.decided(judged, ERROR_RATE * len(names) / len(CLAIMS))))
  return [_row(name, why[name], found.get(name), summary.get(name, ""), sets) for name in names]


def replicates(readings: list[Reading], sweep: str) -> list[list[Reading]]:
  """Return sets of one network of every model, each in the order of the sweep."""
  sets: dict[int, list[Reading]] = {}
  for reading in readings:
    sets.setdefault(reading.replicate, []).append(reading)
  if sweep:
    for one in sets.values():
      one.sort(key=lambda reading: measures.position(reading, sweep))
  return list(sets.values())


def _row(
  name: str, why: str, found: verdicts.Estimate | None, verdict: str, sets: list[list[Reading]]
) -> dict[str, Any]:
  claim = CLAIMS[name]
  row: dict[str, Any] = {
    "name": name,
    "claim": claim.statement,
    "in the paper": claim.source,
    "statistic": claim.statistic,
    "holds if": holds_if(claim),
    "instead of": claim.instead_of,
  }
  if found is None:
    return row | {
      "value": None,
      "verdict": verdicts.OPEN,
      "why": why,
      "controls": {},
      "strip": None,
      "models": {},
    }
  controls = verdicts.controls(claim, sets)
  verdict, why = verdicts.overruled(claim, verdict, found.networks, controls)
  models = {
    title: {
      "value": each.value,
      "verdict": verdicts.side(claim.region, each.value),
      "strip": _strip(claim, each),
    }
    for title, each in verdicts.of_models(claim, sets).items()
  }
  return row | {
    "value": found.value,
    "p": found.p,
    "rank correlation": found.rank,
    "networks": found.networks,
    "of": "networks" if claim.networks else "this network",
    "verdict": verdict,
    "why": why,
    "controls": controls,
    "strip": _strip(claim, found),
    "models": models,
  }


def _strip(claim: Claim, found: verdicts.Estimate) -> dict[str, Any] | None:
  if found.sigma is None or found.strip is None:
    return None
  levels = [verdicts.Interval(*ends) for ends in zip(*found.strip)]
  judged = [verdicts.side(claim.region, level) for level in levels]
  return {"sigma": found.sigma, "value": levels, "verdict": judged}
