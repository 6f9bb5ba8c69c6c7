"""Analytic denoisers, one file each: ``denoise(record, x, sigma)`` on one sample."""

from gauss_diffusion.denoisers import affine, gaussian, multi_delta

__all__ = ["affine", "gaussian", "multi_delta"]
