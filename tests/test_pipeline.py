"""Work done once: runs that models share, shares of processes, results that know when they are stale."""

import jax
import numpy as np
import pytest

from gauss_diffusion import data, parallel, results
from gauss_diffusion.analyses import ANALYSES
from gauss_diffusion.images import to_float
from gauss_diffusion.study import check, pipeline, rebuild, schema, subjects, workdir
from gauss_diffusion.training import checkpoint, loop


@pytest.fixture(scope="module")
def dataset():
  return data.load("digits", held_out=360, seed=0)


def tiny(*analyses):
  config = schema.default()
  schema.shrink(config)
  config.network.name = "skip"  # the quickest to trace
  config.train.batch = 16
  config.train.steps = 2
  config.train.log_every = 1
  config.sampler.levels = 3
  config.linearity.levels = 2
  config.analyses = analyses or ("linearity",)
  return config


def snapshots(*steps):
  config = tiny()
  for count in steps:
    schema.add_model(config, f"s{count}", 16, title=f"{count} steps").train.steps = count
  return config


def params(folder, label):
  return checkpoint.load_ema(folder, label)[1]


def run(config, dataset, folder):
  """Do all the work of a study; returns how many networks were trained and the results that were written."""
  check.check(config, dataset.pool.shape[1:], len(dataset.pool), len(dataset.held_out))
  models = subjects.models(config, dataset, folder)
  loaded = subjects.functions(models, (config.sampler.sigma_min, config.sampler.sigma_max))
  workdir.take(folder, config, models, "command")
  before = {path: path.stat().st_mtime_ns for path in folder.glob("results/*/*.json")}
  trained = pipeline.train_models(models, folder)
  ran = pipeline.analyse_models(config, dataset, models, loaded, folder)
  after = {path: path.stat().st_mtime_ns for path in folder.glob("results/*/*.json")}
  written = {f"{path.parent.name}/{path.stem}" for path in after if after[path] != before.get(path)}
  assert ran == len([name for name in written if not name.startswith("training/")])
  return trained, written


def both(*names):
  return {f"{name}/{label}" for name in names for label in ("net", "null")}


# Training.


def test_snapshots_of_one_run_are_those_of_separate_runs(dataset, tmp_path):
  together, alone = tmp_path / "together", tmp_path / "alone"
  models = subjects.models(snapshots(0, 2, 4, 7), dataset, together)
  assert [[m.label for m in run] for run in pipeline.runs(models)] == [["s0", "s2", "s4", "s7"]]
  assert pipeline.train_models(models, together) == 4 and pipeline.train_models(models, together) == 0
  pipeline.train_models(subjects.models(snapshots(7), dataset, alone), alone)
  for one, other in zip(
    jax.tree.leaves(params(together, "s7")), jax.tree.leaves(params(alone, "s7")), strict=True
  ):
    np.testing.assert_array_equal(one, other)
  early, late = (jax.tree.leaves(params(together, label))[0] for label in ("s2", "s7"))
  assert not np.array_equal(early, late)
  # The history of the run belongs to each of its snapshots, once.
  steps = results.read_metrics(together / "models" / "s7" / loop.METRICS)["step"]
  np.testing.assert_array_equal(steps, np.arange(1, 8))
  assert checkpoint.latest_step(together / "models" / "s2") == 2


def test_what_differs_by_more_than_steps_is_another_run(dataset, tmp_path):
  config = snapshots(2, 4)
  config.models.s4.seed = 1
  schema.add_model(config, "other", 32, title="other").train.steps = 2
  assert len(pipeline.runs(subjects.models(config, dataset, tmp_path))) == 3


def test_processes_divide_the_runs_among_them(dataset, tmp_path):
  config = snapshots(2, 4)
  for size in (32, 48, 64):
    schema.add_model(config, f"n{size}", size)
  models = subjects.models(config, dataset, tmp_path)
  shares = [[m.label for m in pipeline.share(models, task, 3)] for task in range(3)]
  assert sorted(sum(shares, [])) == sorted(m.label for m in models)
  assert any({"s2", "s4"} <= set(share) for share in shares)
  assert all(map(len, shares))
  with pytest.raises(ValueError, match="`task` is 3"):
    pipeline.share(models, 3, 3)


# Freshness.


@pytest.fixture(scope="module")
def study(dataset, tmp_path_factory):
  """A study of one network and one ideal denoiser, done; each test changes it on."""
  folder = tmp_path_factory.mktemp("study")
  config = tiny("distillation", "linearity", "score_gap", "samples")
  schema.add_model(config, "net", 16)
  schema.add_model(config, "null", 16, title="c_skip x").denoiser = "skip"
  trained, written = run(config, dataset, folder)
  assert trained == 1
  assert written == both(*config.analyses) | {"training/net"}
  return config, folder


@pytest.fixture
def settled(study, dataset):
  """The study, whatever the tests before did to it, with nothing left to do."""
  run(study[0], dataset, study[1])
  return study


def test_what_is_current_is_never_touched(settled, dataset):
  config, folder = settled
  before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
  assert run(config, dataset, folder) == (0, set())
  after = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
  changed = {path.name for path in after if after[path] != before.get(path)}
  assert changed <= {"config.json", "training.json"} and set(after) == set(before)


def test_one_more_denoiser_and_pair_is_one_analysis(settled, dataset):
  config, folder = settled
  config.score_gap.pairs = (*config.score_gap.pairs, ("network", "kernel"))
  assert run(config, dataset, folder) == (0, both("score_gap"))
  found, card = results.load(folder / "results/score_gap/net")
  assert found.rmse.sel(one="network", two="kernel").size
  assert card["inputs"]["denoisers"]["kernel"] == {"bandwidth": 0.1}
  assert run(config, dataset, folder) == (0, set())


def test_an_option_concerns_those_that_use_it(settled, dataset):
  config, folder = settled
  config.samples.denoisers = ("network", "gaussian", "kernel")
  assert run(config, dataset, folder) == (0, both("samples"))
  config.denoisers.gaussian.rank = 3
  assert run(config, dataset, folder) == (0, both("samples", "score_gap"))
  config.denoisers.kernel.bandwidth = 0.2
  config.score_gap.pairs = (("network", "gaussian"), ("network", "linear (held-out)"))
  assert run(config, dataset, folder) == (0, both("samples", "score_gap"))
  config.denoisers.kernel.bandwidth = 0.3
  assert run(config, dataset, folder) == (0, both("samples"))


def test_a_result_that_was_read_counts_by_its_content(settled, dataset):
  config, folder = settled
  config.distillation.pairs = 192
  assert run(config, dataset, folder) == (0, both("distillation", "score_gap"))
  # The same maps again, under a setting of a method that is not used, change nothing for who reads them.
  config.distillation.steps = 7
  assert run(config, dataset, folder) == (0, both("distillation"))


def test_levels_concern_everything_but_the_training(settled, dataset):
  config, folder = settled
  config.sampler.levels = 4
  assert run(config, dataset, folder) == (0, both(*config.analyses))


def test_a_model_comes_and_goes(settled, dataset):
  config, folder = settled
  schema.add_model(config, "late", 32)
  assert run(config, dataset, folder) == (1, {f"{name}/late" for name in (*config.analyses, "training")})
  del config.models.late
  assert run(config, dataset, folder) == (0, set())


def test_an_analysis_of_another_version_is_stale(settled, dataset, monkeypatch):
  config, folder = settled
  monkeypatch.setattr(ANALYSES["linearity"], "VERSION", 1000)
  assert run(config, dataset, folder) == (0, both("linearity"))


def test_damage_is_computed_anew(settled, dataset):
  config, folder = settled
  place = folder / "results/linearity"
  arrays = (place / "net.nc").read_bytes()
  for broken in (b"", arrays[:-100], (place / "null.nc").read_bytes()):
    (place / "net.nc").write_bytes(broken)
    assert run(config, dataset, folder) == (0, {"linearity/net"})
    assert (place / "net.nc").read_bytes() == arrays
  for broken in ("{}", "[]", "nonsense"):
    (place / "net.json").write_text(broken)
    assert run(config, dataset, folder) == (0, {"linearity/net"})
  for kind in (".nc", ".json"):  # another model's result, whole
    (place / f"net{kind}").write_bytes((place / f"null{kind}").read_bytes())
  assert run(config, dataset, folder) == (0, {"linearity/net"})


def test_other_held_out_images_concern_the_analyses(settled):
  config, folder = settled
  other = data.load("digits", held_out=300, seed=0)
  config.data.held_out = 300
  assert run(config, other, folder) == (0, both(*config.analyses))


# Replicates and controls.


def test_replicates_and_controls_join_a_study_and_nothing_else_is_computed(dataset, tmp_path):
  config = tiny("distillation", "linearity", "score_gap")
  schema.add_model(config, "n16", 16)
  config.claims, config.controls = ("nearest to gaussian", "linear knows high noise"), ("skip",)

  def joined(label, *controls):
    """Return what a network and its controls have results of: of them no claim asks how linear they are."""
    about = {f"{name}/{label}.{control}" for name in ("distillation", "score_gap") for control in controls}
    trained = {f"training/{label}.surrogate"} if "surrogate" in controls else set()
    return about | trained

  def whole(label):
    return {f"{name}/{label}" for name in (*config.analyses, "training")}

  assert run(config, dataset, tmp_path) == (1, whole("n16") | joined("n16", "skip"))
  config.controls = ("skip", "untrained", "linear")
  assert run(config, dataset, tmp_path) == (1, joined("n16", "untrained", "linear"))
  config.replicates = 2
  assert run(config, dataset, tmp_path) == (2, whole("n16.2") | joined("n16.2", *config.controls))
  config.controls = (*config.controls, "surrogate")
  assert run(config, dataset, tmp_path) == (2, joined("n16", "surrogate") | joined("n16.2", "surrogate"))
  assert run(config, dataset, tmp_path) == (0, set())
  for path in tmp_path.glob("results/score_gap/n16.2.linear.*"):
    path.unlink()
  assert run(config, dataset, tmp_path) == (0, {"score_gap/n16.2.linear"})
  config.replicates = 1
  assert run(config, dataset, tmp_path) == (0, set())

  config.replicates = 2
  models = {model.label: model for model in subjects.models(config, dataset, tmp_path)}
  opened = {
    label: subjects.opened(model, config.denoisers.to_dict(), {}, tmp_path) for label, model in models.items()
  }
  # Replicates: other weights, other images. The surrogate: other weights again, on draws in their place.
  trained = ("n16", "n16.2", "n16.surrogate", "n16.2.surrogate")
  assert len({opened[label].digest for label in trained}) == 4
  assert not set(models["n16"].subset.ids) & set(models["n16.2"].subset.ids)
  cards = {label: results.read_card(tmp_path / "results/score_gap" / label) for label in models}
  for label, card in cards.items():
    assert card["data"]["fingerprint"] == models[label].subset.fingerprint
    assert ("draws" in card["inputs"]["held-out"]) == ("surrogate" in label)
  # EDM draws the last layer 1e-5 times as wide as the others: all that is left is c_skip x.
  x, sigma = to_float(dataset.held_out[:5]), 0.7
  for label in ("n16", "n16.2"):
    want = parallel.denoise(opened[f"{label}.skip"].denoise, x, sigma)
    found = parallel.denoise(opened[f"{label}.untrained"].denoise, x, sigma)
    np.testing.assert_allclose(found, want, atol=5e-5)
    assert abs(parallel.denoise(opened[label].denoise, x, sigma) - want).max() > abs(found - want).max()
  # The linear control is the affine map on held-out images of its own network.
  for label in ("n16", "n16.2"):
    maps = results.load(tmp_path / "results/distillation" / label)[0].sel(law="held-out").isel(sigma=1)
    found = parallel.denoise(opened[f"{label}.linear"].denoise, x, float(maps.sigma))
    want = x.reshape(5, -1).astype(np.float64) @ maps.weight.to_numpy().T + maps.bias.to_numpy()
    np.testing.assert_allclose(found.reshape(5, -1), want, atol=2e-5)  # float32, sums of 64 terms


# Sources.


def test_a_network_from_elsewhere_is_analysed_and_not_trained(dataset, tmp_path):
  config = snapshots(2)
  pipeline.train_models(subjects.models(config, dataset, tmp_path / "first"), tmp_path / "first")
  config = tiny()
  schema.add_model(config, "imported", 0).checkpoint = str(tmp_path / "first" / "models" / "s2")
  trained, written = run(config, dataset, tmp_path / "second")
  assert trained == 0 and written == {"linearity/imported"}
  card = results.read_card(tmp_path / "second/results/linearity/imported")
  assert card["subject"]["kind"] == "network from a checkpoint" and card["subject"]["parameters"] > 1000


@pytest.mark.parametrize("name", ["multi-delta", "identity"])
def test_an_ideal_denoiser_can_be_the_subject_of_every_analysis(dataset, tmp_path, name):
  config = tiny(*ANALYSES)
  config.descent.vectors, config.modes.vectors = 2, 2
  schema.add_model(config, "ideal", 16, title="ideal").denoiser = name
  assert run(config, dataset, tmp_path)[1] == {f"{analysis}/ideal" for analysis in ANALYSES}
  found = results.open(tmp_path)["score_gap"]["ideal"]
  if name == "multi-delta":
    assert not found.rmse.sel(one="network", two=name).any()


def test_a_function_without_derivatives_lacks_what_needs_them(dataset, tmp_path):
  (tmp_path / "half.py").write_text("def f(x, sigma):\n  return 0.5 * x\n")
  config = tiny("linearity", "gain")
  schema.add_model(config, "numpy", 16, title="of NumPy").function = f"{tmp_path / 'half.py'}:f"
  jax_too = schema.add_model(config, "jax", 16, title="of JAX")
  jax_too.function, jax_too.jax = f"{tmp_path / 'half.py'}:f", True
  folder = tmp_path / "study"
  assert run(config, dataset, folder)[1] == {
    f"{name}/{label}" for name in config.analyses for label in config.models
  }
  arrays, card = results.load(folder / "results/gain/numpy")
  assert arrays is None and card["absent"] == "it is a function outside JAX and has no derivatives"
  found = results.open(folder)
  np.testing.assert_allclose(found["gain"]["jax"].gain, 0.5, rtol=1e-6)
  np.testing.assert_allclose(found["linearity"]["numpy"].cosine, 1, rtol=1e-6)
  assert not rebuild.lacking(folder)
  assert run(config, dataset, folder) == (0, set())
  (tmp_path / "half.py").write_text("def f(x, sigma):\n  return 0.25 * x\n")
  assert run(config, dataset, folder)[1] == {"linearity/numpy", "gain/numpy", "linearity/jax", "gain/jax"}
