"""Launchers divide a study's models among machines that share a disk, or bring together what they found."""

import os
import pathlib
import subprocess
import sys

import pytest

pytestmark = pytest.mark.processes
REPOSITORY = pathlib.Path(__file__).parents[1]
# Stands in for the real one: a VM is a folder; ssh runs the command in it, scp copies out of it.
GCLOUD = """#!/usr/bin/env bash
set -euo pipefail
[[ "$1 $2 $3" == "compute tpus tpu-vm" ]]
case "$4" in
  ssh)
    [[ "$6" == --zone=here && "$7" == --command=* ]]
    cd "$5" && exec bash -c "${7#--command=}" ;;
  scp)
    [[ "$5 $6" == "--recurse --zone=here" ]]
    cp -r "${7%%:*}"/${7#*:} "$8" ;;
esac
"""


def checkout(folder):
  folder.mkdir(parents=True)
  for name in ("configs", "gauss_diffusion"):
    (folder / name).symlink_to(REPOSITORY / name)
  return folder


def executable(path, text):
  path.parent.mkdir(exist_ok=True)
  path.write_text(text)
  path.chmod(0o755)


def launch(script, *args, cwd, code=0, **environment):
  python = f'#!/usr/bin/env bash\nexec {sys.executable} "$@"\n'
  for name in ("python", "python3"):
    executable(cwd / "bin" / name, python)
  environment = os.environ | {"PATH": f"{cwd / 'bin'}:{os.environ['PATH']}"} | environment
  command = [REPOSITORY / "launch" / script, *args]
  done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=500)
  assert done.returncode == code, done.stderr
  return done.stdout if code == 0 else done.stderr


def results(workdir):
  """Return what each file holds; cards hold how many seconds the analysis took, which no other run would."""
  return {path.name: path.read_bytes() for path in (workdir / "results" / "samples").iterdir()}


def test_slurm_tasks_share_a_workdir_and_the_last_gathers(tmp_path):
  cwd = checkout(tmp_path / "node")
  said = [
    launch(
      "slurm_array.sh",
      "configs/input_law.py:smoke",
      "runs/law",
      "--config.samples.num=4",
      cwd=cwd,
      SLURM_ARRAY_TASK_ID=task,
      SLURM_ARRAY_TASK_COUNT="2",
    )
    for task in ("1", "0")
  ]
  assert "task 1 of 2 is done; not finished yet: n16" in said[0]
  assert "report:" in said[1] and (cwd / "runs/law/report.html").exists()
  written = os.stat(cwd / "runs/law/results/samples/n16.nc").st_mtime_ns
  command = [sys.executable, "-m", "gauss_diffusion.main", "--config=configs/input_law.py:smoke"]
  command += ["--workdir=runs/law", "--config.samples.num=4"]
  assert "report:" in subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=500).stdout
  assert os.stat(cwd / "runs/law/results/samples/n16.nc").st_mtime_ns == written


def test_what_tpu_vms_found_is_gathered_and_not_computed_again(tmp_path):
  cwd = checkout(tmp_path / "here")
  executable(cwd / "bin" / "gcloud", GCLOUD)
  vms = [checkout(cwd / vm / "gauss_diffusion").parent for vm in ("tpu-0", "tpu-1")]
  args = ("tpu_array.sh", "here", "configs/input_law.py:smoke", "runs/law", "tpu-0", "tpu-1")
  said = launch(*args, cwd=cwd, FLAGS="--config.samples.num=4")
  assert "not finished yet: n1437" in said and "not finished yet: n16" in said
  assert said.rstrip().endswith("report: runs/law/report.html")
  found = [results(vm / "gauss_diffusion/runs/law") for vm in vms]
  assert [sorted(names) for names in found] == [["n16.json", "n16.nc"], ["n1437.json", "n1437.nc"]]
  assert results(cwd / "runs/law") == found[0] | found[1]
  launch(*args, cwd=cwd, FLAGS="--config.samples.num=4")
  assert [results(vm / "gauss_diffusion/runs/law") for vm in vms] == found


def test_no_tpu_vm_computes_for_a_workdir_of_another_study(tmp_path):
  cwd = checkout(tmp_path / "here")
  executable(cwd / "bin" / "gcloud", "#!/usr/bin/env bash\ntouch called\n")
  (cwd / "runs/law").mkdir(parents=True)
  (cwd / "runs/law/thesis.tex").write_text("dear")
  args = ("tpu_array.sh", "here", "configs/input_law.py:smoke", "runs/law", "tpu-0")
  assert "not empty and holds no study" in launch(*args, cwd=cwd, code=2)
  assert not (cwd / "called").exists()
