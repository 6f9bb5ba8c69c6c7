"""Device layout: what is mapped over eight devices equals what one loop computes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gauss_diffusion import parallel


def scaled(shared, x, y):
  return {"sum": shared * (x.sum() + y), "x": x}


@pytest.mark.parametrize("num", [1, 7, 8, 37])
@pytest.mark.parametrize("batch", [8, 16, 20, 256])
def test_map_samples_is_a_loop(num, batch):
  rng = np.random.default_rng(0)
  x, y = rng.integers(0, 9, (num, 3)).astype(np.float32), np.arange(num, dtype=np.float32)
  out = parallel.map_samples(scaled, np.float32(2.0), x, y, batch=batch)
  np.testing.assert_array_equal(out["sum"], 2 * (x.sum(1) + y))  # small integers: exact in float32
  np.testing.assert_array_equal(out["x"], x)


def test_one_compile_serves_other_values():
  traces = []

  def counted(shared, x):
    traces.append(1)
    return shared * x

  for factor in (1.0, 2.0):
    parallel.map_samples(counted, np.float32(factor), np.arange(40, dtype=np.float32), batch=16)
  assert len(traces) == 1


def test_step_averages_over_devices_and_keeps_no_device_axis():
  def step(state, batch, keys):
    del keys
    return state + parallel.mean(batch.mean()), parallel.mean(batch.max())

  batch = np.arange(16, dtype=np.float32)
  state, info = parallel.replicated_step(step)(jnp.zeros(()), parallel.shard(batch), parallel.shard(batch))
  assert state.shape == () and float(state) == batch.mean()
  assert float(info) == np.mean([1, 3, 5, 7, 9, 11, 13, 15])
  copies = [np.asarray(shard.data) for shard in state.addressable_shards]
  assert len(copies) == 8
  assert all(np.array_equal(copy, copies[0]) for copy in copies)


def test_shard_splits_the_leading_axis_in_order():
  np.testing.assert_array_equal(parallel.shard(np.arange(16)), np.arange(16).reshape(8, 2))
  assert parallel.local_rows(16) == slice(0, 16)
  assert jax.process_count() == 1
