"""TFDS data sets: read without TensorFlow, prepared on first use, refused at once where that cannot be."""

import importlib.util
import io
import pathlib
import tarfile

import numpy as np
import pytest
from PIL import Image

from gauss_diffusion import data

SHARED_DATA = pathlib.Path(__file__).parents[2] / "shared" / "data"
TENSORFLOW = importlib.util.find_spec("tensorflow") is not None


def pictures(num, height, width):
  return np.random.default_rng(0).integers(0, 256, (num, height, width, 3), dtype=np.uint8)


def by_id(dataset):
  ids = [*dataset.pool_ids, *dataset.held_out_ids]
  return dict(zip(ids, [*dataset.pool, *dataset.held_out], strict=True))


@pytest.fixture
def cache(tmp_path):
  return str(tmp_path / "cache")


@pytest.mark.skipif(not SHARED_DATA.exists(), reason="no ../shared/data")
def test_prepared_tfds_is_read_without_tensorflow(cache, monkeypatch):
  tfds = pytest.importorskip("tensorflow_datasets")
  whole = tfds.data_source
  slices = {"train": "train[:40]", "test": "test[:10]"}  # the first records on disk: all 60,000 take too long
  monkeypatch.setattr(
    tfds, "data_source", lambda name, *, split, **kw: whole(name, split=slices[split], **kw)
  )
  directory = str(SHARED_DATA / "tfds")
  dataset = data.load("cifar10", dir=directory, held_out=10, cache=cache)
  assert dataset.title == "CIFAR-10 (JPEG copy)"
  assert dataset.pool.shape == (40, 32, 32, 3) and dataset.held_out.shape == (10, 32, 32, 3)
  found = by_id(dataset)
  for split in slices.values():
    for example in whole("cifar10", data_dir=directory, split=split, download=False):
      np.testing.assert_array_equal(found.pop(example["id"].decode()), example["image"])
  assert not found


def archive_of_cifar(path):
  """Write a tiny archive in CIFAR-10's own binary format, and return {id: image}."""
  names = [f"data_batch_{k}.bin" for k in range(1, 6)] + ["test_batch.bin"]
  images = pictures(4 * len(names), 32, 32)
  files = {
    "batches.meta.txt": "\n".join("airplane automobile bird cat deer dog frog horse ship truck".split())
  }
  for k, name in enumerate(names):
    planes = images[4 * k : 4 * k + 4].transpose(0, 3, 1, 2).reshape(4, -1)
    files[name] = np.hstack([np.full((4, 1), k, np.uint8), planes]).tobytes()
  with tarfile.open(path, "w:gz") as archive:
    for name, content in files.items():
      content = content.encode() if isinstance(content, str) else content
      entry = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
      entry.size = len(content)
      archive.addfile(entry, io.BytesIO(content))
  ids = [f"train_{i:05d}" for i in range(20)] + [f"test_{i:05d}" for i in range(4)]
  return dict(zip(ids, images, strict=True))


@pytest.mark.skipif(
  not TENSORFLOW, reason="TFDS prepares with TensorFlow: pip install 'gauss-diffusion[prepare]'"
)
def test_official_builder_prepares_an_archive_on_first_use(tmp_path, cache, monkeypatch):
  tfds = pytest.importorskip("tensorflow_datasets")
  by_hand = tmp_path / "tfds" / "downloads" / "manual"
  by_hand.mkdir(parents=True)
  want = archive_of_cifar(by_hand / "cifar-10-binary.tar.gz")
  # The builder checks the official archive's hash: tell it that of ours.
  builder = tfds.builder("cifar10", data_dir=tmp_path / "tfds")
  (url,) = builder.url_infos
  ours = tfds.core.download.checksums.compute_url_info(by_hand / "cifar-10-binary.tar.gz")
  monkeypatch.setitem(builder.url_infos, url, ours)
  for _ in range(2):
    dataset = data.load("cifar10", dir=str(tmp_path / "tfds"), held_out=4, cache=cache)
    assert dataset.title == "CIFAR-10"
    found = by_id(dataset)
    assert found.keys() == want.keys()
    assert all((found[key] == want[key]).all() for key in want)
  assert len(list(pathlib.Path(cache, "data").iterdir())) == 1


def test_data_set_is_prepared_on_first_use_and_read_back(tmp_path, cache, monkeypatch):
  tfds = pytest.importorskip("tensorflow_datasets")
  images = pictures(8, 5, 7)

  class TinyPictures(tfds.core.GeneratorBasedBuilder):  # of files as they are, which TFDS can do by itself
    VERSION = tfds.core.Version("1.0.0")
    pkg_dir_path = tmp_path

    def _info(self):
      features = tfds.features.FeaturesDict({"image": tfds.features.Image(shape=(None, None, 3))})
      return self.dataset_info_from_configs(features=features)

    def _split_generators(self, manager):
      return {"train": self._generate_examples()}

    def _generate_examples(self):
      for i, image in enumerate(images):
        yield i, {"image": Image.fromarray(image)}

  monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
  for _ in range(2):
    dataset = data.load(
      "tiny_pictures", dir=str(tmp_path / "tfds"), held_out=3, size=4, crop=True, cache=cache
    )
  assert dataset.title == "tiny_pictures" and dataset.pool.shape == (5, 4, 4, 3)
  assert set(by_id(dataset)) == {f"train_{i:05d}" for i in range(8)}
  assert len(list(pathlib.Path(cache, "data").iterdir())) == 1
  unfit = data.load("tiny_pictures", dir=str(tmp_path / "tfds"), held_out=3, cache=cache)
  found = {image.tobytes() for image in [*unfit.pool, *unfit.held_out]}
  assert found == {image.tobytes() for image in images}


def test_unprepared_tfds_says_where_to_point_and_what_to_install(tmp_path, cache, monkeypatch):
  pytest.importorskip("tensorflow_datasets")
  find_spec = importlib.util.find_spec
  monkeypatch.setattr(
    importlib.util, "find_spec", lambda name: None if name == "tensorflow" else find_spec(name)
  )
  with pytest.raises(ValueError, match=r"`cifar10` is not prepared .*`data.dir`.*gauss-diffusion\[prepare\]"):
    data.load("cifar10", dir=str(tmp_path / "nowhere"), cache=cache)
  monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
  monkeypatch.setattr(data.tfds, "reachable", lambda url: False)
  with pytest.raises(
    ValueError, match=r"`data.dir`.*cifar-10-binary.tar.gz.*www.cs.toronto.edu does not answer"
  ):
    data.load("cifar10", dir=str(tmp_path / "nowhere"), cache=cache)
  assert not (tmp_path / "nowhere").exists() and not pathlib.Path(cache).exists()

  by_hand = tmp_path / "nowhere" / "downloads" / "manual"
  by_hand.mkdir(parents=True)
  (by_hand / "cifar-10-binary.tar.gz").write_bytes(b"not what it says")
  with pytest.raises(ValueError, match="preparing it failed: NonMatchingChecksumError"):
    data.load("cifar10", dir=str(tmp_path / "nowhere"), cache=cache)


def test_probe_of_a_dead_host_is_quick_and_a_live_one_is_seen(monkeypatch):
  requests = pytest.importorskip("requests")
  monkeypatch.setattr(requests, "head", lambda url, timeout: requests.Response())
  assert data.tfds.reachable("https://host.invalid/a.zip")

  def unknown(url, timeout):
    raise requests.ConnectionError("no such host")

  monkeypatch.setattr(requests, "head", unknown)
  assert not data.tfds.reachable("https://host.invalid/a.zip")
  monkeypatch.setattr(requests, "head", lambda url, timeout: __import__("time").sleep(5))
  assert not data.tfds.reachable("https://host.invalid/a.zip", seconds=0.05)
