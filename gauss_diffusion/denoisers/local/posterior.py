"""A posterior of its own for every place of an image, gathered from patches as they stream by.

A sample in two parts does, `levels.halves`: what float32 leaves of ``rest . y``, below 1e-4 squared levels
over a thousand values at low noise, moves weights by it over 2 (127.5 σ)², and a mean of patches σ apart by
less than its own rounding.
"""

from collections.abc import Callable
from functools import reduce
from operator import add
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int32

from gauss_diffusion.denoisers import levels
from gauss_diffusion.denoisers.levels import Distance, Query, choose, gap
from gauss_diffusion.types import Array

FAR = 16  # a patch of more than e^FAR times the weight of the reference becomes the reference

Channels = tuple[Int32[Array, " n *place"], ...]  # of n images or patches, in centred levels


class Posterior(NamedTuple):
  """Sums over the patches seen so far, for each place; weights are relative to that of a patch near by."""

  reference: Distance  # [*place], of a patch that has been seen
  sums: tuple[Float[Array, "*place"], ...]  # of weights, 0 where nothing has been seen; of weighted values


def empty(zero: Float[Array, "*place"], channels: int) -> Posterior:
  """Return the posterior that has seen nothing, at places shaped as `zero`."""
  zero, none = jnp.zeros_like(zero), jnp.zeros_like(zero, jnp.int32)
  return Posterior(Distance(none, none, zero), (zero,) * (1 + channels))


def mean(posterior: Posterior) -> Float[Array, "*place C"]:
  """Return the posterior mean of the values that patches propose."""
  total, *weighted = posterior.sums
  return jnp.stack(weighted, axis=-1) / total[..., None]


def split(x: Float[Array, "*image"]) -> Query:
  """Return a noisy sample on the [-1, 1] scale in levels."""
  return levels.halves(x, levels.BLOCK)


def maps(query: Query, y: Channels) -> Distance:
  """Return what each place adds to the distances of n images from a sample, of `query` [C, *place]."""
  q = query.q.astype(jnp.int32)[:, None]
  return Distance(
    near=reduce(add, (each * each for each in y)),
    q_y=reduce(add, (each * q[c] for c, each in enumerate(y))),
    rest_y=reduce(add, (each * query.rest[c][None] for c, each in enumerate(y))),
  )


def summed(values: Channels, weight: Float[Array, " n *place"]) -> tuple[Float[Array, "*place"], ...]:
  """Return the sums of weights, and of values by weight: what `absorb` asks of its patches."""
  return jnp.sum(weight, axis=0), *(jnp.sum(weight * each, axis=0) for each in values)


def absorb(
  posterior: Posterior,
  distance: Distance,
  taken: Bool[Array, " n *place"],
  summed: Callable[[Float[Array, " n *place"]], tuple[Float[Array, "*place"], ...]],
  unit: Float[Array, ""],
  variance: Float[Array, ""],
) -> Posterior:
  """Take n more patches at each place into account.

  Args:
    posterior: of the patches so far.
    distance: from the noisy sample to each patch, [n, *place].
    taken: which of them count.
    summed: from their weights to what the posterior sums, see there.
    unit: of the query.
    variance: of the noise, in squared levels.
  """
  before, seen = posterior.reference, posterior.sums[0] > 0
  reference = _at(_nearer(distance, taken, before, seen, unit, variance), distance, before)
  weight = _weight(distance, _row(reference), taken, unit, variance)
  kept = _weight(before, reference, seen, unit, variance)
  return Posterior(
    reference, tuple(kept * old + new for old, new in zip(posterior.sums, summed(weight), strict=True))
  )


def weights(
  posterior: Posterior,
  distance: Distance,
  taken: Bool[Array, " n *place"],
  unit: Float[Array, ""],
  variance: Float[Array, ""],
) -> Float[Array, " n *place"]:
  """Return the weights of n patches at each place; over all that the posterior has seen they sum to 1."""
  total = posterior.sums[0]
  total = jnp.where(total > 0, total, 1)[None]
  return _weight(distance, _row(posterior.reference), taken, unit, variance) / total


def _nearer(
  distance: Distance,
  taken: Bool[Array, " n *place"],
  before: Distance,
  seen: Bool[Array, "*place"],
  unit: Float[Array, ""],
  variance: Float[Array, ""],
) -> Int32[Array, "*place"]:
  """Return which patch each place takes its distances from, -1 for that of before.

  Again and again until none is much nearer: gaps are exact from a reference near by alone. Mostly none is.
  """
  distance, before = jax.lax.stop_gradient((distance, before))
  order = jnp.arange(len(taken), dtype=jnp.int32).reshape(-1, *[1] * seen.ndim)

  def excess(at):
    return jnp.where(taken, gap(distance, _row(_at(at, distance, before)), unit), jnp.inf)

  def look(at):
    least = jnp.min(excess(at), axis=0)
    return at, least, least < jnp.where(seen | (at >= 0), -2 * FAR * variance, jnp.inf)

  def move(state):
    at, least, ahead = state
    first = jnp.min(jnp.where(excess(at) == least[None], order, len(order) - 1), axis=0)  # argmin is slower
    return look(jnp.where(ahead, first, at))

  start = look(jnp.full_like(before.near, -1))
  return jax.lax.while_loop(lambda state: jnp.any(state[2]), move, start)[0]


def _at(at: Int32[Array, "*place"], distance: Distance, before: Distance) -> Distance:
  place = jnp.maximum(at, 0)[None]
  there = jax.tree.map(lambda leaf: jnp.take_along_axis(leaf, place, axis=0)[0], distance)
  return choose(at >= 0, there, before)


def _row(distance: Distance) -> Distance:
  return jax.tree.map(lambda leaf: leaf[None], distance)


def _weight(
  distance: Distance,
  reference: Distance,
  taken: Bool[Array, "*n"],
  unit: Float[Array, ""],
  variance: Float[Array, ""],
) -> Float[Array, "*n"]:
  excess = jnp.where(taken, gap(distance, reference, unit), 0)  # twice: what is left out has no derivative
  return jnp.where(taken, jnp.exp(-excess / (2 * variance)), 0)
