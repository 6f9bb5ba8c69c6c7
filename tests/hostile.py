"""Files that claim more than they have, hold more than they claim, or hold something else than they say."""

import io
import struct
import zlib

import numpy as np
from PIL import Image


def png(image=None) -> bytes:
  file = io.BytesIO()
  Image.fromarray(np.zeros((6, 6, 3), np.uint8) if image is None else image).save(file, "png")
  return file.getvalue()


def huge_png(side=13_000) -> bytes:
  """Return a sound PNG of side x side black pixels, in half a megabyte at 13,000."""

  def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

  pixels = zeros((3 * side + 1) * side)
  stream = (
    b"\x78\x9c" + pixels + struct.pack(">I", (3 * side + 1) * side % 65521 << 16 | 1)
  )  # Adler-32 of zeros
  header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
  return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", stream) + chunk(b"IEND", b"")


def zeros(size) -> bytes:
  """Return a deflated stream of so many zeros, made in no time: one megabyte, again and again."""
  whole, rest = divmod(size, 2**20)
  return _deflated(bytes(2**20), last=False) * whole + _deflated(bytes(rest), last=True)


def _deflated(content, last):
  made = zlib.compressobj(9, zlib.DEFLATED, -15)
  return made.compress(content) + made.flush(zlib.Z_FINISH if last else zlib.Z_FULL_FLUSH)


def archive(path, name: str, stream: bytes, claimed: int, crc=0, method=8, twice=False) -> None:
  """Write a zip archive of one entry with this deflated stream, which claims to inflate to so many bytes."""
  label = name.encode()
  fields = struct.pack("<HHHHIII", 0, method, 0, 33, crc, len(stream), claimed)
  local = b"PK\x03\x04" + struct.pack("<H", 20) + fields + struct.pack("<HH", len(label), 0) + label + stream
  central = b"PK\x01\x02" + struct.pack("<HH", 20, 20) + fields
  central += struct.pack("<HHHHHII", len(label), 0, 0, 0, 0, 0, 0) + label
  entries = 2 if twice else 1
  end = b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, entries, entries, entries * len(central), len(local), 0)
  path.write_bytes(local + entries * central + end)


def array_header(shape, dtype="|u1") -> bytes:
  """Return the header of an .npy that claims this shape."""
  file = io.BytesIO()
  np.lib.format.write_array_header_1_0(file, {"descr": dtype, "fortran_order": False, "shape": shape})
  return file.getvalue()


def frames(kind: str) -> bytes:
  """Return an image file of two frames or pages."""
  file = io.BytesIO()
  first, second = (Image.fromarray(np.full((6, 6, 3), value, np.uint8)) for value in (0, 200))
  first.save(file, kind, save_all=True, append_images=[second])
  return file.getvalue()
