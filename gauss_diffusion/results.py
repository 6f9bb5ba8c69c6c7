"""Write and read what a study leaves behind: arrays with a card, metric lines, provenance.

A result is two files, ``<path>.npz`` with raw per-sample arrays and ``<path>.json``, its card. Every
file appears whole or not at all, and the card comes last: a result exists if and only if its card does.
"""

import contextlib
import importlib.metadata
import json
import math
import os
import pathlib
import platform
import shutil
import zipfile

import numpy as np

_PACKAGES = ("gauss-diffusion", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
_KINDS = "biufcUS"  # of dtype: what .npz keeps without pickling


def save(path, arrays: dict, card: dict) -> None:
  """Write a result once: its arrays, then its card.

  Args:
    path: without suffix, ``results/<analysis>/<label>``; folders are made.
    arrays: name -> array of numbers, booleans or strings, in any form that `np.asarray` takes.
    card: plain values; NumPy scalars and arrays become numbers and lists, non-finite numbers null.

  Raises:
    ValueError: when a finished result lies there, or an array or card value cannot be stored.
  """
  if exists(path):
    raise ValueError(f"`{path}` already holds a finished result; delete its card `{path}.json` to replace it")
  arrays = {name: np.asarray(values) for name, values in arrays.items()}
  for name, values in arrays.items():
    if values.dtype.kind not in _KINDS:
      raise ValueError(f"array `{name}` has dtype {values.dtype}; want numbers, booleans or strings")
  text = _dumps(card, indent=2)
  with writing(f"{path}.npz") as file:
    np.savez(file, **arrays)
  with writing(f"{path}.json") as file:
    file.write(text)


def load(path, skip: tuple[str, ...] = ()) -> tuple[dict, dict]:
  """Read a finished result.

  Args:
    path: without suffix, as given to `save`.
    skip: arrays to leave on disk, such as maps as large as the data.

  Returns:
    Its arrays by name, and its card.

  Raises:
    ValueError: when there is none, or a file of it is missing or corrupt.
  """
  if not exists(path):
    raise ValueError(f"`{path}` holds no finished result: `{path}.json` is missing; run its analysis first")
  card = read_json(f"{path}.json")
  try:
    with np.load(f"{path}.npz", allow_pickle=False) as file:
      return {name: file[name] for name in file.files if name not in skip}, card
  except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
    raise _corrupt(f"{path}.npz", error, f"delete `{path}.npz` and `{path}.json`") from error


def exists(path) -> bool:
  """Tell whether a finished result lies at `path` (without suffix)."""
  return pathlib.Path(f"{path}.json").exists()


def write_json(path, obj) -> None:
  """Write plain values as JSON, whole or not at all; replaces what was there."""
  text = _dumps(obj, indent=2)
  with writing(path) as file:
    file.write(text)


def read_json(path):
  """Read a JSON file.

  Raises:
    ValueError: when it is missing or corrupt.
  """
  try:
    return json.loads(pathlib.Path(path).read_bytes())
  except (OSError, ValueError) as error:
    raise _corrupt(path, error, "delete it") from error


@contextlib.contextmanager
def writing(path):
  """Open a binary file that appears at `path`, whole, when the block ends well, and else not at all."""
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
  try:
    with open(temporary, "wb") as file:
      yield file
      file.flush()
      os.fsync(file.fileno())
    os.replace(temporary, path)
  finally:
    temporary.unlink(missing_ok=True)


def copy(source, path) -> None:
  """Copy a file; the copy appears whole or not at all."""
  with open(source, "rb") as found, writing(path) as file:
    shutil.copyfileobj(found, file)


def append_metrics(path, record: dict) -> None:
  """Append one line of scalars, ``{"step": ..., "loss": ...}``, to a file of JSON lines.

  A line that a killed process left torn is cut off first.
  """
  line = _dumps(record) + b"\n"
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  with open(path, "a+b") as file:
    if _ends_torn(file):
      file.seek(0)
      file.truncate(file.read().rfind(b"\n") + 1)
    file.write(line)


def read_metrics(path) -> dict[str, np.ndarray]:
  """Read metric lines as columns, in order of ``step``.

  A torn last line is left out, and of lines with the same step the last counts: a resumed run writes
  again what it did after its checkpoint.

  Returns:
    name -> float64 [lines], NaN where a line lacks the name or holds null.

  Raises:
    ValueError: when the file is missing or a whole line is corrupt.
  """
  try:
    *lines, _ = pathlib.Path(path).read_bytes().split(b"\n")
  except OSError as error:
    raise ValueError(f"`{path}` can't be read ({error.strerror}); train this model first") from error
  by_step = {}
  for number, line in enumerate(lines, 1):
    try:
      record = json.loads(line)
      by_step[record["step"]] = record
    except (ValueError, KeyError, TypeError) as error:
      raise _corrupt(f"{path}:{number}", error, "delete that line") from error
  records = [by_step[step] for step in sorted(by_step)]
  names = dict.fromkeys(name for record in records for name in record)
  return {name: np.array([record.get(name) for record in records], np.float64) for name in names}


def versions() -> dict[str, str]:
  """Return the versions of Python and of the packages that a number depends on, without importing them."""
  found = {"python": platform.python_version()}
  for package in _PACKAGES:
    try:
      found[package] = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
      found[package] = "not installed"
  return found


def leaves(tree: dict, prefix: str = ""):
  """Yield ``("section.field", value)`` for every leaf of a nested dict."""
  for key, value in tree.items():
    if isinstance(value, dict):
      yield from leaves(value, f"{prefix}{key}.")
    else:
      yield f"{prefix}{key}", value


def _ends_torn(file) -> bool:
  if not file.seek(0, os.SEEK_END):
    return False
  file.seek(-1, os.SEEK_END)
  return file.read() != b"\n"


def _corrupt(path, error: Exception, remedy: str) -> ValueError:
  reason = " ".join(str(error).split()) or type(error).__name__
  return ValueError(f"`{path}` can't be read ({reason}); {remedy} and run the same command again")


def _dumps(obj, indent: int | None = None) -> bytes:
  return json.dumps(_plain(obj), indent=indent, allow_nan=False, ensure_ascii=False).encode()


def _plain(value, where: str = ""):
  if isinstance(value, dict):
    return {str(key): _plain(item, f"{where}.{key}" if where else str(key)) for key, item in value.items()}
  if isinstance(value, (list, tuple)):
    return [_plain(item, f"{where}[{index}]") for index, item in enumerate(value)]
  if hasattr(value, "tolist"):  # a NumPy or jax scalar or array
    return _plain(value.tolist(), where)
  if isinstance(value, float):
    return value if math.isfinite(value) else None
  if value is None or isinstance(value, (str, int)):
    return value
  raise ValueError(f"`{where}` is a {type(value).__name__}; a card holds numbers, strings, lists and dicts")
