"""Measures of readings whose results are made up, so that every answer is known."""

import jax
import numpy as np
import pytest

from gauss_diffusion import edm, results, sampling
from gauss_diffusion.analyses.subject import IMAGE, LAWS
from gauss_diffusion.readings import measures
from gauss_diffusion.readings.measures import Reading
from gauss_diffusion.types import GaussianStats

SIGMA = np.array([80.0, 5.0, 0.5, 0.01])
ENTRY = {"size": 64, "network": {"model_channels": 8}, "train": {"steps": 30, "batch": 4}}


def reading(samples=None, **found):
  if samples is not None:
    pictures = ("denoiser", "sample", *IMAGE)
    found["samples"] = results.labelled(
      {"samples": (pictures, samples)}, {"denoiser": ["gaussian", "network"]}
    )
  return Reading("one", ENTRY, found, {})


def test_position_along_each_sweep():
  assert [measures.position(reading(), sweep) for sweep in measures.SWEEPS] == [64, 8, 120]


def test_band_means_are_over_the_levels_inside_it():
  values = np.arange(2 * 2 * 4 * 3.0).reshape(2, 2, 4, 3)  # law, pair, level, image
  error = values.swapaxes(0, 1) + 100  # denoiser, clean, level, image
  gaps = ("law", "pair", "sigma", "image")
  one = reading(
    score_gap=results.labelled(
      {
        "rmse": (gaps, values),
        "nmse": (gaps, -values),
        "error": (("denoiser", "clean", "sigma", "image"), error),
      },
      {
        "law": list(LAWS),
        "clean": list(LAWS),
        "sigma": SIGMA,
        "denoiser": ["gaussian", "network"],
        "one": ("pair", ["linear (held-out)", "network"]),
        "two": ("pair", ["gaussian", "gaussian"]),
      },
    )
  )
  np.testing.assert_array_equal(measures.gap(one, "network", "gaussian"), values[1, 1, 1:3].mean(0))
  np.testing.assert_array_equal(measures.to_gaussian(one), values[1, 1, 1:3].mean(0))
  np.testing.assert_array_equal(
    measures.gap(one, "network", "gaussian", measures.HIGH, "train", "nmse"), -values[0, 1, 0]
  )
  np.testing.assert_array_equal(
    measures.gap(one, "linear (held-out)", "gaussian", measures.ALL), values[1, 0].mean(0)
  )
  np.testing.assert_array_equal(measures.error(one, band=measures.LOW), error[1, 1, 3])


def test_a_band_without_levels_takes_the_nearest():
  np.testing.assert_array_equal(measures.within(SIGMA, (1.0, 2.0)), [False, False, True, False])
  np.testing.assert_array_equal(measures.within(SIGMA, (100.0, 200.0)), [True, False, False, False])
  np.testing.assert_array_equal(measures.within(SIGMA, (100.0, np.inf)), [True, False, False, False])
  np.testing.assert_array_equal(measures.within(SIGMA, (0.0, 0.001)), [False, False, False, True])
  assert edm.nearest(SIGMA, 0.4) == 2


def test_bands_are_spelled_as_prose():
  bands = (measures.LOW, measures.MIDDLE, measures.HIGH, measures.ALL)
  assert [measures.spelled(band) for band in bands] == ["σ ≤ 0.1", "σ in [0.1, 20]", "σ ≥ 20", "all σ"]


def test_linearity_takes_the_noisy_images_at_one_weight():
  cosine = -np.arange(2 * 4 * 2 * 3.0).reshape(2, 4, 2, 3)  # inputs, level, alpha2, pair
  found = results.labelled(
    {"cosine": (("inputs", "sigma", "alpha2", "sample"), cosine)},
    {"inputs": ["noisy image", "pure noise"], "sigma": SIGMA, "alpha2": [0.9, 0.5]},
  )
  np.testing.assert_array_equal(measures.linearity(reading(linearity=found)), -cosine[0, 1:3, 1].mean(0))
  np.testing.assert_array_equal(
    measures.linearity(reading(linearity=found), alpha2=0.8), -cosine[0, 1:3, 0].mean(0)
  )


def test_distance_is_zero_for_the_same_pictures_and_one_for_unrelated_ones():
  rng = np.random.default_rng(0)
  a, b = (reading(rng.normal(size=(2, 200, 4, 4, 1))) for _ in range(2))
  assert not measures.distance(a, a).any()
  far = measures.distance(a, b)
  assert abs(far.mean() - 1) < 5 * far.std() / np.sqrt(200)
  # By hand, for two latents: own distance over that to the other's picture.
  x = np.zeros((2, 2, 1, 1, 1))
  x[1, :, 0, 0, 0] = 0.0, 1.0
  y = np.zeros_like(x)
  y[1, :, 0, 0, 0] = 3.0, 5.0
  np.testing.assert_allclose(measures.distance(reading(x), reading(y)), [3 / 5, 4 / 2])
  np.testing.assert_allclose(measures.distance(reading(x), reading(y), "gaussian", "network"), [3 / 5, 5 / 3])


def test_the_flows_of_commuting_gaussians_are_apart_by_their_wasserstein_distance():
  rng = np.random.default_rng(2)
  basis = np.linalg.qr(rng.standard_normal((4, 4)))[0]
  laws = [GaussianStats(rng.normal(size=(2, 2, 1)), basis, rng.uniform(0.1, 2, 4)) for _ in range(2)]
  noise = rng.standard_normal((4000, 2, 2, 1), np.float32)
  draw = jax.vmap(lambda stats, each: sampling.gaussian_trajectory(stats, each, [1e4]).x[-1], (None, 0))
  found = reading(np.stack([draw(stats, noise) for stats in laws])).found["samples"]
  moved = np.sum((laws[0].mean - laws[1].mean) ** 2)
  widened = np.sum((np.sqrt(laws[0].eigenvalues) - np.sqrt(laws[1].eigenvalues)) ** 2)
  wasserstein = np.sqrt((moved + widened) / 4)
  assert measures.pfd(found, "gaussian") == pytest.approx(wasserstein, rel=0.02)  # of 4,000 latents
  assert measures.pfd(found, "network") == 0


def test_a_pair_is_apart_by_the_mean_over_both_readings_of_each_denoiser():
  rng = np.random.default_rng(1)
  one, two = (reading(rng.normal(size=(2, 6, 2, 2, 1))) for _ in range(2))
  np.testing.assert_array_equal(measures.apart((one, two)), measures.distance(one, two))
  crossed = [measures.distance(a, b, "network", "gaussian") for a in (one, two) for b in (one, two)]
  np.testing.assert_allclose(measures.apart((one, two), "network", "gaussian"), sum(crossed) / 4)


def test_samples_are_those_of_the_network():
  found = results.labelled(
    {
      "gl": (("denoiser", "sample"), [[1.0], [2.0]]),
      "memorized": (("denoiser", "sample"), [[False], [True]]),
    },
    {"denoiser": ["gaussian", "network"]},
  )
  one = Reading("one", ENTRY, {"samples": found}, {})
  assert measures.gl(one) == [2.0] and measures.memorized(one) == [1.0]


def test_pushes_count_levels_from_the_highest_whatever_their_order():
  change = np.arange(3 * 2 * 2 * 4.0).reshape(3, 2, 2, 4)  # level, direction, sign, latent
  found = results.labelled(
    {"change": (("sigma", "direction", "sign", "latent"), change)},
    {"sigma": [0.002, 2.0, 20.0], "direction": ["first singular vector", "random"], "sign": [-1, 1]},
  )
  one = reading(perturbation=found)
  np.testing.assert_array_equal(measures.push(one, 0), change[2, 0].mean(0))
  np.testing.assert_array_equal(measures.push(one, -1, "random"), change[0, 1].mean(0))


def test_the_best_affine_map_is_the_one_on_held_out_images():
  gap2, shared = np.arange(-6.0, 2).reshape(2, 4), np.arange(2 * 4 * 3.0).reshape(2, 4, 3)
  found = results.labelled(
    {"weight_gap2": (("law", "sigma"), gap2), "subspace": (("law", "sigma", "k"), shared)},
    {"law": list(LAWS), "sigma": SIGMA},
  )
  one = reading(distillation=found)
  np.testing.assert_allclose(measures.weight_gap(one), [-np.sqrt(2), -1, 0, 1])
  np.testing.assert_array_equal(measures.subspace(one, (0.11, np.inf)), shared[1, :3].mean(0))


def test_change_is_the_networks_at_the_lowest_level():
  nmse = np.arange(2 * 4 * 3.0).reshape(2, 4, 3)
  found = results.labelled(
    {"nmse": (("compared", "sigma", "image"), nmse)}, {"compared": ["network", "gaussian"], "sigma": SIGMA}
  )
  np.testing.assert_array_equal(measures.change(reading(denoised=found)), nmse[0, 3])


def test_map_gap_takes_off_what_the_maps_own_noise_adds():
  rng = np.random.default_rng(0)
  truth, noise = rng.uniform(1, 2, (2, 2, 4, 2, 5)), 0.5  # denoiser, law, level, evaluated, image
  gaps = np.sqrt(truth**2 + noise**2)[..., None, :] * np.ones((3, 1))  # of three repeats
  fit = ("denoiser", "law", "sigma", "evaluated")
  found = results.labelled(
    {
      "output_gap": ((*fit, "repeat", "image"), gaps),
      "output_noise": ((*fit, "image"), np.full(truth.shape, noise)),
    },
    {
      "denoiser": ["multi-delta", "network"],
      "law": list(LAWS),
      "evaluated": list(LAWS),
      "sigma": SIGMA,
    },
  )
  np.testing.assert_allclose(
    measures.map_gap(reading(input_law=found), "network", "train"),
    (truth[1, 0, 1:3, 1] ** 2).mean(0),
    rtol=1e-12,
  )


def test_unknown_pair_is_an_error():
  found = results.labelled(
    {"rmse": (("law", "pair", "sigma", "image"), np.ones((1, 1, 4, 2)))},
    {"law": ["held-out"], "sigma": SIGMA, "one": ("pair", ["a"]), "two": ("pair", ["b"])},
  )
  np.testing.assert_array_equal(measures.gap(reading(score_gap=found), "a", "b"), 1)
  with pytest.raises(KeyError):
    measures.gap(reading(score_gap=found), "network", "gaussian")
