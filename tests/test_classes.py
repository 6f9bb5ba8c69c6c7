"""Class labels in a study: what is told and held against what, and what images or networks cannot give."""

import contextlib
import json

import forge
import jax
import numpy as np
import pytest
from test_importers import VARIANTS, weights

from configs import imported
from gauss_diffusion import data, importers, networks, results
from gauss_diffusion.denoisers import guidance
from gauss_diffusion.study import asked, classes, members, pipeline, rebuild, schema, subjects, workdir
from gauss_diffusion.study import check as checks
from gauss_diffusion.training import checkpoint


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
  for name in ("class_mixture", "class_gaussian"):
    config.samples.denoisers = ("network", name)
    check(config, digits, tmp_path)
    with pytest.raises(
      ValueError, match=f"`samples` asks for '{name}', which needs labels, and 'digits' has"
    ):
      check(config, bare, tmp_path)
  config.samples.denoisers = ("network",)
  check(config, bare, tmp_path)
  config.models.n64.denoiser = "class_mixture"
  with pytest.raises(ValueError, match="`models.n64.denoiser` asks for 'class_mixture', which needs labels"):
    check(config, bare, tmp_path)


def test_a_class_of_which_a_model_has_no_image_is_refused(config, digits, tmp_path):
  config.samples.denoisers = ("network", "class_gaussian")
  config.denoisers["class_gaussian"].label = 10
  with pytest.raises(
    ValueError, match="label` is 10, a class of which none of the 64 images of `models.n64`"
  ):
    check(config, digits, tmp_path)
  config.denoisers["class_gaussian"].label = 9
  check(config, digits, tmp_path)


def test_an_alarm_on_one_image_is_refused(config, digits, tmp_path):
  config.models.n64.denoiser, config.models.n64.size = "", 1
  check(config, digits, tmp_path)
  config.models.n64.train.alarm_every = 10
  with pytest.raises(
    ValueError, match="`models.n64.train.alarm_every` is 10, and its training images are 1 times"
  ):
    check(config, digits, tmp_path)


def test_a_result_depends_on_labels_where_a_denoiser_reads_them(config, digits, tmp_path):
  other = digits._replace(pool_labels=digits.pool_labels[::-1].copy())

  def analysed(dataset):
    models = check(config, dataset, tmp_path)
    return pipeline.analyse_models(config, dataset, models, {}, tmp_path)

  assert [analysed(digits), analysed(other)] == [1, 0]
  config.samples.denoisers = ("network", "class_mixture")
  assert [analysed(digits), analysed(digits), analysed(other), analysed(other)] == [1, 0, 1, 0]
  config.samples.denoisers = ("network",)
  config.models.n64.denoiser = "class_mixture"
  assert [analysed(digits), analysed(digits), analysed(other), analysed(other)] == [1, 0, 1, 0]


def test_the_mixture_knows_every_class_of_the_models_images(config, digits, tmp_path):
  config.models.n64.size = 0
  (model,) = check(config, digits, tmp_path)
  record = subjects.fitted(model, "class_mixture", {"rank": 0}, tmp_path)
  np.testing.assert_allclose(record.share, np.bincount(model.subset.labels) / 1437)
  for label, mean in enumerate(record.mean):
    own = model.subset.images[model.subset.labels == label] / 127.5 - 1
    np.testing.assert_allclose(mean, own.mean(0), atol=1e-12)


@pytest.fixture
def told():
  """A study of one class-conditional network, asked about class 3, about class 0 and about none."""
  made = schema.default()
  schema.shrink(made)
  made.title, made.analyses = "told", ("linearity", "samples")
  made.linearity.pairs, made.samples.num, made.samples.denoisers = 2, 2, ("network", "gaussian")
  made.train.conditional, made.train.label_dropout, made.train.steps = True, 0.2, 4
  made.network.name, made.network.hidden_size, made.network.depth, made.network.num_heads = "dit", 8, 1, 1
  for chosen in ("3", "0", "none"):
    schema.add_model(made, f"c{chosen}", 200, title=f"class {chosen}").class_label = chosen
  return made


def refuse(config, dataset):
  num = classes.fewest_held_out(config, dataset)
  checks.check(config, (8, 8, 1), len(dataset.pool), num, len(dataset.classes))


def test_one_training_is_asked_about_every_class_and_held_against_its_images(told, digits, tmp_path):
  refuse(told, digits)
  models = {model.label: model for model in check(told, digits, tmp_path)}
  of_three = np.flatnonzero(digits.pool_labels[:200] == 3)
  np.testing.assert_array_equal(models["c3"].subset.ids, digits.pool_ids[of_three])
  np.testing.assert_array_equal(models["cnone"].subset.ids, digits.pool_ids[:200])
  assert all(len(model.training.images) == 200 for model in models.values())
  assert classes.fewest_held_out(told, digits) == min(np.bincount(digits.held_out_labels)[[0, 3]])
  seen = subjects.held_out_images(models["c3"], digits, tmp_path)
  np.testing.assert_array_equal(seen, digits.held_out[digits.held_out_labels == 3])

  assert [len(run) for run in pipeline.runs([*models.values()])] == [3]
  workdir.take(tmp_path, told, [*models.values()], "test")
  pipeline.train_models([*models.values()], tmp_path)
  assert pipeline.train_models([*models.values()], tmp_path) == 0
  opened = {label: subjects.opened(model, {}, {}, tmp_path) for label, model in models.items()}
  x = np.random.default_rng(0).standard_normal((8, 8, 1)).astype(np.float32)
  denoise = jax.jit(lambda denoise, x, sigma: denoise(x, sigma))
  (params,) = {str(found.denoise.args[0].params["model"]["final_linear"]) for found in opened.values()}
  assert params and len({found.digest for found in opened.values()}) == 3
  for label, vector in (("c3", np.eye(10)[3]), ("c0", np.eye(10)[0]), ("cnone", np.zeros(10))):
    np.testing.assert_array_equal(opened[label].denoise.args[0].label, vector)
    assert np.isfinite(denoise(opened[label].denoise, x, np.float32(1.0))).all()
  assert [found.about["name"] for found in opened.values()] == [
    "dit, class 0",
    "dit, class 3",
    "dit, class none",
  ]

  assert pipeline.analyse_models(told, digits, [*models.values()], {}, tmp_path) == 6
  assert pipeline.analyse_models(told, digits, [*models.values()], {}, tmp_path) == 0
  told.models.c3.class_label = "5"
  again = check(told, digits, tmp_path)
  workdir.check(tmp_path, again)  # another class is no other training
  assert pipeline.train_models(again, tmp_path) == 0
  assert pipeline.analyse_models(told, digits, again, {}, tmp_path) == 2


def test_guidance_is_a_look_at_the_same_training(told, digits, tmp_path):
  schema.add_model(told, "g3", 200, title="guided").update({"class_label": "3", "guidance": 1.5})
  refuse(told, digits)
  models = check(told, digits, tmp_path)
  assert [len(run) for run in pipeline.runs(models)] == [4]
  workdir.take(tmp_path, told, models, "test")
  pipeline.train_models(models, tmp_path)
  opened = {model.label: subjects.opened(model, {}, {}, tmp_path) for model in models}
  assert opened["g3"].about["name"] == "dit, class 3, guidance 1.5"
  assert opened["g3"].digest != opened["c3"].digest
  conditional, unconditional, weight = opened["g3"].denoise.args[0]
  assert weight == 1.5 and opened["g3"].denoise.func is guidance.denoise
  for own, label in ((conditional, "c3"), (unconditional, "cnone")):
    pairs = zip(jax.tree.leaves(own), jax.tree.leaves(opened[label].denoise), strict=True)
    assert all(np.array_equal(one, other) for one, other in pairs) and own.func is opened[label].denoise.func
  assert pipeline.analyse_models(told, digits, models, {}, tmp_path) == 8
  told.models.g3.guidance = 2.0
  again = check(told, digits, tmp_path)
  workdir.check(tmp_path, again)  # another weight is no other training
  assert pipeline.train_models(again, tmp_path) == 0
  assert pipeline.analyse_models(told, digits, again, {}, tmp_path) == 2


def test_a_class_is_called_by_its_name(told):
  told.models.c3.class_label = "frog"
  classes.resolve(told, ("cat", "dog", "frog"))
  assert [told.models[label].class_label for label in ("c3", "c0", "cnone")] == ["2", "0", "none"]


def test_all_is_a_model_for_each_class_and_one_training(told, digits, tmp_path):
  del told.models.c0, told.models.cnone
  told.models.c3.update({"class_label": "all", "title": "told"})
  told.lock()
  classes.resolve(told, digits.classes)
  assert asked.in_order(told.models) == [f"c3-{label}" for label in range(10)]
  found = asked.plain(told)["models"]
  for label in range(10):
    own = {"class_label": str(label), "title": f"told, {label}", "group": "c3"}
    assert found[f"c3-{label}"] == found["c3-0"] | own
  refuse(told, digits)
  models = check(told, digits, tmp_path)
  (run,) = pipeline.runs(models)
  assert len(run) == 10 and sum(len(model.subset.images) for model in models) == 200


def test_a_control_is_of_the_class_of_its_model(told):
  told.claims, told.controls = ("gl rises",), ("mean",)
  of_models = [member for member in members.members(told) if not member.control]
  assert len({member.stands_in["mean"] for member in of_models}) == 3
  told.models.c3.class_label = "0"
  of_models = [member for member in members.members(told) if not member.control]
  assert len({member.stands_in["mean"] for member in of_models}) == 2


@pytest.mark.parametrize(
  ("change", "want"),
  [
    (
      {"class_label": ""},
      "`models.c3` is a network conditional on 10 classes; set `models.c3.class_label` to",
    ),
    ({"class_label": "10"}, "`models.c3.class_label` is '10'; want a label from '0' to '9'"),
    (
      {"class_label": "cat"},
      "`models.c3.class_label` is 'cat'; want a label, such as '0', a class's name, 'all' or",
    ),
    ({"class_label": "-1"}, "`models.c3.class_label` is '-1'; want a label"),
    (
      {"network.name": "diffusers", "class_label": "none", "train.label_dropout": 0.0},
      "`models.c3` asks a UNet2DModel .* about no class, .*; set `models.c3.class_label` to one, '0' to '9'",
    ),
    ({"guidance": -0.5}, "`models.c3.guidance` is -0.5; want a weight from 0 to 100"),
    ({"guidance": float("nan")}, "`models.c3.guidance` is nan; want a weight"),
    (
      {"guidance": 2.0, "class_label": "none"},
      "`models.c3.guidance` is 2, which leads .* to a class; set `models.c3.class_label`",
    ),
    (
      {"guidance": 2.0, "train.label_dropout": 0.0},
      "`models.c3.guidance` is 2, away from .* no class, which it learns with `train.label_dropout`",
    ),
    ({"surrogate": True}, "`models.c3` has both `surrogate` and `train.conditional`"),
    ({"train.label_dropout": 1.0}, "train.label_dropout` is 1.0; want a rate from 0 to below 1"),
    (
      {"train.conditional": False},
      "label_dropout` is 0.2, of labels that are not given; set `train.conditional`",
    ),
    (
      {"train.conditional": False, "train.label_dropout": 0.0},
      "`models.c3.class_label` is '3', and its network is unconditional; leave it empty",
    ),
  ],
)
def test_classes_that_cannot_be_are_refused(change, want, told, digits):
  for field, value in change.items():
    entry, _, leaf = field.rpartition(".")
    (told.models.c3[entry] if entry else told.models.c3)[leaf] = value
  with pytest.raises(ValueError, match=want) as error:
    refuse(told, digits)
  assert "\n" not in str(error.value)


def test_what_images_cannot_give_is_refused(told, digits, config, tmp_path):
  bare = digits._replace(pool_labels=None, held_out_labels=None, classes=())
  with pytest.raises(
    ValueError, match="`models.c.*.train.conditional` is true, which needs labels, and 'digits'"
  ):
    refuse(told, bare)
  config.models.n64.class_label = "3"
  with pytest.raises(ValueError, match="`models.n64.class_label` is '3', and the images have no labels"):
    refuse(config, bare)
  config.models.n64.class_label = "all"
  classes.resolve(config, bare.classes)
  with pytest.raises(ValueError, match="`models.n64.class_label` is 'all', and the images have no labels"):
    refuse(config, bare)
  config.models.n64.class_label = "3"
  refuse(config, digits)
  config.models.n64.size = 2
  held = digits._replace(pool_labels=np.full_like(digits.pool_labels, 4))
  with pytest.raises(ValueError, match="class_label` is '3', a class of which none of its 2 images is"):
    check(config, held, tmp_path)
  told.controls, told.claims = ("surrogate",), ("identity",)
  told.linearity.pairs = 10**4
  with pytest.raises(ValueError, match="linearity.pairs"):
    refuse(told, digits)


# Imported.

LABELS = 10  # that the network below knows, as many as there are digits


@pytest.fixture(scope="module")
def network(tmp_path_factory):
  """Import a snapshot of the reference's class, conditional on ten classes, and return its folder."""
  config = json.loads(str(VARIANTS["vp_skip_skip/config"]))
  shapes = json.loads(str(VARIANTS["vp_skip_skip/shapes"]))
  assert config["label_dim"] == shapes["model.map_label.weight"][1] == 3 and config["img_resolution"] == 8
  config["label_dim"] = shapes["model.map_label.weight"][1] = LABELS
  class_name, folder = config.pop("class_name"), tmp_path_factory.mktemp("imported")
  state = {name: np.float32(value) for name, value in weights(shapes, config).items()}
  forge.snapshot(folder / "network-snapshot.pkl", state, config, class_name=class_name)
  made, params = importers.load(folder / "network-snapshot.pkl")
  checkpoint.save_ema(folder / "network", params, {"network": networks.card(made)})
  return folder / "network"


def study_of(network, class_label):
  config = imported.get_config("smoke")
  config.checkpoint, config.models.imported.class_label = str(network), class_label
  config.analyses = ("score_gap",)
  config.score_gap.pairs, config.score_gap.images = (("network", "gaussian"),), 4
  config.sampler.levels = 3
  return config


def carried_out(config, dataset, folder):
  """Do what `main.study` does once it has the images; returns the page."""
  classes.resolve(config, dataset.classes)
  refuse(config, dataset)
  models = check(config, dataset, folder)
  workdir.take(folder, config, models, "test")
  pipeline.analyse_models(config, dataset, models, {}, folder)
  rebuild.rebuild(folder)
  return (folder / "report.html").read_text()


@pytest.mark.parametrize("class_label", ["3", "all", "none"])
def test_an_imported_network_is_asked_about_a_class_all_or_none(network, class_label, digits, tmp_path):
  with pytest.raises(ValueError, match="`models.imported` is a network conditional on 10 classes; set"):
    carried_out(study_of(network, ""), digits, tmp_path / "refused")
  assert not (tmp_path / "refused").exists()

  page = carried_out(study_of(network, class_label), digits, tmp_path)
  found = results.open(tmp_path)["score_gap"]
  wanted = {"3": {"imported": 3}, "none": {"imported": None}}
  wanted["all"] = {f"imported-{label}": label for label in range(LABELS)}
  assert set(found) == set(wanted[class_label])
  made, params = checkpoint.load_ema(network)
  for where, label in wanted[class_label].items():
    card = results.read_card(tmp_path / "results" / "score_gap" / where)
    told = "none" if label is None else str(label)
    assert card["model"]["class_label"] == told
    assert card["subject"]["name"] == f"ddpmpp, class {told}" and f"<td>ddpmpp, class {told}</td>" in page
    own, held_out = digits.pool, digits.held_out
    if label is not None:
      own, held_out = own[digits.pool_labels == label], held_out[digits.held_out_labels == label]
    assert card["data"]["size"] == len(own)
    measured = found[where].rmse.sel(law="held-out", one="network", two="gaussian").isel(sigma=1)
    sigma = float(measured.sigma)
    noise = np.random.default_rng([0, *b"score gap"]).standard_normal((4, 8, 8, 1), np.float32)
    x = held_out[:4] / np.float32(127.5) - 1 + np.float32(sigma) * noise
    vector = (
      np.zeros((4, LABELS), np.float32) if label is None else np.eye(LABELS, dtype=np.float32)[[label] * 4]
    )
    said = np.asarray(made.apply({"params": params}, x, np.full(4, sigma, np.float32), vector))
    want = np.sqrt(((said.reshape(4, -1) - gaussian(own, x, sigma)) ** 2).mean(1))
    np.testing.assert_allclose(measured, want, rtol=1e-4)  # float32, through a network


def gaussian(images, x, sigma):
  """Return the Gaussian denoiser's estimates [N, D], in float64: mean + C (C + sigma^2)^-1 (x - mean)."""
  flat, x = images.reshape(len(images), -1) / 127.5 - 1, x.reshape(len(x), -1).astype(np.float64)
  mean, covariance = flat.mean(0), np.cov(flat.T, bias=True)
  return mean + (x - mean) @ np.linalg.solve(covariance + sigma**2 * np.eye(len(covariance)), covariance)


def test_a_conditional_network_of_diffusers_is_not_asked_about_no_class(network, digits, tmp_path):
  card = checkpoint.load_card(network)["network"]
  refused = "asks a UNet2DModel of diffusers about no class"
  for label_dropout, known in ((0.0, False), (0.1, True)):
    told = card | {"name": "diffusers", "label_dropout": label_dropout}
    for change in ({"class_label": "none"}, {"class_label": "3", "guidance": 1.0}):
      model = study_of(network, "3").models.imported
      model.update(change)
      with contextlib.nullcontext() if known else pytest.raises(ValueError, match=refused):
        classes.check_label("models.imported", model, told, LABELS)
