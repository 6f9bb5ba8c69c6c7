"""What a study would cost: evaluations as analyses really make them, operations counted by hand."""

import importlib.util
import pathlib
import re
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial
from ml_collections import ConfigDict

from gauss_diffusion import analyses, data, edm, networks, statistics
from gauss_diffusion.analyses import subject as subjects
from gauss_diffusion.analyses.subject import Subject
from gauss_diffusion.denoisers import affine, external
from gauss_diffusion.probes import modes
from gauss_diffusion.study import check, cost, members, schema
from gauss_diffusion.study.members import Member
from gauss_diffusion.study.subjects import Model

REPOSITORY = pathlib.Path(__file__).parents[1]
LEVELS = 3
# Numbers that fill the batches of eight devices, so that no image is given twice: 128, 32 latents, `pairs`.
SETTINGS = {
  "distillation": {"pairs": 1024, "subspaces": (2,)},
  "input_law": {"pairs": 1024, "images": 128, "sigmas": (10.0, 0.02)},
  "descent": {"steps": 4, "batch": 128, "sigmas": (10.0, 0.02), "vectors": 2},
  "linearity": {"levels": 2, "pairs": 8, "alpha2": (0.5, 0.9)},
  "score_gap": {"images": 128},
  "denoised": {"images": 128, "shown": 128, "pure_noise": (0.5,), "sigmas": (10.0, 0.02)},
  "trajectories": {"latents": 32},
  "samples": {"num": 64},
  "teleportation": {"latents": 32, "fine": 6},
  "gain": {"pairs": 8, "directions": 3},
  "directions": {"images": 128, "directions": 3},
  "calibration": {"images": 32, "probes": 5},
  "likelihood": {"images": 4, "levels": 3, "sigmas": (1.0, 0.1), "products": 9},
  "explained": {"images": 128},
  "modes": {"latents": 32, "vectors": 2},
  "perturbation": {"latents": 32, "levels": (10.0, 0.02)},
}


def counting():
  """Return a denoiser, and a list that gains the number of images of each of its calls."""
  rows = []

  def dim(x, sigma):
    rows.append(len(x))
    return x * np.linspace(0.1, 0.9, x[0].size, dtype=x.dtype).reshape(x.shape[1:])

  return external.denoiser(dim), rows


def settings_of(name, **changes):
  return ConfigDict(analyses.ANALYSES[name].DEFAULTS | SETTINGS.get(name, {}) | changes)


def subject_of(network, size, solver):
  rng = np.random.default_rng(0)
  train, held_out = (rng.integers(0, 256, (num, size, size, 1), np.uint8) for num in (40, 256))
  sigmas = edm.sigma_grid(LEVELS, 0.02, 10.0)
  records = {"skip": np.float64(edm.SIGMA_DATA)}  # of which not only the denoiser is made
  return Subject(network, statistics.gaussian_stats(train), train, held_out, sigmas, solver, 0, records, None)


def counted(name, settings, monkeypatch, *, size=8, solver="euler"):
  """Run an analysis and return how many images its denoisers were given, by name."""
  made = {known: counting() for known in (*subjects.DENOISERS, "found")}
  monkeypatch.setattr(subjects, "denoiser", lambda subject, known: made[known][0])
  monkeypatch.setattr(affine, "denoise", lambda record, x, sigma: made["found"][0](x, sigma))
  subject = subject_of(made["network"][0], size, solver)
  analyses.ANALYSES[name].compute(subject, settings, "test")
  return {known: sum(rows) for known, (_, rows) in made.items() if rows}


@pytest.mark.parametrize("solver", ["euler", "heun"])
@pytest.mark.parametrize("name", ["trajectories", "samples", "teleportation"])
def test_solvers_ask_as_often_as_declared(name, solver, monkeypatch):
  settings = settings_of(name)
  declared = analyses.ANALYSES[name].evaluations(settings, LEVELS, solver, 64)
  assert declared == counted(name, settings, monkeypatch, solver=solver)


@pytest.mark.parametrize(
  "name", ["distillation", "descent", "linearity", "score_gap", "directions", "denoised", "explained"]
)
def test_probes_ask_as_often_as_declared(name, monkeypatch):
  settings = settings_of(name)
  declared = analyses.ANALYSES[name].evaluations(settings, LEVELS, "euler", 64)
  assert declared == counted(name, settings, monkeypatch)


def test_distillation_by_descent_asks_as_often_as_declared(monkeypatch):
  settings = settings_of("distillation", method="gradient_descent", steps=3)
  declared = analyses.distillation.evaluations(settings, LEVELS, "euler", 64)
  assert declared == counted("distillation", settings, monkeypatch)


def test_input_laws_ask_as_often_as_declared(monkeypatch):
  settings = settings_of("input_law")
  found = counted("input_law", settings, monkeypatch)
  declared = analyses.input_law.evaluations(settings, LEVELS, "euler", 64)
  assert sum(declared.pop(name) for name in subjects.LINEAR) == found.pop("found")
  assert declared == found


@pytest.mark.parametrize("size", [2, 8])  # 2 x 2 pixels have only four orthogonal probes
@pytest.mark.parametrize("name", ["gain", "calibration", "likelihood"])
def test_products_are_as_many_as_declared(name, size, monkeypatch):
  monkeypatch.setattr(analyses.calibration, "SHOWN", 8)
  (primal, _), (tangent, rows) = counting(), counting()

  @jax.custom_jvp
  def network(x, sigma):
    return primal(x, sigma)

  # A product of its own for every point, though it is the same at all.
  network.defjvp(lambda at, step: (network(*at), tangent(step[0] + 0 * at[0], at[1])))
  settings, analysis = settings_of(name), analyses.ANALYSES[name]
  analysis.compute(subject_of(Partial(network), size, "euler"), settings, "test")
  plain = 2 * 2 * 2 * 8 if name == "likelihood" else 0  # Heun's, of two steps from two levels, eight points
  assert analysis.evaluations(settings, LEVELS, "euler", size**2) == {"network": 2 * sum(rows) + plain}


@pytest.mark.parametrize("solver", ["euler", "heun"])
@pytest.mark.parametrize("size", [8, 16])  # of 8 x 8 the whole Jacobian is taken
@pytest.mark.parametrize("name", ["modes", "perturbation"])
def test_singular_vectors_take_as_many_products_as_declared(name, size, solver, monkeypatch):
  products = []

  def apply(product, denoise, x, sigma, directions):
    products.append({modes._push: 2, modes._pull: 3}[product] * len(x) * directions.shape[1])
    return np.random.default_rng(0).standard_normal(directions.shape)

  monkeypatch.setattr(modes, "_apply", apply)
  settings = settings_of(name)
  sampled = counted(name, settings, monkeypatch, size=size, solver=solver)["network"]
  declared = analyses.ANALYSES[name].evaluations(settings, LEVELS, solver, size**2)
  assert declared == {"network": sampled + sum(products)} and products


@pytest.mark.parametrize("name", analyses.ANALYSES)
def test_what_is_declared_is_of_known_denoisers(name):
  analysis = analyses.ANALYSES[name]
  declared = analysis.evaluations(settings_of(name), LEVELS, "euler", 64)
  assert set(analysis.uses(settings_of(name))) <= set(declared) <= set(subjects.DENOISERS)
  assert all(count > 0 for count in declared.values())


def study(shape=(8, 8, 1), num=100, folder=pathlib.Path("none"), **changes):
  """Return a study with one network, and a function that makes its models on images of no memory."""
  config = schema.default()
  config.analyses = ("distillation",)
  config.update(changes)

  def models():
    made = []
    for label, entry in config.models.items():
      source = schema.source(entry)
      images = np.broadcast_to(np.zeros(1, np.uint8), (entry.size or num, *shape))
      card = check.network_card(config, entry, shape) if source == "training" else {}
      subset = data.Subset(images, np.array([]), str(entry.size))
      member = Member(label, label, 0, "", entry, {})
      made.append(Model(label, member, entry, subset, subset, source, folder / label, card))
    return made

  return config, models


def by_name(stages):
  return {stage.what: stage for stage in stages}


def test_an_evaluation_costs_the_operations_of_its_convolutions():
  options = {"model_channels": 32, "channel_mult": (1, 2), "num_blocks": 2, "attn_resolutions": ()}
  network = networks.create("ddpmpp", img_resolution=32, img_channels=3, **options)
  shapes = networks.shapes(network)
  want = 0
  for path, leaf in jax.tree_util.tree_leaves_with_path(shapes):
    if leaf.ndim == 4:
      resolution = int(re.search(r"_(\d+)x\d+", jax.tree_util.keystr(path))[1])
      want += 2 * leaf.size * resolution**2
  found = cost._traced(network.model, "model_channels")
  assert found.parameters == sum(leaf.size for leaf in jax.tree.leaves(shapes)) and found.width == 32
  # Convolutions read less at the border, a tenth at 16 x 16; norms, activations and the embedding add some.
  assert 0.9 * want < found.flops < 1.1 * want


def test_training_holds_what_xla_plans():
  options = {"patch_size": 2, "hidden_size": 48, "depth": 2, "num_heads": 2}
  network = networks.create("dit", img_resolution=16, img_channels=3, **options)
  parameters, batch = networks.shapes(network), 32
  inputs = (jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((batch, 16, 16, 3), (batch,)))

  def loss(params, x, sigma):
    return jnp.mean(network.apply({"params": params}, x, sigma) ** 2)

  plan = jax.jit(jax.grad(loss)).lower(parameters, *inputs).compile().memory_analysis()
  want = cost.KEPT_IN_TRAINING * cost._traced(network.model, "hidden_size").results * batch
  assert want / 2 < plan.temp_size_in_bytes < 2 * want


def test_snapshots_train_only_what_is_beyond_the_one_before():
  config, models = study()
  for steps in (10, 30, 80):
    schema.add_model(config, f"s{steps}", 16, title=f"{steps}").train.steps = steps
  schema.add_model(config, "alone", 32).train.steps = 80
  stages = by_name(cost.estimate(config, models(), 100))
  found = [
    stages[f"train {label}"].evaluations / (3 * config.train.batch)
    for label in ("s10", "s30", "s80", "alone")
  ]
  assert found == [10, 20, 50, 80]
  assert [name for name in stages if name.startswith("statistics")] == ["statistics alone", "statistics s10"]


def test_distilling_large_images_shows_its_passes_and_its_maps():
  config, models = study((64, 64, 3))
  config.distillation.pairs = 2 * 64 * 64 * 3
  schema.add_model(config, "large", 50_000)
  stages = cost.estimate(config, models(), 10_000)
  distillation = by_name(stages)["distillation large"]
  assert distillation.evaluations == 2 * 10 * 2 * 24_576 == 983_040
  maps = 2 * 10 * (64 * 64 * 3) ** 2 * 4
  assert maps == 12_079_595_520 and 0 < distillation.bytes_disk - maps < 1e6
  assert distillation.bytes_memory > maps
  table = cost.table(stages)
  row = next(line for line in table.splitlines() if line.startswith("distillation"))
  assert "980,000" in row and row.endswith("12 GB")
  assert max(map(len, table.splitlines())) <= 100


def test_what_is_left_to_do_and_too_large_names_what_it_needs_and_what_would_fit(tmp_path):
  config, models = study(folder=tmp_path / "models", analyses=("gain",))
  schema.add_model(config, "n16", 16)

  def check(memory):
    cost.check(config, models(), 100, tmp_path, memory)

  config.train.batch = 2**20
  with pytest.raises(
    ValueError, match=r"^`train n16` needs about .* GB .* 1 GB; want `models.n16.train.batch`"
  ):
    check(1e9)
  with pytest.raises(ValueError, match="of at most") as error:
    check(1e9)
  config.train.batch = most = int(re.search(r"at most (\d+)$", str(error.value))[1])
  check(1e9)
  stage = by_name(cost.estimate(config, models(), 100))["train n16"]
  assert stage.bytes_memory == pytest.approx(1e9, rel=1e-2)
  config.train.batch = most + most // 10
  with pytest.raises(ValueError, match=f"at most {most}$"):
    check(1e9)
  (models()[0].folder / "checkpoints" / str(config.train.steps)).mkdir(parents=True)
  check(1e9)  # it is trained

  config.gain.pairs = 2**20
  with pytest.raises(ValueError, match=r"`gain n16` needs .*; want `gain.pairs` of at most \d+$"):
    check(1e9)
  with pytest.raises(ValueError, match="want smaller images, by `data.size`$"):
    check(1e3)
  (tmp_path / "results" / "gain").mkdir(parents=True)
  (tmp_path / "results" / "gain" / "n16.json").write_text("{}")
  check(1e3)  # it is found


def test_what_fits_by_far_is_told_without_tracing_or_measuring(tmp_path, monkeypatch):
  config, models = study(analyses=schema.default().analyses)
  for size in range(1, 6):
    schema.add_model(config, f"n{size}", size)
    config.models[f"n{size}"].network.model_channels = 8 * size
  made = models()
  for name in ("_traced", "_measured_rate", "_host_rate"):
    monkeypatch.setattr(cost, name, None)
  cost.check(config, made, 100, tmp_path, 1e12)  # in milliseconds


UNET = {"model_channels": 8, "channel_mult": (1, 2), "num_blocks": 1, "attn_resolutions": ()}
ATTENDING = {"model_channels": 16, "channel_mult": (2, 1, 1), "num_blocks": 2, "attn_resolutions": (16, 8)}


@pytest.mark.parametrize(
  ("name", "size", "options"),
  [
    *((name, 16, options) for name in ("ddpmpp", "ncsnpp", "adm") for options in (UNET, ATTENDING)),
    ("ncsnpp", 8, UNET | {"channel_mult": (1,)}),
    *(("edm2", 16, options) for options in (UNET, ATTENDING)),
    ("diffusers", 16, UNET | {"up_attn_resolutions": ()}),
    ("diffusers", 16, ATTENDING | {"up_attn_resolutions": (16, 8), "attention_head_dim": 2}),
    ("skip", 8, {"model_channels": 8, "num_levels": 1}),
    ("skip", 16, {"model_channels": 32, "num_levels": 3}),
    ("dit", 16, {"patch_size": 2, "hidden_size": 48, "depth": 2, "num_heads": 8}),
    ("dit", 8, {"patch_size": 4, "hidden_size": 16, "depth": 1, "num_heads": 2}),
  ],
)
def test_the_bound_is_never_less_than_what_tracing_says(name, size, options):
  card = {"name": name, "img_resolution": size, "img_channels": 1, **options}
  model = Model("a", None, None, None, None, "training", None, {"network": card})
  bound, traced = cost._bound(model), cost._network(model)
  assert traced.results < bound.results / 2 and traced.parameters < bound.parameters / 2


def test_every_network_has_a_bound(monkeypatch):
  asked = []
  monkeypatch.setattr(cost, "_network", asked.append)
  for name in networks.NETWORKS:
    card = {"name": name, "img_resolution": 64, "img_channels": 3}
    model = Model("a", None, None, None, None, "training", None, {"network": card})
    cost._bound(model)
  assert not asked


def test_a_large_network_is_neither_initialised_nor_waited_for(monkeypatch):
  def refuse(*args):
    raise AssertionError("a network was initialised")

  monkeypatch.setattr(networks, "init", refuse)
  config, models = study((32, 32, 3))
  config.analyses = schema.default().analyses
  config.network.update(model_channels=128, channel_mult=(2, 2, 2), num_blocks=4, attn_resolutions=(16,))
  for size in (64, 50_000):
    schema.add_model(config, f"n{size}", size)
  start = time.process_time()
  stages = cost.estimate(config, models(), 10_000)
  assert time.process_time() - start < 10
  train = by_name(stages)["train n64"]
  assert (
    train.bytes_disk == 2 * 16 * 55_732_739
  )  # the reference's parameters, their average and two moments, twice
  assert train.seconds > 100 * by_name(stages)["statistics n64"].seconds


def test_a_function_is_timed_and_asked_for_no_derivatives(tmp_path):
  path = tmp_path / "mine.py"
  path.write_text("import time\ndef f(x, sigma):\n  time.sleep(0.01 * len(x))\n  return x / 2\n")
  config, models = study(num=20)
  config.analyses = ("linearity", "gain")
  schema.add_model(config, "mine", 0).function = f"{path}:f"
  stages = by_name(cost.estimate(config, models(), 100))
  assert [name for name in stages if name.endswith(" mine")] == ["statistics mine", "linearity mine"]
  linearity = stages["linearity mine"]
  assert linearity.evaluations == 20 * 2 * 100 * 4
  assert 0.009 < linearity.seconds / linearity.evaluations < 0.03


def test_models_of_one_network_share_its_compiles():
  config, models = study()
  config.analyses = ("linearity", "samples", "trajectories")
  config.samples.denoisers = config.trajectories.denoisers = ("network",)
  seconds = []
  for label in ("one", "two"):
    schema.add_model(config, label, 16, title=label)
    seconds.append(cost.estimate(config, models(), 100)[-1].seconds)
  assert seconds[0] == seconds[1] > 20
  config.models.two.network.model_channels = 32
  assert cost.estimate(config, models(), 100)[-1].seconds == 2 * seconds[0]


@pytest.mark.parametrize(
  ("value", "units", "text"),
  [
    (491_520, (("", 1),), "490,000"),
    (7, (("", 1),), "7"),
    (13_700, cost.SECONDS, "3.8 h"),
    (59.9, cost.SECONDS, "1 min"),
    (45.2, cost.SECONDS, "45 s"),
    (0.001, cost.SECONDS, "< 0.1 s"),
    (12.08e9, cost.BYTES, "12 GB"),
    (0, cost.BYTES, "–"),
  ],
)
def test_numbers_are_read_at_a_glance(value, units, text):
  assert cost.amount(value, units) == text


@pytest.mark.parametrize(
  ("name", "side", "pool", "held_out", "wanted"),
  [  # parameters as EDM's own networks have them; 70 million images a network, as in the paper
    ("cifar10_paper", 32, 50_000, 10_000, ("ddpmpp: 56 million parameters, 137,200 steps of 512 images", 4)),
    ("ffhq64", 64, 68_000, 2_000, ("ncsnpp: 63 million parameters, 274,400 steps of 256 images", 6)),
  ],
)
def test_networks_of_the_papers_size_are_described(name, side, pool, held_out, wanted, monkeypatch):
  spec = importlib.util.spec_from_file_location(name, REPOSITORY / "configs" / f"{name}.py")
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  config, shape = module.get_config(), (side, side, 3)
  check.check(config, shape, pool, held_out)
  models = []
  for member in members.members(config):
    card = check.network_card(config, member.entry, shape)
    models.append(
      Model(member.label, member, member.entry, None, None, "training", pathlib.Path(member.label), card)
    )
  (said,) = cost.described(models).splitlines()
  start, number = wanted
  assert said.startswith(start) and said.endswith(f": {number} such")
  train = models[0].entry.train
  assert train.steps * train.batch == pytest.approx(70.246e6, rel=1e-3)
  seconds = 3 * train.steps * train.batch * cost._network(models[0]).flops / 1e14
  assert f"{seconds / 3600:.2g} h at 100 TFLOP/s" in said
  one = cost._training_peak(models[0], cost._network(models[0]))
  monkeypatch.setattr(jax, "process_count", lambda: 2)  # each of which has half of a batch
  two = cost._training_peak(models[0], cost._network(models[0]))
  assert two.each == one.each / 2 and two.fixed == one.fixed
