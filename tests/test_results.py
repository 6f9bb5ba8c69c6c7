"""Results are labelled, survive kills, replace nothing before they are complete, and say what is broken."""

import importlib.metadata
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from gauss_diffusion import results

CARD = {
  "title": "Ä",
  "gl": np.float32(0.5),
  "sizes": (np.int64(3), 4),
  "undefined": np.nan,
  "map": {1: np.ones(2)},
}


def found(seed=0):
  rng = np.random.default_rng(seed)
  return results.labelled(
    {
      "rmse": (("law", "pair", "sigma", "image"), rng.random((2, 3, 4, 5), np.float32), "[-1, 1]"),
      "memorized": ("image", rng.random(5) < 0.5),
      "floor": ((), rng.random()),
    },
    {
      "law": ["train", "held-out"],
      "one": ("pair", ["network", "network", "linear (held-out)"]),
      "two": ("pair", ["gaussian", "multi-delta", "gaussian"]),
      "sigma": ("sigma", [80.0, 1.0, 0.1, 0.002], "[-1, 1]"),
    },
  )


@pytest.fixture
def path(tmp_path):
  return tmp_path / "results" / "linearity" / "width 0.5, N = 16"  # a label with a dot is no suffix


def files(path):
  return sorted(file.name.removeprefix(path.name) for file in path.parent.iterdir())


def test_arrays_are_asked_for_by_name():
  arrays = found()
  picked = arrays.rmse.sel(law="held-out", one="linear (held-out)", two="gaussian", sigma=0.1)
  np.testing.assert_array_equal(picked, np.asarray(arrays.rmse)[1, 2, 2])
  assert picked.dims == ("image",) and arrays.rmse.attrs["units"] == "[-1, 1]"
  with pytest.raises(KeyError):
    arrays.rmse.sel(one="network", two="mean")


def test_a_result_comes_back_as_it_was_saved(path):
  assert not results.exists(path)
  results.save(path, found(), CARD)
  assert results.exists(path)
  arrays, card = results.load(path)
  assert arrays.identical(found())
  assert all(arrays[name].dtype == found()[name].dtype for name in found().variables)
  content = card.pop("content")
  assert content == results.digest(path.parent / f"{path.name}.nc")
  assert card == {"title": "Ä", "gl": 0.5, "sizes": [3, 4], "undefined": None, "map": {"1": [1.0, 1.0]}}
  assert results.read_card(path) == card | {"content": content}
  assert set(results.load(path, skip=("rmse", "absent"))[0].data_vars) == {"memorized", "floor"}
  assert files(path) == [".json", ".nc"]


def test_the_same_arrays_are_the_same_bytes(path):
  results.save(path, found(), CARD)
  before = (path.parent / f"{path.name}.nc").read_bytes()
  results.save(path, found(), CARD)
  assert (path.parent / f"{path.name}.nc").read_bytes() == before


def test_nothing_to_measure_is_a_result_too(path):
  results.save(path, found(), {})
  results.save(path, None, {"absent": "it has no derivatives"})
  assert results.load(path) == (None, {"absent": "it has no derivatives", "content": None})
  assert files(path) == [".json"]


def test_a_result_is_current_for_its_inputs_alone(path):
  inputs = {"settings": {"pairs": (("a", "b"),), "sigma": 0.1}, "seed": 0}
  assert not results.current(path, inputs)
  results.save(path, found(), {"inputs": inputs})
  assert results.current(path, inputs)
  assert results.current(path, json.loads(json.dumps(inputs)))
  assert not results.current(path, inputs | {"seed": 1})
  (path.parent / f"{path.name}.nc").write_bytes(b"no arrays")
  assert not results.current(path, inputs)


@pytest.mark.parametrize("dies_at", [".nc", ".nc.next", ".json"])
def test_a_result_cut_short_is_the_old_one_or_the_new_one(path, monkeypatch, dies_at):
  results.save(path, found(0), {"which": "old"})
  replace = results.os.replace

  def die(source, target):
    if str(target).endswith(dies_at):
      raise KeyboardInterrupt
    replace(source, target)

  with monkeypatch.context() as patch:
    patch.setattr(results.os, "replace", die)
    with pytest.raises(KeyboardInterrupt):
      results.save(path, found(1), {"which": "new"})
  arrays, card = results.load(path)
  # Once the card is there, the new arrays are found although they did not get their name.
  which = 1 if dies_at == ".nc" else 0
  assert arrays.identical(found(which)) and card["which"] == ("old", "new")[which]
  results.save(path, found(2), {"which": "third"})
  assert results.load(path)[0].identical(found(2)) and files(path) == [".json", ".nc"]


def test_every_flipped_bit_is_noticed(path):
  results.save(path, found(), {"inputs": {"seed": 0}, "seconds": 1.5})
  rng = np.random.default_rng(0)
  for name in (f"{path.name}.nc", f"{path.name}.json"):
    file = path.parent / name
    whole = file.read_bytes()
    for place in rng.integers(len(whole), size=60):
      flipped = bytearray(whole)
      flipped[place] ^= 1 << rng.integers(8)
      file.write_bytes(flipped)
      with pytest.raises(ValueError, match=r"N = 16\.(nc|json)` can't be read .*; delete"):
        results.load(path)
    file.write_bytes(whole)
  assert results.load(path)[0].identical(found())


def test_broken_and_exchanged_files_are_named_with_a_remedy(path):
  with pytest.raises(ValueError, match="holds no finished result"):
    results.load(path)
  other = path.with_name("n64")
  results.save(path, found(), {})
  results.save(other, found(1), {})
  arrays, card = path.parent / f"{path.name}.nc", path.parent / f"{path.name}.json"
  whole = arrays.read_bytes()
  for broken in (whole[: len(whole) // 2], b"", b"no archive", (path.parent / "n64.nc").read_bytes()):
    arrays.write_bytes(broken)
    with pytest.raises(
      ValueError, match=r"N = 16\.nc` can't be read \(it is damaged, or not the one .*delete"
    ):
      results.load(path)
  arrays.unlink()
  with pytest.raises(ValueError, match=r"N = 16\.nc` can't be read .*; delete"):
    results.load(path)
  for broken in ('{"gl": 0.', "{}", "[]", "null", '{"content": null, "checksum": ""}'):
    card.write_text(broken)
    with pytest.raises(ValueError, match=r"N = 16\.json` can't be read .*; delete"):
      results.load(path)


def test_a_notebook_gets_everything(path):
  workdir = path.parents[2]
  with pytest.raises(ValueError, match="holds no results; want the working directory of a study"):
    results.open(workdir)
  results.save(path, found(), {})
  results.save(path.with_name("absent"), None, {})
  assert set(results.open(workdir)["linearity"]) == {path.name}
  assert results.open(workdir)["linearity"][path.name].identical(found())


def test_a_copy_of_a_workdir_reads_as_the_original(path, tmp_path):
  results.save(path, found(), {})
  shutil.copytree(path.parents[1], tmp_path / "copy" / "results")
  assert results.open(tmp_path / "copy")["linearity"][path.name].identical(found())


def test_a_failed_write_leaves_the_old_file(tmp_path):
  target = tmp_path / "config.json"
  results.write_json(target, {"old": 1})
  with pytest.raises(ZeroDivisionError), results.writing(target) as file:
    file.write(b"half a")
    raise ZeroDivisionError
  assert results.read_json(target) == {"old": 1}
  assert list(tmp_path.iterdir()) == [target]


def test_what_cannot_be_stored_is_refused_before_anything_is_written(path):
  with pytest.raises(ValueError, match="array `ragged` has dtype object"):
    results.labelled({"ragged": ("x", np.array([None, 1]))}, {})
  with pytest.raises(ValueError, match=r"`a\.b\[1\]` is a set"):
    results.save(path, found(), {"a": {"b": [1, set()]}})
  assert not path.parent.exists()


def test_no_labels_are_imported_where_none_are_used():
  code = "import sys; from gauss_diffusion import results; print({'xarray', 'pandas'} & set(sys.modules))"
  done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
  assert done.stdout == "set()\n", done.stderr


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
