#!/usr/bin/env bash
# One study on TPUs or GPUs of a GKE cluster, through XPK, which also makes the cluster (v7 comes this way alone).
#
#   IMAGE=... launch/xpk.sh my-cluster tpu7x-16 1 --config=configs/dataset_size.py --workdir=/runs/dataset_size
#
# After the cluster: the type of a slice and how many of them. IMAGE is a container in which this repository is installed
# and lies in its working directory. The workdir is on a storage of the cluster, `xpk storage attach`, that every pod
# mounts. A pod that is preempted restarts them all, which continues. `--dry_run` as the first word prints the commands.
set -euo pipefail
run() { "$@"; }
[[ "${1-}" == --dry_run ]] && shift && run() { echo "${*@Q}"; }
cluster=$1 slice=$2 slices=$3
shift 3

run xpk workload create --cluster="$cluster" --workload="${NAME:-gauss-diffusion}" --tpu-type="$slice" \
  --num-slices="$slices" --max-restarts=100 --docker-image="$IMAGE" \
  --command="python3 -m gauss_diffusion.main --distributed ${*@Q}"
