"""The alarm on denoisers that memorize, that do not, and that cannot tell: gaps, levels, copies, weights."""

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats
from jax.tree_util import Partial

from gauss_diffusion import data, statistics
from gauss_diffusion.denoisers import gaussian, multi_delta
from gauss_diffusion.images import to_float
from gauss_diffusion.training import alarm


@pytest.fixture(scope="module")
def digits():
  return data.load("digits", held_out=360, seed=0)


def mean(record, x, sigma):
  return jnp.asarray(record, x.dtype) + 0 * x


def blend(record, x, sigma):
  """Return the Gaussian's estimate and, to a share, the memorizer's."""
  stats, images, share = record
  return (1 - share) * gaussian.denoise(stats, x, sigma) + share * multi_delta.denoise(images, x, sigma)


def test_the_memorizer_is_caught_at_the_first_look(digits):
  train = digits.pool[:32]
  watch = alarm.memorization_alarm(train, digits.held_out, every=100)
  found = watch(Partial(multi_delta.denoise, train), 100)
  assert found.memorizing and found.gap > 3 and found.p < 1e-8
  assert found.copies == 1 and found.nearest < 1e-3  # M12: every sample is a training image
  assert 1 / 32 < found.unseen < found.seen < 1 and 1 / 32 < found.concentration <= 1
  assert found == watch(Partial(multi_delta.denoise, train), 100)  # a pure function


def test_what_knows_only_the_law_raises_no_alarm(digits):
  watch = alarm.memorization_alarm(digits.pool[:256], digits.held_out, every=10)
  stats = statistics.gaussian_stats(digits.pool[256:])  # of other images
  for k in (1, 5):
    found = watch(Partial(gaussian.denoise, stats), 10 * k)
    assert not found.memorizing and found.copies == 0 and abs(found.gap) < 0.3
    assert found.level == pytest.approx(0.05 / (k * (k + 1)))


def test_the_gap_is_of_the_logarithms_of_errors(digits):
  train, held_out = digits.pool[:20], digits.held_out[:30]
  watch = alarm.memorization_alarm(train, held_out, every=1, sigmas=(0.3, 0.7))
  level = np.float32(0.25)
  found = watch(Partial(mean, level), 1)
  errors = [np.log(np.mean((to_float(each) - level) ** 2, axis=(1, 2, 3))) for each in (held_out, train)]
  assert found.gap == pytest.approx(errors[0].mean() - errors[1].mean(), abs=1e-5)
  want = scipy.stats.ttest_ind(*errors, equal_var=False, alternative="greater")
  assert found.p == pytest.approx(want.pvalue, rel=1e-3)


def test_half_the_error_is_where_it_says(digits):
  train = digits.pool[:64]
  watch = alarm.memorization_alarm(train, digits.held_out, every=1)
  stats = statistics.gaussian_stats(digits.pool[64:])
  looks = [watch(Partial(blend, (stats, train, np.float32(share))), 1) for share in np.linspace(0, 1, 6)]
  gaps = [each.gap for each in looks]
  assert np.all(np.diff(gaps) > 0)  # more of the memorizer, more of a gap
  for each in looks:
    assert each.memorizing == (each.gap > np.log(2) and each.p < 0.025)
  assert not looks[0].memorizing and looks[-1].memorizing


def test_exchangeable_images_are_told_apart_as_rarely_as_promised():
  # One law for both kinds: looks at the same images with other errors each time, which is what spends most.
  rng, alarms = np.random.default_rng(0), 0
  for _ in range(2000):
    for k in range(1, 9):
      one, two = rng.gumbel(size=(2, 24))  # logarithms of errors are skew
      alarms += (hit := alarm.welch(one, two)[1] < 0.05 / (k * (k + 1)))
      if hit:
        break
  assert alarms / 2000 < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 2000)
  assert alarms / 2000 > 0.02  # and little of what may be spent is wasted


def test_spent_levels_never_sum_to_more_than_the_level():
  looks = np.arange(1, 100_001)
  assert np.sum(0.05 / (looks * (looks + 1))) == pytest.approx(0.05, rel=1e-4) and 1 / (1 * 2) == 0.5


def test_welch_at_its_edges():
  assert alarm.welch(np.ones(3), np.ones(4)) == (0, 1)
  assert alarm.welch(np.full(3, 2.0), np.ones(4)) == (1, 0)
  one, two = np.random.default_rng(1).standard_normal((2, 9))
  want = scipy.stats.ttest_ind(one, two[:5], equal_var=False, alternative="greater")
  assert alarm.welch(one, two[:5])[1] == pytest.approx(want.pvalue)


def test_the_largest_weight_is_that_of_the_softmax(monkeypatch):
  rng = np.random.default_rng(2)
  images, x = rng.integers(0, 256, (7, 2, 2, 1), np.uint8), rng.standard_normal((5, 2, 2, 1))
  square = np.sum((x[:, None] - (images / 127.5 - 1)) ** 2, axis=(2, 3, 4))
  for sigma in (0.05, 0.5, 50.0):
    want = scipy.special.softmax(-square / (2 * sigma**2), axis=1).max(axis=1)
    np.testing.assert_allclose(alarm.largest_weight(images, x, sigma), want, rtol=1e-9)
    monkeypatch.setattr(alarm, "_BLOCK", 8)  # two images a block
    np.testing.assert_allclose(alarm.largest_weight(images, x, sigma), want, rtol=1e-9)
  np.testing.assert_allclose(want, 1 / 7, rtol=0.01)  # noise that tells nothing


def test_a_look_at_floats_is_that_at_pixels(digits):
  train, held_out = digits.pool[:16], digits.held_out
  looks = [
    alarm.memorization_alarm(one, other, every=1)(Partial(multi_delta.denoise, train), 1)
    for one, other in ((train, held_out), (to_float(train), to_float(held_out)))
  ]
  np.testing.assert_allclose(*(np.array(look, float) for look in looks), rtol=1e-4)
  assert looks[1].memorizing


def test_equal_training_images_count_once(digits):
  train = np.concatenate([digits.pool[:16]] * 3)
  watch = alarm.memorization_alarm(train, digits.held_out, every=1)
  found = watch(Partial(multi_delta.denoise, digits.pool[:16]), 1)
  # With d₂ that of the twin every near copy would have d₁/d₂ = 1.
  assert found.copies == 1 and found.nearest < 1e-3


@pytest.mark.parametrize(
  "changes",
  [{"every": 0}, {"images": 1}, {"samples": 0}, {"sigmas": ()}, {"sigmas": (0.0,)}, {"level": 1.0}],
)
def test_numbers_out_of_range_are_named(digits, changes):
  with pytest.raises(ValueError, match=f"`{next(iter(changes))}` is"):
    alarm.memorization_alarm(digits.pool[:9], digits.held_out, **{"every": 1, **changes})


def test_wrong_images_steps_and_denoisers_are_named(digits):
  train, held_out = digits.pool[:9], digits.held_out
  with pytest.raises(ValueError, match="`train` is float64"):
    alarm.memorization_alarm(to_float(train, np.float64), held_out, every=1)
  with pytest.raises(ValueError, match="`held_out` holds images"):
    alarm.memorization_alarm(train, held_out[:, :4], every=1)
  with pytest.raises(ValueError, match="`train` is 4 times one image"):
    alarm.memorization_alarm(train[[0, 0, 0, 0]], held_out, every=1)
  watch = alarm.memorization_alarm(train, held_out, every=5)
  for step in (0, 7):
    with pytest.raises(ValueError, match=f"`step` is {step}; .* multiples of 5"):
      watch(Partial(mean, np.float32(0)), step)
  with pytest.raises(ValueError, match="`denoise` returns NaN"):
    watch(Partial(mean, np.float32(np.nan)), 5)
