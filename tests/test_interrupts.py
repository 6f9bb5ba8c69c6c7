"""Ctrl-C and SIGTERM end every command at any time: no traceback, the code that shells expect, no half work.

What `main` does once it works is in test_kills.py.
"""

import errno
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import forge
import numpy as np
import pytest

pytestmark = pytest.mark.processes
REPOSITORY = pathlib.Path(__file__).parents[1]
COMMANDS = ("main", "report", "keep", "import_edm")
SIGNALS = (signal.SIGINT, signal.SIGTERM)


def start(*words, **options):
  command = [sys.executable, *map(str, words)]
  return subprocess.Popen(command, cwd=REPOSITORY, stderr=subprocess.PIPE, text=True, **options)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("sent", SIGNALS)
def test_while_modules_are_imported(command, sent):
  run = start("-X", "importtime", "-m", f"gauss_diffusion.{command}")
  lines = iter(run.stderr)
  assert any("jax" in line for line in lines)
  run.send_signal(sent)
  rest = "".join(lines)
  assert run.wait(timeout=60) == -sent and "Traceback" not in rest, rest  # of which a shell makes 128 + sent


def test_while_files_are_read(tmp_path):
  """Each command is stopped where it reads a file that never comes to its end."""
  runs = []
  for command in COMMANDS[1:]:
    for sent in SIGNALS:
      folder = tmp_path / f"{command} {sent.name}"
      fifo = folder / ("net.pkl" if command == "import_edm" else "config.json")
      folder.mkdir()
      os.mkfifo(fifo)
      words = {"report": [folder], "keep": [folder, folder / "kept"]}.get(
        command, [fifo, f"--workdir={folder}/new"]
      )
      runs.append((start("-m", f"gauss_diffusion.{command}", *words), fifo, sent))
  for run, fifo, sent in runs:
    writer = opened(fifo, run)
    run.send_signal(sent)
    err = run.communicate(timeout=60)[1]
    os.close(writer)
    assert run.returncode == 128 + sent and err.strip() == f"stopped by {sent.name}", (fifo, err)
    assert [path.name for path in fifo.parent.iterdir()] == [fifo.name]


def opened(fifo, run):
  """Open a pipe for writing as soon as it is read."""
  for _ in range(1200):
    try:
      return os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
    except OSError as error:
      assert error.errno == errno.ENXIO and run.poll() is None, run.stderr.read()
    time.sleep(0.1)
  raise AssertionError("it isn't read")


# Imports a network; a signal comes in the middle of writing it.
DRIVER = """
import os, runpy, signal, sys
from gauss_diffusion.training import checkpoint
save = checkpoint.save_ema

def interrupted(directory, params, card):
  with checkpoint.manager(directory):
    os.kill(os.getpid(), signal.SIGTERM)
  save(directory, params, card)

checkpoint.save_ema = interrupted
sys.argv = ["import_edm", *sys.argv[1:]]
runpy.run_module("gauss_diffusion.import_edm", run_name="__main__", alter_sys=True)
"""


def test_an_import_that_is_stopped_can_be_made_again(tmp_path):
  reference = np.load(pathlib.Path(__file__).parent / "data" / "edm_ddpmpp.npz")
  state = {name.removeprefix("param/"): reference[name] for name in reference if name.startswith("param/")}
  forge.snapshot(tmp_path / "net.pkl", state, json.loads(str(reference["config"])))
  words = [tmp_path / "net.pkl", f"--workdir={tmp_path}/new"]
  run = start("-c", DRIVER, *words)
  err = run.communicate(timeout=120)[1]
  assert run.returncode == 143 and "Traceback" not in err, err
  assert not any((tmp_path / "new").iterdir())
  run = start("-m", "gauss_diffusion.import_edm", *words, stdout=subprocess.DEVNULL)
  assert run.communicate(timeout=120) and run.returncode == 0
