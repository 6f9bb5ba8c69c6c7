"""Claims about networks of different architectures: `configs/architectures.py`."""

import math
from functools import partial

from gauss_diffusion.readings import measures
from gauss_diffusion.readings.claims import statistics
from gauss_diffusion.readings.claims.claim import GAUSSIAN, MEMORIZER, POSITIVE, Claim
from gauss_diffusion.readings.measures import HIGH, LOW, MIDDLE, Needs, Reading, Values, spelled

ORDERED = (10.0, math.inf)  # levels at which singular vectors are held against principal components
PLAIN = "plain ve"  # the group without EDM's preconditioning


def alignment_lost(reading: Reading) -> Values:
  """Return how much better singular vectors match principal components at high noise than at low noise."""
  return measures.alignment(reading, ORDERED) - measures.alignment(reading, LOW)


CLAIMS = {
  "all are gaussian": Claim(
    "Every architecture is nearer to the Gaussian denoiser than to the memorizing one",
    "fig. 22–24",
    f"least of RMSE to D_M minus RMSE to D_G over models, {spelled(MIDDLE)}",
    POSITIVE,
    Needs({"score_gap.pairs": (GAUSSIAN, MEMORIZER)}),
    statistics.least(measures.nearer_gaussian),
  ),
  "preconditioning": Claim(
    "Without EDM's preconditioning and weighting the denoiser is less linear",
    "fig. 11",
    f"linearity score of the EDM network minus that of the plain VE network, {spelled(HIGH)}",
    POSITIVE,
    Needs({"linearity": ()}, groups=("edm", PLAIN)),
    statistics.between(partial(measures.linearity, band=HIGH), "edm", PLAIN),
  ),
  "modes are components": Claim(
    "At high noise the Jacobian's leading singular vectors are principal components",
    "fig. 28, 29",
    f"least alignment over models but plain VE, {spelled(ORDERED)} (1 = same span, 0 = orthogonal)",
    (0.5, math.inf),
    Needs({"modes": ()}),
    statistics.least(partial(measures.alignment, band=ORDERED), but=PLAIN),
  ),
  "modes lose order": Claim(
    "At vanishing noise the Jacobian's singular vectors have no order left",
    "fig. 28, 29",
    f"least over models but plain VE of the alignment at {spelled(ORDERED)} minus that at {spelled(LOW)}",
    POSITIVE,
    Needs({"modes": ()}),
    statistics.least(alignment_lost, but=PLAIN),
  ),
}
