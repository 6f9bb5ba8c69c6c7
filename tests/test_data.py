"""Data: the same images in the same order everywhere, held-out ones apart, every wrong input named."""

import io
import os
import pathlib
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from gauss_diffusion import data
from gauss_diffusion.data.cache import read_entry, write_entry
from gauss_diffusion.data.pixels import Decoded

SHARED_DATA = pathlib.Path(__file__).parents[2] / "shared" / "data"


def pictures(num, height=6, width=6, channels=3, seed=0):
  return np.random.default_rng(seed).integers(0, 256, (num, height, width, channels), dtype=np.uint8)


def save(folder, images, names=None, **options):
  folder.mkdir(parents=True, exist_ok=True)
  for i, image in enumerate(images):
    path = folder / (names[i] if names else f"{i:03d}.png")
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(image.squeeze()).save(path, **options)
  return folder


def zipped(folder, archive):
  with zipfile.ZipFile(archive, "w") as writer:
    for path in sorted(folder.rglob("*"), reverse=True):
      writer.write(path, path.relative_to(folder))
  return archive


@pytest.fixture
def cache(tmp_path):
  return str(tmp_path / "cache")


@pytest.fixture
def load(cache):
  """Load the user's own files, two of them held out."""

  def load_files(path, held_out=2, **options):
    return data.load("files", path=str(path), held_out=held_out, cache=cache, **options)

  return load_files


def by_id(dataset):
  ids = [*dataset.pool_ids, *dataset.held_out_ids]
  return dict(zip(ids, [*dataset.pool, *dataset.held_out], strict=True))


# Closed form


def test_digits_are_scikit_learns(cache):
  dataset = data.load("digits", held_out=360, cache=cache)
  assert dataset.pool.shape == (1437, 8, 8, 1) and dataset.pool.dtype == np.uint8
  assert dataset.held_out.shape == (360, 8, 8, 1)
  images = by_id(dataset)
  for i, want in enumerate(load_digits().images):
    np.testing.assert_array_equal(images[f"digit_{i:04d}"][..., 0], np.floor(want * 255 / 16 + 0.5))


def test_order_is_written_in_stone(cache):
  # Made by this code at its first commit. It changes only if every study's subsets change their meaning.
  dataset = data.load("digits", held_out=360, seed=0, cache=cache)
  assert list(dataset.pool_ids[:3]) == ["digit_0855", "digit_0921", "digit_0269"]


def test_folder_zip_and_arrays_hold_the_same_images(tmp_path, load):
  images = pictures(7)
  folder = save(tmp_path / "own", images, [f"{'ab'[i % 2]}/{i}.png" for i in range(7)])
  want = {f"{'ab'[i % 2]}/{i}.png": image for i, image in enumerate(images)}
  for source in (folder, zipped(folder, tmp_path / "own.zip")):
    found = by_id(load(source))
    assert found.keys() == want.keys()
    assert all((found[key] == want[key]).all() for key in want)
  np.save(tmp_path / "own.npy", images)
  np.savez(tmp_path / "own.npz", pixels=images, labels=np.arange(7))
  for source in ("own.npy", "own.npz"):
    found = by_id(load(tmp_path / source))
    assert all((found[f"image_{i:05d}"] == images[i]).all() for i in range(7))


def test_npz_with_its_own_test_images_holds_out_those(tmp_path, load):
  train, test = pictures(6, channels=1)[..., 0], pictures(4, channels=1, seed=1)[..., 0]
  np.savez(tmp_path / "own.npz", train_x=train, test_x=test, train_idx=np.arange(6) * 10)
  dataset = load(tmp_path / "own.npz", held_out=3)
  assert dataset.pool.shape == (6, 6, 6, 1) and dataset.held_out.shape == (3, 6, 6, 1)
  found = by_id(dataset)
  np.testing.assert_array_equal(found["train_00050"][..., 0], train[5])
  for key in dataset.held_out_ids:
    np.testing.assert_array_equal(found[key][..., 0], test[int(key[-1])])
  with pytest.raises(ValueError, match="`data.held_out` is 5; own.npz can spare at most 4"):
    load(tmp_path / "own.npz", held_out=5)


@pytest.mark.skipif(not SHARED_DATA.exists(), reason="no ../shared/data")
def test_lossless_cifar_is_read_bit_for_bit(load):
  path = SHARED_DATA / "cifar_lossless_6102.npz"
  dataset = load(path, held_out=1017)
  with np.load(path) as stored:
    for images, ids, prefix in (
      (dataset.pool, dataset.pool_ids, "train"),
      (dataset.held_out, dataset.held_out_ids, "test"),
    ):
      order = np.argsort(ids)
      assert list(ids[order]) == sorted(f"{prefix}_{i:05d}" for i in stored[f"{prefix}_idx"])
      by_index = np.argsort(stored[f"{prefix}_idx"])
      np.testing.assert_array_equal(images[order], stored[f"{prefix}_x"][by_index])


def test_fit_crops_the_centre_and_resizes_with_a_filter_that_keeps_constants(tmp_path, load):
  images = np.zeros((4, 8, 14, 3), np.uint8)
  images[:, :, 3:11] = [10, 200, 77]
  np.save(tmp_path / "own.npy", images)
  assert load(tmp_path / "own.npy").pool.shape[1:] == (8, 14, 3)
  cropped = load(tmp_path / "own.npy", crop=True)
  assert cropped.pool.shape[1:] == (8, 8, 3) and (cropped.pool == [10, 200, 77]).all()
  resized = load(tmp_path / "own.npy", crop=True, size=4)
  assert resized.pool.shape[1:] == (4, 4, 3) and (resized.pool == [10, 200, 77]).all()
  assert load(tmp_path / "own.npy", size=5).pool.shape[1:] == (5, 5, 3)
  # A checkerboard above the new Nyquist frequency averages out; plain subsampling would keep it.
  board = np.tile((np.indices((32, 32)).sum(0) % 2 * 255).astype(np.uint8), (3, 1, 1))
  np.save(tmp_path / "board.npy", board)
  interior = load(tmp_path / "board.npy", size=8).pool[:, 1:-1, 1:-1].astype(int)
  assert abs(interior - 127).max() <= 2


def test_images_of_every_common_mode_become_grey_or_colour(tmp_path, load):
  grey, colour = pictures(1, channels=1)[0, ..., 0], pictures(1)[0]
  opaque = np.dstack([colour, np.full((6, 6), 255, np.uint8)])
  modes = {"l": grey, "rgb": colour, "rgba": opaque}
  folder = save(tmp_path / "own", modes.values(), [f"{name}.png" for name in modes])
  Image.fromarray(grey > 127).save(folder / "one.png")
  turned = Image.fromarray(colour)
  turned.getexif()[0x0112] = 3  # upside down, says the camera
  turned.save(folder / "turned.png", exif=turned.getexif())
  found = by_id(load(folder))
  np.testing.assert_array_equal(found["l.png"], np.repeat(grey[..., None], 3, axis=2))
  np.testing.assert_array_equal(found["rgb.png"], colour)
  np.testing.assert_array_equal(found["rgba.png"], colour)
  np.testing.assert_array_equal(found["one.png"][..., 0], (grey > 127) * 255)
  np.testing.assert_array_equal(found["turned.png"], colour[::-1, ::-1])


# Limits


def test_the_whole_pool_and_a_single_image(cache):
  dataset = data.load("digits", held_out=1796, cache=cache)
  whole = data.subset(dataset, 0)
  assert len(whole.images) == 1 and whole.fingerprint == data.subset(dataset, 1).fingerprint


# Invariance


def test_subsets_nest_and_parts_and_held_out_images_are_disjoint(cache):
  dataset = data.load("digits", held_out=360, cache=cache)
  small, large = data.subset(dataset, 64), data.subset(dataset, 718)
  np.testing.assert_array_equal(small.images, large.images[:64])
  other = data.subset(dataset, 718, part=1)
  groups = [set(large.ids), set(other.ids), set(dataset.held_out_ids)]
  assert [len(group) for group in groups] == [718, 718, 360]
  assert len(set.union(*groups)) == 718 + 718 + 360
  fewer = data.load("digits", held_out=100, cache=cache)
  np.testing.assert_array_equal(fewer.pool_ids[:1437], dataset.pool_ids)


def test_draws_take_the_same_pool_in_orders_of_their_own(cache):
  dataset = data.load("digits", held_out=360, cache=cache)
  for draw in range(3):
    whole = data.subset(dataset, 0, draw=draw)
    assert sorted(whole.ids) == sorted(dataset.pool_ids)  # all of them, and no held-out one
    np.testing.assert_array_equal(whole.images, [by_id(dataset)[key] for key in whole.ids])
    parts = [data.subset(dataset, 718, part, draw) for part in (0, 1)]
    np.testing.assert_array_equal(np.concatenate([part.ids for part in parts]), whole.ids[:1436])
    assert not set(parts[0].ids) & set(parts[1].ids)
    np.testing.assert_array_equal(data.subset(dataset, 16, 0, draw).ids, whole.ids[:16])
    assert data.subset(dataset, 0, draw=draw).fingerprint == whole.fingerprint
  orders = [data.subset(dataset, 0, draw=draw) for draw in range(3)]
  np.testing.assert_array_equal(orders[0].ids, dataset.pool_ids)
  assert np.shares_memory(orders[0].images, dataset.pool)
  assert len({order.fingerprint for order in orders}) == 3
  # Of independent orders of n images, a place has the same image in both with probability 1/n.
  assert max(np.sum(orders[i].ids == orders[j].ids) for i, j in ((0, 1), (0, 2), (1, 2))) < 10


def test_order_follows_ids_and_seed_and_not_the_disk(tmp_path, load):
  images, names = pictures(9), [f"{i}.png" for i in range(9)]
  backwards = save(tmp_path / "a", images[::-1], names[::-1])
  first = load(backwards, seed=3)
  second = load(save(tmp_path / "b", images, names), seed=3)
  assert list(first.pool_ids) == list(second.pool_ids)
  np.testing.assert_array_equal(first.pool, second.pool)
  assert first.fingerprint == second.fingerprint
  assert list(load(backwards, seed=4).pool_ids) != list(first.pool_ids)
  for name, index in (("up", np.arange(9)), ("mixed", np.random.default_rng(0).permutation(9))):
    np.savez(tmp_path / f"{name}.npz", train_x=images[index], train_idx=index)
  np.testing.assert_array_equal(load(tmp_path / "up.npz").pool, load(tmp_path / "mixed.npz").pool)
  # A permutation, and not the sorted order itself.
  assert list(first.pool_ids) != sorted(first.pool_ids)


def test_fingerprint_feels_one_grey_level_one_id_and_the_shape(tmp_path, load):
  images = pictures(5)
  base = load(save(tmp_path / "base", images))
  changed = images.copy()
  changed[3, 2, 1, 0] ^= 1
  other = load(save(tmp_path / "changed", changed))
  assert base.fingerprint != other.fingerprint
  assert base.fingerprint not in (
    load(tmp_path / "base", held_out=1).fingerprint,
    load(tmp_path / "base", seed=1).fingerprint,
  )

  whole = data.subset(base, 3)
  same = data.Dataset("again", base.pool.copy(), base.pool_ids.copy(), *base[3:])
  assert data.subset(same, 3).fingerprint == whole.fingerprint and len(whole.fingerprint) == 16
  renamed = same._replace(pool_ids=np.array(["x", "y", "z"]))
  reshaped = same._replace(pool=base.pool.reshape(3, 3, 12, 3))
  flipped = same._replace(pool=base.pool ^ np.uint8(1))
  prints = {data.subset(dataset, 3).fingerprint for dataset in (base, renamed, reshaped, flipped)}
  assert len(prints) == 4


def test_decoding_happens_once_and_a_damaged_cache_is_rebuilt(tmp_path, cache, load, monkeypatch):
  folder = save(tmp_path / "own", pictures(5))
  first = load(folder)
  (entry,) = pathlib.Path(cache, "data").iterdir()

  def refuse(*args):
    raise AssertionError("decoded again")

  with monkeypatch.context() as patch:
    patch.setitem(data.SOURCES, "files", refuse)
    np.testing.assert_array_equal(load(folder).pool, first.pool)
    with pytest.raises(AssertionError, match="again"):
      load(folder, size=3)

  sound = entry.read_bytes()
  middle = len(sound) // 4
  for damaged in (
    b"",
    sound[: len(sound) // 2],
    sound[:middle] + bytes([sound[middle] ^ 1]) + sound[middle + 1 :],
  ):
    entry.write_bytes(damaged)
    again = load(folder)
    np.testing.assert_array_equal(again.pool, first.pool)
    assert again.fingerprint == first.fingerprint and entry.read_bytes() != damaged
  assert list(entry.parent.iterdir()) == [entry]  # nothing unfinished is left behind

  # An entry of other images in its place.
  other = load(save(tmp_path / "other", pictures(5, seed=2)))
  (path,) = set(entry.parent.iterdir()) - {entry}
  entry.write_bytes(path.read_bytes())
  assert load(folder).fingerprint == first.fingerprint != other.fingerprint
  path.unlink()

  save(folder, pictures(5, seed=1))
  assert load(folder).fingerprint != first.fingerprint


def test_no_flipped_bit_of_the_cache_is_another_image(tmp_path):
  images, test = pictures(5), pictures(2, seed=1)
  ids = [np.array([f"{kind}{i}" for i in range(num)]) for kind, num in (("a", 5), ("b", 2))]
  kin, labels, classes = np.arange(14).reshape(2, 7), np.zeros(7, np.int32), np.array(["all"])
  decoded = Decoded("own", images, ids[0], test, ids[1], kin, "0123456789abcdef", labels, classes)
  entry = tmp_path / "own-0123.npz"
  write_entry(entry, decoded)
  sound, noticed = entry.read_bytes(), 0
  for place in range(len(sound)):
    flipped = bytearray(sound)
    flipped[place] ^= 1 << place % 8
    entry.write_bytes(flipped)
    found = read_entry(entry)
    noticed += found is None
    assert found is None or all(map(np.array_equal, found, decoded)), place
  assert noticed > 0.8 * len(sound)  # the others are dates, and names of the format


def test_what_dead_processes_left_in_the_cache_goes_with_the_next_entry(tmp_path, cache):
  folder = pathlib.Path(cache, "data")
  folder.mkdir(parents=True)
  gone = subprocess.run(
    [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True
  )
  old, new, mine = (
    folder / f".x.npz.{name}.tmp" for name in (f"a.{int(gone.stdout)}", f"b.{int(gone.stdout)}", os.getpid())
  )
  for path in (old, new, mine):
    path.write_text("")
  for path in (old, mine):
    os.utime(path, (0, 0))
  data.load("digits", cache=cache)
  # One that was written just now may be another machine's, whose processes are none of this one's.
  assert set(folder.glob(".*")) == {new, mine}


def test_a_new_source_is_one_function_and_one_name(tmp_path, cache, monkeypatch):
  folder = tmp_path / "disk" / "ramps"
  folder.mkdir(parents=True)
  np.save(folder / "own.npy", pictures(4))

  def decode(name, place, fit):
    images = [fit(image) for image in np.load(place / name / "own.npy")]
    return data.pixels.decoded("Ramps", (np.stack(images), np.array([f"r{i}" for i in range(len(images))])))

  monkeypatch.setitem(data.SOURCES, "ramps", decode)
  first = data.load("ramps", dir=str(tmp_path / "disk"), held_out=1, size=3, cache=cache)
  assert first.title == "Ramps" and first.pool.shape == (3, 3, 3, 3)
  np.save(folder / "own.npy", pictures(6, seed=1))  # the cache holds other images than the disk now
  assert data.load("ramps", dir=str(tmp_path / "disk"), held_out=1, size=3, cache=cache).pool.shape[0] == 5
  with pytest.raises(
    ValueError, match="want digits, files, .*ramps or a TFDS image data set .close: .*ramps"
  ):
    data.load("ramp", cache=cache)


def test_import_leaves_out_what_only_one_source_needs():
  heavy = "sklearn", "tensorflow_datasets", "requests"
  program = f"import sys, gauss_diffusion.data; print([name for name in {heavy} if name in sys.modules])"
  found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
  assert found.stdout.strip() == "[]"


# Errors


def test_unknown_names_answer_with_the_known_ones(cache, tmp_path):
  for name, want in {
    "cifra10": "`data.name` is 'cifra10'; want digits, files.* or .*close: .*cifar10",
    "digit": "digits",
    "": "`data.name` ''",
    "not a name": "`data.name` 'not a name'",
    "cifar10:9.9.9": "only: 3.0.2",
    "ag_news_subset": "`data.name` 'ag_news_subset' has no uint8 feature `image`",
  }.items():
    with pytest.raises(ValueError, match=want) as error:
      data.load(name, dir=str(tmp_path), cache=cache)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
  "options, want",
  [
    ({"held_out": 0}, "`data.held_out` is 0"),
    ({"held_out": 1797}, "`data.held_out` is 1797; digits can spare at most 1796"),
    ({"size": -1}, "`data.size` is -1"),
    (
      {"name": "files", "path": "/no/such", "size": 4097},
      "`data.size` is 4097; want a number of pixels up to 4096",
    ),
    ({"seed": -1}, "`data.seed` is -1"),
    ({"name": "files", "path": "~nosuchuser/x"}, "`data.path` is '~nosuchuser/x', which cannot be looked up"),
    ({"name": "files", "path": "x" * 999}, "`data.path` is 'xxx.*', which cannot be looked up .*too long"),
    ({"dir": "~nosuchuser/x"}, "`data.dir` is '~nosuchuser/x'"),
    ({"cache": "~nosuchuser/x"}, "`data.cache` is '~nosuchuser/x'"),
    ({"path": "x"}, "`data.path` is 'x' but `data.name` is 'digits'"),
    ({"name": "files"}, "`data.path` is empty"),
    ({"name": "files", "path": "/no/such"}, "`data.path` /no/such does not exist"),
    ({"name": "files", "path": __file__}, r"test_data.py is none of these; want a folder"),
  ],
)
def test_wrong_options_are_named(options, want, cache):
  with pytest.raises(ValueError, match=want) as error:
    data.load(**{"name": "digits", "cache": cache, **options})
  assert "\n" not in str(error.value)


def test_subsets_that_cannot_be_are_refused(cache):
  dataset = data.load("digits", held_out=360, cache=cache)
  for size, part, want in (
    (1438, 0, "`size` is 1438; digits has 1437"),
    (719, 1, "`part` 1 of `size` 719 cannot be disjoint .* enough for `size` 718"),
    (0, 1, "`part` 1 of `size` 1437"),
    (-1, 0, "`size`, `part`, `draw` are -1, 0, 0"),
    (5, -1, "`size`, `part`, `draw` are 5, -1, 0"),
  ):
    with pytest.raises(ValueError, match=want):
      data.subset(dataset, size, part)
  with pytest.raises(ValueError, match="`size`, `part`, `draw` are 5, 0, -1"):
    data.subset(dataset, 5, draw=-1)


def test_bad_images_are_named(tmp_path, load):
  good = pictures(3)

  def refused(name, content, want):
    folder = save(tmp_path / name, good)
    if isinstance(content, bytes):
      (folder / "odd.png").write_bytes(content)
    else:
      content.save(folder / "odd.png")
    for source in (folder, zipped(folder, tmp_path / f"{name}.zip")):
      with pytest.raises(ValueError, match=want) as error:
        load(source)
      assert "\n" not in str(error.value) and "0x" not in str(error.value)

  whole = io.BytesIO()
  Image.fromarray(pictures(1, 40, 40)[0]).save(whole, "png")
  refused("empty", b"", "`odd.png` is empty")
  refused("corrupt", b"no image at all", "`odd.png` cannot be read as an image .of no known format")
  refused("cut", whole.getvalue()[:900], "`odd.png` cannot be read as an image")
  refused("larger", Image.fromarray(pictures(1, 6, 8)[0]), "`000.png` is 6x6 and `odd.png` 8x6 .*`data.size`")
  refused("deep", Image.fromarray(np.zeros((6, 6), np.uint16)), "`odd.png` is stored as I;16")
  clear = Image.fromarray(np.zeros((6, 6, 4), np.uint8))
  refused("clear", clear, "`odd.png` is transparent")


def test_sources_without_images_are_named(tmp_path, load):
  (tmp_path / "none").mkdir()
  with pytest.raises(ValueError, match="`data.path` .*none holds nothing; want images"):
    load(tmp_path / "none")
  (tmp_path / "none" / "notes.txt").write_text("hello")
  (tmp_path / "none" / ".hidden.png").write_text("hello")
  (tmp_path / "none" / "__MACOSX").mkdir()
  (tmp_path / "none" / "__MACOSX" / "a.png").write_text("hello")
  for source in (tmp_path / "none", zipped(tmp_path / "none", tmp_path / "none.zip")):
    with pytest.raises(ValueError, match="holds only notes.txt; want images"):
      load(source)
  for name in ("bad.zip", "bad.npy", "bad.npz"):
    for content in (b"", b"not what it says"):
      (tmp_path / name).write_bytes(content)
      with pytest.raises(ValueError, match=f"`data.path` .*{name} cannot be read as"):
        load(tmp_path / name)


@pytest.mark.parametrize(
  "arrays, want",
  [
    ({"x": pictures(3).astype(np.int32)}, "`x` of own.npz is int32; want uint8 pixels, 0 to 255, or floats"),
    ({"x": pictures(3).astype(np.float32)}, "`data.scale` is empty, and own.npz has floats; want a number"),
    ({"x": np.full((3, 4, 4), np.nan)}, r"`x` of own.npz has nan at \[0, 0, 0, 0\]; want finite"),
    ({"x": pictures(3), "y": pictures(3)}, r"holds x \(3, 6, 6, 3\), y \(3, 6, 6, 3\); want `train_x`"),
    ({"labels": np.arange(3)}, r"holds labels \(3,\); want `train_x`"),
    ({"x": pictures(3).transpose(0, 3, 1, 2)}, r"`x` of own.npz has shape \(3, 3, 6, 6\); want"),
    ({"x": pictures(0)}, r"has shape \(0, 6, 6, 3\)"),
    ({"train_x": pictures(3), "train_idx": np.arange(2)}, "has 2 ids for 3 images"),
    ({"train_x": pictures(3), "train_idx": np.array([4, 5, 4])}, "uses the id `train_00004` 2 times"),
    ({"train_x": pictures(3), "test_x": pictures(3, channels=1)}, r"\(6, 6, 3\) but test images \(6, 6, 1\)"),
  ],
)
def test_wrong_arrays_are_named(arrays, want, tmp_path, load):
  np.savez(tmp_path / "own.npz", **arrays)
  with pytest.raises(ValueError, match=want):
    load(tmp_path / "own.npz")


def test_unwritable_cache_is_named(tmp_path):
  (tmp_path / "file").write_text("in the way")
  with pytest.raises(ValueError, match="`data.cache` .* cannot be written"):
    data.load("digits", cache=str(tmp_path / "file"))
