"""Work done once: runs that models share, shares of several processes, networks from elsewhere."""

import json

import jax
import numpy as np
import pytest

from gauss_diffusion import data, results
from gauss_diffusion.study import pipeline, schema
from gauss_diffusion.training import checkpoint, loop


@pytest.fixture(scope="module")
def dataset():
  return data.load("digits", held_out=360, seed=0)


def tiny():
  config = schema.default()
  schema.shrink(config)
  config.train.batch = 16
  config.train.log_every = 1
  config.analyses = ("linearity",)
  return config


def snapshots(*steps):
  config = tiny()
  for count in steps:
    schema.add_model(config, f"s{count}", 16, title=f"{count} steps").train.steps = count
  return config


def params(workdir, label):
  return checkpoint.load_ema(workdir, label)[1]


def test_snapshots_of_one_run_are_those_of_separate_runs(dataset, tmp_path):
  together, alone = tmp_path / "together", tmp_path / "alone"
  models = pipeline.models(snapshots(2, 4, 7), dataset, together)
  assert [[m.label for m in run] for run in pipeline.runs(models)] == [["s2", "s4", "s7"]]
  assert pipeline.train_models(models) == 3 and pipeline.train_models(models) == 0
  pipeline.train_models(pipeline.models(snapshots(7), dataset, alone))
  for one, other in zip(
    jax.tree.leaves(params(together, "s7")), jax.tree.leaves(params(alone, "s7")), strict=True
  ):
    np.testing.assert_array_equal(one, other)
  early, late = (jax.tree.leaves(params(together, label))[0] for label in ("s2", "s7"))
  assert not np.array_equal(early, late)
  # The history of the run belongs to each of its snapshots, once.
  steps = results.read_metrics(together / "models" / "s7" / loop.METRICS)["step"]
  np.testing.assert_array_equal(steps, np.arange(1, 8))
  assert checkpoint.latest_step(together / "models" / "s2") == 2


def test_what_differs_by_more_than_steps_is_another_run(dataset, tmp_path):
  config = snapshots(2, 4)
  config.models.s4.seed = 1
  schema.add_model(config, "other", 32, title="other").train.steps = 2
  assert len(pipeline.runs(pipeline.models(config, dataset, tmp_path))) == 3


def test_processes_divide_the_runs_among_them(dataset, tmp_path):
  config = snapshots(2, 4)
  for size in (32, 48, 64):
    schema.add_model(config, f"n{size}", size)
  models = pipeline.models(config, dataset, tmp_path)
  shares = [[m.label for m in pipeline.share(models, task, 3)] for task in range(3)]
  assert sorted(sum(shares, [])) == sorted(m.label for m in models)
  assert any({"s2", "s4"} <= set(share) for share in shares)
  assert all(map(len, shares))
  with pytest.raises(ValueError, match="`task` is 3"):
    pipeline.share(models, 3, 3)


def test_a_network_from_elsewhere_is_analysed_and_not_trained(dataset, tmp_path):
  config = snapshots(2)
  pipeline.train_models(pipeline.models(config, dataset, tmp_path / "first"))
  config = tiny()
  schema.add_model(config, "imported", 0).checkpoint = str(tmp_path / "first" / "models" / "s2")
  config.linearity.levels = 2
  schema.check(config, dataset.pool.shape[1:], len(dataset.pool), len(dataset.held_out))
  models = pipeline.models(config, dataset, tmp_path / "second")
  assert pipeline.train_models(models) == 0
  assert pipeline.unfinished(config, models, tmp_path / "second") == ["imported"]
  assert pipeline.analyse_models(config, dataset, models, tmp_path / "second") == 1
  assert not pipeline.unfinished(config, models, tmp_path / "second")
  path = pipeline.write_report(config, dataset, models, tmp_path / "second", "command")
  assert path.exists() and not (path.parent / "figures" / "training.png").exists()
  assert json.loads((path.parent / "claims.json").read_text()) == []


@pytest.mark.parametrize(("folder", "named"), [("nowhere", "`checkpoint` '.*nowhere' holds no checkpoint")])
def test_a_missing_network_is_named(dataset, tmp_path, folder, named):
  config = tiny()
  schema.add_model(config, "imported", 0).checkpoint = str(tmp_path / folder)
  with pytest.raises(ValueError, match=named):
    schema.check(config, dataset.pool.shape[1:], len(dataset.pool), len(dataset.held_out))


def test_a_network_for_other_images_is_refused(dataset, tmp_path):
  config = snapshots(2)
  pipeline.train_models(pipeline.models(config, dataset, tmp_path))
  config = tiny()
  schema.add_model(config, "imported", 0).checkpoint = str(tmp_path / "models" / "s2")
  with pytest.raises(ValueError, match=r"\(8, 8, 1\).*\(32, 32, 3\)"):
    schema.check(config, (32, 32, 3), len(dataset.pool), len(dataset.held_out))
