"""What networks are made of, by results of the analysis `explained`: ideal denoisers, and what they leave.

What the ideal denoisers of its images leave of a network is of two kinds: what networks of the same recipe
have in common, whatever their seed and images, and what is its own. Residuals ``r_a = s + t_a`` of networks
that are independent given the inputs, t_a of mean 0, have ``E⟨r_a, r_b⟩ = E‖s‖²`` for a ≠ b: inner products
estimate what is shared without bias from any two of them. A regression of r_a on r_b would not: its R² is
``(E‖s‖²/E‖r‖²)²``, since what is b's own blurs what it tells of s, and a shared half would count as a
quarter.
"""

import typing
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from gauss_diffusion.readings import projection
from gauss_diffusion.readings.ratios import ratio

if typing.TYPE_CHECKING:
  from gauss_diffusion.results import xarray

SHARED, OWN, REST = "what networks share", "its own", "the rest"
LEAST = 3  # networks: of two there is one pair, and no interval on what they share
Values = Float[np.ndarray, "S n"]


def families(found: "xarray.Dataset") -> list[str]:
  """Return the denoisers that explain, in the order of the study."""
  return found.denoiser.to_numpy()[:-1].tolist()


def energy(found: "xarray.Dataset") -> Values:
  """Return the mean square over pixels of what the network says beyond the mean, on each held-out image."""
  return _grams(found, "held-out")[..., -1, -1]


def subsets(found: "xarray.Dataset", law: str = "held-out") -> Float[np.ndarray, "P S n"]:
  """Return the explained share of every subset of the ideal denoisers, see `projection.explained`.

  Args:
    found: a result of the analysis.
    law: of the inputs, "train", "held-out" or "trajectory".
  """
  return projection.explained(_grams(found, law))


def together(found: "xarray.Dataset", law: str = "held-out") -> Values:
  """Return the share that all ideal denoisers together explain at each level, in the form of `ratios`."""
  return subsets(found, law)[-1]


def of_images(found: "xarray.Dataset", law: str = "held-out") -> Values:
  """Return which share of the network's output on each image all ideal denoisers together explain.

  No part of a mean: an image on which the network says little counts as much as any other here.
  """
  grams = _grams(found, law)
  total = grams[..., -1, -1]
  return 1 - projection.unexplained(grams, range(grams.shape[-1] - 1)) / np.where(total > 0, total, np.nan)


def parts(networks: Sequence["xarray.Dataset"]) -> list[dict[str, Values]]:
  """Return what each network of one model is made of on held-out images: shares that add up to 1.

  Args:
    networks: a result of each.

  Returns:
    For each network, name -> share at each level, a number per image whose mean is the share. The Shapley
    share of each ideal denoiser comes first; then, of `LEAST` networks or more with the same inputs, `SHARED`
    and `OWN`, else `REST`. What is shared is a matter of all networks: each one's value is the pseudo-value
    of the jackknife (Arvesen 1969), whose mean over networks is the mean over pairs, and of which Student's
    interval is right where pairs have networks in common.
  """
  found = []
  for one in networks:
    shares = subsets(one)
    found.append(dict(zip(families(one), projection.shapley(shares))) | {REST: 1 - shares[-1]})
  if len(networks) < LEAST or len({int(one.inputs) for one in networks}) > 1:
    return found
  for own, shared in zip(found, _shared(networks)):
    rest = own.pop(REST)
    own |= {SHARED: shared, OWN: rest - shared}
  return found


def of_components(found: "xarray.Dataset") -> Float[np.ndarray, "S K n"]:
  """Return which share of the network's coordinate along each component is left unexplained, held-out images.

  ``E⟨u, F − F̂⟩²/E⟨u, F⟩²`` at each level and along each of K principal components u, in the form of `ratios`.
  """
  return ratio(*(found[name].to_numpy().astype(np.float64) for name in ("left", "said")))


def _grams(found: "xarray.Dataset", law: str) -> np.ndarray:
  upper = found.gram.sel(law=law).transpose("sigma", "image", "denoiser", "other").to_numpy()
  return upper + np.triu(upper, 1).swapaxes(-1, -2)


def _shared(networks: Sequence["xarray.Dataset"]) -> Float[np.ndarray, "a S n"]:
  """Return each network's pseudo-value of what all of them share, of their outputs' energy."""
  count, rest = len(networks), []
  for found in networks:
    left = found.residual.to_numpy().astype(np.float64)
    size = np.sqrt(energy(found).mean(1) * left[0, 0].size)
    rest.append(left.reshape(*left.shape[:2], -1) / size[:, None, None])
  total = np.sum(rest, axis=0)
  with_others = np.stack([(one * (total - one)).sum(-1) for one in rest]) / (count - 1)
  mean = with_others.mean(0)
  without = (count * mean - 2 * with_others) / (count - 2)  # of all pairs that one network is not in
  return count * mean - (count - 1) * without
