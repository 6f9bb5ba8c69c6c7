"""Claims about moves along the first singular vector, at three levels: `configs/perturbation.py`."""

import math
from functools import partial

from gauss_diffusion.readings import measures
from gauss_diffusion.readings.claims import statistics
from gauss_diffusion.readings.claims.claim import MUST_NOT_PASS, MUST_PASS, NOTHING_LEARNED, POSITIVE, Claim
from gauss_diffusion.readings.measures import Needs

at_highest = partial(measures.push, level=0)
at_middle = partial(measures.push, level=1)
at_lowest = partial(measures.push, level=-1)
PUSHED = Needs({"perturbation": ()})

CLAIMS = {
  "global before detail": Claim(
    "A move along the first singular vector changes the picture more at high noise than at middle noise",
    "fig. 30",
    "RMSE of the change at the highest level minus that at the middle one",
    POSITIVE,
    PUSHED,
    statistics.difference(at_highest, at_middle),
    NOTHING_LEARNED | {"gaussian": MUST_NOT_PASS},
    networks=False,
  ),
  "push keeps its length": Claim(
    "Of a move along the first singular vector more is kept at middle noise than of one at high noise",
    "fig. 30",
    "RMSE of the change over that of the move: middle level minus highest level",
    POSITIVE,
    PUSHED,
    statistics.difference(partial(measures.push_at, level=1), partial(measures.push_at, level=0)),
    dict.fromkeys(("mean", "identity"), MUST_NOT_PASS) | {"gaussian": MUST_PASS},
    networks=False,
    instead_of="global before detail",
  ),
  "nothing at low noise": Claim(
    "At the lowest noise the same move changes nothing",
    "fig. 30",
    "RMSE of the change at the lowest level",
    (-math.inf, 0.01),
    PUSHED,
    statistics.mean(at_lowest),
    NOTHING_LEARNED | {"gaussian": MUST_PASS},
    networks=False,
  ),
  "singular vectors move more": Claim(
    "At high noise the first singular vector moves the picture more than a random direction does",
    "fig. 30",
    "RMSE of the change at the highest level: singular vector minus random direction",
    POSITIVE,
    PUSHED,
    statistics.difference(at_highest, partial(at_highest, direction="random")),
    NOTHING_LEARNED | {"gaussian": MUST_PASS},
    networks=False,
  ),
}
