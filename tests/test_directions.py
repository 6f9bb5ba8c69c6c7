"""Coordinates along principal components, of the Gaussian denoiser and of a memorizer on digits."""

import numpy as np
import pytest
from ml_collections import ConfigDict
from test_modes_analysis import SIGMAS, subject
from test_plots import legible

from gauss_diffusion.analyses import directions
from gauss_diffusion.plots import directions as plot
from gauss_diffusion.readings import ratios

FLOAT32 = 2e-5  # of coordinates up to 30, after a few products of 64 terms


def compute(name, size=100, **changes):
  return directions.compute(subject(name, size), ConfigDict(directions.DEFAULTS | changes), "test")


@pytest.fixture(scope="module")
def gaussian():
  return compute("gaussian", directions=12)


@pytest.fixture(scope="module")
def memorizer():
  return compute("multi-delta", directions=12)


def test_the_gaussian_denoiser_multiplies_each_coordinate_by_its_gain(gaussian):
  made = subject("gaussian", 100)
  lam = made.stats.eigenvalues
  assert gaussian.input.dims == ("sigma", "direction", "image") and gaussian.input.shape[2] == 100
  assert gaussian.index[0] == 0 and gaussian.index[-1] == len(lam) - 1
  chosen = lam[gaussian.index.to_numpy()]
  np.testing.assert_allclose(gaussian.gain, chosen / (chosen + SIGMAS[:, None] ** 2), rtol=1e-6)
  np.testing.assert_allclose(
    gaussian.effective_dimension, np.sum(lam / (lam + SIGMAS[:, None] ** 2), axis=1), rtol=1e-6
  )
  np.testing.assert_allclose(gaussian.output, gaussian.gain * gaussian.input, atol=FLOAT32)
  slopes = ratios.slope(gaussian.input.to_numpy(), gaussian.output.to_numpy()).mean(-1)
  np.testing.assert_allclose(slopes, gaussian.gain, atol=FLOAT32)


def test_coordinates_are_those_of_held_out_images_and_shared_noise(gaussian):
  made = subject("gaussian", 100)
  basis = made.stats.basis[:, gaussian.index.to_numpy()]
  clean = (made.held_out[:100] / 127.5 - 1 - made.stats.mean).reshape(100, 64) @ basis
  noise = np.random.default_rng([0, *b"directions"]).standard_normal((100, 64), np.float32) @ basis
  np.testing.assert_allclose(gaussian.clean, clean.T, atol=FLOAT32)
  np.testing.assert_allclose(gaussian.input, clean.T + SIGMAS[:, None, None] * noise.T, atol=FLOAT32)


def test_the_memorizer_errs_along_the_faint_components(memorizer):
  gap = ((memorizer.output - memorizer.gain * memorizer.input) ** 2).mean("image")
  own = memorizer.gain * memorizer.sigma**2  # what the Gaussian denoiser's error is expected to be
  assert np.all(gap[0] < 0.1 * own[0])  # at the highest level it is the Gaussian denoiser
  assert np.all(gap[3, 4:] > own[3, 4:])
  # A memorizer's output varies as its images do, and so its slope on held-out inputs is too low.
  slopes = ratios.slope(memorizer.input.to_numpy(), memorizer.output.to_numpy()).mean(-1)
  assert np.all(slopes[3, 5:] < 0.8 * memorizer.gain[3, 5:])


def test_images_of_one_kind_have_no_direction():
  found = compute("gaussian", size=1, images=4)
  assert found.input.shape == (5, 0, 4) and not found.effective_dimension.any()


@pytest.mark.parametrize("changes", [{"images": 1}, {"images": 361}, {"directions": 0}])
def test_check_names_the_field(changes):
  directions.check(ConfigDict({"directions": directions.DEFAULTS}), (8, 8, 1), 360)
  with pytest.raises(ValueError, match=f"`directions.{next(iter(changes))}` is"):
    directions.check(ConfigDict({"directions": directions.DEFAULTS | changes}), (8, 8, 1), 360)


def test_the_figure_draws_slopes_and_distances(gaussian, memorizer):
  figure = plot.draw({"N = 1": [gaussian], "N = 2": [gaussian, memorizer]})
  words = legible(figure)
  assert "N = 1" in words and "N = 2" in words and "σ = 0.17" in words and plot.TITLE and plot.LOOK_FOR
  (one, two), (below, other) = np.reshape(figure.axes, (2, 2))
  x, y = np.concatenate([line.get_xydata() for line in one.lines[1:]]).T
  np.testing.assert_allclose(y, x / (1 + x), atol=FLOAT32)
  assert max(line.get_ydata().max() for line in below.lines) < 1e-3
  sigma = next(s for s in range(5) if f"{SIGMAS[s]:.2g}" == two.lines[-1].get_label().split()[-1])
  at = memorizer.isel(sigma=sigma)
  wanted = (((at.output - at.gain * at.input) ** 2).mean("image") / (at.gain * at.sigma**2)) / 2
  np.testing.assert_allclose(other.lines[-1].get_ydata(), wanted, rtol=1e-3, atol=1e-3)
  x, low = at.input.to_numpy().astype(float), at.output.to_numpy().astype(float)
  slope = [np.polyfit(a, b, 1)[0] for a, b in zip(x, low)]
  np.testing.assert_allclose(two.lines[-1].get_ydata(), (slope + at.gain.to_numpy()) / 2, atol=1e-4)
  legible(plot.draw({f"N = {i}": [gaussian] for i in range(7)}))
