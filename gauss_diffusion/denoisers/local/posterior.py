"""A posterior of its own for every place of an image, gathered from patches as they stream by."""

from functools import reduce
from operator import add, itemgetter
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int32

from gauss_diffusion.denoisers.levels import Distance, Query, choose, gap
from gauss_diffusion.types import Array

Channels = tuple[Int32[Array, " n *place"], ...]  # of n images or patches, in centred levels


class Posterior(NamedTuple):
  """Sums over the patches seen so far, for each place; weights are relative to that of the nearest patch."""

  nearest: Distance  # [*place]
  total: Float[Array, "*place"]  # sum of weights; 0 where nothing has been seen
  weighted: tuple[Float[Array, "*place"], ...]  # weighted sums of the values that patches propose


def empty(zero: Float[Array, "*place"], channels: int) -> Posterior:
  """Return the posterior that has seen nothing, at places shaped as `zero`."""
  near, zero = jnp.zeros_like(zero, jnp.int32), jnp.zeros_like(zero)
  return Posterior(Distance(near, near, zero), zero, (zero,) * channels)


def maps(query: Query, y: Channels) -> Distance:
  """Return what each place adds to the distances of n images from a sample, of `query` [C, *place]."""
  p, q = query.p.astype(jnp.int32)[:, None], query.q.astype(jnp.int32)[:, None]
  return Distance(
    near=reduce(add, (each * (each - p[c]) for c, each in enumerate(y))),
    q_y=reduce(add, (each * q[c] for c, each in enumerate(y))),
    rest_y=reduce(add, (each * query.rest[c][None] for c, each in enumerate(y))),
  )


def absorb(
  posterior: Posterior,
  distance: Distance,
  taken: Bool[Array, " n *place"],
  values: Channels,
  unit: Float[Array, ""],
  variance: Float[Array, ""],
) -> Posterior:
  """Take n more patches at each place into account.

  Args:
    posterior: of the patches so far.
    distance: from the noisy sample to each patch, [n, *place].
    taken: which of them count.
    values: what each of them proposes, as many channels as the posterior has.
    unit: of the query.
    variance: of the noise, in squared levels.
  """
  order, last = jnp.arange(len(taken)).reshape(-1, *[1] * posterior.total.ndim), len(taken) - 1
  seen, before = (posterior.total > 0)[None], _row(posterior.nearest)
  best = before
  for _ in range(2):  # once to come near, once more because only then the gaps are exact
    excess = jnp.where(taken, gap(distance, best, unit), jnp.inf)
    least = jnp.min(excess, axis=0, keepdims=True)
    first = jnp.min(jnp.where(excess == least, order, last), axis=0, keepdims=True)  # argmin is much slower
    candidate = jax.tree.map(lambda leaf, at=first: jnp.take_along_axis(leaf, at, axis=0), distance)
    nearer = least < jnp.where(seen, gap(before, best, unit), jnp.inf)
    best = choose(nearer, candidate, before)
  weight = _weight(distance, best, taken, unit, variance)
  kept = _weight(before, best, seen, unit, variance)[0]
  weighted = [jnp.sum(weight * each, axis=0) for each in values]
  return Posterior(
    jax.tree.map(itemgetter(0), best),
    kept * posterior.total + jnp.sum(weight, axis=0),
    tuple(kept * old + new for old, new in zip(posterior.weighted, weighted, strict=True)),
  )


def weights(
  posterior: Posterior,
  distance: Distance,
  taken: Bool[Array, " n *place"],
  unit: Float[Array, ""],
  variance: Float[Array, ""],
) -> Float[Array, " n *place"]:
  """Return the weights of n patches at each place; over all that the posterior has seen they sum to 1."""
  total = jnp.where(posterior.total > 0, posterior.total, 1)[None]
  return _weight(distance, _row(posterior.nearest), taken, unit, variance) / total


def _row(distance: Distance) -> Distance:
  return jax.tree.map(lambda leaf: leaf[None], distance)


def _weight(
  distance: Distance,
  best: Distance,
  taken: Bool[Array, " n *place"],
  unit: Float[Array, ""],
  variance: Float[Array, ""],
) -> Float[Array, " n *place"]:
  excess = jnp.where(taken, gap(distance, best, unit), 0)  # chosen twice: what is left out has no derivative
  return jnp.where(taken, jnp.exp(-excess / (2 * variance)), 0)
