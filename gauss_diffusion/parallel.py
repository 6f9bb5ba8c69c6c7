"""Device layout: the only file that knows of pmap.

One device is a device axis of length one, and one process the only one; there is no other code path. Host
arrays go in and come out, the same in every process; what happens between is the same maths on every shard.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils
from jaxtyping import Bool, Float

from gauss_diffusion.types import Array, Denoiser, Sigma

AXIS = "batch"
BATCH = 128  # samples in flight where nothing else is asked for, fewer when they are large
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
  mesh = jax.sharding.Mesh(jax.local_devices(), AXIS)
  return jax.device_put(tree, jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec()))


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
  denoiser: Denoiser, x: Float[np.ndarray, " n *image"], sigma: Sigma
) -> Float[np.ndarray, " n *image"]:
  """Return ``D(x; sigma)`` for noisy images [n, H, W, C]: one compile for each kind of denoiser."""
  return map_samples(_denoise, (denoiser, np.asarray(sigma, x.dtype)), x)


def _denoise(shared: tuple[Denoiser, Float[Array, ""]], x: Float[Array, "*image"]) -> Float[Array, "*image"]:
  denoiser, sigma = shared
  return denoiser(x, sigma)


def replicate(tree: Tree) -> Tree:
  """Put a copy of every leaf on each device; the result has no device axis."""
  copied = jax.pmap(lambda leaves, device: leaves, AXIS, in_axes=(None, 0), out_axes=None)
  return copied(tree, np.arange(jax.local_device_count()))


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
  """Tell whether a flag is set on any device, inside a step."""
  return jax.lax.pmax(flag.any(), AXIS)


def local_rows(num: int) -> slice:
  """Return which of `num` rows of a global batch this process feeds to its devices."""
  share = num // jax.process_count()
  return slice(jax.process_index() * share, (jax.process_index() + 1) * share)
