"""Benchmarks run without PyTorch and faiss, refuse sides that disagree, and keep what they say they keep."""

import json
import os
import pathlib
import subprocess
import sys
import time

import numpy as np
import pytest

from benchmarks import __main__ as command
from benchmarks import alternate, machine, table
from benchmarks import images as made
from benchmarks.side import FLOOR
from benchmarks.workload import OURS, Work, Workload, error
from benchmarks.workloads import WORKLOADS

REPOSITORY = pathlib.Path(__file__).parents[1]


def turns(seconds, **facts):
  return [{"seconds": taken, "facts": facts} for taken in seconds]


def summary(**more):
  workload = Workload("Title", None, {}, {"n": 1}, {"n": 1}, lambda size: Work(3e9, 1e9), targets=(1.0, 2.0))
  of = {
    OURS: turns([1, 2, 4]),
    "peer": turns([2, 2, 12], **more),
    FLOOR: turns([9, 9, 9], flops=2e9, bytes=1e10),
  }
  return alternate.summary(workload, "quick", of) | {"errors": {}, "left_out": []}


def test_a_ratio_is_the_median_of_those_of_each_round():
  found = summary()
  assert found["ratios"]["peer"][1] == 2  # of 2, 1 and 3; that of the medians is 1
  assert found["seconds"][OURS][1] == 2
  assert found["floor"] == 1.5  # 3e9 operations at 2e9 a second, longer than 1e9 bytes at 1e10


def test_the_table_says_what_was_given_up():
  assert [row[-2] for row in table.rows({"one": summary()})] == ["2.00 [1.50, 2.50]"]
  assert [row[-2] for row in table.rows({"one": summary(reached=0.0)})] == ["≥ 2.00"]


def test_the_front_page_tells_of_the_best_peer():
  one = summary()
  one["ratios"]["slower"] = [3.0, 4.0, 5.0]
  kept = {"machine": "M", "workloads": {"gaussian": one, "train_16": summary(), "rerun": summary()}}
  assert table.speed(kept) == "M: training step at 8, 16, 32 pixels 2.00; Gaussian denoiser 2.00."


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says what processors did")
def test_processors_are_shared_between_a_benchmark_and_others():
  before, own, began = machine.others(), sum(os.times()[:4]), time.monotonic()
  subprocess.run([sys.executable, "-c", "sum(range(10**7))"], check=True)
  while time.monotonic() < began + 1:
    pass
  own, wall = sum(os.times()[:4]) - own, time.monotonic() - began
  others, tick = machine.others() - before, os.cpu_count() / os.sysconf("SC_CLK_TCK")
  assert -2 * tick <= others <= os.cpu_count() * wall - own + 2 * tick


def test_answers_are_compared_at_the_scale_of_ours():
  assert error(np.array([0.0, 4.0]), np.array([1.0, 4.0])) == 0.25
  with pytest.raises(ValueError, match="one shape"):
    error(np.zeros(2), np.zeros(3))


def test_made_up_images_have_near_duplicates():
  images = made.made_up(201, 8, 1).astype(int)
  differences = np.abs(images[1:] - images[:-1]).reshape(200, -1)
  assert differences[99].sum() == differences[99].max() * (differences[99] > 0).sum() <= 3
  assert differences[98].sum() > 100


def test_every_workload_says_what_it_is():
  for name, workload in WORKLOADS.items():
    assert workload.title and workload.full.keys() == workload.quick.keys(), name
    assert any(workload.targets) or any(workload.seconds) or workload.device == "gpu", name
    assert bool(workload.peers) != any(workload.seconds), name
    floor = workload.work(workload.full)
    assert floor.flops >= 0 and floor.bytes >= 0, name


def test_the_readme_is_made_of_what_is_kept():
  table.main(check=True)


def run(*words):
  # Shadows of the peers' modules, which cannot be found, are how a machine without them looks.
  hide = "import importlib.util as u, runpy, sys; found = u.find_spec; "
  hide += "u.find_spec = lambda name, *rest: None if name in ('torch', 'faiss') else found(name, *rest); "
  hide += "sys.argv[0] = 'benchmarks'; runpy.run_module('benchmarks', run_name='__main__', alter_sys=True)"
  environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
  return subprocess.run(
    [sys.executable, "-c", hide, *words], cwd=REPOSITORY, env=environment, capture_output=True, text=True
  )


@pytest.mark.processes
def test_quick_without_peers(tmp_path):
  done = run("neighbours", "--quick", f"--to={tmp_path}")
  assert done.returncode == 0, done.stderr
  assert "without faiss, flat: `faiss` is not installed" in done.stderr
  (kept,) = tmp_path.glob("*.json")
  found = json.loads(kept.read_text())
  measured = found["workloads"]["neighbours"]
  assert measured["rounds"] == 2 and measured["left_out"] == ["faiss, flat"] and not measured["ratios"]
  low, middle, high = measured["seconds"][OURS]
  assert 0 < low <= middle <= high
  assert min(measured["rates"].values()) > 1e6 and measured["floor"] > 0
  assert -0.1 < measured["others"] < os.cpu_count() + 0.1  # of processors, told in ticks
  assert WORKLOADS["neighbours"].title in done.stdout


@pytest.mark.parametrize(
  "words, named",
  [(("nothing",), "`nothing` is no workload"), (("neighbours", "--rounds=0"), "`--rounds` is 0")],
)
def test_refuses(monkeypatch, capsys, words, named):
  monkeypatch.setattr(sys, "argv", ["benchmarks", *words])
  with pytest.raises(SystemExit, match="2"):
    command.main()
  assert named in capsys.readouterr().err


@pytest.mark.processes
def test_sides_that_disagree_are_not_timed():
  workload = WORKLOADS["jacobian"]
  peers = {side: peer for side, peer in workload.peers.items() if peer.module == "jax"}
  with pytest.raises(ValueError, match="`jacobian`: JAX, all of it and ours differ by"):
    alternate.measure("jacobian", workload._replace(peers=peers, tolerance=0.0), "quick", 1)
