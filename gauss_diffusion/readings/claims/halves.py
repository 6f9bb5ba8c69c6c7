"""Claims about networks trained on disjoint halves of the data: `configs/strong_generalization.py`."""

from gauss_diffusion.readings.claims import statistics
from gauss_diffusion.readings.claims.claim import GAUSSIAN, POSITIVE, Claim
from gauss_diffusion.readings.measures import Needs

CLAIMS = {
  "halves agree": Claim(
    "Networks trained on disjoint halves draw nearer pictures when the halves are large",
    "fig. 9, 26",
    "distance of the two networks' samples, small halves minus large ones (1 = unrelated)",
    POSITIVE,
    Needs({"samples.denoisers": ("network",)}, halves=("small", "large")),
    statistics.farther_apart("small", "large"),
  ),
  "gaussians agree": Claim(
    "Of small halves, the two Gaussian denoisers agree where the two networks do not",
    "fig. 9",
    "distance of samples: between the networks minus between the Gaussians",
    POSITIVE,
    Needs({"samples.denoisers": ("network", "gaussian")}, halves=("small",)),
    statistics.farther_apart("small", "small", other_denoisers=("gaussian", "gaussian")),
  ),
  "networks are gaussian": Claim(
    "Networks of large halves draw what both Gaussian denoisers draw, more than networks of small ones do",
    "fig. 9, 26",
    "distance of samples from networks to those of both Gaussians: small halves minus large ones",
    POSITIVE,
    Needs({"samples.denoisers": ("network", "gaussian")}, halves=("small", "large")),
    statistics.farther_apart("small", "large", GAUSSIAN, GAUSSIAN),
  ),
  "stopping helps": Claim(
    "Stopping early brings the networks of small halves together",
    "fig. 9, 26",
    "distance of samples: trained long minus stopped early",
    POSITIVE,
    Needs({"samples.denoisers": ("network",)}, halves=("small", "stopped")),
    statistics.farther_apart("small", "stopped"),
  ),
  "narrowing helps": Claim(
    "Narrow networks on small halves agree more than wide ones",
    "fig. 9, 26",
    "distance of samples: wide minus narrow",
    POSITIVE,
    Needs({"samples.denoisers": ("network",)}, halves=("small", "narrow")),
    statistics.farther_apart("small", "narrow"),
  ),
}
