"""Knowledge beyond two moments, on laws of one pixel whose errors and divergences are integrals."""

import numpy as np
import pytest

from gauss_diffusion import edm, results
from gauss_diffusion.readings import knowledge

# Means, weights and variances of the components. The last integral of densities is good to 1e-9.
LAWS = {
  "two deltas": ((-0.5, 0.5), (0.5, 0.5), (0.0, 0.0)),
  "two bumps": ((-0.5, 0.5), (0.5, 0.5), (0.01, 0.01)),
  "skewed": ((-0.8, 0.3, 0.0), (0.2, 0.5, 0.3), (0.0004, 0.01, 0.09)),
  "heavy tails": ((0.0, 0.0), (0.7, 0.3), (0.0025, 0.64)),
}
F64 = 1e-9


def exact(law, sigma):
  """Return E_null, E_G, the least error and KL(p_σ ‖ g_σ) at one level, by integrals over y = x + σ noise."""
  m, w, v = (np.array(each)[:, None] for each in LAWS[law])
  mean = (w * m).sum()
  variance = (w * (v + m**2)).sum() - mean**2
  width = 12 * np.sqrt(v.max() + sigma**2)
  y = np.linspace(m.min() - width, m.max() + width, 20_001)
  density = w * np.exp(-((y - m) ** 2) / (2 * (v + sigma**2))) / np.sqrt(2 * np.pi * (v + sigma**2))
  p = density.sum(0) + 1e-300
  of_each = m + v / (v + sigma**2) * (y - m)
  posterior = density / p
  spread = (posterior * (v * sigma**2 / (v + sigma**2) + of_each**2)).sum(0)
  spread -= (posterior * of_each).sum(0) ** 2
  log_gaussian = (
    -((y - mean) ** 2) / (2 * (variance + sigma**2)) - np.log(2 * np.pi * (variance + sigma**2)) / 2
  )
  step = y[1] - y[0]
  divergence = np.sum(p * (np.log(p) - log_gaussian)) * step
  gaussian = variance * sigma**2 / (variance + sigma**2)
  return variance, gaussian, np.sum(p * spread) * step, divergence


def errors(law, sigmas):
  """Return the three errors [S, 2], of two images whose mean is the expectation, and the divergences [S]."""
  *found, divergence = np.array([exact(law, sigma) for sigma in sigmas]).T
  return [np.stack([0.9 * each, 1.1 * each], 1) for each in found], divergence


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize(("levels", "tolerance"), [(10, 0.03), (20, 5e-3), (100, 2e-4)])
def test_nats_are_the_divergence_from_the_gaussian(law, levels, tolerance):
  """The tolerance is the rule's: that of ten levels depends on where between two of them a law changes."""
  sigmas = edm.sigma_grid(levels, 0.002, 80.0)
  (_, gaussian, least), divergence = errors(law, sigmas)
  found = knowledge.nats(sigmas, gaussian, least)
  np.testing.assert_allclose(found.mean(), divergence[-1] - divergence[0], rtol=tolerance)
  np.testing.assert_allclose(found, found.mean() * np.array([0.9, 1.1]), rtol=F64)
  np.testing.assert_allclose(knowledge.nats(sigmas[::-1], gaussian[::-1], least[::-1]), found, rtol=F64)


@pytest.mark.parametrize("law", ["two bumps", "skewed", "heavy tails"])
@pytest.mark.parametrize(("levels", "of_one", "of_all"), [(10, 0.3, 0.05), (20, 0.03, 5e-3)])
def test_nats_are_right_on_average_wherever_between_levels_a_structure_lies(law, levels, of_one, of_all):
  """The tolerances are those that the docstring gives."""
  sigmas = edm.sigma_grid(levels, 0.002, 80.0)
  found, plain, want = [], [], []
  for scale in np.geomspace(0.1, 2, 10):  # of images: E(scale x; σ) = scale² E(x; σ/scale)
    _, gaussian, least, divergence = np.array([exact(law, sigma / scale) for sigma in sigmas]).T
    gap = scale**2 * (gaussian - least)
    found.append(knowledge.nats(sigmas, gap[:, None], 0 * gap[:, None]).item())
    plain.append(np.trapezoid(gap, sigmas**-2.0) / 2)
    want.append(divergence[-1] - divergence[0])
  np.testing.assert_allclose(found, want, rtol=of_one)
  np.testing.assert_allclose(np.sum(found), np.sum(want), rtol=of_all)
  assert levels > 10 or np.sum(plain) > 4 * np.sum(want)  # trapezoids over σ⁻² itself


def test_a_network_finds_no_more_than_there_is():
  sigmas = edm.sigma_grid(20, 0.002, 80.0)
  (_, gaussian, least), _ = errors("skewed", sigmas)
  network = 0.5 * gaussian + 0.5 * least
  np.testing.assert_allclose(
    knowledge.nats(sigmas, gaussian, network), knowledge.nats(sigmas, gaussian, least) / 2, rtol=F64
  )
  np.testing.assert_array_equal(knowledge.nats(sigmas, gaussian, gaussian), 0)
  assert np.all(knowledge.nats(sigmas, gaussian, 2 * gaussian) < 0)


def test_a_floor_off_the_span_grows_with_the_lowest_level():
  # Off the span of its images D_G keeps an error f, and the exact denoiser of a wide law has σ² there.
  found = []
  for lowest in (0.02, 0.01):
    sigmas = edm.sigma_grid(100, lowest, 80.0)
    least = np.minimum(sigmas**2, 0.5)[:, None]
    found.append(knowledge.nats(sigmas, np.full_like(least, 0.5), least).item())
  np.testing.assert_allclose(found[1] / found[0], 4, rtol=0.05)  # f/2 σ⁻², but for a logarithm


def test_the_share_is_all_of_it_for_the_gaussian_and_more_for_who_does_worse():
  sigmas = np.array([2.0, 0.3, 0.02])
  (null, gaussian, least), _ = errors("two bumps", sigmas)
  np.testing.assert_allclose(knowledge.gaussian_share(null, gaussian, gaussian).mean(1), 1, rtol=F64)
  share = knowledge.gaussian_share(null, gaussian, least).mean(1)
  np.testing.assert_allclose(share, ((null - gaussian) / (null - least))[:, 0], rtol=F64)
  assert np.all(share < 1) and np.all(knowledge.gaussian_share(null, gaussian, 1.02 * gaussian).mean(1) > 1)


def test_the_share_flatters_at_low_noise_where_the_gain_does_not():
  (null, gaussian, _), _ = errors("two bumps", [0.02])
  better = 0.85 * gaussian
  assert 0.9995 < knowledge.gaussian_share(null, gaussian, better).mean() < 1
  np.testing.assert_allclose(knowledge.gain_over_gaussian(gaussian, better).mean(), 0.15, rtol=F64)
  np.testing.assert_allclose(knowledge.gain_over_gaussian(gaussian, 1.15 * gaussian).mean(), -0.15, rtol=F64)


def test_the_share_of_who_knows_nothing_is_no_number():
  null = np.full((2, 3), 0.5)
  share = knowledge.gaussian_share(null, 0.4 * null, np.stack([0.5 * null[0], null[1]]))
  assert np.isnan(share).all(1).tolist() == [False, True]


def test_squared_errors_are_summed_over_pixels():
  rng = np.random.default_rng(0)
  error = rng.uniform(size=(2, 2, 3, 5)).astype(np.float32)
  found = results.labelled(
    {"error": (("denoiser", "clean", "sigma", "image"), error), "dimension": ((), 64)},
    {"denoiser": ["mean", "network"], "clean": ["train", "held-out"], "sigma": [3.0, 2.0, 1.0]},
  )
  squared = knowledge.squared_error(found, "network")
  assert squared.dtype == np.float64
  np.testing.assert_allclose(squared, 64 * error[1, 1].astype(np.float64) ** 2, rtol=F64)
  np.testing.assert_allclose(
    knowledge.squared_error(found, "mean", "train"), 64 * error[0, 0].astype(np.float64) ** 2, rtol=F64
  )


def test_one_level_is_no_integral():
  with pytest.raises(ValueError, match="`sigma` has 1 level"):
    knowledge.nats(np.array([1.0]), np.ones((1, 2)), np.ones((1, 2)))
