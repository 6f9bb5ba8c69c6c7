"""Launchers divide a study's models among machines that share a disk, or bring together what they found."""

import importlib.util
import json
import os
import pathlib
import shlex
import subprocess
import sys
import time

import numpy as np
import pytest
import yaml

from gauss_diffusion import results
from gauss_diffusion.study import members, rebuild
from gauss_diffusion.training import checkpoint

REPOSITORY = pathlib.Path(__file__).parents[1]
# Fields that make a smoke study quicker: a network that is soon traced, few controls, levels and images.
QUICK = (
  "--config.network.name=skip",
  "--config.controls=('mean','skip','identity')",
  "--config.sampler.levels=3",
  "--config.samples.num=4",
)
SAMPLES = (*QUICK, "--config.claims=()", "--config.analyses=('samples',)")  # and nothing else
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


def samples(workdir):
  """Return what each file holds; cards hold how many seconds the analysis took, which no other run would."""
  return {path.name: path.read_bytes() for path in (workdir / "results" / "samples").iterdir()}


# Stands in for the real one: runs the command as tasks of one node, or as one.
SRUN = """#!/usr/bin/env bash
[[ "$1" == --kill-on-bad-exit=1 ]] && shift
pids=()
for ((task = 0; task < ${SLURM_NTASKS:-1}; task++)); do
  SLURM_PROCID=$task SLURM_LOCALID=$task "$@" &
  pids+=($!)
done
code=0
for pid in "${pids[@]}"; do wait "$pid" || code=$?; done
exit $code
"""
STUDY = ("--config=configs/input_law.py:smoke", "--workdir=runs/law")


@pytest.mark.processes
def test_slurm_jobs_share_a_workdir_and_the_last_gathers(tmp_path):
  cwd = checkout(tmp_path / "node")
  executable(cwd / "bin" / "srun", SRUN)
  said = [
    launch("slurm.sbatch", *STUDY, *SAMPLES, cwd=cwd, SLURM_ARRAY_TASK_ID=task, SLURM_ARRAY_TASK_COUNT="2")
    for task in ("1", "0")
  ]
  assert "task 1 of 2 is done; not finished yet: n16" in said[0]
  assert "report:" in said[1] and (cwd / "runs/law/report.html").exists()
  written = os.stat(cwd / "runs/law/results/samples/n16.nc").st_mtime_ns
  assert "report:" in launch("slurm.sbatch", *STUDY, *SAMPLES, cwd=cwd)
  assert os.stat(cwd / "runs/law/results/samples/n16.nc").st_mtime_ns == written


def drawn(workdir):
  return {label: found.samples for label, found in results.open(workdir)["samples"].items()}


@pytest.mark.hosts
@pytest.mark.long
def test_tasks_of_one_slurm_job_and_processes_here_find_what_one_finds(tmp_path):
  cwd = checkout(tmp_path / "node")
  executable(cwd / "bin" / "srun", SRUN)
  job = {"SLURM_JOB_ID": str(os.getpid()), "SLURM_NTASKS": "2", "SLURM_STEP_NODELIST": "localhost"}
  alone = [each.replace("runs/law", "runs/one") for each in STUDY]
  assert launch("slurm.sbatch", *alone, *SAMPLES, cwd=cwd, JAX_NUM_CPU_DEVICES="1").count("report:") == 1
  assert (
    launch("slurm.sbatch", *STUDY, *SAMPLES, cwd=cwd, **job, JAX_NUM_CPU_DEVICES="1").count("report:") == 1
  )
  here = [each.replace("runs/law", "runs/here") for each in STUDY]
  assert launch("local.sh", "2", *here, *SAMPLES, cwd=cwd).count("report:") == 1
  want = drawn(cwd / "runs/one")
  for folder in ("runs/law", "runs/here"):
    for label, found in drawn(cwd / folder).items():
      np.testing.assert_allclose(found, want[label], atol=1e-3 * np.abs(want[label]).max())


def test_a_slurm_job_that_was_stopped_goes_back_to_the_queue(tmp_path):
  executable(tmp_path / "bin" / "srun", "#!/usr/bin/env bash\nexit 143\n")
  executable(tmp_path / "bin" / "scontrol", "#!/usr/bin/env bash\necho $* > asked\n")
  launch("slurm.sbatch", *STUDY, cwd=tmp_path, code=143, SLURM_JOB_ID="17")
  assert (tmp_path / "asked").read_text() == "requeue 17\n"
  (tmp_path / "asked").unlink()
  executable(tmp_path / "bin" / "srun", "#!/usr/bin/env bash\nexit 2\n")
  launch("slurm.sbatch", *STUDY, cwd=tmp_path, code=2, SLURM_JOB_ID="17")
  assert not (tmp_path / "asked").exists()


ODD = "--config.title=it's two words"  # must reach the study as one
MAIN = ["python3", "-m", "gauss_diffusion.main", "--distributed", ODD]
DRY = {  # launcher and its arguments -> the words of its commands, of which the last may be a command itself
  ("slurm.sbatch",): [["srun", "--kill-on-bad-exit=1", "python", *MAIN[1:3], ODD, "--distributed"]],
  ("tpu_pod.sh", "here", "pod"): [
    ["gcloud", "compute", "tpus", "tpu-vm", "ssh", "pod", "--zone=here", "--worker=all", ("--command=", MAIN)]
  ],
  ("xpk.sh", "cluster", "tpu7x-16", "2"): [
    ["xpk", "workload", "create", "--cluster=cluster", "--workload=gauss-diffusion", "--tpu-type=tpu7x-16"]
    + ["--num-slices=2", "--max-restarts=100", "--docker-image=image", ("--command=", MAIN)]
  ],
  ("sky.sh", "2"): [
    ["sky", "jobs", "launch", "--yes", "--num-nodes=2", "--env", ("STUDY=", [ODD]), "launch/sky.yaml"]
  ],
}


@pytest.mark.parametrize("call", DRY, ids=lambda call: call[0])
def test_a_dry_run_prints_the_commands_that_a_launch_runs(call, tmp_path):
  script, *args = call
  for name in ("srun", "gcloud", "xpk", "sky"):
    executable(tmp_path / "bin" / name, f"#!/usr/bin/env bash\nprintf '%s\\0' {name} \"$@\" > called\n")
  environment = {"IMAGE": "image", "SLURM_NTASKS": "2"}
  said = launch(script, "--dry_run", *args, ODD, cwd=tmp_path, **environment)
  assert not (tmp_path / "called").exists()
  launch(script, *args, ODD, cwd=tmp_path, **environment)
  ran = (tmp_path / "called").read_bytes().decode().split("\0")[:-1]
  assert [shlex.split(line) for line in said.splitlines()] == [ran]
  (want,) = DRY[call]
  assert len(ran) == len(want)
  for word, wanted in zip(ran, want):
    if isinstance(wanted, tuple):
      prefix, words = wanted
      assert word.startswith(prefix) and shlex.split(word.removeprefix(prefix))[-len(words) :] == words
    else:
      assert word == wanted


def test_a_dry_run_over_tpu_vms_calls_none(tmp_path):
  executable(tmp_path / "bin" / "gcloud", "#!/usr/bin/env bash\ntouch called\n")
  said = launch(
    "tpu_array.sh", "--dry_run", "here", "configs/x.py", "runs/law", "tpu-0", "tpu-1", cwd=tmp_path
  )
  kinds = sorted(" ".join(shlex.split(line)[:5]) for line in said.splitlines())
  vms = ["gcloud compute tpus tpu-vm scp"] * 2 + ["gcloud compute tpus tpu-vm ssh"] * 2
  assert kinds == [*vms, "mkdir -p runs/law", kinds[-1]] and kinds[-1].startswith(
    "python3 -m gauss_diffusion.main"
  )
  assert {path.name for path in tmp_path.iterdir()} == {"bin"}


def test_local_starts_so_many_processes_of_one_coordinator(tmp_path):
  said = launch("local.sh", "--dry_run", "3", ODD, cwd=tmp_path)
  lines = [shlex.split(line) for line in said.splitlines()]
  assert len({line[4] for line in lines}) == 1 and lines[0][4].startswith("--coordinator=localhost:")
  assert [line[5:] for line in lines] == [
    ["--num_processes=3", f"--process_id={number}", ODD, "&"] for number in range(3)
  ]
  assert {line[0] for line in lines} == {"JAX_NUM_CPU_DEVICES=1"}


def test_every_machine_of_skypilot_knows_its_place(tmp_path):
  run = yaml.safe_load((REPOSITORY / "launch/sky.yaml").read_text())["run"]
  executable(tmp_path / "bin" / "python3", "#!/usr/bin/env bash\nprintf '%s\\n' \"$@\"\n")
  places = {"SKYPILOT_NODE_IPS": "10.0.0.4\n10.0.0.5", "SKYPILOT_NUM_NODES": "2", "SKYPILOT_NODE_RANK": "1"}
  environment = (
    os.environ | places | {"STUDY": shlex.quote(ODD), "PATH": f"{tmp_path}/bin:{os.environ['PATH']}"}
  )
  said = subprocess.run(["bash", "-c", run], env=environment, capture_output=True, text=True, check=True)
  want = [ODD, "--coordinator=10.0.0.4:8476", "--num_processes=2", "--process_id=1"]
  assert said.stdout.splitlines() == ["-m", "gauss_diffusion.main", *want]


@pytest.mark.processes
@pytest.mark.long
def test_what_tpu_vms_found_is_gathered_and_not_computed_again(tmp_path):
  cwd = checkout(tmp_path / "here")
  executable(cwd / "bin" / "gcloud", GCLOUD)
  vms = [checkout(cwd / vm / "gauss_diffusion").parent for vm in ("tpu-0", "tpu-1")]
  args = ("tpu_array.sh", "here", "configs/input_law.py:smoke", "runs/law", "tpu-0", "tpu-1")
  said = launch(*args, cwd=cwd, FLAGS="--config.samples.num=4")
  assert "not finished yet: n1437" in said and "not finished yet: n16" in said
  assert said.rstrip().endswith("report: runs/law/report.html")
  found = [samples(vm / "gauss_diffusion/runs/law") for vm in vms]
  assert [sorted(names) for names in found] == [["n16.json", "n16.nc"], ["n1437.json", "n1437.nc"]]
  assert samples(cwd / "runs/law") == found[0] | found[1]
  launch(*args, cwd=cwd, FLAGS="--config.samples.num=4")
  assert [samples(vm / "gauss_diffusion/runs/law") for vm in vms] == found


@pytest.mark.processes
def test_no_tpu_vm_computes_for_a_workdir_of_another_study(tmp_path):
  cwd = checkout(tmp_path / "here")
  executable(cwd / "bin" / "gcloud", "#!/usr/bin/env bash\ntouch called\n")
  (cwd / "runs/law").mkdir(parents=True)
  (cwd / "runs/law/thesis.tex").write_text("dear")
  args = ("tpu_array.sh", "here", "configs/input_law.py:smoke", "runs/law", "tpu-0")
  assert "not empty and holds no study" in launch(*args, cwd=cwd, code=2)
  assert not (cwd / "called").exists()


@pytest.fixture
def launched(monkeypatch):
  """The module that runs studies on a GPU."""
  monkeypatch.syspath_prepend(REPOSITORY)
  return importlib.import_module("launch.gpu_studies")


def write(path, text="x"):
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(text)


def trained(workdir, label, steps, found):
  """Make a model's folder as training of `steps` steps leaves it, with the checkpoints `found`."""
  write(workdir / "models" / label / "training.json", json.dumps({"seed": 1, "train.steps": steps}))
  write(workdir / "models" / label / "metrics.jsonl")
  for step in found:
    place = workdir / "models" / label / "checkpoints" / str(step)
    for name in ("ema/d/1", "state/d/1"):
      write(place / name)
    write(place / "SHA256SUMS", "0a  ema/d/1\n0b  state/d/1\n")


def unpacked(launched, out, folder):
  """Return a folder as it is where an archive is unpacked: paths of its files."""
  launched.archive.unpack(out, folder)
  return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_parts_are_of_the_models_that_they_say(launched):
  labels = {}
  for part in launched.PARTS["cifar10"]:
    spec = importlib.util.spec_from_file_location("config", REPOSITORY / part.config)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    config = module.get_config()
    if launched.NETWORKS in part.fields:
      config.claims = ()
      config.replicates = 3 if part.fields == launched.SEEDS else config.replicates
      labels[part.name] = [member.label for member in members.members(config)]
      assert part.tasks <= len(labels[part.name])
  (seeds,) = (part for part in launched.PARTS["cifar10"] if part.fields == launched.SEEDS)
  first = [labels[seeds.name][task] for task in seeds.first]
  assert first == ["n782.2", "n782.3", "n50000.2", "n50000.3"] and len(labels[seeds.name]) == seeds.tasks


def test_a_part_waits_for_those_before_it_in_its_study_alone(launched):
  one, other = launched.Part("one", "a.py", (), 2, (1,)), launched.Part("other", "b.py", (), 1)
  parts = one, launched.Part("one in full", "a.py", (), 1), other
  starts, outcome = [], {}
  while job := launched.following(parts, outcome):
    starts.append(str(job))
    outcome[str(job)] = "running"
  assert starts == ["one 2/2", "one 1/2", "other 1/1"]
  assert launched.following(parts, outcome | {"one 2/2": "failed", "one 1/2": "done"}) is None
  done = outcome | {"one 2/2": "done", "one 1/2": "done"}
  assert str(launched.following(parts, done)) == "one in full 1/1"


def test_an_archive_has_the_optimizer_where_training_goes_on(launched, tmp_path):
  runs, out = tmp_path / "runs", tmp_path / "out"
  study = runs / "study"
  out.mkdir()

  def with_state(name):
    launched.archive.pack(runs, out, [study], {})
    found = unpacked(launched, out, tmp_path / name)
    assert {path.split("/")[2] for path in found if "/ema/" in path} == {"short", "long"}
    return {path.split("/")[4] for path in found if "/state/" in path}

  trained(study, "short", 2, [1, 2])
  trained(study, "long", 9, [3, 6])
  assert with_state("begun") == {"6"}
  trained(study, "long", 9, [9])
  assert with_state("finished") == set()
  sums = tmp_path / "finished/study/models/long/checkpoints/9/SHA256SUMS"
  assert sums.read_text() == "0a  ema/d/1\n"  # the checkpoint is sound without
  trained(study, "longest", 20, [])  # will start where a shorter one ends
  assert with_state("continued") == {"2", "9"}


def test_an_archive_has_what_is_new_as_far_as_there_is_room(launched, tmp_path, monkeypatch):
  runs, out, archive = tmp_path / "runs", tmp_path / "out", launched.archive
  out.mkdir()
  for study in ("one", "two"):
    trained(runs / study, "n16", 2, [2])
    write(runs / study / "results/gain/n16.json")
    write(runs / study / "results/gain/n16.nc", "x" * 100_000)
  write(runs / "two/models/n16/checkpoints/2/ema/d/1", "x" * 100_000)
  write(runs / "two/fits/large")
  known = archive.stamps([path for path in runs.rglob("*") if path.is_file()])
  write(runs / "two/results/samples/n16.json", "new")
  workdirs = [runs / "one", runs / "two"]
  assert not archive.pack(runs, out, workdirs, known)
  assert unpacked(launched, out, tmp_path / "new") == {"two/results/samples/n16.json"}
  monkeypatch.setattr(archive, "PIECE", 80_000)
  assert archive.pack(runs, out, workdirs, {}) == ["two/models/n16/training.json"]
  assert sorted(path.stat().st_size for path in out.iterdir())[1:] == [80_000] * 2
  everything = unpacked(launched, out, tmp_path / "all")
  assert "two/fits/large" not in everything and "one/models/n16/checkpoints/2/ema/d/1" in everything
  assert (tmp_path / "all/two/results/gain/n16.nc").read_text() == "x" * 100_000


def test_a_result_with_maps_comes_back_without(launched, tmp_path, monkeypatch):
  runs, out = tmp_path / "runs", tmp_path / "out"
  out.mkdir()
  arrays = {"weight": (("output", "input"), np.ones((9, 9))), "gap": ("sigma", np.ones(2))}
  results.save(runs / "study/results/distillation/n16", results.labelled(arrays, {}), {"inputs": {"a": 1}})
  monkeypatch.setattr(launched.archive, "WHOLE", 100)
  launched.archive.pack(runs, out, [runs / "study"], {})
  place = "light/study/results/distillation/n16"
  assert unpacked(launched, out, tmp_path / "here") == {f"{place}.json", f"{place}.nc"}
  found, card = results.load(tmp_path / "here" / place)
  assert list(found) == ["gap"] and card["inputs"] == {"a": 1}


def gpu_studies(*args):
  command = [sys.executable, "-m", "launch.gpu_studies", "--list=smoke", "--jobs=1", *QUICK]
  return subprocess.Popen([*command, *args], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)


@pytest.mark.processes
def test_studies_that_were_stopped_go_on_elsewhere(launched, tmp_path):
  outs = [tmp_path / "outs" / call for call in ("1", "2")]
  for out in outs:
    out.mkdir(parents=True)
  first = gpu_studies(f"--runs={tmp_path / 'there'}", f"--out={outs[0]}")
  for line in first.stdout:
    if line.startswith("done"):
      first.terminate()  # as one that runs the machine would
  assert first.wait() == 1
  second = gpu_studies(f"--runs={tmp_path / 'elsewhere'}", f"--out={outs[1]}", f"--carried={outs[0]}")
  said = second.communicate()[0]
  assert second.wait() == 0, said
  assert said.splitlines() == [
    f"{what}: {job}" for job in ("input_law.networks 2/2", "input_law 1/1") for what in ("starts", "done")
  ]
  unpacked(launched, tmp_path / "outs", tmp_path / "here")
  workdir = tmp_path / "here" / "input_law"
  assert {"n16", "n1437", "n16.skip"} < set(results.open(workdir)["input_law"])
  assert (workdir / "models/n16/checkpoints/40").exists() and checkpoint.load_ema(workdir, "n16")
  assert rebuild.rebuild(workdir) and (workdir / "report.html").exists()


@pytest.mark.processes
def test_nothing_runs_beyond_the_limit(launched, tmp_path):
  call = gpu_studies(f"--runs={tmp_path / 'runs'}", f"--out={tmp_path}", "--limit=12", "--saving=1")
  begun = time.monotonic()
  said = call.communicate()[0].splitlines()
  took = time.monotonic() - begun
  assert call.returncode == 0 and said[:2] == [
    "starts: input_law.networks 1/2",
    "stopped: input_law.networks 1/2",
  ]
  assert len([line for line in said if line.startswith("not done")]) == 3
  assert unpacked(launched, tmp_path, tmp_path / "here") >= {"done.txt", "logs/input_law.networks.0.log"}
  assert took < 60  # its own start, and more on a machine that others share
