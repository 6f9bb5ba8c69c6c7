"""The figure of networks that know one level each shows each at its own."""

import numpy as np
import pytest
from test_plots import legible

from gauss_diffusion import plots, results
from gauss_diffusion.readings import measures
from gauss_diffusion.readings.measures import Reading

SIGMA = np.array([10.0, 1.5, 0.47])


def network(group, sigma, seed):
  """Return a reading of a network trained at one level, whose results at others are nonsense."""
  rng = np.random.default_rng(seed)
  linearity = results.labelled(
    {"cosine": (("inputs", "sigma", "alpha2", "sample"), rng.uniform(0.9, 1, (1, 3, 1, 20)))},
    {"inputs": ["noisy image"], "sigma": SIGMA, "alpha2": [0.5]},
  )
  score_gap = results.labelled(
    {"rmse": (("law", "pair", "sigma", "image"), rng.uniform(0.1, 0.3, (1, 2, 3, 20)))},
    {
      "law": ["held-out"],
      "sigma": SIGMA,
      "one": ("pair", ["network", "network"]),
      "two": ("pair", ["gaussian", "multi-delta"]),
    },
  )
  entry = {"group": group, "train": {"sigma_min": sigma, "sigma_max": sigma}}
  return Reading(f"{group}, σ = {sigma}", entry, {"linearity": linearity, "score_gap": score_gap}, {})


def test_each_network_is_shown_at_its_own_level():
  readings = [network(group, sigma, i) for i, group in enumerate(("U", "DiT")) for sigma in (0.47, 10.0)]
  figure = plots.one_level.draw(readings, "")
  assert "DiT" in legible(figure)
  linear, apart = figure.axes
  for i, line in enumerate(linear.lines):
    own = readings[2 * i : 2 * i + 2]
    assert list(line.get_xdata()) == [0.47, 10.0]
    want = [one.found["linearity"].cosine.sel(sigma=s).mean() for one, s in zip(own, (0.47, 10.0))]
    np.testing.assert_allclose(line.get_ydata(), want)
    for line, other in zip(apart.lines[2 * i :], ("gaussian", "multi-delta")):
      gaps = [one.found["score_gap"].rmse.sel(two=other, one="network") for one in own]
      want = [gap.sel(sigma=s).mean() for gap, s in zip(gaps, (0.47, 10.0))]
      np.testing.assert_allclose(line.get_ydata(), want)


def test_what_lacks_a_result_is_left_out():
  one = network("U", 10.0, 0)
  legible(plots.one_level.draw([one._replace(found={}), one], ""))
  bare = plots.one_level.draw([one._replace(found={})], "")
  assert not bare.axes[0].lines


def test_a_level_is_the_one_in_the_results_that_is_nearest():
  one = network("U", 1.4, 0)
  assert measures.trained_on(one) == (1.4, 1.4)
  want = one.found["linearity"].cosine.sel(sigma=1.5).mean()
  assert measures.linearity(one, measures.trained_on(one)).mean() == pytest.approx(float(want))
