"""From what a source stores to uint8 pixels: open, check, crop and resize; decode all images on all cores.

Arrays of floats, such as latents, are no pixels: they are checked, and stay what they are, as float32. What
a file claims is compared with these limits before memory is taken for it. Images themselves lie in files
without a name, in the folder of temporary files (TMPDIR), mapped into memory and gone with the last
reference: the system keeps of them in memory what it has room for, and they need none of their own.
"""

import contextlib
import io
import itertools
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Int32, Shaped, UInt8
from PIL import Image, ImageOps, UnidentifiedImageError
from tqdm import tqdm

from gauss_diffusion.command_line import printable
from gauss_diffusion.types import Images, Pixels

CHUNK = 64  # images that one thread decodes at a time
FORMATS = ("BMP", "JPEG", "PNG", "PPM", "TIFF", "WEBP")  # by PIL's names, none of which starts a program
MAX_PIXELS = 2**26  # of one image: 8192 x 8192
MAX_ENCODED = 4 * MAX_PIXELS  # bytes of an image file, enough for one that compresses nothing
BLOCK = 2**24  # bytes of images that are copied at a time
MEMORY_SHARE = 2  # an array file that is read whole may take this fraction of the machine's memory
NAME = 100  # characters of a name from a file that a message shows
MAX_CLASSES = 2**16  # a label is below it; a wrong one would make as many names

Picture = UInt8[np.ndarray, "H W C"]
Fit = Callable[[Picture], Picture]  # crops and resizes
Ids = Shaped[np.ndarray, " N"]  # strings
# Images and their ids, of which nothing has been checked yet.
Split = tuple[Shaped[np.ndarray, "_N _H _W _C"], Shaped[np.ndarray, " _N"]]
Labels = Shaped[np.ndarray, "..."]  # of a split's images: what a source says, of which nothing is checked


class Decoded(NamedTuple):
  """What a source holds and the cache keeps. `test` is empty where the source has no split of that name."""

  title: str
  images: Images  # uint8 pixels, or float32 as the source has them
  ids: Ids
  test: Shaped[np.ndarray, "M H W C"]  # of the same dtype
  test_ids: Shaped[np.ndarray, " M"]  # strings
  kin: Int[np.ndarray, "2 L"]  # of images and test, in this order, see `duplicates.kin`; L = N + M
  fingerprint: str
  labels: Int32[np.ndarray, " _L"]  # the class of each of images and test, or of none: L or 0
  classes: Shaped[np.ndarray, " K"]  # strings: the classes' names, by label; K = 0 where there are no labels


def fit(image: Picture, size: int, crop: bool) -> UInt8[np.ndarray, "h w C"]:
  """Cut an image to its centred square if `crop`, then resize it to `size` unless 0."""
  height, width = image.shape[:2]
  if crop:
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    image = image[top : top + side, left : left + side]
  if size and image.shape[:2] != (size, size):
    planes = [Image.fromarray(np.ascontiguousarray(image[..., c])) for c in range(image.shape[2])]
    image = np.stack(
      [np.asarray(plane.resize((size, size), Image.Resampling.LANCZOS)) for plane in planes], axis=-1
    )
  return image


def open_image(encoded: bytes, label: str, *, upright: bool = False) -> Picture:
  """Return the pixels of an image file, 8-bit and opaque, grey or RGB.

  Args:
    encoded: the file's bytes, of one of `FORMATS`.
    label: names it in errors.
    upright: turn the image as its camera says.

  Raises:
    ValueError: when it is no such image, is damaged, has several frames, or more than `MAX_PIXELS` pixels.
  """
  label = printable(label, NAME)
  if not encoded:
    raise ValueError(f"`{label}` is empty; want an image")
  try:
    image = Image.open(io.BytesIO(encoded), formats=FORMATS)
    unwanted = _unwanted(image)
    if not unwanted:
      picture = ImageOps.exif_transpose(image) if upright else image
      mode = "L" if picture.mode in ("1", "L", "LA") else "RGB"
      return np.atleast_3d(np.asarray(picture if picture.mode == mode else picture.convert(mode)))
  except Exception as error:  # each of PIL's plugins fails in its own way
    known = f"of no known format; known: {', '.join(FORMATS)}"
    reason = known if isinstance(error, UnidentifiedImageError) else printable(error, NAME)
    raise ValueError(f"`{label}` cannot be read as an image ({reason})") from error
  raise ValueError(f"`{label}` {unwanted}")


def _unwanted(image: Image.Image) -> str:
  """Say why an image is not wanted, or nothing; only the last question decodes it."""
  # Cameras put previews of their one picture into an MPO.
  if getattr(image, "is_animated", False) and image.format != "MPO":
    return "has several frames or pages; want one picture a file"
  if image.width * image.height > MAX_PIXELS:
    return f"has {image.width} x {image.height} pixels; want at most {MAX_PIXELS}"
  if image.mode not in ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "YCbCr"):
    return f"is stored as {image.mode}; want 8-bit grey or RGB"
  if image.has_transparency_data and image.convert("RGBA").getchannel("A").getextrema() != (255, 255):
    return "is transparent in places; want an opaque image, laid on a background"
  return ""


def checked(images: Shaped[np.ndarray, "..."], label: str) -> Shaped[np.ndarray, "N H W C"]:
  """Return an array of images as [N, H, W, C], or refuse another dtype or shape; `label` names it.

  Pixels are uint8 of 1 or 3 channels, floats of any number.
  """
  if not is_pixels(images) and not (images.dtype.kind == "f" and images.dtype.itemsize <= 8):
    raise ValueError(
      f"{label} is {images.dtype}; want uint8 pixels, 0 to 255, or floats of 16, 32 or 64 bits"
    )
  images = images[..., None] if images.ndim == 3 else images
  if images.ndim != 4 or 0 in images.shape or (is_pixels(images) and images.shape[3] not in (1, 3)):
    raise ValueError(
      f"{label} has shape {images.shape}; want [N, H, W] or [N, H, W, C] with 1 or 3 channels C last, of "
      "floats any number"
    )
  return images


def is_pixels(images: Shaped[np.ndarray, "..."]) -> bool:
  """Tell whether images are pixels, and no floats."""
  return images.dtype == np.uint8


def floats(images: Shaped[np.ndarray, "N H W C"], label: str) -> Float[np.ndarray, "N H W C"]:
  """Return floats as float32, see `kept`, whose every value must be finite; `label` names them.

  Raises:
    ValueError: on NaN, infinity, or a value too large for float32, saying where.
  """

  def finite() -> Iterator[Float[np.ndarray, "n H W C"]]:
    done = 0
    for block in blocks(images):
      with np.errstate(over="ignore"):
        short = block.astype(np.float32)
      if not np.isfinite(short).all():
        place = tuple(int(axis[0]) for axis in np.nonzero(~np.isfinite(short)))
        where = [done + place[0], *place[1:]]
        raise ValueError(f"{label} has {block[place]:g} at {where}; want finite values, as float32 has them")
      yield short
      done += len(block)

  return kept(finite())


def check_memory(size: int, what: str) -> None:
  """Refuse an array file that takes more of this machine's memory than its share.

  Args:
    size: bytes that its arrays take.
    what: holds them, for the error.

  Raises:
    ValueError: with what they would take, and what there is.
  """
  memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
  if size > memory // MEMORY_SHARE:
    raise ValueError(
      f"`{printable(what, NAME)}` holds {size / 1e9:.1f} GB of pixels, read whole, more than half of this "
      f"machine's {memory / 1e9:.1f} GB of memory; want an .npy, a folder or a .zip of images, or fewer"
    )


def check_room(size: int, what: str) -> None:
  """Refuse images for which the folder of temporary files has no room.

  Args:
    size: bytes that they take as they are kept.
    what: holds them, for the error.

  Raises:
    ValueError: with what they would take, and what there is.
  """
  place = tempfile.gettempdir()
  free = shutil.disk_usage(place).free
  if size > free:
    raise ValueError(
      f"`{printable(what, NAME)}` holds {size / 1e9:.1f} GB of pixels, and {place} has room for "
      f"{free / 1e9:.1f} GB; want another TMPDIR, fewer images, or a smaller `data.size`"
    )


def kept(blocks: Iterable[Shaped[np.ndarray, "..."]]) -> Shaped[np.ndarray, "..."]:
  """Write images, some at a time, to a file without a name; return the map of it, read-only [N, ...].

  Args:
    blocks: of one shape but for their number, the first with an image or more.

  Raises:
    ValueError: when the folder of temporary files cannot be written, or is full.
  """
  place, num = tempfile.gettempdir(), 0
  try:
    with tempfile.TemporaryFile(dir=place) as file:
      for block in blocks:
        file.write(np.ascontiguousarray(block).data)
        num += len(block)
        shape, dtype = block.shape[1:], block.dtype
      file.flush()
      # As a plain array: NumPy's class for maps takes microseconds for every view of an image.
      return np.asarray(np.memmap(file, dtype, "r", shape=(num, *shape)))
  except OSError as error:
    raise ValueError(
      f"{place} cannot keep the images ({error}); want room for them, or another TMPDIR"
    ) from error


def blocks(images: Shaped[np.ndarray, "..."]) -> Iterator[Shaped[np.ndarray, "..."]]:
  """Yield images [N, ...] in their order, some at a time."""
  for part in _parts(images, len(images)):
    yield images[part]


def rows(images: Shaped[np.ndarray, "..."], chosen: Int[np.ndarray, " n"]) -> Shaped[np.ndarray, "..."]:
  """Return some images, ``images[chosen]``, without taking memory for them, see `kept`."""
  if not len(chosen):
    return images[:0]
  return kept(images[chosen[part]] for part in _parts(images, len(chosen)))


def _parts(images: Shaped[np.ndarray, "..."], num: int) -> Iterator[slice]:
  """Yield slices of `num` places, each of so many as images have `BLOCK` bytes."""
  step = max(BLOCK // images[0].nbytes, 1)
  return (slice(start, start + step) for start in range(0, num, step))


def decode_all(
  title: str, count: int, decode: Callable[[range], Iterable[tuple[str, Picture]]]
) -> tuple[Pixels, Ids]:
  """Decode images 0 to count - 1 chunk by chunk on all cores; grey ones among colour become R = G = B.

  Args:
    title: shown beside the progress bar.
    count: number of images, at least 1.
    decode: gives (id, image) for each index of a chunk.

  Returns:
    Images, see `kept`, and their ids.

  Raises:
    ValueError: when the images are of different sizes, or there is no room for them.
  """
  ids: list[str] = []
  chunks = [range(start, min(start + CHUNK, count)) for start in range(0, count, CHUNK)]
  ahead = os.cpu_count() or 1  # chunks that are decoded while others are written
  with (
    warnings.catch_warnings(),
    tqdm(total=count, desc=f"decoding {printable(title, NAME)}", unit=" images", delay=2) as bar,
    ThreadPoolExecutor(ahead) as pool,
  ):
    warnings.filterwarnings("ignore", module=r"PIL\.")  # what matters of it is refused
    first_label, first = next(iter(decode(range(1))))
    check_room(count * first.nbytes, title)

    def alike(chunk):
      found = []
      for label, image in decode(chunk):
        if image.shape[:2] != first.shape[:2]:
          (a, b), (c, d) = first.shape[:2], image.shape[:2]
          raise ValueError(
            f"`{printable(first_label, NAME)}` is {b}x{a} and `{printable(label, NAME)}` {d}x{c} pixels: one "
            "size is wanted; set `data.size`, and `data.crop=True` to cut squares rather than stretch"
          )
        found.append((label, image))
      return found

    def decoded_blocks():
      channels = first.shape[2]
      for start in range(0, len(chunks), ahead):
        # What `map` returns is a generator, though declared to be any iterator.
        with contextlib.closing(pool.map(alike, chunks[start : start + ahead])) as parts:  # type: ignore[type-var]
          for part in parts:
            ids.extend(label for label, _ in part)
            bar.update(len(part))
            channels = max(channels, *(image.shape[2] for _, image in part))
            yield np.stack([_with(channels, image) for _, image in part])

    # Where colour comes after grey, what was grey is written again, as colour.
    runs = [kept(run) for _, run in itertools.groupby(decoded_blocks(), lambda block: block.shape[-1])]
  if len(runs) == 1:
    return runs[0], np.array(ids)
  return kept(_with(runs[-1].shape[-1], block) for run in runs for block in blocks(run)), np.array(ids)


def _with(channels: int, image: Shaped[np.ndarray, "..."]) -> Shaped[np.ndarray, "..."]:
  return np.broadcast_to(image, (*image.shape[:-1], channels))


def decoded(
  title: str,
  train: Split,
  test: Split | None = None,
  *,
  labels: tuple[Labels | None, Labels | None] = (None, None),
  classes: Sequence[str] = (),
) -> Decoded:
  """Check ids and labels of images, and put all in a record that waits for kin and fingerprint.

  Args:
    title: of the data set, for people.
    train: images and ids.
    test: the same of the source's own test split, if it has one.
    labels: the class of each image of train and of test, whole numbers from 0 on, where the source has them.
    classes: names of the classes, by label; of classes without one their number is the name.

  Raises:
    ValueError: when ids or labels are missing or ids are repeated, a label is no whole number from 0 on or
      has no name among others that have, or the two splits differ in shape, or in being pixels.
  """
  images, ids = train
  test = test or (images[:0], ids[:0])
  for pixels, names in (train, test):
    if len(names) != len(pixels):
      raise ValueError(f"`{title}` has {len(names)} ids for {len(pixels)} images; want one id an image")
    values, counts = np.unique(names, return_counts=True)
    if (counts > 1).any():
      twice = printable(values[counts.argmax()], NAME)
      raise ValueError(f"`{title}` uses the id `{twice}` {counts.max()} times; want unique ids")
  if test[0].dtype != images.dtype:
    raise ValueError(
      f"`{title}` has training images of {images.dtype} but test images of {test[0].dtype}; want both "
      "pixels or both floats"
    )
  if test[0].shape[1:] != images.shape[1:]:
    raise ValueError(
      f"`{title}` has training images {images.shape[1:]} but test images {test[0].shape[1:]}; want one shape"
    )
  known = _checked_labels(title, (len(images), len(test[0])), labels)
  last = known.max(initial=-1)
  classes = classes or [str(label) for label in range(last + 1)]
  if last >= len(classes):
    raise ValueError(
      f"`{title}` has the label {last}, and names for {len(classes)} classes; want one for each"
    )
  none, names = np.empty((2, 0), int), np.array(classes, str)
  return Decoded(title, images, ids, *test, kin=none, fingerprint="", labels=known, classes=names)


def _checked_labels(
  title: str, counts: Sequence[int], labels: Sequence[Labels | None]
) -> Int32[np.ndarray, " _L"]:
  """Return the labels of both splits, none where neither has any; refuse what is not one class an image."""
  splits = zip(("training", "test"), counts, labels, strict=True)
  given = {split: (count, found) for split, count, found in splits if count}
  if all(found is None for _, found in given.values()):
    return np.empty(0, np.int32)
  for split, (count, found) in given.items():
    if found is None:
      raise ValueError(f"`{title}` has no labels of its {split} images, and of others; want all or none")
    if found.dtype.kind not in "iu" or found.ndim != 1:
      kind = f"{found.dtype} {found.shape}"
      raise ValueError(f"`{title}` has {split} labels that are {kind}; want one whole number an image")
    if len(found) != count:
      raise ValueError(f"`{title}` has {len(found)} labels for {count} {split} images; want one an image")
    if not 0 <= found.min() <= found.max() < MAX_CLASSES:
      wrong = found.min() if found.min() < 0 else found.max()
      raise ValueError(f"`{title}` has the label {wrong}; want whole numbers from 0 to {MAX_CLASSES - 1}")
  return np.concatenate([found for _, found in given.values()]).astype(np.int32)
