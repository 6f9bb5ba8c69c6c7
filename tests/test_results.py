"""Results survive kills, refuse overwriting, and say what is broken."""

import importlib.metadata
import json

import numpy as np
import pytest

from gauss_diffusion import results

ARRAYS = {
  "cosine": np.random.default_rng(0).standard_normal((2, 3)).astype(np.float32),
  "memorized": np.array([True, False]),
  "inputs": np.array(["noisy image", "pure noise"]),
  "pairs": 7,
}
CARD = {
  "title": "Ä",
  "gl": np.float32(0.5),
  "sizes": (np.int64(3), 4),
  "undefined": np.nan,
  "map": {1: np.ones(2)},
}


@pytest.fixture
def path(tmp_path):
  return tmp_path / "linearity" / "width 0.5, N = 16"  # a label with a dot is no suffix


def test_a_result_comes_back_as_it_was_saved(path):
  assert not results.exists(path)
  results.save(path, ARRAYS, CARD)
  assert results.exists(path)
  arrays, card = results.load(path)
  for name, values in ARRAYS.items():
    assert arrays[name].dtype == np.asarray(values).dtype
    np.testing.assert_array_equal(arrays[name], values)
  assert card == {"title": "Ä", "gl": 0.5, "sizes": [3, 4], "undefined": None, "map": {"1": [1.0, 1.0]}}
  assert set(results.load(path, skip=("cosine", "absent"))[0]) == set(ARRAYS) - {"cosine"}
  assert sorted(file.name for file in path.parent.iterdir()) == [f"{path.name}.json", f"{path.name}.npz"]


def test_a_finished_result_is_not_overwritten(path):
  results.save(path, ARRAYS, {"first": True})
  with pytest.raises(ValueError, match="already holds a finished result"):
    results.save(path, {"other": 1}, {})
  arrays, card = results.load(path)
  assert card == {"first": True} and "cosine" in arrays


@pytest.mark.parametrize("dies_at", [".npz", ".json"])
def test_a_result_cut_short_does_not_exist_and_can_be_saved_again(path, monkeypatch, dies_at):
  replace = results.os.replace

  def die(source, target):
    if str(target).endswith(dies_at):
      raise KeyboardInterrupt
    replace(source, target)

  with monkeypatch.context() as patch:
    patch.setattr(results.os, "replace", die)
    with pytest.raises(KeyboardInterrupt):
      results.save(path, ARRAYS, CARD)
  assert not results.exists(path)
  assert not [file for file in path.parent.iterdir() if ".tmp" in file.name]
  results.save(path, ARRAYS, CARD)
  assert results.exists(path)


def test_a_failed_write_leaves_the_old_file(tmp_path):
  target = tmp_path / "config.json"
  results.write_json(target, {"old": 1})
  with pytest.raises(ZeroDivisionError), results.writing(target) as file:
    file.write(b"half a")
    raise ZeroDivisionError
  assert results.read_json(target) == {"old": 1}
  assert list(tmp_path.iterdir()) == [target]


def test_broken_files_are_named_with_a_remedy(path):
  with pytest.raises(ValueError, match="holds no finished result"):
    results.load(path)
  results.save(path, ARRAYS, CARD)
  npz, card = path.parent / f"{path.name}.npz", path.parent / f"{path.name}.json"
  whole = npz.read_bytes()
  flipped = bytearray(whole)
  flipped[200] ^= 0xFF  # inside the first array
  for broken in (whole[: len(whole) // 2], bytes(flipped), b"", b"no archive"):
    npz.write_bytes(broken)
    with pytest.raises(ValueError, match=r"N = 16\.npz` can't be read .*; delete"):
      results.load(path)
  npz.unlink()
  with pytest.raises(ValueError, match=r"N = 16\.npz` can't be read .*; delete"):
    results.load(path)
  card.write_text('{"gl": 0.')
  with pytest.raises(ValueError, match=r"N = 16\.json` can't be read .*; delete"):
    results.load(path)


def test_what_cannot_be_stored_is_refused_before_anything_is_written(path):
  with pytest.raises(ValueError, match="array `ragged` has dtype object"):
    results.save(path, {"ragged": np.array([None, 1])}, {})
  with pytest.raises(ValueError, match=r"`a\.b\[1\]` is a set"):
    results.save(path, ARRAYS, {"a": {"b": [1, set()]}})
  assert not path.parent.exists()


def test_metrics_survive_a_torn_line_and_a_resumed_run(tmp_path):
  path = tmp_path / "model" / "metrics.jsonl"
  for step in (10, 20, 30):
    results.append_metrics(path, {"step": step, "loss": np.float32(step / 8)})
  with open(path, "ab") as file:
    file.write(b'{"step": 40, "lo')  # killed here
  np.testing.assert_array_equal(results.read_metrics(path)["step"], [10, 20, 30])

  # Resumed from a checkpoint at step 20.
  results.append_metrics(path, {"step": 30, "loss": 7.0, "lr": 0.5})
  results.append_metrics(path, {"step": 40, "loss": np.inf})
  columns = results.read_metrics(path)
  np.testing.assert_array_equal(columns["step"], [10, 20, 30, 40])
  np.testing.assert_array_equal(columns["loss"], [1.25, 2.5, 7.0, np.nan])
  np.testing.assert_array_equal(columns["lr"], [np.nan, np.nan, 0.5, np.nan])
  assert all(json.loads(line) for line in path.read_text().splitlines())


def test_broken_metrics_are_named_with_a_remedy(tmp_path):
  path = tmp_path / "metrics.jsonl"
  with pytest.raises(ValueError, match=r"metrics\.jsonl` can't be read"):
    results.read_metrics(path)
  path.write_text('{"step": 1}\n{"step":\n{"step": 3}\n')
  with pytest.raises(ValueError, match=r"metrics\.jsonl:2` can't be read .*; delete that line"):
    results.read_metrics(path)
  path.write_text('{"step": 1}')  # nothing but a torn line
  assert results.read_metrics(path) == {}


def test_versions_name_what_numbers_depend_on():
  found = results.versions()
  assert found["numpy"] == np.__version__
  assert found["jax"] == importlib.metadata.version("jax")
  assert {"python", "jaxlib", "flax", "optax", "orbax-checkpoint", "gauss-diffusion"} <= set(found)
