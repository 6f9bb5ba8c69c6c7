"""Checkpoints: any damage is noticed, named, and what is sound before it is used."""

import hashlib
import json
import shutil

import jax
import numpy as np
import pytest

from gauss_diffusion import networks
from gauss_diffusion.training import checkpoint, train_state

CARD = {
  "network": {
    "name": "ddpmpp",
    "img_resolution": 8,
    "img_channels": 1,
    "model_channels": 8,
    "channel_mult": [1],
    "num_blocks": 1,
  }
}
ITEMS = ("card", "ema", "log", "state")


def state(step, seed=0):
  network = networks.create(**CARD["network"])
  found = train_state.create(networks.init(network, jax.random.key(seed)), train_state.optimizer(1e-3, 0, 16))
  return found._replace(step=np.int32(step), ema_params=jax.tree.map(lambda x: x + step, found.params))


def write(folder, *states):
  with checkpoint.manager(folder) as checkpoints:
    for each in states:
      log = checkpoint.Log([{"step": int(each.step), "loss": 0.1}], [0.5])
      checkpoint.save(checkpoints, each, CARD, log)
  return folder


@pytest.fixture(scope="module")
def fresh():
  return state(0)


@pytest.fixture(scope="module")
def pristine(tmp_path_factory):
  return write(tmp_path_factory.mktemp("model"), state(3), state(6))


@pytest.fixture(scope="module")
def other(tmp_path_factory):
  return write(tmp_path_factory.mktemp("other"), state(6, seed=1))


@pytest.fixture
def folder(pristine, tmp_path):
  shutil.copytree(pristine, tmp_path / "model")
  return tmp_path / "model"


def restore(folder, fresh):
  with checkpoint.manager(folder) as checkpoints:
    return checkpoint.restore(checkpoints, fresh, CARD)


def newest(folder):
  return folder / checkpoint.FOLDER / "6"


def same(a, b):
  return all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


def test_what_was_saved_comes_back(folder, fresh):
  found, log = restore(folder, fresh)
  assert same(found, state(6)) and log == checkpoint.Log([{"step": 6, "loss": 0.1}], [0.5])
  assert checkpoint.load_log(folder) == log and checkpoint.load_card(folder) == CARD
  assert same(checkpoint.load_ema(folder)[1], state(6).ema_params)
  assert same(checkpoint.load_ema(folder, step=3)[1], state(3).ema_params)
  assert checkpoint.sound_step(folder) == checkpoint.latest_step(folder) == 6


def test_the_sums_are_of_every_file_as_other_programs_know_them(folder):
  lines = (newest(folder) / checkpoint.SUMS).read_text().splitlines()
  sums = {line[66:]: line[:64] for line in lines}
  files = [path for item in ITEMS for path in (newest(folder) / item).rglob("*") if path.is_file()]
  assert {str(path.relative_to(newest(folder))) for path in files} == set(sums)
  for name, digest in sums.items():
    assert hashlib.sha256((newest(folder) / name).read_bytes()).hexdigest() == digest


def test_every_flipped_bit_truncation_and_deletion_is_noticed(folder):
  rng = np.random.default_rng(0)
  files = [newest(folder) / checkpoint.SUMS]
  files += [path for item in ITEMS for path in (newest(folder) / item).rglob("*") if path.is_file()]
  assert len(files) > 15
  for path in [*files, *rng.choice(files, 40)]:
    whole = path.read_bytes()
    place = rng.integers(len(whole))
    flipped = bytearray(whole)
    flipped[place] ^= 1 << rng.integers(8)
    for damaged in (flipped, whole[:place]):
      path.write_bytes(damaged)
      assert checkpoint.sound_step(folder) == 3, path
    path.write_bytes(whole)
  for path in files[1:]:
    path.rename(path.with_name("elsewhere"))
    assert checkpoint.sound_step(folder) == 3, path
    path.with_name("elsewhere").rename(path)
  assert checkpoint.sound_step(folder) == 6


def test_files_of_another_step_or_model_are_noticed(folder, other):
  for source in (folder / checkpoint.FOLDER / "3", newest(other)):
    for name in (checkpoint.SUMS, "ema/manifest.ocdbt", "log/metadata"):
      whole = (newest(folder) / name).read_bytes()
      shutil.copyfile(source / name, newest(folder) / name)
      if (newest(folder) / name).read_bytes() != whole:
        assert checkpoint.sound_step(folder) == 3, name
      (newest(folder) / name).write_bytes(whole)
    whole = newest(folder) / "ema"
    whole.rename(folder / "ema")
    shutil.copytree(source / "ema", newest(folder) / "ema")
    assert checkpoint.sound_step(folder) == 3
    shutil.rmtree(newest(folder) / "ema")
    (folder / "ema").rename(whole)


def test_a_checkpoint_says_whose_it_is(tmp_path, fresh, capsys):
  record = {"seed": 0, "train.batch": 16, "train.steps": 6}
  model = tmp_path / "model"
  model.mkdir()
  own = model / checkpoint.TRAINING
  own.write_text(json.dumps(record))
  write(model, state(3), state(6))
  assert (newest(model) / checkpoint.TRAINING).read_text() == own.read_text()
  assert checkpoint.TRAINING in (newest(model) / checkpoint.SUMS).read_text()
  for alike in ({"train.steps": 9}, {"train.younger": 1}):  # of one run; of a later version
    own.write_text(json.dumps(record | alike))
    assert checkpoint.sound_step(model) == 6
  (newest(model) / checkpoint.TRAINING).write_text(json.dumps(record | {"seed": 1}))
  assert checkpoint.sound_step(model) == 3  # it is covered by the sums
  own.write_text(json.dumps(record | {"seed": 1}))
  for read in (checkpoint.sound_step, checkpoint.load_ema, checkpoint.load_card):
    with pytest.raises(
      ValueError, match="is another model's: its `seed` is 0, and this model's 1|damaged: `tr"
    ):
      read(model)
  for broken in ("{", "[]"):
    own.write_text(broken)
    with pytest.raises(ValueError, match=f"`{own}` .*; put a copy of `.*3/{checkpoint.TRAINING}` in its"):
      checkpoint.load_ema(model, step=3)


def test_a_checkpoint_under_another_steps_name_is_noticed(folder, fresh, capsys):
  newest(folder).rename(folder / checkpoint.FOLDER / "9")
  assert same(restore(folder, fresh)[0], state(3))
  assert "/9` holds step 6; it is now `9.damaged`" in capsys.readouterr().err


def test_training_continues_from_the_sound_one_before_and_says_so(folder, fresh, capsys):
  (newest(folder) / "state" / "manifest.ocdbt").write_bytes(b"")
  assert same(checkpoint.load_ema(folder)[1], state(6).ema_params)  # its item is sound
  found, log = restore(folder, fresh)
  assert same(found, state(3)) and log.metrics[-1]["step"] == 3
  said = capsys.readouterr().err
  assert "`state/manifest.ocdbt` is not what was saved; it is now `6.damaged`" in said
  assert said.count("\n") == 1 and "training continues from step 3" in said
  assert checkpoint.latest_step(folder) == 3
  write(folder, state(6))
  assert checkpoint.sound_step(folder) == 6


def test_a_damaged_network_is_not_loaded(folder):
  (newest(folder) / "ema" / "_METADATA").unlink()
  with pytest.raises(ValueError, match="`ema/_METADATA` can't be read .*; run its study again, or import it"):
    checkpoint.load_ema(folder)
  assert same(checkpoint.load_ema(folder, step=3)[1], state(3).ema_params)
  (newest(folder) / "card" / "metadata").write_text(json.dumps(CARD).replace("8", "4"))
  with pytest.raises(ValueError, match="`card/metadata` is not what was saved"):
    checkpoint.load_card(folder)


def test_only_damaged_checkpoints_are_an_error_that_says_what_to_do(folder, fresh):
  for step in ("3", "6"):
    (folder / checkpoint.FOLDER / step / "state" / "_METADATA").unlink()
  for read in (checkpoint.sound_step, lambda folder: restore(folder, fresh)):
    with pytest.raises(ValueError, match=r"/6` is damaged: .*no sound checkpoint before it: delete `.*anew"):
      read(folder)
  assert checkpoint.latest_step(folder) == 6


def test_a_checkpoint_of_an_older_version_is_read_and_named(folder, fresh, capsys):
  (newest(folder) / checkpoint.SUMS).unlink()
  assert same(checkpoint.load_ema(folder)[1], state(6).ema_params)
  assert same(restore(folder, fresh)[0], state(6)) and checkpoint.sound_step(folder) == 6
  assert capsys.readouterr().err.count("has no `SHA256SUMS`, as of an older version") == 1
  shutil.rmtree(newest(folder) / "log")
  assert restore(folder, fresh)[1] is None and checkpoint.load_log(folder) is None


def test_what_orbax_cant_read_of_an_older_version_is_damaged_too(folder, fresh, capsys):
  (newest(folder) / checkpoint.SUMS).unlink()
  for item in ("ema", "state"):
    (newest(folder) / item / "manifest.ocdbt").write_bytes(b"")
  with pytest.raises(ValueError, match="6` can't be read"):
    checkpoint.load_ema(folder)
  assert same(restore(folder, fresh)[0], state(3))
  assert "training continues from step 3" in capsys.readouterr().err


def test_a_copy_or_an_import_is_checked_too(folder, tmp_path):
  checkpoint.branch(folder, tmp_path / "branch")
  assert checkpoint.sound_step(tmp_path / "branch") == 6
  checkpoint.save_ema(tmp_path / "imported", jax.device_get(state(0).params), CARD)
  assert same(checkpoint.load_ema(tmp_path / "imported")[1], state(0).params)
  files = [
    path for path in (newest(tmp_path / "imported").with_name("0") / "ema").rglob("*") if path.is_file()
  ]
  largest = max(files, key=lambda path: path.stat().st_size)
  largest.write_bytes(largest.read_bytes()[:-1])
  with pytest.raises(ValueError, match="is not what was saved; run its study again, or import it anew"):
    checkpoint.load_ema(tmp_path / "imported")


@pytest.mark.parametrize("step", [3, 6])
def test_notes_of_orbax_that_are_json_of_something_else_are_named_and_can_be_deleted(folder, fresh, step):
  notes = folder / "checkpoints" / str(step) / checkpoint.NOTES
  shutil.copy(folder / "checkpoints" / "3" / "log" / "metadata", notes)
  for ask in (lambda: checkpoint.load_ema(folder), lambda: restore(folder, fresh)):
    with pytest.raises(
      ValueError, match=rf"can't be opened \(.*\); delete `{checkpoint.NOTES}` in the folders"
    ) as error:
      ask()
    assert "\n" not in str(error.value)
  notes.unlink()
  assert same(restore(folder, fresh)[0], state(6))
  checkpoint.load_ema(folder)
