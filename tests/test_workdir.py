"""A working directory belongs to one study, whose networks stay what they were trained to be."""

import json

import pytest

from gauss_diffusion import data
from gauss_diffusion.study import asked, pipeline, schema, subjects, workdir


@pytest.fixture(scope="module")
def dataset():
  return data.load("digits", held_out=360, seed=0)


def study(**changes):
  config = schema.default()
  schema.shrink(config)
  config.train.batch, config.train.steps = 16, 2
  schema.add_model(config, "net", 16)
  config.update_from_flattened_dict(changes)
  return config


def take(folder, config, dataset, train=False):
  models = subjects.models(config, dataset, folder)
  workdir.take(folder, config, models, "command")
  if train:
    pipeline.train_models(models, folder)


@pytest.fixture(scope="module")
def trained(dataset, tmp_path_factory):
  folder = tmp_path_factory.mktemp("workdir") / "study"
  take(folder, study(), dataset, train=True)
  return folder


CHANGES = {
  "seed": 1,
  "models.net.size": 17,
  "train.steps": 3,
  "train.learning_rate": 1e-3,
  "models.net.train.p_mean": 0.0,
  "network.model_channels": 12,
  "models.net.network.name": "ncsnpp",
}


@pytest.mark.parametrize("field", CHANGES)
def test_what_decided_a_training_is_refused_with_a_way_on(trained, dataset, field):
  before = {path: path.read_bytes() for path in trained.rglob("*") if path.is_file()}
  named = ".".join(field.split(".")[-2:]).removeprefix("net.")
  with pytest.raises(ValueError, match=f"has trained 'net' with .*{named}`? .*another label, or .*--workdir"):
    take(trained, study(**{field: CHANGES[field]}), dataset)
  assert {path: path.read_bytes() for path in trained.rglob("*") if path.is_file()} == before


def test_other_images_are_refused(trained):
  other = data.load("digits", held_out=360, seed=1)
  with pytest.raises(ValueError, match="with the images .of another `data` or `seed`. = "):
    take(trained, study(), other)


@pytest.mark.parametrize(
  "changes",
  [
    {"train.log_every": 1, "train.keep": 5, "train.checkpoint_every": 1},
    {"title": "another", "score_gap.images": 3, "sampler.levels": 4, "denoisers.kernel.bandwidth": 0.5},
    {"analyses": ("linearity",), "data.held_out": 300, "data.dir": "elsewhere"},
  ],
)
def test_everything_else_may_change(trained, dataset, changes):
  config = study(**changes)
  schema.add_model(config, "other", 32)
  take(trained, config, dataset)
  assert asked.read(trained) == {"command": "command"} | asked.plain(config)


def test_a_network_that_was_never_saved_may_be_trained_otherwise(dataset, tmp_path):
  take(tmp_path, study(**{"train.learning_rate": 1e30}), dataset)
  take(tmp_path, study(), dataset)
  assert json.loads((tmp_path / "models/net/training.json").read_text())["train.learning_rate"] == 4e-3


def test_checkpoints_of_unknown_origin_are_refused(dataset, tmp_path):
  take(tmp_path, study(), dataset, train=True)
  record = tmp_path / "models/net/training.json"
  for broken in ("{", "[]", "{}"):
    record.write_text(broken)
    with pytest.raises(ValueError, match="training.json|has trained 'net'"):
      take(tmp_path, study(), dataset)
  record.unlink()
  with pytest.raises(ValueError, match="holds checkpoints and no `training.json`"):
    take(tmp_path, study(), dataset)


def test_a_training_older_than_a_field_had_its_default(dataset, tmp_path):
  take(tmp_path, study(), dataset, train=True)
  record = tmp_path / "models/net/training.json"
  known = json.loads(record.read_text())
  younger = {"train.noise_law": "log-uniform", "train.sigma_min": 0.1, "train.sigma_max": 9.0}
  for field, other in younger.items():
    record.write_text(json.dumps({name: value for name, value in known.items() if name not in younger}))
    with pytest.raises(ValueError, match=f"trained 'net' with `models.net.{field}` = .*, not '?{other}"):
      take(tmp_path, study(**{field: other}), dataset)
    take(tmp_path, study(), dataset)
    assert json.loads(record.read_text()) == known


@pytest.mark.parametrize("broken", ["", "{", "[]", "{}"])
def test_a_damaged_config_is_written_anew(trained, dataset, broken):
  (trained / "config.json").write_text(broken)
  with pytest.raises(ValueError, match="config.json.*run the study again, which writes it anew"):
    asked.read(trained)
  take(trained, study(), dataset)
  assert asked.read(trained)["title"] == "Untitled study"


def test_a_folder_of_something_else_is_left_alone(dataset, tmp_path):
  (tmp_path / "thesis.tex").write_text("dear")
  with pytest.raises(ValueError, match="not empty and holds no study"):
    take(tmp_path, study(), dataset)
  with pytest.raises(ValueError, match="is a file"):
    take(tmp_path / "thesis.tex", study(), dataset)
  assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_models_come_by_name_and_number():
  assert asked.in_order(["n16", "n1437", "b", "n2", "a10", "a9"]) == ["a9", "a10", "b", "n2", "n16", "n1437"]
