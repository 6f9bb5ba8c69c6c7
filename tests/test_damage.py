"""Damage anywhere in a working directory is mended or refused in one line; no number is silently another.

``--long`` does a thousand times what the fast test does twenty times.
"""

import pathlib
import shutil

import numpy as np
import pytest

from gauss_diffusion import data, results
from gauss_diffusion.study import pipeline, rebuild, schema, subjects, workdir
from gauss_diffusion.training import checkpoint

KINDS = ("flip", "truncate", "delete", "swap")
CLOCK = "images_per_second"  # differs from run to run


def config():
  """Two snapshots of one run, and an ideal denoiser."""
  made = tiny()
  for label, steps in (("a", 4), ("b", 6)):
    schema.add_model(made, label, 16, title=label).train.steps = steps
  schema.add_model(made, "ideal", 16, title="ideal").denoiser = "gaussian"
  return made


def twins():
  """Two networks that differ in their seeds alone."""
  made = tiny()
  for seed, label in enumerate("ab"):
    model = schema.add_model(made, label, 16, title=label)
    model.seed, model.train.steps = seed, 4
  return made


def tiny():
  made = schema.default()
  schema.shrink(made)
  made.network.name = "skip"  # the quickest to trace
  made.train.update({"batch": 16, "log_every": 1, "checkpoint_every": 2, "keep": 2})
  made.sampler.levels, made.linearity.levels = 3, 2
  made.analyses = ("linearity",)
  made.figures, made.claims = (), ()
  return made


def finish(folder, dataset, config=config):
  """Do what the command does; returns what the study found, but for the clock."""
  study = config()
  models = subjects.models(study, dataset, folder)
  workdir.check(folder, models)
  with workdir.held(folder, models, 1):
    workdir.take(folder, study, models, "command")
    pipeline.train_models(models, folder)
    pipeline.analyse_models(study, dataset, models, subjects.functions(models, (0.1, 1.0)), folder)
    rebuild.rebuild(folder)
  return {
    f"{analysis}/{label}/{name}": values.to_numpy()
    for analysis, own in results.open(folder).items()
    for label, found in own.items()
    for name, values in found.variables.items()
    if name != CLOCK
  } | {"summary": np.array(rebuild.summary(folder).replace(str(folder), ""))}


@pytest.fixture(scope="module")
def dataset():
  return data.load("digits", held_out=360, seed=0)


@pytest.fixture(scope="module")
def pristine(dataset, tmp_path_factory):
  folder = tmp_path_factory.mktemp("damage") / "study"
  return folder, finish(folder, dataset)


def damage(kind: str, path: pathlib.Path, others: list[pathlib.Path], rng) -> str:
  """Damage a file; returns what was done."""
  whole = path.read_bytes()
  if kind == "delete":
    path.unlink()
  elif kind == "truncate":
    path.write_bytes(whole[: rng.integers(max(len(whole), 1))])
  elif kind == "flip":
    flipped = bytearray(whole)
    if flipped:
      flipped[rng.integers(len(flipped))] ^= 1 << rng.integers(8)
    path.write_bytes(flipped)
  else:
    alike = [other for other in others if other.suffix == path.suffix and other != path] or [path]
    other = alike[rng.integers(len(alike))]
    path.write_bytes(other.read_bytes())
    other.write_bytes(whole)
    return f"swap {path} with {other}"
  return f"{kind} {path}"


def survive(times, seed, pristine, dataset, tmp_path):
  """Damage the study so many times, files of every kind alike often; returns how it ended."""
  folder, want = pristine
  rng, ends = np.random.default_rng(seed), {"as it was": 0, "refused": 0}
  kept = [
    path.relative_to(folder)
    for path in sorted(folder.rglob("*"))
    if path.is_file() and path.name != "report.html" and "figures" not in path.parts
  ]
  kinds: dict[tuple, list[pathlib.Path]] = {}  # by place, labels and orbax's names left out
  for path in kept:
    place = tuple("*" if len(part) == 32 or part in ("a", "b") else part for part in path.parts)
    kinds.setdefault(place, []).append(path)
  for number in range(times):
    copy = tmp_path / str(number)
    shutil.copytree(folder, copy)
    alike = list(kinds.values())[rng.integers(len(kinds))]
    path = copy / alike[rng.integers(len(alike))]
    done = damage(KINDS[number % len(KINDS)], path, [copy / other for other in kept], rng)
    try:
      found = finish(copy, dataset)
    except ValueError as error:
      assert "; " in str(error) and "\n" not in str(error), (done, error)  # what is wrong; what to do
      ends["refused"] += 1
    else:
      assert found.keys() == want.keys(), done
      for name in want:
        np.testing.assert_array_equal(found[name], want[name], err_msg=f"{done}: {name}")
      ends["as it was"] += 1
    shutil.rmtree(copy)
  print(f"of {times} damages: {ends}")
  return ends


@pytest.mark.studies
def test_damage_is_mended_or_refused(pristine, dataset, tmp_path):
  ends = survive(20, 0, pristine, dataset, tmp_path)
  assert ends["refused"] <= 4  # what a training was decided by can't be guessed


@pytest.mark.studies
def test_whole_checkpoints_of_another_model_are_none_of_this_ones(dataset, tmp_path, capsys):
  want = finish(tmp_path / "pristine", dataset, twins)

  def exchanged(name, place):
    copy = shutil.copytree(tmp_path / "pristine", tmp_path / name)
    one, other = (copy / "models" / label / place for label in "ab")
    one.rename(copy / "aside")
    other.rename(one)
    (copy / "aside").rename(other)
    return copy

  copy = exchanged("steps", "checkpoints/4")
  with pytest.raises(ValueError, match="4` is another model's: its `seed` is 1, and this model's 0"):
    checkpoint.load_ema(copy, "a")
  capsys.readouterr()
  found = finish(copy, dataset, twins)
  for name in want:
    np.testing.assert_array_equal(found[name], want[name], err_msg=name)
  said = capsys.readouterr().err
  assert "its `seed` is 1, and this model's 0; it is now `4.damaged`, and training continues from" in said

  copy = exchanged("all", "checkpoints")
  with pytest.raises(ValueError, match="another model's: .*no sound checkpoint before it: delete .*anew"):
    finish(copy, dataset, twins)
  with pytest.raises(ValueError, match="has trained 'a' with `models.a.seed` = 1, not 0"):
    finish(exchanged("models", ""), dataset, twins)


@pytest.mark.long
def test_a_thousand_damages_are_mended_or_refused(pristine, dataset, tmp_path):
  survive(1000, 1, pristine, dataset, tmp_path)
