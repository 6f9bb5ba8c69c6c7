"""What one model's results say, one number per sample: the ground of headlines, claims and sweeps."""

from typing import NamedTuple

import numpy as np

# Noise levels, as the paper divides them.
HIGH = (20.0, np.inf)
MIDDLE = (0.1, 20.0)  # where memorization and generalization part
LOW = (0.0, 0.1)
# What may change along a study, by its name in `sweep` -> what an axis calls it.
SWEEPS = {
  "size": "training images",
  "width": "channels of the network",
  "time": "images seen in training",
}


class Model(NamedTuple):
  """One model of a study with everything that was found about it."""

  title: str
  entry: dict  # of the study's `models`, and `size`, the number of its training images
  found: dict[str, dict[str, np.ndarray]]  # analysis -> arrays


class Needs(NamedTuple):
  """What a study must hold for a claim or a figure of the whole of it."""

  results: dict[str, tuple]  # an analysis, or ``analysis.option`` -> what that option must list
  along: int = 1  # models; with more than one, a sweep
  groups: tuple[str, ...] = ()  # with a model each
  halves: tuple[str, ...] = ()  # groups with two models, on disjoint halves of the data
  paired: bool = False  # at least one such group, whatever its name


def position(model: Model, sweep: str) -> float:
  """Return where a model stands along a sweep, one of `SWEEPS`."""
  entry = model.entry
  if sweep == "size":
    return entry["size"]
  if sweep == "width":
    return entry["network"]["model_channels"]
  return entry["train"]["steps"] * entry["train"]["batch"]


def gl(model: Model) -> np.ndarray:
  """Return the GL score of each of the network's samples (Li et al. 2024, eq. 14)."""
  return model.found["samples"]["gl"][_row(model.found["samples"]["denoiser"], "network")]


def memorized(model: Model) -> np.ndarray:
  """Return which of the network's samples copy a training image, as 0 and 1."""
  arrays = model.found["samples"]
  return arrays["memorized"][_row(arrays["denoiser"], "network")].astype(float)


def linearity(model: Model, band=MIDDLE, alpha2: float = 0.5) -> np.ndarray:
  """Return |cosine| of each pair of noisy images, averaged over the levels in `band` (eq. 11)."""
  arrays = model.found["linearity"]
  weight = np.argmin(np.abs(arrays["alpha2"] - alpha2))
  cosine = np.abs(arrays["cosine"][_row(arrays["inputs"], "noisy image"), :, weight])
  return cosine[within(arrays["sigma"], band)].mean(0)


def gap(
  model: Model, one: str, two: str, band=MIDDLE, law: str = "held-out", unit: str = "rmse"
) -> np.ndarray:
  """Return two denoisers' score difference on each image, averaged over the levels in `band` (eq. 10)."""
  arrays = model.found["score_gap"]
  values = arrays[unit][_row(arrays["law"], law), _row(arrays["pair"], f"{one} / {two}")]
  return values[within(arrays["sigma"], band)].mean(0)


def error(model: Model, law: str = "held-out", band=MIDDLE) -> np.ndarray:
  """Return the network's denoising RMSE on each image, averaged over the levels in `band`.

  Its mean square is the least that any denoiser can have plus the square of the distance to that denoiser
  (Pythagoras): of two networks, the one with the lower error on held-out images has learned more.
  """
  arrays = model.found["score_gap"]
  return arrays["error"][_row(arrays["law"], law)][within(arrays["sigma"], band)].mean(0)


def distance(one: Model, two: Model, denoiser: str = "network", other: str | None = None) -> np.ndarray:
  """Return how far the samples of two models from the same noise lie apart, in units of chance.

  ``‖a_i − b_i‖ / mean over j ≠ i of ‖a_i − b_j‖``: 0 for the same image, about 1 for unrelated ones.
  """
  a, b = _samples(one, denoiser), _samples(two, other or denoiser)
  apart = np.linalg.norm(a[:, None] - b[None], axis=-1)
  same = np.diagonal(apart)
  return same / ((apart.sum(1) - same) / (len(a) - 1))


def halves(models: list[Model]) -> dict[str, tuple[Model, Model]]:
  """Return the groups that are two models trained alike on disjoint halves of the data, part 0 first."""
  groups = {}
  for model in sorted(models, key=lambda model: model.entry["part"]):
    groups.setdefault(model.entry["group"], []).append(model)
  return {name: tuple(group) for name, group in groups.items() if [m.entry["part"] for m in group] == [0, 1]}


def apart(pair: tuple[Model, Model], one: str = "network", other: str = "network") -> np.ndarray:
  """Return the `distance` between two models' samples; of two denoisers, the mean over both models."""
  if one == other:
    return distance(*pair, one)
  return np.mean([distance(a, b, one, other) for a in pair for b in pair], axis=0)


def push(model: Model, level: int, direction: str = "first singular vector") -> np.ndarray:
  """Return how far each sample moves (RMSE) when its state is pushed at one level, 0 the highest."""
  arrays = model.found["perturbation"]
  highest_first = np.argsort(-arrays["sigma"])
  return arrays["change"][highest_first[level], _row(arrays["direction"], direction)].mean(0)


def alignment(model: Model, band) -> np.ndarray:
  """Return the share of the Jacobian's leading singular vectors that lies in the principal components'."""
  arrays = model.found["modes"]
  return arrays["alignment"][within(arrays["sigma"], band)].mean(0)


def map_gap(model: Model, denoiser: str, law: str, band=MIDDLE) -> np.ndarray:
  """Return the squared output gap on each held-out image between a best affine map and the Gaussian denoiser.

  ``law`` says on which images the denoiser was distilled. What Monte-Carlo noise in the map adds is taken
  off, so that the mean estimates the gap of the exact map, and may fall below 0.
  """
  arrays = model.found["input_law"]
  row = _row(arrays["denoiser"], denoiser), _row(arrays["law"], law)
  levels, evaluated = within(arrays["sigma"], band), _row(arrays["law"], "held-out")
  squared = np.mean(arrays["output_gap"][row][levels, evaluated].astype(np.float64) ** 2, axis=1)
  return (squared - arrays["output_noise"][row][levels, evaluated] ** 2).mean(0)


def within(sigma: np.ndarray, band) -> np.ndarray:
  """Return which levels lie in ``[low, high]``; of a grid with none, the nearest one."""
  low, high = band
  inside = (sigma >= low) & (sigma <= high)
  if not inside.any():
    away = np.maximum(np.log(np.maximum(low, 1e-9) / sigma), np.log(sigma / high))
    inside = np.arange(len(sigma)) == np.argmin(away)
  return inside


def _samples(model: Model, denoiser: str) -> np.ndarray:
  arrays = model.found["samples"]
  samples = arrays["samples"][_row(arrays["denoiser"], denoiser)]
  return samples.reshape(len(samples), -1).astype(np.float64)


def _row(names: np.ndarray, name: str) -> int:
  return list(names).index(name)
