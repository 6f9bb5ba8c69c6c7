"""Claims about the size of the training set: `configs/dataset_size.py`."""

import math
import typing

from gauss_diffusion.readings import measures
from gauss_diffusion.readings.claims import statistics
from gauss_diffusion.readings.claims.claim import (
  GAUSSIAN,
  MEMORIZER,
  MUST_NOT_PASS,
  MUST_PASS,
  NEGATIVE,
  NOTHING_LEARNED,
  POSITIVE,
  WORST,
  Claim,
)
from gauss_diffusion.readings.measures import LOW, MIDDLE, Needs, Reading, spelled

if typing.TYPE_CHECKING:
  from gauss_diffusion.results import xarray

WEIGHT_GAP = 0.2  # below which the paper takes weights for the same
PAIRS_A_PIXEL = 8  # from which on noise makes less of a gap than that
ORDERED = (0.11, math.inf)  # levels at which the paper finds principal components
IS_GAUSSIAN = NOTHING_LEARNED | {"multi-delta": MUST_NOT_PASS, "gaussian": MUST_PASS}
NOT_GROWN = NOTHING_LEARNED | {"multi-delta": MUST_NOT_PASS}
PAIRS = Needs({"score_gap.pairs": (GAUSSIAN, MEMORIZER)})
ALONG = Needs({"score_gap.pairs": (GAUSSIAN, MEMORIZER)}, along=2)


def of_memorizer(reading: Reading) -> "xarray.DataArray":
  """Return the linearity score of the memorizer of the reading's images, [sigma, sample]."""
  return measures.linearity_at(reading.controls["multi-delta"])


def floor_of_training(reading: Reading) -> "xarray.DataArray":
  """Return the distance to D_G that training leaves on Gaussian images, [sigma, image]."""
  return measures.to_gaussian_at(reading.controls["surrogate"])


CLAIMS = {
  "linearity rises": Claim(
    "Denoisers become more linear as the training set grows",
    "fig. 1, 13",
    f"slope of the linearity score per decade of N, mean over {spelled(MIDDLE)}",
    POSITIVE,
    Needs({"linearity": ()}, along=2),
    statistics.slope(statistics.mean(measures.linearity_at), "size"),
    NOT_GROWN,
    MIDDLE,
  ),
  "linearity outgrows memory": Claim(
    "Denoisers become more linear as the training set grows, and not as the memorizer of these images does",
    "fig. 1, 13",
    "slope per decade of N of the linearity score less that of D_M of the same images, mean over "
    f"{spelled(MIDDLE)}",
    POSITIVE,
    Needs({"linearity": ()}, along=2, controls=("multi-delta",)),
    statistics.slope(statistics.difference(measures.linearity_at, of_memorizer), "size"),
    NOT_GROWN,
    MIDDLE,
    instead_of="linearity rises",
  ),
  "gl rises": Claim(
    "Samples leave the training set as it grows",
    "fig. 13",
    "slope of the GL score per decade of N",
    POSITIVE,
    Needs({"samples.denoisers": ("network",)}, along=2),
    statistics.slope(statistics.mean(measures.gl), "size"),
    NOT_GROWN,
  ),
  "gl and linearity": Claim(
    "Generalization and linearity rise together",
    "fig. 13",
    f"rank correlation over models of the GL score and the linearity score, mean over {spelled(MIDDLE)}",
    POSITIVE,
    Needs({"samples.denoisers": ("network",), "linearity": ()}, along=2),
    statistics.rank_correlation(measures.gl, measures.linearity_at, MIDDLE),
    NOT_GROWN,
  ),
  "gap falls": Claim(
    "Denoisers approach the Gaussian one as the training set grows",
    "fig. 5, 6",
    f"slope of the score difference to D_G per decade of N, mean over {spelled(MIDDLE)}",
    NEGATIVE,
    ALONG,
    statistics.slope(statistics.mean(measures.to_gaussian_at), "size"),
    NOTHING_LEARNED,
    MIDDLE,
  ),
  "lead grows": Claim(
    "As the training set grows, denoisers come nearer to the Gaussian one than whoever has learned nothing",
    "fig. 5, 6",
    "slope per decade of N of how much nearer to D_G the network is than the nearest of mean, c_skip x and "
    f"identity, 0 where it is not; mean over {spelled(MIDDLE)}",
    POSITIVE,
    ALONG,
    statistics.slope(statistics.lead, "size"),
    NOTHING_LEARNED,
    MIDDLE,
    instead_of="gap falls",
  ),
  "memorizer": Claim(
    "The network with the fewest images is nearer to the memorizing denoiser than to the Gaussian one",
    "fig. 5",
    f"score difference to D_G minus that to D_M, held-out images, mean over {spelled(MIDDLE)}",
    POSITIVE,
    ALONG,
    statistics.difference(measures.to_gaussian_at, measures.to_memorizer_at, 0),
    NOTHING_LEARNED | {"gaussian": MUST_NOT_PASS, "multi-delta": MUST_PASS},
    MIDDLE,
  ),
  "generalizer": Claim(
    "The network with the most images is nearer to the Gaussian denoiser than to the memorizing one",
    "fig. 2, 5",
    f"score difference to D_M minus that to D_G, held-out images, mean over {spelled(MIDDLE)}",
    POSITIVE,
    PAIRS,
    statistics.difference(measures.to_memorizer_at, measures.to_gaussian_at),
    IS_GAUSSIAN,
    MIDDLE,
  ),
  "nearest to gaussian": Claim(
    "The network with the most images is nearer to the Gaussian denoiser than any that has not learned it",
    "fig. 2, 5",
    "least score difference to D_G of mean, c_skip x, identity and D_M, minus the network's, held-out "
    f"images, mean over {spelled(MIDDLE)}",
    POSITIVE,
    PAIRS,
    statistics.margin,
    IS_GAUSSIAN | {"surrogate": MUST_PASS},
    MIDDLE,
    instead_of="generalizer",
  ),
  "beyond gaussian": Claim(
    "The network with the most images denoises unseen images better than the Gaussian denoiser",
    "none",
    f"(E_G − E)/E_G with E the held-out squared error, mean over {spelled(MIDDLE)}",
    POSITIVE,
    PAIRS,
    statistics.improvement,
    NOTHING_LEARNED | {"multi-delta": MUST_NOT_PASS, "gaussian": MUST_NOT_PASS, "surrogate": MUST_NOT_PASS},
    MIDDLE,
  ),
  "beyond undertraining": Claim(
    "The network with the most images is farther from the Gaussian denoiser than undertraining leaves it",
    "none",
    "score difference to D_G minus that of the same recipe on Gaussian images, for which D_G is the best; "
    f"mean over {spelled(MIDDLE)}",
    POSITIVE,
    PAIRS._replace(controls=("surrogate",)),
    statistics.difference(measures.to_gaussian_at, floor_of_training),
    {"gaussian": MUST_NOT_PASS, "surrogate": MUST_NOT_PASS},
    MIDDLE,
  ),
  "weights": Claim(
    "The weights of the best affine map of a well-trained denoiser are those of the Gaussian denoiser",
    "fig. 4",
    "‖W_L − W_G‖²/‖W_G‖² from two fits on held-out images, their noise left out, the most images, mean "
    f"over {spelled(MIDDLE)}",
    (-math.inf, round(WEIGHT_GAP**2, 10)),
    Needs({"distillation": ()}, pairs=PAIRS_A_PIXEL),
    statistics.mean(measures.weight_gap2_at),
    IS_GAUSSIAN | {"surrogate": MUST_PASS},
    MIDDLE,
  ),
  "subspaces": Claim(
    f"Singular vectors of the best affine map span what the principal components span, {spelled(ORDERED)}",
    "fig. 4, 14",
    "energy that the leading k of both share, mean over k, held-out images, the most images, at the worst "
    "level",
    (0.9, math.inf),
    Needs({"distillation": ()}, pairs=PAIRS_A_PIXEL),
    statistics.mean(measures.subspace_at),
    IS_GAUSSIAN | {"surrogate": MUST_PASS},
    ORDERED,
    WORST,
  ),
  "low-noise floor": Claim(
    "At vanishing noise the gap to D_G is fixed by the training set alone",
    "fig. 16",
    "largest difference over models between the gap at the lowest σ and ‖(I − P)(x − μ)‖/√d",
    (-math.inf, 0.01),
    Needs({"score_gap.pairs": (GAUSSIAN,)}),
    statistics.floor_miss,
    {"mean": MUST_NOT_PASS, "skip": MUST_NOT_PASS, "identity": MUST_NOT_PASS},
  ),
  "low noise is learned": Claim(
    "At low noise, too, the network with the most images knows what the Gaussian denoiser knows",
    "fig. 16",
    "(E_0 − E_G)/(E_0 − E), E the held-out squared errors and E_0 the least of mean, c_skip x and identity, "
    f"at the worst level of {spelled(LOW)}",
    (0.5, math.inf),
    PAIRS,
    statistics.recovered("gaussian"),
    NOTHING_LEARNED | {"multi-delta": MUST_NOT_PASS, "gaussian": MUST_PASS},
    LOW,
    WORST,
    instead_of="low-noise floor",
  ),
}
