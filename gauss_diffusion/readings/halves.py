"""How far apart denoisers of disjoint halves are, and their samples: measured, and predicted without them."""

from collections import defaultdict
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from gauss_diffusion.readings import measures
from gauss_diffusion.readings.measures import Reading

Levels = Float[np.ndarray, " S"]


class Distances(NamedTuple):
  """What pairs of halves of one size are apart, mean over the pairs.

  Of denoisers, squared distances per pixel at S noise levels, mean over inputs; of samples from the same
  noise, distances in units of chance, mean over latents: 1 for unrelated ones.
  """

  sigma: Levels
  predicted: Levels  # between Gaussian denoisers, from the moments of all images
  gaussian: Levels  # between the two Gaussian denoisers
  network: Levels  # between the two networks
  samples_predicted: float  # of Gaussian denoisers, from the moments of all images
  samples_gaussian: float  # of the two Gaussian denoisers
  samples_network: float  # of the two networks


def by_size(readings: list[Reading]) -> dict[int, Distances]:
  """Return the number of images in a half -> the distances of all pairs of such halves, small sizes first.

  Args:
    readings: of the study; those without results of `halves` and `samples` are left out, as are those without
      a partner.
  """
  pairs: dict[int, list[Distances]] = defaultdict(list)
  for replicate in sorted({reading.replicate for reading in readings}):
    same = [
      each for each in readings if each.replicate == replicate and {"halves", "samples"} <= {*each.found}
    ]
    for pair in measures.halves(same).values():
      pairs[pair[0].entry["size"]].append(distances(pair))
  return {size: Distances(*(np.mean(each, 0) for each in zip(*pairs[size]))) for size in sorted(pairs)}


def distances(pair: tuple[Reading, Reading]) -> Distances:
  """Return the distances of one pair, with results of `halves` and `samples` on the same inputs."""
  one, two = (reading.found["halves"] for reading in pair)
  apart = (one.deviations.astype(np.float64) - two.deviations) ** 2
  squared = apart.mean(("image", "y", "x", "channel"))
  return Distances(
    one.sigma.to_numpy(),
    one.predicted.mean("image").to_numpy(),
    squared.sel(denoiser="gaussian").to_numpy(),
    squared.sel(denoiser="network").to_numpy(),
    float(one.samples_predicted.mean()),
    float(measures.apart(pair, "gaussian", "gaussian").mean()),
    float(measures.apart(pair).mean()),
  )
