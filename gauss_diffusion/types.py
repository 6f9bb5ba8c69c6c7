"""Names for the roles and records that every other file speaks of.

One convention holds everywhere. Images are float arrays ``[H, W, C]`` in [-1, 1]; noise is variance
exploding, ``x = x0 + sigma * noise``; a denoiser estimates ``x0`` from one noisy sample.
"""

from typing import NamedTuple, Protocol

import jax

Array = jax.Array


class Denoiser(Protocol):
  """Estimate ``x0`` from one noisy image: ``D(x; sigma)``.

  Bind a record to its function with ``jax.tree_util.Partial``: the result is a `Denoiser` and a
  pytree, so it passes into jit, vmap and pmap as an argument, and one compile serves every record::

    denoise = Partial(gaussian.denoise, stats)
  """

  def __call__(self, x: Array, sigma: Array) -> Array:
    """Return the estimate, shaped as `x` [H, W, C], at the scalar noise level `sigma` > 0."""
    ...


class GaussianStats(NamedTuple):
  """Mean and covariance of a set of images, ``Sigma = basis @ diag(eigenvalues) @ basis.T``.

  Only the span of the data is stored: the rank K is at most min(N - 1, D), with D = H * W * C.
  """

  mean: Array  # [H, W, C], in [-1, 1]
  basis: Array  # [D, K], orthonormal columns, in order of falling eigenvalue
  eigenvalues: Array  # [K], positive, falling; pixel variance on the [-1, 1] scale


class Affine(NamedTuple):
  """An affine map of flattened images at one noise level or, with a leading axis, at several.

  ``D(x) = weight @ x + bias``. With an axis of length S, `sigma` says which map serves which level.
  """

  weight: Array  # [S, D, D]
  bias: Array  # [S, D]
  sigma: Array  # [S]


class Trajectory(NamedTuple):
  """What a sampler saw on its way from noise to image, T steps."""

  sigma: Array  # [T + 1], the last is 0
  x: Array  # [T + 1, H, W, C], the state at each sigma; x[-1] is the sample
  denoised: Array  # [T, H, W, C], D(x[t]; sigma[t])
