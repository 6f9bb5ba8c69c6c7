"""What is measured, and why its time grows as it does."""

from collections.abc import Sequence
from typing import NamedTuple

CHANNELS = 3


class Point(NamedTuple):
  """How much of everything a task has."""

  task: str
  images: int = 10_000  # of which there are statistics, or that are remembered
  side: int = 32  # of an image, in pixels, of three channels
  samples: int = 64  # denoised, compared, drawn or trained with at a time
  levels: int = 1  # of noise
  devices: int = 0  # 0 for one a core

  @property
  def values(self) -> int:
    """Return the values of an image."""
    return CHANNELS * self.side**2


class Curve(NamedTuple):
  """Points that differ in one field, and why time grows as it does there."""

  task: str
  over: str
  at: Sequence[int]
  why: str
  fixed: dict[str, int] = {}

  def points(self) -> list[Point]:
    """Return them."""
    return [Point(self.task, **self.fixed | {self.over: value}) for value in self.at]


FEW, SAMPLES = (8, 64, 512), (1, 8, 64, 512)
CURVES = (
  Curve(
    "statistics",
    "images",
    (1_000, 2_000, 10_000, 50_000),
    "N D² sums, beside D³ of the eigenvectors",
    {"side": 16},
  ),
  Curve("statistics", "side", (4, 8, 16, 32), "N D² sums, then D³ of the eigenvectors"),
  Curve("Gaussian", "side", (4, 8, 16, 32), "two products with a D × D eigenbasis"),
  Curve("Gaussian", "samples", SAMPLES, "few samples wait for the eigenbasis to be read"),
  Curve("Gaussian", "levels", (1, 4, 16), "every level has a product there and one back"),
  Curve("Gaussian", "devices", (1, 2), "one has both cores for a product; two read the eigenbasis twice"),
  Curve("multi-delta", "images", (1_000, 5_000, 20_000, 50_000), "products with every image"),
  Curve("multi-delta", "side", (8, 16, 32, 64), "D values an image; chunks of large ones leave the cache"),
  Curve("multi-delta", "samples", SAMPLES, "few samples wait for images to be read and squared"),
  Curve("multi-delta", "levels", (1, 4, 16), "every level has weights of its own"),
  Curve(
    "multi-delta", "devices", (1, 2), "one has both cores for a product; two make floats of images twice"
  ),
  Curve("neighbours", "images", (1_000, 5_000, 20_000, 50_000), "bounds for every pair, values for few"),
  Curve(
    "neighbours",
    "side",
    (8, 16, 32, 64),
    "D values an image are read and projected; bounds of pairs do not grow",
  ),
  Curve("neighbours", "samples", FEW, "images are read and projected once for all samples"),
  Curve("best affine map", "side", (8, 16, 32), "D² sums over 2 D pairs, then equations of D unknowns: D³"),
  Curve(
    "three training steps", "side", (8, 16, 32), "convolutions have D places; small images wait for devices"
  ),
  Curve(
    "three training steps", "samples", (16, 64, 256), "each image by itself; small batches wait for devices"
  ),
  Curve("three training steps", "devices", (1, 2), "devices share the batch, and sum gradients once"),
  Curve("sampling", "levels", (5, 10, 40), "a call of the network a level", {"side": 16}),
  Curve("sampling", "samples", FEW, "each sample by itself", {"side": 16, "levels": 10}),
)
SMALL, BIG = {"side": 8, "samples": 8}, {"side": 64, "samples": 8}
LARGE = (
  Curve("statistics", "images", (10_000, 100_000, 1_000_000), "", SMALL),
  Curve("mixture", "images", (10_000, 100_000), "", SMALL),
  Curve("neighbours", "images", (10_000, 100_000, 1_000_000), "", SMALL),
  Curve("multi-delta, streamed", "images", (10_000, 100_000, 1_000_000), "", SMALL),
  Curve("statistics", "images", (20_000, 100_000), "", BIG),
  Curve("neighbours", "images", (10_000, 100_000, 1_000_000), "", BIG),
  Curve("multi-delta, streamed", "images", (10_000, 100_000, 1_000_000), "", BIG),
  Curve("best affine map", "side", (64,), ""),
)
REAL = ("neighbours", "multi-delta, streamed")
