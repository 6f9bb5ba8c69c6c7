"""Claims about moves along the first singular vector, at three levels: `configs/perturbation.py`."""

import math
from functools import partial

from gauss_diffusion.readings import measures
from gauss_diffusion.readings.claims import statistics
from gauss_diffusion.readings.claims.claim import POSITIVE, Claim
from gauss_diffusion.readings.measures import Needs

at_highest = partial(measures.push, level=0)
at_middle = partial(measures.push, level=1)
at_lowest = partial(measures.push, level=-1)

CLAIMS = {
  "global before detail": Claim(
    "A move along the first singular vector changes the picture more at high noise than at middle noise",
    "fig. 30",
    "RMSE of the change at the highest level minus that at the middle one",
    POSITIVE,
    Needs({"perturbation": ()}),
    statistics.difference(at_highest, at_middle),
  ),
  "nothing at low noise": Claim(
    "At the lowest noise the same move changes nothing",
    "fig. 30",
    "RMSE of the change at the lowest level",
    (-math.inf, 0.01),
    Needs({"perturbation": ()}),
    statistics.mean(at_lowest),
  ),
  "singular vectors move more": Claim(
    "At high noise the first singular vector moves the picture more than a random direction does",
    "fig. 30",
    "RMSE of the change at the highest level: singular vector minus random direction",
    POSITIVE,
    Needs({"perturbation": ()}),
    statistics.difference(at_highest, partial(at_highest, direction="random")),
  ),
}
