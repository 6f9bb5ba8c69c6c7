"""What the next training step needs, and how one step changes it.

A state is of trees, as networks and checkpoints have them, or packed: the parameters one vector, and so their
average and their moments. A step takes it packed: a hundred small tensors by themselves would cost a CPU a
fifth of a small network's step, most of it in devices that wait for each other once a tensor, and a fifth of
its compile.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Float, Int

from gauss_diffusion.types import Array, ArrayLike, Number


class TrainState(NamedTuple):
  """Everything that a resumed run must get back; keys and batches are derived from `step`."""

  step: Int[ArrayLike, ""]  # int32: updates made so far
  params: Any
  ema_params: Any  # exponential moving average of params: what is analysed
  opt_state: optax.OptState


def pack(state: TrainState) -> TrainState:
  """Return a state on the host with vectors for trees: the parameters, their average and their moments."""
  structure: Any = jax.tree.structure(state.params)

  def is_tree(node: Any) -> bool:
    return structure == jax.tree.structure(node)

  def packed(node: Any) -> Any:
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(node)]) if is_tree(node) else node

  return jax.tree.map(packed, jax.device_get(state), is_leaf=is_tree)


def unpack(state: TrainState, like: Any) -> TrainState:
  """Return the state on the host that `pack` was given; `like` as for `unravel`."""
  size = len(state.params)
  return jax.tree.map(
    lambda leaf: unravel(leaf, like) if leaf.shape == (size,) else leaf, jax.device_get(state)
  )


def unravel(vector: Float[ArrayLike, " P"], like: Any) -> Any:
  """Return the tree whose leaves, one after another, are a vector: views on the host, slices inside jit.

  Args:
    vector: of as many numbers as there are in the tree.
    like: a tree of this structure and these shapes, of arrays or `jax.ShapeDtypeStruct`.
  """
  leaves, structure = jax.tree.flatten(like)
  ends = np.cumsum([leaf.size for leaf in leaves])
  parts = [vector[end - leaf.size : end].reshape(leaf.shape) for leaf, end in zip(leaves, ends, strict=True)]
  return jax.tree.unflatten(structure, parts)


def create(params: Any, optimizer: optax.GradientTransformation) -> TrainState:
  """Return the state before the first step."""
  # The EMA starts as a copy, not an alias: a donated buffer may be given away only once.
  ema_params = jax.tree.map(jnp.copy, params)
  return TrainState(jnp.zeros((), jnp.int32), params, ema_params, optimizer.init(params))


def learning_rate_schedule(learning_rate: float, rampup_images: int, batch: int) -> optax.Schedule:
  """Return the learning rate of each step: a linear ramp over the first `rampup_images` images (EDM)."""
  warm = max(rampup_images // batch, 1)
  return optax.linear_schedule(learning_rate / warm, learning_rate, warm - 1)


def optimizer(learning_rate: float, rampup_images: int, batch: int) -> optax.GradientTransformation:
  """Return Adam under `learning_rate_schedule`."""
  return optax.adam(learning_rate_schedule(learning_rate, rampup_images, batch))


def ema_decay(
  step: Int[ArrayLike, ""], batch: int, halflife_images: float, rampup: float
) -> Float[Array, ""]:
  """Return the EMA's decay for one step: a half-life in images, shorter at first (EDM).

  ``0.5^(batch / min(halflife, rampup * images_seen))``: early on the average forgets the
  initial weights instead of carrying them for a whole half-life.
  """
  images = (step + 1) * batch
  return 0.5 ** (batch / jnp.minimum(halflife_images, rampup * images))


def update(state: TrainState, grads: Any, decay: Number, tx: optax.GradientTransformation) -> TrainState:
  """Apply one optimizer update and move the average: ``ema <- decay ema + (1 - decay) params``."""
  updates, opt_state = tx.update(grads, state.opt_state, state.params)
  params = optax.apply_updates(state.params, updates)
  ema_params = optax.incremental_update(params, state.ema_params, 1 - decay)
  return TrainState(state.step + 1, params, ema_params, opt_state)
