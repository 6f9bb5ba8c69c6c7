"""Claims about the law of training noise: `configs/noise_law.py`."""

from gauss_diffusion.readings import measures
from gauss_diffusion.readings.claims import statistics
from gauss_diffusion.readings.claims.claim import (
  GAUSSIAN,
  MUST_NOT_PASS,
  NOTHING_LEARNED,
  POSITIVE,
  Claim,
)
from gauss_diffusion.readings.measures import HIGH, MIDDLE, Band, Needs, spelled

EDM, LOG_UNIFORM = "edm law", "log-uniform law"  # groups


def _undertrained(where: str, band: Band) -> Claim:
  return Claim(
    f"At {where} noise a network is far from the Gaussian denoiser because training seldom draws such noise",
    "fig. 2, 27",
    f"score difference to D_G under EDM's law minus that under a log-uniform law, mean over {spelled(band)}",
    POSITIVE,
    Needs({"score_gap.pairs": (GAUSSIAN,)}, groups=(EDM, LOG_UNIFORM)),
    statistics.between(measures.to_gaussian_at, EDM, LOG_UNIFORM),
    NOTHING_LEARNED | {"gaussian": MUST_NOT_PASS, "multi-delta": MUST_NOT_PASS},
    band,
  )


CLAIMS = {
  "undertrained at high noise": _undertrained("high", HIGH),
  "undertrained at middle noise": _undertrained("middle", MIDDLE),
}
