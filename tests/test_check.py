"""A study's schema and checks: overrides reach the models, and what cannot run is refused by name."""

import pytest

from gauss_diffusion import data, networks
from gauss_diffusion.denoisers import FAMILIES
from gauss_diffusion.study import check as checks
from gauss_diffusion.study import schema

SHAPE, POOL, HELD_OUT = (8, 8, 1), 1437, 360


@pytest.fixture
def config():
  """A study of two networks, small enough to pass its checks on digits."""
  made = schema.default()
  schema.shrink(made)
  for size in (16, 1437):
    schema.add_model(made, f"n{size}", size)
  return made


def check(config):
  checks.check(config, SHAPE, POOL, HELD_OUT)


def leaves(tree, path=""):
  for name, value in tree.items():
    if isinstance(value, dict):
      yield from leaves(value, f"{path}{name}.")
    else:
      yield f"{path}{name}", value


def test_every_field_has_a_meaning(config):
  """What `--help` lists is what a config has, model by model and section by section."""
  want = dict(leaves(schema.default().to_dict()))
  assert "network.depth" in want and "denoisers.kernel.bandwidth" in want
  listed = dict(schema.fields())
  of_study = {name: field for name, field in listed.items() if not name.startswith("models.")}
  assert {name: field.default for name, field in of_study.items()} == want
  assert all(field.meaning.strip() for field in listed.values())
  of_model = {f"models.LABEL.{name}" for name in config.models.n16} - {
    "models.LABEL.network",
    "models.LABEL.train",
  }
  assert of_model == {name for name in listed if name.startswith("models.")} - {
    "models.LABEL.network.FIELD",
    "models.LABEL.train.FIELD",
  }


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
    ("train.steps", -1, "train.steps` is -1; want 0 to"),
    ("train.batch", 0, "train.batch` is 0; want 1 to"),
    ("train.noise_law", "uniform", "train.noise_law` has no 'uniform'; known: edm, .*log-uniform"),
    ("train.sigma_min", 0.0, "train.sigma_min`, `sigma_max` are 0.0, 80.0; noise levels must be positive"),
    ("train.sigma_max", 0.001, "train.sigma_min`, `sigma_max` are 0.002, 0.001"),
    ("models.n16.train.sigma_max", 9.0, "9.0, which .* 'edm' does not know; set `train.noise_law` to 'log-u"),
    ("train.learning_rate", -1.0, "learning_rate` is -1.0"),
    ("network.name", "resnet", "resnet.*ddpmpp"),
    ("models.n16.network.patch_size", 4, "`network.patch_size` is 4, and ddpmpp has no such option"),
    ("models.n16.seed", -1, "`models.n16.seed` is -1"),
    ("models.n16.checkpoint", "nowhere", "'nowhere' holds no checkpoint"),
    ("models.n16.denoiser", "gausian", "`models.n16.denoiser` has no 'gausian'.*did you mean 'gaussian'"),
    ("models.n16.jax", True, "`models.n16.jax` is true without a `function`"),
    ("denoisers.kernel.bandwidth", 0.0, "`denoisers.kernel.bandwidth` is 0.0; want a number from"),
    ("denoisers.gaussian.rank", -2, "`denoisers.gaussian.rank` is -2; want a whole number from 0"),
    ("train.p_mean", float("nan"), "train.p_mean` is nan; want between -20 and 20"),
    ("train.p_std", float("inf"), "train.p_std` is inf"),
    ("train.learning_rate", float("inf"), "train.learning_rate` is inf"),
    ("train.rampup_images", -1, "rampup_images` is -1"),
    ("train.batch", 10**12, "train.batch` is 10"),
    ("sampler.sigma_max", float("inf"), "sigma_max` are 0.002, inf"),
    ("sampler.levels", 10**5, "`sampler.levels` is 100000; want 2 to 1000"),
    ("analyses", ("linearity", "linearity"), "`analyses` has 'linearity' twice"),
    ("analyses", (1,), "`analyses` has no 1"),
    ("score_gap.pairs", (), "`score_gap.pairs` is empty"),
    ("score_gap.pairs", (("network",),), r"`score_gap.pairs` has \('network',\); want pairs"),
    ("samples.denoisers", (), "`samples.denoisers` is empty"),
    ("samples.denoisers", ("network", "network"), "`samples.denoisers` names a denoiser twice"),
    ("network.num_blocks", 0, "num_blocks"),
    ("analyses", ("linearty",), "'linearty'.*did you mean 'linearity'"),
    ("sampler.sigma_min", 0.0, "sigma_min.*0.0"),
    ("sampler.sigma_min", -1.0, "sigma_min.*-1.0"),
    ("sampler.solver", "dpm", "'dpm'; known: euler, heun"),
    ("score_gap.pairs", (("network", "gausian"),), "'gausian'; known: network, linear"),
    ("trajectories.denoisers", ("oracle",), "'oracle'"),
    ("analyses", ("trajectories",), "needs 'distillation'"),
    ("distillation.pairs", 127, "an affine map of 64 pixels needs at least 128"),
    ("distillation.method", "sgd", "'sgd'; known: closed_form"),
    ("linearity.alpha2", (1.5,), "between 0 and 1"),
    ("linearity.pairs", 181, "1 to 180"),
    ("score_gap.images", 361, "all but the first 100"),
    ("gain.pairs", 0, "`gain.pairs` is 0"),
    ("samples.num", 0, "`samples.num` is 0"),
    ("train.alarm_every", 7, "train.alarm_every` is 7; want a multiple of `train.log_every`"),
    ("train.alarm_every", -10, "train.alarm_every` is -10; want 0"),
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


def test_a_misspelt_denoiser_is_named_before_the_claims_that_miss_it(config):
  config.sweep, config.claims = "size", ("memorizer",)
  config.score_gap.pairs = (("network", "gausian"),)
  with pytest.raises(ValueError, match="`score_gap.pairs` has no denoiser 'gausian'"):
    check(config)


def test_a_single_level_of_noise_may_be_chosen(config):
  config.train.noise_law, config.train.sigma_min, config.train.sigma_max = "log-uniform", 0.5, 0.5
  check(config)
  config.train.noise_law, config.network.preconditioning = "", "none"
  check(config)


def test_an_untrained_network_is_a_model(config):
  config.models.n16.train.steps = 0
  check(config)


def test_a_model_has_one_source(config):
  config.models.n16.denoiser, config.models.n16.function = "mean", "my_model.py:f"
  with pytest.raises(ValueError, match="`models.n16` has both `function` and `denoiser`"):
    check(config)
  config.models.n16.function = ""
  check(config)
  assert schema.source(config.models.n16) == "denoiser" and schema.source(config.models.n1437) == "training"


@pytest.mark.parametrize("name", networks.NETWORKS)
def test_every_architecture_can_be_named(config, name):
  config.network.name = name
  check(config)
  known = networks.create(**checks.network_card(config, config.models.n16, SHAPE)["network"])
  assert networks.card(known)["name"] == name


def test_what_is_trained_here_has_a_preconditioning(config):
  config.network.preconditioning = "eps"
  with pytest.raises(
    ValueError, match="`models.n.*.network.preconditioning` is 'eps'.*known: edm, vp, ve, iddpm, none"
  ):
    check(config)


def test_what_the_study_says_of_other_architectures_is_no_concern_of_one(config):
  config.network.attn_resolutions = (4,)
  config.models.n16.network.update({"name": "dit", "hidden_size": 32})
  card = checks.network_card(config, config.models.n16, SHAPE)["network"]
  assert card["hidden_size"] == 32 and "attn_resolutions" not in card
  config.models.n16.network.channel_mult = (3,)
  with pytest.raises(ValueError, match="`network.channel_mult` is .3,., and dit has no such option"):
    check(config)


def test_a_sweep_has_a_place_for_every_model(config):
  config.sweep = "width"
  config.network.name = "dit"
  check(config)  # transformers have a width too
  config.models.n16.network.name = "adm"
  with pytest.raises(ValueError, match="widths are different things .hidden_size, model_channels."):
    check(config)
  config.models.n16.denoiser = "mean"
  with pytest.raises(ValueError, match="`sweep` is 'width', and `models.n16` is not trained here"):
    check(config)
  config.sweep = "size"
  check(config)


def test_images_too_large_for_a_denoiser_are_refused_before_training(config):
  config.analyses = ("samples",)
  config.samples.denoisers = ("network", "gaussian")
  checks.check(config, (128, 128, 3), 1437, 360)
  config.samples.denoisers = ("network", "multi-delta")
  with pytest.raises(ValueError, match="'multi-delta' takes images of at most 32768 values"):
    checks.check(config, (128, 128, 3), 1437, 360)


def test_options_that_do_not_fit_the_images_are_refused_before_training(config):
  config.denoisers.mixture.components = 17
  check(config)  # nothing asks for it
  config.samples.denoisers = ("network", "mixture")
  with pytest.raises(ValueError, match="`denoisers.mixture.components` is 17; want at most the 16 images"):
    check(config)
  config.denoisers.mixture.components = 16
  check(config)


def test_options_of_every_family_are_fields(config):
  assert set(config.denoisers) == set(FAMILIES)
  config.denoisers.kernel.bandwidth = 0.3
  check(config)


def test_networks_want_square_images(config):
  with pytest.raises(ValueError, match="8 x 10.*`data.crop`"):
    checks.check(config, (8, 10, 1), POOL, HELD_OUT)


def test_a_study_without_models_is_refused():
  with pytest.raises(ValueError, match="`models` is empty"):
    check(schema.default())


def test_a_study_without_analyses_is_refused(config):
  config.analyses = ()
  with pytest.raises(ValueError, match="`analyses` is empty"):
    check(config)


def test_devices_must_share_the_batch(config):
  checks.check_devices(config, 8)
  with pytest.raises(ValueError, match="`models.n1437.train.batch` is 32.*multiple of 5"):
    checks.check_devices(config, 5)
  assert 32 % checks.cpu_devices(config) == 0


def test_everything_wrong_is_found_at_once_and_what_follows_from_it_is_not(config):
  config.analyses = ("linearity", "gains")
  config.sampler.levels = 1
  config.linearity.alpha2 = (0.5, 0.5)
  config.models.n16.train.batch = 0
  config.models.n1437.size = 5000
  found = list(checks.problems(config, SHAPE, POOL, HELD_OUT))
  wanted = (
    "no 'gains'",
    "linearity.alpha2` is",
    "sampler.levels` is 1",
    "n16.train.batch` is 0",
    "1437.size` is",
  )
  for wrong in wanted:
    assert sum(wrong in each for each in found) == 1, (wrong, found)
  assert len(found) == len(wanted)
  with pytest.raises(ValueError, match="no 'gains'"):
    check(config)


def test_what_goes_wrong_otherwise_is_not_hidden(config, monkeypatch):
  monkeypatch.setattr(checks, "_check_sampler", lambda sampler: sampler.nothing)
  with pytest.raises(AttributeError):
    list(checks.problems(config, SHAPE, POOL, HELD_OUT))


@pytest.mark.parametrize(("pool", "held_out", "named"), [(0, 255, "training"), (255, 0, "held-out")])
def test_images_that_are_all_one_are_refused(pool, held_out, named):
  digits = data.load("digits", held_out=HELD_OUT)
  checks.check_images(digits)
  one = digits._replace(pool=digits.pool & pool, held_out=digits.held_out & held_out)
  with pytest.raises(
    ValueError, match=f"the {named} images of .* are .* times one; want at least two different"
  ):
    checks.check_images(one)
