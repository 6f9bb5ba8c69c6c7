"""Claims about the size of the training set: `configs/dataset_size.py`."""

import math

from gauss_diffusion.readings import measures
from gauss_diffusion.readings.claims import statistics
from gauss_diffusion.readings.claims.claim import FALLS, GAP, GAUSSIAN, MEMORIZER, POSITIVE, RISES, Claim
from gauss_diffusion.readings.measures import MIDDLE, Needs, spelled

CLAIMS = {
  "linearity rises": Claim(
    "Denoisers become more linear as the training set grows",
    "fig. 1, 13",
    f"rank correlation of the linearity score, {spelled(MIDDLE)}, with N",
    RISES,
    Needs({"linearity": ()}, along=2),
    statistics.trend(measures.linearity),
  ),
  "gl rises": Claim(
    "Samples leave the training set as it grows",
    "fig. 13",
    "rank correlation of the GL score with N",
    RISES,
    Needs({"samples.denoisers": ("network",)}, along=2),
    statistics.trend(measures.gl),
  ),
  "gl and linearity": Claim(
    "Generalization and linearity rise together",
    "fig. 13",
    "rank correlation of the GL score with the linearity score over models",
    RISES,
    Needs({"samples.denoisers": ("network",), "linearity": ()}, along=2),
    statistics.rank_correlation(measures.gl, measures.linearity),
  ),
  "gap falls": Claim(
    "Denoisers approach the Gaussian one as the training set grows",
    "fig. 5, 6",
    f"rank correlation of the {GAP}, with N",
    FALLS,
    Needs({"score_gap.pairs": (GAUSSIAN,)}, along=2),
    statistics.trend(measures.to_gaussian),
  ),
  "memorizer": Claim(
    "The network with the fewest images is nearer to the memorizing denoiser than to the Gaussian one",
    "fig. 5",
    f"RMSE to D_G minus RMSE to D_M, {spelled(MIDDLE)}, held-out images",
    POSITIVE,
    Needs({"score_gap.pairs": (GAUSSIAN, MEMORIZER)}, along=2),
    statistics.difference(measures.to_gaussian, measures.to_memorizer, 0),
  ),
  "generalizer": Claim(
    "The network with the most images is nearer to the Gaussian denoiser than to the memorizing one",
    "fig. 2, 5",
    f"RMSE to D_M minus RMSE to D_G, {spelled(MIDDLE)}, held-out images",
    POSITIVE,
    Needs({"score_gap.pairs": (GAUSSIAN, MEMORIZER)}),
    statistics.mean(measures.nearer_gaussian),
  ),
  "low-noise floor": Claim(
    "At vanishing noise the gap to D_G is fixed by the training set alone",
    "fig. 16",
    "largest difference over models between the gap at the lowest σ and ‖(I − P)(x − μ)‖/√d",
    (-math.inf, 0.01),
    Needs({"score_gap.pairs": (GAUSSIAN,)}),
    statistics.floor_miss,
  ),
}
