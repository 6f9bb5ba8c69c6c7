"""Bootstrap intervals against theory, scipy and their exact symmetries."""

import warnings

import numpy as np
import pytest
import scipy.stats

from gauss_diffusion.readings import intervals
from gauss_diffusion.readings.intervals import bootstrap_mean

ROUNDING = 1e-12  # float64, sums of tens of values of order 1


def test_ends_agree_with_scipy():
  values = np.random.default_rng(0).gamma(2.0, size=40)
  ours = bootstrap_mean(values, resamples=20000)
  theirs = scipy.stats.bootstrap(
    (values,), np.mean, n_resamples=20000, method="percentile", rng=np.random.default_rng(1)
  ).confidence_interval
  # Standard error of a 2.5 % quantile over R resamples: sqrt(p (1 - p) / R) / density, two of them.
  error = np.sqrt(2 * 0.025 * 0.975 / 20000) / scipy.stats.norm.pdf(1.96) * values.std() / np.sqrt(40)
  assert ours.mean == pytest.approx(values.mean(), abs=ROUNDING)
  np.testing.assert_allclose(ours[1:], theirs, atol=5 * error)


def test_covers_as_often_as_theory_says():
  num, rows = 60, 2000
  values = np.random.default_rng(0).normal(size=(rows, num))
  mean, low, high = bootstrap_mean(values)
  # The bootstrap scale is the 1/n standard deviation, so for normal data this is a t probability.
  reach = scipy.stats.norm.ppf(0.975) * np.sqrt((num - 1) / num)
  expected = 1 - 2 * scipy.stats.t.sf(reach, num - 1)
  covered = np.mean((low < 0) & (0 < high))
  assert abs(covered - expected) < 5 * np.sqrt(expected * (1 - expected) / rows)
  assert np.all((low < mean) & (mean < high))


@pytest.mark.parametrize(
  "values", [np.full(7, 0.1), np.array([0.3]), np.ones((4, 9), bool), np.full((2, 1), -5.0)]
)
def test_no_spread_gives_no_width(values):
  with warnings.catch_warnings():
    warnings.simplefilter("error")
    mean, low, high = bootstrap_mean(values)
  np.testing.assert_array_equal(mean, values[..., 0].astype(float))
  np.testing.assert_array_equal(low, mean)
  np.testing.assert_array_equal(high, mean)


def test_moves_with_shift_and_scale():
  values = np.random.default_rng(0).normal(size=30)
  mean, low, high = bootstrap_mean(values)
  np.testing.assert_allclose(
    bootstrap_mean(3 - 2 * values), (3 - 2 * mean, 3 - 2 * high, 3 - 2 * low), atol=ROUNDING
  )


def test_rows_axes_and_blocks_do_not_matter(monkeypatch):
  values = np.random.default_rng(0).normal(size=(3, 25, 4))
  whole = bootstrap_mean(values, axis=1)
  assert whole.mean.shape == (3, 4)
  for i, j in np.ndindex(3, 4):
    np.testing.assert_allclose([part[i, j] for part in whole], bootstrap_mean(values[i, :, j]), atol=ROUNDING)
  monkeypatch.setattr(intervals, "_BLOCK", 5000)  # 2 rows, 200 resamples at a time
  np.testing.assert_allclose(bootstrap_mean(values, axis=1), whole, atol=ROUNDING)


def test_narrows_with_samples_and_widens_with_confidence():
  values = np.random.default_rng(0).normal(size=4000)

  def width(values, **options):
    interval = bootstrap_mean(values, **options)
    return interval.high - interval.low

  assert width(values) == pytest.approx(2 * 1.96 * values.std() / np.sqrt(4000), rel=0.1)
  assert width(values, confidence=0.5) < width(values) < width(values[:400]) / 2
  assert bootstrap_mean(values) == bootstrap_mean(values) != bootstrap_mean(values, seed=1)


@pytest.mark.parametrize(
  "values, options, named",
  [
    ([1.0, np.nan], {}, "values"),
    ([1.0, np.inf], {}, "values"),
    (np.empty((3, 0)), {}, "values"),
    ([1.0, 2.0], {"resamples": 0}, "resamples"),
    ([1.0, 2.0], {"confidence": 95}, "confidence"),
  ],
)
def test_refuses(values, options, named):
  with pytest.raises(ValueError, match=f"`{named}`"):
    bootstrap_mean(values, **options)


def test_t_interval_is_students():
  values = np.random.default_rng(0).normal(size=(4, 6))
  mean, low, high = intervals.t_interval(values)
  theirs = scipy.stats.t.interval(0.95, 5, values.mean(1), scipy.stats.sem(values, axis=1))
  np.testing.assert_allclose(mean, values.mean(1), atol=ROUNDING)
  np.testing.assert_allclose((low, high), theirs, atol=ROUNDING)
  np.testing.assert_allclose(intervals.t_interval(values.T, axis=0), (mean, low, high), atol=ROUNDING)


@pytest.mark.parametrize("num", [3, 5])
def test_t_interval_of_few_networks_covers_what_it_claims(num):
  rows = 20_000
  values = np.random.default_rng(1).normal(size=(rows, num))
  _, low, high = intervals.t_interval(values)
  covered = np.mean((low < 0) & (0 < high))
  assert abs(covered - 0.95) < 5 * np.sqrt(0.95 * 0.05 / rows)
  _, low, high = bootstrap_mean(values[:1000], resamples=400)
  assert np.mean((low < 0) & (0 < high)) < 0.88  # why networks are not bootstrapped


def test_t_interval_of_equal_values_has_no_width():
  assert intervals.t_interval([0.1, 0.1, 0.1]) == (0.1, 0.1, 0.1)


@pytest.mark.parametrize(
  "values, options, named",
  [([1.0], {}, "values"), ([1.0, np.nan], {}, "values"), ([1.0, 2.0], {"confidence": 1}, "confidence")],
)
def test_t_interval_refuses(values, options, named):
  with pytest.raises(ValueError, match=f"`{named}`"):
    intervals.t_interval(values, **options)
