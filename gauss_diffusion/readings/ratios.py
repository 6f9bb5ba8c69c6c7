"""Ratios of means, as one number per image whose mean is the ratio: intervals follow as for any mean."""

import numpy as np
from jaxtyping import Float


def ratio(
  top: Float[np.ndarray, "*rows n"], bottom: Float[np.ndarray, "*rows n"]
) -> Float[np.ndarray, "*rows n"]:
  """Return ``r + (a_i − r b_i)/b̄`` of each image, with ``r = ā/b̄`` the ratio of the means over images.

  Their mean is r exactly, and to first order in 1/n their spread is that of r (delta method): a mean of the
  ratios a_i/b_i would be neither. Rows with b̄ ≤ 0 are NaN.

  Args:
    top: a, numbers per image, the images along the last axis.
    bottom: b, of the same images.
  """
  top, bottom = np.asarray(top, np.float64), np.asarray(bottom, np.float64)
  below = bottom.mean(-1, keepdims=True)
  below = np.where(below > 0, below, np.nan)
  whole = top.mean(-1, keepdims=True) / below
  return whole + (top - whole * bottom) / below


def slope(x: Float[np.ndarray, "*rows n"], y: Float[np.ndarray, "*rows n"]) -> Float[np.ndarray, "*rows n"]:
  """Return the slope ``Cov(x, y)/Var(x)`` of y's least-squares line on x over images, as in `ratio`."""
  x, y = (each - each.mean(-1, keepdims=True) for each in (np.asarray(x, float), np.asarray(y, float)))
  return ratio(x * y, x**2)
