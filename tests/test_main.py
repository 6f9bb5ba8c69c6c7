"""The command as a user meets it: a whole smoke study, its continuation, and one line for wrong input."""

import json
import os
import pathlib
import pty
import re
import shutil
import statistics
import subprocess
import sys
import time

import commands
import numpy as np
import pytest

from gauss_diffusion import results

pytestmark = pytest.mark.processes
REPOSITORY = pathlib.Path(__file__).parents[1]
_CHOICE = pathlib.Path("/sys/kernel/mm/transparent_hugepage/enabled")
PAGES = _CHOICE.read_text() if _CHOICE.exists() else ""
SMOKE = "--config=configs/digits.py:smoke", "--config.network.name=skip"  # the quickest to trace


def start(*arguments, **options):
  command = [sys.executable, "-m", "gauss_diffusion.main", *map(str, arguments)]
  return subprocess.Popen(
    command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
  )


@pytest.mark.skipif(
  "[madvise]" not in PAGES, reason="Linux does not leave processes the choice of their pages"
)
@pytest.mark.parametrize("chosen", ["", "glibc.malloc.check=0"])
def test_large_arrays_have_large_pages_unless_the_user_chose(chosen, tmp_path):
  config = tmp_path / "config.py"
  config.write_text("import os\nraise ValueError(os.getpid(), os.environ['GLIBC_TUNABLES'])\n")
  environment = {name: value for name, value in os.environ.items() if name != "GLIBC_TUNABLES"}
  if chosen:
    environment["GLIBC_TUNABLES"] = chosen
  command = start(f"--config={config}", f"--workdir={tmp_path}", env=environment)
  assert str((command.pid, chosen or "glibc.malloc.hugetlb=1")) in command.communicate()[1]


WRONG = {
  "unknown field": (["--config.train.stepz=3"], "^error: `--config.train.stepz`: .* mean `train.steps`"),
  "unknown group": (["--config.trian.steps=3"], "^error: `--config.trian.steps`: .* mean `train.steps`"),
  "unknown anything": (["--config.xyzzy=3"], "^error: `--config.xyzzy`: a study has no field `xyzzy`"),
  "wrong type": (["--config.train.steps=many"], "train.steps"),
  "unknown data set": (["--config.data.name=cifar11"], "cifar11.*cifar10"),
  "unknown variant": (["--config=configs/digits.py:huge"], "^error: `huge` is no variant .*: smoke$"),
  "missing config": (["--config=configs/digit.py"], "configs/digit.py"),
  "config file converts": (
    ["--config=FOLDER/text.py"],
    r"^error: `\S+text\.py`, line 2: ValueError: could not",
  ),
  "config file fails": (["--config=FOLDER/config.py"], r"config\.py`, line 3: ZeroDivisionError: division"),
  "missing file": (["--config.data.name=files", "--config.data.path=nowhere.npz"], "nowhere.npz"),
  "not an option": (["train.steps=3"], "`train.steps=3` is not an option"),
  "too many images": (["--config.models.n16.size=2000"], "models.n16.size.*1437"),
  "unknown analysis": (["--config.analyses=('gains',)"], "'gains'.*did you mean 'gain'"),
  "function file missing": (["--config.models.n16.function=nowhere.py:f"], "nowhere.py:f'.*no file"),
  "function fails": (
    ["--config.models.n16.function=FOLDER/bad.py:f"],
    "bad.py:f' on .*RuntimeError: no",
  ),
  "function of another shape": (
    ["--config.models.n16.function=FOLDER/bad.py:g"],
    "bad.py:g' .*returned",
  ),
  "function of NaN": (["--config.models.n16.function=FOLDER/bad.py:h"], "bad.py:h' returned NaN"),
  "two sources": (
    ["--config.models.n16.function=a.py:f", "--config.models.n16.denoiser=mean"],
    "`models.n16` has both `function` and `denoiser`",
  ),
  "unknown family": (["--config.models.n16.denoiser=gausian"], "no 'gausian'.*did you mean 'gaussian'"),
  "unknown option": (["--config.denoisers.kernel.bandwidht=0.1"], "bandwidht"),
  "option out of range": (
    ["--config.denoisers.kernel.bandwidth=-1.0"],
    "kernel.bandwidth` is -1.0",
  ),
  "option of the wrong type": (["--config.denoisers.gaussian.rank=few"], "denoisers.gaussian.rank"),
  "zero sigma": (["--config.sampler.sigma_min=0.0"], "sigma_min"),
}


BAD = """
def f(x, sigma): raise RuntimeError("no weights")
def g(x, sigma): return x[:, :1]
def h(x, sigma): return x * float('nan')
"""


@pytest.fixture(scope="module")
def refused(tmp_path_factory):
  folder, ended = tmp_path_factory.mktemp("functions"), {}
  (folder / "bad.py").write_text(BAD)
  (folder / "text.py").write_text("def get_config():\n  return float('x')\n")
  (folder / "config.py").write_text("def get_config():\n  steps = 3\n  return steps / 0\n")
  with commands.copies(tmp_path_factory.mktemp("printed"), cwd=REPOSITORY) as run:
    for name, (arguments, _) in WRONG.items():
      arguments = [argument.replace("FOLDER", str(folder)) for argument in arguments]
      workdir = tmp_path_factory.mktemp("refused") / "study"
      words = "--config=configs/digits.py:smoke", *arguments, f"--workdir={workdir}"
      ended[name] = *run("gauss_diffusion.main", *words), workdir
  return ended


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
  run = start(*SMOKE, f"--workdir={workdir}")
  out, err = run.communicate(timeout=600)
  assert run.returncode == 0, err
  return workdir, out, err


def test_a_study_leaves_networks_results_figures_and_report(study):
  workdir, out, err = study
  assert f"report: {workdir / 'report.html'}" in out
  assert "GL score" in out
  # Before any work, the plan; then every stage with its number, and at the end how long it all took.
  said = [line for line in re.split(r"[\r\n]+", err) if line]
  assert [line.split()[0] for line in said[:5]] == ["data", "models", "analyses", "to", "cost"]
  stages = [re.match(r"stage (\d+) of 15: ([\w ]+); about .* left in all", line) for line in said]
  numbered = [(int(found[1]), found[2]) for found in stages if found]
  assert [number for number, _ in numbered] == list(range(1, 16))
  assert numbered[0][1] == "train n16" and numbered[-1][1] == "report" and said[-1].startswith("done in ")
  rows = json.loads((workdir / "headline.json").read_text())
  assert [row["model"] for row in rows] == ["N = 16", "N = 1437"]
  assert all(low <= mean <= high for row in rows for mean, low, high in [row["GL score"]])
  page = (workdir / "report.html").read_text()
  assert page.count("<svg") >= 7
  for label in ("n16", "n1437"):
    assert (workdir / "models" / label / "metrics.jsonl").exists()
    for analysis in ("distillation", "linearity", "score_gap", "trajectories", "samples", "gain"):
      card = json.loads((workdir / "results" / analysis / f"{label}.json").read_text())
      assert len(card["data"]["fingerprint"]) == 16
      arrays = results.open(workdir)[analysis][label]
      assert all(np.isfinite(values).all() for values in arrays.values() if values.dtype.kind == "f")
      assert (workdir / "figures" / f"{analysis}.pdf").exists()


def test_the_same_command_again_finds_nothing_to_do(study):
  workdir, out, _ = study
  before = {path: path.stat().st_mtime_ns for path in workdir.rglob("*") if path.is_file()}
  run = start(*SMOKE, f"--workdir={workdir}")
  again, err = run.communicate(timeout=120)
  assert run.returncode == 0, err
  assert again == out and "stage" not in err
  changed = [path.name for path, time in before.items() if path.stat().st_mtime_ns != time]
  assert set(changed) <= {"config.json", "training.json", ".lock"}


def test_a_terminal_is_told_at_once_and_what_is_piped_is_not():
  command = [sys.executable, "-m", "gauss_diffusion.report"]
  ours, theirs = pty.openpty()
  with subprocess.Popen(command, cwd=REPOSITORY, stdout=theirs, stderr=theirs) as run:
    os.close(theirs)
    first = os.read(ours, 100)
    assert run.poll() is None  # it is importing
  os.close(ours)
  assert first.startswith(b"starting ...")
  assert subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True).stderr.startswith("error: ")


def test_a_study_answers_before_jax_is_imported(tmp_path):
  """Two seconds are the target on an idle machine, where importing JAX alone takes more than half of one."""
  command = [sys.executable, "-m", "gauss_diffusion.main", *SMOKE, f"--workdir={tmp_path / 'no'}"]
  first, jax_alone = [], []
  for _ in range(3):
    ours, theirs = pty.openpty()
    begun = time.monotonic()
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=theirs, stderr=theirs) as run:
      os.close(theirs)
      assert os.read(ours, 100)
      first.append(time.monotonic() - begun)
      run.kill()
    os.close(ours)
    begun = time.monotonic()
    subprocess.run([sys.executable, "-c", "import jax"], check=True)
    jax_alone.append(time.monotonic() - begun)
  assert 2 * statistics.median(first) < statistics.median(jax_alone)


def test_another_studys_workdir_is_refused(study):
  workdir, *_ = study
  run = start(*SMOKE, "--config.seed=1", f"--workdir={workdir}")
  out, err = run.communicate(timeout=120)
  assert run.returncode == 2 and "has trained 'n16' with `models.n16.seed` = 0, not 1" in err and not out


def test_a_dry_run_says_what_it_would_cost_and_writes_nothing(tmp_path):
  run = start("--config=configs/digits.py", "--dry_run", f"--workdir={tmp_path / 'study'}")
  out, err = run.communicate(timeout=120)
  assert run.returncode == 0, err
  assert "train" in out and "score_gap" in out and "total" in out.lower()
  assert not (tmp_path / "study").exists()


def test_a_dry_run_says_everything_that_is_wrong(tmp_path):
  wrong = ["--config.sampler.levels=1", "--config.train.batch=0", "--config.models.n16.size=2000"]
  run = start("--config=configs/digits.py:smoke", *wrong, "--dry_run", f"--workdir={tmp_path / 'study'}")
  out, err = run.communicate(timeout=120)
  assert run.returncode == 2 and not out
  lines = err.splitlines()
  assert all(line.startswith("error: ") for line in lines) and len(lines) == 4  # the batch of each model
  for field in ("sampler.levels", "n16.size", "n1437.train.batch"):
    assert any(field in line for line in lines), err


def test_programs_read_one_value_and_people_may_have_quiet(study, tmp_path):
  workdir, *_ = study
  out, err = start(*SMOKE, "--output=json", f"--workdir={workdir}").communicate(timeout=120)
  found = json.loads(out)
  assert not err and found["headline"] == json.loads((workdir / "headline.json").read_text())
  assert found["claims"] == json.loads((workdir / "claims.json").read_text())
  assert pathlib.Path(found["report"]) == workdir / "report.html"
  out, err = start(*SMOKE, "--output=quiet", f"--workdir={workdir}").communicate(timeout=120)
  assert not err and f"report: {workdir / 'report.html'}" in out
  dry = start(*SMOKE, "--dry_run", "--output=json", f"--workdir={tmp_path / 'w'}")
  out, err = dry.communicate(timeout=120)
  stages = json.loads(out)["stages"]
  assert not err and {"what", "seconds", "bytes_memory", "bytes_disk"} <= set(stages[0])


def test_a_changed_command_does_only_what_changed(study, tmp_path):
  """One more denoiser and one more pair: no training, and nothing but what asked for them."""
  workdir = tmp_path / "study"
  shutil.copytree(study[0], workdir)
  before = {path: path.stat().st_mtime_ns for path in workdir.rglob("*") if path.is_file()}
  pairs = "(('network','gaussian'),('network','multi-delta'),('network','kernel'))"
  arguments = [f"--config.score_gap.pairs={pairs}", "--config.denoisers.kernel.bandwidth=0.2"]
  run = start(*SMOKE, *arguments, f"--workdir={workdir}")
  out, err = run.communicate(timeout=300)
  assert run.returncode == 0, err
  changed = {path for path, time in before.items() if path.stat().st_mtime_ns != time}
  touched = {path.relative_to(workdir).parts[:2] for path in changed if "results" in path.parts}
  assert touched == {("results", "score_gap")}
  assert not any("checkpoints" in path.parts for path in changed)
  assert "RMSE to kernel at" in out


def test_a_function_goes_through_the_whole_report_from_one_command(tmp_path):
  (tmp_path / "my_model.py").write_text(
    "def f(x, sigma):\n  return x * 0.25 / (0.25 + sigma[:, None, None, None] ** 2)\n"
  )
  workdir = tmp_path / "study"
  place = f"--config.function={tmp_path / 'my_model.py'}:f"
  run = start("--config=configs/external.py:smoke", place, f"--workdir={workdir}")
  out, err = run.communicate(timeout=300)
  assert run.returncode == 0, err
  page = (workdir / "report.html").read_text()
  assert "external: it is a function outside JAX and has no derivatives" in page and 'id="gain"' not in page
  assert 'id="linearity"' in page and not (workdir / "models").exists()


def test_a_function_that_fails_in_mid_study_is_one_line_and_loses_nothing(tmp_path):
  workdir = tmp_path / "study"
  (tmp_path / "my_model.py").write_text(
    "import pathlib\n\n\ndef f(x, sigma):\n"
    f"  assert not [*pathlib.Path({str(workdir)!r}).glob('results/*/*.nc')], 'had enough'\n"
    "  return x / (1 + sigma[:, None, None, None] ** 2)\n"
  )
  run = start(
    "--config=configs/external.py:smoke",
    f"--config.function={tmp_path / 'my_model.py'}:f",
    f"--workdir={workdir}",
  )
  _, err = run.communicate(timeout=300)
  *_, last = err.strip().splitlines()
  assert run.returncode == 2 and "Traceback" not in err, err
  want = "error: a model's function failed, and results from before it are kept: AssertionError: had enough"
  assert last == want
  assert [path.parent.name for path in workdir.glob("results/*/*.nc")] == ["distillation"]


def test_help_lists_every_field():
  command = start("--help")
  said, errors = command.communicate(timeout=120)
  assert command.returncode == 0 and not errors
  for words in (
    "--config: A file",
    "--[no]dry_run",
    "data.held_out (360): images kept",
    "likelihood.products",
  ):
    assert words in said, words
  assert max(map(len, said.splitlines())) <= 120
