"""Between pixels and numbers: uint8 in memory and on disk, floats in [-1, 1] wherever there is noise.

Latents, and images that were drawn from a Gaussian, have no pixels: they are float32 from the start, on a
scale where noise levels mean the same, and may lie beyond [-1, 1].
"""

from typing import TypeVar

import jax
import numpy as np
from jaxtyping import Float, UInt8

A = TypeVar("A", np.ndarray, jax.Array)  # what comes in goes out: arrays of NumPy or of JAX


def to_float(images: UInt8[A, "*n"] | Float[A, "*n"], dtype: type | np.dtype = np.float32) -> Float[A, "*n"]:
  """Map uint8 pixels u to floats in [-1, 1], ``x = u / 127.5 - 1``; arrays of any shape.

  Floats are on their scale already: they stay as they are, in that dtype.
  """
  x = images.astype(dtype)
  return x / 127.5 - 1 if images.dtype == np.uint8 else x


def to_uint8(images: Float[A, "*n"]) -> UInt8[A, "*n"]:
  """Map x in [-1, 1] to the nearest uint8 pixel, ``u = (x + 1) 127.5``; values outside are clipped."""
  return ((images + 1) * 127.5).round().clip(0, 255).astype(np.uint8)
