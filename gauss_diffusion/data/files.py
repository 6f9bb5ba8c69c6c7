"""The user's own images: a folder, a zip archive of one, or an array file."""

import pathlib
import zipfile
import zlib
from collections.abc import Callable

import numpy as np
from PIL import ImageOps

from gauss_diffusion.data import pixels
from gauss_diffusion.data.pixels import Decoded, Fit

IMAGE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")


def decode(name: str, place: pathlib.Path, fit: Fit) -> Decoded:
  """Return the images that `place` holds; an image of a folder or archive is called by its path in there."""
  if place.suffix in (".npy", ".npz") and place.is_file():
    return _decode_arrays(place, fit)
  if place.is_dir():
    names = [file.relative_to(place).as_posix() for file in place.rglob("*") if file.is_file()]
    return _decode_images(place, names, lambda label: (place / label).read_bytes(), fit)
  if place.suffix == ".zip" and place.is_file():
    try:
      archive = zipfile.ZipFile(place)
    except (OSError, zipfile.BadZipFile) as error:
      raise ValueError(f"`data.path` {place} cannot be read as a zip archive ({error})") from error
    with archive:
      return _decode_images(place, [info.filename for info in archive.infolist()], archive.read, fit)
  found = "is none of these" if place.exists() else "does not exist"
  raise ValueError(f"`data.path` {place} {found}; want a folder of images, a .zip, an .npy or an .npz")


def _decode_images(place: pathlib.Path, names: list[str], read: Callable[[str], bytes], fit: Fit) -> Decoded:
  def hidden(name):
    return any(part.startswith(".") or part == "__MACOSX" for part in pathlib.PurePosixPath(name).parts)

  visible = sorted({name for name in names if not hidden(name) and not name.endswith("/")})
  labels = [name for name in visible if name.lower().endswith(IMAGE_SUFFIXES)]
  if not labels:
    found = f"only {', '.join(visible[:3])}{', ...' if visible[3:] else ''}" if visible else "nothing"
    raise ValueError(f"`data.path` {place} holds {found}; want images ({', '.join(IMAGE_SUFFIXES)})")

  def decode(chunk):
    for label in labels[chunk.start : chunk.stop]:
      try:
        encoded = read(label)
      except (OSError, RuntimeError, NotImplementedError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"`{label}` of {place} cannot be read ({error})") from error
      yield label, fit(pixels.to_array(ImageOps.exif_transpose(pixels.open_image(encoded, label)), label))

  return pixels.decoded(place.name, pixels.decode_all(place.name, len(labels), decode))


def _decode_arrays(place: pathlib.Path, fit: Fit) -> Decoded:
  try:
    loaded = np.load(place, allow_pickle=False)
    arrays = {place.name: loaded} if isinstance(loaded, np.ndarray) else dict(loaded)
  except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
    raise ValueError(f"`data.path` {place} cannot be read as an array file ({error})") from error

  def split(prefix, key, numbers=None):
    images = pixels.checked(arrays[key], f"`{key}`" if key == place.name else f"`{key}` of {place.name}")
    if numbers is None:
      numbers = range(len(images))

    def decode(chunk):
      return [(str(i), fit(images[i])) for i in chunk]

    fitted, _ = pixels.decode_all(place.name, len(images), decode)
    return fitted, np.array([f"{prefix}_{number:05d}" for number in numbers])

  if "train_x" in arrays:
    train = split("train", "train_x", arrays.get("train_idx"))
    test = split("test", "test_x", arrays.get("test_idx")) if "test_x" in arrays else None
    return pixels.decoded(place.name, train, test)
  keys = [key for key, array in arrays.items() if array.ndim in (3, 4) or key == place.name]
  if len(keys) != 1:
    found = ", ".join(f"{key} {array.shape}" for key, array in arrays.items()) or "nothing"
    raise ValueError(
      f"`data.path` {place} holds {found}; want `train_x` and optional `test_x`, or one image array"
    )
  return pixels.decoded(place.name, split("image", keys[0]))
