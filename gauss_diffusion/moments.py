"""First and second moments of pairs of vectors, exact enough to be inverted, shared by devices and processes.

A best affine map is ``Cov(D, y) Cov(y)⁻¹``, and at low noise the covariance of y has condition numbers of
10⁶: sums of products that float32 rounds say nothing of its inverse. On a CPU products are float64. Other
devices may have few units for that, or none: there a vector is cut into whole numbers of seven bits (Ozaki
et al. 2012), of which float32 holds the sum of 2¹⁰ products exactly, whichever units multiply them, of
bfloat16 or TF32 too. What is summed are exact products of vectors rounded to 2⁻²⁹ of the power of two above
the largest number of their block, finer than float32 rounds that number; sums are carried in two float32.
"""

import functools
from collections.abc import Iterable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg.blas
from jaxtyping import Float, Int32

from gauss_diffusion import parallel
from gauss_diffusion.types import Array

ROWS = 1024  # whole products of up to 2^14: float32 sums of 2^10 are exact
BITS, SLICES = 7, 4

Pairs = tuple[Float[np.ndarray, "_n D"], Float[np.ndarray, "_n D"]]  # y and D(y); blocks differ in number


class Moments(NamedTuple):
  """Sums over n pairs (y, d), about two points near their means, float64."""

  num: int
  origin_y: Float[np.ndarray, " D"]
  origin_d: Float[np.ndarray, " D"]
  y: Float[np.ndarray, " D"]
  d: Float[np.ndarray, " D"]
  dd: float  # of squares, over all coordinates
  yy: Float[np.ndarray, "D D"]
  dy: Float[np.ndarray, "D D"]


class Sums(NamedTuple):
  """What one device has summed up, ``high + low`` of each, float32."""

  yy: tuple[Float[Array, "*devices D D"], Float[Array, "*devices D D"]]
  dy: tuple[Float[Array, "*devices D D"], Float[Array, "*devices D D"]]


def of_pairs(pairs: Iterable[Pairs], *, host: bool | None = None) -> Moments:
  """Return the moments of pairs, of which every process and device sums its share.

  Args:
    pairs: blocks of y and d, float32 [n, D] or float64, the same in every process.
    host: whether products are float64 on the host; None where the devices are CPUs.

  Returns:
    The same numbers in every process. Beside them memory holds two D x D matrices of float32 on the host, and
    on each other device four for the sums and as many for what is being added.
  """
  host = jax.default_backend() == "cpu" if host is None else host
  num, sums = 0, None
  for y, d in pairs:
    if not num:
      size = y.shape[1]
      # Moments about points near the means, so that removing the means costs no digits; or, where that would
      # round numbers of float32, about 0.
      origin_y, origin_d = (block.mean(0, dtype=np.float64) if host else np.zeros(size) for block in (y, d))
      sum_y, sum_d, sum_dd = np.zeros(size), np.zeros(size), np.zeros(())
      yy, dy = np.zeros((size, size)), np.zeros((size, size))
    num += len(y)
    own = parallel.own_rows(len(y))
    if not host:
      sums = parallel.absorb(_absorb, sums or parallel.spread(_nothing(size)), y[own], d[own], rows=ROWS)
    y, d = y[own] - origin_y, d[own] - origin_d
    sum_y += y.sum(0)
    sum_d += d.sum(0)
    sum_dd += np.vdot(d, d)
    if host:
      # SciPy's products, in place: threads of NumPy's own would contend with those that then solve.
      scipy.linalg.blas.dgemm(1.0, y.T, y.T, 1.0, yy.T, trans_b=True, overwrite_c=True)
      scipy.linalg.blas.dgemm(1.0, y.T, d.T, 1.0, dy.T, trans_b=True, overwrite_c=True)
  if sums is not None:
    for total, parts in ((yy, sums.yy), (dy, sums.dy)):
      for part in parts:
        parallel.add(total, part)
  sum_y, sum_d, sum_dd, yy, dy = map(parallel.total, (sum_y, sum_d, sum_dd, yy, dy))
  return Moments(num, origin_y, origin_d, sum_y, sum_d, float(sum_dd), yy, dy)


def _nothing(size: int) -> Sums:
  nothing = jnp.zeros((size, size), np.float32)
  return Sums((nothing, nothing), (nothing, nothing))


def _absorb(sums: Sums, y: Float[Array, "n D"], d: Float[Array, "n D"]) -> Sums:
  (of_y, y_exponent), (of_d, d_exponent) = slices(y), slices(d)
  yy, dy = sums.yy, sums.dy
  for i in range(SLICES):
    for j in range(SLICES):
      places = BITS * (i + j + 2)
      dy = _add(dy, jnp.ldexp(_product(of_d[i], of_y[j]), d_exponent + y_exponent - places))
      yy = _add(yy, jnp.ldexp(_product(of_y[i], of_y[j]), 2 * y_exponent - places))
  return Sums(yy, dy)


def slices(x: Float[Array, "n D"]) -> tuple[list[Float[Array, "n D"]], Int32[Array, ""]]:
  """Return whole numbers q_i, |q_i| <= 2⁷, and e: ``x = Σ_i q_i 2^(e − 7 (i + 1))`` to half a last place."""
  exponent = jnp.frexp(jnp.max(jnp.abs(x)))[1]
  rest, found = jnp.ldexp(x, -exponent), []
  for _ in range(SLICES):
    rest = jnp.ldexp(rest, BITS)
    found.append(jnp.round(rest))
    rest = rest - found[-1]
  return found, exponent


# Whole numbers of seven bits: exact in whatever precision a device multiplies by default.
_product = functools.partial(jnp.einsum, "ni,nj->ij", preferred_element_type=jnp.float32)


def _add(
  total: tuple[Float[Array, "D D"], Float[Array, "D D"]], more: Float[Array, "D D"]
) -> tuple[Float[Array, "D D"], Float[Array, "D D"]]:
  """Add to a sum of two parts, with the exact rounding error of the first in the second (Knuth's TwoSum)."""
  high, low = total
  found = high + more
  back = found - high
  return found, low + ((high - (found - back)) + (more - back))
