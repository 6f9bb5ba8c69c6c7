"""Claims about networks trained on disjoint halves of the data: `configs/strong_generalization.py`."""

from gauss_diffusion.readings.claims import statistics
from gauss_diffusion.readings.claims.claim import (
  GAUSSIAN,
  MUST_NOT_PASS,
  MUST_PASS,
  NOTHING_LEARNED,
  POSITIVE,
  Claim,
)
from gauss_diffusion.readings.measures import Needs

SAMPLES = ("network", "gaussian")


def _brings_together(statement: str, group: str, what: str) -> Claim:
  return Claim(
    statement,
    "fig. 9, 26",
    f"distance of samples: {what}",
    POSITIVE,
    Needs({"samples.denoisers": ("network",)}, halves=("small", group)),
    statistics.apart("small", group),
    NOTHING_LEARNED,
    replaced=(group,),
  )


def _without_loss(statement: str, group: str, instead_of: str) -> Claim:
  return Claim(
    statement,
    "fig. 9, 26",
    "by what share samples lie farther apart, and by what share held-out squared errors are larger, without "
    "it: the lesser of the two",
    POSITIVE,
    Needs({"samples.denoisers": ("network",), "score_gap": ()}, halves=("small", group)),
    statistics.together_and_better("small", group),
    NOTHING_LEARNED | {"multi-delta": MUST_NOT_PASS},
    replaced=(group,),
    instead_of=instead_of,
  )


CLAIMS = {
  "halves agree": Claim(
    "Networks trained on disjoint halves draw nearer pictures when the halves are large",
    "fig. 9, 26",
    "distance of the two networks' samples, small halves minus large ones (1 = unrelated)",
    POSITIVE,
    Needs({"samples.denoisers": ("network",)}, halves=("small", "large")),
    statistics.apart("small", "large"),
    NOTHING_LEARNED,
  ),
  "gaussians agree": Claim(
    "Of small halves, the two Gaussian denoisers agree where the two networks do not",
    "fig. 9",
    "distance of samples: between the networks minus between the Gaussians",
    POSITIVE,
    Needs({"samples.denoisers": SAMPLES}, halves=("small",)),
    statistics.apart("small", "small", other_denoisers=("gaussian", "gaussian")),
    NOTHING_LEARNED | {"gaussian": MUST_NOT_PASS},
  ),
  "gaussians agree, networks copy": Claim(
    "Of small halves, the two Gaussian denoisers agree, and the two networks draw their own training images",
    "fig. 9",
    "distance of samples between the networks minus between the Gaussians, or share of copies minus 1/2: the "
    "lesser",
    POSITIVE,
    Needs({"samples.denoisers": SAMPLES}, halves=("small",)),
    statistics.apart_by_copying("small"),
    NOTHING_LEARNED | {"gaussian": MUST_NOT_PASS, "multi-delta": MUST_PASS},
    instead_of="gaussians agree",
  ),
  "networks are gaussian": Claim(
    "Networks of large halves draw what both Gaussian denoisers draw, more than networks of small ones do",
    "fig. 9, 26",
    "distance of samples from networks to those of both Gaussians: small halves minus large ones",
    POSITIVE,
    Needs({"samples.denoisers": SAMPLES}, halves=("small", "large")),
    statistics.apart("small", "large", GAUSSIAN, GAUSSIAN),
    NOTHING_LEARNED,
  ),
  "networks are nearly gaussian": Claim(
    "Networks of large halves draw what both Gaussian denoisers draw, more than who has learned nothing",
    "fig. 9, 26",
    "distance of samples to those of both Gaussians: the nearest of mean, c_skip x and identity, minus the "
    "networks",
    POSITIVE,
    Needs({"samples.denoisers": SAMPLES}, halves=("large",), controls=statistics.NULLS),
    statistics.nearer_than_nulls("large"),
    NOTHING_LEARNED | {"gaussian": MUST_PASS},
    instead_of="networks are gaussian",
  ),
  "stopping helps": _brings_together(
    "Stopping early brings the networks of small halves together",
    "stopped",
    "trained long minus stopped early",
  ),
  "stopping helps both": _without_loss(
    "Stopping early brings the networks of small halves together, and they denoise unseen images better",
    "stopped",
    "stopping helps",
  ),
  "narrowing helps": _brings_together(
    "Narrow networks on small halves agree more than wide ones", "narrow", "wide minus narrow"
  ),
  "narrowing helps both": _without_loss(
    "Narrow networks on small halves agree more than wide ones, and denoise unseen images better",
    "narrow",
    "narrowing helps",
  ),
}
