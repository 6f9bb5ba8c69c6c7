"""Nearest training images against brute force, and the scores read off them (Q1, Q2)."""

import tracemalloc

import numpy as np
import pytest

from gauss_diffusion.probes import generalization

SHAPE = (4, 4, 3)
ROUNDING = 1e-12  # float64 distances of order 1


def images_of(num, seed=0):
  return np.random.default_rng(seed).integers(0, 256, (num, *SHAPE), np.uint8)


def to_float(images, dtype=np.float32):
  return images.astype(dtype) / 127.5 - 1


def samples_of(num, seed=1):
  return np.random.default_rng(seed).uniform(-1.2, 1.2, (num, *SHAPE)).astype(np.float32)


def brute_force(x, images):
  difference = x[:, None].astype(np.float64) - to_float(images)[None]
  distance = np.sqrt(np.sum(difference**2, axis=(2, 3, 4)))
  index = np.argsort(distance, axis=1, kind="stable")[:, :2]
  return index, np.take_along_axis(distance, index, axis=1)


@pytest.mark.parametrize("num", [2, 3, 9, 500])
def test_agrees_with_brute_force(num):
  x, images = samples_of(20), images_of(num)
  index, distance = brute_force(x, images)
  found = generalization.neighbours(x, images)
  np.testing.assert_array_equal(found.index, index)
  np.testing.assert_allclose(found.distance, distance, rtol=ROUNDING)


@pytest.mark.parametrize("offset", [0.0, 1000.0])  # of float32 images, about which none is expected to lie
def test_floats_agree_with_brute_force(offset):
  x, images = samples_of(20) + np.float32(offset), samples_of(500, seed=2) + np.float32(offset)
  x[3] = images[7]
  difference = x[:, None].astype(np.float64) - images[None]
  want = np.sort(np.sqrt(np.sum(difference**2, axis=(2, 3, 4))), axis=1)[:, :2]
  found = generalization.neighbours(x, images)
  np.testing.assert_allclose(found.distance, want, rtol=ROUNDING)
  assert found.distance[3, 0] == 0 and found.index[3, 0] == 7 and generalization.memorized(found)[3]


def test_near_copies_are_told_apart():
  """Images that differ by one level in one pixel, and samples a thousandth of a level from them."""
  base = images_of(1)
  images = np.repeat(base, 40, axis=0)
  images.reshape(40, -1)[np.arange(40), np.arange(40)] ^= 1
  rng = np.random.default_rng(0)
  x = to_float(images, np.float64) + 1e-3 / 127.5 * rng.normal(size=images.shape)
  found = generalization.neighbours(x, images)
  np.testing.assert_array_equal(found.index[:, 0], np.arange(40))
  difference = x[:, None] - to_float(images, np.float64)[None]
  expected = np.sort(np.sqrt(np.sum(difference**2, axis=(2, 3, 4))), axis=1)[:, :2]
  np.testing.assert_allclose(found.distance, expected, rtol=1e-10)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_copies(dtype):  # Q1
  images = images_of(30)
  x = to_float(images[[4, 20, 7]], dtype)
  found = generalization.neighbours(x, images)
  np.testing.assert_array_equal(found.index[:, 0], [4, 20, 7])
  np.testing.assert_array_equal(generalization.gl_score(x, found), 0)
  assert generalization.memorized(found).all()


def test_gl_score_closed_form_and_scale():  # Q1
  x, images = samples_of(5), images_of(10)
  found = generalization.neighbours(x, images)
  expected = brute_force(x, images)[1][:, 0] / np.sqrt(np.sum(x.astype(np.float64) ** 2, axis=(1, 2, 3)))
  np.testing.assert_allclose(generalization.gl_score(x, found), expected, rtol=ROUNDING)
  scaled = found._replace(distance=4 * found.distance)
  np.testing.assert_array_equal(generalization.gl_score(4 * x, scaled), generalization.gl_score(x, found))


def test_memorized_rule():  # Q2
  distance = np.array([[0.9, 3.0], [1.0, 3.0], [1.1, 3.0], [0.0, 0.0], [0.0, 2.0], [5.0, np.inf], [2.0, 2.0]])
  found = generalization.Neighbours(np.zeros((7, 2), int), distance)
  np.testing.assert_array_equal(generalization.memorized(found), [1, 0, 0, 1, 1, 1, 0])


def test_copy_of_an_image_that_occurs_twice():  # Q2
  images = images_of(12)
  images[9] = images[3]
  x = to_float(images[[9]])
  found = generalization.neighbours(x, images)
  np.testing.assert_array_equal(found.index, [[3, 9]])
  np.testing.assert_array_equal(found.distance, [[0, 0]])
  assert generalization.memorized(found).all()


def test_single_training_image():
  x, images = samples_of(3), images_of(1)
  found = generalization.neighbours(x, images)
  np.testing.assert_array_equal(found.index, [[0, -1]] * 3)
  np.testing.assert_allclose(
    found.distance[:, 0], np.linalg.norm((x - to_float(images)).reshape(3, -1), axis=1), rtol=1e-6
  )
  assert np.all(found.distance[:, 1] == np.inf) and generalization.memorized(found).all()


def test_no_samples_have_no_neighbours():
  found = generalization.neighbours(samples_of(2)[:0], images_of(3))
  assert found.index.shape == found.distance.shape == (0, 2)


def test_order_and_blocks_do_not_matter(monkeypatch):
  x, images = samples_of(50), images_of(200)
  found = generalization.neighbours(x, images)
  order = np.random.default_rng(2).permutation(200)
  permuted = generalization.neighbours(x, images[order])
  np.testing.assert_array_equal(order[permuted.index], found.index)
  np.testing.assert_array_equal(permuted.distance, found.distance)
  monkeypatch.setattr(generalization, "_BLOCK", 13 * 48)
  monkeypatch.setattr(generalization, "_SAMPLES", 7)
  blocked = generalization.neighbours(x, images)
  np.testing.assert_array_equal(blocked.index, found.index)
  np.testing.assert_array_equal(blocked.distance, found.distance)


def photographs(num, seed):
  """Images whose power falls as that of photographs does, so that few components show most of a distance."""
  rng = np.random.default_rng(seed)
  fall = 1 / np.maximum(np.hypot(*np.meshgrid(np.fft.fftfreq(12), np.fft.fftfreq(12))), 1 / 24)
  field = np.fft.ifft2(fall * np.fft.fft2(rng.normal(size=(num, 3, 12, 12)))).real
  return np.clip(np.moveaxis(field, 1, -1) * 50 / field.std() + 128, 0, 255).astype(np.uint8)


def of_kind(kind):
  images = photographs(300, 0)
  images[7], images[8] = images[3], images[3]
  x = photographs(12, 1) / 127.5 - 1
  if kind == "copies":
    x = images[3:15] / 127.5 - 1
  if kind == "far":  # from all images nearly as far: no component tells them apart
    x = 80 * np.random.default_rng(2).normal(size=x.shape)
  if kind == "flat":  # their components show all of them, so that what is left is rounding
    images[:] = np.arange(300).reshape(-1, 1, 1, 1) % 256
  if kind == "one":
    images[:] = images[0]
  return x.astype(np.float32), images


@pytest.mark.parametrize("kind", ["new", "copies", "far", "flat", "one"])
@pytest.mark.parametrize("few", [0.0, 1 / 64, 1.0])
def test_screens_leave_out_nothing_that_is_near(monkeypatch, kind, few):
  """A sixth of the values as components, blocks that end anywhere, and the second screen always or never."""
  monkeypatch.setattr(generalization, "_COMPONENTS", 72)
  monkeypatch.setattr(generalization, "_WORTH", 0)
  monkeypatch.setattr(generalization, "_FITTED", 60)
  monkeypatch.setattr(generalization, "_BLOCK", 432 * 41)
  monkeypatch.setattr(generalization, "_FEW", few)
  x, images = of_kind(kind)
  index, distance = brute_force(x, images)
  found = generalization.neighbours(x, images)
  np.testing.assert_array_equal(found.index, index)
  np.testing.assert_allclose(found.distance, distance, rtol=ROUNDING)


@pytest.mark.parametrize("kind", ["new", "copies", "far", "flat"])
def test_bounds_are_below_distances(kind):
  x, images = of_kind(kind)
  x, images = x.reshape(len(x), -1).astype(np.float64), images.reshape(len(images), -1)
  a, b = 127.5 * x - 0.5, images.astype(np.float64) - 128
  distance = np.linalg.norm(a[:, None] - b, axis=-1)
  basis = np.linalg.qr(np.random.default_rng(3).normal(size=(432, 72)))[0]
  for columns in (None, basis, generalization._components(images)):
    points = [generalization._project(y, generalization._squares(y), columns) for y in (a, b)]
    bound = generalization._bounds(*points)
    assert np.all(bound <= distance)
    row, column = np.indices(bound.shape).reshape(2, -1)
    assert np.all(generalization._of_pairs(*points, row, column) <= distance[row, column])
  assert kind in ("copies", "flat") or np.all(bound > 0.5 * distance)  # or they would be worth nothing


def test_most_is_screened(monkeypatch):
  """Of photographs a few in a hundred are compared value by value."""
  compared = []
  of = generalization._distance
  monkeypatch.setattr(generalization, "_distance", lambda x, y: compared.append(len(x)) or of(x, y))
  monkeypatch.setattr(generalization, "_COMPONENTS", 72)
  monkeypatch.setattr(generalization, "_WORTH", 0)
  generalization.neighbours(photographs(50, 1).astype(np.float32) / 127.5 - 1, photographs(2000, 0))
  assert sum(compared) < 0.03 * 50 * 2000


def test_memory_is_bounded(monkeypatch):
  monkeypatch.setattr(generalization, "_BLOCK", 2**14)
  x, peaks = samples_of(40), []
  for num in (4000, 16000):
    images = images_of(num)
    tracemalloc.start()
    generalization.neighbours(x, images)
    peaks.append(tracemalloc.get_traced_memory()[1])
    tracemalloc.stop()
  assert peaks[1] < peaks[0] + 2**14, "four times the images must not take more memory"


@pytest.mark.parametrize(
  "x, images, named",
  [
    (samples_of(2), to_float(images_of(3), np.float64), "images"),
    (samples_of(2), images_of(3)[:0], "images"),
    (images_of(2), images_of(3), "x"),
    (samples_of(2)[..., :1], images_of(3), "x"),
    (samples_of(2) * np.float32(np.nan), images_of(3), "x"),
  ],
)
def test_refuses(x, images, named):
  with pytest.raises(ValueError, match=f"^`{named}`"):
    generalization.neighbours(x, images)
