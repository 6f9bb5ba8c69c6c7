"""Images that occur again are found, counted and left out; what is found agrees with every pair compared."""

import pathlib

import numpy as np
import pytest
from scipy.sparse.csgraph import connected_components

from gauss_diffusion import data
from gauss_diffusion.data import duplicates

EMOJI = pathlib.Path(__file__).parents[2] / "shared" / "data" / "emoji_64.npz"


def pictures(num, side=12, seed=0):
  """Smooth random images, at least 20 grey levels apart."""
  coarse = np.random.default_rng(seed).integers(0, 256, (num, 3, 3, 3))
  return np.kron(coarse, np.ones((1, side // 3, side // 3, 1))).astype(np.uint8)


def changed(image, by):
  """Return an image whose RMS distance to `image` is exactly `by`: every pixel moves towards mid-grey."""
  return np.where(image < 128, image + np.uint8(by), image - np.uint8(by))


def by_all_pairs(images):
  flat = images.reshape(len(images), -1).astype(float)
  rms = np.sqrt(((flat[:, None] - flat[None]) ** 2).mean(-1))
  return rms == 0, rms <= duplicates.NEAR


def assert_same(groups, want):
  np.testing.assert_array_equal(groups[:, None] == groups[None], want[:, None] == want[None])


@pytest.fixture
def load(tmp_path):
  def load_files(held_out=2, **arrays):
    options = {name: arrays.pop(name) for name in ("drop_duplicates", "seed") if name in arrays}
    np.savez(tmp_path / "own.npz", **arrays)
    return data.load("files", path=f"{tmp_path}/own.npz", held_out=held_out, cache=f"{tmp_path}/c", **options)

  return load_files


@pytest.mark.parametrize("shape", [(12, 12, 3), (9, 14, 1), (5, 30, 3), (1, 7, 1)])
def test_groups_are_those_of_all_pairs(shape):
  # Random walks of small steps: chains of near images, of which the ends are far, and exact returns.
  rng = np.random.default_rng(0)
  start = rng.integers(60, 196, (40, *shape))
  steps = rng.integers(-11, 12, (6, 40, *shape)) * rng.integers(0, 2, (6, 40, 1, 1, 1))
  images = (start + np.cumsum(steps, 0)).clip(0, 255).astype(np.uint8).reshape(-1, *shape)
  images = images[rng.permutation(len(images))]
  for groups, pairs in zip(duplicates.kin(images, images[:0]), by_all_pairs(images)):
    assert pairs.sum() > len(images)
    assert_same(groups, connected_components(pairs)[1])


def test_the_threshold_is_where_it_says():
  image = pictures(1)
  for by, alike in ((duplicates.NEAR, True), (duplicates.NEAR + 1, False)):
    equal, near = duplicates.kin(np.concatenate([image, changed(image, by)]), image)
    assert equal[0] == equal[2] != equal[1] and (near[0] == near[1]) == alike


def test_counts_are_of_the_pool_and_of_what_leaks(load):
  train = pictures(10)
  train[7], train[8] = train[3], changed(train[3], 5)  # one copy, one that is near
  test = pictures(4, seed=1)
  test[0], test[1] = train[0], changed(train[1], 5)
  found = load(train_x=train, test_x=test, held_out=4)
  assert found.duplicates == duplicates.Duplicates(repeated=1, repeated_near=2, leaked=1, leaked_near=2)
  assert found.dropped == 0
  again = load(train_x=train, test_x=test, held_out=4)  # from the cache
  assert again.duplicates == found.duplicates and again.fingerprint == found.fingerprint


def test_nothing_that_occurs_again_is_left_when_dropped(load):
  train = pictures(10)
  train[7], train[8] = train[3], changed(train[3], 5)
  test = pictures(4, seed=1)
  test[0], test[1], test[3] = train[0], changed(train[1], 5), test[2]
  found = load(train_x=train, test_x=test, held_out=3, drop_duplicates=True)
  # The test split keeps what both have; of its own two alike it keeps one.
  assert found.dropped == 5 and len(found.pool) == 6
  assert {"train_00000", "train_00001"}.isdisjoint(found.pool_ids) and len(found.held_out) == 3
  assert found.duplicates == duplicates.Duplicates()
  kept = load(train_x=train, test_x=test, held_out=3)
  assert kept.fingerprint != found.fingerprint
  with pytest.raises(ValueError, match="`data.held_out` is 4; own.npz can spare at most 3"):
    load(train_x=train, test_x=test, held_out=4, drop_duplicates=True)


@pytest.mark.parametrize("seed", range(4))
def test_a_pool_split_after_dropping_leaks_nothing(load, seed):
  images = pictures(20)
  images[10:] = images[:10]
  found = load(images=images, held_out=4, drop_duplicates=True, seed=seed)
  assert found.dropped == 10 and len(found.pool) == 6 and found.duplicates == duplicates.Duplicates()
  split = load(images=images, held_out=4, seed=seed).duplicates
  assert split.leaked + split.repeated >= 10 - 4  # both of a pair may be held out


def test_digits_and_images_all_alike(tmp_path):
  found = data.load("digits", cache=str(tmp_path))
  assert found.duplicates == duplicates.Duplicates()
  still = np.full((300, 8, 8, 1), 77, np.uint8)
  still[::2] += 1
  equal, near = duplicates.kin(still, still[:0])
  assert len(set(equal)) == 2 and len(set(near)) == 1


@pytest.mark.skipif(not EMOJI.exists(), reason="no ../shared/data")
def test_emoji_have_nineteen_copies():
  with np.load(EMOJI) as stored:
    images = stored["images"]
  groups = duplicates.kin(images, images[:0])
  found = duplicates.count(groups, groups[:, :0])
  assert found.repeated == 19  # 3,786 images, 3,767 distinct by np.unique
  # Made by this code, which the test above holds against all pairs. Of 1,880 skin tones most are farther.
  assert found.repeated_near == 208
