"""Run every point in a process of its own, and say what it took."""

import json
import pathlib
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.tree_util import Partial

from benchmarks import machine
from benchmarks.curves.points import CHANNELS, REAL, Curve, Point

ROOT = pathlib.Path(__file__).parents[2]
PERIOD = 0.01  # seconds between two looks at memory
BLOCK = 2**24  # bytes of images that are generated at a time


def prepare(point: Point, images: np.ndarray) -> Callable[[], Any]:
  """Return the task, ready to run on images [N, H, W, C]."""
  from gauss_diffusion import distill, edm, parallel, statistics
  from gauss_diffusion.denoisers import gaussian, levels, mixture, multi_delta
  from gauss_diffusion.probes import generalization
  from gauss_diffusion.types import GaussianStats

  rng = np.random.default_rng(1)
  x = rng.standard_normal((point.samples, point.side, point.side, CHANNELS), np.float32)
  sigmas = edm.sigma_grid(point.levels) if point.levels > 1 else [1.0]

  def denoise(denoiser):
    denoiser = parallel.put(denoiser)
    return lambda: [parallel.denoise(denoiser, x * np.float32(s), s, batch=len(x)) for s in sigmas]

  match point.task:
    case "statistics":
      return lambda: statistics.gaussian_stats(images)
    case "mixture":
      return lambda: mixture.fit(images, components=2, rank=4, floor=0.01, iterations=2, seed=0)
    case "best affine map":  # of one that is affine and of low rank, from the fewest pairs
      basis = np.linalg.qr(rng.standard_normal((point.values, 16), np.float32))[0]
      stats = GaussianStats(np.zeros(x.shape[1:], np.float32), basis, np.ones(16, np.float32))
      affine, key = Partial(gaussian.denoise, stats), jax.random.key(0)
      return lambda: distill.closed_form(affine, images, [1.0], key, num_pairs=2 * point.values)
    case "neighbours":
      return lambda: generalization.neighbours(x, images)
    case "multi-delta":
      return denoise(Partial(multi_delta.denoise, np.asarray(images)))
    case "multi-delta, streamed":
      return denoise(Partial(multi_delta.denoise, levels.Streamed(images)))
    case "Gaussian":  # any numbers take as long
      basis = rng.standard_normal((point.values, point.values), np.float32) / point.values**0.5
      stats = GaussianStats(np.zeros(x.shape[1:], np.float32), basis, np.ones(point.values, np.float32))
      return denoise(Partial(gaussian.denoise, stats))
  return _network(point, x)


def _network(point: Point, x: np.ndarray) -> Callable[[], Any]:
  from benchmarks import network
  from benchmarks.workloads import sampling, training

  size = network.sized(point.side, CHANNELS, 16, (1, 2, 2)) | {"batch": len(x), "dtype": "float32"}
  folder = pathlib.Path(tempfile.mkdtemp())
  if point.task == "three training steps":
    return training.ours(size | {"steps": 3}, folder).run
  return sampling.ours(size | {"levels": point.levels}, folder).run


def own_memory() -> int:
  """Return the bytes of memory that are this process's own: pages of mapped files are not."""
  return 1024 * int(pathlib.Path("/proc/self/status").read_text().split("RssAnon:")[1].split()[0])


def measure(point: Point, path: str, once: bool) -> dict[str, float]:
  """Return the seconds of a task on the first images of a file, and the bytes that it adds to memory."""
  jax.config.update("jax_num_cpu_devices", point.devices or machine.cores())
  images = np.load(path, mmap_mode="r")[: point.images]
  few = point._replace(images=16, samples=2, levels=min(point.levels, 2))
  prepare(few, images[:16])()  # loads libraries
  before, peak, done = own_memory(), [0], threading.Event()

  def look():
    while not done.wait(PERIOD):
      peak[0] = max(peak[0], own_memory())

  watch, start = threading.Thread(target=look), time.perf_counter()
  watch.start()
  run = prepare(point, images)
  run()
  seconds = time.perf_counter() - start
  done.set()
  watch.join()
  if not once:
    start = time.perf_counter()
    run()
    seconds = time.perf_counter() - start
  return {"seconds": seconds, "memory": max(peak[0] - before, 0)}


def generate(path: pathlib.Path, num: int, side: int) -> None:
  """Write uniform pixels, some at a time."""
  file = np.lib.format.open_memmap(path, "w+", np.uint8, (num, side, side, CHANNELS))
  step, rng = max(BLOCK // file[0].size, 1), np.random.default_rng(0)
  for start in range(0, num, step):
    some = file[start : start + step]
    some[:] = np.frombuffer(rng.bytes(some.size), np.uint8).reshape(some.shape)


def rows(curves: Sequence[Curve], once: bool, quick: bool, real: str = "") -> list[dict[str, Any]]:
  """Return what every point took; those of one size of image share a file."""
  points = [point for curve in curves for point in curve.points()]
  if quick:
    points = [_few(point) for point in points]
  points, found = list(dict.fromkeys(points)), []
  with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder) / "images.npy"

    def add(kind, some):
      for point in some:
        asked = ["--point", json.dumps(point), "--file", str(path)] + ["--once"] * once
        command = [sys.executable, "-m", "benchmarks.curves", *asked]
        said = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
        if said.returncode:
          raise SystemExit(f"error: {point}: {said.stderr.strip().splitlines()[-1]}")
        taken = json.loads(said.stdout.splitlines()[-1])
        found.append({"kind": kind, "values": point.values} | point._asdict() | taken)
        print(found[-1], file=sys.stderr, flush=True)

    for side in dict.fromkeys(point.side for point in points):
      own = [point for point in points if point.side == side]
      generate(path, max(point.images for point in own), side)
      add("generated", own)
    if real:
      with np.load(real) as stored:
        images = next(stored[key] for key in stored if stored[key].ndim == 4)
      np.save(path, images)
      add("real", [Point(task, len(images), images.shape[1], 8) for task in REAL])
  return found


def _few(point: Point) -> Point:
  return point._replace(
    images=min(point.images, 64),
    side=min(point.side, 8),
    samples=min(point.samples, 8),
    levels=min(point.levels, 2),
    devices=min(point.devices, machine.cores()),
  )
