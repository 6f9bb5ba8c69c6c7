"""Ideal denoisers, one file each; any function from outside as one, whatever it predicts.

To add a family, write its file, with ``fit(images, **options) -> record`` and ``denoise(record, x, sigma)``,
and name it in `FAMILIES`: studies, figures, cards and the table of exact limits read it from here.
"""

from gauss_diffusion.denoisers import (
  affine,
  class_gaussian,
  external,
  finite_data,
  gaussian,
  golden,
  guidance,
  kernel,
  mixture,
  multi_delta,
  null,
  parametrisations,
  smoothed,
  spiked,
  stationary,
)
from gauss_diffusion.denoisers.family import Family, Option
from gauss_diffusion.denoisers.local import patches, pca_locality, score_machines

__all__ = [
  "FAMILIES",
  "NULLS",
  "Family",
  "Option",
  "affine",
  "class_gaussian",
  "external",
  "finite_data",
  "gaussian",
  "golden",
  "guidance",
  "kernel",
  "mixture",
  "multi_delta",
  "null",
  "parametrisations",
  "patches",
  "pca_locality",
  "score_machines",
  "smoothed",
  "spiked",
  "stationary",
]

FAMILIES: dict[str, Family] = {
  "gaussian": gaussian.FAMILY,
  "multi-delta": multi_delta.FAMILY,
  "kernel": kernel.FAMILY,
  "mean": null.MEAN,
  "skip": null.SKIP,
  "identity": null.IDENTITY,
  "ppca": spiked.PPCA,
  "shrunk": spiked.SHRUNK,
  "stationary": stationary.FAMILY,
  "finite_data": finite_data.FAMILY,
  "mixture": mixture.FAMILY,
  "smoothed": smoothed.FAMILY,
  "golden": golden.FAMILY,
  "class_mixture": class_gaussian.MIXTURE,
  "class_gaussian": class_gaussian.ONE_CLASS,
  "ls": score_machines.LS_FAMILY,
  "els": score_machines.ELS_FAMILY,
  "els_borders": score_machines.BORDERS_FAMILY,
  "pspc": patches.FAMILY,
  "pca_locality": pca_locality.FAMILY,
}
NULLS = ("mean", "skip", "identity")  # those that have learned nothing
