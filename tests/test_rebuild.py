"""A report is a function of results alone: no data, no networks, no devices; it is new when they are."""

import os
import re
import shutil
import subprocess
import sys

import commands
import pytest
from test_pipeline import run, tiny

from gauss_diffusion import data, results
from gauss_diffusion.study import rebuild, schema


@pytest.fixture(scope="module")
def dataset():
  return data.load("digits", held_out=360, seed=0)


@pytest.fixture(scope="module")
def finished(dataset, tmp_path_factory):
  folder = tmp_path_factory.mktemp("rebuild") / "study"
  folder.parent.joinpath("half.py").write_text("def f(x, sigma):\n  return 0.5 * x\n")
  config = tiny("linearity", "score_gap", "samples", "gain")
  config.score_gap.pairs = (("network", "gaussian"), ("network", "multi-delta"))
  config.claims = ("linear everywhere", "generalizer")
  schema.add_model(config, "net", 16)
  schema.add_model(config, "null", 16, title="c_skip x").denoiser = "skip"
  outside = schema.add_model(config, "outside", 16, title="half of x")
  outside.function = f"{folder.parent / 'half.py'}:f"
  run(config, dataset, folder)
  assert rebuild.rebuild(folder)
  return config, folder


def report(*folders, **environment):
  command = [sys.executable, "-m", "gauss_diffusion.report", *map(str, folders)]
  environment = os.environ | {"JAX_PLATFORMS": "none"} | environment  # any use of a device would fail
  return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


def shown(folder):
  """Return everything that a rebuild writes."""
  names = ["report.html", "headline.json", "claims.json"]
  return {
    path.name: path.read_bytes()
    for path in [folder / name for name in names] + [*(folder / "figures").iterdir()]
  }


def test_a_copy_without_data_and_checkpoints_gives_the_same_report(finished, tmp_path):
  _, folder = finished
  copy = tmp_path / "copy"
  copy.mkdir()
  shutil.copy(folder / "config.json", copy)
  shutil.copytree(folder / "results", copy / "results")
  done = report(copy, HOME=str(tmp_path))
  assert done.returncode == 0, done.stderr
  assert shown(copy) == shown(folder)
  assert f"report: {copy / 'report.html'}" in done.stdout and "denoising RMSE" in done.stdout
  assert sorted(path.name for path in copy.iterdir()) == sorted(
    ["config.json", "results", "figures", "report.html", "headline.json", "claims.json"]
  )


def test_nothing_is_written_when_nothing_changed(finished):
  _, folder = finished
  before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
  assert not rebuild.rebuild(folder)
  assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


LOST = ["report.html", "figures/gain.png", "figures/samples.pdf", "headline.json", "claims.json"]


def test_what_is_lost_is_written_again(finished, monkeypatch):
  _, folder = finished
  before, noticed = shown(folder), []
  with monkeypatch.context() as patch:
    patch.setattr(rebuild, "_write", lambda *_: noticed.append(lost))
    for lost in LOST:
      whole = (folder / lost).read_bytes()
      (folder / lost).unlink()
      assert rebuild.rebuild(folder)
      (folder / lost).write_bytes(whole)
    assert not rebuild.rebuild(folder) and noticed == LOST
  for lost in LOST:
    (folder / lost).unlink()
  assert rebuild.rebuild(folder) and shown(folder) == before


def test_a_subject_without_derivatives_is_in_every_figure_but_those_that_need_them(finished):
  _, folder = finished
  page = (folder / "report.html").read_text()
  assert page.count("half of x: it is a function outside JAX and has no derivatives") == 1
  rows = results.read_json(folder / "headline.json")
  assert [row["model"] for row in rows] == ["N = 16", "c_skip x", "half of x"]
  assert all("GL score" in row and "denoising RMSE on held-out images" in row for row in rows)


def test_a_new_title_and_a_new_result_make_a_new_report(finished, dataset):
  config, folder = finished
  before = shown(folder)
  config.title = "Another title"
  assert run(config, dataset, folder)[1] == set()
  assert rebuild.rebuild(folder) and b"Another title" in shown(folder)["report.html"]
  config.score_gap.pairs = (*config.score_gap.pairs, ("network", "mean"))
  assert len(run(config, dataset, folder)[1]) == 3
  assert rebuild.rebuild(folder)
  changed = {name for name, content in shown(folder).items() if content != before[name]}
  assert changed == {"report.html", "headline.json", "score_gap.png", "score_gap.pdf"}


def test_results_of_other_settings_are_not_shown(finished, tmp_path):
  config, folder = finished
  copy = tmp_path / "copy"
  shutil.copytree(folder, copy)
  asked = results.read_json(copy / "config.json")
  asked["gain"]["pairs"] = 3
  results.write_json(copy / "config.json", asked)
  done = report(copy)
  assert done.returncode == 2 and "no current results of gain for the model 'net'" in done.stderr
  assert shown(copy) == shown(folder)


def test_a_study_older_than_classes_has_the_same_report(dataset, tmp_path):
  config, folder = tiny("score_gap"), tmp_path / "study"
  config.score_gap.pairs = (("network", "gaussian"), ("network", "multi-delta"))
  config.claims, config.controls = ("generalizer",), ("skip",)
  for size in (16, 64):
    schema.add_model(config, f"n{size}", size).denoiser = "gaussian"
  run(config, dataset, folder)
  rebuild.rebuild(folder)
  before = shown(folder)
  asked = results.read_json(folder / "config.json")
  for model in asked["models"].values():
    del model["class_label"], model["guidance"]
  results.write_json(folder / "config.json", asked)
  for path in folder.glob("results/*/*.json"):
    found, card = results.load(path.with_suffix(""))
    del card["model"]["class_label"], card["model"]["guidance"]
    results.save(path.with_suffix(""), found, card)
  assert rebuild.rebuild(folder)
  after = shown(folder)
  assert {name for name in after if after[name] != before[name]} == {"report.html"}  # which shows the config
  assert b"class_label" in before["report.html"] and b"class_label" not in after["report.html"]


def test_replicates_and_controls_are_in_the_report(dataset, tmp_path):
  config = tiny("score_gap")
  config.score_gap.pairs = (("network", "gaussian"), ("network", "multi-delta"))
  schema.add_model(config, "n16", 16)
  config.claims, config.controls = ("nearest to gaussian",), ("skip", "gaussian", "mean")
  verdicts = {}
  for replicates in (1, 2):
    config.replicates = replicates
    run(config, dataset, tmp_path)
    assert rebuild.rebuild(tmp_path) and not rebuild.rebuild(tmp_path)
    (row,) = results.read_json(tmp_path / "claims.json")
    assert row["networks"] == replicates and row["why"] == f"{replicates} of 5 networks"
    assert list(row["controls"]) == ["mean", "skip", "gaussian"]  # in the order of the claim
    verdicts[replicates] = [control["verdict"] for control in row["controls"].values()]
    (headline,) = results.read_json(tmp_path / "headline.json")
    assert headline["model"] == "N = 16"  # one row for all its networks, and none for a control
    page = (tmp_path / "report.html").read_text()
    assert ("N = 16, network 2" in page) == (replicates == 2)
  assert verdicts[2][2] == "holds" and "holds" not in verdicts[2][:2]
  for path in tmp_path.glob("results/score_gap/n16.2.skip.*"):
    path.unlink()
  assert rebuild.lacking(tmp_path) == {"n16.2.skip": ["score_gap"]}
  with pytest.raises(ValueError, match="no current results of score_gap for the model 'n16.2.skip'"):
    rebuild.rebuild(tmp_path)


def test_a_terminal_of_any_encoding_is_written_to(finished):
  _, folder = finished
  done = report(folder, LC_ALL="C", PYTHONIOENCODING="ascii")
  assert done.returncode == 0 and "\\u03c3" in done.stdout and "report: " in done.stdout, done.stderr


def test_several_studies_stand_side_by_side(finished, tmp_path):
  _, folder = finished
  copy, page = tmp_path / "copy", tmp_path / "both.html"
  shutil.copytree(folder, copy)
  done = report(folder, copy, f"--to={page}")
  assert done.returncode == 0, done.stderr
  assert done.stdout.count("report: ") == 2 and done.stdout.endswith(f"side by side: {page}\n")
  first = page.read_bytes()
  text = first.decode()
  assert text.count(f'<th scope="col">{folder}</th><th scope="col">{copy}</th>') == 2  # numbers, claims
  ids = re.findall(r' id="([^"]+)"', text)
  assert len(set(ids)) == len(ids)  # figures of one name, side by side
  assert report(folder, copy, f"--to={page}").returncode == 0 and page.read_bytes() == first


def test_what_cannot_stand_side_by_side_is_one_line_and_nothing_is_written(finished, tmp_path):
  _, folder = finished
  (tmp_path / "empty").mkdir()
  (tmp_path / "mine.html").write_text("mine")
  page = f"--to={tmp_path / 'both.html'}"
  for arguments, want in (
    ((folder, tmp_path / "empty", page), "holds no study"),
    ((folder, folder / ".." / folder.name, page), "want each study once"),
    ((folder, finished_link(folder, tmp_path), page), "want each study once"),
    ((folder, tmp_path / "kept", f"--to={tmp_path / 'mine.html'}"), "is no comparison of studies"),
  ):
    shutil.copytree(folder, tmp_path / "kept", dirs_exist_ok=True)
    done = report(*arguments)
    assert done.returncode == 2 and not done.stdout, done.stderr
    assert len(done.stderr.splitlines()) == 1 and want in done.stderr, done.stderr
  assert not (tmp_path / "both.html").exists() and (tmp_path / "mine.html").read_text() == "mine"


def finished_link(folder, tmp_path):
  link = tmp_path / "link"
  link.symlink_to(folder)
  return link


WRONG = {
  "no study": (lambda folder: shutil.rmtree(folder), "holds no study"),
  "no result": (lambda folder: (folder / "results/gain/net.json").unlink(), "no current results of gain for"),
  "no arrays": (lambda folder: (folder / "results/gain/net.nc").unlink(), "gain/net.nc` can't be read"),
  "damaged arrays": (
    lambda folder: (folder / "results/gain/net.nc").write_bytes(b"x"),
    "gain/net.nc` can't be",
  ),
  "damaged card": (
    lambda folder: (folder / "results/gain/net.json").write_text("{}"),
    "gain/net.json` can't be",
  ),
  "another's result": (
    lambda folder: [
      shutil.copy(folder / f"results/linearity/null.{kind}", folder / f"results/linearity/net.{kind}")
      for kind in ("nc", "json")
    ],
    "no current results of linearity for the model 'net'",
  ),
  "damaged config": (lambda folder: (folder / "config.json").write_text("{}"), "config.json` is no config"),
}


def test_what_is_wrong_is_one_line(finished, tmp_path):
  _, folder = finished
  with commands.copies(tmp_path) as run:
    for case, (spoil, says) in WRONG.items():
      shutil.copytree(folder, tmp_path / case)
      spoil(tmp_path / case)
      out, err, code = run("gauss_diffusion.report", tmp_path / case)
      assert code == 2 and not out, (case, err)
      assert len(err.splitlines()) == 1 and says in err, (case, err)
