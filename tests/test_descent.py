"""Gradient descent on the Gaussian denoiser, whose way is known mode by mode, and the figure of it."""

import itertools

import numpy as np
import pytest
from jax.tree_util import Partial
from ml_collections import ConfigDict
from test_plots import legible

from gauss_diffusion import data, edm, results, statistics
from gauss_diffusion.analyses import descent
from gauss_diffusion.analyses.subject import IMAGE, Subject
from gauss_diffusion.denoisers import gaussian
from gauss_diffusion.plots import descent as plot
from gauss_diffusion.types import GaussianStats

SETTINGS = {"sigmas": (0.3, 3.0, 2.0), "steps": 60, "batch": 256, "record_every": 5}


@pytest.fixture(scope="module")
def examined():
  dataset = data.load("digits", held_out=360, seed=0)
  images = data.subset(dataset, 20).images
  stats = statistics.gaussian_stats(images)
  subject = Subject(
    network=Partial(gaussian.denoise, stats),
    stats=stats,
    train=images,
    held_out=dataset.held_out,
    sigmas=edm.sigma_grid(4, 0.02, 10.0),  # 10, 2.2, 0.31, 0.02
    solver="euler",
    seed=0,
    records={},
    distillation=None,
  )
  return subject, descent.compute(subject, ConfigDict(descent.DEFAULTS | SETTINGS), "test")


def test_least_squares_gives_the_gaussian_map(examined):
  subject, found = examined
  np.testing.assert_allclose(found.sigma, [2.17, 0.306], rtol=0.01)
  assert found.best_gap.max() < 1e-3  # least squares of float32 outputs
  assert found.best_asymmetry.max() < 1e-3
  assert len(subject.stats.eigenvalues) == 19 and found.gains.shape == (2, 64)
  eigenvalues = np.pad(subject.stats.eigenvalues, (0, 64 - 19))
  np.testing.assert_allclose(found.gains, eigenvalues / (eigenvalues + found.sigma.to_numpy()[:, None] ** 2))
  np.testing.assert_allclose(found.singular_values, found.gains, atol=1e-3)
  assert found.vectors.shape == (2, 25, 8, 8, 1) and found.components.shape == (19, 8, 8, 1)
  np.testing.assert_array_equal(found.components.to_numpy().reshape(19, 64), subject.stats.basis.T)
  # The leading components are well separated; signs are made to agree.
  np.testing.assert_allclose(found.vectors[0, :3], found.components[:3], atol=0.01)


def test_descent_goes_as_expected(examined):
  found = examined[1]
  np.testing.assert_array_equal(found.step, np.arange(5, 65, 5))
  assert found.weight_gap.shape == found.expected_gap.shape == found.asymmetry.shape == (2, 12)
  # The target is a linear map: gradients lose their noise as the map is learned.
  np.testing.assert_allclose(found.weight_gap[1], found.expected_gap[1], rtol=0.05)
  assert np.all(np.diff(found.weight_gap[1]) < 0) and found.weight_gap[1, -1] > 0.05


def test_expected_maps_solve_the_mean_recursion():
  rng, sigma, rate = np.random.default_rng(0), 0.5, 0.2
  images = rng.normal(size=(4, 6))  # of rank 3
  mean = images.mean(0)
  covariance = (images - mean).T @ (images - mean) / 4
  values, vectors = np.linalg.eigh(covariance)
  stats = GaussianStats(mean.reshape(1, 6, 1), vectors[:, :2:-1], values[:2:-1])
  best = rng.normal(size=(6, 6))
  iterate, sum_, weight_sum, want = np.zeros((6, 6)), 0, 0, {}
  for n in range(1, 21):
    iterate = iterate - 2 * rate * (iterate - best) @ (covariance + sigma**2 * np.eye(6))
    weight = n * (n + 1) * (n + 2)  # grows as n³: the weights of the running average, written out
    sum_, weight_sum = sum_ + weight * iterate, weight_sum + weight
    want[n] = sum_ / weight_sum
  got = list(descent.expected_maps(best, stats, sigma, rate, np.array([1, 7, 20])))
  np.testing.assert_allclose(got, [want[1], want[7], want[20]], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
  "settings, named",
  [
    ({"law": "test"}, "descent.law"),
    ({"sigmas": ()}, "descent.sigmas"),
    ({"sigmas": (-1.0,)}, "descent.sigmas"),
    ({"steps": 0}, "descent.steps"),
    ({"batch": 0}, "descent.batch"),
    ({"record_every": 0}, "descent.record_every"),
    ({"record_every": 121}, "descent.record_every"),
    ({"batch": 1}, "descent.steps` x `descent.batch"),
    ({"vectors": 65}, "descent.vectors"),
  ],
)
def test_refuses(settings, named):
  config = ConfigDict({"descent": descent.DEFAULTS})
  descent.check(config, (8, 8, 1), 360)
  config.descent.update(settings)
  with pytest.raises(ValueError, match=f"^`{named}`"):
    descent.check(config, (8, 8, 1), 360)


def fake(num_models: int) -> dict:
  """Return title -> random results, labelled as the analysis does it."""
  rng, s, r, d, k = np.random.default_rng(0), 3, 8, 64, 25

  def found():
    along = ("weight_gap", "expected_gap", "asymmetry")
    at_the_end = ("learning_rate", "best_gap", "best_asymmetry")
    spectra = ("singular_values", "gains")
    return results.labelled(
      {name: (("sigma", "step"), rng.uniform(0.1, 1, (s, r))) for name in along}
      | {name: ("sigma", rng.uniform(0.1, 1, s)) for name in at_the_end}
      | {name: (("sigma", "rank"), np.sort(rng.uniform(0, 1, (s, d)))[:, ::-1]) for name in spectra}
      | {
        "law": ((), "held-out"),
        "vectors": (("sigma", "vector", *IMAGE), rng.normal(size=(s, k, 8, 8, 1))),
        "components": (("component", *IMAGE), rng.normal(size=(15, 8, 8, 1))),
      },
      {"sigma": [4.07, 0.47, 0.12], "step": np.arange(1, r + 1) * 5},
    )

  return {f"N = {2 ** (i + 4)}": [found()] for i in range(num_models)}


@pytest.mark.parametrize("num_models", [1, 7])
def test_the_figure_is_legible(num_models):
  found = fake(num_models)
  words = legible(plot.draw(found))
  assert all(label in words for label in [*found, "σ = 4.1", "expected", "least squares", "component"])


def test_the_figure_draws_what_was_found():
  ((label, (found,)),) = fake(1).items()
  axes = plot.draw({label: [found]}).axes
  names = ("weight_gap", "expected_gap", "best_gap")
  for line, (s, name) in zip(axes[0].lines, itertools.product(range(3), names)):
    np.testing.assert_allclose(line.get_ydata(), found[name][s])
  np.testing.assert_allclose(axes[1].lines[0].get_ydata(), found.asymmetry[0])
  for line, name in zip(axes[2].lines, ("singular_values", "gains")):
    np.testing.assert_allclose(line.get_ydata(), found[name][0])
  page = axes[3].images[0].get_array()
  tile = page[:96:12, :96:12, 0]
  image = found.vectors.to_numpy()[0, 0, :, :, 0]
  np.testing.assert_allclose(tile, (image / np.abs(image).max() + 1) / 2, atol=1e-6)
  assert page[-1, -1].min() == 1  # no component of that rank: left blank
