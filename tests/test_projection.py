"""Projections from inner products: orthogonal, nested and alike fields, credit, and halves that don't mix."""

import itertools

import numpy as np
import pytest

from gauss_diffusion.readings import projection

F64 = 1e-10  # relative; of sums of some hundred products
ORTHOGONAL = np.linalg.qr(np.random.default_rng(0).normal(size=(9, 9)))[0]


def grams(fields):
  """Return the Gram matrices [1, n, g, g] of fields [g, n, D], the last the target, in plain NumPy."""
  return np.einsum("gnd,hnd->ngh", fields, fields)[None]


def orthogonal(images=6):
  """Return fields [4, n, 9] of energy 1 that are orthogonal on each image."""
  order = [np.roll(ORTHOGONAL, i, axis=0)[:4] for i in range(images)]
  return np.moveaxis(np.array(order), 0, 1)


def shares(*fields):
  return projection.explained(grams(np.stack(fields)))


def credit(found):
  """Return first in, last in and Shapley share, [3, f], means over the images."""
  measures = projection.first_in, projection.last_in, projection.shapley
  return np.array([measure(found)[:, 0].mean(-1) for measure in measures])


def test_who_is_the_target_explains_all_of_it_and_orthogonal_others_nothing():
  one, two, three, _ = orthogonal()
  found = shares(one, two, three, one)
  np.testing.assert_allclose(found[-1], 1, rtol=F64)
  np.testing.assert_allclose(credit(found), 3 * [[1, 0, 0]], atol=F64)


def test_a_blend_of_orthogonal_fields_is_shared_by_their_energies():
  one, two, three, rest = orthogonal()
  np.testing.assert_allclose(
    credit(shares(one, two, three, one / 2 + two / 2)), 3 * [[0.5, 0.5, 0]], atol=F64
  )
  found = shares(5 * one, two, three, one + 2 * two + 2 * rest)  # a field's own size doesn't matter
  np.testing.assert_allclose(credit(found), 3 * [[1 / 9, 4 / 9, 0]], atol=F64)
  np.testing.assert_allclose(found[-1], 5 / 9, rtol=F64)


def test_fields_that_say_the_same_share_the_credit():
  one, two, three, rest = orthogonal()
  first, last, shapley = credit(shares(one, two, 3 * one, one + two + rest))
  np.testing.assert_allclose(first, [1 / 3, 1 / 3, 1 / 3], rtol=F64)
  np.testing.assert_allclose(last, [0, 1 / 3, 0], atol=F64)
  np.testing.assert_allclose(shapley, [1 / 6, 1 / 3, 1 / 6], rtol=F64)
  # The same but for a hundredth, as kernel and memorizer are at high noise: taken as the same.
  nearly = one + 0.01 * three
  first, last, shapley = credit(shares(one, nearly, one + three))
  np.testing.assert_allclose(first, 0.5, atol=0.02)
  np.testing.assert_allclose(last, 0, atol=0.02)


@pytest.fixture
def general():
  """Fields [4, 10, 7] that are not orthogonal, the last one's a blend of the others and more."""
  rng = np.random.default_rng(1)
  fields = rng.normal(size=(4, 10, 7)) + rng.normal(size=(1, 10, 7))
  fields[-1] += 0.5 * fields[0] - 0.2 * fields[1]
  return fields


def test_every_subset_is_explained_as_by_least_squares_on_the_other_half(general):
  found = projection.explained(grams(general))
  *fields, target = general
  for subset in range(8):
    chosen = [i for i in range(3) if subset >> i & 1]
    left = np.empty(10)
    for read in (0, 1):
      fitted = np.arange(10) % 2 != read
      design = np.stack([fields[i][fitted].ravel() for i in chosen], 1) if chosen else np.zeros((35, 0))
      beta = np.linalg.lstsq(design, target[fitted].ravel(), rcond=None)[0]
      rest = target[~fitted] - sum(b * fields[i][~fitted] for b, i in zip(beta, chosen))
      left[~fitted] = (rest**2).sum(1)
    np.testing.assert_allclose(projection.unexplained(grams(general), chosen)[0], left, rtol=1e-8)
    want = 1 - left.sum() / (target**2).sum()
    np.testing.assert_allclose(found[subset, 0].mean(), want, rtol=1e-8, atol=F64)


def test_shapley_is_the_mean_over_all_orders_and_sums_to_all(general):
  found = projection.explained(grams(general))
  added = np.zeros((3, 1, 10))
  orders = list(itertools.permutations(range(3)))
  for order in orders:
    before = 0
    for i in order:
      added[i] += found[before | 1 << i] - found[before]
      before |= 1 << i
  np.testing.assert_allclose(projection.shapley(found), added / len(orders), rtol=1e-8)
  np.testing.assert_allclose(projection.shapley(found).sum(0), found[-1], rtol=1e-8)


def test_a_random_field_explains_less_than_nothing():
  """Of M Gaussian numbers a half the fitted coefficient has E[β²] = 1/(M − 2), and that is what it costs."""
  rng, half = np.random.default_rng(2), 6 * 8
  found = [shares(*rng.normal(size=(2, 12, 8)))[1].mean() for _ in range(3_000)]
  error = np.std(found) / np.sqrt(len(found))
  assert np.mean(found) < -3 * error
  np.testing.assert_allclose(np.mean(found), -1 / (half - 2), atol=4 * error)


def test_an_image_has_no_part_in_its_own_coefficients(general):
  beta = projection.coefficients(grams(general), [0, 2])
  changed = general.copy()
  changed[:, 4] *= -3.0
  changed[-1, 4] += 1
  other = projection.coefficients(grams(changed), [0, 2])
  np.testing.assert_array_equal(other[0, ::2], beta[0, ::2])
  assert np.all(other[0, 1::2] != beta[0, 1::2])


def test_levels_are_apart(general):
  two = np.concatenate([grams(general), grams(2 * general[::-1])])
  found = projection.explained(two)
  np.testing.assert_allclose(found[:, :1], projection.explained(two[:1]), rtol=F64)
  np.testing.assert_allclose(found[:, 1:], projection.explained(two[1:]), rtol=F64)


def test_nothing_explains_nothing_and_of_nothing_there_is_no_share():
  one, two, three, _ = orthogonal()
  found = shares(0 * one, two, two + three)
  np.testing.assert_allclose(credit(found), 3 * [[0, 0.5]], atol=F64)
  assert np.isnan(shares(one, two, 0 * three)).all()
