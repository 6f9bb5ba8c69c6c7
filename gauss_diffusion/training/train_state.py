"""What the next training step needs, and how one step changes it."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Float, Int

from gauss_diffusion.types import Array, ArrayLike, Number


class TrainState(NamedTuple):
  """Everything that a resumed run must get back; keys and batches are derived from `step`."""

  step: Int[ArrayLike, ""]  # int32: updates made so far
  params: Any
  ema_params: Any  # exponential moving average of params: what is analysed
  opt_state: optax.OptState


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
