"""Training: what a step does, that a resumed run is the uninterrupted one, and how a bad one stops."""

import functools
import re
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from gauss_diffusion import edm, interrupts, networks, parallel, results
from gauss_diffusion.training import alarm, checkpoint, loop, train_state

OPTIONS = {"img_resolution": 8, "img_channels": 1, "model_channels": 8, "channel_mult": (1,), "num_blocks": 1}
CARD = {"network": {"name": "ddpmpp", **OPTIONS, "channel_mult": [1]}}
SETTINGS = loop.Settings(
  steps=6,
  batch=16,
  learning_rate=1e-3,
  rampup_images=32,
  ema_halflife_images=64.0,
  ema_rampup=0.5,
  flips=True,
  noise_law="",
  p_mean=-1.2,
  p_std=1.2,
  sigma_min=0.002,
  sigma_max=80.0,
  log_every=2,
  checkpoint_every=3,
  keep=2,
  dtype="float32",
  remat=False,
)


@pytest.fixture(scope="module")
def network():
  return networks.create("ddpmpp", **OPTIONS, dropout=0.1)


@pytest.fixture(scope="module")
def images():
  return np.random.default_rng(0).integers(0, 256, (20, 8, 8, 1), np.uint8)


def run(network, images, folder, **changes):
  return loop.run(network, CARD, images, folder, SETTINGS._replace(**changes), seed=3, title="test")


def leaves_equal(a, b):
  return all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


def test_batches_are_a_pure_function_and_see_every_image_equally():
  seen = np.concatenate([loop.batch_indices(5, step, 16, 20) for step in range(5)])
  assert len(seen) == 80
  np.testing.assert_array_equal(np.bincount(seen), 4)  # 80 draws of 20 images
  np.testing.assert_array_equal(np.sort(seen[:20]), np.arange(20))  # a pass is a permutation
  np.testing.assert_array_equal(loop.batch_indices(5, 2, 16, 20), seen[32:48])
  assert not np.array_equal(loop.batch_indices(6, 2, 16, 20), seen[32:48])


def test_every_pass_has_an_order_of_its_own():
  passes = [loop.batch_indices(5, step, 20, 20) for step in range(4)]  # a batch is a whole pass
  for order in passes:
    np.testing.assert_array_equal(np.sort(order), np.arange(20))
  assert len({order.tobytes() for order in passes}) == 4  # two alike by chance: once in 20! / 6 seeds


def test_eight_devices_take_the_step_of_one(network, images):
  # Noise belongs to the image, so the averaged gradient is that of the whole batch (no dropout).
  plain = network.clone(model=network.model.clone(dropout=0.0))
  tx = train_state.optimizer(1e-3, 0, 16)
  state = train_state.pack(train_state.create(networks.init(plain, jax.random.key(0)), tx))
  x0, keys = jnp.asarray(images[:16] / 127.5 - 1, jnp.float32), jax.random.split(jax.random.key(1), 16)
  step = functools.partial(loop.train_step, network=plain, tx=tx, settings=SETTINGS)
  one_device = jax.pmap(
    step, parallel.AXIS, in_axes=(None, 0, 0), out_axes=(None, None), devices=jax.devices()[:1]
  )
  want, want_info = one_device(state, x0[None], keys[None])
  got, info = parallel.replicated_step(step)(state, parallel.shard(x0), parallel.shard(keys))
  assert float(info.loss) == pytest.approx(float(want_info.loss), rel=1e-5)
  assert float(info.grad_norm) == pytest.approx(float(want_info.grad_norm), rel=1e-4)
  moments = jax.tree.leaves(got.opt_state[0].mu), jax.tree.leaves(want.opt_state[0].mu)
  scale = max(np.abs(leaf).max() for leaf in moments[1])
  for a, b in zip(*moments, strict=True):
    np.testing.assert_allclose(a, b, atol=1e-5 * scale)  # float32 sums in another order
  for leaf in jax.tree.leaves(got):
    copies = [np.asarray(shard.data) for shard in leaf.addressable_shards]
    assert len(copies) == 8 and all(np.array_equal(copy, copies[0]) for copy in copies)


def test_the_noise_is_that_of_the_networks_preconditioning():
  settings = SETTINGS._replace(p_mean=0.3, p_std=0.2)
  key = jax.random.key(0)
  for name, constants in (
    ("edm", {"sigma_data": 0.7}),
    ("vp", {"beta_d": 3.0}),
    ("ve", {}),
    ("iddpm", {"M": 7}),
    ("none", {}),
  ):
    network = networks.create("ddpmpp", preconditioning=name, **OPTIONS, **constants)
    chosen = {"p_mean": 0.3, "p_std": 0.2} if name == "edm" else {}
    want = edm.TRAINING_NOISE[name](key, (64,), **constants, **chosen)
    for a, b in zip(loop.noise_law(network, settings)(key, (64,)), want, strict=True):
      np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
  ("law", "preconditioning", "constants"),
  [
    ("log-uniform", "edm", {"sigma_min": 0.3, "sigma_max": 4.0, "sigma_data": 0.7}),
    ("log-uniform", "none", {"sigma_min": 0.3, "sigma_max": 4.0}),
    ("", "none", {"sigma_min": 0.3, "sigma_max": 4.0}),
    ("edm", "vp", {"p_mean": 0.3, "p_std": 0.2}),
    ("ve", "edm", {}),
  ],
)
def test_the_noise_may_be_chosen(law, preconditioning, constants):
  sigma_data = {"sigma_data": 0.7} if preconditioning == "edm" else {}
  network = networks.create("ddpmpp", preconditioning=preconditioning, **OPTIONS, **sigma_data)
  settings = SETTINGS._replace(noise_law=law, p_mean=0.3, p_std=0.2, sigma_min=0.3, sigma_max=4.0)
  key = jax.random.key(0)
  want = edm.TRAINING_NOISE[law or preconditioning](key, (64,), **constants)
  for a, b in zip(loop.noise_law(network, settings)(key, (64,)), want, strict=True):
    np.testing.assert_array_equal(a, b)


def test_a_network_trains_on_the_noise_that_was_chosen(network, images, tmp_path):
  usual = run(network, images, tmp_path / "usual", steps=2)
  named = run(network, images, tmp_path / "named", steps=2, noise_law="edm", sigma_min=0.1, sigma_max=1.0)
  other = run(network, images, tmp_path / "other", steps=2, noise_law="log-uniform")
  assert leaves_equal(usual, named) and not leaves_equal(usual, other)


@pytest.fixture(scope="module")
def told():
  """A network that is told one of three classes, and takes less time to compile than a U-Net."""
  options = {
    "img_resolution": 8,
    "img_channels": 1,
    "patch_size": 4,
    "hidden_size": 8,
    "depth": 1,
    "num_heads": 1,
  }
  return networks.create("dit", **options, label_dim=3)


def step_of(network, params, images, labels=None):
  """Make one step on eight devices; returns the parameters after it and the first moments."""
  tx = train_state.optimizer(1e-3, 0, 16)
  step = functools.partial(loop.train_step, network=network, tx=tx, settings=SETTINGS)
  batch = [jnp.asarray(images[:16] / 127.5 - 1, jnp.float32), jax.random.split(jax.random.key(1), 16)]
  batch += [] if labels is None else [labels]
  compiled = parallel.replicated_step(step, len(batch))
  fresh = train_state.create(params, tx)
  state, _ = compiled(train_state.pack(fresh), *map(parallel.shard, batch))
  state = train_state.unpack(state, fresh.params)
  return state.params, state.opt_state[0].mu


def test_no_class_is_training_without_classes_to_the_last_bit(told, images):
  """Zeros for a class add nothing anywhere: all but the classes' own weights are as without them."""
  plain = told.clone(model=told.model.clone(label_dim=0))
  params = networks.init(told, jax.random.key(0))
  label = params["model"]["embedding"].pop("map_label")
  want = step_of(plain, jax.tree.map(jnp.copy, params), images)
  params["model"]["embedding"]["map_label"] = label
  found = step_of(told, params, images, np.full(16, -1, np.int32))
  (moment,) = found[1]["model"]["embedding"].pop("map_label").values()
  found[0]["model"]["embedding"].pop("map_label")
  np.testing.assert_array_equal(moment, 0)
  assert leaves_equal(found, want)


def test_a_class_is_told_for_its_own_images(told, images):
  """Weights of a class have a gradient where the batch has its images, and nowhere else."""
  params = networks.init(told, jax.random.key(0))
  params["model"]["block0"]["adaLN_modulation"]["kernel"] += 0.1  # zero at first, and deaf to everything
  params["model"]["final_modulation"]["kernel"] += 0.1
  params["model"]["final_linear"]["kernel"] += 0.1
  _, moments = step_of(told, params, images, np.repeat(np.int32([0, 2]), 8))
  (rows,) = moments["model"]["embedding"]["map_label"].values()
  assert np.abs(rows[0]).max() > 0 and np.abs(rows[2]).max() > 0
  np.testing.assert_array_equal(rows[1], 0)


def test_every_image_of_a_batch_comes_with_its_label(told, images, tmp_path, monkeypatch):
  labels, seen, real = np.arange(20, dtype=np.int32) % 3, [], loop._compiled

  def watched(*arguments):
    tx, step = real(*arguments)

    def record(state, asked, x0, keys, told_labels):
      seen.append((np.asarray(x0).reshape(16, 8, 8, 1), np.asarray(told_labels).reshape(16)))
      return step(state, asked, x0, keys, told_labels)

    return tx, record

  monkeypatch.setattr(loop, "_compiled", watched)
  card = {"network": networks.card(told)}
  loop.run(told, card, images, tmp_path, SETTINGS._replace(steps=2), seed=3, title="test", labels=labels)
  for x0, given in seen:
    for image, label in zip(x0, given, strict=True):
      (index,) = np.flatnonzero(np.abs(images / 127.5 - 1 - image).max((1, 2, 3)) < 1e-6)
      assert labels[index] == label
  assert len(seen) == 2


UNET = {"model_channels": 8, "channel_mult": (1,), "num_blocks": 1, "attn_resolutions": (), "dropout": 0.0}


@pytest.mark.parametrize(
  ("name", "preconditioning", "options"),
  [
    ("ncsnpp", "edm", UNET),
    ("adm", "edm", UNET),
    ("ncsnpp", "ve", UNET),
    ("ncsnpp", "none", UNET),
    ("skip", "none", {"model_channels": 8, "num_levels": 2}),
    ("dit", "none", {"patch_size": 4, "hidden_size": 16, "depth": 1, "num_heads": 2}),
  ],
)
def test_every_model_of_the_paper_learns(name, preconditioning, options):
  # One batch with its noise, over and over, on one device.
  network = networks.create(
    name, preconditioning=preconditioning, img_resolution=8, img_channels=1, **options
  )
  x0 = jnp.broadcast_to(jnp.linspace(-0.8, 0.8, 8)[None, :, None, None], (32, 8, 8, 1))
  keys = jax.random.split(jax.random.key(1), 32)
  tx = train_state.optimizer(1e-2, 0, 32)
  state = train_state.pack(train_state.create(networks.init(network, jax.random.key(0)), tx))
  step = functools.partial(loop.train_step, network=network, tx=tx, settings=SETTINGS._replace(flips=False))
  step = jax.jit(jax.vmap(step, in_axes=(None, 0, 0), out_axes=None, axis_name=parallel.AXIS))
  losses = []
  for _ in range(15):
    state, info = step(state, x0[None], keys[None])
    losses.append(float(info.loss))
  assert losses[-1] < 0.5 * losses[0]


def test_bfloat16_and_remat_change_how_it_is_computed_not_what_is_kept(network, images, tmp_path):
  want = run(network, images, tmp_path / "plain", steps=3)
  got = run(network, images, tmp_path / "low", steps=3, dtype="bfloat16", remat=True)
  assert not leaves_equal(got, want)
  with checkpoint.manager(tmp_path / "low") as checkpoints:
    tx = train_state.optimizer(1e-3, 0, 16)
    fresh = train_state.create(networks.init(network, jax.random.key(0)), tx)
    state, _ = checkpoint.restore(checkpoints, fresh, CARD)  # which refuses any other shape or dtype
  assert {leaf.dtype for leaf in jax.tree.leaves(state)} == {np.dtype("float32"), np.dtype("int32")}
  losses = [results.read_metrics(tmp_path / name / loop.METRICS)["loss"] for name in ("plain", "low")]
  np.testing.assert_allclose(losses[1], losses[0], rtol=2e-2)
  loaded, _ = checkpoint.load_ema(tmp_path / "low")
  assert loaded.dtype == "float32" and not loaded.model.remat


def test_looks_for_memorization_change_nothing_and_stand_in_metric_lines(network, images, tmp_path):
  held_out = np.random.default_rng(1).integers(0, 256, (12, 8, 8, 1), np.uint8)
  changes = {"seed": 3, "title": "test", "held_out": held_out}
  plain = run(network, images, tmp_path / "plain")
  watched = loop.run(
    network, CARD, images, tmp_path / "watched", SETTINGS._replace(alarm_every=4, log_every=2), **changes
  )
  assert leaves_equal(plain, watched)
  lines = [results.read_metrics(tmp_path / name / loop.METRICS) for name in ("plain", "watched")]
  np.testing.assert_array_equal(lines[0]["loss"], lines[1]["loss"])
  assert not any(name.startswith("alarm") for name in lines[0])
  assert np.isnan(lines[1]["alarm_gap"]).tolist() == [True, False, True]
  # Of the average at that step, not of a later one.
  at_4 = run(network, images, tmp_path / "four", steps=4)
  denoise = Partial(networks.denoise, networks.Trained(params=at_4, network=network))
  want = alarm.memorization_alarm(images, held_out, every=4, seed=3)(denoise, 4)
  for name in loop.ALARM:
    assert lines[1][f"alarm_{name}"][1] == pytest.approx(float(getattr(want, name)), rel=1e-5)
  with pytest.raises(ValueError, match="`held_out` is None"):
    run(network, images, tmp_path / "none", alarm_every=4)


def test_a_resumed_run_is_the_uninterrupted_one(network, images, tmp_path):
  whole = run(network, images, tmp_path / "whole")
  run(network, images, tmp_path / "parts", steps=3)
  resumed = run(network, images, tmp_path / "parts")
  assert leaves_equal(whole, resumed)
  assert checkpoint.latest_step(tmp_path / "parts") == 6
  metrics = [results.read_metrics(tmp_path / name / loop.METRICS) for name in ("whole", "parts")]
  np.testing.assert_array_equal(metrics[0]["loss"][[0, 2]], metrics[1]["loss"][[0, 3]])
  # The same again trains nothing and returns the same.
  assert leaves_equal(run(network, images, tmp_path / "parts"), resumed)


def test_an_interrupted_run_is_saved_and_its_continuation_is_the_uninterrupted_one(
  network, images, tmp_path, monkeypatch
):
  whole, folder = run(network, images, tmp_path / "whole", log_every=4), tmp_path / "parts"
  with monkeypatch.context() as patch:
    patch.setattr(interrupts, "_caught", [signal.SIGTERM])
    # Processes know of a signal when they look at the step that it came in: while the next one is made, or at
    # once where that is saved anyway.
    for step in (2, 3):
      with pytest.raises(interrupts.Interrupted, match="SIGTERM"):
        run(network, images, folder, log_every=4)
      assert checkpoint.latest_step(folder) == step
  assert leaves_equal(whole, run(network, images, folder, log_every=4))
  # Metric lines too are those of the uninterrupted run, but for the clock.
  lines = [loop.metrics(tmp_path / name) for name in ("whole", "parts")]
  for column in ("step", "images", "loss", "learning_rate"):
    np.testing.assert_array_equal(lines[0][column], lines[1][column])
  np.testing.assert_array_equal(lines[0]["step"], [4, 6])


def test_metric_lines_are_those_of_the_checkpoint(network, images, tmp_path):
  run(network, images, tmp_path)
  path = tmp_path / loop.METRICS
  sound = path.read_bytes()
  # A killed process had gone beyond its last checkpoint, and a bit has flipped.
  path.write_bytes(sound.replace(b"1", b"2") + b'{"step": 8, "loss": 1.0}\n{"step": 9')
  np.testing.assert_array_equal(loop.metrics(tmp_path)["step"], [2, 4, 6])
  run(network, images, tmp_path)
  assert path.read_bytes() == sound


def test_a_checkpoint_without_a_log_has_its_lines_in_the_file(network, images, tmp_path, monkeypatch):
  run(network, images, tmp_path, steps=3)
  results.append_metrics(tmp_path / loop.METRICS, {"step": 5, "loss": 7.0})
  monkeypatch.setattr(checkpoint, "_log", lambda *_: None)
  run(network, images, tmp_path, steps=4)
  np.testing.assert_array_equal(loop.metrics(tmp_path)["step"], [2, 3, 4])


def test_a_run_of_no_step_keeps_the_initial_weights_and_may_go_on(network, images, tmp_path):
  untrained = run(network, images, tmp_path / "parts", steps=0)
  assert leaves_equal(untrained, networks.init(network, jax.random.split(jax.random.key(3))[0]))
  assert checkpoint.latest_step(tmp_path / "parts") == 0
  assert leaves_equal(checkpoint.load_ema(tmp_path / "parts")[1], untrained)
  assert not results.read_metrics(tmp_path / "parts" / loop.METRICS)
  assert leaves_equal(run(network, images, tmp_path / "parts", steps=0), untrained)
  assert leaves_equal(
    run(network, images, tmp_path / "parts", steps=2), run(network, images, tmp_path / "whole", steps=2)
  )


def test_the_checkpoint_holds_what_run_returns(network, images, tmp_path):
  ema = run(network, images, tmp_path / "models" / "a", steps=2)
  loaded, params = checkpoint.load_ema(tmp_path)
  assert leaves_equal(ema, params)
  x, sigma = jnp.ones((2, 8, 8, 1)), jnp.ones(2)
  np.testing.assert_array_equal(
    loaded.apply({"params": params}, x, sigma), network.apply({"params": ema}, x, sigma)
  )
  with pytest.raises(ValueError, match="`label` 'b'"):
    checkpoint.load_ema(tmp_path, "b")
  with pytest.raises(ValueError, match="`step` 7"):
    checkpoint.load_ema(tmp_path, step=7)


def test_the_latest_step_is_the_largest_whatever_the_folders_order(tmp_path):
  assert checkpoint.latest_step(tmp_path) is None
  (tmp_path / checkpoint.FOLDER).mkdir()
  assert checkpoint.latest_step(tmp_path) is None
  for step, latest in ((250, 250), (1000, 1000), (500, 1000)):
    (tmp_path / checkpoint.FOLDER / str(step)).mkdir()
    assert checkpoint.latest_step(tmp_path) == latest


def test_another_networks_checkpoint_is_refused(network, images, tmp_path):
  run(network, images, tmp_path, steps=1)
  other = {"network": {**CARD["network"], "model_channels": 16}}
  with pytest.raises(ValueError, match="another `workdir`"):
    loop.run(network, other, images, tmp_path, SETTINGS, seed=3, title="test")
  wide = networks.create("ddpmpp", **{**OPTIONS, "model_channels": 16})
  with pytest.raises(ValueError, match="want float32"):  # the card lies, the shapes do not
    loop.run(wide, CARD, images, tmp_path, SETTINGS, seed=3, title="test")


def test_a_divergence_names_step_noise_and_tensor_and_the_sound_checkpoint(network, images, tmp_path):
  run(network, images, tmp_path, steps=3)
  _, before = checkpoint.load_ema(tmp_path)
  said = (
    r"(nan|inf) at step [456] of .*, at noise levels \S+ to \S+; first non-finite tensor: "
    r"(gradient|parameter) \['.*'\]; the checkpoint of step 3 is sound: .* delete `"
  )
  with pytest.raises(FloatingPointError, match=said):
    run(network, images, tmp_path, learning_rate=1e30, rampup_images=0)
  assert checkpoint.latest_step(tmp_path) == 3
  _, after = checkpoint.load_ema(tmp_path)
  assert leaves_equal(before, after)


@pytest.mark.parametrize(("place", "name"), [(0, "first"), (3, "first"), (4, "second"), (9, "second")])
def test_the_first_non_finite_number_is_named_by_its_tensor(network, place, name, monkeypatch):
  shapes = {"first": np.zeros((2, 2)), "second": np.zeros(6)}
  monkeypatch.setattr(networks, "shapes", lambda network: shapes)
  values = np.zeros(10, np.float32)
  assert loop._first_nonfinite(jnp.asarray(values)) == -1
  values[place] = values[9] = np.nan
  assert loop._first_nonfinite(jnp.asarray(values)) == place
  assert loop._tensor(network, np.int32([place, -1])) == f"gradient ['{name}']"
  assert loop._tensor(network, np.int32([-1, place])) == f"parameter ['{name}']"
  assert loop._tensor(network, np.int32([-1, -1])) == "none but these"


def test_a_divergence_before_the_first_checkpoint_says_that_there_is_none(network, images, tmp_path):
  with pytest.raises(FloatingPointError, match="no checkpoint was saved before: run again with a lower"):
    run(network, images, tmp_path, learning_rate=1e30, rampup_images=0)
  assert checkpoint.latest_step(tmp_path) is None
  run(network, images, tmp_path, steps=1)


def test_the_noise_levels_of_a_divergence_are_those_of_its_step(network, images, tmp_path, monkeypatch):
  seen = []

  def law(key, shape, **constants):
    sigma, weight = edm.training_noise(key, shape, **constants)
    jax.debug.callback(lambda value: seen.append(float(value)), sigma)
    return sigma, weight * jnp.nan

  monkeypatch.setitem(edm.TRAINING_NOISE, "broken", law)
  monkeypatch.setitem(loop.NOISE_FIELDS, "broken", ("p_mean", "p_std"))
  with pytest.raises(FloatingPointError, match="loss nan .* at step 1 .*noise levels") as error:
    run(network, images, tmp_path, noise_law="broken", steps=1)
  low, high = map(float, re.search(r"levels (\S+) to (\S+);", str(error.value)).groups())
  trained = seen[: SETTINGS.batch]  # the others are of the message
  assert len(seen) == 2 * SETTINGS.batch
  assert (low, high) == pytest.approx((min(trained), max(trained)), rel=1e-2)  # printed with three digits
