"""Class labels: the same wherever they come from, always beside their image, and refused when bad."""

import json
import pathlib
import zipfile

import hostile
import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from gauss_diffusion import data

SHARED_DATA = pathlib.Path(__file__).parents[2] / "shared" / "data"
NAMES = ("cat/a.png", "cat/b.png", "dog/a.png", "dog/b.png", "emu/a.png")
KINDS = np.array([0, 0, 1, 1, 2])


def pictures(num, seed=0):
  return np.random.default_rng(seed).integers(0, 256, (num, 6, 6, 3), dtype=np.uint8)


def save(folder, names=NAMES, told=None):
  for name, image in zip(names, pictures(len(names)), strict=True):
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(folder / name)
  if told is not None:
    (folder / "dataset.json").write_text(told if isinstance(told, str) else json.dumps({"labels": told}))
  return folder


def zipped(folder):
  with zipfile.ZipFile(folder.with_suffix(".zip"), "w") as writer:
    for path in sorted(folder.rglob("*")):
      writer.write(path, path.relative_to(folder))
  return folder.with_suffix(".zip")


@pytest.fixture
def load(tmp_path):
  """Load the user's own files, one of them held out."""

  def load_files(path, held_out=1, **options):
    return data.load("files", path=str(path), held_out=held_out, cache=str(tmp_path / "cache"), **options)

  return load_files


def by_id(dataset):
  """Return id -> name of the class, of all images of a data set with labels."""
  ids = [*dataset.pool_ids, *dataset.held_out_ids]
  labels = [*dataset.pool_labels, *dataset.held_out_labels]
  return {name: dataset.classes[label] for name, label in zip(ids, labels, strict=True)}


# Closed form


def test_a_digit_is_labelled_by_its_value(tmp_path):
  dataset = data.load("digits", held_out=360, cache=str(tmp_path))
  assert dataset.pool_labels.dtype == np.int32 and dataset.classes == tuple("0123456789")
  assert by_id(dataset) == {f"digit_{i:04d}": str(value) for i, value in enumerate(load_digits().target)}


@pytest.mark.skipif(not SHARED_DATA.exists(), reason="no ../shared/data")
def test_labels_of_tfds_are_those_it_decodes_itself(tmp_path, monkeypatch):
  tfds = pytest.importorskip("tensorflow_datasets")
  whole, slices = tfds.data_source, {"train": "train[:30]", "test": "test[:10]"}
  monkeypatch.setattr(
    tfds, "data_source", lambda name, *, split, **kw: whole(name, split=slices[split], **kw)
  )
  directory = str(SHARED_DATA / "tfds")
  dataset = data.load("cifar10", dir=directory, held_out=10, cache=str(tmp_path))
  assert dataset.classes == tuple("airplane automobile bird cat deer dog frog horse ship truck".split())
  found = by_id(dataset)
  for split in slices.values():
    for example in whole("cifar10", data_dir=directory, split=split, download=False):
      assert found.pop(example["id"].decode()) == dataset.classes[example["label"]]
  assert not found


def test_classes_of_a_folder_and_its_archive_are_the_sub_folders(tmp_path, load):
  folder = save(tmp_path / "own")
  deeper = save(tmp_path / "deeper", [f"own/train/{name[:4]}more/{name[4:]}" for name in NAMES])
  for source in (folder, zipped(folder), deeper):
    dataset = load(source)
    assert dataset.classes == ("cat", "dog", "emu")
    assert all(kind in name for name, kind in by_id(dataset).items()) and len(by_id(dataset)) == 5


def test_dataset_json_is_believed_before_sub_folders(tmp_path, load):
  labels = [3, 0, 1, 3, 1]
  told = [[name.replace("/", "\\"), label] for name, label in zip(NAMES, labels)] + [["gone.png", 7]]
  folder = save(tmp_path / "own", told=told)
  for source in (folder, zipped(folder)):
    dataset = load(source)
    assert by_id(dataset) == {name: str(label) for name, label in zip(NAMES, labels)}
    assert dataset.classes == tuple("0123")
  assert load(save(tmp_path / "none", told='{"labels": null}')).pool_labels is None


def test_an_npz_may_name_its_labels(tmp_path, load):
  arrays = {"train_x": pictures(5), "train_idx": np.arange(5) * 7, "test_x": pictures(2, seed=1)}
  np.savez(tmp_path / "own.npz", **arrays, train_y=KINDS.astype(np.uint8), test_y=np.array([3, 1]))
  found = by_id(load(tmp_path / "own.npz", held_out=2))
  want = {f"train_{7 * i:05d}": str(kind) for i, kind in enumerate(KINDS)}
  assert found == want | {"test_00000": "3", "test_00001": "1"}


@pytest.mark.parametrize("names", [("a.png", "b.png"), ("own/a.png", "own/b.png"), ("a.png", "x/b.png")])
def test_images_in_one_folder_or_beside_folders_have_no_labels(names, tmp_path, load):
  dataset = load(save(tmp_path / "own", names))
  assert (dataset.pool_labels, dataset.held_out_labels, dataset.classes) == (None, None, ())
  assert (data.subset(dataset, 0).labels, data.subset(dataset, 0).label_fingerprint) == (None, "")


# Invariance


def test_a_label_stays_beside_its_image(tmp_path):
  want = {f"digit_{i:04d}": value for i, value in enumerate(load_digits().target)}
  for options in ({}, {"seed": 3}, {"drop_duplicates": True}, {"seed": 3}):  # the last from the cache
    dataset = data.load("digits", held_out=100, cache=str(tmp_path), **options)
    assert list(dataset.held_out_labels) == [want[name] for name in dataset.held_out_ids]
    for part, draw in ((0, 0), (1, 0), (0, 2)):
      chosen = data.subset(dataset, 300, part, draw)
      assert list(chosen.labels) == [want[name] for name in chosen.ids]


def test_duplicates_that_go_take_their_labels_along(tmp_path, load):
  images = pictures(6)
  images[4] = images[1]
  np.savez(tmp_path / "own.npz", train_x=images, train_y=np.arange(6))
  dataset = load(tmp_path / "own.npz", drop_duplicates=True)
  assert dataset.dropped == 1
  for image, label in zip(dataset.pool, dataset.pool_labels, strict=True):
    np.testing.assert_array_equal(image, images[label])


def test_labels_have_a_fingerprint_of_their_own(tmp_path, load):
  loaded = []
  for name, labels in {"plain": {}, "one": {"train_y": KINDS}, "other": {"train_y": KINDS[::-1]}}.items():
    np.savez(tmp_path / f"{name}.npz", train_x=pictures(5), **labels)
    loaded.append(load(tmp_path / f"{name}.npz"))
  subsets = [data.subset(dataset, 0) for dataset in loaded]
  assert len({dataset.fingerprint for dataset in loaded}) == 1
  assert len({chosen.fingerprint for chosen in subsets}) == 1
  assert len({chosen.label_fingerprint for chosen in subsets}) == 3


def test_fingerprints_of_images_are_those_from_before_there_were_labels(tmp_path):
  # Made by the code before it read labels; results of studies are current by them.
  dataset = data.load("digits", held_out=360, seed=0, cache=str(tmp_path))
  assert dataset.fingerprint == "b0e0e8b24e2da688"
  assert data.subset(dataset, 64).fingerprint == "fadd06c211c69a44"
  assert data.subset(dataset, 718, part=1).fingerprint == "c62459ed2acb788c"


def test_a_cache_from_before_there_were_labels_is_decoded_anew(tmp_path, load):
  folder = save(tmp_path / "own")
  load(folder)
  (entry,) = (tmp_path / "cache" / "data").iterdir()
  with np.load(entry) as stored:
    older = {name: stored[name] for name in stored if name not in ("labels", "classes")}
  np.savez(entry, **older)
  assert load(folder).classes == ("cat", "dog", "emu")


# Errors


@pytest.mark.parametrize(
  ("labels", "want"),
  [
    ({"train_y": KINDS[:4]}, "`own.npz` has 4 labels for 5 training images; want one an image"),
    ({"train_y": KINDS - 1}, "`own.npz` has the label -1; want whole numbers from 0 to 65535"),
    ({"train_y": KINDS + 2**40}, "`own.npz` has the label 1099511627778; want whole numbers"),
    ({"train_y": KINDS / 2}, r"training labels that are float64 \(5,\); want one whole number an image"),
    ({"train_y": np.eye(5, dtype=int)}, r"training labels that are int64 \(5, 5\)"),
    (
      {"train_y": KINDS, "test_x": pictures(2)},
      "no labels of its test images, and of others; want all",
    ),
    ({"test_x": pictures(2), "test_y": KINDS[:2]}, "no labels of its training images"),
    ({"train_y": KINDS, "test_x": pictures(2), "test_y": KINDS}, "has 5 labels for 2 test images"),
  ],
)
def test_labels_of_arrays_that_cannot_be_are_refused(labels, want, tmp_path, load):
  np.savez(tmp_path / "own.npz", train_x=pictures(5), **labels)
  with pytest.raises(ValueError, match=want) as error:
    load(tmp_path / "own.npz")
  assert "\n" not in str(error.value)


TOLD = [[name, int(kind)] for name, kind in zip(NAMES, KINDS)]


@pytest.mark.parametrize(
  ("told", "want"),
  [
    (TOLD[:4], "`dataset.json` of .* has no label for `emu/a.png`; want a whole number from 0 to 65535"),
    ([*TOLD[:4], [NAMES[4], -1]], "has the label -1 for `emu/a.png`"),
    ([*TOLD[:4], [NAMES[4], 1.0]], "has the label 1.0 for"),
    ([*TOLD[:4], [NAMES[4], True]], "has the label True for"),
    ([*TOLD[:4], [NAMES[4], [0, 1]]], r"has the label \[0, 1\] for"),
    ([*TOLD[:4], [NAMES[4], 10**400]], "has the label 1000.* for"),
    ([*TOLD, TOLD[0]], "names an image twice"),
    ("no json", "`dataset.json` of .* cannot be read .*; want "),
    ("[" * 10**5, "cannot be read"),
    ("[]", "cannot be read"),
    ("{}", "cannot be read"),
    ('{"labels": [[1]]}', "cannot be read"),
    ('{"labels": 5}', "cannot be read"),
  ],
)
def test_a_dataset_json_that_cannot_be_is_refused(told, want, tmp_path, load):
  folder = save(tmp_path / "own", told=told)
  for source in (folder, zipped(folder)):
    with pytest.raises(ValueError, match=want) as error:
      load(source)
    assert "\n" not in str(error.value) and len(str(error.value)) < 500


def test_a_dataset_json_as_large_as_it_likes_is_not_inflated(tmp_path, load):
  size = 3 * 2**29
  hostile.archive(tmp_path / "own.zip", name="dataset.json", stream=hostile.zeros(size), claimed=size)
  with zipfile.ZipFile(tmp_path / "own.zip", "a") as archive:
    archive.writestr("a.png", hostile.png())
  with pytest.raises(ValueError, match="`dataset.json` of .* cannot be read .it has more than"):
    load(tmp_path / "own.zip")


def test_names_of_classes_are_enough():
  train = pictures(3), np.array(["a", "b", "c"])
  with pytest.raises(ValueError, match="`x` has the label 2, and names for 2 classes; want one for each"):
    data.pixels.decoded("x", train, labels=(np.arange(3), None), classes=["cat", "dog"])


def test_a_tfds_set_that_leaves_labels_open_has_none(tmp_path, monkeypatch):
  tfds = pytest.importorskip("tensorflow_datasets")

  class OpenPictures(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("1.0.0")
    pkg_dir_path = tmp_path

    def _info(self):
      kinds = tfds.features.ClassLabel(names=["cat", "dog"])
      image = tfds.features.Image(shape=(None, None, 3))
      return self.dataset_info_from_configs(
        features=tfds.features.FeaturesDict({"image": image, "label": kinds})
      )

    def _split_generators(self, manager):
      return {"train": self._generate_examples([0, 1, 1, 0]), "test": self._generate_examples([-1, -1])}

    def _generate_examples(self, labels):
      for i, label in enumerate(labels):
        yield i, {"image": Image.fromarray(pictures(6)[i]), "label": label}

  monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
  dataset = data.load("open_pictures", dir=str(tmp_path / "tfds"), held_out=2, cache=str(tmp_path / "cache"))
  assert dataset.pool_labels is None and dataset.classes == ()
