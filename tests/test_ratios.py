"""Ratios and slopes as means of one number per image: the value exactly, the spread by the delta method."""

import numpy as np

from gauss_diffusion.readings import ratios

F64 = 1e-12  # float64 rounding of sums over a few hundred numbers


def draw(*shape, seed=0):
  return np.random.default_rng(seed).normal(size=shape)


def test_the_mean_is_the_ratio_of_means():
  top, bottom = draw(3, 50), 2 + draw(3, 50, seed=1)
  found = ratios.ratio(top, bottom)
  assert found.shape == (3, 50)
  np.testing.assert_allclose(found.mean(1), top.mean(1) / bottom.mean(1), rtol=F64)
  assert np.all(abs(found.mean(1) - (top / bottom).mean(1)) > 0.01)  # another number than the mean of ratios


def test_the_mean_is_the_slope_of_least_squares():
  x, y = 1000 + draw(4, 60), draw(4, 60, seed=1)
  y += np.arange(4)[:, None] * x
  found = ratios.slope(x, y)
  want = [np.polynomial.polynomial.polyfit(a - a.mean(), b, 1)[1] for a, b in zip(x, y)]
  np.testing.assert_allclose(found.mean(1), want, atol=1e-10)  # x is a thousand times its spread


def test_the_spread_is_that_of_repetitions():
  # 4000 repetitions tell a standard error to 1.1 %, and the delta method leaves out terms in 1/n.
  n, tolerance = 400, 0.08
  rng = np.random.default_rng(0)
  bottom = rng.gamma(4, size=(4000, n))
  top = 0.7 * bottom + rng.normal(size=bottom.shape) * bottom
  for statistic, a, b in ((ratios.ratio, top, bottom), (ratios.slope, bottom, top)):
    each = statistic(a, b)
    want = each.mean(1).std()
    found = np.sqrt(np.mean(each.var(1, ddof=1)) / n)
    np.testing.assert_allclose(found, want, rtol=tolerance)


def test_an_exact_ratio_has_no_spread():
  bottom = 2 + draw(50)
  np.testing.assert_allclose(ratios.ratio(0.3 * bottom, bottom), 0.3, rtol=F64)
  np.testing.assert_allclose(ratios.slope(bottom, 5 - 0.3 * bottom), -0.3, rtol=F64)


def test_nothing_below_is_no_number():
  top, bottom = np.ones((3, 2)), np.array([[1.0, 1.0], [1.0, -1.0], [-1.0, -2.0]])
  assert np.isnan(ratios.ratio(top, bottom)).all(1).tolist() == [False, True, True]
