"""The best denoiser for a mixture of Gaussians: between the Gaussian denoiser and the memorizer.

One component is the Gaussian denoiser, as many as there are images, each as narrow as can be, the kernel one.
"""

from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
import scipy.special
from jaxtyping import Float, Shaped

from gauss_diffusion.denoisers.family import Family, Option, Shape
from gauss_diffusion.images import to_float
from gauss_diffusion.types import Array, ArrayLike, Image, Images, Sigma

CHUNK = 2**20  # values of the images that are floats at a time
TOLERANCE = 1e-6  # nats per value of an image: an iteration that wins less is the last
NEGLIGIBLE = 1e-30  # share of an image in a component, far below rounding
ROUNDING = 1 / (127.5 * 12**0.5)  # standard deviation of what 8 bits do to a pixel, on the [-1, 1] scale


class Mixture(NamedTuple):
  """K Gaussians with weights, of covariance ``U diag(λ) Uᵀ + v (I − U Uᵀ)`` each."""

  weights: Float[ArrayLike, " K"]  # >= 0, of sum 1
  means: Float[ArrayLike, "K H W C"]
  basis: Float[ArrayLike, "K D R"]  # U, orthonormal columns
  eigenvalues: Float[ArrayLike, "K R"]  # λ, falling
  rest: Float[ArrayLike, " K"]  # v, the variance of every direction beyond, if any


class _Sums(NamedTuple):
  """What an iteration takes from the images, each in its share, about the means that components had."""

  counts: Float[np.ndarray, " K"]
  first: Float[np.ndarray, "K D"]
  second: Float[np.ndarray, "K D D"]
  log_likelihood: float


def fit(images: Images, *, components: int, rank: int, floor: float, iterations: int, seed: int) -> Mixture:
  """Return the mixture that expectation-maximisation finds for images [N, H, W, C].

  Components start round, at images drawn as k-means++ draws them (Arthur & Vassilvitskii 2007), with the
  variance that is left about the nearest. Every iteration then takes the exact maximum, that of Tipping &
  Bishop (1999) for mixtures of PPCA, so that the likelihood never falls, and the last is the one that wins
  less than `TOLERANCE` nats per value. A component without images keeps its place, with weight 0.

  In float64 on the host, the images streamed. An iteration takes about 2 N K D rank operations for densities
  and 2 N D² for covariances where each image has its component, K times that where all share all; 9 K D³ for
  eigenvectors; and 16 K D² bytes.

  Args:
    images: uint8 or float32 [N, H, W, C].
    components: K, at most N.
    rank: directions that a component has of its own beside the isotropic rest, 0 for all.
    floor: the least standard deviation in any direction, on the [-1, 1] scale. Without it a component shrinks
      to one image and to an infinite likelihood.
    iterations: at most.
    seed: of the start.

  Raises:
    ValueError: when there are more components than images.
  """
  check("", images.shape[1:], len(images), components=components)
  rows, shape = images.reshape(len(images), -1), images.shape[1:]
  size, least = rows.shape[1], floor**2
  kept = min(rank or size, size)
  mixture, last = _start(rows, shape, components, kept, least, np.random.default_rng(seed)), -np.inf
  for _ in range(iterations):
    sums = _expected(mixture, rows)
    mixture = _likeliest(mixture, sums, least)
    if sums.log_likelihood - last < TOLERANCE * size:
      break
    last = sums.log_likelihood
  return mixture


def log_likelihood(mixture: Mixture, images: Images) -> float:
  """Return the mean log-density of images [N, H, W, C] under the mixture, in nats an image.

  Args:
    mixture: with variances above 0.
    images: any; streamed.
  """
  rows = images.reshape(len(images), -1)
  total = sum(scipy.special.logsumexp(joint, axis=1).sum() for _, joint in _joint(mixture, rows))
  return float(total / len(rows))


def denoise(mixture: Mixture, x: Image, sigma: Sigma) -> Float[Array, "H W C"]:
  """Estimate ``x0`` from `x` as the posterior mean under a mixture of Gaussians.

  ``D(x; σ) = Σ_k w_k D_k(x; σ)``, D_k the Gaussian denoiser of component k in its own eigenbasis and
  ``w = softmax_k(log π_k + log N(x; μ_k, Σ_k + σ² I))``. Log-densities are taken relative to that of one
  round Gaussian with the mixture's mean and variance, so that no large number that components share is
  rounded, neither at high noise nor at low. Of 8 K D R operations.

  Args:
    mixture: see `fit`; variances may be 0.
    x: one noisy image [H, W, C] on the [-1, 1] scale.
    sigma: scalar noise level > 0, in the same units.

  Returns:
    The estimate, with the shape and dtype of `x`.

  Raises:
    ValueError: when `x` is not shaped as the means.
  """
  if x.shape != mixture.means.shape[1:]:
    want = mixture.means.shape[1:]
    raise ValueError(f"`x` has shape {x.shape}; `mixture` describes images of shape {want}")
  x = jnp.asarray(x)
  weights, means, basis, eigenvalues, rest = (jnp.asarray(leaf, x.dtype) for leaf in mixture)
  means = means.reshape(len(means), -1)
  beyond = means.shape[1] - basis.shape[2]  # dimensions of the rest
  variance = jnp.asarray(sigma, x.dtype) ** 2
  centre = _dot(weights, means)
  variances = eigenvalues.sum(1) + beyond * rest + jnp.sum((means - centre[None]) ** 2, axis=1)
  spread = _dot(weights, variances) / x.size  # of a pixel, under the mixture

  def excess(own):
    """Return by how much ``1/(own + σ²)`` exceeds that of the round Gaussian."""
    return (spread - own) / ((own + variance) * (spread + variance))

  def log_ratio(own):
    relative = (own - spread) / (spread + variance)
    ratio = (own + variance) / (spread + variance)
    return jnp.where(jnp.abs(relative) < 0.5, jnp.log1p(relative), jnp.log(ratio))

  def posterior(mean, basis, eigenvalues, rest):
    offset = x.reshape(-1) - mean
    modes = _dot(offset, basis)
    others = offset - _dot(basis, modes)
    left = _dot(others, basis)  # by rounding: at low noise it is not small beside the narrowest directions
    modes = modes + left  # and ``others - basis left`` are the others
    gain, gain_others = (own / (own + variance) for own in (eigenvalues, rest))
    estimate = mean + _dot(basis, gain * modes - gain_others * left) + gain_others * others
    shift = mean - centre
    square = jnp.sum(excess(eigenvalues) * modes**2)
    square += excess(rest) * (jnp.sum(others**2) - jnp.sum(left**2))
    square -= _dot(shift, 2 * offset + shift) / (spread + variance)
    volume = jnp.sum(log_ratio(eigenvalues)) + beyond * log_ratio(rest)
    return estimate, -(square + volume) / 2

  estimates, log_densities = jax.vmap(posterior)(means, basis, eigenvalues, rest)
  return _dot(jax.nn.softmax(jnp.log(weights) + log_densities), estimates).reshape(x.shape)


def _start(
  rows: Shaped[np.ndarray, "N D"],
  shape: Shape,
  components: int,
  kept: int,
  least: float,
  rng: np.random.Generator,
) -> Mixture:
  chosen = [int(rng.integers(len(rows)))]
  distances = _distances(rows, rows[chosen[0]])
  while len(chosen) < components:
    total = distances.sum()  # 0 where images repeat, and any of them will do
    chosen.append(int(rng.choice(len(rows), p=distances / total if total else None)))
    distances = np.minimum(distances, _distances(rows, rows[chosen[-1]]))
  size = rows.shape[1]
  left = np.full(components, max(distances.sum() / rows.size, least))
  return Mixture(
    np.full(components, 1 / components),
    to_float(rows[chosen], np.float64).reshape(components, *shape),
    np.broadcast_to(np.eye(size, kept), (components, size, kept)),
    np.broadcast_to(left[:, None], (components, kept)),
    left,
  )


def _distances(rows: Shaped[np.ndarray, "N D"], one: Shaped[np.ndarray, " D"]) -> Float[np.ndarray, " N"]:
  """Return squared distances to one of the images, on the [-1, 1] scale."""
  chunk = max(CHUNK // rows.shape[1], 1)
  found = [
    np.sum((rows[start : start + chunk] - one.astype(np.float64)) ** 2, axis=1)
    for start in range(0, len(rows), chunk)
  ]
  return np.concatenate(found) / (127.5**2 if rows.dtype == np.uint8 else 1)


def _joint(
  mixture: Mixture, rows: Shaped[np.ndarray, "N D"]
) -> Iterator[tuple[Float[np.ndarray, "n D"], Float[np.ndarray, "n K"]]]:
  """Yield the images, some at a time, and the logarithms of weight times density of each component."""
  size, kept = mixture.basis.shape[1:]
  means = np.asarray(mixture.means).reshape(-1, size)
  volume = (
    np.log(mixture.eigenvalues).sum(1) + (size - kept) * np.log(mixture.rest) + size * np.log(2 * np.pi)
  )
  with np.errstate(divide="ignore"):  # components without images
    constant = np.log(mixture.weights) - volume / 2
  chunk = max(CHUNK // size, 1)
  for start in range(0, len(rows), chunk):
    some = to_float(rows[start : start + chunk], np.float64)
    squares = np.empty((len(some), len(means)))
    for k, mean in enumerate(means):
      offset = some - mean
      modes = offset @ mixture.basis[k]
      squares[:, k] = modes**2 @ (1 / mixture.eigenvalues[k])
      if kept < size:
        squares[:, k] += np.sum((offset - modes @ mixture.basis[k].T) ** 2, axis=1) / mixture.rest[k]
    yield some, constant - squares / 2


def _expected(mixture: Mixture, rows: Shaped[np.ndarray, "N D"]) -> _Sums:
  means = mixture.means.reshape(len(mixture.means), -1)
  number, size = means.shape
  counts, first, second = np.zeros(number), np.zeros((number, size)), np.zeros((number, size, size))
  total = 0.0
  for some, joint in _joint(mixture, rows):
    evidence = scipy.special.logsumexp(joint, axis=1)
    shares = np.exp(joint - evidence[:, None])
    total += evidence.sum()
    for k, mean in enumerate(means):
      inside = shares[:, k] > NEGLIGIBLE
      share, offset = shares[inside, k], some[inside] - mean
      counts[k] += share.sum()
      first[k] += share @ offset
      second[k] += (share[:, None] * offset).T @ offset
  return _Sums(counts, first, second, total / len(rows))


def _likeliest(mixture: Mixture, sums: _Sums, least: float) -> Mixture:
  """Return the mixture of the largest expected log-likelihood, with variances of at least `least`."""
  size, kept = mixture.basis.shape[1:]
  _, means, basis, eigenvalues, rest = (np.array(leaf) for leaf in mixture)
  for k in np.flatnonzero(sums.counts):
    shift = sums.first[k] / sums.counts[k]
    means[k] += shift.reshape(means[k].shape)
    covariance = sums.second[k] / sums.counts[k] - np.outer(shift, shift)
    values, vectors = scipy.linalg.eigh(covariance, overwrite_a=True, check_finite=False, driver="evd")
    values = np.maximum(values[::-1], 0)
    basis[k] = vectors[:, ::-1][:, :kept]
    eigenvalues[k] = np.maximum(values[:kept], least)
    rest[k] = max(values[kept:].mean(), least) if kept < size else least
  return Mixture(sums.counts / sums.counts.sum(), means, basis, eigenvalues, rest)


def _dot(a: Float[ArrayLike, "..."], b: Float[ArrayLike, "..."]) -> Float[Array, "..."]:
  return jnp.matmul(a, b, precision="highest")


def check(where: str, shape: tuple[int, int, int], num: int, *, components: int, **options: float) -> None:
  """Refuse more components than there are images.

  Raises:
    ValueError: naming the option, with `where` before it.
  """
  if components > num:
    raise ValueError(f"`{where}components` is {components}; want at most the {num} images there are")


FAMILY = Family(
  title="Gaussian mixture",
  fit=fit,
  denoise=denoise,
  options={
    "components": Option(10, "Gaussians K, at most as many as images", 1, 10**6),
    "rank": Option(0, "directions of each component's own beside an isotropic rest, 0 for all", 0, 10**9),
    "floor": Option(ROUNDING, "least standard deviation in any direction, on the [-1, 1] scale", 1e-6, 1e6),
    "iterations": Option(100, "of expectation-maximisation, at most", 1, 10**6),
    "seed": Option(0, "of the images that it starts from", 0, 2**32 - 1),
  },
  kept=Mixture,
  check=check,
)
