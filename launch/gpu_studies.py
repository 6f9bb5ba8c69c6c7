"""Run studies on one GPU, those of most value first, within a time limit; and go on where a call stopped.

    python3 -m launch.gpu_studies --out=$OUT --limit=540 --config.data.dir=DATA

`launch/README.md` has the commands of a whole session. Several processes share the device, each with its own
models. After each of them the folder `--out` holds what is new since the start of this call, see `archive`.
Arguments that ``--help`` does not know are passed on to `gauss_diffusion.main`.
"""

import argparse
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import NamedTuple

from launch import archive

REPOSITORY = pathlib.Path(__file__).parents[1]
THROUGHPUT = 34_600  # images a second that three networks of `recipes` at once are trained on: H100, bfloat16
MEMORY = 0.9  # of the device, for all processes together
DONE = "done.txt"  # beside the working directories: a line for every process that ended well
POLL, PACKING = 0.5, 10  # seconds

NETWORKS = "--config.claims=()"  # without claims there are no controls: networks are left
QUICK = (
  NETWORKS,
  "--config.analyses=('linearity', 'score_gap', 'samples', 'gain')",
  "--config.score_gap.pairs=(('network', 'gaussian'), ('network', 'multi-delta'))",
)
SEEDS = (*QUICK, "--config.replicates=3")


class Part(NamedTuple):
  """As much of a study as some fields leave of it, divided among processes."""

  name: str
  config: str  # all parts of one study have the same, and one working directory
  fields: tuple[str, ...] = ()
  tasks: int = 3
  first: tuple[int, ...] = ()  # tasks that come before the others


# A distillation takes longer than the training of its network, and controls take several. So networks and
# quick analyses come first, and the same studies in full, which add what is missing, after them.
PARTS = {
  "cifar10": (
    Part("cifar_small.quick", "configs/cifar_small.py", QUICK, 2),
    Part("dataset_size.quick", "configs/dataset_size.py", QUICK, 6),
    Part("strong_generalization.networks", "configs/strong_generalization.py", (NETWORKS,), 6),
    Part("gaussian_structure.network", "configs/gaussian_structure.py", (NETWORKS,), 1),
    Part("training_time.quick", "configs/training_time.py", QUICK, 1),
    Part("input_law.networks", "configs/input_law.py", (NETWORKS,)),
    Part("cifar_small", "configs/cifar_small.py", (), 2),
    # First the second and third network of N = 782 and of N = 50,000.
    Part("dataset_size.seeds", "configs/dataset_size.py", SEEDS, 18, (7, 8, 16, 17)),
    Part("dataset_size", "configs/dataset_size.py"),
    Part("strong_generalization", "configs/strong_generalization.py"),
    Part("gaussian_structure", "configs/gaussian_structure.py"),
    Part("training_time", "configs/training_time.py"),
    Part("input_law", "configs/input_law.py"),
  ),
  "smoke": (
    Part("input_law.networks", "configs/input_law.py:smoke", (NETWORKS,), 2),
    Part("input_law", "configs/input_law.py:smoke", (), 1),
  ),
}


class Job(NamedTuple):
  """One process of a part."""

  part: Part
  task: int

  def __str__(self) -> str:
    return f"{self.part.name} {self.task + 1}/{self.part.tasks}"


def options() -> argparse.ArgumentParser:
  """Return the parser of the command line."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  add, path = parser.add_argument, pathlib.Path
  add("--list", default="cifar10", choices=PARTS, help="which studies")
  add(
    "--runs",
    default=path(tempfile.gettempdir(), "runs"),
    type=path,
    help="folder of their working directories",
  )
  add("--carried", type=path, help="folder of archives, which are unpacked where there is no --runs yet")
  add("--out", type=path, required=True, help="folder for what is new")
  add("--limit", default=540, type=float, help="seconds, in which all is stopped and packed")
  add("--saving", default=30, type=float, help="of these, the seconds that a process has to save in")
  add("--jobs", default=3, type=int, help="processes at a time")
  add("--dry_run", action="store_true", help="compute nothing: say what there is to do and how long it takes")
  return parser


def main() -> None:
  """Plan or work, and exit with 1 when a process failed."""
  args, fields = options().parse_known_args()
  parts, end = PARTS[args.list], time.monotonic() + args.limit - args.saving - PACKING
  if end <= time.monotonic():
    options().error(
      f"`--limit` is {args.limit:g}; want more than {args.saving + PACKING:g}, to stop and pack in"
    )
  if args.dry_run:
    return plan(parts, args.runs, fields)
  if args.carried and not args.runs.exists():
    archive.unpack(args.carried, args.runs)
  args.runs.mkdir(parents=True, exist_ok=True)
  sys.exit(bool(work(parts, args, end, fields)))


def plan(parts: tuple[Part, ...], runs: pathlib.Path, fields: list[str]) -> None:
  """Print how long training took on an H100, and how long everything takes here as `study.cost` has it."""
  print(f"{'part':<31} {'processes':>9} {'images':>12} {'training':>10} {'all, here':>10}")
  for part in parts:
    command = [*_command(part, runs), *fields, "--dry_run"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    if done.returncode:
      sys.exit(f"{part.name}: {done.stderr.splitlines()[-1]}")
    # A step counts three evaluations of every image: one forwards, two backwards.
    evaluations = re.findall(r"^train +\S+ +([\d,]+) ", done.stdout, re.MULTILINE)
    images = sum(int(number.replace(",", "")) for number in evaluations) // 3
    minutes = f"{images / THROUGHPUT / 60:.1f} min"
    (total,) = re.findall(r"^total +\S+ +(\S+ \w+) ", done.stdout, re.MULTILINE)
    print(f"{part.name:<31} {part.tasks:>9} {images:>12,} {minutes:>10} {total:>10}", flush=True)


def work(parts: tuple[Part, ...], args: argparse.Namespace, end: float, fields: list[str]) -> list[str]:
  """Keep as many processes going as share the device, pack after each, and return those that failed."""
  known = archive.stamps([path for path in args.runs.rglob("*") if path.is_file()])
  workdirs = list(dict.fromkeys(_workdir(part, args.runs) for part in parts))
  place = args.runs / DONE
  outcome = dict.fromkeys(place.read_text().splitlines() if place.exists() else (), "done")
  running: dict[Job, subprocess.Popen] = {}

  def look(otherwise: str) -> None:
    for job in [job for job, process in running.items() if process.poll() is not None]:
      outcome[str(job)] = "done" if running.pop(job).returncode == 0 else otherwise
      print(f"{outcome[str(job)]}: {job}", flush=True)
      if outcome[str(job)] == "failed":
        print(_log(job, args.runs).read_text()[-1000:], flush=True)
    place.write_text("".join(f"{job}\n" for job, how in outcome.items() if how == "done"))
    if left_out := archive.pack(args.runs, args.out, workdirs, known):
      print(f"no room for: {', '.join(left_out)}", flush=True)

  signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # and what is below `finally` comes first
  try:
    while time.monotonic() < end:
      while len(running) < args.jobs:
        job = following(parts, outcome | {str(job): "running" for job in running})
        if job is None:
          break
        print(f"starts: {job}", flush=True)
        running[job] = _start(job, args, fields)
      if not running:
        break
      time.sleep(POLL)
      if any(process.poll() is not None for process in running.values()):
        look("failed")
  finally:
    _stop(list(running.values()), args.saving)
    look("stopped")
  print("".join(f"not done: {job}\n" for job in _jobs(parts) if outcome.get(str(job)) != "done"), end="")
  return [job for job, how in outcome.items() if how == "failed"]


def following(parts: tuple[Part, ...], outcome: dict[str, str]) -> Job | None:
  """Return the first process to start; a part waits for all that come before it in the same study."""
  waited_for: dict[str, Part] = {}
  for job in _jobs(parts):
    how = outcome.get(str(job))
    if how != "done" and waited_for.setdefault(job.part.config, job.part) is job.part and not how:
      return job
  return None


def _jobs(parts: tuple[Part, ...]) -> Iterator[Job]:
  for part in parts:
    yield from (Job(part, task) for task in dict.fromkeys((*part.first, *range(part.tasks))))


def _start(job: Job, args: argparse.Namespace, fields: list[str]) -> subprocess.Popen:
  share = {
    "XLA_PYTHON_CLIENT_MEM_FRACTION": f"{MEMORY / args.jobs:.3f}",
    "OPENBLAS_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // args.jobs)),
    "TQDM_MININTERVAL": "10",
  }
  command = [*_command(job.part, args.runs), *fields, f"--tasks={job.part.tasks}", f"--task={job.task}"]
  log = _log(job, args.runs)
  log.parent.mkdir(exist_ok=True)
  with log.open("a") as file:
    return subprocess.Popen(command, cwd=REPOSITORY, env=os.environ | share, stdout=file, stderr=file)


def _stop(processes: list[subprocess.Popen], saving: float) -> None:
  """Let each save what it has, and end those that take too long."""
  for process in processes:
    process.terminate()
  end = time.monotonic() + saving
  for process in processes:
    try:
      process.wait(max(0, end - time.monotonic()))
    except subprocess.TimeoutExpired:
      process.kill()
      process.wait()


def _command(part: Part, runs: pathlib.Path) -> list[str]:
  program = [sys.executable, "-m", "gauss_diffusion.main", f"--config={part.config}"]
  return [*program, f"--workdir={_workdir(part, runs).absolute()}", *part.fields]


def _workdir(part: Part, runs: pathlib.Path) -> pathlib.Path:
  return runs / pathlib.Path(part.config.split(":")[0]).stem


def _log(job: Job, runs: pathlib.Path) -> pathlib.Path:
  return runs / "logs" / f"{job.part.name}.{job.task}.log"


if __name__ == "__main__":
  main()
