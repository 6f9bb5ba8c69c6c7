"""The command as a user meets it: a whole smoke study, its continuation, and one line for wrong input."""

import json
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest

REPOSITORY = pathlib.Path(__file__).parents[1]


def start(*arguments, **options):
  command = [sys.executable, "-m", "gauss_diffusion.main", *map(str, arguments)]
  return subprocess.Popen(
    command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
  )


WRONG = {
  "unknown field": (["--config.train.stepz=3"], "steps"),
  "wrong type": (["--config.train.steps=many"], "train.steps"),
  "unknown data set": (["--config.data.name=cifar11"], "cifar11.*cifar10"),
  "unknown variant": (["--config=configs/digits.py:huge"], "`huge`.*smoke"),
  "missing config": (["--config=configs/digit.py"], "configs/digit.py"),
  "missing file": (["--config.data.name=files", "--config.data.path=nowhere.npz"], "nowhere.npz"),
  "not an option": (["train.steps=3"], "`train.steps=3` is not an option"),
  "too many images": (["--config.models.n16.size=2000"], "models.n16.size.*1437"),
  "unknown analysis": (["--config.analyses=('gains',)"], "'gains'.*did you mean 'gain'"),
  "zero sigma": (["--config.sampler.sigma_min=0.0"], "sigma_min"),
}


@pytest.fixture(scope="module")
def refused(tmp_path_factory):
  """Start all wrong commands at once: each spends its time importing."""
  runs = {}
  for name, (arguments, _) in WRONG.items():
    workdir = tmp_path_factory.mktemp("refused") / "study"
    runs[name] = start("--config=configs/digits.py:smoke", *arguments, f"--workdir={workdir}"), workdir
  return {
    name: (*run.communicate(timeout=300), run.returncode, workdir) for name, (run, workdir) in runs.items()
  }


@pytest.mark.parametrize("name", WRONG)
def test_wrong_input_is_one_line_and_exit_code_two(refused, name):
  out, err, code, workdir = refused[name]
  assert code == 2, err
  lines = [line for line in err.splitlines() if line.strip()]
  assert len(lines) == 1 and not out, err
  assert re.search(WRONG[name][1], lines[0]), lines[0]
  assert not workdir.exists()


@pytest.fixture(scope="module")
def study(tmp_path_factory):
  workdir = tmp_path_factory.mktemp("smoke") / "digits"
  run = start("--config=configs/digits.py:smoke", f"--workdir={workdir}")
  out, err = run.communicate(timeout=600)
  assert run.returncode == 0, err
  return workdir, out


def test_a_study_leaves_networks_results_figures_and_report(study):
  workdir, out = study
  assert f"report: {workdir / 'report.html'}" in out
  assert "GL score" in out
  rows = json.loads((workdir / "headline.json").read_text())
  assert [row["model"] for row in rows] == ["N = 16", "N = 1437"]
  assert all(low <= mean <= high for row in rows for mean, low, high in [row["GL score"]])
  page = (workdir / "report.html").read_text()
  assert page.count("data:image/png;base64,") >= 7
  for label in ("n16", "n1437"):
    assert (workdir / "models" / label / "metrics.jsonl").exists()
    for analysis in ("distillation", "linearity", "score_gap", "trajectories", "samples", "gain"):
      card = json.loads((workdir / "results" / analysis / f"{label}.json").read_text())
      assert len(card["data"]["fingerprint"]) == 16
      with np.load(workdir / "results" / analysis / f"{label}.npz") as arrays:
        assert all(np.isfinite(arrays[name]).all() for name in arrays if arrays[name].dtype.kind == "f")
      assert (workdir / "figures" / f"{analysis}.pdf").exists()


def test_the_same_command_again_finds_nothing_to_do(study):
  workdir, out = study
  before = {path: path.stat().st_mtime_ns for path in workdir.rglob("*") if path.is_file()}
  run = start("--config=configs/digits.py:smoke", f"--workdir={workdir}")
  again, err = run.communicate(timeout=120)
  assert run.returncode == 0, err
  assert again == out
  changed = [path.name for path, time in before.items() if path.stat().st_mtime_ns != time]
  assert set(changed) <= {"config.json", "versions.json"}


def test_another_studys_workdir_is_refused(study):
  workdir, _ = study
  run = start("--config=configs/digits.py:smoke", "--config.seed=1", f"--workdir={workdir}")
  out, err = run.communicate(timeout=120)
  assert run.returncode == 2 and "`seed` = 0, not 1" in err and not out
