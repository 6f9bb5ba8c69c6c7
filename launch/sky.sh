#!/usr/bin/env bash
# One study on spot machines, through SkyPilot, which finds them, and others when they are taken away.
#
#   launch/sky.sh 2 --config=configs/dataset_size.py --workdir=/runs/dataset_size
#
# The number is of machines, of a kind that launch/sky.yaml names. The workdir lies below /runs, a bucket: what was saved
# there is continued on the next machines. `launch/sky.sh --dry_run ...` prints the command.
set -euo pipefail
run() { "$@"; }
[[ "${1-}" == --dry_run ]] && shift && run() { echo "${*@Q}"; }
nodes=$1
shift

run sky jobs launch --yes --num-nodes="$nodes" --env "STUDY=${*@Q}" launch/sky.yaml
