"""What one subject's results say, one number per sample: the ground of headlines, claims and sweeps."""

import typing
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float

if typing.TYPE_CHECKING:
  from gauss_diffusion.results import xarray

Band = tuple[float, float]  # of noise levels, both ends included
Values = Float[np.ndarray, " n"]  # one for each sample, image or direction

# Noise levels, as the paper divides them.
HIGH: Band = (20.0, np.inf)
MIDDLE: Band = (0.1, 20.0)  # where memorization and generalization part
LOW: Band = (0.0, 0.1)
ALL: Band = (0.0, np.inf)
APART = "apart"  # distances between samples, [partner, denoiser, other, sample], partners by their titles
# What may change along a study, by its name in `sweep` -> what an axis calls it.
SWEEPS = {
  "size": "training images",
  "width": "channels of the network",
  "time": "images seen in training",
}


class Reading(NamedTuple):
  """One subject of a study with everything that was found about it."""

  title: str
  entry: dict[str, Any]  # of the study's `models`, and `size`, the number of its training images
  found: "dict[str, xarray.Dataset]"  # analysis -> its result
  absent: dict[str, str]  # analysis -> why this subject has no result of it
  replicate: int = 0  # which of the networks of this title
  controls: "Mapping[str, Reading]" = {}  # that may stand in for this subject, on the same images


class Needs(NamedTuple):
  """What a study must hold for a claim or a figure of the whole of it."""

  results: dict[str, tuple]  # an analysis, or ``analysis.option`` -> what that option must list
  along: int = 1  # readings; with more than one, a sweep
  groups: tuple[str, ...] = ()  # with a reading each
  halves: tuple[str, ...] = ()  # groups with two readings, on disjoint halves of the data
  paired: bool = False  # at least one such group, whatever its name
  controls: tuple[str, ...] = ()  # whose results the statistic reads
  pairs: int = 0  # of the distillation, for each pixel: with fewer their noise decides


def position(reading: Reading, sweep: str) -> float:
  """Return where a reading stands along a sweep, one of `SWEEPS`."""
  entry = reading.entry
  if sweep == "size":
    return entry["size"]
  if sweep == "width":
    network = entry["network"]  # a transformer's width has another name
    return network["model_channels"] if "model_channels" in network else network["hidden_size"]
  return entry["train"]["steps"] * entry["train"]["batch"]


def trained_on(reading: Reading) -> Band:
  """Return the lowest and the highest noise level that a network was trained on, of a law that has ends."""
  return reading.entry["train"]["sigma_min"], reading.entry["train"]["sigma_max"]


def gl(reading: Reading) -> Values:
  """Return the GL score of each of the network's samples (Li et al. 2024, eq. 14)."""
  return reading.found["samples"].gl.sel(denoiser="network").to_numpy()


def relative_gl(reading: Reading) -> Values:
  """Return the GL score of each of the network's samples over the mean one of held-out images.

  The score falls when the training set grows denser, whether samples are copies or not; this ratio doesn't.
  """
  return gl(reading) / reading.found["samples"].held_out_gl.to_numpy().mean()


def memorized(reading: Reading) -> Values:
  """Return which of the network's samples copy a training image, as 0 and 1."""
  return reading.found["samples"].memorized.sel(denoiser="network").to_numpy().astype(float)


def linearity(reading: Reading, band: Band = MIDDLE, alpha2: float = 0.5) -> Values:
  """Return |cosine| of each pair of noisy images, averaged over the levels in `band` (eq. 11).

  Args:
    reading: with a result of `linearity`.
    band: of noise levels.
    alpha2: weight of the first image; the nearest one that was measured is taken.
  """
  return _over(band, linearity_at(reading, alpha2))


def linearity_at(reading: Reading, alpha2: float = 0.5) -> "xarray.DataArray":
  """Return |cosine| of each pair of noisy images at each level, [sigma, sample]; see `linearity`."""
  found = reading.found["linearity"]
  weight = np.argmin(np.abs(found.alpha2.to_numpy() - alpha2))
  return abs(found.cosine.sel(inputs="noisy image").isel(alpha2=weight))


def most_uneven_at(reading: Reading) -> "xarray.DataArray":
  """Return `linearity_at` the most uneven weights that were measured."""
  return linearity_at(reading, float(reading.found["linearity"].alpha2.max()))


def gap(
  reading: Reading, one: str, two: str, band: Band = MIDDLE, law: str = "held-out", unit: str = "rmse"
) -> Values:
  """Return two denoisers' score difference on each image, averaged over the levels in `band` (eq. 10)."""
  return _over(band, gap_at(reading, one, two, law, unit))


def gap_at(
  reading: Reading, one: str, two: str, law: str = "held-out", unit: str = "rmse"
) -> "xarray.DataArray":
  """Return two denoisers' score difference on each image at each level, [sigma, image]; see `gap`."""
  return reading.found["score_gap"][unit].sel(law=law, one=one, two=two)


def to_gaussian_at(reading: Reading) -> "xarray.DataArray":
  """Return the network's distance to D_G on each held-out image at each level, [sigma, image]."""
  return gap_at(reading, "network", "gaussian")


def to_memorizer_at(reading: Reading) -> "xarray.DataArray":
  """Return the network's distance to D_M on each held-out image at each level, [sigma, image]."""
  return gap_at(reading, "network", "multi-delta")


def squared_error_at(reading: Reading, denoiser: str = "network") -> "xarray.DataArray":
  """Return a denoiser's squared error per pixel on each held-out image at each level, [sigma, image]."""
  return reading.found["score_gap"].error.sel(denoiser=denoiser, clean="held-out").astype(float) ** 2


def to_gaussian(reading: Reading) -> Values:
  """Return the network's `gap` to the Gaussian denoiser, on held-out images at middle noise."""
  return gap(reading, "network", "gaussian")


def to_memorizer(reading: Reading) -> Values:
  """Return the network's `gap` to the memorizing denoiser, on held-out images at middle noise."""
  return gap(reading, "network", "multi-delta")


def error(reading: Reading, clean: str = "held-out", band: Band = MIDDLE) -> Values:
  """Return the network's denoising RMSE on each image, averaged over the levels in `band`.

  Its mean square is the least that any denoiser can have plus the square of the distance to that denoiser
  (Pythagoras): of two networks, the one with the lower error on held-out images has learned more.
  """
  return _over(band, reading.found["score_gap"].error.sel(denoiser="network", clean=clean))


def distance(one: Reading, two: Reading, denoiser: str = "network", other: str | None = None) -> Values:
  """Return how far the samples of two readings from the same noise lie apart, in units of chance.

  ``‖a_i − b_i‖ / mean over j ≠ i of ‖a_i − b_j‖``: 0 for the same image, about 1 for unrelated ones. A kept
  study has these numbers, between halves and of each half itself, and not the samples.
  """
  if APART in (found := one.found["samples"]):
    return found[APART].sel(partner=two.title, denoiser=denoiser, other=other or denoiser).to_numpy()
  a, b = _samples(one, denoiser), _samples(two, other or denoiser)
  apart = np.linalg.norm(a[:, None] - b[None], axis=-1)
  same = np.diagonal(apart)
  return same / ((apart.sum(1) - same) / (len(a) - 1))


def pfd(found: "xarray.Dataset", one: str, two: str = "network") -> float:
  """Return the probability flow distance between two denoisers, RMS per pixel (Zhang et al. 2025).

  ``√E‖Φ_one(z) − Φ_two(z)‖²`` over latents z, Φ the map from noise to image along the PF-ODE: 0 for the same
  denoiser, and never less than the Wasserstein-2 distance between the laws of what the two draw.

  Args:
    found: a result of `samples` with both.
    one: a denoiser.
    two: another.
  """
  a, b = (found.samples.sel(denoiser=name).to_numpy().astype(np.float64) for name in (one, two))
  return float(np.sqrt(np.mean((a - b) ** 2)))


def halves(readings: list[Reading]) -> dict[str, tuple[Reading, Reading]]:
  """Return the groups that are two subjects trained alike on disjoint halves of the data, part 0 first."""
  groups: dict[str, list[Reading]] = {}
  for reading in sorted(readings, key=lambda reading: reading.entry["part"]):
    groups.setdefault(reading.entry["group"], []).append(reading)
  return {
    name: (group[0], group[1])
    for name, group in groups.items()
    if [reading.entry["part"] for reading in group] == [0, 1]
  }


def apart(pair: tuple[Reading, Reading], one: str = "network", other: str = "network") -> Values:
  """Return the `distance` between two readings' samples; of two denoisers, the mean over both readings."""
  if one == other:
    return distance(*pair, one)
  return np.mean([distance(a, b, one, other) for a in pair for b in pair], axis=0)


def push(reading: Reading, level: int, direction: str = "first singular vector") -> Values:
  """Return how far each sample moves (RMSE) when its state is pushed at one level, 0 the highest."""
  found = reading.found["perturbation"]
  highest_first = np.argsort(-found.sigma.to_numpy())
  return _mean(found.change.isel(sigma=highest_first[level]).sel(direction=direction), "sign")


def alignment(reading: Reading, band: Band) -> Values:
  """Return the share of the Jacobian's leading singular vectors that lies in the principal components'."""
  return _over(band, alignment_at(reading))


def alignment_at(reading: Reading) -> "xarray.DataArray":
  """Return `alignment` of each latent at each level, [sigma, latent]."""
  return reading.found["modes"].alignment


def push_at(reading: Reading, level: int, direction: str = "first singular vector") -> "xarray.DataArray":
  """Return how far each sample moves (RMSE) for each unit of the push (RMSE), at one level, 0 the highest.

  A push of the same multiple of σ moves more at high noise whatever the denoiser; relative to its own
  length the change tells how much the flow keeps: √(λ/(λ + σ²)) along a component of the Gaussian denoiser.
  """
  found = reading.found["perturbation"]
  one = found.isel(sigma=np.argsort(-found.sigma.to_numpy())[level]).sel(direction=direction)
  pixels = one.unmoved.isel(latent=0).size
  return one.change.mean("sign") * np.sqrt(pixels) / one.length


def weight_gap(reading: Reading) -> Float[np.ndarray, " S"]:
  """Return ``‖W_L − W_G‖/‖W_G‖`` at each noise level, of the best affine map on held-out images (fig. 4).

  Free of what noise in the fits adds; the estimate of its square can be negative, and so then is its root.
  """
  square = reading.found["distillation"].weight_gap2.sel(law="held-out").to_numpy()
  return np.sign(square) * np.sqrt(np.abs(square))


def weight_gap2_at(reading: Reading) -> "xarray.DataArray":
  """Return the unbiased estimate of ``‖W_L − W_G‖²/‖W_G‖²`` at each level, held-out images, [sigma]."""
  return reading.found["distillation"].weight_gap2.sel(law="held-out")


def subspace_at(reading: Reading) -> "xarray.DataArray":
  """Return `subspace` at each level, mean over the dimensions k, [sigma]."""
  return reading.found["distillation"].subspace.sel(law="held-out").mean("k")


def subspace(reading: Reading, band: Band) -> Values:
  """Return how much of the best affine map's leading singular vectors lies in the components', for each k."""
  return _over(band, reading.found["distillation"].subspace.sel(law="held-out"))


def change(reading: Reading) -> Values:
  """Return ``‖D(x) − x‖/‖x‖`` for each noisy image at the lowest level, D the network (fig. 15)."""
  found = reading.found["denoised"]
  lowest = np.argmin(found.sigma.to_numpy())
  return found.nmse.sel(compared="network").isel(sigma=lowest).to_numpy()


def map_gap(reading: Reading, denoiser: str, law: str, band: Band = MIDDLE) -> Values:
  """Return the squared output gap on each held-out image between a best affine map and the Gaussian denoiser.

  ``law`` says on which images the denoiser was distilled. What Monte-Carlo noise in the map adds is taken
  off, so that the mean estimates the gap of the exact map, and may fall below 0.
  """
  return _over(band, map_gap_at(reading, denoiser, law))


def map_gap_at(reading: Reading, denoiser: str, law: str) -> "xarray.DataArray":
  """Return the squared output gap of a best affine map at each level, [sigma, image]; see `map_gap`."""
  found = reading.found["input_law"].sel(denoiser=denoiser, law=law, evaluated="held-out")
  squared = (found.output_gap.astype(np.float64) ** 2).mean("repeat")
  return squared - found.output_noise.astype(np.float64) ** 2


def within(sigma: Float[np.ndarray, " S"], band: Band) -> Bool[np.ndarray, " S"]:
  """Return which levels lie in `band`; where none does, the level nearest to it stands in.

  Args:
    sigma: noise levels [S].
    band: lowest and highest level.

  Returns:
    Booleans [S], at least one of them true.
  """
  low, high = band
  inside = (sigma >= low) & (sigma <= high)
  if not inside.any():
    ratio = np.maximum(low / sigma, sigma / high)  # to the nearer end of the band
    inside = np.arange(len(sigma)) == np.argmin(ratio)
  return inside


def spelled(band: Band) -> str:
  """Return a band as prose: ``σ in [0.1, 20]``, ``σ ≥ 20``, ``σ ≤ 0.1`` or ``all σ``."""
  low, high = band
  if high == np.inf:
    return f"σ ≥ {low:g}" if low > 0 else "all σ"
  return f"σ in [{low:g}, {high:g}]" if low > 0 else f"σ ≤ {high:g}"


def _over(band: Band, values: "xarray.DataArray") -> np.ndarray:
  return _mean(values.isel(sigma=within(values.sigma.to_numpy(), band)), "sigma")


def _mean(values: "xarray.DataArray", axis: str) -> np.ndarray:
  return values.to_numpy().mean(values.get_axis_num(axis))


def _samples(reading: Reading, denoiser: str) -> Float[np.ndarray, "n D"]:
  samples = reading.found["samples"].samples.sel(denoiser=denoiser).to_numpy()
  return samples.reshape(len(samples), -1).astype(np.float64)
