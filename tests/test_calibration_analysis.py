"""Calibration of the Gaussian denoiser and of a memorizer on digits, and what the figure draws."""

import numpy as np
import pytest
from ml_collections import ConfigDict
from test_modes_analysis import SIGMAS, subject
from test_plots import legible

from gauss_diffusion.analyses import calibration
from gauss_diffusion.plots import calibration as plot


def compute(name, **changes):
  return calibration.compute(subject(name, 300), ConfigDict(calibration.DEFAULTS | changes), "test")


@pytest.fixture(scope="module")
def gaussian():
  return compute("gaussian", images=40, probes=64)


@pytest.fixture(scope="module")
def memorizer():
  return compute("multi-delta", images=40)


def test_the_gaussian_denoiser_expects_what_its_covariance_says(gaussian):
  assert gaussian.error.shape == gaussian.variance.shape == gaussian.sure.shape == (5, 40)
  lam = subject("gaussian", 300).stats.eigenvalues
  want = np.sum(lam / (lam + SIGMAS[:, None] ** 2), axis=1) * SIGMAS**2 / 64
  np.testing.assert_allclose(gaussian.variance, want[:, None] * np.ones(40), rtol=1e-4)  # float32
  assert gaussian.asymmetry.max() < 1e-4
  # Held-out images are of the law of the training images, and G12 asks for no more.
  middle = slice(0, 4)  # below, the few pixels outside the span of the training images count
  error = gaussian.error.mean("image")[middle]
  np.testing.assert_allclose(error, want[middle], rtol=0.25)  # 40 images


def test_the_error_is_that_on_the_shared_noise(gaussian):
  made = subject("gaussian", 300)
  x0 = made.held_out[:40] / 127.5 - 1
  noise = np.random.default_rng([0, *b"calibration"]).standard_normal((40, 64), np.float32)
  stats = made.stats
  x = x0.reshape(40, 64) + SIGMAS[2] * noise - stats.mean.ravel()
  gain = stats.eigenvalues / (stats.eigenvalues + SIGMAS[2] ** 2)
  denoised = stats.mean.ravel() + (x @ stats.basis * gain) @ stats.basis.T
  want = np.mean((denoised - x0.reshape(40, 64)) ** 2, axis=1)
  np.testing.assert_allclose(gaussian.error[2], want, rtol=1e-4)
  want = np.mean((x + stats.mean.ravel() - denoised) ** 2, axis=1) + 2 * gain.sum() / 64 * SIGMAS[2] ** 2
  np.testing.assert_allclose(gaussian.sure[2], want - SIGMAS[2] ** 2, atol=1e-5)


def test_uncertainty_is_the_deviation_of_the_posterior(gaussian):
  stats = subject("gaussian", 300).stats
  np.testing.assert_allclose(gaussian.inputs - gaussian.clean, noise_of(gaussian), atol=1e-5)
  for level, sigma in enumerate(SIGMAS):
    gain = stats.eigenvalues / (stats.eigenvalues + sigma**2)
    want = sigma * np.sqrt(stats.basis**2 @ gain).reshape(8, 8, 1)
    np.testing.assert_allclose(gaussian.deviation[level], np.stack([want] * 2), atol=1e-5)
    estimates = [gaussian_denoise(stats, each, sigma) for each in gaussian.inputs[level].to_numpy()]
    np.testing.assert_allclose(gaussian.estimates[level], estimates, atol=1e-4)


def noise_of(found):
  noise = np.random.default_rng([0, *b"calibration"]).standard_normal((40, 8, 8, 1), np.float32)[:2]
  return (SIGMAS[:, None, None, None, None] * noise).astype(np.float32)


def gaussian_denoise(stats, x, sigma):
  gain = stats.eigenvalues / (stats.eigenvalues + sigma**2)
  centred = np.ravel(x - stats.mean).astype(float)
  return stats.mean + (stats.basis @ (gain * (stats.basis.T @ centred))).reshape(8, 8, 1)


def test_the_memorizer_is_sure_of_what_is_wrong(memorizer):
  ratio = memorizer.variance.mean("image") / memorizer.error.mean("image")
  assert ratio[0] > 0.8 and np.all(ratio[-2:] < 0.05)  # at the highest level all images are likely
  assert memorizer.asymmetry[0].max() < 1e-3


@pytest.mark.parametrize("changes", [{"images": 0}, {"images": 361}, {"probes": 1}])
def test_check_names_the_field(changes):
  settings = ConfigDict({"calibration": calibration.DEFAULTS | changes})
  calibration.check(ConfigDict({"calibration": calibration.DEFAULTS}), (8, 8, 1), 360)
  with pytest.raises(ValueError, match=f"`calibration.{next(iter(changes))}` is"):
    calibration.check(settings, (8, 8, 1), 360)


def test_the_figure_draws_ratios_of_means(gaussian, memorizer):
  figure = plot.draw({"N = 1": [gaussian], "N = 2": [gaussian, memorizer]})
  words = legible(figure)
  assert "N = 1" in words and "N = 2" in words and plot.TITLE and plot.LOOK_FOR
  for axis, name in zip(figure.axes, ("variance", "sure")):
    ratios = [each[name].mean("image") / each.error.mean("image") for each in (gaussian, memorizer)]
    one, two = axis.lines[:2]
    np.testing.assert_allclose(one.get_ydata(), ratios[0], rtol=1e-5)
    np.testing.assert_allclose(two.get_ydata(), (ratios[0] + ratios[1]) / 2, rtol=1e-5)
  np.testing.assert_allclose(figure.axes[2].lines[0].get_ydata(), gaussian.asymmetry.mean("image"))
  page = np.asarray(figure.axes[3].images[0].get_array())
  error = abs(gaussian.estimates - gaussian.clean)[2, 0].to_numpy()
  peak = max(error.max(), gaussian.deviation[2, 0].max())
  tile = page[226:322:12, 206:302:12, :1]  # the third row, below the gap; the third level
  np.testing.assert_allclose(tile, error / peak, atol=1e-6)
  legible(plot.draw({f"N = {i}": [gaussian] for i in range(7)}))
