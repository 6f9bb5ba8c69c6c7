"""The few numbers a study is remembered by, with their intervals."""

import typing
from typing import Any

import numpy as np

from gauss_diffusion import edm
from gauss_diffusion.readings import explained, knowledge, measures
from gauss_diffusion.readings.intervals import Interval, bootstrap_mean, t_interval
from gauss_diffusion.readings.measures import Reading, Values

if typing.TYPE_CHECKING:
  from gauss_diffusion.results import xarray

SIGMA = 0.47  # the middle of the paper's ten levels: where memorization and generalization part
NATS_FROM = measures.MIDDLE[0]  # below, what the span of few images lacks drowns what a network has found
# On the training images even an exact memorizer's best affine map is the Gaussian denoiser: no number to
# remember. The map on held-out images is.
LEFT_OUT = ("linear (train)",)
# What the numbers say whose names begin so; pixels lie in [-1, 1].
MEANINGS = {
  "GL score": "distance of a sample to the nearest training image, as part of its norm: 0 is a copy",
  "memorized share": "samples three times nearer to one training image than to any other: copies",
  "linearity score": "cosine of what a mixture of two images becomes to the mixture of what they become, "
  "1 when linear",
  "RMSE to": "distance a pixel between what two denoisers make of held-out images",
  "denoising RMSE": "distance a pixel from what it makes of noisy images to the clean ones, mean over "
  f"{measures.spelled(measures.MIDDLE)}",
  "Gaussian share": "what two moments explain of what the network knows beyond the mean image: 1 is all",
  "gain over Gaussian": "of the Gaussian denoiser's squared error, what the network avoids",
  "nats beyond": "how far from Gaussian the network has found the images to be, at least, by I-MMSE",
}


def headlines(networks: list[Reading]) -> dict[str, Interval]:
  """Return the headline numbers of one model; analyses that it lacks leave theirs out.

  Intervals are Student's over the networks' means; of one network, over its samples. A number that one of the
  networks lacks is left out.

  Args:
    networks: a reading of each network of the model.
  """
  found = [numbers(reading) | made for reading, made in zip(networks, _made_of(networks))]
  if len(found) == 1:
    return {name: bootstrap_mean(samples) for name, samples in found[0].items()}
  names = [name for name in found[0] if all(name in each for each in found)]
  return {name: t_interval([np.mean(each[name]) for each in found]) for name in names}


def numbers(reading: Reading) -> dict[str, Values]:
  """Return what a headline is made of, a value for each sample.

  The network's RMSE is given to every denoiser that `score_gap` paired it with, in the order of the pairs,
  but to those of `LEFT_OUT`. A Gaussian share that is no number is left out: the network then does no better
  than the mean image.
  """
  found, values = reading.found, {}
  if "samples" in found and "network" in found["samples"].denoiser.to_numpy():
    values["GL score"] = measures.gl(reading)
    values["memorized share"] = measures.memorized(reading)
  if "linearity" in found:
    sigmas, alpha2 = found["linearity"].sigma.to_numpy(), found["linearity"].alpha2.to_numpy()
    level = sigmas[edm.nearest(sigmas, SIGMA)]
    weight = alpha2[abs(alpha2 - 0.5).argmin()]
    name = f"linearity score at σ = {level:.2g}, α² = {weight:g}"
    values[name] = measures.linearity(reading, (level, level), weight)
  if "score_gap" in found:
    pairs, sigmas = found["score_gap"].indexes["pair"], found["score_gap"].sigma.to_numpy()
    level = sigmas[edm.nearest(sigmas, SIGMA)]
    for one, two in pairs:
      if one == "network" and two not in LEFT_OUT:
        values[f"RMSE to {two} at σ = {level:.2g}"] = measures.gap(reading, one, two, (level, level))
    values["denoising RMSE on held-out images"] = measures.error(reading)
    values |= _beyond_two_moments(found["score_gap"])
  return values


def meanings(rows: list[dict[str, Any]]) -> dict[str, str]:
  """Return what the numbers in the rows say: the beginning of their names -> a line."""
  return {begin: line for begin, line in MEANINGS.items() if any(name.startswith(begin) for name in rows[0])}


def table(rows: list[dict[str, Any]]) -> str:
  """Return the rows as text, one line per number and one column per reading, intervals in brackets."""
  names = list(dict.fromkeys(name for row in rows for name in row))
  cells = [[name, *(_cell(row.get(name)) for row in rows)] for name in names]
  widths = [max(map(len, column)) for column in zip(*cells)]
  return "\n".join(
    "  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in cells
  )


def verdicts(rows: list[dict[str, Any]]) -> str:
  """Return claims as text, one line each: verdict, statement, value with interval, reason if any."""
  return "".join(
    f"{row['verdict']:<17}  {row['claim']}  {' '.join(filter(None, (_cell(row['value']), row['why'])))}\n"
    for row in rows
  )


def _beyond_two_moments(found: "xarray.Dataset") -> dict[str, Values]:
  """Return how much of what the network knows is two moments, and what it knows beyond, see `knowledge`."""
  null, gaussian, network = (
    knowledge.squared_error(found, denoiser) for denoiser in ("mean", "gaussian", "network")
  )
  sigmas = found.sigma.to_numpy()
  at, counted = edm.nearest(sigmas, SIGMA), sigmas >= min(NATS_FROM, np.sort(sigmas)[-2])
  values = {
    f"Gaussian share at σ = {sigmas[at]:.2g}": knowledge.gaussian_share(null, gaussian, network)[at],
    f"gain over Gaussian at σ = {sigmas[at]:.2g}": knowledge.gain_over_gaussian(gaussian, network)[at],
    f"nats beyond the Gaussian down to σ = {sigmas[counted].min():.2g}": knowledge.nats(
      sigmas[counted], gaussian[counted], network[counted]
    ),
  }
  return {name: each for name, each in values.items() if np.isfinite(each).all()}


def _made_of(networks: list[Reading]) -> list[dict[str, Values]]:
  """Return what each network of a model is made of, see `explained.parts`; nothing where one isn't known."""
  if not all("explained" in reading.found for reading in networks):
    return [{} for _ in networks]
  found = [reading.found["explained"] for reading in networks]
  sigmas = found[0].sigma.to_numpy()
  at = edm.nearest(sigmas, SIGMA)
  return [
    {
      f"made of {name} at σ = {sigmas[at]:.2g}": share[at]
      for name, share in parts.items()
      if np.isfinite(share[at]).all()
    }
    for parts in explained.parts(found)
  ]


def _cell(value: Any) -> str:
  if value is None or isinstance(value, str):
    return value or ""
  mean, *ends = map(_number, value)
  return f"{mean} [{', '.join(ends)}]" if all(ends) else mean


def _number(value: float | None) -> str:
  if value is None:
    return ""
  return f"{value:.3f}" if abs(value) < 1_000 else f"{value:,.0f}"
