"""How far apart denoisers of disjoint halves are on the same inputs: measured, and predicted without them."""

from collections import defaultdict
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from gauss_diffusion.readings import measures
from gauss_diffusion.readings.measures import Reading

Levels = Float[np.ndarray, " S"]


class Distances(NamedTuple):
  """Mean squared distances per pixel at S noise levels, over inputs and over pairs of halves of one size."""

  sigma: Levels
  predicted: Levels  # between Gaussian denoisers, from the moments of all images
  gaussian: Levels  # between the two Gaussian denoisers
  network: Levels  # between the two networks


def by_size(readings: list[Reading]) -> dict[int, Distances]:
  """Return the number of images in a half -> the distances of all pairs of such halves, small sizes first.

  Args:
    readings: of the study; those without a result of `halves` are left out, as are those without a partner.
  """
  pairs: dict[int, list[Distances]] = defaultdict(list)
  for replicate in sorted({reading.replicate for reading in readings}):
    same = [each for each in readings if each.replicate == replicate and "halves" in each.found]
    for pair in measures.halves(same).values():
      pairs[pair[0].entry["size"]].append(distances(pair))
  return {size: Distances(*(np.mean(each, 0) for each in zip(*pairs[size]))) for size in sorted(pairs)}


def distances(pair: tuple[Reading, Reading]) -> Distances:
  """Return the distances of one pair, with results of `halves` on the same inputs."""
  one, two = (reading.found["halves"] for reading in pair)
  apart = (one.outputs.astype(np.float64) - two.outputs) ** 2
  squared = apart.mean(("image", "y", "x", "channel"))
  return Distances(
    one.sigma.to_numpy(),
    one.predicted.mean("image").to_numpy(),
    squared.sel(denoiser="gaussian").to_numpy(),
    squared.sel(denoiser="network").to_numpy(),
  )
