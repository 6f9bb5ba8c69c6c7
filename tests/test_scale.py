"""Floats of a file: what is kept of them, how they come onto the project's scale, and what is refused."""

import numpy as np
import pytest

from gauss_diffusion import data
from gauss_diffusion.data import scale

F32 = 2**-24  # relative, of one rounding to float32


@pytest.fixture
def load(tmp_path):
  def loaded(array, **options):
    if isinstance(array, dict):
      np.savez(tmp_path / "own.npz", **array)
    else:
      np.save(tmp_path / "own.npy", array)
    path = tmp_path / ("own.npz" if isinstance(array, dict) else "own.npy")
    return data.load("files", path=str(path), cache=f"{tmp_path}/cache", **{"held_out": 3} | options)

  return loaded


def values(num=12, channels=5, dtype=np.float32, seed=0):
  return (7 + 3 * np.random.default_rng(seed).normal(size=(num, 4, 4, channels))).astype(dtype)


def both(dataset):
  """Return all images in the order of the file, of a data set without a test split."""
  images = np.concatenate([dataset.pool, dataset.held_out])
  return images[np.argsort(np.concatenate([dataset.pool_ids, dataset.held_out_ids]))]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ">f4"])
@pytest.mark.parametrize("asked", [3, 2.5, "2.5", "standardise"])
def test_what_was_done_is_recorded_and_undone(load, dtype, asked):
  raw = values(dtype=dtype)
  dataset = load(raw, scale=asked)
  kept = raw.astype(np.float32).astype(np.float64)
  want = (0, float(asked)) if asked != "standardise" else (kept.mean(), kept.std() / 0.5)
  np.testing.assert_allclose(dataset.scale, want, rtol=1e-13)
  shift, factor = dataset.scale
  found = both(dataset)
  assert found.dtype == np.float32
  np.testing.assert_allclose(found, (kept - shift) / factor, rtol=F32)
  again = scale.undo(dataset.scale, found)
  assert again.dtype == np.float32
  np.testing.assert_allclose(again, kept, rtol=4 * F32, atol=4 * F32 * abs(shift))
  assert load(raw, scale=asked).fingerprint == dataset.fingerprint  # from the cache


def test_standardised_values_have_the_moments_of_the_convention(load):
  found = both(load(1e4 + values(200, dtype=np.float64), scale="standardise")).astype(np.float64)
  np.testing.assert_allclose([found.mean(), found.std()], [0, 0.5], atol=1e-6)


def test_a_test_split_is_scaled_as_the_training_split_is(load):
  train, test = values(12), 5 + values(6, seed=1)
  labels = {"train_y": np.arange(12) % 3, "test_y": np.arange(6) % 3}
  dataset = load({"train_x": train, "test_x": test} | labels, scale="standardise", held_out=6)
  train, test = train.astype(float), test.astype(float)
  np.testing.assert_allclose(dataset.scale, (train.mean(), 2 * train.std()), rtol=1e-13)
  order = np.argsort(dataset.held_out_ids)
  np.testing.assert_allclose(dataset.held_out[order], (test - train.mean()) / (2 * train.std()), rtol=1e-6)
  assert dataset.classes == ("0", "1", "2")


def test_another_scale_is_another_data_set(load):
  prints = {load(values(), scale=asked).fingerprint for asked in (2.0, 3.0, "standardise")}
  assert len(prints) == 3
  subsets = {data.subset(load(values(), scale=asked), 4).fingerprint for asked in (2.0, 3.0)}
  assert len(subsets) == 2


def test_copies_among_floats_are_counted_and_left_out(load):
  raw = values()
  raw[7] = raw[2]
  raw[8] = raw[3] + 1e-5  # near, of which floats know nothing
  dataset = load(raw, scale=6)
  found = dataset.duplicates
  assert found.repeated + found.leaked == 1 and found.repeated_near + found.leaked_near == 1
  assert load(raw, scale=6, drop_duplicates=True).dropped == 1


def test_floats_that_do_not_fit_are_refused_before_they_are_read(load, monkeypatch):
  seen = []
  monkeypatch.setattr(data.pixels, "check_room", lambda *asked: seen.append(asked))
  load(values(dtype=np.float16), scale=6)
  assert seen == [(4 * values().size, "own.npy")]


def with_value(value):
  raw = values(dtype=np.float64)
  raw[2, 1, 3, 4] = value
  return raw


WRONG = {
  "nan": (with_value(np.nan), {"scale": 1}, r"`own.npy` has nan at \[2, 1, 3, 4\]; want finite values"),
  "inf": (with_value(-np.inf), {"scale": 1}, r"`own.npy` has -inf at \[2, 1, 3, 4\]"),
  "too large": (with_value(1e300), {"scale": 1}, r"`own.npy` has 1e\+300 at .*as float32 has them"),
  "whole numbers": (values().astype(np.int32), {"scale": 1}, "`own.npy` is int32; want uint8 .* or floats"),
  "booleans": (values() > 7, {"scale": 1}, "`own.npy` is bool; want uint8"),
  "complex": (values().astype(complex), {"scale": 1}, "`own.npy` is complex128; want uint8"),
  "extended": (values().astype(np.longdouble), {"scale": 1}, "`own.npy` is float128; want uint8"),
  "one axis": (np.zeros(7), {"scale": 1}, r"`own.npy` has shape \(7,\); want \[N, H, W\]"),
  "no scale": (values(), {}, "`data.scale` is empty, and own.npy has floats; want a number .*'standardise'"),
  "another word": (values(), {"scale": "standardize"}, "`data.scale` is 'standardize'; want a number > 0"),
  "zero": (values(), {"scale": "0"}, "`data.scale` is '0'; want a number > 0"),
  "below zero": (values(), {"scale": -2.0}, "`data.scale` is -2.0; want a number > 0"),
  "not a number": (values(), {"scale": "nan"}, "`data.scale` is 'nan'; want a number > 0"),
  "infinite": (values(), {"scale": "inf"}, "`data.scale` is 'inf'; want a number > 0"),
  "tiny": (values(), {"scale": "1e-30"}, "`data.scale` is '1e-30', which takes values to .*want a larger"),
  "all one": (np.full((9, 2, 2, 3), 0.1), {"scale": "standardise"}, "all values are 0.1; want some that dif"),
  "a size": (values(), {"scale": 1, "size": 8}, "`data.size`, `data.crop` are for pixels.*leave both out"),
  "a crop": (values(), {"scale": 1, "crop": True}, "`data.size`, `data.crop` are for pixels"),
  "pixels": (np.zeros((9, 4, 4), np.uint8), {"scale": 1}, "`data.scale` is 1, and own.npy has uint8 pixels"),
  "both": (
    {"train_x": values(), "test_x": np.zeros((3, 4, 4, 3), np.uint8)},
    {"scale": 1},
    "training images of float32 but test images of uint8",
  ),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_floats_are_named(load, name):
  array, options, want = WRONG[name]
  with pytest.raises(ValueError, match=want) as error:
    load(array, **options)
  assert "\n" not in str(error.value)
