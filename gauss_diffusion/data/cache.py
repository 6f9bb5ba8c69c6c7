"""Decoded images on disk: one .npz per source and fit.

The checksums of its zip format tell a damaged entry from a sound one.
"""

import hashlib
import json
import pathlib
import re
import zipfile
import zlib

import numpy as np

from gauss_diffusion import results
from gauss_diffusion.data.pixels import Decoded


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
  """Return what an entry holds, or None when it is absent or damaged."""
  try:
    with np.load(entry, allow_pickle=False) as stored:
      decoded = Decoded(*(stored[field] for field in Decoded._fields))
  except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
    return None
  return decoded._replace(title=str(decoded.title), fingerprint=str(decoded.fingerprint))


def write_entry(entry: pathlib.Path, decoded: Decoded) -> None:
  """Write an entry, whole or not at all; a directory that cannot be written is a ValueError."""
  try:
    with results.writing(entry) as file:
      np.savez(file, **decoded._asdict())
  except OSError as error:
    raise ValueError(
      f"`data.cache` {entry.parent} cannot be written ({error}); want a writable directory"
    ) from error
