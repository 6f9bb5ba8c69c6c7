"""Log-densities of the Gaussian and of the memorizer on digits, and what the figure draws."""

import numpy as np
import pytest
from ml_collections import ConfigDict
from test_modes_analysis import subject
from test_plots import legible

from gauss_diffusion.analyses import likelihood
from gauss_diffusion.plots import likelihood as plot
from gauss_diffusion.probes.likelihood import kernel_log_density


def compute(name, **changes):
  small = {"images": 8, "sigmas": (2.0, 0.3), "levels": 192}
  return likelihood.compute(subject(name, 100), ConfigDict(likelihood.DEFAULTS | small | changes), "test")


@pytest.fixture(scope="module")
def gaussian():
  return compute("gaussian", levels=12)


@pytest.fixture(scope="module")
def memorizer():
  return compute("multi-delta")


def points(law, sigma):
  """Return the noisy images [8, 64] of a law, float64, and the training images [100, 64]."""
  made = subject("gaussian", 100)
  noise = np.random.default_rng([0, *b"likelihood"]).standard_normal((8, 8, 8, 1), np.float32)
  clean = made.train if law == "train" else made.held_out
  x = clean[:8] / 127.5 - 1 + sigma * noise
  return x.reshape(8, 64), made.train.reshape(100, 64) / 127.5 - 1


@pytest.mark.parametrize("law", ["train", "held-out"])
def test_both_closed_forms_are_the_textbooks(gaussian, law):
  found = gaussian.log_density.sel(clean=law)
  for sigma in (2.0, 0.3):
    x, y = points(law, sigma)
    centred, covariance = x - y.mean(0), np.cov(y.T, ddof=0) + sigma**2 * np.eye(64)
    square = np.sum(centred * np.linalg.solve(covariance, centred.T).T, axis=1)
    want = -(square + np.linalg.slogdet(2 * np.pi * covariance)[1]) / 2
    np.testing.assert_allclose(found.sel(sigma=sigma, denoiser="gaussian"), want, atol=1e-3)  # x is float32
    each = -np.sum((x[:, None] - y) ** 2, axis=-1) / (2 * sigma**2) - 32 * np.log(2 * np.pi * sigma**2)
    want = np.log(np.mean(np.exp(each - each.max(axis=1, keepdims=True)), axis=1)) + each.max(axis=1)
    np.testing.assert_allclose(found.sel(sigma=sigma, denoiser="multi-delta"), want, atol=1e-3)


def test_the_memorizers_density_does_not_depend_on_the_block():
  x = points("held-out", 0.3)[0].reshape(8, 8, 8, 1)
  images = subject("gaussian", 100).train
  whole = kernel_log_density(images, x, 0.3)
  np.testing.assert_allclose(kernel_log_density(images, x, 0.3, block=7), whole, rtol=1e-12)


def test_the_gaussian_denoisers_way_ends_at_its_density_whatever_the_steps(gaussian):
  own, exact = (gaussian.log_density.sel(denoiser=name) for name in ("network", "gaussian"))
  np.testing.assert_allclose(own, exact, atol=1e-3)
  assert abs(gaussian.way_error).max() > 0.1  # twelve steps are few: that much was taken off


def test_the_memorizers_way_ends_at_its_density(memorizer):
  own, exact = (memorizer.log_density.sel(denoiser=name) for name in ("network", "multi-delta"))
  # The way turns sharply between two images that are equally near; 48 levels are off by up to 11 nats there.
  np.testing.assert_allclose(own, exact, atol=0.5)
  advantage = (exact.sel(clean="train") - exact.sel(clean="held-out")).mean("image")
  assert advantage.sel(sigma=0.3) > 20 and advantage.sel(sigma=2.0) < 5


@pytest.mark.parametrize(
  "changes",
  [{"images": 0}, {"images": 361}, {"sigmas": ()}, {"sigmas": (0.0,)}, {"sigmas": (80.0,)}]
  + [{"levels": 1}, {"products": 2}],
)
def test_check_names_the_field(changes):
  sampler = {"sigma_max": 80.0}
  good = ConfigDict({"likelihood": likelihood.DEFAULTS, "sampler": sampler})
  likelihood.check(good, (8, 8, 1), 360)
  bad = ConfigDict({"likelihood": likelihood.DEFAULTS | changes, "sampler": sampler})
  with pytest.raises(ValueError, match=f"`likelihood.{next(iter(changes))}` is"):
    likelihood.check(bad, (8, 8, 1), 360)


def test_the_figure_draws_gain_and_gap_in_bits(gaussian, memorizer):
  figure = plot.draw({"N = 1": [gaussian], "N = 2": [memorizer]})
  words = legible(figure)
  assert "N = 1" in words and "N = 2" in words
  left, right = figure.axes[:2]
  bits = memorizer.log_density / (64 * np.log(2))
  gain = (bits.sel(denoiser="network") - bits.sel(denoiser="gaussian")).sel(clean="held-out").mean("image")
  np.testing.assert_allclose(left.lines[1].get_ydata(), gain)
  gap = (bits.sel(clean="train") - bits.sel(clean="held-out")).mean("image")
  for line, name in zip(right.lines[3:6], ("network", "gaussian", "multi-delta")):
    np.testing.assert_allclose(line.get_ydata(), gap.sel(denoiser=name))
