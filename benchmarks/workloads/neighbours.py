"""The two nearest of 50,000 training images to each of 1000 samples."""

import pathlib

import numpy as np

from benchmarks import images
from benchmarks.workload import Peer, Side, Size, Work, Workload, timed
from gauss_diffusion.probes import generalization

NOISE = 0.1  # of a sample


def training(size: Size) -> np.ndarray:
  """Return the images that are searched."""
  return images.made_up(size["images"], size["side"], size["channels"])


def samples(size: Size) -> np.ndarray:
  """Return images of the same law, half of them noisy training images, half not seen in training."""
  half = size["samples"] // 2
  new = images.made_up(size["samples"] - half, size["side"], size["channels"], seed=1)
  return images.noisy(np.concatenate([training(size)[:half], new]), NOISE)


def ours(size: Size, folder: pathlib.Path) -> Side:
  """Return the package's search, exact, of uint8 images."""
  x, y = samples(size), training(size)
  side = timed(lambda: generalization.neighbours(x, y))
  return side._replace(answer=lambda: generalization.neighbours(x, y).distance)


def faiss_flat(size: Size, folder: pathlib.Path) -> Side:
  """Return faiss' exact index on float32 rows, built beforehand."""
  import faiss

  x, y = samples(size).reshape(size["samples"], -1), training(size).reshape(size["images"], -1)
  index = faiss.IndexFlatL2(y.shape[1])
  index.add(y.astype(np.float32) / 127.5 - 1)
  side = timed(lambda: index.search(x, 2))
  return side._replace(answer=lambda: np.sqrt(np.maximum(index.search(x, 2)[0], 0)))


def product(size: Size) -> Work:
  """Return one product of samples and images, and reading these once as uint8."""
  values = size["images"] * size["side"] ** 2 * size["channels"]
  return Work(2.0 * size["samples"] * values, 1.0 * values)


WORKLOADS = {
  "neighbours": Workload(
    "Nearest neighbours, 1000 samples × 50,000 images, d = 3072",
    ours,
    {"faiss, flat": Peer("faiss", faiss_flat)},
    {"images": 50_000, "samples": 1000, "side": 32, "channels": 3},
    {"images": 300, "samples": 20, "side": 8, "channels": 1},
    product,
    1e-4,
    (0.9, 1.5),
  )
}
