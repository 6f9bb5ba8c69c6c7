"""How data of any float range come onto the scale on which noise levels are said, and back.

EDM's levels and preconditioning suppose a standard deviation of 0.5, as that of pixels in [-1, 1] roughly is.
"""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from gauss_diffusion import edm
from gauss_diffusion.data import pixels

STANDARDISE = "standardise"
LARGEST = 1e6  # value on the project's scale, as high as noise levels may be


class Scale(NamedTuple):
  """What was done to the values of a file, ``x = (v - shift) / factor``."""

  shift: float
  factor: float


def asked(scale: float | str) -> float | None:
  """Return the number that values are to be divided by, None for `STANDARDISE`.

  Raises:
    ValueError: on anything else.
  """
  if scale == STANDARDISE:
    return None
  try:
    factor = float(scale)
  except ValueError:
    factor = math.nan
  if not 0 < factor < math.inf:
    raise ValueError(
      f"`data.scale` is {scale!r}; want a number > 0 that values are divided by, or {STANDARDISE!r}"
    )
  return factor


def of(images: Float[np.ndarray, "N H W C"], scale: float | str) -> Scale:
  """Return what puts images onto the project's scale.

  Args:
    images: float32, finite.
    scale: a number that they are divided by, or `STANDARDISE`: the mean of all values becomes 0 and their
      standard deviation `edm.SIGMA_DATA`, 0.5.

  Raises:
    ValueError: on another `scale`, one that makes values larger than `LARGEST`, and on values that are all
      one and cannot be standardised.
  """
  factor = asked(scale)
  if factor is not None:
    largest = max(float(images.max()), -float(images.min())) / factor
    if largest > LARGEST:
      raise ValueError(
        f"`data.scale` is {scale!r}, which takes values to {largest:.3g}; want a larger number"
      )
    return Scale(0.0, factor)
  mean, deviation = moments(images)
  if not deviation > 0:
    raise ValueError(f"`data.scale` is {scale!r}, and all values are {mean:g}; want some that differ")
  return Scale(mean, deviation / edm.SIGMA_DATA)


def apply(scale: Scale, images: Float[np.ndarray, "N H W C"]) -> Float[np.ndarray, "N H W C"]:
  """Return float32 images on the project's scale, each value rounded once, see `pixels.kept`."""
  if not len(images):
    return images
  return pixels.kept(
    ((block.astype(np.float64) - scale.shift) / scale.factor).astype(np.float32)
    for block in pixels.blocks(images)
  )


def undo(scale: Scale, x: Float[np.ndarray, "*n"]) -> Float[np.ndarray, "*n"]:
  """Return what values of the file `x` are, float32."""
  return (np.asarray(x, np.float64) * scale.factor + scale.shift).astype(np.float32)


def moments(images: Float[np.ndarray, "N H W C"]) -> tuple[float, float]:
  """Return mean and standard deviation of all values of images, summed in float64 about the first value."""
  first = np.float64(images.flat[0])
  offset = sum(float((block - first).sum()) for block in pixels.blocks(images)) / images.size
  mean = first + offset
  square = sum(float(((block - mean) ** 2).sum()) for block in pixels.blocks(images)) / images.size
  return float(mean), math.sqrt(square)
