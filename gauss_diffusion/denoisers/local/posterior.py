"""A posterior of its own for every place of an image, gathered from patches as they stream by."""

from collections.abc import Callable
from functools import reduce
from operator import add
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int32

from gauss_diffusion.types import Array

FAR = 16  # a patch of more than e^FAR times the weight of the reference becomes the reference

Channels = tuple[Int32[Array, " n *place"], ...]  # of n images or patches, in centred levels


class Query(NamedTuple):
  """The noisy sample in centred levels, ``u = unit whole + rest``: two parts do for patches."""

  whole: Float[Array, "*image"]  # integers, -256 to 256; constant steps
  unit: Float[Array, ""]  # a power of two, at least 1/2
  rest: Float[Array, "*image"]  # |rest| <= unit / 2; carries the derivative


class Distance(NamedTuple):
  """Squared distance from a sample to a patch, ``|y - u|² - |u|² = square - 2 unit whole_y - 2 rest_y``.

  All but the last is exact. What float32 leaves of that, below 1e-4 squared levels over a thousand values
  where unit is 1/2, moves weights by it over 2 (127.5 σ)²: a mean of patches σ apart moves by less than its
  own rounding.
  """

  square: Int32[Array, "*n"]  # |y|²
  whole_y: Int32[Array, "*n"]  # whole · y
  rest_y: Float[Array, "*n"]  # rest · y


class Posterior(NamedTuple):
  """Sums over the patches seen so far, for each place; weights are relative to that of a patch near by."""

  reference: Distance  # [*place], of a patch that has been seen
  sums: tuple[Float[Array, "*place"], ...]  # of weights, 0 where nothing has been seen; of weighted values


def split(x: Float[Array, "*image"]) -> Query:
  """Return a noisy sample on the [-1, 1] scale in levels."""
  _, exponent = jnp.frexp(jnp.max(jnp.abs(128 * jax.lax.stop_gradient(x))) / 256)
  unit = jnp.ldexp(jnp.ones((), x.dtype), jnp.maximum(exponent, -1))
  whole = jnp.clip(jnp.round((127.5 * x - 0.5) / unit), -256, 256)
  return Query(whole, unit, (128 * x - unit * whole) - (x + 1) / 2)  # so ordered that little is rounded


def empty(zero: Float[Array, "*place"], channels: int) -> Posterior:
  """Return the posterior that has seen nothing, at places shaped as `zero`."""
  zero, none = jnp.zeros_like(zero), jnp.zeros_like(zero, jnp.int32)
  return Posterior(Distance(none, none, zero), (zero,) * (1 + channels))


def mean(posterior: Posterior) -> Float[Array, "*place C"]:
  """Return the posterior mean of the values that patches propose."""
  total, *weighted = posterior.sums
  return jnp.stack(weighted, axis=-1) / total[..., None]


def maps(query: Query, y: Channels) -> Distance:
  """Return what each place adds to the distances of n images from a sample, of `query` [C, *place]."""
  whole = query.whole.astype(jnp.int32)[:, None]
  return Distance(
    square=reduce(add, (each * each for each in y)),
    whole_y=reduce(add, (each * whole[c] for c, each in enumerate(y))),
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
    return jnp.where(taken, _gap(distance, _row(_at(at, distance, before)), unit), jnp.inf)

  def look(at):
    least = jnp.min(excess(at), axis=0)
    return at, least, least < jnp.where(seen | (at >= 0), -2 * FAR * variance, jnp.inf)

  def move(state):
    at, least, ahead = state
    first = jnp.min(jnp.where(excess(at) == least[None], order, len(order) - 1), axis=0)  # argmin is slower
    return look(jnp.where(ahead, first, at))

  start = look(jnp.full_like(before.square, -1))
  return jax.lax.while_loop(lambda state: jnp.any(state[2]), move, start)[0]


def _at(at: Int32[Array, "*place"], distance: Distance, before: Distance) -> Distance:
  def pick(each, old):
    return jnp.where(at >= 0, jnp.take_along_axis(each, jnp.maximum(at, 0)[None], axis=0)[0], old)

  return jax.tree.map(pick, distance, before)


def _row(distance: Distance) -> Distance:
  return jax.tree.map(lambda leaf: leaf[None], distance)


def _gap(a: Distance, b: Distance, unit: Float[Array, ""]) -> Float[Array, "*n"]:
  return (a.square - b.square) - 2 * unit * (a.whole_y - b.whole_y) - 2 * (a.rest_y - b.rest_y)


def _weight(
  distance: Distance,
  reference: Distance,
  taken: Bool[Array, "*n"],
  unit: Float[Array, ""],
  variance: Float[Array, ""],
) -> Float[Array, "*n"]:
  excess = jnp.where(
    taken, _gap(distance, reference, unit), 0
  )  # chosen twice: what is left out has no derivative
  return jnp.where(taken, jnp.exp(-excess / (2 * variance)), 0)
