"""All workloads by name."""

from benchmarks.workload import Workload
from benchmarks.workloads import (
  covariance,
  distillation,
  gaussian,
  jacobian,
  linearity,
  multi_delta,
  neighbours,
  sampling,
  structured,
  study,
  training,
)

WORKLOADS: dict[str, Workload] = (
  training.WORKLOADS
  | sampling.WORKLOADS
  | gaussian.WORKLOADS
  | multi_delta.WORKLOADS
  | structured.WORKLOADS
  | neighbours.WORKLOADS
  | covariance.WORKLOADS
  | distillation.WORKLOADS
  | jacobian.WORKLOADS
  | linearity.WORKLOADS
  | study.WORKLOADS
)
