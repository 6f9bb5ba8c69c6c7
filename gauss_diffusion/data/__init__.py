"""Images of a study: decoded once to uint8, ordered the same on every machine, a held-out part kept apart.

Pixels stay uint8 ``[N, H, W, C]``; `images.to_float` takes them to [-1, 1] at the edge. Floats of any range,
such as latents, are float32 on the scale that `load` is told. Either lie in files that are mapped into memory
and need none of it (`pixels.kept`).

To add a data source, write ``decode(name, place, fit) -> Decoded`` in a file of its own, as `digits.py` does,
and name it in `SOURCES`.
"""

import functools
import hashlib
import os
import pathlib
import re
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Int, Int32, Shaped

from gauss_diffusion.command_line import printable
from gauss_diffusion.data import digits, duplicates, files, tfds
from gauss_diffusion.data import scale as scales
from gauss_diffusion.data.cache import entry_name, read_entry, write_entry
from gauss_diffusion.data.duplicates import Duplicates
from gauss_diffusion.data.pixels import Decoded, Fit, fit, is_pixels, rows
from gauss_diffusion.data.scale import Scale
from gauss_diffusion.types import Images

# Where images come from; any other name is a data set of TFDS. `place` is `data.path` where that is given,
# else the data directory, in which a source that reads files keeps them under its name.
SOURCES: dict[str, Callable[[str, pathlib.Path, Fit], Decoded]] = {
  "digits": digits.decode,
  "files": files.decode,
}
MAX_SIZE = 4096  # pixels a side that images may be resized to; a typing error would fill the memory


class Dataset(NamedTuple):
  """Training candidates and held-out images, each in an order that the seed alone decides."""

  title: str
  pool: Images  # its first n images are the training set of size n
  pool_ids: Shaped[np.ndarray, " N"]  # strings
  held_out: Images  # never in the pool
  held_out_ids: Shaped[np.ndarray, " M"]  # strings
  fingerprint: str  # of all of the above
  duplicates: Duplicates = Duplicates()  # that are in it
  dropped: int = 0  # images left out of it because they occur again
  pool_labels: Int32[np.ndarray, " N"] | None = None  # the class of each image, where the source tells
  held_out_labels: Int32[np.ndarray, " M"] | None = None
  classes: tuple[str, ...] = ()  # their names, by label; none where there are no labels
  scale: Scale | None = None  # what was done to floats; None for pixels


class Subset(NamedTuple):
  """Some images of the pool."""

  images: Images
  ids: Shaped[np.ndarray, " n"]  # strings
  fingerprint: str  # of all of the above, and not of the labels: most of what reads images reads no labels
  labels: Int32[np.ndarray, " n"] | None = None  # the class of each image, where the source tells
  label_fingerprint: str = ""  # of them, for what reads labels too


def load(
  name: str,
  *,
  dir: str = "",
  path: str = "",
  size: int = 0,
  crop: bool = False,
  held_out: int = 360,
  drop_duplicates: bool = False,
  scale: float | str = "",
  seed: int = 0,
  cache: str = "",
) -> Dataset:
  """Load a data set by name, from the cache where it has been decoded before.

  Images are sorted by id, then permuted by `seed`: the first n of the pool are a fair sample, nested
  in the first n + 1, and the same on every machine whatever the order on disk. Held-out images come from
  the source's own test split (TFDS ``test``, ``test_x`` of an .npz), else from the end of the pool.

  Args:
    name: "digits" (in the package, 8x8), "files" (the user's own), or any TFDS image data set.
    dir: TFDS data directory, which holds ``<name>/``; empty means TFDS's own default.
    path: for "files", a folder of images, a .zip of one, or an .npy/.npz of uint8 [N, H, W(, C)], or of
      floats, finite and of any number of channels, which are kept as float32. An .npz holds one image array,
      or ``train_x`` with optional ``test_x``, ``train_idx``, ``test_idx``, and labels ``train_y``,
      ``test_y``. For classes of a folder see `files`.
    size: resize to size x size pixels by antialiased Lanczos, after `crop`; 0 keeps the pixels.
    crop: cut the largest centred square first. Without it, `size` stretches an oblong image.
    held_out: number of images kept apart from the pool, at least 1.
    drop_duplicates: leave out all but the first image, in this order, of those that are equal or near, see
      `duplicates`; the first in the source's own test split where that has one of them.
    scale: of floats, which want one: a number that they are divided by, or "standardise", which takes the
      mean of all values that the source has beside its test split to 0, and their standard deviation to 0.5.
    seed: decides the order.
    cache: directory for decoded images; empty means ~/.cache/gauss_diffusion.

  Returns:
    A `Dataset`.

  Raises:
    ValueError: on an unknown name, a missing, empty or corrupt source, mixed sizes, a dtype other than uint8
      or floats, floats without a `scale` or with a `size` or `crop`, pixels with a `scale`, labels that are
      not one class an image, a TFDS data set that is neither prepared nor can be, too large a `held_out` or
      `size`, a path that cannot be looked up, or more than `pixels` allows.
  """
  if held_out < 1:
    raise ValueError(f"`data.held_out` is {held_out}; at least 1 image must be kept apart")
  if not 0 <= size <= MAX_SIZE:
    raise ValueError(
      f"`data.size` is {size}; want a number of pixels up to {MAX_SIZE}, or 0 to keep the images as they are"
    )
  if seed < 0:
    raise ValueError(f"`data.seed` is {seed}; want a whole number from 0 on")
  if scale:
    scales.asked(scale)
  if path and name != "files":
    raise ValueError(
      f"`data.path` is {path!r} but `data.name` is {name!r}; own images want `data.name=files`"
    )
  if name == "files" and not path:
    raise ValueError("`data.path` is empty; `data.name=files` wants a folder, a .zip, an .npy or an .npz")

  default = os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")
  place = _place("data.path", path) if path else _place("data.dir", dir or default)
  root = place if path else place / re.split("[/:]", name)[0]
  entries = _place("data.cache", cache or "~/.cache/gauss_diffusion") / "data"
  decoded = read_entry(entries / entry_name(name, root, size, crop))
  if decoded is None:
    fitted = functools.partial(fit, size=size, crop=crop)
    if name in SOURCES:
      decoded = SOURCES[name](name, place, fitted)
    else:
      decoded = tfds.decode(name, place, fitted, known=SOURCES)
    decoded = decoded._replace(
      kin=duplicates.kin(decoded.images, decoded.test),
      fingerprint=_fingerprint(decoded.images, decoded.ids, decoded.test, decoded.test_ids),
    )
    # Named anew: decoding may just have prepared the files that the name is made of.
    entry = entries / entry_name(name, root, size, crop)
    write_entry(entry, decoded)
    decoded = read_entry(entry) or decoded  # what is in the cache need not lie elsewhere too

  done = _scale(decoded, scale, resized=bool(size or crop))
  order, apart = _order(decoded.ids, seed), _order(decoded.test_ids, seed)
  of_images, of_test = np.split(decoded.kin, [len(order)], axis=1)
  labels, test_labels = np.split(decoded.labels, [len(order)])
  dropped = 0
  if drop_duplicates:
    first = duplicates.firsts(np.concatenate([of_test[1, apart], of_images[1, order]]))
    dropped = int((~first).sum())
    order, apart = order[first[len(apart) :]], apart[first[: len(apart)]]
  own_test = len(apart) > 0
  available = len(apart) if own_test else len(order) - 1
  if held_out > available:
    raise ValueError(
      f"`data.held_out` is {held_out}; {printable(decoded.title)} can spare at most {available} images"
    )
  if own_test:
    apart = apart[:held_out]
    images, ids, kin = rows(decoded.test, apart), decoded.test_ids[apart], of_test[:, apart]
  else:
    order, apart = order[:-held_out], order[-held_out:]
    images, ids, kin = rows(decoded.images, apart), decoded.ids[apart], of_images[:, apart]
    test_labels = labels
  chosen = f"{decoded.fingerprint} {held_out} {seed}" + " without duplicates" * drop_duplicates
  pool = rows(decoded.images, order)
  if done:
    pool, images = (scales.apply(done, own) for own in (pool, images))
    chosen += f" {done}"
  return Dataset(
    title=decoded.title,
    pool=pool,
    pool_ids=decoded.ids[order],
    held_out=images,
    held_out_ids=ids,
    fingerprint=hashlib.sha256(chosen.encode()).hexdigest()[:16],
    duplicates=duplicates.count(of_images[:, order], kin),
    dropped=dropped,
    pool_labels=labels[order] if len(labels) else None,
    held_out_labels=test_labels[apart] if len(labels) else None,
    classes=tuple(decoded.classes.tolist()),
    scale=done,
  )


def subset(dataset: Dataset, size: int, part: int = 0, draw: int = 0) -> Subset:
  """Take the images ``pool[part * size : (part + 1) * size]``, so that parts of one size are disjoint.

  Args:
    dataset: where from; held-out images are never taken.
    size: number of images n; 0 means the whole pool.
    part: which n of the pool, counted from 0.
    draw: which order the pool is taken in: 0 its own, and others that the number alone decides.

  Returns:
    A `Subset`, whose fingerprint is a hash of shape, ids and pixels, and whose labels have one of their own.

  Raises:
    ValueError: where the pool has not that many images.
  """
  total = len(dataset.pool)
  if size < 0 or part < 0 or draw < 0:
    raise ValueError(
      f"`size`, `part`, `draw` are {size}, {part}, {draw}; want a number of images, or 0 for all, and 0, 1, "
      "..."
    )
  if size > total:
    raise ValueError(f"`size` is {size}; {dataset.title} has {total} training images")
  size = size or total
  if (part + 1) * size > total:
    raise ValueError(
      f"`part` {part} of `size` {size} cannot be disjoint from the parts before it: {dataset.title} has"
      f" {total} training images, enough for `size` {total // (part + 1)}"
    )
  own = slice(part * size, (part + 1) * size)
  chosen = _shuffled(total, draw)[own] if draw else np.arange(total)[own]
  # Draw 0 is a view: a pool of many images is not copied.
  images, ids = rows(dataset.pool, chosen) if draw else dataset.pool[own], dataset.pool_ids[chosen]
  if dataset.pool_labels is None:
    return Subset(images, ids, _fingerprint(images, ids))
  labels = dataset.pool_labels[chosen]
  return Subset(images, ids, _fingerprint(images, ids), labels, _fingerprint(labels))


def of_class(subset: Subset, label: int) -> Subset:
  """Return those images of a subset that are of one class, perhaps none."""
  assert subset.labels is not None, "images without labels are of no class"
  own = subset.labels == label
  images, ids, labels = rows(subset.images, np.flatnonzero(own)), subset.ids[own], subset.labels[own]
  return Subset(images, ids, _fingerprint(images, ids), labels, _fingerprint(labels))


def apart(dataset: Dataset) -> Subset:
  """Return the held-out images; their fingerprint is that of the whole data set."""
  return Subset(dataset.held_out, dataset.held_out_ids, dataset.fingerprint, dataset.held_out_labels)


def _scale(decoded: Decoded, scale: float | str, *, resized: bool) -> Scale | None:
  """Return what puts floats onto the project's scale, None for pixels; refuse what the other kind wants."""
  title = printable(decoded.title)
  if is_pixels(decoded.images):
    if scale:
      raise ValueError(
        f"`data.scale` is {scale!r}, and {title} has uint8 pixels, which need none; leave it empty"
      )
    return None
  if not scale:
    raise ValueError(
      f"`data.scale` is empty, and {title} has floats; want a number that they are divided by, or "
      f"{scales.STANDARDISE!r} for mean 0 and standard deviation 0.5"
    )
  if resized:
    raise ValueError(f"`data.size`, `data.crop` are for pixels, and {title} has floats; leave both out")
  return scales.of(decoded.images, scale)


def _place(field: str, path: str) -> pathlib.Path:
  try:
    place = pathlib.Path(path).expanduser()
    place.exists()
  except (RuntimeError, OSError) as error:  # no such user; too long a name, or in a folder closed to us
    raise ValueError(
      f"`{field}` is {printable(repr(path), 200)}, which cannot be looked up ({printable(error, 200)}); want "
      "another path"
    ) from error
  return place


def _order(ids: Shaped[np.ndarray, " N"], seed: int) -> Int[np.ndarray, " N"]:
  return np.argsort(ids, kind="stable")[_shuffled(len(ids), seed)]


def _shuffled(num: int, seed: int) -> Int[np.ndarray, " {num}"]:
  # Raw bits, because NumPy promises them, unlike `permutation`, to stay the same from version to version.
  return np.argsort(np.random.PCG64(seed).random_raw(num), kind="stable")


def _fingerprint(*arrays: Shaped[np.ndarray, "..."]) -> str:
  digest = hashlib.sha256()
  for array in arrays:
    digest.update(f"{array.shape} {array.dtype}".encode())
    digest.update(np.ascontiguousarray(array).data)
  return digest.hexdigest()[:16]
