"""Statistics that decide claims, each of all readings of a study, first to last along its sweep."""

from collections.abc import Callable

import numpy as np

from gauss_diffusion.readings import intervals, measures
from gauss_diffusion.readings.intervals import Interval
from gauss_diffusion.readings.measures import Band, Reading, Values

Measure = Callable[[Reading], Values]  # of one reading
Statistic = Callable[[list[Reading]], Interval]
Pair = tuple[str, str]  # of denoisers

NETWORKS: Pair = ("network", "network")


# Of any measure.


def mean(measure: Measure, which: int = -1) -> Statistic:
  """Take the mean of a measure of one reading, by default the last along the sweep."""
  return lambda readings: intervals.bootstrap_mean(measure(readings[which]))


def share_below(measure: Measure, limit: float) -> Statistic:
  """Take the share of samples whose measure is below a limit, of the last reading."""
  return lambda readings: intervals.bootstrap_mean(measure(readings[-1]) < limit)


def difference(one: Measure, other: Measure, which: int = -1) -> Statistic:
  """Take how much larger the first measure's mean is than the second's, of one reading."""
  return lambda readings: intervals.bootstrap_mean(one(readings[which]) - other(readings[which]))


def between(measure: Measure, group: str, other: str) -> Statistic:
  """Take how much larger a measure's mean is for the reading of one group than for that of another."""

  def compute(readings: list[Reading]) -> Interval:
    named = {reading.entry["group"]: reading for reading in readings}
    return intervals.bootstrap_mean(measure(named[group]) - measure(named[other]))

  return compute


def least(measure: Measure, but: str | None = None) -> Statistic:
  """Take the least mean of a measure over all readings, those of one group left out."""

  def compute(readings: list[Reading]) -> Interval:
    values = [measure(reading) for reading in readings if reading.entry["group"] != but]
    return intervals.bootstrap_statistic(lambda means: means.min(0), values)

  return compute


def trend(measure: Measure) -> Statistic:
  """Take Spearman's rank correlation of a measure's mean with the position along the sweep."""

  def compute(readings: list[Reading]) -> Interval:
    position = np.arange(len(readings)) - (len(readings) - 1) / 2

    def correlation(means):
      ranks = np.argsort(np.argsort(means, axis=0), axis=0) - position[-1]
      return position @ ranks / (position @ position)

    return intervals.bootstrap_statistic(correlation, [measure(reading) for reading in readings])

  return compute


def rank_correlation(one: Measure, other: Measure) -> Statistic:
  """Take Spearman's rank correlation between the means of two measures over the readings."""

  def compute(readings: list[Reading]) -> Interval:
    values = [measure(reading) for measure in (one, other) for reading in readings]
    num = min(map(len, values))  # they count different samples: pairs, latents

    def correlation(means):
      ranks = np.argsort(np.argsort(means.reshape(2, len(readings), -1), axis=1), axis=1)
      centred = ranks - (len(readings) - 1) / 2
      return (centred[0] * centred[1]).sum(0) / (centred[0] ** 2).sum(0)

    return intervals.bootstrap_statistic(correlation, [v[:num] for v in values])

  return compute


def rises_again(measure: Measure) -> Statistic:
  """Take how far the lower of first and last mean lies above the least one along the sweep."""
  return lambda readings: intervals.bootstrap_statistic(
    lambda means: np.minimum(means[0], means[-1]) - means.min(0), [measure(reading) for reading in readings]
  )


def above_least(measure: Measure) -> Statistic:
  """Take how far the last mean lies above the least one along the sweep."""
  return lambda readings: intervals.bootstrap_statistic(
    lambda means: means[-1] - means.min(0), [measure(reading) for reading in readings]
  )


# Over noise levels, weights, laws and halves.


def lowest_linearity(readings: list[Reading]) -> Interval:
  """Return the lowest mean linearity score over the levels, of the last reading."""
  sigmas = readings[-1].found["linearity"].sigma.to_numpy()
  scores = [measures.linearity(readings[-1], (sigma, sigma)) for sigma in sigmas]
  return intervals.bootstrap_statistic(lambda means: means.min(0), scores)


def worst_weight(readings: list[Reading]) -> Interval:
  """Return how much higher the linearity score is at the most uneven α² than at the most even one."""
  alpha2 = readings[-1].found["linearity"].alpha2.to_numpy()
  uneven = measures.linearity(readings[-1], alpha2=max(alpha2))
  return intervals.bootstrap_mean(uneven - measures.linearity(readings[-1], alpha2=min(alpha2)))


def largest_gap(one: str, two: str, band: Band) -> Statistic:
  """Take the largest mean RMSE between two denoisers over the levels in a band, of the last reading."""

  def compute(readings: list[Reading]) -> Interval:
    sigma = readings[-1].found["score_gap"].sigma.to_numpy()
    levels = sigma[measures.within(sigma, band)]
    gaps = [measures.gap(readings[-1], one, two, (level, level)) for level in levels]
    return intervals.bootstrap_statistic(lambda means: means.max(0), gaps)

  return compute


def floor_miss(readings: list[Reading]) -> Interval:
  """Return how far the gap to D_G at the lowest level is from its network-free floor, at worst."""
  sigma = readings[0].found["score_gap"].sigma.to_numpy().min()
  values = [measures.gap(reading, "network", "gaussian", (sigma, sigma)) for reading in readings]
  values += [reading.found["score_gap"].floor.to_numpy() for reading in readings]

  def miss(means):
    gaps, floors = np.split(means, 2)
    return np.abs(gaps - floors).max(0)

  return intervals.bootstrap_statistic(miss, values)


def law_ratio(denoiser: str, which: int) -> Statistic:
  """Take the squared gap of the map fitted on training images over that of the one on held-out images."""

  def compute(readings: list[Reading]) -> Interval:
    gaps = [measures.map_gap(readings[which], denoiser, law) for law in ("train", "held-out")]
    return intervals.bootstrap_statistic(lambda means: means[0] / means[1], gaps)

  return compute


def knowledge_over_memory(readings: list[Reading]) -> Interval:
  """Return the last network's squared held-out gap over that of the first reading's exact memorizer."""
  gaps = [measures.map_gap(readings[-1], "network", "held-out")]
  gaps.append(measures.map_gap(readings[0], "multi-delta", "held-out"))
  return intervals.bootstrap_statistic(lambda means: means[0] / means[1], gaps)


def farther_apart(
  group: str, other: str, denoisers: Pair = NETWORKS, other_denoisers: Pair = NETWORKS
) -> Statistic:
  """Take how much farther apart samples of two halves' denoisers are in one group than in another."""

  def compute(readings: list[Reading]) -> Interval:
    halves = measures.halves(readings)
    one = measures.apart(halves[group], *denoisers)
    return intervals.bootstrap_mean(one - measures.apart(halves[other], *other_denoisers))

  return compute
