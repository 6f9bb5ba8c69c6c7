"""Claims about the width of the network: `configs/capacity.py`."""

from gauss_diffusion.readings import measures
from gauss_diffusion.readings.claims import statistics
from gauss_diffusion.readings.claims.claim import FALLS, GAP, GAUSSIAN, RISES, Claim
from gauss_diffusion.readings.measures import Needs

CLAIMS = {
  "width leaves": Claim(
    "On a small training set, wider networks lie farther from the Gaussian denoiser",
    "fig. 7",
    f"rank correlation of the {GAP}, with width",
    RISES,
    Needs({"score_gap.pairs": (GAUSSIAN,)}, along=2),
    statistics.trend(measures.to_gaussian),
  ),
  "width memorizes": Claim(
    "On a small training set, wider networks copy more",
    "fig. 7, 18",
    "rank correlation of the GL score with width",
    FALLS,
    Needs({"samples.denoisers": ("network",)}, along=2),
    statistics.trend(measures.gl),
  ),
}
