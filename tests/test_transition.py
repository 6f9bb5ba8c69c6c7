"""The times at which a run generalizes and copies, on curves that are known."""

import numpy as np
import pytest

from gauss_diffusion import results
from gauss_diffusion.readings import transition
from gauss_diffusion.readings.measures import Reading

STEPS = (10, 20, 40, 80, 160)


def snapshots(error, copies, steps=STEPS, num=200):
  """Return readings of one run whose held-out error and number of copies are the given ones."""
  found = []
  for e, c, step in zip(error, copies, steps, strict=True):
    score_gap = results.labelled(
      {"error": (("denoiser", "clean", "sigma", "image"), np.full((1, 2, 1, 3), [[[[e]], [[9.0]]]]))},
      {"denoiser": ["network"], "clean": ["held-out", "train"], "sigma": [1.0]},
    )
    samples = results.labelled(
      {"memorized": (("denoiser", "sample"), [np.arange(num) < c])}, {"denoiser": ["network"]}
    )
    entry = {"train": {"steps": step}}
    found.append(Reading(f"{step}", entry, {"score_gap": score_gap, "samples": samples}, {}))
  return found


def test_a_time_between_snapshots_is_linear_in_the_logarithm_of_the_step():
  # 3, 2, 1 over 10, 20, 40: the line 3 - log2(step / 10).
  for limit in (2.9, 2.0, 1.3, 1.0):
    assert transition.first_below(STEPS[:3], (3.0, 2.0, 1.0), limit) == pytest.approx(10 * 2 ** (3 - limit))


def test_a_time_is_the_first_of_several():
  assert transition.first_below(STEPS, (3, 1, 3, 0, 0), 1.0) == 20.0


def test_ends_of_a_run():
  assert transition.first_below(STEPS, (1, 2, 3, 4, 5), 1.0) == 10.0  # there already
  assert transition.first_below(STEPS, (5, 4, 3, 2, 1.5), 1.0) == np.inf  # never


def test_generalization_is_near_the_least_error_and_not_where_the_error_is_least():
  run = snapshots((4.0, 2.0, 1.02, 1.0, 3.0), (0,) * 5)
  want = 20 * 2 ** ((2.0 - 1.05) / (2.0 - 1.02))
  assert transition.generalization_time(run) == pytest.approx(want)
  assert transition.generalization_time(run[::-1]) == pytest.approx(want)  # in any order


def test_memorization_is_more_than_a_hundredth_of_copies():
  run = snapshots((1.0,) * 5, (0, 0, 2, 6, 180))
  assert transition.memorization_time(run) == 40.0  # just a hundredth: from here on it is more
  run = snapshots((1.0,) * 5, (0, 0, 0, 20, 180))
  assert transition.memorization_time(run) == pytest.approx(40 * 2 ** (2 / 20))
  assert transition.memorization_time(snapshots((1.0,) * 5, (0,) * 5)) == np.inf
  assert transition.memorization_time(snapshots((1.0,) * 5, (0, 0, 0, 0, 1))) == np.inf


def test_the_exponent_of_a_power_law_and_of_what_was_reached_alone():
  sizes = np.array([16, 32, 64, 256])
  assert transition.exponent(sizes, 3.0 * sizes**1.25) == pytest.approx(1.25, abs=1e-12)
  assert transition.exponent(sizes, np.full(4, 7.0)) == pytest.approx(0, abs=1e-12)
  reached = np.array([160.0, 320.0, np.inf, np.inf])
  assert transition.exponent(sizes, reached) == pytest.approx(1.0, abs=1e-12)
  assert np.isnan(transition.exponent(sizes, [np.inf, 5.0, np.inf, np.inf]))
  assert np.isnan(transition.exponent([16, 16], [3.0, 4.0]))
