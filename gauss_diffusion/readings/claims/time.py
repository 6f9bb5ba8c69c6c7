"""Claims about the time of training: `configs/training_time.py`."""

from gauss_diffusion.readings import measures
from gauss_diffusion.readings.claims import statistics
from gauss_diffusion.readings.claims.claim import FALLS, GAP, GAUSSIAN, POSITIVE, Claim
from gauss_diffusion.readings.measures import MIDDLE, Needs, spelled

CLAIMS = {
  "time turns": Claim(
    "During training the network first approaches the Gaussian denoiser, then leaves it",
    "fig. 8",
    f"how far the {GAP}, is above its least value both at the first and at the last snapshot",
    POSITIVE,
    Needs({"score_gap.pairs": (GAUSSIAN,)}, along=2),
    statistics.rises_again(measures.to_gaussian),
  ),
  "time overfits": Claim(
    "A network trained too long on few images denoises unseen images worse than at its best",
    "fig. 8, 9",
    f"held-out denoising RMSE, {spelled(MIDDLE)}: last snapshot minus the best one",
    POSITIVE,
    Needs({"score_gap": ()}, along=2),
    statistics.above_least(measures.error),
  ),
  "time memorizes": Claim(
    "Training on few images ends in copies",
    "fig. 8, 18",
    "rank correlation of the GL score with training time",
    FALLS,
    Needs({"samples.denoisers": ("network",)}, along=2),
    statistics.trend(measures.gl),
  ),
}
