#!/usr/bin/env bash
# Several processes on this machine that are one run: to try here what many hosts do.
#
#   launch/local.sh 4 --config=configs/digits.py --workdir=runs/digits
#
# On a CPU each has one device, or JAX_NUM_CPU_DEVICES of them. `launch/local.sh --dry_run 4 ...` prints the commands.
set -euo pipefail
[[ "${1-}" == --dry_run ]] && dry=1 && shift || dry=
num=$1
shift
export JAX_NUM_CPU_DEVICES=${JAX_NUM_CPU_DEVICES:-1}
port=$(python3 -c 'import socket; found = socket.socket(); found.bind(("", 0)); print(found.getsockname()[1])')

pids=()
for ((i = 0; i < num; i++)); do
  command=(python3 -m gauss_diffusion.main --coordinator="localhost:$port" --num_processes="$num" --process_id="$i" "$@")
  if [[ $dry ]]; then
    echo "JAX_NUM_CPU_DEVICES=$JAX_NUM_CPU_DEVICES ${command[*]@Q} &"
  else
    "${command[@]}" &
    pids+=($!)
  fi
done
[[ $dry ]] && exit
# What one is told by a signal, all do; wait goes on after it.
trap 'kill -TERM "${pids[0]}"' TERM
trap : INT
code=0
for pid in "${pids[@]}"; do
  while kill -0 "$pid" 2> /dev/null; do wait "$pid" || code=$?; done
done
exit $code
