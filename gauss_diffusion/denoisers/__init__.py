"""Denoisers in closed form, and any function from outside, one file each: ``denoise(record, x, sigma)``."""

from gauss_diffusion.denoisers import affine, external, gaussian, multi_delta

__all__ = ["affine", "external", "gaussian", "multi_delta"]
