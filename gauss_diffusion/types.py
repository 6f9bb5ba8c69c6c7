"""Names for the roles and records that every other file speaks of, and how signatures state axes.

One convention holds everywhere. Images are float arrays ``[H, W, C]`` in [-1, 1]; noise is variance
exploding, ``x = x0 + sigma * noise``; a denoiser estimates ``x0`` from one noisy sample.

``Float[ArrayLike, "S D"]`` is a float array of JAX or NumPy with two axes; axes of one name in a signature
have one length. N counts images, H W C are the axes of one and D = H * W * C; K counts components, S noise
levels, T steps; ``...`` and ``*n`` stand for any number of axes. The tests check every call against its
signature. What a function refuses in its own words, it takes in: an axis ``_H`` of any length, or ``...``.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import jax
import numpy as np
from jaxtyping import Float, UInt8

Array = jax.Array
ArrayLike = jax.Array | np.ndarray

Image = Float[ArrayLike, "H W C"]
Pixels = UInt8[np.ndarray, "N H W C"]  # images as they lie in memory, see `images`
Images = Pixels | Float[np.ndarray, "N H W C"]  # these, or float32 latents and draws, see `images`
Number = Float[ArrayLike, ""] | np.floating | float
Sigma = Number  # a noise level, > 0, on the [-1, 1] scale
Sigmas = Float[ArrayLike, "..."] | Sequence[float] | float  # levels [S]; the callee refuses what is no list


@runtime_checkable
class Denoiser(Protocol):
  """Estimate ``x0`` from one noisy image: ``D(x; sigma)``.

  Bind a record to its function with ``jax.tree_util.Partial``: the result is a `Denoiser` and a
  pytree, so it passes into jit, vmap and pmap as an argument, and one compile serves every record::

    denoise = Partial(gaussian.denoise, stats)
  """

  def __call__(self, x: Image, sigma: Sigma) -> Float[Array, "H W C"]:
    """Return the estimate, shaped as `x`, at the scalar noise level `sigma` > 0."""
    ...


class GaussianStats(NamedTuple):
  """Mean and covariance of a set of images, ``Sigma = basis @ diag(eigenvalues) @ basis.T``.

  Only the span of the data is stored: the rank K is at most min(N - 1, D), with D = H * W * C.
  """

  mean: Image  # in [-1, 1]
  basis: Float[ArrayLike, "D K"]  # orthonormal columns, in order of falling eigenvalue
  eigenvalues: Float[ArrayLike, " K"]  # positive, falling; pixel variance on the [-1, 1] scale


class Affine(NamedTuple):
  """Affine maps of flattened images, ``D(x) = weight @ x + bias``, one for each of S noise levels."""

  weight: Float[ArrayLike, "S D D"]
  bias: Float[ArrayLike, "S D"]
  sigma: Float[ArrayLike, " S"]  # which map serves which level


class Trajectory(NamedTuple):
  """What a sampler saw on its way from noise to image, T steps."""

  sigma: Float[ArrayLike, " T+1"]  # the last is 0
  x: Float[ArrayLike, "T+1 H W C"]  # the state at each sigma; x[-1] is the sample
  denoised: Float[ArrayLike, "T H W C"]  # D(x[t]; sigma[t])
