"""Images that occur again: copies in the pool count double, and held-out copies of training images leak.

A network denoises an image that it has seen, or nearly seen, better than one that it has not: what looks like
generalization may be a copy.
"""

import hashlib
import itertools
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from gauss_diffusion.data import pixels
from gauss_diffusion.types import Images, Pixels

# Two images are near when their pixels differ by at most so much, root mean square, in grey levels of 255:
# one is the other encoded again, retouched or marked. Digits of 8 x 8 are at least 10.6 apart, 6,102 images
# of lossless CIFAR-10 17.7: nothing distinct is lost. An image recoloured or moved is farther, and not found.
NEAR = 8
GRID = 8  # blocks a side, whose means tell most images apart
COMPONENTS = 96  # of the blocks' principal components: at 32 half of all pairs of white noise seem near
SLACK = 0.1  # grey levels by which rounding in float32 may overestimate the distance of means
ROWS, PARTNERS = 128, 4096  # images that are compared at a time, fewer partners where they are large


class Duplicates(NamedTuple):
  """How many images of a data set occur again; near counts the exact ones too."""

  repeated: int = 0  # images of the pool equal to another that stays
  repeated_near: int = 0
  leaked: int = 0  # held-out images equal to one of the pool
  leaked_near: int = 0


def one_alone(images: Images) -> bool:
  """Tell whether all images are equal; two that differ end the search."""
  return all(np.array_equal(image, images[0]) for image in images)


def kin(images: Images, test: Images) -> Int[np.ndarray, "2 L"]:
  """Group images that are equal, in the first row, and near, in the second: kin have one number.

  Near images are near to one of their group, and may be farther from others of it. The means over blocks of
  two images differ by no more than their pixels, ``Σ_b n_b (x̄_b − ȳ_b)² ≤ ‖x − y‖²`` (Jensen), and so do
  projections of these: those that differ by more are told apart without looking at pixels, and no pair is
  missed. Memory beside the images is a kilobyte for each.

  Floats have no grey levels by which they could be near: near are those that are equal.

  Args:
    images: N of them.
    test: M more, of the same shape.

  Returns:
    Numbers of groups, for all L = N + M images in this order.
  """
  every = pixels.kept(itertools.chain(pixels.blocks(images), pixels.blocks(test))) if len(test) else images
  equal = _equal(every)
  if every.dtype != np.uint8:
    return np.stack([equal, equal])
  distinct = np.flatnonzero(equal == np.arange(len(every)))
  groups = np.empty(len(every), int)
  groups[distinct] = distinct[_near(every, distinct)]
  return np.stack([equal, groups[equal]])


def firsts(groups: Int[np.ndarray, " N"]) -> Bool[np.ndarray, " N"]:
  """Tell which entries are the first of their group."""
  first = np.zeros(len(groups), bool)
  first[np.unique(groups, return_index=True)[1]] = True
  return first


def count(pool: Int[np.ndarray, "2 N"], held_out: Int[np.ndarray, "2 M"]) -> Duplicates:
  """Count what occurs again, given the rows of `kin` for the images of the pool and for those held out."""
  repeated = [int((~firsts(groups)).sum()) for groups in pool]
  leaked = [int(np.isin(apart, groups).sum()) for groups, apart in zip(pool, held_out)]
  return Duplicates(repeated[0], repeated[1], leaked[0], leaked[1])


def _equal(images: Images) -> Int[np.ndarray, " N"]:
  """Return for each image the index of the first that equals it."""
  first: dict[bytes, int] = {}
  return np.array([first.setdefault(hashlib.sha256(image).digest(), i) for i, image in enumerate(images)])


def _near(images: Pixels, distinct: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
  """Return a number for each of the distinct images, the same for those joined by steps between near ones."""
  means = _means(images, distinct)
  order = np.argsort(means[:, 0], kind="stable")
  means, members, groups = means[order], distinct[order], np.arange(len(order))
  norms = (means * means).sum(1)
  for start in range(0, len(order), ROWS):
    rows = means[start : start + ROWS]
    # Sorted along the first component, images that differ by more in it alone follow in one piece.
    stop = np.searchsorted(means[:, 0], rows[-1, 0] + NEAR + SLACK, side="right")
    if (groups[start:stop] == groups[start]).all():
      continue  # they are kin already
    gaps = norms[start : start + ROWS, None] + norms[None, start:stop] - 2 * rows @ means[start:stop].T
    alike = gaps <= (NEAR + SLACK) ** 2
    for row in np.flatnonzero(alike.sum(1) > 1):  # each is like itself
      here, others = start + row, start + np.flatnonzero(alike[row])
      others = others[(others > here) & (groups[others] != groups[here])]
      for part in range(0, len(others), _partners(images)):
        partners = others[part : part + _partners(images)]
        gap = images[members[partners]].astype(np.int32) - images[members[here]]
        near = (gap * gap).sum((1, 2, 3), dtype=np.int64) <= NEAR**2 * images[0].size
        groups[np.isin(groups, groups[partners[near]])] = groups[here]
  found = np.empty(len(order), int)
  found[order] = order[groups]
  return found


def _means(images: Pixels, distinct: Int[np.ndarray, " n"]) -> Float[np.ndarray, "n K"]:
  """Return principal components of block means, as far apart at most as the images, in RMS."""
  edges = [np.unique(np.linspace(0, side, GRID, endpoint=False).astype(int)) for side in images.shape[1:3]]
  heights, widths = (np.diff(np.append(edge, side)) for edge, side in zip(edges, images.shape[1:3]))
  scale = np.sqrt(np.outer(heights, widths)[..., None] * images[0].size)
  parts = []
  for start in range(0, len(distinct), _partners(images)):
    part = images[distinct[start : start + _partners(images)]]
    sums = np.add.reduceat(np.add.reduceat(part, edges[0], 1, dtype=np.uint32), edges[1], 2)
    parts.append((sums / scale).reshape(len(part), -1).astype(np.float32))
  means = np.concatenate(parts)
  means -= means.mean(0)
  axes = np.linalg.eigh((means.T @ means).astype(float))[1][:, ::-1]
  return means @ axes[:, :COMPONENTS].astype(np.float32)


def _partners(images: Pixels) -> int:
  return max(min(PARTNERS, pixels.BLOCK // (4 * images[0].nbytes)), 1)  # they become integers of 4 bytes
