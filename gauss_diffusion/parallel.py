"""Device layout: the only file that knows of pmap.

One device is a device axis of length one, and one process the only one; there is no other code path. Host
arrays go in and come out, the same in every process; what happens between is the same maths on every shard.
"""

import functools
import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils
from jaxtyping import Bool, Float, Shaped

from gauss_diffusion.types import Array, Denoiser, Sigma

AXIS = "batch"
BATCH = 128  # samples in flight where nothing else is asked for, fewer when they are large
TOTALLED = 2**22  # numbers that processes tell each other at a time
LARGE = 32 * 32 * 3  # values in a sample above which it counts as large

Tree = TypeVar("Tree")  # a pytree of arrays, given back in the same structure


@functools.cache
def _pmapped(fn: Callable[..., Any], num_mapped: int) -> Callable[..., Any]:
  over_samples = jax.vmap(fn, in_axes=(None,) + (0,) * num_mapped)
  return jax.pmap(over_samples, AXIS, in_axes=(None,) + (0,) * num_mapped)


def shard(tree: Tree) -> Tree:
  """Split the leading axis of every leaf [n, ...] over the local devices, [devices, n / devices, ...]."""
  devices = jax.local_device_count()
  return jax.tree.map(lambda leaf: leaf.reshape(devices, -1, *leaf.shape[1:]), tree)


def put(tree: Tree) -> Tree:
  """Copy every leaf to each local device, once for all calls that map over them."""
  leaves, structure = jax.tree.flatten(tree)
  there = _replicated()
  # To ask JAX for what is there already costs a network of a hundred tensors milliseconds a call.
  missing = {i: leaf for i, leaf in enumerate(leaves) if getattr(leaf, "sharding", None) != there}
  placed = dict(enumerate(leaves)) | jax.device_put(missing, there)
  return jax.tree.unflatten(structure, [placed[i] for i in range(len(leaves))])


def _replicated() -> jax.sharding.NamedSharding:
  mesh = jax.sharding.Mesh(jax.local_devices(), AXIS)
  return jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())


def samples_in_flight(num_values: int) -> int:
  """Return how many samples to evaluate at once, given the number of values in one.

  A network's activations grow with the image: 128 samples of 128x128x3 need about 16 times the memory of
  128 samples of 32x32x3. So above `LARGE` values the number falls in inverse proportion, which keeps the
  memory about constant, but every device gets at least one sample. Up to `LARGE` it is always `BATCH`. So
  many are in flight in each process.
  """
  own = max(BATCH * LARGE // max(num_values, LARGE), jax.local_device_count())
  return own * jax.process_count()


def map_samples(fn: Callable[..., Any], shared: Any, *per_sample: Any, batch: int | None = None) -> Any:
  """Evaluate ``fn(shared, *one_of_each)`` for every sample: vmap in a device, pmap over all devices.

  Args:
    fn: module-level function of one sample; compiled once per function and shapes.
    shared: any pytree that every sample sees, such as ``(denoise, sigma)``; put on every device once.
    *per_sample: pytrees whose leaves share a leading axis of length n; the same in every process, each of
      which evaluates its share.
    batch: samples in flight at once, rounded up to a multiple of the device count; None lets
      the largest array of a sample decide, see `samples_in_flight`. Fewer samples are padded to as many,
      so that one compile serves any n.

  Returns:
    The outputs of all processes as NumPy arrays, stacked along a leading axis of length n.
  """
  leaves = jax.tree.leaves(per_sample)
  num = len(leaves[0])
  devices = jax.device_count()
  if batch is None:
    batch = samples_in_flight(max(math.prod(np.shape(leaf)[1:]) for leaf in leaves))
  batch = -(-batch // devices) * devices
  compiled, shared = _pmapped(fn, len(per_sample)), put(shared)
  pending, done = None, []
  for start in range(0, num, batch):
    # The last chunk is padded with its own first sample.
    index = np.arange(start, start + batch)
    index = np.where(index < num, index, start)[local_rows(batch)]
    chunk = shard(jax.tree.map(lambda leaf, index=index: np.asarray(leaf)[index], per_sample))
    out = compiled(shared, *chunk)
    if pending is not None:
      done.append(_everywhere(pending))
    pending = out
  done.append(_everywhere(pending))
  return jax.tree.map(lambda *leaves: np.concatenate(leaves)[:num], *done)


def _everywhere(out: Any) -> Any:
  """Return outputs [devices, n, ...] of all processes on every host, [n in all, ...]."""
  flat = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), jax.device_get(out))
  return multihost_utils.process_allgather(flat, tiled=True)


def denoise(
  denoiser: Denoiser, x: Float[np.ndarray, " n *image"], sigma: Sigma, *, batch: int | None = None
) -> Float[np.ndarray, " n *image"]:
  """Return ``D(x; sigma)`` for noisy images [n, H, W, C]: one compile for each kind of denoiser.

  Args:
    denoiser: evaluated by all devices.
    x: noisy images.
    sigma: their noise level.
    batch: samples in flight at once, see `map_samples`. A denoiser in closed form, which needs little memory,
      is faster with more of them.
  """
  return map_samples(_denoise, (denoiser, np.asarray(sigma, x.dtype)), x, batch=batch)


def _denoise(shared: tuple[Denoiser, Float[Array, ""]], x: Float[Array, "*image"]) -> Float[Array, "*image"]:
  denoiser, sigma = shared
  return denoiser(x, sigma)


def on_cpu() -> AbstractContextManager:
  """Let XLA compute what is the host's on a CPU, or where it always does when JAX is told to know none."""
  try:
    return jax.default_device(jax.local_devices(backend="cpu")[0])
  except RuntimeError:
    return nullcontext()


def replicate(tree: Tree) -> Tree:
  """Put a copy of every leaf on each device, which a step may be given for good; it has no device axis."""
  # From the host: of an array on a device the copy may be that very array, and go when the step takes it.
  return jax.device_put(jax.device_get(tree), _replicated(), may_alias=False)


def replicated_step(step: Callable[..., tuple[Any, Any]], split: int = 2) -> Callable[..., tuple[Any, Any]]:
  """Compile ``step(state, batch, keys, ...) -> (state, info)`` over the devices.

  The `split` arguments after the state are split over devices (see `shard`); the state and the info have no
  device axis, and the old state's buffers are given to the new one. The step itself must average its
  gradients over `AXIS`.
  """
  axes = (None, *[0] * split)
  return jax.pmap(step, AXIS, in_axes=axes, out_axes=(None, None), donate_argnums=0)


def mean(tree: Tree) -> Tree:
  """Average a pytree over all devices, inside a step."""
  return jax.lax.pmean(tree, AXIS)


def anywhere(flag: Bool[Array, " b"]) -> Bool[Array, ""]:
  """Tell whether a flag that is the same on all devices of a process is set in any process, inside a step."""
  # Devices that wait for each other once more cost a small network's step a tenth.
  return flag.any() if jax.process_count() == 1 else jax.lax.pmax(flag.any(), AXIS)


def local_rows(num: int) -> slice:
  """Return which of `num` rows of a global batch this process feeds to its devices."""
  share = num // jax.process_count()
  return slice(jax.process_index() * share, (jax.process_index() + 1) * share)


def own_rows(num: int) -> slice:
  """Return which of any number of rows that all processes have is this one's share."""
  count, index = jax.process_count(), jax.process_index()
  return slice(index * num // count, (index + 1) * num // count)


def share_rows(measure: Callable[..., Tree], x: Shaped[np.ndarray, "n ..."]) -> Tree:
  """Return what is measured of rows [n, ...] on the host, each process measuring its share of them.

  Args:
    measure: of any rows, a pytree of arrays with as many, of floats or of whole numbers below 2^53.
    x: the same in every process.
  """
  rows = own_rows(len(x))

  def everywhere(own: Shaped[np.ndarray, "own ..."]) -> Shaped[np.ndarray, "n ..."]:
    found = np.zeros((len(x), *own.shape[1:]))
    found[rows] = own
    return total(found).astype(own.dtype)

  return jax.tree.map(everywhere, measure(x[rows]))


def spread(tree: Tree) -> Tree:
  """Return leaves [devices, ...] that hold a copy on each local device."""
  return _spreading()(np.arange(jax.local_device_count()), tree)


@functools.cache
def _spreading() -> Callable[..., Any]:
  return jax.pmap(lambda _, leaves: leaves, AXIS, in_axes=(0, None))


def absorb(step: Callable[..., Tree], states: Tree, *blocks: Float[np.ndarray, "n _"], rows: int) -> Tree:
  """Carry a state on each local device over its share of this process's rows: ``state = step(state, *rows)``.

  Args:
    step: module-level function; compiled once for each number of rows.
    states: from `spread`, given to the new ones.
    *blocks: [n, ...] each; the last share is filled up with zeros, which must not matter.
    rows: at most so many in one step.
  """
  devices = jax.local_device_count()
  size = min(rows, -(-len(blocks[0]) // devices)) * devices
  for start in range(0, len(blocks[0]), size):
    some = [block[start : start + size] for block in blocks]
    full = [np.pad(block, ((0, size - len(block)), (0, 0))) for block in some]
    states = _carrying(step, len(blocks))(states, *shard(full))
  return states


@functools.cache
def _carrying(step: Callable[..., Any], num: int) -> Callable[..., Any]:
  return jax.pmap(step, AXIS, in_axes=(0,) * (1 + num), donate_argnums=0)


def add(total: Float[np.ndarray, "..."], parts: Float[Array, "devices ..."]) -> None:
  """Add what each local device holds to a float64 array on the host, one after the other."""
  for part in parts.addressable_shards:
    total += np.asarray(part.data)[0]


def total(array: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
  """Return the sum of the processes' float64 arrays, the same in each, in their order.

  Some at a time, as the bits that they are: between processes JAX has no float64.
  """
  flat = np.ascontiguousarray(array, np.float64).reshape(-1)
  for start in range(0, len(flat), TOTALLED):
    some = slice(start, start + TOTALLED)
    found = multihost_utils.process_allgather(flat[some].view(np.uint32))
    flat[some] = np.ascontiguousarray(found).view(np.float64).reshape(jax.process_count(), -1).sum(0)
  return flat.reshape(array.shape)
