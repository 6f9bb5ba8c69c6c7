#!/usr/bin/env bash
# One study on several GPUs at once: each task trains and analyses its share of the models.
#
#   sbatch --array=0-3 launch/slurm_array.sh configs/dataset_size.py runs/dataset_size
#
# When all have ended, the same command without --task and --tasks gathers what they found:
#
#   python -m gauss_diffusion.main --config=configs/dataset_size.py --workdir=runs/dataset_size
# Three minutes before its time is up, a task ends its step and saves it; the same command continues. Two jobs
# of one task never run together: the second one says that the first is at it.
#SBATCH --gpus-per-task=1 --cpus-per-task=8 --time=24:00:00
#SBATCH --signal=B:TERM@180
set -euo pipefail
exec python -m gauss_diffusion.main --config="$1" --workdir="$2" "${@:3}" \
  --task="$SLURM_ARRAY_TASK_ID" --tasks="$SLURM_ARRAY_TASK_COUNT"
