"""Images from strangers: what a file claims is checked first, in bounded memory and time, and named."""

import os
import pathlib
import subprocess
import sys
import time
import warnings
import zipfile

import hostile
import numpy as np
import pytest
from PIL import Image

from gauss_diffusion import data

GOOD = hostile.png()
SECONDS = 10  # that a refusal may take on a busy machine; each takes a fraction of one
HEADROOM = 2**29  # bytes beyond what importing takes; every file below would want a gigabyte or more


def folder(path, content):
  path.mkdir()
  for name in ("a.png", "b.png", "c.png"):
    (path / name).write_bytes(GOOD)
  (path / "odd.png").write_bytes(content)


def array(path, content):
  path.with_suffix(".npy").write_bytes(content)


def archive(path, **fields):
  hostile.archive(path.with_suffix(".zip"), **fields)


def arrays(path, **fields):
  hostile.archive(path.with_suffix(".npz"), **fields)


HUGE = (10**6, 1000, 1000)
EPS = (
  b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n(CANARY) (w) file closefile\nshowpage\n"
)
HOSTILE = {
  "many pixels": (folder, [hostile.huge_png()], "`odd.png` has 13000 x 13000 pixels; want at most"),
  "a program": (folder, [EPS], "`odd.png` cannot be read as an image .of no known format; known: BMP"),
  "pages": (folder, [hostile.frames("tiff")], "`odd.png` has several frames or pages; want one"),
  "an animation": (folder, [hostile.frames("png")], "`odd.png` has several frames"),
  "a film": (folder, [hostile.frames("webp")], "`odd.png` has several frames"),
  "a claimed shape": (
    array,
    [hostile.array_header(HUGE) + bytes(99)],
    "claims 1000000000000 bytes, and has 99",
  ),
  "a long header": (array, [b"\x93NUMPY\x02\x00" + b"\xff\xff\xff\xff" + b"("], "cannot be read as an array"),
  "nesting": (array, [b"\x93NUMPY\x01\x00\x00\x20" + b"(" * 8192], "cannot be read as an array file"),
  "objects": (array, [hostile.array_header((2,), "|O") + bytes(99)], "cannot be read as an array file"),
}
ENTRIES = {
  "a large member": (
    archive,
    dict(name="a.png", stream=hostile.zeros(3 * 2**29), claimed=3 * 2**29),
    "`a.png` of .*large-member.zip cannot be read .it has more than the 268435456 bytes",
  ),
  "more than claimed": (
    archive,
    dict(name="a.png", stream=hostile.zeros(2**30), claimed=64),
    "`a.png` .*cannot be read",
  ),
  "a name twice": (
    archive,
    dict(name="a.png", stream=hostile.zeros(9), claimed=9, twice=True),
    "holds `a.png` twice; want every name once",
  ),
  "another method": (
    archive,
    dict(name="a.png", stream=b"BZh9", claimed=2**30, method=12),
    "`a.png` .*compressed by another method than deflate",
  ),
  "control characters": (
    archive,
    dict(name="\x1b[2Ja" + "b" * 60_000 + ".png", stream=hostile.zeros(9), claimed=9),
    r"`\\x1b\[2Jabb.* … .*b\.png` .*cannot be read",
  ),
  "an array with a claimed shape": (
    arrays,
    dict(name="x.npy", stream=hostile.zeros(64), claimed=64),
    "cannot be read as an array file",
  ),
  "an array larger than memory": (
    arrays,
    dict(name="x.npy", stream=hostile.zeros(9), claimed=2**32 - 2),
    "cannot be read as an array file|holds 4.3 GB of pixels",
  ),
}


def made(tmp_path, name):
  build, content, _ = (HOSTILE | ENTRIES)[name]
  path = tmp_path / name.replace(" ", "-")
  build(path, **content) if name in ENTRIES else build(path, *content)
  (found,) = tmp_path.glob(f"{path.name}*")
  return found


@pytest.mark.parametrize("name", HOSTILE | ENTRIES)
def test_hostile_files_are_refused_by_name(tmp_path, name):
  path, start = made(tmp_path, name), time.process_time()
  with pytest.raises(ValueError, match=(HOSTILE | ENTRIES)[name][2]) as error:
    with warnings.catch_warnings():
      warnings.simplefilter("error")
      data.load("files", path=str(path), held_out=1, cache=f"{tmp_path}/cache")
  assert time.process_time() - start < SECONDS
  assert str(error.value).isprintable() and len(str(error.value)) < 1000
  assert sorted(os.listdir(tmp_path)) == [path.name]  # and no cache


GROWN = """
import pathlib, resource, sys
from gauss_diffusion import data

def taken():  # bytes of memory of its own: maps of files are none
  found = pathlib.Path("/proc/self/status").read_text().split("VmData:")[1].split()[0]
  return 1024 * int(found)

place = pathlib.Path(sys.argv[1])
for again in range(2):  # decoded, and from the cache
  data.load("files", path=str(place / "few.npy"), held_out=9, drop_duplicates=True, cache=sys.argv[1])
limit = taken() + int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
for again in range(2):
  many = str(place / "many.npy")
  found = data.load("files", path=many, held_out=9, drop_duplicates=True, cache=sys.argv[1])
print(found.pool[123].tobytes().hex(), len(data.subset(found, 700, draw=3).images), found.pool.nbytes)
"""


@pytest.mark.processes
@pytest.mark.skipif(not pathlib.Path("/proc/self/statm").exists(), reason="limits of memory are Linux's")
def test_images_take_files_and_no_memory(tmp_path):
  """Of a data set of 96 MB, decoding, the cache, order, duplicates and subsets hold a fraction in memory."""
  blocks = np.random.default_rng(0).integers(
    0, 256, (2000, 16, 16, 3), np.uint8
  )  # far apart: quickly compared
  images = blocks.repeat(8, axis=1).repeat(8, axis=2)
  np.save(tmp_path / "few.npy", images[:100])
  np.save(tmp_path / "many.npy", images)
  want = data.load("files", path=f"{tmp_path}/many.npy", held_out=9, cache=f"{tmp_path}/c").pool[123]
  command = [sys.executable, "-c", GROWN, str(tmp_path), str(images.nbytes // 2)]
  found = subprocess.run(command, capture_output=True, text=True, timeout=120)
  assert found.returncode == 0, found.stderr
  assert found.stdout.split() == [want.tobytes().hex(), "700", str(images[9:].nbytes)]


LIMITED = f"""
import pathlib, resource, sys
from gauss_diffusion import data
taken = int(pathlib.Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (taken + {HEADROOM}, taken + {HEADROOM}))
for path in sys.argv[1:]:
  try:
    data.load("files", path=path, held_out=1, cache=path + ".cache")
    print("accepted", path)
  except ValueError as error:
    print("MemoryError" in repr(error.__cause__), path)
"""


@pytest.mark.processes
@pytest.mark.skipif(not pathlib.Path("/proc/self/statm").exists(), reason="limits of memory are Linux's")
def test_hostile_files_are_refused_in_little_memory(tmp_path):
  paths = [str(made(tmp_path, name)) for name in HOSTILE | ENTRIES]
  found = subprocess.run([sys.executable, "-c", LIMITED, *paths], capture_output=True, text=True, timeout=120)
  assert found.stdout.splitlines() == [f"False {path}" for path in paths], found.stderr


def test_images_that_do_not_fit_are_refused_before_they_are_decoded(tmp_path, monkeypatch):
  folder(tmp_path / "own", GOOD)
  monkeypatch.setattr(data.pixels, "check_room", lambda size, what: seen.append(size))
  seen = []
  data.load("files", path=f"{tmp_path}/own", held_out=1, cache=f"{tmp_path}/cache")
  assert seen == [4 * 6 * 6 * 3]
  monkeypatch.undo()
  with pytest.raises(ValueError, match="`x` holds 1000000.0 GB of pixels, and .* has room for .* TMPDIR"):
    data.pixels.check_room(10**15, "x")
  with pytest.raises(ValueError, match="`x` holds 1000000.0 GB of pixels, read whole, more than half"):
    data.pixels.check_memory(10**15, "x")


def test_a_full_disk_is_one_line(monkeypatch, tmp_path):
  monkeypatch.setattr(data.pixels.tempfile, "tempdir", str(tmp_path / "none"))
  with pytest.raises(
    ValueError, match=f"^{tmp_path}/none cannot keep the images .*want room for them, or an"
  ):
    data.pixels.rows(np.zeros((3, 2, 2, 1), np.uint8), np.array([2, 0]))


def test_images_in_a_file_without_a_name_are_those_that_were_given(monkeypatch):
  monkeypatch.setattr(data.pixels, "BLOCK", 5 * 12)
  images = np.random.default_rng(0).integers(0, 256, (23, 2, 2, 3), np.uint8)
  chosen = np.random.default_rng(1).permutation(23)[:17]
  np.testing.assert_array_equal(data.pixels.rows(images, chosen), images[chosen])
  np.testing.assert_array_equal(np.concatenate([*data.pixels.blocks(images)]), images)
  assert data.pixels.rows(images, chosen[:0]).shape == (0, 2, 2, 3)


@pytest.mark.parametrize("colours", [[0], [70], [200], [70, 200]])
def test_grey_images_before_and_after_colour_are_colour_too(colours):
  grey = np.random.default_rng(0).integers(0, 256, (201, 2, 3, 1), np.uint8)  # four chunks
  pictures = [
    np.repeat(image, 3, axis=2) + np.arange(3, dtype=np.uint8) * (i in colours)
    for i, image in enumerate(grey)
  ]

  def decode(chunk):
    for i in chunk:
      yield str(i), pictures[i] if i in colours else grey[i]

  images, ids = data.pixels.decode_all("own", len(grey), decode)
  np.testing.assert_array_equal(images, np.stack(pictures))
  assert ids.tolist() == [str(i) for i in range(201)]


def test_a_mixed_size_stops_at_once(tmp_path):
  # The first image is small: what follows must not be decoded by the hundred before anyone looks.
  (tmp_path / "own").mkdir()
  for i in range(300):
    (tmp_path / "own" / f"{i:03d}.png").write_bytes(GOOD if not i else b"no image")
  (tmp_path / "own" / "001.png").write_bytes(hostile.png(np.zeros((7, 6, 3), np.uint8)))
  with pytest.raises(ValueError, match="`000.png` is 6x6 and `001.png` 6x7 pixels"):
    data.load("files", path=f"{tmp_path}/own", held_out=1, cache=f"{tmp_path}/cache")


@pytest.mark.parametrize(
  ("index", "found"),
  [(np.arange(3.0), "float64"), (np.arange(3)[:, None], r"int64 \(3, 1\)"), ("abc", "<U3")],
)
def test_numbers_of_images_are_whole_and_in_a_row(tmp_path, index, found):
  np.savez(tmp_path / "own.npz", train_x=np.zeros((3, 4, 4), np.uint8), train_idx=index)
  with pytest.raises(
    ValueError, match=f"`train_idx` of own.npz is {found}.*; want one whole number an image"
  ):
    data.load("files", path=f"{tmp_path}/own.npz", held_out=1, cache=f"{tmp_path}/cache")


def test_a_photograph_with_a_preview_is_one_picture(tmp_path):
  folder(tmp_path / "own", hostile.frames("mpo"))
  assert data.load("files", path=f"{tmp_path}/own", held_out=1, cache=f"{tmp_path}/cache").pool.shape[0] == 3


def test_every_listed_format_is_read(tmp_path):
  image = Image.fromarray(np.full((6, 6, 3), 99, np.uint8))
  (tmp_path / "own").mkdir()
  for suffix in data.files.IMAGE_SUFFIXES:
    (image.convert("L") if suffix == ".pgm" else image).save(tmp_path / "own" / f"x{suffix}")
  found = data.load("files", path=f"{tmp_path}/own", held_out=1, cache=f"{tmp_path}/cache")
  assert len(found.pool) + 1 == len(data.files.IMAGE_SUFFIXES) and abs(found.pool.astype(int) - 99).max() <= 2


def test_names_that_are_no_utf8_are_read(tmp_path):
  folder(tmp_path / "own", GOOD)
  os.rename(tmp_path / "own" / "odd.png", os.fsencode(tmp_path / "own") + b"/\xff.png")
  found = data.load("files", path=f"{tmp_path}/own", held_out=1, cache=f"{tmp_path}/cache")
  again = data.load("files", path=f"{tmp_path}/own", held_out=1, cache=f"{tmp_path}/cache")
  assert len(found.pool) == 3 and again.fingerprint == found.fingerprint


def test_an_archive_never_writes(tmp_path):
  with zipfile.ZipFile(tmp_path / "own.zip", "w") as file:
    for name in ("../out.png", "/out.png", "C:/out.png"):
      file.writestr(name, GOOD)
  (tmp_path / "deep").mkdir()
  data.load("files", path=f"{tmp_path}/own.zip", held_out=1, cache=f"{tmp_path}/deep")
  assert sorted(os.listdir(tmp_path)) == ["deep", "own.zip"]
