#!/usr/bin/env bash
# One study on all hosts of a TPU pod slice (up to v6e; newer ones: launch/xpk.sh).
#
#   launch/tpu_pod.sh us-central2-b my-pod --config=configs/dataset_size.py --workdir=/mnt/runs/dataset_size
#
# On every host a clone of this repository lies in ~/gauss_diffusion, installed with `pip install -e '.[tpu]'`, and the
# workdir is on a disk that all of them see. The same command again continues what was stopped.
# `launch/tpu_pod.sh --dry_run ...` prints the command.
set -euo pipefail
run() { "$@"; }
[[ "${1-}" == --dry_run ]] && shift && run() { echo "${*@Q}"; }
zone=$1 pod=$2
shift 2

run gcloud compute tpus tpu-vm ssh "$pod" --zone="$zone" --worker=all \
  --command="cd gauss_diffusion && exec python3 -m gauss_diffusion.main --distributed ${*@Q}"
