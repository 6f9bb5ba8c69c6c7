"""Claims about the width of the network: `configs/capacity.py`."""

from gauss_diffusion.readings import measures
from gauss_diffusion.readings.claims import statistics
from gauss_diffusion.readings.claims.claim import (
  GAUSSIAN,
  MUST_NOT_PASS,
  NEGATIVE,
  NOTHING_LEARNED,
  POSITIVE,
  Claim,
)
from gauss_diffusion.readings.measures import MIDDLE, Needs, spelled

NOT_WIDER = NOTHING_LEARNED | {"gaussian": MUST_NOT_PASS, "multi-delta": MUST_NOT_PASS}

CLAIMS = {
  "width leaves": Claim(
    "On a small training set, wider networks lie farther from the Gaussian denoiser",
    "fig. 7",
    f"slope of the score difference to D_G per decade of width, mean over {spelled(MIDDLE)}",
    POSITIVE,
    Needs({"score_gap.pairs": (GAUSSIAN,)}, along=2),
    statistics.slope(statistics.mean(measures.to_gaussian_at), "width"),
    NOT_WIDER,
    MIDDLE,
    networks=False,
  ),
  "width memorizes": Claim(
    "On a small training set, wider networks copy more",
    "fig. 7, 18",
    "slope of the GL score per decade of width",
    NEGATIVE,
    Needs({"samples.denoisers": ("network",)}, along=2),
    statistics.slope(statistics.mean(measures.gl), "width"),
    NOT_WIDER,
    networks=False,
  ),
}
