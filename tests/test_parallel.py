"""Device layout: what is mapped over eight devices equals what one loop computes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gauss_diffusion import parallel, statistics
from gauss_diffusion.probes import generalization


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


def test_samples_in_flight_fall_with_the_size_of_a_sample():
  for values, want in ((1, 128), (28 * 28, 128), (32 * 32 * 3, 128), (32 * 32 * 6, 64), (64 * 64 * 3, 32)):
    assert parallel.samples_in_flight(values) == want
  assert parallel.samples_in_flight(128 * 128 * 3) == 8
  assert parallel.samples_in_flight(1024 * 1024 * 3) == 8  # one a device


def in_flight(monkeypatch, x, **options):
  """Map `scaled` over `x`; return its result and the numbers of samples that were in flight."""
  seen, shard = [], parallel.shard

  def spy(chunk):
    seen.append(len(chunk[0]))
    return shard(chunk)

  with monkeypatch.context() as patch:
    patch.setattr(parallel, "shard", spy)
    out = parallel.map_samples(scaled, np.float32(2.0), x, np.arange(len(x), dtype=np.float32), **options)
  return out, seen


def test_the_result_does_not_depend_on_the_samples_in_flight(monkeypatch):
  x = np.random.default_rng(0).integers(0, 9, (20, 80, 80, 3)).astype(np.float32)  # sums below 2^24: exact
  want, seen = in_flight(monkeypatch, x, batch=128)
  assert seen == [128]
  np.testing.assert_array_equal(want["x"], x)
  got, seen = in_flight(monkeypatch, x)
  assert seen == [24]  # 128 * 32^2 / 80^2 is 20.48: 20 samples, three on each of eight devices
  np.testing.assert_array_equal(got["sum"], want["sum"])
  np.testing.assert_array_equal(got["x"], x)
  got, seen = in_flight(monkeypatch, np.repeat(x, 3, axis=0))
  assert seen == [24, 24, 24]
  np.testing.assert_array_equal(got["x"], np.repeat(x, 3, axis=0))


@pytest.mark.parametrize("shape", [(), (8, 8, 1), (32, 32, 3)])
def test_small_samples_are_padded_to_one_number_and_compile_once(shape, monkeypatch):
  traces = []

  def counted(shared, x, index):
    traces.append(1)
    return shared * x.sum() + index

  for num in (1, 100, 300):
    x = np.ones((num, *shape), np.float32)
    out = parallel.map_samples(counted, np.float32(1.0), x, np.arange(num, dtype=np.float32))
    np.testing.assert_array_equal(out, x[0].sum() + np.arange(num))
    assert in_flight(monkeypatch, x)[1] == [128] * -(-num // 128)
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


def test_put_leaves_alone_what_is_there():
  tree = {"a": np.arange(3.0, dtype=np.float32), "b": jnp.ones(2)}
  placed = parallel.put(tree)
  for name, leaf in placed.items():
    assert leaf.sharding.device_set == set(jax.local_devices())
    np.testing.assert_array_equal(leaf, tree[name])
  again = parallel.put(placed | {"c": np.float32(1)})
  assert again["a"] is placed["a"] and again["b"] is placed["b"] and again["c"] == 1


def test_a_replicated_state_is_the_step_s_own():
  step = parallel.replicated_step(lambda state, x, keys: (state + parallel.mean(x.sum()), ()))
  source = jnp.arange(4.0)
  x = parallel.shard(np.ones((jax.local_device_count(), 1), np.float32))
  state, _ = step(parallel.replicate(source), x, x)
  np.testing.assert_array_equal(state, np.arange(4.0) + 1)
  np.testing.assert_array_equal(source, np.arange(4.0))


def test_the_hosts_work_is_done_where_jax_knows_no_cpu(monkeypatch):
  known = jax.local_devices

  def without_cpu(*args, backend=None, **options):
    if backend == "cpu":
      raise RuntimeError("Unknown backend cpu")  # as JAX says with JAX_PLATFORMS=cuda
    return known(*args, backend=backend, **options)

  images = np.random.default_rng(0).integers(0, 256, (40, 4, 4, 3), np.uint8)
  x = images[:3].astype(np.float32) / np.float32(127.5) - 1
  want = generalization.neighbours(x, images), statistics.gaussian_stats(images)
  monkeypatch.setattr(jax, "local_devices", without_cpu)
  found = generalization.neighbours(x, images), statistics.gaussian_stats(images)
  jax.tree.map(np.testing.assert_array_equal, found, want)
