"""Write and read what a study leaves behind: labelled results with their cards, metric lines, provenance.

A result is two files. ``<path>.nc`` holds raw per-sample arrays with the names of their axes, coordinates
and units (an `xarray.Dataset` in NetCDF 4). ``<path>.json`` is its card: what the arrays were computed from,
and a digest of both files, so that a damaged or exchanged one is an error. Every file appears whole or not at
all, the card comes last, and a result that replaces another leaves the old one in place until it is complete.
"""

import contextlib
import hashlib
import importlib.metadata
import json
import math
import os
import pathlib
import platform
import re
import shutil
import time
import typing
from collections.abc import Hashable, Iterator
from typing import Any, BinaryIO

import numpy as np

if typing.TYPE_CHECKING:
  import xarray

Path = str | os.PathLike

SHOWN = "_shown"  # how names end of arrays that hold images as figures show them, and of axes cut for it
VALUES = "values"  # attribute of a result whose images are floats, and not pixels in [-1, 1]
_PACKAGES = ("gauss-diffusion", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
_KINDS = "biufU"  # of dtype: what NetCDF keeps as it is
_SMALL = 2**22  # elements; larger arrays, maps as large as the data, are noise to a compressor


class DamagedError(ValueError):
  """A file is missing, or not what was written."""


def labelled(variables: dict[str, tuple], coords: dict[str, Any]) -> "xarray.Dataset":
  """Return arrays with the names of their axes, as a `xarray.Dataset`.

  Two coordinates along one axis that has none of its own name index it together, so that
  ``found.rmse.sel(one="network", two="gaussian")`` picks one pair.

  Args:
    variables: name -> (axes, values) or (axes, values, unit); axes are a name or a tuple of names.
    coords: name -> values along the axis of that name, or (axes, values) or (axes, values, unit).

  Raises:
    ValueError: when an array is of objects, or its shape is not that of its axes.
  """
  import xarray as xr  # takes half a second, and a notebook may do without

  def variable(name, value):
    axes, values, *unit = value if isinstance(value, tuple) else (name, value)
    values = np.asarray(values)
    if values.dtype.kind not in _KINDS:
      raise ValueError(f"array `{name}` has dtype {values.dtype}; want numbers, booleans or strings")
    return axes, values, {"units": unit[0]} if unit else {}

  return _index(
    xr.Dataset(
      {name: variable(name, value) for name, value in variables.items()},
      coords={name: variable(name, value) for name, value in coords.items()},
    )
  )


def save(path: Path, found: "xarray.Dataset | None", card: dict, *, squeeze: bool = True) -> None:
  """Write a result, its arrays, then its card; replaces one that lies there.

  Args:
    path: without suffix, ``results/<analysis>/<label>``; folders are made.
    found: from `labelled`; None where there is nothing to measure, as the card says.
    card: plain values; NumPy scalars and arrays become numbers and lists, non-finite numbers null. A
      ``content`` and a ``checksum`` are added.
    squeeze: whether arrays are compressed one by one; an archive of many results does better without.

  Raises:
    ValueError: when a card value cannot be stored.
  """
  card = _plain(card) | {"content": None}
  arrays = pathlib.Path(f"{path}.nc")
  if found is not None:
    with writing(_successor(path)) as file:
      _write_netcdf(found, file.name, squeeze)
    card["content"] = digest(_successor(path))
  # From here on the new arrays are the result: if this process dies before they have their name, `read_card`
  # gives it to them.
  write_json(f"{path}.json", card | {"checksum": _checksum(card)})
  if found is None:
    arrays.unlink(missing_ok=True)
  else:
    os.replace(_successor(path), arrays)


def load(path: Path, skip: tuple[str, ...] = ()) -> "tuple[xarray.Dataset | None, dict]":
  """Read a finished result.

  Args:
    path: without suffix, as given to `save`.
    skip: arrays to leave on disk, such as maps as large as the data.

  Returns:
    Its arrays, None where there was nothing to measure, and its card.

  Raises:
    ValueError: when there is none, or a file of it is missing, damaged, or another result's.
  """
  card = read_card(path)
  if card["content"] is None:
    return None, card
  import xarray as xr

  with xr.open_dataset(f"{path}.nc", engine="h5netcdf") as stored:
    return _index(stored.drop_vars(skip, errors="ignore").load()), card


def read_card(path: Path) -> dict:
  """Return the card of a finished result, having checked both files against their digests.

  Raises:
    ValueError: when there is none, or a file of it is missing, damaged, or another result's.
  """
  if not exists(path):
    raise ValueError(f"`{path}` holds no finished result: `{path}.json` is missing; run its analysis first")
  card, remedy = read_json(f"{path}.json"), f"delete `{path}.json` and run the same command again"
  if not isinstance(card, dict) or "content" not in card or "checksum" not in card:
    raise _corrupt(f"{path}.json", ValueError("it is no card of a result"), remedy)
  if card.pop("checksum") != _checksum(card):
    raise _corrupt(f"{path}.json", ValueError("it does not match its checksum"), remedy)
  if card["content"] is not None:
    arrays = pathlib.Path(f"{path}.nc")
    with contextlib.suppress(FileNotFoundError):
      if digest(_successor(path)) == card["content"]:
        os.replace(_successor(path), arrays)
    try:
      found = digest(arrays)
    except OSError as error:
      raise _corrupt(arrays, error, remedy) from error
    if found != card["content"]:
      raise _corrupt(arrays, ValueError("it is damaged, or not the one that its card describes"), remedy)
  return card


def exists(path: Path) -> bool:
  """Tell whether a finished result lies at `path` (without suffix)."""
  return pathlib.Path(f"{path}.json").exists()


def current(path: Path, inputs: dict) -> bool:
  """Tell whether the result at `path` is sound and was computed from just these `inputs`."""
  try:
    return exists(path) and read_card(path).get("inputs") == _plain(inputs)
  except ValueError:  # damaged: it has to be computed again
    return False


def open(workdir: Path) -> dict[str, dict[str, "xarray.Dataset"]]:
  """Return everything that a study found: ``open(workdir)["score_gap"]["n16"].rmse.sel(law="held-out")``.

  Args:
    workdir: of a study, or any folder with a ``results/`` in it.

  Returns:
    analysis -> model's label -> arrays. Models for which an analysis had nothing to measure are left out.

  Raises:
    ValueError: when there are no results, or one of them is damaged.
  """
  cards = sorted(pathlib.Path(workdir).glob("results/*/*.json"))
  if not cards:
    raise ValueError(f"`workdir` {str(workdir)!r} holds no results; want the working directory of a study")
  found: dict[str, dict] = {}
  for path in cards:
    arrays, _ = load(path.with_suffix(""))
    if arrays is not None:
      found.setdefault(path.parent.name, {})[path.stem] = arrays
  return found


def digest(path: Path) -> str:
  """Return the SHA-256 of a file's content, in hexadecimal."""
  with pathlib.Path(path).open("rb") as file:
    return hashlib.file_digest(file, "sha256").hexdigest()


def write_json(path: Path, obj: Any) -> None:
  """Write plain values as JSON, whole or not at all; replaces what was there."""
  text = _dumps(obj, indent=2)
  with writing(path) as file:
    file.write(text)


def read_json(path: Path, remedy: str = "delete it and run the same command again") -> Any:
  """Read a JSON file.

  Args:
    path: of the file.
    remedy: what an error advises.

  Raises:
    ValueError: when it is missing or corrupt.
  """
  try:
    return json.loads(pathlib.Path(path).read_bytes())
  except (OSError, ValueError, RecursionError) as error:  # brackets a thousand deep
    raise _corrupt(path, error, remedy) from error


@contextlib.contextmanager
def writing(path: Path) -> Iterator[BinaryIO]:
  """Open a binary file that appears at `path`, whole, when the block ends well, and else not at all."""
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
  try:
    with temporary.open("wb") as file:
      yield file
      file.flush()
      os.fsync(file.fileno())
    os.replace(temporary, path)
  except OSError as error:  # of a full disk, which doesn't say where
    error.filename = error.filename or str(path)
    raise
  finally:
    temporary.unlink(missing_ok=True)


def sweep(folder: Path, age: float = 0.0) -> None:
  """Delete what processes that died left half written below a folder; that of living ones stays.

  Args:
    folder: may be missing.
    age: seconds for which nothing was written to it. Where other machines write too, whose processes can't be
      told from dead ones, it says that they must be.
  """
  for path in list(pathlib.Path(folder).rglob(".*.tmp")):
    found = re.fullmatch(r"\..+\.(\d+)\.tmp", path.name)
    if found and not _alive(int(found[1])):
      with contextlib.suppress(FileNotFoundError):  # another process sweeps too
        if time.time() - path.stat().st_mtime >= age:
          shutil.rmtree(path) if path.is_dir() else path.unlink()


def copy(source: Path, path: Path) -> None:
  """Copy a file; the copy appears whole or not at all."""
  with pathlib.Path(source).open("rb") as found, writing(path) as file:
    shutil.copyfileobj(found, file)


def append_metrics(path: Path, record: dict) -> None:
  """Append one line of scalars, ``{"step": ..., "loss": ...}``, to a file of JSON lines.

  A line that a killed process left torn is cut off first.
  """
  line = _dumps(record) + b"\n"
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  with path.open("a+b") as file:
    if _ends_torn(file):
      file.seek(0)
      file.truncate(file.read().rfind(b"\n") + 1)
    file.write(line)


def write_metrics(path: Path, records: list[dict[str, Any]]) -> None:
  """Make a file of metric lines hold just these, whole or not at all; one that does is left as it is."""
  text = b"".join(_dumps(record) + b"\n" for record in records)
  path = pathlib.Path(path)
  if not path.exists() or path.read_bytes() != text:
    with writing(path) as file:
      file.write(text)


def read_records(path: Path) -> list[dict[str, Any]]:
  """Read metric lines, in order of ``step``.

  A torn last line is left out, and of lines with the same step the last counts.

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
    except (ValueError, KeyError, TypeError, RecursionError) as error:
      raise _corrupt(f"{path}:{number}", error, "delete that line and run the same command again") from error
  return [by_step[step] for step in sorted(by_step)]


def read_metrics(path: Path) -> dict[str, np.ndarray]:
  """Read metric lines as columns; see `read_records` and `columns`."""
  return columns(read_records(path))


def columns(records: list[dict[str, Any]]) -> dict[str, np.ndarray]:
  """Return records as columns: name -> float64 [records], NaN where one lacks the name or holds null."""
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


def leaves(tree: dict, prefix: str = "") -> Iterator[tuple[str, Any]]:
  """Yield ``("section.field", value)`` for every leaf of a nested dict."""
  for key, value in tree.items():
    if isinstance(value, dict):
      yield from leaves(value, f"{prefix}{key}.")
    else:
      yield f"{prefix}{key}", value


def _successor(path: Path) -> pathlib.Path:
  """Return where the arrays of a result wait, complete, for the card that names them."""
  path = pathlib.Path(path)
  return path.with_name(f".{path.name}.nc.next")


def _checksum(card: dict) -> str:
  return hashlib.sha256(_dumps(card)).hexdigest()


def _write_netcdf(found: "xarray.Dataset", path: str, squeeze: bool) -> None:
  found = found.reset_index([name for name in found.indexes if found.indexes[name].nlevels > 1])
  encoding = {
    name: {"zlib": True, "complevel": 4, "shuffle": True}
    for name, values in found.data_vars.items()
    if squeeze and values.ndim and values.dtype.kind in "iuf" and values.size <= _SMALL
  }
  found.to_netcdf(path, engine="h5netcdf", encoding=encoding)


def _index(found: "xarray.Dataset") -> "xarray.Dataset":
  """Let coordinates that share an axis without a coordinate of its own index it together."""
  sharing: dict[Hashable, list[Hashable]] = {}
  for name, values in found.coords.items():
    if values.ndim == 1 and values.dims[0] not in found.coords:
      sharing.setdefault(values.dims[0], []).append(name)
  together = {axis: names for axis, names in sharing.items() if len(names) > 1}
  return found.set_index(together)


def _alive(pid: int) -> bool:
  try:
    os.kill(pid, 0)
  except ProcessLookupError:
    return False
  except (PermissionError, OverflowError):
    return True  # somebody else's
  return True


def _ends_torn(file) -> bool:
  if not file.seek(0, os.SEEK_END):
    return False
  file.seek(-1, os.SEEK_END)
  return file.read() != b"\n"


def _corrupt(path, error: Exception, remedy: str) -> DamagedError:
  reason = " ".join(str(error).split()) or type(error).__name__
  return DamagedError(f"`{path}` can't be read ({reason}); {remedy}")


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
