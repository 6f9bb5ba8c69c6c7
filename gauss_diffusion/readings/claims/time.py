"""Claims about the time of training: `configs/training_time.py`.

The middle of the run is its middle snapshot, at the geometric mean of the first and the last number of steps.
"""

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

NOT_IN_TIME = NOTHING_LEARNED | {"gaussian": MUST_NOT_PASS, "multi-delta": MUST_NOT_PASS}
NO_MEMORY = NOT_IN_TIME | {"surrogate": MUST_NOT_PASS}  # it never sees an image, and has none to copy

CLAIMS = {
  "time turns": Claim(
    "During training the network first approaches the Gaussian denoiser, then leaves it",
    "fig. 8",
    "the lesser of first and last score difference to D_G, minus that in the middle of the run; mean over "
    f"{spelled(MIDDLE)}",
    POSITIVE,
    Needs({"score_gap.pairs": (GAUSSIAN,)}, along=3),
    statistics.turns(measures.to_gaussian_at),
    NO_MEMORY,
    MIDDLE,
  ),
  "time overfits": Claim(
    "A network trained too long on few images denoises unseen images worse than before",
    "fig. 8, 9",
    f"held-out squared error at the end minus that in the middle of the run, mean over {spelled(MIDDLE)}",
    POSITIVE,
    Needs({"score_gap": ()}, along=3),
    statistics.after_middle(measures.squared_error_at),
    NO_MEMORY,
    MIDDLE,
  ),
  "time memorizes": Claim(
    "Training on few images ends in copies",
    "fig. 8, 18",
    "slope of the GL score per decade of training time",
    NEGATIVE,
    Needs({"samples.denoisers": ("network",)}, along=3),
    statistics.slope(statistics.mean(measures.gl), "time"),
    NOT_IN_TIME,
  ),
}
