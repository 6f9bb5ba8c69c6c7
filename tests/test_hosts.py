"""Several processes are one run: the numbers of one process, one writer, and an end together.

They are on this machine, with XLA's collectives for CPUs between them.
"""

import functools
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from test_determinism import STATED, STEPS, numbers, work

from gauss_diffusion import distill, hosts, parallel, statistics
from gauss_diffusion.probes import generalization
from gauss_diffusion.training import checkpoint

pytestmark = pytest.mark.hosts
REPOSITORY = pathlib.Path(__file__).parents[1]
TOGETHER = 60  # seconds in which all processes have ended when one has
CONFIG = """
from gauss_diffusion.study import schema


def get_config(arg=""):
  config = schema.default()
  schema.shrink(config)
  config.network.name = "skip"  # the quickest to trace
  config.train.update({"batch": 16, "log_every": 2, "checkpoint_every": 100_000})
  config.train.steps = 1_000_000
  config.sampler.levels, config.linearity.levels = 3, 2
  config.analyses, config.figures, config.claims = ("linearity",), (), ()
  schema.add_model(config, "a", 16)
  config.lock()
  return config
"""


def free_port():
  with socket.socket() as found:
    found.bind(("localhost", 0))
    return found.getsockname()[1]


def start(processes, devices, command, **options):
  """Start the processes of one run; `command(port, number)` is what comes after ``python``."""
  port, own = free_port(), {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": str(devices)}
  environment = os.environ | own | {"PYTHONPATH": str(REPOSITORY)}
  pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": environment}
  return [
    subprocess.Popen([sys.executable, *map(str, command(port, number))], **pipes | options)
    for number in range(processes)
  ]


def ends(run, timeout=TOGETHER):
  """Return (exit code, standard error) of each process."""
  try:
    return [(process.wait(timeout), process.communicate()[1]) for process in run]
  finally:
    for process in run:
      process.kill()


@pytest.mark.parametrize(
  ("processes", "devices"),
  [(2, 1), pytest.param(2, 4, marks=pytest.mark.long), pytest.param(4, 2, marks=pytest.mark.long)],
)
def test_processes_find_what_one_process_finds_and_go_on_from_it(processes, devices, tmp_path):
  one, several, resumed = (tmp_path / name for name in ("one", "several", "resumed"))
  work(resumed, STEPS // 2)
  folders, quiet = (several, resumed), {"stdout": None, "stderr": None}
  run = start(processes, devices, lambda *place: [__file__, *place, processes, *folders], **quiet)
  work(one, STEPS)  # on the eight devices of this process
  assert [code for code, _ in ends(run, 300)] == [0] * processes
  want = numbers(one)
  for folder in (several, resumed):
    assert checkpoint.latest_step(folder / "models" / "net") == STEPS
    for name, found in numbers(folder).items():
      apart = abs(found - want[name]).max() / abs(want[name]).max()
      print(folder.name, name, apart)
      assert apart <= STATED[name], (folder.name, name, apart)
  np.testing.assert_array_equal(np.load(tmp_path / "several.npy"), mapped())
  np.testing.assert_array_equal(np.load(tmp_path / "several.shared.npy"), shared())
  # Each summed its share of the products: float64 in another order, and a map in float32.
  np.testing.assert_allclose(np.load(tmp_path / "several.maps.npy"), distilled(), rtol=0, atol=1e-6)


@pytest.fixture
def study(tmp_path):
  """Starts the processes of a study with no end."""
  (tmp_path / "endless.py").write_text(CONFIG)
  processes = []

  def begin(*arguments, second=(), **options):
    def command(port, number):
      yield from ("-m", "gauss_diffusion.main", f"--config={tmp_path / 'endless.py'}")
      yield from (f"--workdir={tmp_path / 'study'}", *arguments, *(second if number else ()))
      yield from (f"--coordinator=localhost:{port}", "--num_processes=2", f"--process_id={number}")

    processes.extend(run := start(2, 1, command, cwd=REPOSITORY, **options))
    return run

  yield begin
  for process in processes:
    process.kill()


def wait_for_lines(folder, run, more):
  """Wait until training has written so many metric lines more than there are."""
  metrics, before = folder / "study/models/a/metrics.jsonl", None
  for _ in range(1200):
    lines = metrics.read_bytes().count(b"\n") if metrics.exists() else 0
    before = lines if before is None else before
    if lines >= before + more:
      return
    assert all(process.poll() is None for process in run), [process.stderr.read() for process in run]
    time.sleep(0.1)
  raise AssertionError("it doesn't train")


def test_one_that_dies_ends_the_others_and_a_signal_to_one_saves_them_all(study, tmp_path):
  folder = tmp_path / "study/models/a"
  run = study("--config.train.checkpoint_every=5")
  wait_for_lines(tmp_path, run, 4)
  run[1].kill()
  begun = time.monotonic()
  (code, said), (killed, witnessed) = ends(run)
  assert time.monotonic() - begun < TOGETHER
  assert code not in (0, -signal.SIGKILL) and killed == -signal.SIGKILL
  for number, err in enumerate((said, witnessed)):
    last = err.splitlines()[-1]
    assert last.startswith(f"error: process {number} of 2 on {os.uname().nodename} lost another one, or was")
    assert f"this continues: python -m gauss_diffusion.main --config={tmp_path / 'endless.py'}" in last
  saved = checkpoint.sound_step(folder)
  assert saved and saved % 5 == 0

  run = study()
  wait_for_lines(tmp_path, run, 2)
  run[1].send_signal(signal.SIGTERM)
  for number, (code, err) in enumerate(ends(run)):
    assert code == 143 and "Traceback" not in err, err
    assert err.splitlines()[-1].startswith("stopped by SIGTERM; this continues: python -m gauss_diffusion")
    assert ("SIGTERM: finishing what is in hand" in err) == (number == 1)
  # Nothing but the signal saves that often: all came to one and the same step.
  stopped = checkpoint.sound_step(folder)
  assert stopped > saved
  lines = (folder / "metrics.jsonl").read_text().splitlines()
  assert stopped - 2 <= len(lines) * 2 <= stopped


@pytest.mark.long
def test_one_that_falls_silent_ends_the_others(study, tmp_path):
  """Nothing tells them but the runtime, which aborts: the last line is the witness's all the same."""
  run = study()
  wait_for_lines(tmp_path, run, 2)
  run[1].send_signal(signal.SIGSTOP)
  code = run[0].wait(TOGETHER)
  run[1].send_signal(signal.SIGCONT)
  for number, (_, err) in enumerate(ends(run)):
    assert err.splitlines()[-1].startswith(
      f"error: process {number} of 2 on {os.uname().nodename} lost another"
    )
  assert code != 0


def refused(run):
  """Return the last line of each process of a run that is refused."""
  found = ends(run)
  assert all(code == 2 for code, _ in found), found
  return [err.splitlines()[-1] for _, err in found]


def test_other_configs_and_other_data_are_named(study, tmp_path):
  said = "error: process 1 has `config.models.a.train.batch` = 32, and process 0 16; want the same everywhere"
  assert refused(study(second=("--config.models.a.train.batch=32",))) == [said] * 2
  images = np.random.default_rng(0).integers(0, 256, (2, 60, 8, 8, 1), np.uint8)
  for number in range(2):
    (tmp_path / f"host{number}").mkdir()
    np.save(tmp_path / f"host{number}/images.npy", images[number])
  data = ("--config.data.name=files", "--config.data.path=images.npy", "--config.data.held_out=20")

  def command(port, number):
    yield from ("-c", f"import os; os.chdir({str(tmp_path / f'host{number}')!r}); {AS_MAIN}")
    yield from (f"--config={tmp_path / 'endless.py'}", f"--workdir={tmp_path / 'study'}", *data)
    yield from ("--config.data.cache=cache", f"--coordinator=localhost:{port}")
    yield from ("--num_processes=2", f"--process_id={number}")

  for line in refused(start(2, 1, command)):
    assert line.startswith("error: process 1 has `data` = ") and line.endswith("; want the same everywhere")
  assert not (tmp_path / "study").exists()


AS_MAIN = "import runpy; runpy.run_module('gauss_diffusion.main', run_name='__main__', alter_sys=True)"


def test_a_coordinator_that_does_not_answer_is_named(monkeypatch):
  monkeypatch.setattr(hosts, "PATIENCE", 1)
  address = f"localhost:{free_port()}"
  with pytest.raises(ValueError, match=f"`--coordinator` {address} does not answer .Connection refused"):
    hosts.join(address, 2, 1, "the command")
  assert not hosts._witnesses


def test_one_process_waits_for_nobody():
  assert hosts.first() and hosts.told(True) and not hosts.told(False)
  assert hosts.anywhere(True) and not hosts.anywhere(False) and hosts.slowest(2.5) == 2.5
  assert hosts.gathered("é") == ["é"] and hosts.in_turn(lambda: 3) == 3
  hosts.agree({"seed": 0})
  with pytest.raises(OSError, match="full"):
    hosts.alone(lambda: (_ for _ in ()).throw(OSError("full")))
  hosts.leave()


def mapped():
  """Return sums of 37 samples, whole numbers: three full chunks of 12 and a last one of 1."""
  x = np.arange(37 * 4, dtype=np.float32).reshape(37, 4)
  return parallel.map_samples(_scaled, np.float32(2), x, np.arange(37, dtype=np.float32), batch=12)


def _scaled(shared, x, y):
  return shared * x.sum() + y


def shared(together=False):
  """Return exact sums over three chunks of images, and distances of 37 samples to the nearest of them."""
  images = np.random.default_rng(1).integers(0, 256, (2100, 2, 2, 3), np.uint8)
  x = np.random.default_rng(2).normal(size=(37, 2, 2, 3)).astype(np.float32)
  total, moment = statistics._sums(images.reshape(2100, -1), together=together)
  look_up = functools.partial(generalization.neighbours, images=images[:40])
  nearest = parallel.share_rows(look_up, x) if together else look_up(x)
  few = parallel.share_rows(look_up, x[:1]) if together else look_up(x[:1])  # some processes have none
  return np.concatenate([part.ravel() for part in (total, moment, *nearest, *few)])


def distilled():
  """Return the affine map of a denoiser that is none, from pairs in three blocks."""
  images = np.random.default_rng(0).integers(0, 256, (40, 2, 2, 3), np.uint8)
  denoise = jax.tree_util.Partial(_bent)
  return distill.closed_form(denoise, images, [0.5], jax.random.key(0), num_pairs=3001)[0].weight


def _bent(x, sigma):
  return x / (1 + sigma * x**2)


if __name__ == "__main__":
  port, number, processes, *folders = sys.argv[1:]
  jax.config.update("jax_compilation_cache_dir", os.path.expanduser("~/.cache/gauss_diffusion/jax"))
  jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
  hosts.join(f"localhost:{port}", int(processes), int(number), "the test")
  for folder in folders:
    work(pathlib.Path(folder), STEPS)
  for suffix, found in ((".npy", mapped()), (".maps.npy", distilled()), (".shared.npy", shared(True))):
    hosts.alone(functools.partial(np.save, pathlib.Path(folders[0]).with_suffix(suffix), found))
  hosts.leave()
