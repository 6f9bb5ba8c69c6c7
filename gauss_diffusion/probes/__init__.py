"""Instruments that hold a denoiser against linear, Gaussian and memorizing behaviour."""

from gauss_diffusion.probes import generalization, jacobian, linearity, modes, score_gap, spectrum

__all__ = ["generalization", "jacobian", "linearity", "modes", "score_gap", "spectrum"]
