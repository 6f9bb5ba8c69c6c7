"""Statistics that decide claims, each of one network of every model, first to last along the sweep.

A statistic names its *ingredients*, arrays over noise levels and samples, and what to make of their means.
Means over samples are taken first, so that a statistic is a number for each set of networks; how sure it
is, networks tell, and where there is only one, its samples.
"""

import typing
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from gauss_diffusion.denoisers import NULLS
from gauss_diffusion.readings import measures
from gauss_diffusion.readings.measures import Reading

if typing.TYPE_CHECKING:
  from gauss_diffusion.results import xarray

Means = Float[np.ndarray, "M *rest"]  # of the ingredients
Combine = Callable[[Means], Float[np.ndarray, "*rest"]]  # elementwise over all axes but the first


class Prepared(NamedTuple):
  """A statistic of certain readings."""

  ingredients: "Sequence[xarray.DataArray | np.ndarray]"  # M, of [sigma, sample], [sigma] or [sample]
  combine: Combine
  rank: Combine | None = None  # of a trend: Spearman's rank correlation, to stand beside the slope
  models: "Mapping[str, Prepared]" = {}  # where it is the least over models: title -> that of one alone


Statistic = Callable[[list[Reading]], Prepared]
Measure = Callable[[Reading], "xarray.DataArray | np.ndarray"]  # [sigma, sample] or [sample]
Pair = tuple[str, str]  # of denoisers

TIE = 1e-6  # values of order 1, measured in float32, that differ by less count as equal
NETWORKS: Pair = ("network", "network")


# Of any measure.


def mean(measure: Measure, which: int = -1) -> Statistic:
  """Take the mean of a measure of one reading, by default the last along the sweep."""
  return lambda readings: Prepared([measure(readings[which])], lambda means: means[0])


def difference(one: Measure, other: Measure, which: int = -1) -> Statistic:
  """Take how much larger the first measure's mean is than the second's, of one reading."""
  return lambda readings: Prepared([one(readings[which]), other(readings[which])], _less)


def between(measure: Measure, group: str, other: str) -> Statistic:
  """Take how much larger a measure's mean is for the reading of one group than for that of another."""

  def prepare(readings: list[Reading]) -> Prepared:
    named = {reading.entry["group"]: reading for reading in readings}
    return Prepared([measure(named[group]), measure(named[other])], _less)

  return prepare


def least(statistic: Statistic, but: str | None = None) -> Statistic:
  """Take the least value of a statistic over all readings, each by itself, those of one group left out."""

  def prepare(readings: list[Reading]) -> Prepared:
    models = {reading.title: statistic([reading]) for reading in readings if reading.entry["group"] != but}
    ends = np.cumsum([len(one.ingredients) for one in models.values()])

    def combine(means):
      parts = np.split(means, ends[:-1])
      return np.min([one.combine(part) for one, part in zip(models.values(), parts)], axis=0)

    return Prepared([array for one in models.values() for array in one.ingredients], combine, models=models)

  return prepare


def slope(statistic: Statistic, sweep: str) -> Statistic:
  """Take the slope of a statistic per decade of the sweep: least squares on log10 of the position.

  Beside it stands Spearman's rank correlation, equal values with their mid-rank.
  """

  def prepare(readings: list[Reading]) -> Prepared:
    each = [statistic([reading]) for reading in readings]
    position = np.log10([measures.position(reading, sweep) for reading in readings])
    centred = position - position.mean()
    ends = np.cumsum([len(one.ingredients) for one in each])

    def along(means):
      parts = np.split(means, ends[:-1])
      return np.stack([one.combine(part) for one, part in zip(each, parts)])

    return Prepared(
      [array for one in each for array in one.ingredients],
      lambda means: np.tensordot(centred / (centred @ centred), along(means), axes=1),
      lambda means: _spearman(_column(position, along(means)), along(means)),
    )

  return prepare


def rank_correlation(one: Measure, other: Measure, band: measures.Band) -> Statistic:
  """Take Spearman's rank correlation over the readings between two measures, averaged over a band."""

  def prepare(readings: list[Reading]) -> Prepared:
    found = [_averaged(measure(reading), band) for measure in (one, other) for reading in readings]

    def combine(means):
      first, second = np.split(means, 2)
      return _spearman(first, second)

    return Prepared(found, combine)

  return prepare


def turns(measure: Measure) -> Statistic:
  """Take how far a measure lies above its mean in the middle of the sweep both at its start and at its end.

  The middle is the middle reading, whatever is found there: the lowest of several noisy means would lie below
  both ends by chance.
  """
  return lambda readings: Prepared(
    [measure(readings[place]) for place in (0, len(readings) // 2, -1)],
    lambda means: np.minimum(means[0], means[2]) - means[1],
  )


def after_middle(measure: Measure) -> Statistic:
  """Take how much larger a measure's mean is at the end of the sweep than in its middle."""
  return lambda readings: Prepared([measure(readings[-1]), measure(readings[len(readings) // 2])], _less)


# Of what a denoiser knows.


def margin(readings: list[Reading]) -> Prepared:
  """Return how much nearer the last network is to D_G than the nulls and the memorizer are.

  ``min over D' of RMSE(D', D_G) − RMSE(D, D_G)`` with D' the mean, c_skip x, the identity and the exact
  memorizer of the same images; 0 or less for each of these themselves.
  """
  reading = readings[-1]
  others = [measures.gap_at(reading, null, "gaussian") for null in NULLS]
  others.append(measures.gap_at(reading, "gaussian", "multi-delta"))
  own = measures.gap_at(reading, "network", "gaussian")
  return Prepared([own, *others], _ahead)


def lead(readings: list[Reading]) -> Prepared:
  """Return `margin`, no less than 0, to the nulls alone: who is no nearer to D_G than they has no lead."""
  reading = readings[-1]
  others = [measures.gap_at(reading, null, "gaussian") for null in NULLS]
  own = measures.gap_at(reading, "network", "gaussian")
  return Prepared([own, *others], lambda means: np.maximum(_ahead(means), 0))


def improvement(readings: list[Reading]) -> Prepared:
  """Return by what share of it the last network's held-out squared error is below D_G's: (E_G − E)/E_G."""
  reading = readings[-1]
  errors = [measures.squared_error_at(reading, name) for name in ("network", "gaussian")]
  return Prepared(errors, lambda means: (means[1] - means[0]) / means[1])


def recovered(simple: str) -> Statistic:
  """Take the share of what the last network has learned that a simple denoiser has too.

  ``(E_0 − E_S)/(E_0 − E)`` with E the network's held-out squared error, E_S that of the simple one and E_0
  the least of the nulls'. Of a network that denoises no better than a null there is nothing to recover: 0.
  """

  def prepare(readings: list[Reading]) -> Prepared:
    names = ("network", simple, *NULLS)
    return Prepared([measures.squared_error_at(readings[-1], name) for name in names], _share)

  return prepare


def covered(simple: str) -> Statistic:
  """Take how much of the last network's distance to the nearest null a simple denoiser covers.

  ``1 − RMSE(D, S) / min over nulls of RMSE(D, null)``: 1 where the simple denoiser is the network, 0 or less
  where some null is as near. Of a network that is a null itself there is nothing to cover: 0. No clean image
  is needed: at high noise those tell good denoisers apart only in great numbers.
  """

  def prepare(readings: list[Reading]) -> Prepared:
    pairs = [("network", simple), *((null, "network") for null in NULLS)]
    return Prepared([measures.gap_at(readings[-1], *pair) for pair in pairs], _cover)

  return prepare


# Of halves, laws and the span of the data.


def apart(group: str, other: str, denoisers: Pair = NETWORKS, other_denoisers: Pair = NETWORKS) -> Statistic:
  """Take how much farther apart samples of two halves' denoisers are in one group than in another."""

  def prepare(readings: list[Reading]) -> Prepared:
    halves = measures.halves(readings)
    pairs = ((group, denoisers), (other, other_denoisers))
    return Prepared([measures.apart(halves[name], *names) for name, names in pairs], _less)

  return prepare


def apart_by_copying(group: str) -> Statistic:
  """Take how much farther apart one group's networks are than its Gaussians, no more than copies account for.

  The lesser of the difference of the samples' distances and of the share of copies beyond one half: who draws
  the same picture from any noise agrees with nobody, and copies nothing.
  """

  def prepare(readings: list[Reading]) -> Prepared:
    halves = measures.halves(readings)[group]
    found = [measures.apart(halves), measures.apart(halves, "gaussian", "gaussian")]
    found += [measures.memorized(half) for half in halves]
    return Prepared(found, lambda means: np.minimum(means[0] - means[1], means[2:].mean(0) - 0.5))

  return prepare


def nearer_than_nulls(group: str) -> Statistic:
  """Take how much nearer one group's networks draw to both Gaussians than the nearest null does."""

  def prepare(readings: list[Reading]) -> Prepared:
    one, two = measures.halves(readings)[group]
    found = [measures.apart((one, two), "network", "gaussian")]
    found += [
      measures.apart((one.controls[null], two.controls[null]), "network", "gaussian") for null in NULLS
    ]
    return Prepared(found, _ahead)

  return prepare


def together_and_better(group: str, other: str) -> Statistic:
  """Take by what share samples of one group's halves lie farther apart *and* its networks denoise worse.

  The smaller of ``(a − b)/a`` for a, b the distances of samples in the two groups, and for a, b their
  networks' held-out squared errors at middle noise: agreement alone costs nothing, untrained twins agree
  exactly.
  """

  def prepare(readings: list[Reading]) -> Prepared:
    halves = measures.halves(readings)
    found: list[xarray.DataArray | np.ndarray] = []
    for name in (group, other):
      found.append(measures.apart(halves[name]))
      found += [_averaged(measures.squared_error_at(half), measures.MIDDLE) for half in halves[name]]

    def combine(means):
      far, worse, near, better = means[0], means[1:3].mean(0), means[3], means[4:6].mean(0)
      return np.minimum((far - near) / np.where(far > 0, far, 1), (worse - better) / worse)

    return Prepared(found, combine)

  return prepare


def law_ratio(denoiser: str, which: int) -> Statistic:
  """Take the squared gap of the map fitted on training images over that of the one on held-out images."""
  return lambda readings: Prepared(_by_law(readings[which], denoiser), _ratio)


def more_than_share(denoiser: str, share: float, which: int) -> Statistic:
  """Take by how much the squared gap of the map fitted on training images exceeds a share of the other's.

  Unlike their ratio, it is a mean of unbiased estimates where the gap on held-out images is none.
  """
  return lambda readings: Prepared(
    _by_law(readings[which], denoiser), lambda means: means[0] - share * means[1]
  )


def nearer_than_memory(readings: list[Reading]) -> Prepared:
  """Return how much nearer the last network's map is to D_G than those of the nulls and the memorizer are.

  The least squared held-out gap of these, minus the network's; 0 or less for each of these themselves.
  """
  reading = readings[-1]
  gaps = [measures.map_gap_at(reading, name, "held-out") for name in ("network", "multi-delta")]
  gaps += [measures.map_gap_at(reading.controls[null], "network", "held-out") for null in NULLS]
  return Prepared(gaps, _ahead)


def knowledge_over_memory(readings: list[Reading]) -> Prepared:
  """Return the last network's squared held-out gap over that of the exact memorizer of its images."""
  names = ("network", "multi-delta")
  return Prepared([measures.map_gap_at(readings[-1], name, "held-out") for name in names], _ratio)


def floor_miss(readings: list[Reading]) -> Prepared:
  """Return how far the gap to D_G at the lowest level is from its network-free floor, at worst."""
  sigma = readings[0].found["score_gap"].sigma.to_numpy().min()
  gaps = [measures.gap_at(reading, "network", "gaussian").sel(sigma=sigma, drop=True) for reading in readings]
  floors = [reading.found["score_gap"].floor for reading in readings]

  def miss(means):
    gaps, floors = np.split(means, 2)
    return np.abs(gaps - floors).max(0)

  return Prepared(gaps + floors, miss)


def _less(means: Means) -> Float[np.ndarray, "*rest"]:
  return means[0] - means[1]


def _ahead(means: Means) -> Float[np.ndarray, "*rest"]:
  """Return how much less the first is than the least of the others."""
  return means[1:].min(0) - means[0]


def _by_law(reading: Reading, denoiser: str) -> "list[xarray.DataArray]":
  return [measures.map_gap_at(reading, denoiser, law) for law in ("train", "held-out")]


def _ratio(means: Means) -> Float[np.ndarray, "*rest"]:
  """Return the first over the second; 1 where both are 0."""
  equal = means[0] == means[1]
  return np.where(equal, 1, means[0]) / np.where(equal, 1, means[1])


def _share(means: Means) -> Float[np.ndarray, "*rest"]:
  own, simple, null = means[0], means[1], means[2:].min(0)
  learned = null - own
  return np.where(learned > 0, (null - simple) / np.where(learned > 0, learned, 1), 0)


def _cover(means: Means) -> Float[np.ndarray, "*rest"]:
  null = means[1:].min(0)
  return np.where(null > TIE, 1 - means[0] / np.where(null > TIE, null, 1), 0)


def _averaged(
  values: "xarray.DataArray | np.ndarray", band: measures.Band
) -> "xarray.DataArray | np.ndarray":
  if isinstance(values, np.ndarray) or "sigma" not in values.dims:
    return values
  return values.isel(sigma=measures.within(values.sigma.to_numpy(), band)).mean("sigma")


def _ranks(values: Means) -> Means:
  """Return ranks along the first axis, from 1; values that only rounding tells apart have their mid-rank."""
  apart = values[:, None] - values[None]
  return (apart > TIE).sum(1) + ((abs(apart) <= TIE).sum(1) + 1) / 2


def _column(position: Float[np.ndarray, " M"], like: Means) -> Means:
  return position.reshape(-1, *[1] * (like.ndim - 1))


def _spearman(one: Means, other: Means) -> Float[np.ndarray, "*rest"]:
  """Return the rank correlation along the first axis, 0 where one of the two does not vary."""
  first, second = (_ranks(values) - (len(values) + 1) / 2 for values in (one, other))
  scale = np.sqrt((first**2).sum(0) * (second**2).sum(0))
  return (first * second).sum(0) / np.where(scale > 0, scale, 1)
