"""Whoever waits for a study is told what will be done, what is being done, and how long the rest takes."""

import logging
import re
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_cost import study
from test_pipeline import tiny

from gauss_diffusion import data, results
from gauss_diffusion.study import asked, cost, progress, schema, subjects
from gauss_diffusion.study.cost import Stage


def stage(what, seconds=1.0, memory=0.0, disk=0.0):
  return Stage(what, 0, seconds, memory, disk)


def test_what_all_stages_share_is_divided_among_them():
  stages = [stage("train a", 10), stage("statistics a", 3), stage("gain a", 20), stage("report", 5)]
  stages.append(stage("compile 7 programs", 6))
  every = progress.remaining(stages, ["train a", "gain a", "report"])
  assert [(each.what, each.seconds) for each in every] == [("train a", 13), ("gain a", 23), ("report", 8)]
  assert sum(each.seconds for each in every) == sum(each.seconds for each in stages)
  assert [each.what for each in progress.remaining(stages, ["gain a", "report"])] == ["gain a", "report"]


def test_every_stage_of_the_cost_model_can_be_left_to_do():
  config, models = study()
  schema.add_model(config, "n16", 16)
  stages = cost.estimate(config, models(), 100)
  left = ["train n16", *(f"{name} n16" for name in config.analyses), "report"]
  assert [each.what for each in progress.remaining(stages, left)] == left


def test_time_left_is_the_estimate_at_first_and_then_what_it_took(monkeypatch, capsys):
  now = [100.0]
  monkeypatch.setattr(time, "monotonic", lambda: now[0])
  begin = progress.announcer([stage("train a", 60), stage("gain a", 60), stage("report", 0)])
  begin("train a")
  begin("train a")  # it goes on
  begin("something else")
  now[0] += 240  # four times as long as estimated
  begin("gain a")
  first, second = capsys.readouterr().err.splitlines()
  assert first == "stage 1 of 3: train a; about 2 min left in all"
  pace = (240 + progress.TRUST) / (60 + progress.TRUST)
  assert second == f"stage 2 of 3: gain a; about {cost.amount(60 * pace, cost.SECONDS)} left in all"


def test_a_plan_says_data_models_work_and_cost(tmp_path):
  config = tiny("score_gap", "gain")
  dataset = data.load("digits", held_out=360, seed=0)
  schema.add_model(config, "n16", 16)
  schema.add_model(config, "n32", 32)
  schema.add_model(config, "null", 16, title="null").denoiser = "skip"
  config.train.steps = 1500
  models = subjects.models(config, dataset, tmp_path)
  left = ["train n16", "train n32", "report"]
  said = progress.plan(config, dataset, models, left, [], []).splitlines()
  assert said[0].startswith("data ") and "1,437 training and 360 held-out images, 8 × 8 × 1" in said[0]
  assert re.match("models +2 × 1,500 steps, 1 that need no training$", said[1])
  assert re.match("analyses +score_gap, gain$", said[2])
  assert re.match("to do +3 stages: 2 × train, 1 × report$", said[3])
  stages = [stage("train n16", 60, 1e9, 1e6), stage("train n32", 60, 2e9, 1e6), stage("report", 1)]
  want = rf"cost +about 2 min, 2 GB of memory, 2 MB on disk, on {jax.device_count()} × cpu$"
  assert re.match(want, progress.price(stages))


def test_what_is_done_is_not_left(tmp_path):
  config = tiny("score_gap", "gain")
  dataset = data.load("digits", held_out=360, seed=0)
  schema.add_model(config, "n16", 16)
  schema.add_model(config, "null", 16, title="null").denoiser = "skip"
  models = subjects.models(config, dataset, tmp_path)
  results.write_json(tmp_path / asked.FILE, {"command": ""} | asked.plain(config))
  left = ["train n16", "score_gap n16", "gain n16", "score_gap null", "gain null", "report"]
  assert progress.undone(models, tmp_path) == left
  assert progress.undone(models[1:], tmp_path) == left[3:]  # another process has the first
  assert progress.undone([], tmp_path) == []


def slow(x):
  for _ in range(20):
    x = jnp.sin(x) @ x
  return x


@pytest.mark.parametrize(("patience", "said"), [(0.0, True), (60.0, False)])
def test_a_compile_is_said_while_it_lasts_and_a_short_one_is_not(patience, said, monkeypatch, capsys):
  monkeypatch.setattr(progress, "PATIENCE", patience)
  logger = logging.getLogger("jax")
  before = logger.level, logger.propagate, list(logger.handlers)
  size = 20 + int(said)  # compiled in neither case before
  with progress.compiling():
    jax.jit(slow)(np.ones((size, size), np.float32))
  assert (logger.level, logger.propagate, logger.handlers) == before
  assert ("compiling;" in capsys.readouterr().err) == said
