"""Decoded images on disk: one .npz per source and fit, of which images are not read but mapped into memory.

The checksums of its zip format tell a damaged entry from a sound one, and the name in it an exchanged one.
"""

import hashlib
import json
import math
import pathlib
import re
import struct
import zipfile
from typing import Any

import numpy as np
from jaxtyping import Shaped

from gauss_diffusion import results
from gauss_diffusion.data.files import DAMAGE
from gauss_diffusion.data.pixels import BLOCK, Decoded

MAPPED = ("images", "test")
LOCAL = struct.Struct("<26xHH")  # of a member's own header: how long a name and extra field follow it
NAME = "entry"  # the array that holds an entry's own name
DAY = 86_400  # seconds: a file that is being written is younger


def entry_name(name: str, root: pathlib.Path, size: int, crop: bool) -> str:
  """Return the file name of an entry, which changes with the source's files on disk.

  Args:
    name: of the data set.
    root: the file or folder that it is read from; one that does not exist counts as holding no files.
    size: as `data.load` takes it.
    crop: likewise.
  """
  stamps = []
  for file in [root, *sorted(root.rglob("*"))]:
    if file.is_file():
      status = file.stat()
      stamps.append((str(file.resolve()), status.st_size, status.st_mtime_ns))
  key = hashlib.sha256(json.dumps([name, stamps, size, crop]).encode()).hexdigest()[:16]
  return re.sub(r"\W", "-", name) + f"-{key}.npz"


def read_entry(entry: pathlib.Path) -> Decoded | None:
  """Return what an entry holds, or None when it is absent, damaged, or another one."""
  try:
    with zipfile.ZipFile(entry) as archive:
      if str(_read(archive, NAME)) != entry.name:
        return None
      found: dict[str, Any] = {
        field: (_mapped if field in MAPPED else _read)(archive, field) for field in Decoded._fields
      }
  except DAMAGE:
    return None
  return Decoded(**found | {"title": str(found["title"]), "fingerprint": str(found["fingerprint"])})


def write_entry(entry: pathlib.Path, decoded: Decoded) -> None:
  """Write an entry, whole or not at all, and delete what processes that died have left half written.

  Raises:
    ValueError: when the directory cannot be written.
  """
  try:
    results.sweep(entry.parent, DAY)
    with results.writing(entry) as file:
      np.savez(file, **decoded._asdict() | {NAME: entry.name})
  except OSError as error:
    raise ValueError(
      f"`data.cache` {entry.parent} cannot be written ({error}); want a writable directory"
    ) from error


def _read(archive: zipfile.ZipFile, name: str) -> Shaped[np.ndarray, "..."]:
  with archive.open(f"{name}.npy") as member:
    array = np.lib.format.read_array(member, allow_pickle=False)
    if member.read(1):  # checksums are compared at the end alone
      raise ValueError(f"`{name}` has more than its header claims")
  return array


def _mapped(archive: zipfile.ZipFile, name: str) -> Shaped[np.ndarray, "..."]:
  """Return an array where it lies in the file, once its checksum has been compared."""
  info = archive.getinfo(f"{name}.npy")
  with archive.open(info) as member:
    np.lib.format.read_magic(member)
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(member)
    header = member.tell()
    while member.read(BLOCK):
      pass
  size = info.file_size - header
  if info.compress_type != zipfile.ZIP_STORED or fortran or size != math.prod(shape) * dtype.itemsize:
    raise ValueError(f"`{name}` does not lie in the file as its header claims")
  if not size:
    return np.empty(shape, dtype)
  assert archive.fp is not None
  archive.fp.seek(info.header_offset)
  start = info.header_offset + LOCAL.size + header + sum(LOCAL.unpack(archive.fp.read(LOCAL.size)))
  return np.asarray(np.memmap(archive.fp, dtype, "r", start, shape))
