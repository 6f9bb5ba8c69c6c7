"""What a claim is, and the regions, roles and words that tables of claims share."""

import math
from collections.abc import Mapping
from typing import NamedTuple

from gauss_diffusion.denoisers import NULLS
from gauss_diffusion.readings.claims.statistics import Statistic
from gauss_diffusion.readings.measures import Band, Needs

# Regions.
POSITIVE, NEGATIVE = (0.0, math.inf), (-math.inf, 0.0)
# Pairs of denoisers.
GAUSSIAN = ("network", "gaussian")
MEMORIZER = ("network", "multi-delta")
# Roles of controls: a claim that such a one passes cannot fail, or that such a one fails cannot hold.
MUST_NOT_PASS, MUST_PASS = "negative", "reference"
NOTHING_LEARNED = dict.fromkeys((*NULLS, "untrained"), MUST_NOT_PASS)
# Summaries over noise levels.
MEAN, WORST = "mean", "worst"


class Claim(NamedTuple):
  """A statement of the paper, and the statistic that decides it."""

  statement: str
  source: str  # figure or section of Li et al. 2024
  statistic: str  # what is computed
  region: tuple[float, float]  # the statement is true when the statistic lies in it; one end is infinite
  needs: Needs  # of the study
  compute: Statistic
  controls: Mapping[str, str]  # that have a role in it -> `MUST_NOT_PASS` or `MUST_PASS`
  band: Band | None = None  # of noise levels that the verdict is of; None where the statistic has no levels
  over: str = MEAN  # the band: the mean of what is measured, or the level at which the statement fares worst
  networks: bool = True  # about networks in general, of which it takes several; else about this network
  replaced: tuple[str, ...] = ()  # groups whose models a control replaces; all, when empty
  instead_of: str = ""  # the claim that this one restates so that it can fail


def holds_if(claim: Claim) -> str:
  """Return the claim's region as prose: ``> 0.5`` or ``< 1``."""
  low, high = claim.region
  return f"< {high:g}" if low == -math.inf else f"> {low:g}"
