"""What asks for class labels in a study, and data that do not have them."""

import numpy as np
import pytest

from gauss_diffusion import data
from gauss_diffusion.study import classes, pipeline, schema, subjects


@pytest.fixture(scope="module")
def digits():
  return data.load("digits", held_out=360, seed=0)


@pytest.fixture
def config():
  """A study of a Gaussian denoiser, which takes seconds."""
  made = schema.default()
  schema.shrink(made)
  made.analyses = ("samples",)
  schema.add_model(made, "n64", 64).denoiser = "gaussian"
  return made


def check(config, dataset, folder):
  models = subjects.models(config, dataset, folder)
  classes.check(config, models)
  return models


def test_a_denoiser_that_needs_labels_wants_data_that_have_them(config, digits, tmp_path):
  bare = digits._replace(pool_labels=None, held_out_labels=None, classes=())
  for name in ("class-mixture", "class-gaussian"):
    config.samples.denoisers = ("network", name)
    check(config, digits, tmp_path)
    with pytest.raises(
      ValueError, match=f"`samples` asks for '{name}', which needs labels, and 'digits' has"
    ):
      check(config, bare, tmp_path)
  config.samples.denoisers = ("network",)
  check(config, bare, tmp_path)
  config.models.n64.denoiser = "class-mixture"
  with pytest.raises(ValueError, match="`models.n64.denoiser` asks for 'class-mixture', which needs labels"):
    check(config, bare, tmp_path)


def test_a_class_of_which_a_model_has_no_image_is_refused(config, digits, tmp_path):
  config.samples.denoisers = ("network", "class-gaussian")
  config.denoisers["class-gaussian"].label = 10
  with pytest.raises(
    ValueError, match="label` is 10, a class of which none of the 64 images of `models.n64`"
  ):
    check(config, digits, tmp_path)
  config.denoisers["class-gaussian"].label = 9
  check(config, digits, tmp_path)


def test_a_result_depends_on_labels_where_a_denoiser_reads_them(config, digits, tmp_path):
  other = digits._replace(pool_labels=digits.pool_labels[::-1].copy())

  def analysed(dataset):
    models = check(config, dataset, tmp_path)
    return pipeline.analyse_models(config, dataset, models, {}, tmp_path)

  assert [analysed(digits), analysed(other)] == [1, 0]
  config.samples.denoisers = ("network", "class-mixture")
  assert [analysed(digits), analysed(digits), analysed(other), analysed(other)] == [1, 0, 1, 0]
  config.samples.denoisers = ("network",)
  config.models.n64.denoiser = "class-mixture"
  assert [analysed(digits), analysed(digits), analysed(other), analysed(other)] == [1, 0, 1, 0]


def test_the_mixture_knows_every_class_of_the_models_images(config, digits, tmp_path):
  config.models.n64.size = 0
  (model,) = check(config, digits, tmp_path)
  record = subjects.fitted(model, "class-mixture", {"rank": 0}, tmp_path)
  np.testing.assert_allclose(record.share, np.bincount(model.subset.labels) / 1437)
  for label, mean in enumerate(record.mean):
    own = model.subset.images[model.subset.labels == label] / 127.5 - 1
    np.testing.assert_allclose(mean, own.mean(0), atol=1e-12)
