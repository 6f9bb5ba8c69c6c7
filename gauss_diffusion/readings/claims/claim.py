"""What a claim is, and the regions and words that tables of claims share."""

import math
from typing import NamedTuple

from gauss_diffusion.readings.claims.statistics import Statistic
from gauss_diffusion.readings.intervals import Interval
from gauss_diffusion.readings.measures import MIDDLE, Needs, spelled

TREND = 0.5  # rank correlation beyond which something rises or falls: of a few networks, less means little

# Regions.
POSITIVE = (0.0, math.inf)
RISES, FALLS = (TREND, math.inf), (-math.inf, -TREND)
# Pairs of denoisers.
GAUSSIAN = ("network", "gaussian")
MEMORIZER = ("network", "multi-delta")
# Statistics, as prose has them.
GAP = f"score difference to the Gaussian denoiser, {spelled(MIDDLE)}"

NOT_DECIDED = "not decided"


class Claim(NamedTuple):
  """A statement of the paper, and the statistic that decides it."""

  statement: str
  source: str  # figure or section of Li et al. 2024
  statistic: str  # what is computed
  region: tuple[float, float]  # the statement is true when the statistic lies in it
  needs: Needs  # of the study
  compute: Statistic


def verdict(claim: Claim, value: Interval) -> str:
  """Return "holds", "does not hold" or "not decided"."""
  low, high = claim.region
  if value.low > low and value.high < high:
    return "holds"
  return "does not hold" if value.high <= low or value.low >= high else NOT_DECIDED


def holds_if(claim: Claim) -> str:
  """Return the claim's region as prose: ``> 0.5``, ``< 1`` or ``0.9 to 1.1``."""
  low, high = claim.region
  if low == -math.inf:
    return f"< {high:g}"
  return f"> {low:g}" if high == math.inf else f"{low:g} to {high:g}"
