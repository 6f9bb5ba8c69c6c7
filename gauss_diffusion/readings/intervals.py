"""Confidence intervals on means: of samples by the bootstrap, of a few networks by Student's t."""

from typing import NamedTuple

import numpy as np
import scipy.special
from jaxtyping import Float
from numpy.typing import ArrayLike

_BLOCK = 2**22  # float64 elements alive at once in a block of resamples or of their means: 32 MiB


class Interval(NamedTuple):
  """A mean and the ends of its confidence interval, each shaped as the values without their axis."""

  mean: Float[np.ndarray, "*n"]
  low: Float[np.ndarray, "*n"]
  high: Float[np.ndarray, "*n"]


def bootstrap_mean(
  values: ArrayLike, axis: int = -1, *, resamples: int = 2000, confidence: float = 0.95, seed: int = 0
) -> Interval:
  """Return the mean of `values` along `axis` with its percentile bootstrap interval.

  The ends are the (1 -+ confidence)/2 quantiles of the means of `resamples` samples drawn with
  replacement (Efron and Tibshirani 1993, sec. 13.3). All rows share one set of resamples, so rows
  over the same samples stay paired. Constant values, or a single one, give low = high = mean: one
  value says nothing about its spread.

  Args:
    values: real numbers or booleans, at least one along `axis`; all must be finite.
    axis: the axis of independent samples.
    resamples: number of bootstrap samples.
    confidence: probability that the interval is meant to hold, between 0 and 1.
    seed: of the resampling; the same seed gives the same interval.

  Returns:
    float64 arrays; memory stays bounded however many rows or samples there are.

  Raises:
    ValueError: on values that are not finite, an empty axis, or options out of range.
  """
  values = np.moveaxis(np.asarray(values, np.float64), axis, -1)
  if not values.shape[-1]:
    raise ValueError("`values` is empty along its axis; a mean needs at least 1 value")
  if not np.isfinite(values).all():
    raise ValueError(f"`values` holds {np.sum(~np.isfinite(values))} entries that are NaN or infinite")
  if resamples < 1:
    raise ValueError(f"`resamples` is {resamples}; want at least 1")
  if not 0 < confidence < 1:
    raise ValueError(f"`confidence` is {confidence}; want a number between 0 and 1")

  # Relative to the first value, so that constant values give exactly their own value.
  first = values[..., 0]
  rows = (values - first[..., None]).reshape(-1, values.shape[-1])
  ends = np.empty((2, len(rows)))
  tail = (1 - confidence) / 2
  step = max(1, _BLOCK // resamples)
  for start in range(0, len(rows), step):
    means = resampled_means(rows[start : start + step], resamples, seed)
    ends[:, start : start + step] = np.quantile(means, [tail, 1 - tail], axis=1)
  low, high = ends.reshape(2, *first.shape) + first
  return Interval(first + rows.mean(1).reshape(first.shape), low, high)


def t_interval(values: ArrayLike, axis: int = -1, *, confidence: float = 0.95) -> Interval:
  """Return the mean of `values` along `axis` with Student's t interval, for few independent units.

  ``mean ± t_{(1 + confidence)/2, n − 1} · s/√n``. Of networks there are few: a percentile bootstrap that
  claims 95 % covers 75 % of the time with three of them and 84 % with five.

  Args:
    values: finite numbers, at least two along `axis`.
    axis: the axis of independent units.
    confidence: probability that the interval is meant to hold, between 0 and 1.

  Returns:
    float64 arrays; constant values give low = high = mean.

  Raises:
    ValueError: on values that are not finite, or fewer than two along the axis.
  """
  values = np.moveaxis(np.asarray(values, np.float64), axis, -1)
  num = values.shape[-1]
  if num < 2:
    raise ValueError(f"`values` has {num} along its axis; a t interval needs at least 2")
  if not np.isfinite(values).all():
    raise ValueError(f"`values` holds {np.sum(~np.isfinite(values))} entries that are NaN or infinite")
  if not 0 < confidence < 1:
    raise ValueError(f"`confidence` is {confidence}; want a number between 0 and 1")
  # Relative to the first value, so that constant values give exactly their own value.
  apart = values - values[..., :1]
  mean = values[..., 0] + apart.mean(-1)
  half = student_quantile((1 + confidence) / 2, num - 1) * apart.std(-1, ddof=1) / np.sqrt(num)
  return Interval(mean, mean - half, mean + half)


def student_quantile(probability: float, freedom: float) -> float:
  """Return the quantile of Student's t distribution with that many degrees of freedom."""
  return float(scipy.special.stdtrit(freedom, probability))


def resampled_means(
  rows: Float[np.ndarray, "M n"], resamples: int, seed: int
) -> Float[np.ndarray, "M {resamples}"]:
  """Return the means of bootstrap samples of each row."""
  rng = np.random.default_rng(seed)
  num = rows.shape[1]
  step = max(1, _BLOCK // num)
  means = []
  for start in range(0, resamples, step):
    size = min(step, resamples - start)
    drawn = rng.integers(num, size=(size, num)) + num * np.arange(size)[:, None]
    counts = np.bincount(drawn.ravel(), minlength=size * num).reshape(size, num)
    means.append(rows @ counts.T / num)
  return np.concatenate(means, axis=1)
