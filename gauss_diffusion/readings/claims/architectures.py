"""Claims about networks of different architectures: `configs/architectures.py`."""

import math
from functools import partial

from gauss_diffusion.readings import measures
from gauss_diffusion.readings.claims import statistics
from gauss_diffusion.readings.claims.claim import (
  GAUSSIAN,
  MEMORIZER,
  MUST_NOT_PASS,
  MUST_PASS,
  POSITIVE,
  WORST,
  Claim,
)
from gauss_diffusion.readings.claims.size import IS_GAUSSIAN
from gauss_diffusion.readings.measures import HIGH, MIDDLE, Needs, spelled

ORDERED = (10.0, math.inf)  # levels at which singular vectors are held against principal components
LOST = 0.05  # of alignment: what rounding of a constant Jacobian never makes
PLAIN = "plain ve"  # the group without EDM's preconditioning
PAIRS = Needs({"score_gap.pairs": (GAUSSIAN, MEMORIZER)})
# What has learned nothing has a multiple of the identity for its Jacobian, whose singular vectors are any.
NO_ORDER = dict.fromkeys(("skip", "identity", "untrained"), MUST_NOT_PASS)


def _components(statement: str, but: str | None) -> Claim:
  models = f"models but {but}" if but else "models"
  return Claim(
    statement,
    "fig. 28, 29",
    f"least alignment over {models}, at the worst of {spelled(ORDERED)} (1 = same span, 0 = orthogonal)",
    (0.5, math.inf),
    Needs({"modes": ()}),
    statistics.least(statistics.mean(measures.alignment_at), but),
    NO_ORDER | {"gaussian": MUST_PASS},
    ORDERED,
    WORST,
    networks=False,
  )


def _no_order_left(statement: str, but: str | None) -> Claim:
  models = f"models but {but}" if but else "models"
  return Claim(
    statement,
    "fig. 28, 29",
    f"least over {models} of the mean alignment at {spelled(ORDERED)} minus that at {spelled(measures.LOW)}",
    (LOST, math.inf),
    Needs({"modes": ()}),
    statistics.least(
      statistics.difference(
        partial(measures.alignment, band=ORDERED), partial(measures.alignment, band=measures.LOW)
      ),
      but,
    ),
    NO_ORDER | {"gaussian": MUST_NOT_PASS},
    networks=False,
  )


CLAIMS = {
  "all are gaussian": Claim(
    "Every architecture is nearer to the Gaussian denoiser than to the memorizing one",
    "fig. 22–24",
    f"least over models of score difference to D_M minus that to D_G, mean over {spelled(MIDDLE)}",
    POSITIVE,
    PAIRS,
    statistics.least(statistics.difference(measures.to_memorizer_at, measures.to_gaussian_at)),
    IS_GAUSSIAN,
    MIDDLE,
    networks=False,
  ),
  "all nearest to gaussian": Claim(
    "Every architecture is nearer to the Gaussian denoiser than any that has not learned it",
    "fig. 22–24",
    "least over models of the least score difference to D_G of mean, c_skip x, identity and D_M, minus the "
    f"network's; mean over {spelled(MIDDLE)}",
    POSITIVE,
    PAIRS,
    statistics.least(statistics.margin),
    IS_GAUSSIAN,
    MIDDLE,
    networks=False,
    instead_of="all are gaussian",
  ),
  "preconditioning": Claim(
    "Without EDM's preconditioning and weighting the denoiser is less linear",
    "fig. 11",
    f"linearity score of the EDM network minus that of the plain VE network, mean over {spelled(HIGH)}",
    POSITIVE,
    Needs({"linearity": ()}, groups=("edm", PLAIN)),
    statistics.between(measures.linearity_at, "edm", PLAIN),
    {"untrained": MUST_NOT_PASS},
    HIGH,
    networks=False,
  ),
  "modes are components": _components(
    "At high noise the Jacobian's leading singular vectors are principal components", None
  ),
  "modes are components, edm": _components(
    "At high noise the Jacobian's leading singular vectors are principal components, plain VE left out", PLAIN
  ),
  "modes lose order": _no_order_left(
    "At vanishing noise the Jacobian's singular vectors have no order left", None
  ),
  "modes lose order, edm": _no_order_left(
    "At vanishing noise the Jacobian's singular vectors have no order left, plain VE left out", PLAIN
  ),
}
