"""Measures of models whose results are made up, so that every answer is known."""

import numpy as np
import pytest

from gauss_diffusion.readings import measures
from gauss_diffusion.readings.measures import Model

SIGMA = np.array([80.0, 5.0, 0.5, 0.01])
ENTRY = {"size": 64, "network": {"model_channels": 8}, "train": {"steps": 30, "batch": 4}}


def model(samples=None, **found):
  if samples is not None:
    found["samples"] = {"denoiser": np.array(["gaussian", "network"]), "samples": samples}
  return Model("one", ENTRY, found)


def test_position_along_each_sweep():
  assert [measures.position(model(), sweep) for sweep in measures.SWEEPS] == [64, 8, 120]


def test_band_means_are_over_the_levels_inside_it():
  values = np.arange(2 * 1 * 4 * 3.0).reshape(2, 1, 4, 3)  # law, pair, level, image
  arrays = {"sigma": SIGMA, "law": np.array(["train", "held-out"]), "pair": np.array(["network / gaussian"])}
  arrays |= {"rmse": values, "nmse": -values, "error": values[:, 0] + 100}
  one = model(score_gap=arrays)
  np.testing.assert_array_equal(measures.gap(one, "network", "gaussian"), values[1, 0, 1:3].mean(0))
  np.testing.assert_array_equal(
    measures.gap(one, "network", "gaussian", measures.HIGH, "train", "nmse"), -values[0, 0, 0]
  )
  np.testing.assert_array_equal(measures.error(one, band=measures.LOW), values[1, 0, 3] + 100)


def test_a_band_without_levels_takes_the_nearest():
  np.testing.assert_array_equal(measures.within(SIGMA, (1.0, 2.0)), [False, False, True, False])
  np.testing.assert_array_equal(measures.within(SIGMA, (100.0, 200.0)), [True, False, False, False])
  assert measures.at(SIGMA, 0.4) == 2


def test_linearity_takes_the_noisy_images_at_one_weight():
  cosine = -np.arange(2 * 4 * 2 * 3.0).reshape(2, 4, 2, 3)  # inputs, level, alpha2, pair
  inputs = np.array(["noisy image", "pure noise"])
  arrays = {"sigma": SIGMA, "alpha2": np.array([0.9, 0.5]), "inputs": inputs, "cosine": cosine}
  np.testing.assert_array_equal(measures.linearity(model(linearity=arrays)), -cosine[0, 1:3, 1].mean(0))


def test_distance_is_zero_for_the_same_pictures_and_one_for_unrelated_ones():
  rng = np.random.default_rng(0)
  a, b = (model(rng.normal(size=(2, 200, 4, 4, 1))) for _ in range(2))
  assert not measures.distance(a, a).any()
  far = measures.distance(a, b)
  assert abs(far.mean() - 1) < 5 * far.std() / np.sqrt(200)
  # By hand, for two latents: own distance over that to the other's picture.
  x = np.zeros((2, 2, 1, 1, 1))
  x[1, :, 0, 0, 0] = 0.0, 1.0
  y = np.zeros_like(x)
  y[1, :, 0, 0, 0] = 3.0, 5.0
  np.testing.assert_allclose(measures.distance(model(x), model(y)), [3 / 5, 4 / 2])
  np.testing.assert_allclose(measures.distance(model(x), model(y), "gaussian", "network"), [3 / 5, 5 / 3])


def test_a_pair_is_apart_by_the_mean_over_both_models_of_each_denoiser():
  rng = np.random.default_rng(1)
  one, two = (model(rng.normal(size=(2, 6, 2, 2, 1))) for _ in range(2))
  np.testing.assert_array_equal(measures.apart((one, two)), measures.distance(one, two))
  crossed = [measures.distance(a, b, "network", "gaussian") for a in (one, two) for b in (one, two)]
  np.testing.assert_allclose(measures.apart((one, two), "network", "gaussian"), sum(crossed) / 4)


def test_samples_are_those_of_the_network():
  arrays = {"denoiser": np.array(["gaussian", "network"])}
  arrays |= {"gl": np.array([[1.0], [2.0]]), "memorized": np.array([[False], [True]])}
  one = Model("one", ENTRY, {"samples": arrays})
  assert measures.gl(one) == [2.0] and measures.memorized(one) == [1.0]


def test_unknown_pair_is_an_error():
  arrays = {
    "sigma": SIGMA,
    "law": np.array(["held-out"]),
    "pair": np.array(["a / b"]),
    "rmse": np.ones((1, 1, 4, 2)),
  }
  with pytest.raises(ValueError):
    measures.gap(model(score_gap=arrays), "network", "gaussian")
