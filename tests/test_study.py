"""A study's schema: overrides reach the models, and what cannot run is refused by name."""

import json

import pytest

from configs import cifar_small, digits
from gauss_diffusion.study import schema

SHAPE, POOL, HELD_OUT = (8, 8, 1), 1437, 360


@pytest.fixture
def config():
  return digits.get_config("smoke")


def check(config):
  schema.check(config, SHAPE, POOL, HELD_OUT)


@pytest.mark.parametrize(
  ("module", "arg", "shape", "pool", "held_out"),
  [
    (digits, "", SHAPE, POOL, HELD_OUT),
    (digits, "smoke", SHAPE, POOL, HELD_OUT),
    (cifar_small, "", (32, 32, 3), 50_000, 10_000),
    (cifar_small, "cpu", (16, 16, 3), 50_000, 2_000),
    (cifar_small, "smoke", (16, 16, 3), 50_000, 2_000),
  ],
)
def test_every_config_passes_its_own_checks(module, arg, shape, pool, held_out):
  config = module.get_config(arg)
  schema.check(config, shape, pool, held_out)
  assert config.data.held_out == held_out
  assert config.models
  json.loads(config.to_json())


@pytest.mark.parametrize("module", [digits, cifar_small])
def test_an_unknown_variant_names_the_known_ones(module):
  with pytest.raises(ValueError, match="`huge`.*smoke"):
    module.get_config("huge")


def test_models_follow_the_study_until_they_differ(config):
  config.train.steps = 7
  config.models.n16.train.steps = 9
  assert config.models.n1437.train.steps == 7
  assert config.models.n16.train.steps == 9
  assert config.train.steps == 7


@pytest.mark.parametrize(
  ("field", "value", "message"),
  [
    ("models.n16.size", 1438, "`models.n16.size` is 1438; the data has 1437"),
    ("models.n16.part", 2, "`models.n16.part` is 2"),
    ("models.n1437.part", 1, "at most 718"),
    ("train.steps", 0, "train.steps` is 0"),
    ("train.learning_rate", -1.0, "learning_rate` is -1.0"),
    ("network.name", "resnet", "resnet.*ddpmpp"),
    ("network.num_blocks", 0, "num_blocks"),
    ("analyses", ("linearty",), "'linearty'.*did you mean 'linearity'"),
    ("sampler.sigma_min", 0.0, "sigma_min.*0.0"),
    ("sampler.sigma_min", -1.0, "sigma_min.*-1.0"),
    ("sampler.solver", "dpm", "'dpm'; known: euler, heun"),
    ("score_gap.pairs", (("network", "gausian"),), "'gausian'; known: network, gaussian"),
    ("trajectories.denoisers", ("oracle",), "'oracle'"),
    ("analyses", ("trajectories",), "needs 'distillation'"),
    ("distillation.pairs", 127, "an affine map of 64 pixels needs at least 128"),
    ("distillation.method", "sgd", "'sgd'; known: closed_form"),
    ("linearity.alpha2", (1.5,), "between 0 and 1"),
    ("linearity.pairs", 181, "1 to 180"),
    ("score_gap.images", 361, "360 held-out"),
    ("gain.pairs", 0, "`gain.pairs` is 0"),
    ("samples.num", 0, "`samples.num` is 0"),
    ("claims", ("weights of gold",), "`claims` has no 'weights of gold'"),
    ("claims", ("identity",), "`claims` has 'identity', which needs 'denoised' among `analyses`"),
    ("claims", ("gap falls",), "'gap falls', which follows models along a sweep; set `sweep` to one of size"),
    ("claims", ("preconditioning",), "needs a model of the group 'edm'"),
    ("claims", ("halves agree",), "needs two models of the group 'small', parts 0 and 1"),
    ("figures", ("agreement",), "`figures` has 'agreement', which needs two models of one `group`, parts 0"),
    ("figures", ("sweep",), "`figures` has 'sweep', which follows models along a sweep"),
  ],
)
def test_wrong_values_are_refused_by_name(config, field, value, message):
  *sections, leaf = field.split(".")
  section = config
  for name in sections:
    section = section[name]
  section[leaf] = value
  with pytest.raises(ValueError, match=message):
    check(config)


def test_claims_and_figures_want_the_results_that_they_read(config):
  config.sweep, config.claims, config.figures = "size", ("memorizer",), ("sweep",)
  check(config)
  config.score_gap.pairs = (("network", "gaussian"),)
  with pytest.raises(
    ValueError, match=r"'memorizer', which needs \('network', 'multi-delta'\) among `score_gap"
  ):
    check(config)
  config.claims = ()
  with pytest.raises(ValueError, match="`figures` has 'sweep', which needs .* among `score_gap.pairs`"):
    check(config)
  config.figures, config.claims, config.samples.denoisers = (), ("gl rises",), ("gaussian",)
  with pytest.raises(ValueError, match="needs 'network' among `samples.denoisers`"):
    check(config)


def test_a_sweep_wants_more_than_one_model(config):
  config.sweep, config.claims = "size", ("gap falls",)
  check(config)
  del config.models.n16
  with pytest.raises(ValueError, match="at least 2 `models`"):
    check(config)


def test_halves_are_two_parts_of_one_group(config):
  config.figures, config.claims = ("agreement",), ("gaussians agree",)
  for part in (0, 1):
    schema.add_model(config, f"h{part}", 20, part, title=f"half {part}", group="small")
  check(config)
  config.models.h1.part = 0
  with pytest.raises(ValueError, match="group 'small', parts 0 and 1"):
    check(config)


def test_networks_want_square_images(config):
  with pytest.raises(ValueError, match="8 x 10.*`data.crop`"):
    schema.check(config, (8, 10, 1), POOL, HELD_OUT)


def test_a_study_without_models_is_refused():
  with pytest.raises(ValueError, match="`models` is empty"):
    check(schema.default())


def test_devices_must_share_the_batch(config):
  schema.check_devices(config, 8)
  with pytest.raises(ValueError, match="`models.n1437.train.batch` is 32.*multiple of 5"):
    schema.check_devices(config, 5)
  assert 32 % schema.cpu_devices(config) == 0


def test_a_workdir_belongs_to_one_study(config, tmp_path):
  workdir = tmp_path / "study"
  schema.claim(workdir, config, "abc")
  schema.claim(workdir, config, "abc")  # the same again
  before = (workdir / "config.json").read_bytes()
  for change in ({"seed": 1}, {"data.held_out": 300}, {"models.n16.train.steps": 41}, {"linearity.pairs": 9}):
    other = digits.get_config("smoke")
    other.update_from_flattened_dict(change)
    with pytest.raises(ValueError, match=f"belongs to a study with `{next(iter(change))}`"):
      schema.claim(workdir, other, "abc")
    assert (workdir / "config.json").read_bytes() == before
  with pytest.raises(ValueError, match="`fingerprint` = 'abc', not 'abd'"):  # the images changed on disk
    schema.claim(workdir, config, "abd")
  config.data.dir = "elsewhere"  # where the data lies may change
  config.analyses = config.analyses[:2]
  schema.add_model(config, "n32", 32)  # and a study may grow
  config.modes.vectors = 3  # of an analysis that was never asked for
  schema.claim(workdir, config, "abc")
  config.gain.pairs = 7  # of one that was
  with pytest.raises(ValueError, match="`gain.pairs`"):
    schema.claim(workdir, config, "abc")
  assert "n32" in json.loads((workdir / "config.json").read_text())["models"]


def test_a_folder_of_something_else_is_left_alone(config, tmp_path):
  (tmp_path / "thesis.tex").write_text("dear")
  with pytest.raises(ValueError, match="not empty and holds no study"):
    schema.claim(tmp_path, config, "abc")
  assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
