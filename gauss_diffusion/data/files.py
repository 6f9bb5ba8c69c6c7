"""The user's own images: a folder, a zip archive of one, or an array file of pixels or of floats.

Their classes are those that a file `dataset.json` beside them tells, as EDM's and StyleGAN's tools write it,
else the sub-folders that all of them lie in; of an .npz, `train_y` and `test_y`.
"""

import contextlib
import json
import math
import os
import pathlib
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import IO

import numpy as np
from jaxtyping import Int, Shaped

from gauss_diffusion.command_line import printable
from gauss_diffusion.data import pixels
from gauss_diffusion.data.pixels import Decoded, Fit

LABELS = "dataset.json"  # {"labels": [[name of an image, label], ...]}, or null in the place of the list
IMAGE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
# What reading a file makes NumPy and Python raise that is damaged, or lies about itself.
DAMAGE = (
  OSError,
  ValueError,
  TypeError,
  LookupError,
  EOFError,
  OverflowError,
  RuntimeError,
  SyntaxError,
  MemoryError,
  tokenize.TokenError,
  zipfile.BadZipFile,
  zlib.error,
)


def decode(name: str, place: pathlib.Path, fit: Fit) -> Decoded:
  """Return the images that `place` holds; an image of a folder or archive is called by its path in there."""
  if place.suffix in (".npy", ".npz") and place.is_file():
    return _decode_arrays(place, fit)
  if place.is_dir():
    names = [file.relative_to(place).as_posix() for file in place.rglob("*") if file.is_file()]
    return _decode_images(place, names, lambda label: _read_file(place / label), fit)
  if place.suffix == ".zip" and place.is_file():
    with _archive(place, "a zip archive") as archive:
      names = [info.filename for info in archive.infolist()]
      return _decode_images(place, names, lambda label: _read_member(archive, label), fit)
  found = "is none of these" if place.exists() else "does not exist"
  raise ValueError(f"`data.path` {place} {found}; want a folder of images, a .zip, an .npy or an .npz")


def _decode_images(place: pathlib.Path, names: list[str], read: Callable[[str], bytes], fit: Fit) -> Decoded:
  def hidden(name):
    return any(part.startswith(".") or part == "__MACOSX" for part in pathlib.PurePosixPath(name).parts)

  visible = sorted(name for name in names if not hidden(name) and not name.endswith("/"))
  ids = [name for name in visible if name.lower().endswith(IMAGE_SUFFIXES)]
  if not ids:
    some = ", ".join(printable(name, pixels.NAME) for name in visible[:3])
    found = f"only {some}{', ...' if visible[3:] else ''}" if visible else "nothing"
    raise ValueError(f"`data.path` {place} holds {found}; want images ({', '.join(IMAGE_SUFFIXES)})")

  def content(name):
    try:
      return read(name)
    except DAMAGE as error:
      short, reason = printable(name, pixels.NAME), printable(error, pixels.NAME)
      raise ValueError(f"`{short}` of {place} cannot be read ({reason})") from error

  def decode(chunk):
    for name in ids[chunk.start : chunk.stop]:
      yield name, fit(pixels.open_image(content(name), name, upright=True))

  classes: list[str] = []
  if LABELS in visible:
    labels = _told(content(LABELS), ids, f"`{LABELS}` of {place}")
  else:
    labels, classes = _sub_folders(ids)
  train = pixels.decode_all(place.name, len(ids), decode)
  return pixels.decoded(place.name, train, labels=(labels, None), classes=classes)


def _told(content: bytes, ids: list[str], where: str) -> Int[np.ndarray, " N"] | None:
  """Return the labels that a `dataset.json` tells, or None where it says that there are none."""
  try:
    listed = json.loads(content)["labels"]
    if listed is None:
      return None
    told = {str(name).replace("\\", "/"): label for name, label in listed}
  except DAMAGE as error:
    reason = printable(error, pixels.NAME)
    raise ValueError(
      f'{where} cannot be read ({reason}); want {{"labels": [["NAME", LABEL], ...]}}'
    ) from error
  if len(told) < len(listed):
    raise ValueError(f"{where} names an image twice; want one label an image")
  for name in ids:
    if type(told.get(name)) is not int or not 0 <= told[name] < pixels.MAX_CLASSES:
      label = f"the label {printable(told[name], pixels.NAME)}" if name in told else "no label"
      raise ValueError(
        f"{where} has {label} for `{printable(name, pixels.NAME)}`; want a whole number from 0 to "
        f"{pixels.MAX_CLASSES - 1}"
      )
  return np.array([told[name] for name in ids])


def _sub_folders(ids: list[str]) -> tuple[Int[np.ndarray, " N"] | None, list[str]]:
  """Return labels and classes of images that all lie in sub-folders, the first in which they differ.

  Without several there is nothing to tell apart, and images beside sub-folders say that these are no classes.
  """
  folders = [pathlib.PurePosixPath(name).parts[:-1] for name in ids]
  shared = len(os.path.commonprefix([*map(list, folders)]))
  if any(len(folder) == shared for folder in folders):
    return None, []
  classes, labels = np.unique([folder[shared] for folder in folders], return_inverse=True)
  return labels, classes.tolist()


def _read_file(path: pathlib.Path) -> bytes:
  with path.open("rb") as file:
    encoded = file.read(pixels.MAX_ENCODED + 1)
  _check_encoded(len(encoded))
  return encoded


def _read_member(archive: zipfile.ZipFile, name: str) -> bytes:
  """Return a member's bytes, of which no more are inflated than its entry claims."""
  info = archive.getinfo(name)
  _check_encoded(info.file_size)
  with archive.open(info) as member:
    return member.read(info.file_size + 1)


def _check_encoded(size: int) -> None:
  if size > pixels.MAX_ENCODED:
    raise ValueError(f"it has more than the {pixels.MAX_ENCODED} bytes that an image may have")


@contextlib.contextmanager
def _archive(place: pathlib.Path, what: str) -> Iterator[zipfile.ZipFile]:
  """Open a zip archive, every name in which is there once and can be inflated bit by bit."""
  try:
    archive = zipfile.ZipFile(place)
  except DAMAGE as error:
    raise ValueError(f"`data.path` {place} cannot be read as {what} ({error})") from error
  with archive:
    seen = set()
    for info in archive.infolist():
      name = printable(info.filename, pixels.NAME)
      if info.filename in seen:
        raise ValueError(f"`data.path` {place} holds `{name}` twice; want every name once")
      # Other methods inflate as much as they like at a time.
      if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"`{name}` of {place} is compressed by another method than deflate; zip it anew")
      seen.add(info.filename)
    yield archive


def _decode_arrays(place: pathlib.Path, fit: Fit) -> Decoded:
  arrays = _one_array(place) if place.suffix == ".npy" else _arrays(place)

  def split(prefix, key, index=""):
    label = printable(f"`{key}`" if key == place.name else f"`{key}` of {place.name}", pixels.NAME)
    images = pixels.checked(arrays[key], label)
    numbers = arrays.get(index, np.arange(len(images)))
    if numbers.ndim != 1 or numbers.dtype.kind not in "iu":
      found = f"{numbers.dtype} {numbers.shape}"
      raise ValueError(f"`{index}` of {place.name} is {found}; want one whole number an image")

    def decode(chunk):
      return [(str(i), fit(images[i])) for i in chunk]

    if pixels.is_pixels(images):
      images, _ = pixels.decode_all(place.name, len(images), decode)
    else:
      pixels.check_room(4 * images.size, place.name)
      images = pixels.floats(images, label)
    return images, np.array([f"{prefix}_{number:05d}" for number in numbers])

  if "train_x" in arrays:
    train = split("train", "train_x", "train_idx")
    test = split("test", "test_x", "test_idx") if "test_x" in arrays else None
    return pixels.decoded(place.name, train, test, labels=(arrays.get("train_y"), arrays.get("test_y")))
  keys = [key for key, array in arrays.items() if array.ndim in (3, 4) or key == place.name]
  if len(keys) != 1:
    found = ", ".join(f"{printable(key, pixels.NAME)} {array.shape}" for key, array in arrays.items())
    raise ValueError(
      f"`data.path` {place} holds {found or 'nothing'}; want `train_x` and optional `test_x`, or one image "
      "array"
    )
  return pixels.decoded(place.name, split("image", keys[0]))


def _one_array(place: pathlib.Path) -> dict[str, Shaped[np.ndarray, "..."]]:
  try:
    with place.open("rb") as file:
      _check_claim(file, place.stat().st_size)
    return {place.name: np.load(place, mmap_mode="r", allow_pickle=False)}
  except DAMAGE as error:
    raise _no_arrays(place, error) from error


def _arrays(place: pathlib.Path) -> dict[str, Shaped[np.ndarray, "..."]]:
  """Return the arrays of an .npz, each member of which has the size that its header claims."""
  with _archive(place, "an array file") as archive:
    pixels.check_memory(sum(info.file_size for info in archive.infolist()), place.name)
    try:
      for info in archive.infolist():
        with archive.open(info) as member:
          _check_claim(member, info.file_size)
      with np.load(place, allow_pickle=False) as stored:
        return dict(stored)
    except DAMAGE as error:
      raise _no_arrays(place, error) from error


def _check_claim(member: IO[bytes], size: int) -> None:
  """Refuse an array, stored in so many bytes, whose header claims another number."""
  # Later versions are for headers of more than 64 kB, which no images need.
  if (version := np.lib.format.read_magic(member)) != (1, 0):
    raise ValueError(f"an array of version {version}; want 1.0")
  shape, _, dtype = np.lib.format.read_array_header_1_0(member)
  if (claimed := math.prod(shape) * dtype.itemsize) != size - member.tell():
    raise ValueError(f"an array that claims {claimed} bytes, and has {size - member.tell()}")


def _no_arrays(place: pathlib.Path, error: Exception) -> ValueError:
  reason = printable(error, 3 * pixels.NAME)
  return ValueError(f"`data.path` {place} cannot be read as an array file ({reason})")
