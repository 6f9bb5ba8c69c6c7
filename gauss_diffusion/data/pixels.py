"""From what a source stores to uint8 pixels: open, check, crop and resize; decode all images on all cores."""

import contextlib
import io
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from jaxtyping import Shaped, UInt8
from PIL import Image, UnidentifiedImageError
from tqdm import tqdm

from gauss_diffusion.types import Pixels

CHUNK = 64  # images that one thread decodes at a time

Picture = UInt8[np.ndarray, "H W C"]
Fit = Callable[[Picture], Picture]  # crops and resizes
Ids = Shaped[np.ndarray, " N"]  # strings
# Images and their ids, of which nothing has been checked yet.
Split = tuple[UInt8[np.ndarray, "_N _H _W _C"], Shaped[np.ndarray, " _N"]]


class Decoded(NamedTuple):
  """What a source holds and the cache keeps. `test` is empty where the source has no split of that name."""

  title: str
  images: Pixels
  ids: Ids
  test: UInt8[np.ndarray, "M H W C"]
  test_ids: Shaped[np.ndarray, " M"]  # strings
  fingerprint: str


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


def open_image(encoded: bytes, label: str) -> Image.Image:
  """Open the bytes of an image file; `label` names it in errors."""
  if not encoded:
    raise ValueError(f"`{label}` is empty; want an image")
  try:
    image = Image.open(io.BytesIO(encoded))
    image.load()
  except Exception as error:  # each of PIL's plugins fails in its own way
    reason = "of no known format" if isinstance(error, UnidentifiedImageError) else error
    raise ValueError(f"`{label}` cannot be read as an image ({reason})") from error
  return image


def to_array(image: Image.Image, label: str) -> Picture:
  """Return the pixels of an 8-bit opaque image, grey or RGB; `label` names it in errors."""
  if image.mode not in ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "YCbCr"):
    raise ValueError(f"`{label}` is stored as {image.mode}; want 8-bit grey or RGB")
  if image.has_transparency_data and image.convert("RGBA").getchannel("A").getextrema() != (255, 255):
    raise ValueError(f"`{label}` is transparent in places; want an opaque image, laid on a background")
  mode = "L" if image.mode in ("1", "L", "LA") else "RGB"
  return np.atleast_3d(np.asarray(image if image.mode == mode else image.convert(mode)))


def checked(images: Shaped[np.ndarray, "..."], label: str) -> Pixels:
  """Return an array of images as [N, H, W, C] uint8, or refuse another dtype or shape; `label` names it."""
  if images.dtype != np.uint8:
    has_nan = np.issubdtype(images.dtype, np.floating) and np.isnan(images).any()
    raise ValueError(
      f"{label} is {images.dtype}{' with NaN' if has_nan else ''}; want uint8 pixels, 0 to 255"
    )
  images = images[..., None] if images.ndim == 3 else images
  if images.ndim != 4 or images.shape[3] not in (1, 3) or 0 in images.shape:
    raise ValueError(
      f"{label} has shape {images.shape}; want [N, H, W] or [N, H, W, C] with 1 or 3 channels C last"
    )
  return images


def decode_all(
  title: str, count: int, decode: Callable[[range], Iterable[tuple[str, Picture]]]
) -> tuple[Pixels, Ids]:
  """Decode images 0 to count - 1 chunk by chunk on all cores; grey ones among colour become R = G = B.

  Args:
    title: shown beside the progress bar.
    count: number of images, at least 1.
    decode: gives (id, image) for each index of a chunk.

  Returns:
    Images and their ids.

  Raises:
    ValueError: when the images are of different sizes.
  """
  ids, images = [], []
  chunks = [range(start, min(start + CHUNK, count)) for start in range(0, count, CHUNK)]
  with (
    tqdm(total=count, desc=f"decoding {title}", unit=" images", delay=2) as bar,
    ThreadPoolExecutor(os.cpu_count()) as pool,
    # What `map` returns is a generator, though declared to be any iterator.
    contextlib.closing(pool.map(lambda chunk: list(decode(chunk)), chunks)) as parts,  # type: ignore[type-var]
  ):
    for part in parts:
      for label, image in part:
        ids.append(label)
        images.append(image)
        if image.shape[:2] != images[0].shape[:2]:
          (a, b), (c, d) = images[0].shape[:2], image.shape[:2]
          raise ValueError(
            f"`{ids[0]}` is {b}x{a} and `{label}` {d}x{c} pixels: one size is wanted; set `data.size`, and"
            " `data.crop=True` to cut squares rather than stretch"
          )
      bar.update(len(part))
  channels = max(image.shape[2] for image in images)
  for k, image in enumerate(images):
    images[k] = np.broadcast_to(image, (*image.shape[:2], channels))
  return np.stack(images), np.array(ids)


def decoded(title: str, train: Split, test: Split | None = None) -> Decoded:
  """Check the ids of (images, ids) pairs, and put them in a record that waits for its fingerprint.

  Args:
    title: of the data set, for people.
    train: images and ids.
    test: the same of the source's own test split, if it has one.

  Raises:
    ValueError: when ids are missing or repeated, or the two splits differ in shape.
  """
  images, ids = train
  test = test or (images[:0], ids[:0])
  for pixels, labels in (train, test):
    if len(labels) != len(pixels):
      raise ValueError(f"`{title}` has {len(labels)} ids for {len(pixels)} images; want one id an image")
    values, counts = np.unique(labels, return_counts=True)
    if (counts > 1).any():
      raise ValueError(
        f"`{title}` uses the id `{values[counts.argmax()]}` {counts.max()} times; want unique ids"
      )
  if test[0].shape[1:] != images.shape[1:]:
    raise ValueError(
      f"`{title}` has training images {images.shape[1:]} but test images {test[0].shape[1:]}; want one shape"
    )
  return Decoded(title, images, ids, *test, fingerprint="")
