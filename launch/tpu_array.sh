#!/usr/bin/env bash
# One study on several TPU VMs of one host each: every VM trains and analyses its share of the models, then
# what they found is brought here and gathered.
#
#   launch/tpu_array.sh us-central2-b configs/dataset_size.py runs/dataset_size tpu-0 tpu-1 tpu-2
#
# On each VM a clone of this repository lies in ~/gauss_diffusion, installed with `pip install -e '.[tpu]'`. The
# same command again continues what was stopped. Further fields of the config go into FLAGS:
#
#   FLAGS="--config.data.dir=/mnt/tfds" launch/tpu_array.sh ...
#
# `launch/tpu_array.sh --dry_run ...` prints the commands.
set -euo pipefail
dry= && run() { "$@"; }
[[ "${1-}" == --dry_run ]] && dry=1 && shift && run() { echo "${*@Q}"; }
zone=$1 config=$2 workdir=$3
shift 3

study="python3 -m gauss_diffusion.main --config=$config --workdir=$workdir ${FLAGS:-}"
# More tasks than models leave this one without a share: it only checks the config, and that the workdir here is
# this study's, before a VM computes or anything is copied over.
[[ $dry ]] || $study --tasks=1000000 --task=999999 > /dev/null

pids=()
for vm in "$@"; do
  run gcloud compute tpus tpu-vm ssh "$vm" --zone="$zone" \
    --command="cd gauss_diffusion && $study --tasks=$# --task=${#pids[@]}" &
  pids+=($!)
done
for pid in "${pids[@]}"; do wait "$pid"; done

run mkdir -p "$workdir"
for vm in "$@"; do
  run gcloud compute tpus tpu-vm scp --recurse --zone="$zone" "$vm:gauss_diffusion/$workdir/*" "$workdir/"
done
run $study
