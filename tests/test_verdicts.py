"""How sure a statistic is: against SciPy, brute force, and statistics that are made up."""

import itertools
import math

import numpy as np
import pytest
import scipy.stats

from gauss_diffusion import results
from gauss_diffusion.readings.claims import statistics, verdicts
from gauss_diffusion.readings.claims.claim import (
  MEAN,
  MUST_NOT_PASS,
  MUST_PASS,
  NEGATIVE,
  POSITIVE,
  WORST,
  Claim,
)
from gauss_diffusion.readings.claims.statistics import Prepared
from gauss_diffusion.readings.claims.verdicts import (
  CANNOT_FAIL,
  CANNOT_HOLD,
  ENOUGH,
  FAILS,
  FEW,
  HOLDS,
  OPEN,
  ROUNDING,
  Estimate,
)
from gauss_diffusion.readings.intervals import Interval
from gauss_diffusion.readings.measures import Needs, Reading

SIGMA = np.array([80.0, 5.0, 0.5, 0.01])
# A standard error of 0.1 grows by a part in 2e10 when rounding's, 1e-6, joins it.
JOINED = 1e-9
# Of the standard deviation of 2000 bootstrap means: 1/√(2 · 2000), five of them.
RESAMPLED = 5 / math.sqrt(2 * verdicts.RESAMPLES)


def measured(reading):
  return reading.found["made up"].value


def claim(compute=statistics.mean(measured), region=POSITIVE, band=None, over=MEAN, **fields):
  needs = Needs({"made up": ()})
  fields = {"controls": {}} | fields
  return Claim("It is so", "none", "mean", region, needs, compute, band=band, over=over, **fields)


def reading(values, group="", **fields):
  """Return a reading of values [sigma, sample], [sigma] or [sample]."""
  values = np.asarray(values, float)
  axes = {2: ("sigma", "sample"), 1: ("sample",)}[values.ndim] if len(values) != 4 else ("sigma", "sample")
  coordinates = {"sigma": SIGMA} if "sigma" in axes else {}
  found = results.labelled({"value": (axes[: values.ndim], values)}, coordinates)
  return Reading("one", {"group": group, "size": 1}, {"made up": found}, {}, **fields)


def networks(*means):
  return [[reading(np.full(3, mean))] for mean in means]


def spread(error):
  """Return values whose standard error over samples is the one given, about 0."""
  values = np.random.default_rng(0).normal(size=40)
  values -= values.mean()
  return values * error / scipy.stats.sem(values)


# Closed form.


@pytest.mark.parametrize("region", [POSITIVE, NEGATIVE, (0.3, math.inf), (-math.inf, 0.3)])
def test_of_several_networks_the_interval_and_p_are_students(region):
  values = np.random.default_rng(0).normal(0.4, 0.3, 6)
  found = verdicts.estimate(claim(region=region), networks(*values))
  limit = region[0] if math.isfinite(region[0]) else region[1]
  test = scipy.stats.ttest_1samp(values, limit)
  np.testing.assert_allclose(found.p, test.pvalue, rtol=JOINED)
  np.testing.assert_allclose(found.value, (values.mean(), *test.confidence_interval(0.95)), rtol=JOINED)
  assert found.networks == 6 and found.sigma is None and found.strip is None and found.rank is None


def test_of_one_network_the_interval_over_samples_is_nearly_students():
  values = np.random.default_rng(1).gamma(2.0, size=80)
  found = verdicts.estimate(claim(), [[reading(values)]])
  low, high = scipy.stats.t.interval(0.95, 79, values.mean(), scipy.stats.sem(values))
  np.testing.assert_allclose(found.value.mean, values.mean(), rtol=1e-12)
  np.testing.assert_allclose(found.value[1:], (low, high), atol=RESAMPLED * (high - low) / 2)
  assert found.networks == 1


def test_samples_that_ingredients_share_are_resampled_together():
  values = np.random.default_rng(2).normal(size=200)
  less = statistics.difference(measured, lambda reading: measured(reading) - 0.25)
  found = verdicts.estimate(claim(less), [[reading(values)]])
  np.testing.assert_allclose(found.value, 0.25, atol=3 * ROUNDING)  # nothing is left of the spread


def test_of_a_single_network_without_samples_nothing_is_known():
  for values in (np.full((4, 1), 5.0), np.full(4, 5.0), np.full(1, 5.0)):
    found = verdicts.estimate(claim(), [[reading(values)]])
    assert tuple(found.value) == (5.0, -math.inf, math.inf) and found.p == 1
    assert verdicts.side(POSITIVE, found.value) == OPEN
    assert verdicts.decided([(claim(), found)], 0.99) == [OPEN]
  several = verdicts.estimate(claim(), [[reading(np.full(4, value))] for value in (4.9, 5.0, 5.1)])
  assert verdicts.side(POSITIVE, several.value) == HOLDS


def test_ingredients_of_other_counts_and_without_levels_are_the_same_at_each():
  levels = np.arange(4.0)[:, None] + np.zeros(30)
  other = np.full(50, 0.5)

  def compute(readings):
    return Prepared([measured(each) for each in readings], lambda means: means[0] - means[1])

  found = verdicts.estimate(claim(compute), [[reading(levels), reading(other)]])
  np.testing.assert_allclose(found.strip.mean, np.arange(4) - 0.5)
  np.testing.assert_array_equal(found.sigma, SIGMA)


# Summaries over levels.


def test_the_worst_level_of_the_band_is_the_summary():
  levels = np.array([0.1, 0.4, 0.3, 0.2])[:, None] + spread(1e-3)
  for region, over, band, value in (
    (POSITIVE, WORST, (0.0, math.inf), 0.1),
    (NEGATIVE, WORST, (0.0, math.inf), 0.4),
    (POSITIVE, WORST, (0.1, 20.0), 0.3),
    (NEGATIVE, WORST, (0.0, 0.1), 0.2),
    (NEGATIVE, WORST, (0.0, 0.001), 0.2),  # no level in it: the nearest
    (POSITIVE, MEAN, (0.1, 20.0), 0.35),
    (POSITIVE, MEAN, None, 0.25),
  ):
    found = verdicts.estimate(claim(region=region, over=over, band=band), [[reading(levels)]])
    np.testing.assert_allclose(found.value.mean, value, rtol=1e-12)
    np.testing.assert_allclose(found.strip.mean, levels.mean(1), rtol=1e-12)  # whatever the band


@pytest.mark.parametrize("num", [5, 9])
def test_the_strips_levels_share_the_error_rate(num):
  values = np.random.default_rng(3).normal(size=(4, num))
  found = verdicts.estimate(claim(), [[reading(np.repeat(one[:, None], 2, 1))] for one in values.T])
  width = scipy.stats.t.ppf(1 - 0.05 / 4 / 2, num - 1) * scipy.stats.sem(values, axis=1)
  np.testing.assert_allclose(found.strip.high - found.strip.mean, width, rtol=JOINED)
  np.testing.assert_allclose(found.strip.mean - found.strip.low, width, rtol=JOINED)
  mean = values.mean(0)
  np.testing.assert_allclose(found.p, scipy.stats.ttest_1samp(mean, 0).pvalue, rtol=JOINED)


def test_a_strip_holds_at_all_levels_at_once_as_often_as_it_claims():
  rng, missed, trials = np.random.default_rng(4), 0, 300
  for values in rng.normal(size=(trials, 5, 4)):
    strip = verdicts.estimate(claim(), [[reading(np.repeat(one[:, None], 2, 1))] for one in values]).strip
    missed += (strip.low > 0).any() or (strip.high < 0).any()
  # Bonferroni: at most 5 % are missed, of independent levels nearly as many.
  assert abs(missed / trials - (1 - (1 - 0.05 / 4) ** 4)) < 5 * math.sqrt(0.05 * 0.95 / trials)


# Verdicts.


def test_a_verdict_asks_for_the_whole_interval():
  for low, high, verdict in ((0.6, 0.7, HOLDS), (0.4, 0.7, OPEN), (0.1, 0.5, FAILS), (0.5, 0.7, OPEN)):
    assert verdicts.side((0.5, math.inf), Interval(0.5, low, high)) == verdict
    assert verdicts.side((-math.inf, -0.5), Interval(-0.5, -high, -low)) == verdict


def test_what_only_rounding_tells_from_the_limit_does_not_pass():
  for sets in ([[reading(np.full(40, 1e-8))]], networks(*[1e-8] * 6)):
    found = verdicts.estimate(claim(), sets)
    assert verdicts.side(POSITIVE, found.value) == OPEN and found.p > 0.9
    assert verdicts.decided([(claim(), found)], 0.05) == [OPEN]
  for sets in ([[reading(np.full(40, 1e-4))]], networks(*[1e-4] * 6)):
    assert verdicts.side(POSITIVE, verdicts.estimate(claim(), sets).value) == HOLDS


def made_up(p, mean=1.0):
  return Estimate(Interval(mean, mean, mean), p, None, None, 5, None)


def closed_test(p, error_rate):
  """Return what Holm's procedure must reject: a hypothesis all of whose intersections Bonferroni rejects."""
  every = range(len(p))
  subsets = [set(some) for size in every for some in itertools.combinations(every, size + 1)]
  rejected = {frozenset(some) for some in subsets if min(p[i] for i in some) <= error_rate / len(some)}
  return [all(frozenset(some) in rejected for some in subsets if i in some) for i in every]


def test_summary_verdicts_are_holms():
  rng = np.random.default_rng(5)
  seen = set()
  for _ in range(200):
    p, mean = rng.uniform(0, 0.08, 5) * rng.choice([0.2, 0.5, 1], 5), rng.choice([-1.0, 1.0], 5)
    found = verdicts.decided([(claim(), made_up(*each)) for each in zip(p, mean)], 0.05)
    decided = closed_test(p, 0.05)
    assert found == [
      (HOLDS if mean[i] > 0 else FAILS) if decided[i] else OPEN for i in range(5)
    ]  # in the order given
    seen.add(sum(decided))
  assert seen == set(range(6))
  assert verdicts.decided([], 0.05) == []


def test_what_is_not_a_number_is_not_decided():
  found = [made_up(math.nan, math.nan), made_up(1e-9)]
  assert verdicts.decided([(claim(), each) for each in found], 0.05) == [OPEN, HOLDS]


# Controls.


def row(role, verdict, value=1.0):
  return {"role": role, "verdict": verdict, "value": value}


@pytest.mark.parametrize(
  "found, num, verdict, why",
  [
    ({}, ENOUGH, HOLDS, ""),
    ({"skip": row(MUST_NOT_PASS, FAILS), "gaussian": row(MUST_PASS, HOLDS)}, ENOUGH, HOLDS, ""),
    ({"skip": row(MUST_NOT_PASS, OPEN)}, ENOUGH, HOLDS, ""),
    (
      {
        "mean": row(MUST_NOT_PASS, HOLDS),
        "skip": row(MUST_NOT_PASS, HOLDS),
        "gaussian": row(MUST_PASS, FAILS),
      },
      ENOUGH,
      CANNOT_FAIL,
      "passed by mean, skip",
    ),
    ({"gaussian": row(MUST_PASS, FAILS)}, ENOUGH, CANNOT_HOLD, "not passed by gaussian"),
    ({"gaussian": row(MUST_PASS, "not judged: it is slow", None)}, ENOUGH, HOLDS, ""),
    ({}, 4, FEW, "4 of 5 networks"),
    ({"gaussian": row(MUST_PASS, OPEN)}, ENOUGH, CANNOT_HOLD, "not passed by gaussian"),
    ({"gaussian": row(MUST_PASS, OPEN)}, 4, FEW, "4 of 5 networks"),
    ({"skip": row(MUST_NOT_PASS, HOLDS)}, 4, CANNOT_FAIL, "passed by skip"),
  ],
)
def test_controls_and_too_few_networks_overrule(found, num, verdict, why):
  assert verdicts.overruled(claim(), HOLDS, num, found) == (verdict, why)


def test_a_claim_about_one_network_is_content_with_one():
  assert verdicts.overruled(claim(networks=False), FAILS, 1, {}) == (FAILS, "")


def test_a_control_takes_the_places_of_all_models_or_of_the_groups_that_are_named():
  low, high = reading(np.full(9, -1.0), "control"), reading(np.full(9, 5.0), "control")
  sets = [[reading(np.full(9, value), group, controls={"skip": low, "gaussian": high}) for group in "ab"]
          for value in (1.0, 2.0)]  # fmt: skip
  roles = {"skip": MUST_NOT_PASS, "gaussian": MUST_PASS, "mean": MUST_NOT_PASS}
  total = lambda readings: Prepared([measured(each) for each in readings], lambda means: means.sum(0))  # noqa: E731
  found = verdicts.controls(claim(total, controls=roles), sets)
  assert list(found) == ["skip", "gaussian"]  # there is no mean
  assert [found[name]["value"].mean for name in found] == [-2, 10]
  assert [found[name]["verdict"] for name in found] == [FAILS, HOLDS]
  assert [found[name]["role"] for name in found] == [MUST_NOT_PASS, MUST_PASS]
  some = verdicts.controls(claim(total, controls=roles, replaced=("b",)), sets)
  assert [some[name]["value"].mean for name in some] == [0.5, 6.5]


def test_a_control_keeps_the_controls_that_a_statistic_reads():
  memory = reading(np.full(9, 2.0))
  network = reading(np.full(9, 3.0), controls={"multi-delta": memory})
  less = statistics.difference(measured, lambda one: measured(one.controls["multi-delta"]))
  found = verdicts.controls(claim(less, controls={"multi-delta": MUST_NOT_PASS}), [[network]])
  assert found["multi-delta"]["value"].mean == 0 and found["multi-delta"]["verdict"] == OPEN


def test_a_control_without_the_analysis_is_not_judged_and_says_why():
  without = reading(np.zeros(2))._replace(title="affine", found={}, absent={"made up": "it is affine"})
  for absent, why in ((without.absent, "it is affine"), ({}, "no result of made up")):
    network = reading(np.ones(9), controls={"linear": without._replace(absent=absent)})
    found = verdicts.controls(claim(controls={"linear": MUST_PASS}), [[network], [network]])
    assert found == {"linear": row(MUST_PASS, f"not judged: affine: {why}", None)}
    assert verdicts.overruled(claim(), HOLDS, ENOUGH, found) == (HOLDS, "")
