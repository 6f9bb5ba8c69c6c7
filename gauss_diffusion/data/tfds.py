"""Any image data set of TensorFlow Datasets, read without TensorFlow, and prepared with it."""

import contextlib
import difflib
import importlib.util
import pathlib
import re
import threading
import urllib.parse
from collections.abc import Iterable

import numpy as np

from gauss_diffusion.data import pixels
from gauss_diffusion.data.pixels import Decoded, Fit

# Data sets published as raw pixels: stored as JPEG, they are not the originals.
LOSSLESS_TITLES = {
  "cifar10": "CIFAR-10",
  "cifar100": "CIFAR-100",
  "fashion_mnist": "Fashion-MNIST",
  "mnist": "MNIST",
  "svhn_cropped": "SVHN",
}
UNKNOWN = -1  # the label of an image of which the data set does not say what it shows


def decode(name: str, place: pathlib.Path, fit: Fit, known: Iterable[str]) -> Decoded:
  """Return the splits `train` and `test` of a data set, prepared first where it is not.

  Args:
    name: as TFDS takes it, such as "cifar10" or "cifar10:3.0.2".
    place: TFDS data directory, which holds ``<name>/``.
    fit: applied to every image.
    known: names of the other sources, for the answer to an unknown name.

  Returns:
    A `Decoded` record; ids are those of the data set, else ``train_00000`` and so on. Labels are those of its
    feature `label`, unless it says of some images, by −1, that nobody knows their class.

  Raises:
    ValueError: when there is no such data set, it has no uint8 images or no training split, or it is neither
      prepared nor can be.
  """
  import tensorflow_datasets as tfds  # half a second, and TensorFlow is not among it
  from tensorflow_datasets.proto import tf_example_pb2

  try:
    builder = tfds.builder(name, data_dir=place)
  except tfds.core.DatasetNotFoundError as error:
    base = re.split("[/:]", name)[0]
    close = difflib.get_close_matches(base, [*known, *tfds.list_builders(with_community_datasets=False)])
    hint = f" (close: {', '.join(close)})" if close else ""
    raise ValueError(
      f"`data.name` is {name!r}; want {', '.join(known)} or a TFDS image data set{hint}"
    ) from error
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
  kind = features["label"] if "label" in features else None
  classes = kind.names if isinstance(kind, tfds.features.ClassLabel) else []

  def split(split_name):
    # Raw records: TFDS's own per-example decoding, with the same pixels, takes twice as long.
    source = tfds.data_source(
      name,
      data_dir=place,
      split=split_name,
      download=False,
      deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES,
    )

    labels = np.full(len(source), UNKNOWN)

    def parse(record):
      return tf_example_pb2.Example.FromString(record).features.feature

    def decode(chunk):
      for i, record in zip(chunk, source.__getitems__(list(chunk)), strict=True):
        values = parse(record)
        has_id = "id" in values and values["id"].bytes_list.value
        name = values["id"].bytes_list.value[0].decode() if has_id else f"{split_name}_{i:05d}"
        if classes:
          (labels[i],) = values["label"].int64_list.value
        yield name, fit(pixels.open_image(values["image"].bytes_list.value[0], name))

    first = parse(source[0])["image"].bytes_list.value[0]
    decoded = pixels.decode_all(f"{title} {split_name}", len(source), decode)
    return first.startswith(b"\xff\xd8"), decoded, labels

  is_jpeg, train, labels = split("train")
  _, test, test_labels = split("test") if "test" in builder.info.splits else (None, None, labels[:0])
  title = f"{title} (JPEG copy)" if is_jpeg and builder.name in LOSSLESS_TITLES else title
  if UNKNOWN in labels or UNKNOWN in test_labels:
    return pixels.decoded(title, train, test)
  return pixels.decoded(title, train, test, labels=(labels, test_labels), classes=classes)


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
    if not reachable(url):
      remedy = f", or put {filename} in {by_hand}" if filename else ""
      raise ValueError(f"{refusal}{remedy}: {host} does not answer")
  try:
    builder.download_and_prepare(file_format="array_record")
  except Exception as error:  # whatever a builder or its host does wrong
    raise ValueError(
      f"{refusal}; preparing it failed: {type(error).__name__}: {_first_line(error)}"
    ) from error


def reachable(url: str, seconds: float = 4.0) -> bool:
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
