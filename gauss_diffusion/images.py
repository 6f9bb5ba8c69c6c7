"""Between pixels and numbers: uint8 in memory and on disk, floats in [-1, 1] wherever there is noise."""

import numpy as np


def to_float(images):
  """Map uint8 pixels u to float32 in [-1, 1], ``x = u / 127.5 - 1``; NumPy or JAX arrays of any shape."""
  return images.astype(np.float32) / 127.5 - 1


def to_uint8(images):
  """Map x in [-1, 1] to the nearest uint8 pixel, ``u = (x + 1) 127.5``; values outside are clipped."""
  return ((images + 1) * 127.5).round().clip(0, 255).astype(np.uint8)
