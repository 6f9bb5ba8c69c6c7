"""Augmentation: known changes of known images, the law of the draws, and what a network is told."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gauss_diffusion import networks, parallel
from gauss_diffusion.training import augment, loop, train_state
from gauss_diffusion.training.augment import Change

NOTHING = Change(*[jnp.zeros(())] * 8)


def changed(image, **how):
  return np.asarray(
    augment.warp(jnp.asarray(image), NOTHING._replace(**{k: jnp.float32(v) for k, v in how.items()}))
  )


@pytest.fixture
def image():
  return np.random.default_rng(0).standard_normal((8, 8, 2)).astype(np.float32)


def test_nothing_changes_nothing_and_says_so(image):
  np.testing.assert_array_equal(changed(image), image)
  np.testing.assert_array_equal(augment.label(NOTHING), np.zeros(augment.LABEL))


def test_flips_and_quarter_turns_are_permutations_of_pixels(image):
  near = {"atol": 2e-5}  # float32 coordinates
  np.testing.assert_array_equal(changed(image, mirror=1), image[:, ::-1])
  np.testing.assert_array_equal(changed(image, upset=1), image[::-1])
  np.testing.assert_allclose(changed(image, angle=np.pi), image[::-1, ::-1], **near)
  np.testing.assert_allclose(changed(image, angle=np.pi / 2), np.rot90(image), **near)


def test_whole_pixels_are_moved_and_what_comes_in_is_the_reflection(image):
  np.testing.assert_allclose(changed(image, right=2)[:, 2:], image[:, :-2], atol=1e-6)
  np.testing.assert_allclose(changed(image, right=2)[:, :2], image[:, 2:0:-1], atol=1e-6)
  np.testing.assert_allclose(changed(image, down=-1)[:-1], image[1:], atol=1e-6)
  np.testing.assert_allclose(changed(image, down=-1)[-1], image[-2], atol=1e-6)


def plane(turn):
  return np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])


@pytest.mark.parametrize("seed", range(5))
def test_a_ramp_stays_the_ramp_that_the_map_of_the_plane_makes_of_it(seed):
  """Cubic interpolation keeps what is linear, so that away from the border the answer is known exactly."""
  rng, size = np.random.default_rng(seed), 33
  centred = np.stack(np.meshgrid(*[np.arange(size) - (size - 1) / 2] * 2), axis=-1)  # (x, y), y down
  slope = rng.standard_normal(2)
  how = {
    name: 0.5 * rng.standard_normal() for name in ("growth", "angle", "axis", "stretch", "right", "down")
  }
  # Forwards, in the order of `Change`: (x, y) with y down, turned from down to right.
  factor = augment.GROWTH ** how["stretch"]
  stretched = plane(how["axis"]) @ np.diag([factor, 1 / factor]) @ plane(-how["axis"])
  forwards = stretched @ plane(-how["angle"]) * augment.GROWTH ** how["growth"]
  shift = np.array([how["right"], how["down"]]) * size / 8
  origin = (centred - shift) @ np.linalg.inv(forwards).T
  inside = (np.abs(origin) < size / 2 - 2).all(-1)
  assert inside.sum() > 100
  found = changed((centred @ slope)[..., None].astype(np.float32), **how)[..., 0]
  np.testing.assert_allclose(found[inside], (origin @ slope)[inside], atol=1e-4)


def test_each_kind_comes_with_its_probability_and_by_its_law():
  num, probability = 4000, 0.3
  keys = jax.random.split(jax.random.key(0), num)
  drawn = jax.vmap(augment.draw, (0, None))(keys, probability)
  five = 5 * np.sqrt(0.25 / num)  # standard deviations of a share
  assert abs(np.mean(drawn.mirror) - 0.5) < five
  assert abs(np.mean(drawn.upset) - probability / 2) < five
  there = [np.asarray(each) != 0 for each in (drawn.growth, drawn.angle, drawn.stretch, drawn.right)]
  for kind in there:
    assert abs(kind.mean() - probability) < five
  np.testing.assert_array_equal(there[3], np.asarray(drawn.down) != 0)  # both or none, as of one kind
  np.testing.assert_array_equal(there[2], np.asarray(drawn.axis) != 0)
  for one in range(4):
    for two in range(one):
      assert abs((there[one] & there[two]).mean() - probability**2) < five
  assert np.std(np.asarray(drawn.growth)[there[0]]) == pytest.approx(1, abs=0.1)
  assert np.abs(drawn.angle).max() == pytest.approx(np.pi, abs=0.05)
  never = jax.vmap(augment.draw, (0, None))(keys, 0.0)
  for field in Change._fields[1:]:
    np.testing.assert_array_equal(getattr(never, field), 0)


def test_the_label_says_all_that_was_done_and_an_axis_has_no_direction():
  how = Change(1.0, 0.0, 0.3, 0.7, 0.4, -1.2, 0.5, -0.25)
  want = [1, 0, 0.3, np.cos(0.7) - 1, np.sin(0.7), -1.2 * np.cos(0.8), -1.2 * np.sin(0.8), 0.5, -0.25]
  np.testing.assert_allclose(augment.label(Change(*map(jnp.float32, how))), want, rtol=1e-6, atol=1e-6)
  turned = how._replace(axis=how.axis + np.pi)
  np.testing.assert_allclose(augment.label(Change(*map(jnp.float32, turned))), want, rtol=1e-5, atol=1e-6)


def test_training_tells_the_network_what_was_done(monkeypatch):
  """The weights of the label have a gradient where it is not 0, and nowhere else."""
  options = {"img_resolution": 8, "img_channels": 2, "model_channels": 8, "num_levels": 1}
  net = networks.create("skip", **options, augment_dim=augment.LABEL)
  images = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 2), np.uint8)
  settings = loop.Settings(
    steps=1,
    batch=16,
    learning_rate=1e-3,
    rampup_images=32,
    ema_halflife_images=64.0,
    ema_rampup=0.5,
    flips=False,
    noise_law="",
    p_mean=-1.2,
    p_std=1.2,
    sigma_min=0.002,
    sigma_max=80.0,
    log_every=1,
    checkpoint_every=1,
    keep=1,
    dtype="float32",
    remat=False,
    augment=1.0,
  )
  tx = train_state.optimizer(1e-3, 0, 16)
  params = networks.init(net, jax.random.key(0))
  x0, keys = jnp.asarray(images[:16] / 127.5 - 1, jnp.float32), jax.random.split(jax.random.key(1), 16)

  def moments():
    step = functools.partial(loop.train_step, network=net, tx=tx, settings=settings)
    axes, one = (None, 0, 0), jax.devices()[:1]
    step = jax.pmap(step, parallel.AXIS, in_axes=axes, out_axes=None, devices=one)
    state, _ = step(train_state.pack(train_state.create(params, tx)), x0[None], keys[None])
    state = train_state.unpack(state, params)
    (kernel,) = state.opt_state[0].mu["model"]["embedding"]["map_augment"].values()
    return np.abs(np.asarray(kernel)).max(axis=1)

  assert (moments() > 0).all() and len(moments()) == augment.LABEL
  monkeypatch.setattr(augment, "label", lambda change: jnp.zeros(augment.LABEL).at[0].set(1.0))
  assert (moments()[1:] == 0).all() and moments()[0] > 0
