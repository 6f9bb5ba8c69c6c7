"""Instruments that hold a denoiser against linear, Gaussian and memorizing behaviour."""

from gauss_diffusion.probes import (
  calibration,
  finite_data,
  generalization,
  jacobian,
  likelihood,
  linearity,
  modes,
  score_gap,
  spectrum,
  trace,
)

__all__ = [
  "calibration",
  "finite_data",
  "generalization",
  "jacobian",
  "likelihood",
  "linearity",
  "modes",
  "score_gap",
  "spectrum",
  "trace",
]
