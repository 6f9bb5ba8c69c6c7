"""Images of a study: decoded once to uint8, ordered the same on every machine, a held-out part kept apart.

Pixels stay uint8 ``[N, H, W, C]`` in memory; `images.to_float` takes them to [-1, 1] at the edge.

To add a data set, write ``decode(name, place, fit) -> _Decoded`` and name it in `DATASETS`.
"""

import contextlib
import difflib
import hashlib
import importlib.util
import io
import json
import os
import pathlib
import re
import threading
import urllib.parse
import zipfile
import zlib
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from tqdm import tqdm

from gauss_diffusion import results

IMAGE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
# Data sets published as raw pixels: stored as JPEG, they are not the originals.
LOSSLESS_TITLES = {
  "cifar10": "CIFAR-10",
  "cifar100": "CIFAR-100",
  "fashion_mnist": "Fashion-MNIST",
  "mnist": "MNIST",
  "svhn_cropped": "SVHN",
}
CHUNK = 64  # images that one thread decodes at a time


class Dataset(NamedTuple):
  """Training candidates and held-out images, each in an order that the seed alone decides."""

  title: str
  pool: np.ndarray  # [N, H, W, C] uint8; its first n images are the training set of size n
  pool_ids: np.ndarray  # [N] strings
  held_out: np.ndarray  # [M, H, W, C] uint8, never in the pool
  held_out_ids: np.ndarray  # [M] strings
  fingerprint: str  # of all of the above


class Subset(NamedTuple):
  """Some images of the pool."""

  images: np.ndarray  # [n, H, W, C] uint8
  ids: np.ndarray  # [n] strings
  fingerprint: str


class _Decoded(NamedTuple):
  """What a source holds and the cache keeps. `test` is empty where the source has no split of that name."""

  title: str
  images: np.ndarray
  ids: np.ndarray
  test: np.ndarray
  test_ids: np.ndarray
  fingerprint: str


def load(
  name: str,
  *,
  dir: str = "",
  path: str = "",
  size: int = 0,
  crop: bool = False,
  held_out: int = 360,
  seed: int = 0,
  cache: str = "",
) -> Dataset:
  """Load a data set by name, from the cache where it has been decoded before.

  Images are sorted by id, then permuted by `seed`: the first n of the pool are a fair sample, nested
  in the first n + 1, and the same on every machine whatever the order on disk. Held-out images come from
  the source's own test split (TFDS ``test``, ``test_x`` of an .npz), else from the end of the pool.

  Args:
    name: "digits" (scikit-learn's, 8x8), "files" (the user's own), or any TFDS image data set.
    dir: TFDS data directory, which holds ``<name>/``; empty means TFDS's own default.
    path: for "files", a folder of images, a .zip of one, or an .npy/.npz of uint8 [N, H, W(, C)]. An
      .npz holds one image array, or ``train_x`` with optional ``test_x``, ``train_idx``, ``test_idx``.
    size: resize to size x size pixels by antialiased Lanczos, after `crop`; 0 keeps the pixels.
    crop: cut the largest centred square first. Without it, `size` stretches an oblong image.
    held_out: number of images kept apart from the pool, at least 1.
    seed: decides the order.
    cache: directory for decoded images; empty means ~/.cache/gauss_diffusion.

  Returns:
    A `Dataset`.

  Raises:
    ValueError: on an unknown name, a missing, empty or corrupt source, mixed sizes, a dtype other than
      uint8, a TFDS data set that is neither prepared nor can be, or too large a `held_out`.
  """
  if held_out < 1:
    raise ValueError(f"`data.held_out` is {held_out}; at least 1 image must be kept apart")
  if size < 0:
    raise ValueError(f"`data.size` is {size}; want a number of pixels, or 0 to keep the images as they are")
  if path and name != "files":
    raise ValueError(
      f"`data.path` is {path!r} but `data.name` is {name!r}; own images want `data.name=files`"
    )
  if name == "files" and not path:
    raise ValueError("`data.path` is empty; `data.name=files` wants a folder, a .zip, an .npy or an .npz")

  place = pathlib.Path(path or dir or os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")).expanduser()
  cache_dir = pathlib.Path(cache or "~/.cache/gauss_diffusion").expanduser() / "data"
  entry = _entry(name, place, size, crop)
  decoded = _read(cache_dir / entry)
  if decoded is None:
    decode = DATASETS.get(name, _decode_tfds)
    decoded = decode(name, place, lambda image: _fit(image, size, crop))
    decoded = decoded._replace(
      fingerprint=_fingerprint(decoded.images, decoded.ids, decoded.test, decoded.test_ids)
    )
    # Named anew: decoding may just have prepared the files that the name is made of.
    _write(cache_dir / _entry(name, place, size, crop), decoded)

  own_test = len(decoded.test) > 0
  available = len(decoded.test) if own_test else len(decoded.images) - 1
  if held_out > available:
    raise ValueError(f"`data.held_out` is {held_out}; {decoded.title} can spare at most {available} images")
  order = _order(decoded.ids, seed)
  if own_test:
    kept = _order(decoded.test_ids, seed)[:held_out]
    apart = decoded.test[kept], decoded.test_ids[kept]
  else:
    order, kept = order[:-held_out], order[-held_out:]
    apart = decoded.images[kept], decoded.ids[kept]
  choice = hashlib.sha256(f"{decoded.fingerprint} {held_out} {seed}".encode()).hexdigest()[:16]
  return Dataset(decoded.title, decoded.images[order], decoded.ids[order], *apart, choice)


def subset(dataset: Dataset, size: int, part: int = 0) -> Subset:
  """Take the images ``pool[part * size : (part + 1) * size]``, so that parts of one size are disjoint.

  Args:
    dataset: where from; held-out images are never taken.
    size: number of images n; 0 means the whole pool.
    part: which n of the pool, counted from 0.

  Returns:
    A `Subset`, whose fingerprint is a hash of shape, ids and pixels.

  Raises:
    ValueError: where the pool has not that many images.
  """
  total = len(dataset.pool)
  if size < 0 or part < 0:
    raise ValueError(
      f"`size`, `part` are {size}, {part}; want a number of images, or 0 for all, and 0, 1, ..."
    )
  if size > total:
    raise ValueError(f"`size` is {size}; {dataset.title} has {total} training images")
  size = size or total
  if (part + 1) * size > total:
    raise ValueError(
      f"`part` {part} of `size` {size} cannot be disjoint from the parts before it: {dataset.title} has"
      f" {total} training images, enough for `size` {total // (part + 1)}"
    )
  chosen = slice(part * size, (part + 1) * size)
  images, ids = dataset.pool[chosen], dataset.pool_ids[chosen]
  return Subset(images, ids, _fingerprint(images, ids))


def _order(ids, seed: int) -> np.ndarray:
  by_id = np.argsort(ids, kind="stable")
  # Raw bits, because NumPy promises them, unlike `permutation`, to stay the same from version to version.
  draws = np.random.PCG64(seed).random_raw(len(ids))
  return by_id[np.argsort(draws, kind="stable")]


def _fingerprint(*arrays) -> str:
  digest = hashlib.sha256()
  for array in arrays:
    digest.update(f"{array.shape} {array.dtype}".encode())
    digest.update(np.ascontiguousarray(array))
  return digest.hexdigest()[:16]


# Cache: one .npz per source and fit. Its zip checksums tell a damaged entry from a sound one.


def _entry(name: str, place: pathlib.Path, size: int, crop: bool) -> str:
  root = {"digits": None, "files": place}.get(name, place / re.split("[/:]", name)[0])
  files = [] if root is None else [root, *sorted(root.rglob("*"))]
  stamps = []
  for file in files:
    if file.is_file():
      status = file.stat()
      stamps.append((str(file.resolve()), status.st_size, status.st_mtime_ns))
  key = hashlib.sha256(json.dumps([name, stamps, size, crop]).encode()).hexdigest()[:16]
  return re.sub(r"\W", "-", name) + f"-{key}.npz"


def _read(entry: pathlib.Path) -> _Decoded | None:
  try:
    with np.load(entry, allow_pickle=False) as stored:
      decoded = _Decoded(*(stored[field] for field in _Decoded._fields))
  except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
    return None
  return decoded._replace(title=str(decoded.title), fingerprint=str(decoded.fingerprint))


def _write(entry: pathlib.Path, decoded: _Decoded) -> None:
  try:
    with results.writing(entry) as file:
      np.savez(file, **decoded._asdict())
  except OSError as error:
    raise ValueError(
      f"`data.cache` {entry.parent} cannot be written ({error}); want a writable directory"
    ) from error


# Pixels.


def _fit(image: np.ndarray, size: int, crop: bool) -> np.ndarray:
  height, width = image.shape[:2]
  if crop:
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    image = image[top : top + side, left : left + side]
  if size and image.shape[:2] != (size, size):
    planes = [Image.fromarray(np.ascontiguousarray(image[..., c])) for c in range(image.shape[2])]
    image = np.stack([plane.resize((size, size), Image.Resampling.LANCZOS) for plane in planes], axis=-1)
  return image


def _open(encoded: bytes, label: str) -> Image.Image:
  if not encoded:
    raise ValueError(f"`{label}` is empty; want an image")
  try:
    image = Image.open(io.BytesIO(encoded))
    image.load()
  except Exception as error:  # each of PIL's plugins fails in its own way
    reason = "of no known format" if isinstance(error, UnidentifiedImageError) else error
    raise ValueError(f"`{label}` cannot be read as an image ({reason})") from error
  return image


def _pixels(image: Image.Image, label: str) -> np.ndarray:
  if image.mode not in ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "YCbCr"):
    raise ValueError(f"`{label}` is stored as {image.mode}; want 8-bit grey or RGB")
  if image.has_transparency_data and image.convert("RGBA").getchannel("A").getextrema() != (255, 255):
    raise ValueError(f"`{label}` is transparent in places; want an opaque image, laid on a background")
  mode = "L" if image.mode in ("1", "L", "LA") else "RGB"
  return np.atleast_3d(np.asarray(image if image.mode == mode else image.convert(mode)))


def _decode_all(title: str, count: int, decode: Callable[[range], Iterable[tuple[str, np.ndarray]]]):
  """Decode images 0 to count - 1 chunk by chunk on all cores; grey ones among colour become R = G = B."""
  ids, images = [], []
  chunks = [range(start, min(start + CHUNK, count)) for start in range(0, count, CHUNK)]
  with (
    tqdm(total=count, desc=f"decoding {title}", unit=" images", delay=2) as bar,
    ThreadPoolExecutor(os.cpu_count()) as pool,
    contextlib.closing(pool.map(lambda chunk: list(decode(chunk)), chunks)) as parts,
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


def _decoded(title: str, train, test=None) -> _Decoded:
  """Check the ids of (images, ids) pairs, and put them in a record that waits for its fingerprint."""
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
  return _Decoded(title, images, ids, *test, fingerprint="")


# Sources.


def _decode_digits(name, place, fit) -> _Decoded:
  from sklearn.datasets import load_digits  # takes a second to import

  pixels = np.round(load_digits().images * (255 / 16)).astype(np.uint8)[..., None]
  images = np.stack([fit(image) for image in pixels])
  return _decoded("digits", (images, np.array([f"digit_{i:04d}" for i in range(len(images))])))


def _decode_files(name, place, fit) -> _Decoded:
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


def _decode_images(place, names: list[str], read: Callable[[str], bytes], fit) -> _Decoded:
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
      yield label, fit(_pixels(ImageOps.exif_transpose(_open(encoded, label)), label))

  return _decoded(place.name, _decode_all(place.name, len(labels), decode))


def _decode_arrays(place, fit) -> _Decoded:
  try:
    loaded = np.load(place, allow_pickle=False)
    arrays = {place.name: loaded} if isinstance(loaded, np.ndarray) else dict(loaded)
  except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
    raise ValueError(f"`data.path` {place} cannot be read as an array file ({error})") from error

  def split(prefix, key, numbers=None):
    images = _checked(arrays[key], f"`{key}`" if key == place.name else f"`{key}` of {place.name}")
    if numbers is None:
      numbers = range(len(images))

    def decode(chunk):
      return [(str(i), fit(images[i])) for i in chunk]

    fitted, _ = _decode_all(place.name, len(images), decode)
    return fitted, np.array([f"{prefix}_{number:05d}" for number in numbers])

  if "train_x" in arrays:
    train = split("train", "train_x", arrays.get("train_idx"))
    test = split("test", "test_x", arrays.get("test_idx")) if "test_x" in arrays else None
    return _decoded(place.name, train, test)
  keys = [key for key, array in arrays.items() if array.ndim in (3, 4) or key == place.name]
  if len(keys) != 1:
    found = ", ".join(f"{key} {array.shape}" for key, array in arrays.items()) or "nothing"
    raise ValueError(
      f"`data.path` {place} holds {found}; want `train_x` and optional `test_x`, or one image array"
    )
  return _decoded(place.name, split("image", keys[0]))


def _checked(images: np.ndarray, label: str) -> np.ndarray:
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


def _decode_tfds(name, place, fit) -> _Decoded:
  import tensorflow_datasets as tfds  # half a second, and TensorFlow is not among it
  from tensorflow_datasets.proto import tf_example_pb2

  try:
    builder = tfds.builder(name, data_dir=place)
  except tfds.core.DatasetNotFoundError as error:
    base = re.split("[/:]", name)[0]
    close = difflib.get_close_matches(base, [*DATASETS, *tfds.list_builders(with_community_datasets=False)])
    hint = f" (close: {', '.join(close)})" if close else ""
    raise ValueError(f"`data.name` is {name!r}; want digits, files or a TFDS image data set{hint}") from error
  except (ValueError, AssertionError) as error:
    raise ValueError(f"`data.name` {name!r} is not one that TFDS can build: {_first_line(error)}") from error

  features = builder.info.features
  feature = (
    features["image"] if isinstance(features, tfds.features.FeaturesDict) and "image" in features else None
  )
  if not isinstance(feature, tfds.features.Image) or feature.np_dtype != np.uint8:
    raise ValueError(f"`data.name` {name!r} has no uint8 feature `image`; want an image data set")
  if not (builder.data_path / "dataset_info.json").exists():
    _prepare(builder, name, place)
  formats = {file_format.value for file_format in builder.info.available_file_formats()}
  if "array_record" not in formats:
    raise ValueError(
      f"`{name}` in {builder.data_dir} is prepared as {'/'.join(sorted(formats))}; want array_record:"
      f" `tfds convert_format --dataset_dir={builder.data_dir} --out_file_format=array_record`"
    )
  if "train" not in builder.info.splits:
    raise ValueError(f"`{name}` has splits {', '.join(builder.info.splits)}; want one called `train`")

  title = LOSSLESS_TITLES.get(builder.name, name)

  def split(split_name):
    # Raw records: TFDS's own per-example decoding, with the same pixels, takes twice as long.
    source = tfds.data_source(
      name,
      data_dir=place,
      split=split_name,
      download=False,
      deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES,
    )

    def parse(record):
      return tf_example_pb2.Example.FromString(record).features.feature

    def decode(chunk):
      for i, record in zip(chunk, source.__getitems__(list(chunk)), strict=True):
        values = parse(record)
        has_id = "id" in values and values["id"].bytes_list.value
        label = values["id"].bytes_list.value[0].decode() if has_id else f"{split_name}_{i:05d}"
        yield label, fit(_pixels(_open(values["image"].bytes_list.value[0], label), label))

    first = parse(source[0])["image"].bytes_list.value[0]
    return first.startswith(b"\xff\xd8"), _decode_all(f"{title} {split_name}", len(source), decode)

  is_jpeg, train = split("train")
  _, test = split("test") if "test" in builder.info.splits else (None, None)
  copied = is_jpeg and builder.name in LOSSLESS_TITLES
  return _decoded(f"{title} (JPEG copy)" if copied else title, train, test)


def _prepare(builder, name: str, place: pathlib.Path) -> None:
  """Download a TFDS data set and write it as array records, or say at once why that cannot be."""
  refusal = (
    f"`{name}` is not prepared in {place}: point `data.dir` at a directory that holds a prepared `{name}/`"
  )
  if importlib.util.find_spec("tensorflow") is None:
    # Its builders unpack archives and encode images with TensorFlow, though reading them needs none.
    raise ValueError(
      f"{refusal}, or install TensorFlow to prepare it here: pip install 'gauss-diffusion[prepare]'"
    )
  by_hand = builder.data_dir_root / "downloads" / "manual"
  absent = {
    urllib.parse.urlparse(url).netloc: (url, archive.filename)
    for url, archive in (builder.url_infos or {}).items()
    if not (archive.filename and (by_hand / archive.filename).exists())
  }
  for host, (url, filename) in absent.items():
    if not _reachable(url):
      remedy = f", or put {filename} in {by_hand}" if filename else ""
      raise ValueError(f"{refusal}{remedy}: {host} does not answer")
  try:
    builder.download_and_prepare(file_format="array_record")
  except Exception as error:  # whatever a builder or its host does wrong
    raise ValueError(
      f"{refusal}; preparing it failed: {type(error).__name__}: {_first_line(error)}"
    ) from error


def _reachable(url: str, seconds: float = 4.0) -> bool:
  """Ask for the headers of `url`; TFDS itself would go on asking a dead host for minutes."""
  import requests

  if not url.startswith("http"):
    return True
  answers = []

  def ask():
    with contextlib.suppress(requests.RequestException):
      answers.append(requests.head(url, timeout=seconds))

  thread = threading.Thread(target=ask, daemon=True)  # a name server that hangs heeds no timeout
  thread.start()
  thread.join(seconds)
  return bool(answers)


def _first_line(error: Exception) -> str:
  return next(iter(str(error).strip().splitlines()), "")


DATASETS = {"digits": _decode_digits, "files": _decode_files}
