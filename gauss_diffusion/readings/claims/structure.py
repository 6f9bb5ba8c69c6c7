"""Claims about one well-trained network and its best affine map: `configs/gaussian_structure.py`."""

import math
import typing

from gauss_diffusion.readings import measures
from gauss_diffusion.readings.claims import statistics
from gauss_diffusion.readings.claims.claim import (
  GAUSSIAN,
  MEMORIZER,
  MUST_NOT_PASS,
  MUST_PASS,
  NOTHING_LEARNED,
  POSITIVE,
  WORST,
  Claim,
)
from gauss_diffusion.readings.claims.size import IS_GAUSSIAN
from gauss_diffusion.readings.measures import ALL, HIGH, LOW, MIDDLE, Band, Needs, Reading, spelled

if typing.TYPE_CHECKING:
  from gauss_diffusion.results import xarray

LINEAR_SCORE = 0.96  # from which on the paper calls a denoiser linear
REPLACES = 0.05  # RMSE below which the paper lets one denoiser stand for another
COVERED = 0.9  # share of the distance to the nearest null, from which on one denoiser says what another says
NETWORK_LINEAR = ("network", "linear (held-out)")
LINEAR_GAUSSIAN = ("linear (held-out)", "gaussian")
LEARNED = NOTHING_LEARNED | {"gaussian": MUST_PASS}  # at high noise the memorizer is the Gaussian denoiser
IS_LINEAR = NOTHING_LEARNED | {"multi-delta": MUST_NOT_PASS, "gaussian": MUST_PASS}


def to_linear(reading: Reading) -> "xarray.DataArray":
  """Return the network's distance to its best affine map on each held-out image, [sigma, image]."""
  return measures.gap_at(reading, *NETWORK_LINEAR)


def linear_to_gaussian(reading: Reading) -> "xarray.DataArray":
  """Return the distance of the network's best affine map to D_G on each held-out image, [sigma, image]."""
  return measures.gap_at(reading, *LINEAR_GAUSSIAN)


def relative_to_gaussian(reading: Reading) -> "xarray.DataArray":
  """Return ‖D − D_G‖/‖D‖ on each held-out image, [sigma, image] (eq. 53)."""
  return measures.gap_at(reading, *GAUSSIAN, unit="nmse")


def relative_to_linear(reading: Reading) -> "xarray.DataArray":
  """Return ‖D − D_L‖/‖D‖ on each held-out image, [sigma, image] (eq. 53)."""
  return measures.gap_at(reading, *NETWORK_LINEAR, unit="nmse")


def _linear_at(where: str, band: Band, controls: dict[str, str], instead_of: str) -> Claim:
  return Claim(
    f"At {where} noise the best affine map says what the network says",
    "fig. 2",
    "1 − RMSE(D, D_L)/RMSE(D, null), null the nearest of mean, c_skip x and identity, held-out images, at "
    f"the worst level of {spelled(band)}",
    (COVERED, math.inf),
    Needs({"score_gap.pairs": (NETWORK_LINEAR,)}),
    statistics.covered("linear (held-out)"),
    controls | {"linear": MUST_PASS},
    band,
    WORST,
    networks=False,
    instead_of=instead_of,
  )


def _replaces_at(where: str, band: Band, controls: dict[str, str]) -> Claim:
  return Claim(
    f"At {where} noise the best affine map replaces the network",
    "fig. 2",
    f"largest RMSE between network and D_L (held-out) over {spelled(band)}",
    (-math.inf, REPLACES),
    Needs({"score_gap.pairs": (NETWORK_LINEAR,)}),
    statistics.mean(to_linear),
    controls | {"linear": MUST_PASS},
    band,
    WORST,
    networks=False,
  )


CLAIMS = {
  "linear everywhere": Claim(
    f"A well-trained denoiser has a linearity score of at least {LINEAR_SCORE} at every noise level",
    "fig. 1, 10",
    "linearity score at the worst level",
    (LINEAR_SCORE, math.inf),
    Needs({"linearity": ()}),
    statistics.mean(measures.linearity_at),
    IS_LINEAR,
    ALL,
    WORST,
    networks=False,
  ),
  "linear in the middle": _linear_at("middle", MIDDLE, IS_LINEAR, "linear everywhere"),
  "even weights are worst": Claim(
    "α = β = 1/√2 is the hardest mixture",
    "fig. 10",
    f"linearity score at the most uneven α² minus that at α² = 1/2, mean over {spelled(MIDDLE)}",
    POSITIVE,
    Needs({"linearity": ()}),
    statistics.difference(measures.most_uneven_at, measures.linearity_at),
    NOTHING_LEARNED,
    MIDDLE,
    networks=False,
  ),
  "linear at high noise": _replaces_at("high", HIGH, LEARNED),
  "linear knows high noise": _linear_at("high", HIGH, LEARNED, "linear at high noise"),
  "linear at low noise": _replaces_at("low", LOW, IS_LINEAR),
  "linear knows low noise": _linear_at("low", LOW, IS_LINEAR, "linear at low noise"),
  "linear is gaussian": Claim(
    "The best affine map of a well-trained denoiser is the Gaussian denoiser",
    "fig. 2",
    f"RMSE between D_L (held-out) and D_G at the worst of {spelled(ALL)}",
    (-math.inf, REPLACES),
    Needs({"score_gap.pairs": (LINEAR_GAUSSIAN, MEMORIZER)}),
    statistics.mean(linear_to_gaussian),
    IS_GAUSSIAN | {"surrogate": MUST_PASS},
    ALL,
    WORST,
    networks=False,
  ),
  "linear, not gaussian": Claim(
    "At high noise the network is nearer to its best affine map than to the Gaussian denoiser",
    "fig. 27",
    f"NMSE to D_G minus NMSE to D_L (held-out), mean over {spelled(HIGH)}",
    POSITIVE,
    Needs({"score_gap.pairs": (GAUSSIAN, NETWORK_LINEAR)}),
    statistics.difference(relative_to_gaussian, relative_to_linear),
    {"gaussian": MUST_NOT_PASS},
    HIGH,
    networks=False,
  ),
  "identity": Claim(
    "At vanishing noise the denoiser is the identity",
    "fig. 15",
    "‖D(x) − x‖/‖x‖ at the lowest σ",
    (-math.inf, 0.05),
    Needs({"denoised": ()}),
    statistics.mean(measures.change),
    {"skip": MUST_NOT_PASS, "identity": MUST_NOT_PASS, "untrained": MUST_NOT_PASS, "gaussian": MUST_PASS},
    networks=False,
  ),
}
