"""What this machine is, and what it can do: the rates of a large matrix product and of memory."""

import importlib.util
import os
import pathlib
import platform
import re
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.workload import Facts, Side, Size

SIDE = 4096  # of the square matrices on a GPU; half as large on a CPU
COPIED = 2**26  # float32 values: 256 MB, beyond any cache
REPEATS = 3


def name() -> str:
  """Return the model of the GPU, or of the CPU and how many cores of it there are."""
  device = jax.devices()[0]
  if device.platform != "cpu":
    return f"{len(jax.devices())} × {device.device_kind}"
  found = re.search(r"model name\s*:\s*(.+)", _read("/proc/cpuinfo"))
  return f"{found.group(1).strip() if found else platform.processor() or platform.machine()}, {cores()} cores"


def cores() -> int:
  """Return how many cores this process may use."""
  return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def is_gpu() -> bool:
  """Return whether JAX computes on something else than the CPU."""
  return jax.devices()[0].platform != "cpu"


def others() -> float:
  """Return the processor seconds of all but this process and its ended children, where Linux says so."""
  if not (busy := re.search(r"cpu +(\d+) (\d+) (\d+) \d+ \d+ (.+)", _read("/proc/stat"))):
    return float("nan")
  interrupts_and_stolen = busy.group(4).split()[:3]
  ticks = sum(map(int, [*busy.groups()[:3], *interrupts_and_stolen]))
  return ticks / os.sysconf("SC_CLK_TCK") - sum(os.times()[:4])


def floor(size: Size, folder: pathlib.Path) -> Side:
  """Return what measures the rates, as facts: `flops` of float32 and `bytes`, each a second.

  The best of XLA's, NumPy's and PyTorch's matrix products counts, where the last is installed. A copy reads
  and writes each byte.
  """
  side = SIDE if is_gpu() else SIDE // 2
  a, product = jnp.ones((side, side)), jax.jit(lambda a: jnp.matmul(a, a, precision="highest"))
  products: list[Callable[[], object]] = [lambda: product(a).block_until_ready()]
  if is_gpu():
    b, copy = jnp.ones(2 * COPIED), jax.jit(lambda b: b + 1)
    return _rates(products, side, lambda: copy(b).block_until_ready(), 4 * b.size)
  matrix, source, target = np.ones((side, side), np.float32), *np.ones((2, COPIED), np.float32)
  out = np.empty_like(matrix)
  products.append(lambda: np.matmul(matrix, matrix, out=out))
  if importlib.util.find_spec("torch"):
    import torch

    tensor, result = torch.from_numpy(matrix), torch.from_numpy(out)
    products.append(lambda: torch.matmul(tensor, tensor, out=result))
  return _rates(products, side, lambda: np.copyto(target, source), source.nbytes)


def _rates(
  products: list[Callable[[], object]], side: int, copy: Callable[[], object], num_bytes: int
) -> Side:
  def run() -> Facts:
    flops = max(2 * side**3 / _best(product) for product in products)
    return {"flops": flops, "bytes": 2 * num_bytes / _best(copy)}

  return Side(run, lambda: np.zeros(1))


def _best(run: Callable[[], object]) -> float:
  taken = []
  for _ in range(REPEATS):
    start = time.perf_counter()
    run()
    taken.append(time.perf_counter() - start)
  return min(taken)


def _read(path: str) -> str:
  file = pathlib.Path(path)
  return file.read_text() if file.exists() else ""
