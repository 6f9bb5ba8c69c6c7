#!/usr/bin/env bash
# One machine, any number of its own devices: run a study, or continue it.
#   launch/one_box.sh digits            -> runs/digits
#   launch/one_box.sh cifar_small:cpu --config.data.dir=DIR
set -euo pipefail
cd "$(dirname "$0")/.."
study=$1
shift
exec python -m gauss_diffusion.main --config="configs/${study/:/.py:}$([[ $study == *:* ]] || echo .py)" \
  --workdir="runs/${study/:/_}" "$@"
