"""Ramp-up, EMA and update against hand-written recurrences."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gauss_diffusion.training import train_state


def test_ema_forgets_half_in_a_half_life():
  decays = [train_state.ema_decay(jnp.asarray(step), 10, 200.0, 1e9) for step in range(20)]
  assert np.prod(decays) == pytest.approx(0.5, rel=1e-5)  # 20 steps of 10 images: one half-life; float32


def test_ema_ramps_up():
  # After n images the half-life is at most rampup * n.
  decay = train_state.ema_decay(jnp.asarray(4), 10, 1e9, 0.05)
  assert float(decay) == pytest.approx(0.5 ** (10 / (0.05 * 50)), rel=1e-5)


@pytest.mark.parametrize("rampup", [0, 50, 640])
def test_learning_rate_ramps_up_over_images(rampup):
  # Adam's first step is lr * sign(grad) up to eps, whatever the gradient: it shows the learning rate.
  tx = train_state.optimizer(1e-2, rampup, 10)
  state = tx.init(jnp.zeros(1))
  seen = []
  for _ in range(100):
    update, state = tx.update(jnp.ones(1), state)
    seen.append(-float(update[0]))
  want = 1e-2 * np.minimum((np.arange(100) + 1) * 10 / max(rampup, 10), 1)
  np.testing.assert_allclose(seen, want, rtol=1e-4)  # float32 moments of a constant gradient


def test_update_moves_the_average_towards_the_new_parameters():
  tx = optax.sgd(0.5)
  state = train_state.create({"w": jnp.asarray([1.0, 2.0])}, tx)
  new = train_state.update(state, {"w": jnp.asarray([2.0, 4.0])}, jnp.asarray(0.75), tx)
  np.testing.assert_array_equal(new.params["w"], [0.0, 0.0])
  np.testing.assert_array_equal(new.ema_params["w"], [0.75, 1.5])
  assert int(new.step) == 1


def test_the_average_starts_as_a_copy_so_that_both_can_be_donated():
  tx = optax.sgd(0.5)
  params = {"w": jnp.ones(3)}
  state = train_state.create(params, tx)
  step = jax.jit(lambda s: train_state.update(s, s.params, jnp.asarray(0.5), tx), donate_argnums=0)
  assert int(step(state).step) == 1


def trees():
  params = {"a": {"kernel": np.arange(6, dtype=np.float32).reshape(2, 3), "bias": np.ones(1, np.float32)}}
  state = train_state.create(params | {"b": np.float32([7, 8])}, train_state.optimizer(1e-3, 0, 16))
  moments = state.opt_state[0]
  moments = moments._replace(mu=jax.tree.map(lambda leaf: leaf + 10, state.params))
  return jax.device_get(state._replace(opt_state=(moments, *state.opt_state[1:]), step=np.int32(5)))


def test_a_packed_state_is_vectors_leaf_after_leaf():
  packed = train_state.pack(trees())
  want = np.float32([1, 0, 1, 2, 3, 4, 5, 7, 8])  # leaves by name: a.bias, a.kernel, b
  np.testing.assert_array_equal(packed.params, want)
  np.testing.assert_array_equal(packed.ema_params, want)
  np.testing.assert_array_equal(packed.opt_state[0].mu, want + 10)
  np.testing.assert_array_equal(packed.opt_state[0].nu, 0 * want)
  assert packed.step == 5 and packed.opt_state[0].count.shape == ()


def test_unpacking_gives_back_the_state():
  want = trees()
  shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), want.params)
  found = train_state.unpack(train_state.pack(want), shapes)
  assert jax.tree.structure(found) == jax.tree.structure(want)
  for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(want), strict=True):
    assert a.dtype == b.dtype
    np.testing.assert_array_equal(a, b)


def test_an_update_of_a_packed_state_is_that_of_its_trees():
  tx, state = train_state.optimizer(1e-2, 0, 16), trees()
  grads = jax.tree.map(lambda leaf: np.sin(leaf), state.params)
  want = train_state.update(state, grads, jnp.asarray(0.75), tx)
  packed = train_state.pack(state)
  vector = train_state.pack(state._replace(params=grads)).params
  found = train_state.unpack(train_state.update(packed, vector, jnp.asarray(0.75), tx), state.params)
  for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(want), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-6)  # float32, whose products and sums may be one rounding or two
