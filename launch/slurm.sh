#!/usr/bin/env bash
#SBATCH --job-name=gauss_diffusion
#SBATCH --gres=gpu:1
#SBATCH --cpus-per-task=8
#SBATCH --time=04:00:00
#SBATCH --requeue
#SBATCH --signal=TERM@180
# One node, all its devices. Three minutes before its time is up, a study ends its step and saves it. One that
# was stopped, or requeued, continues from its checkpoints:
#   sbatch launch/slurm.sh --config=configs/cifar_small.py --workdir=runs/cifar
set -euo pipefail
exec srun python -m gauss_diffusion.main "$@"
