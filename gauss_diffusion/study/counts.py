"""Counts of analyses that follow the data, where a study does not say others than the defaults."""

from collections.abc import Iterator

from ml_collections import ConfigDict

from gauss_diffusion import analyses


def follow(config: ConfigDict, dimension: int, num_held_out: int) -> list[str]:
  """Let the defaults of counts be what the data allow; what was chosen stays, to be refused.

  Of held-out images a count takes at most half, so that pairs find partners, and maps other images to be
  fitted to. Of pairs that determine an affine map there are so many a coordinate as with the digits.

  Args:
    config: the study, changed in place.
    dimension: coordinates of an image.
    num_held_out: images kept apart.

  Returns:
    What was changed, as ``score_gap.images=12``.
  """
  changed = []
  known = [name for name in config.analyses if name in analyses.ANALYSES]  # others are refused elsewhere
  for name in known:
    for field, count in _counts(name, dimension, num_held_out):
      if config[name][field] == analyses.ANALYSES[name].DEFAULTS[field] != count:
        config[name][field] = count
        changed.append(f"{name}.{field}={count}")
  return changed


def _counts(name: str, dimension: int, num_held_out: int) -> Iterator[tuple[str, int]]:
  """Yield those counts of an analysis that follow the data."""
  analysis = analyses.ANALYSES[name]
  for field in getattr(analysis, "OF_HELD_OUT", ()):
    yield field, min(analysis.DEFAULTS[field], num_held_out // 2)
  for field, each in getattr(analysis, "PER_COORDINATE", {}).items():
    yield field, max(analysis.DEFAULTS[field], each * dimension)
