"""A study that is killed anywhere ends, when continued, as if it never had been; one asked to end says how.

Kills come from inside: an audit hook sees every file that Python opens for writing, renames or removes below
the working directory, and ends the process, as ``kill -9`` does, right before a chosen one of them.
"""

import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import commands
import numpy as np
import pytest

from gauss_diffusion import results

pytestmark = pytest.mark.kills
REPOSITORY = pathlib.Path(__file__).parents[1]
CONFIG = """
from gauss_diffusion.study import schema


def get_config(arg=""):
  config = schema.default()
  schema.shrink(config)
  config.network.name = "skip"  # the quickest to trace
  config.train.update({"batch": 16, "log_every": 2, "checkpoint_every": 3, "keep": 2})
  config.sampler.levels, config.linearity.levels = 3, 2
  config.analyses, config.figures, config.claims = ("linearity",), (), ()
  for label, steps in (("a", 4), ("b", 7)):
    schema.add_model(config, label, 16, title=label).train.steps = steps
  schema.add_model(config, "ideal", 16, title="ideal").denoiser = "gaussian"
  config.lock()
  return config
"""
# Comes before main: it dies right before the event of a number, counted from 1, or says how many there were.
WATCH = """
import atexit, os, signal
folder, last, count = {folder!r}, {event}, 0
CHANGES = {{"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate"}}

def watch(event, arguments):
  global count
  if event in CHANGES or (event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR)):
    path = arguments[0]
    if not isinstance(path, int) and os.fsdecode(path).startswith(folder):
      count += 1
      if count == last:
        os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(watch)
atexit.register(lambda: print("events:", count))
"""
CLOCK = "images_per_second"


@pytest.fixture(scope="module")
def config(tmp_path_factory):
  path = tmp_path_factory.mktemp("config") / "tiny.py"
  path.write_text(CONFIG)
  return path


def command(config, folder, *arguments):
  return [f"--config={config}", f"--workdir={folder}", *arguments]


def start(*arguments, **options):
  pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
  main = [sys.executable, "-m", "gauss_diffusion.main", *map(str, arguments)]
  return subprocess.Popen(main, cwd=REPOSITORY, **pipes, **options)


@pytest.fixture(scope="module")
def copies(tmp_path_factory):
  with commands.copies(tmp_path_factory.mktemp("printed"), cwd=REPOSITORY) as run:
    yield run


def killed(copies, config, folder, event):
  """Run the study until an event; returns how many there were, None where it was killed."""
  before = WATCH.format(folder=str(folder), event=event)
  done = copies("gauss_diffusion.main", *command(config, folder), before=before)
  assert done.code in (0, -signal.SIGKILL), done.err[-2000:]
  found = re.search(r"events: (\d+)", done.out)
  return int(found[1]) if found else None


def found(folder):
  return {
    f"{analysis}/{label}/{name}": values.to_numpy()
    for analysis, own in results.open(folder).items()
    for label, arrays in own.items()
    for name, values in arrays.variables.items()
    if name != CLOCK
  }


def files(folder):
  """Return what lies there, but for the names that orbax makes up."""
  names = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
  return {re.sub(r"[0-9a-f]{32}", "*", name) for name in names}


@pytest.fixture(scope="module")
def whole(copies, config, tmp_path_factory):
  folder = tmp_path_factory.mktemp("whole") / "study"
  return folder, killed(copies, config, folder, 0)


def check(folder, reference):
  """Hold a study that has ended against one that was never killed: the same files, the same numbers."""
  assert files(folder) == files(reference)
  want, got = found(reference), found(folder)
  assert want.keys() == got.keys()
  for name in want:
    np.testing.assert_array_equal(got[name], want[name], err_msg=name)
  for label, last in (("a", 4), ("b", 7)):
    lines = (folder / "models" / label / "metrics.jsonl").read_text().splitlines()
    steps = [json.loads(line)["step"] for line in lines]
    assert steps == sorted(set(steps)) and steps[-1] == last


def survives(kills, seed, copies, config, whole, folder):
  """Kill studies so many times, at points drawn from all at which one changes its folder; let each end."""
  reference, events = whole
  assert events > 60
  rng, done, study = np.random.default_rng(seed), 0, 0
  while done < kills:
    if killed(copies, config, folder / str(study), int(rng.integers(1, events))) is None:
      done += 1
    else:  # it came to its end
      check(folder / str(study), reference)
      study += 1
  assert killed(copies, config, folder / str(study), 0)
  check(folder / str(study), reference)
  print(f"{done} kills in {study + 1} studies of {events} events")


def test_a_study_that_is_killed_again_and_again_ends_as_if_it_never_had_been(copies, config, whole, tmp_path):
  survives(6, 0, copies, config, whole, tmp_path)


@pytest.mark.long
def test_a_hundred_kills(copies, config, whole, tmp_path):
  survives(100, 1, copies, config, whole, tmp_path)


def test_signals_save_and_say_how_to_continue_and_a_folder_has_one_writer(config, tmp_path):
  folder = tmp_path / "study"
  arguments = command(config, folder, "--config.models.b.train.steps=1000000")
  metrics = folder / "models" / "b" / "metrics.jsonl"

  def wait(run, lines):
    for _ in range(1200):
      if metrics.exists() and metrics.read_bytes().count(b"\n") > lines:
        return metrics.read_bytes().count(b"\n")
      assert run.poll() is None, run.stderr.read()
      time.sleep(0.1)
    raise AssertionError("it doesn't train")

  seen = 0
  for sent, code in ((signal.SIGTERM, 143), (signal.SIGINT, 130)):
    run = start(*arguments)
    wait(run, seen)
    if sent == signal.SIGTERM:
      second = start(*arguments)
      out, err = second.communicate(timeout=120)
      assert second.returncode == 2 and not out
      assert f"is in use by process {run.pid} on {os.uname().nodename}, since " in err
      third = start(*arguments, "--tasks=2", "--task=1")
      assert "is in use by process" in third.communicate(timeout=120)[1] and third.returncode == 2
    run.send_signal(sent)
    out, err = run.communicate(timeout=120)
    assert run.returncode == code and "Traceback" not in err, err
    seen = metrics.read_bytes().count(b"\n")
    last = err.splitlines()[-1]
    assert last.startswith(f"stopped by {sent.name}; this continues: python -m gauss_diffusion.main ")
    assert all(argument in last for argument in map(str, arguments))
  assert not list(folder.rglob("*.tmp*"))

  run = start(*arguments)
  wait(run, seen)
  os.kill(run.pid, signal.SIGTERM)
  os.kill(run.pid, signal.SIGTERM)
  run.communicate(timeout=30)
  assert run.returncode in (-signal.SIGTERM, 143)


def test_tasks_run_together_but_no_task_twice(config, tmp_path):
  folder = tmp_path / "study"
  arguments = command(config, folder, "--config.models.b.train.steps=1000000", "--tasks=2")
  train = start(*arguments, "--task=0")
  try:
    for _ in range(1200):
      if (folder / "models/b/metrics.jsonl").exists():
        break
      assert train.poll() is None, train.stderr.read()
      time.sleep(0.1)
    again = start(*arguments, "--task=0")
    err = again.communicate(timeout=120)[1]
    assert again.returncode == 2 and f"is in use by process {train.pid} on" in err
    beside = start(*arguments, "--task=1")
    out, err = beside.communicate(timeout=300)
    assert beside.returncode == 0 and "task 1 of 2 is done; not finished yet: a, b" in out, err
  finally:
    train.kill()
    train.communicate()


def test_what_dead_processes_left_is_swept_and_what_living_ones_write_is_not(tmp_path):
  gone = subprocess.run(
    [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True
  )
  dead = int(gone.stdout)
  (tmp_path / "models").mkdir()
  mine = tmp_path / f".config.json.{os.getpid()}.tmp"
  others = [tmp_path / f".config.json.{dead}.tmp", tmp_path / "models" / f".n16.nc.next.{dead}.tmp"]
  for path in (mine, *others, tmp_path / ".notes.tmp", tmp_path / "config.json"):
    path.write_text("")
  (tmp_path / "models" / f".6.{dead}.tmp").mkdir()
  results.sweep(tmp_path)
  left = {path.name for path in tmp_path.rglob("*")}
  assert left == {mine.name, ".notes.tmp", "config.json", "models"}


@pytest.mark.long
def test_a_full_disk_is_one_line_and_the_same_command_continues(copies, config, whole, tmp_path):
  folder, said = tmp_path / "study", set()
  # A limit on the size of files stands in for a small disk; arrays are the first that don't fit.
  for blocks in (40, 200):
    limited = [
      "bash",
      "-c",
      f'ulimit -f {blocks} && exec "$0" "$@"',
      sys.executable,
      "-m",
      "gauss_diffusion.main",
    ]
    done = subprocess.run(
      [*limited, *command(config, folder)], cwd=REPOSITORY, capture_output=True, text=True, timeout=300
    )
    assert "Traceback" not in done.stderr, done.stderr
    if done.returncode:
      assert done.returncode == 2
      *_, last = re.split(r"[\r\n]+", done.stderr.rstrip())
      assert last.startswith("error: ") and "File too large" in last and str(folder) in last
      said.add(last)
  assert said
  assert killed(copies, config, folder, 0)
  assert files(folder) == files(whole[0]) and found(folder).keys() == found(whole[0]).keys()


def test_a_read_only_workdir_is_one_line(config, tmp_path):
  folder = tmp_path / "file" / "study"
  (tmp_path / "file").write_text("")  # no one, not even root, makes a folder there
  run = start(*command(config, folder))
  out, err = run.communicate(timeout=120)
  assert run.returncode == 2 and err.startswith("error: ") and err.count("\n") == 1 and str(folder) in err


def test_odd_names_and_no_home_are_no_obstacle(config, tmp_path):
  folder = tmp_path / "étude – 研究"
  environment = {name: value for name, value in os.environ.items() if name not in ("HOME", "LANG", "LC_ALL")}
  run = start(*command(config, folder), env=environment | {"LC_ALL": "C", "LANG": "C"})
  out, err = run.communicate(timeout=300)
  assert run.returncode == 0 and (folder / "report.html").exists(), err
