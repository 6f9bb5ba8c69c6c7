"""Claims about one well-trained network and its best affine map: `configs/gaussian_structure.py`."""

import math
from functools import partial

from gauss_diffusion.readings import measures
from gauss_diffusion.readings.claims import statistics
from gauss_diffusion.readings.claims.claim import POSITIVE, Claim
from gauss_diffusion.readings.measures import ALL, HIGH, LOW, MIDDLE, Needs, spelled

LINEAR_SCORE = 0.96  # from which on the paper calls a denoiser linear
WEIGHT_GAP = 0.2  # below which weights count as the same
ORDERED = (0.11, math.inf)  # levels at which the paper finds principal components
NETWORK_LINEAR = ("network", "linear (held-out)")
LINEAR_GAUSSIAN = ("linear (held-out)", "gaussian")

CLAIMS = {
  "linear everywhere": Claim(
    f"A well-trained denoiser has a linearity score of at least {LINEAR_SCORE} at every noise level",
    "fig. 1, 10",
    "lowest linearity score over σ",
    (LINEAR_SCORE, math.inf),
    Needs({"linearity": ()}),
    statistics.lowest_linearity,
  ),
  "even weights are worst": Claim(
    "α = β = 1/√2 is the hardest mixture",
    "fig. 10",
    f"linearity score at the most uneven α² minus that at α² = 1/2, {spelled(MIDDLE)}",
    POSITIVE,
    Needs({"linearity": ()}),
    statistics.worst_weight,
  ),
  "linear at high noise": Claim(
    "At high noise the best affine map replaces the network",
    "fig. 2",
    f"largest RMSE between network and D_L (held-out) over {spelled(HIGH)}",
    (-math.inf, 0.05),
    Needs({"score_gap.pairs": (NETWORK_LINEAR,)}),
    statistics.largest_gap(*NETWORK_LINEAR, HIGH),
  ),
  "linear at low noise": Claim(
    "At low noise the best affine map replaces the network",
    "fig. 2",
    f"largest RMSE between network and D_L (held-out) over {spelled(LOW)}",
    (-math.inf, 0.05),
    Needs({"score_gap.pairs": (NETWORK_LINEAR,)}),
    statistics.largest_gap(*NETWORK_LINEAR, LOW),
  ),
  "linear is gaussian": Claim(
    "The best affine map of a well-trained denoiser is the Gaussian denoiser",
    "fig. 2",
    f"largest RMSE between D_L (held-out) and D_G over {spelled(ALL)}",
    (-math.inf, 0.05),
    Needs({"score_gap.pairs": (LINEAR_GAUSSIAN,)}),
    statistics.largest_gap(*LINEAR_GAUSSIAN, ALL),
  ),
  "weights": Claim(
    "The weights of the best affine map are those of the Gaussian denoiser at most noise levels",
    "fig. 4",
    f"share of levels with ‖W_L − W_G‖/‖W_G‖ < {WEIGHT_GAP} (held-out; interval over levels)",
    (0.5, math.inf),
    Needs({"distillation": ()}),
    statistics.share_below(measures.weight_gap, WEIGHT_GAP),
  ),
  "singular vectors": Claim(
    f"The singular vectors of the best affine map are the principal components for {spelled(ORDERED)}",
    "fig. 4, 14",
    "mean |correlation| of each with its counterpart (held-out; interval over vectors)",
    (0.9, math.inf),
    Needs({"distillation": ()}),
    statistics.mean(partial(measures.singular_correlation, band=ORDERED)),
  ),
  "identity": Claim(
    "At vanishing noise the denoiser is the identity",
    "fig. 15",
    "‖D(x) − x‖/‖x‖ at the lowest σ",
    (-math.inf, 0.05),
    Needs({"denoised": ()}),
    statistics.mean(measures.change),
  ),
}
