"""The embedding of noise level and labels, for every noise label that a preconditioning hands on."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gauss_diffusion import edm
from gauss_diffusion.networks.embedding import FREQUENCIES, Embedding

FEATURES, LABELS, AUGMENT = 12, 3, 2


@pytest.fixture(scope="module")
def params():
  rng = np.random.default_rng(0)
  shapes = {
    "map_layer0": {"kernel": (FREQUENCIES, FEATURES), "bias": (FEATURES,)},
    "map_layer1": {"kernel": (FEATURES, FEATURES), "bias": (FEATURES,)},
    "map_label": {"kernel": (LABELS, FEATURES)},
    "map_augment": {"kernel": (AUGMENT, FEATURES)},
  }
  draw = lambda shape: np.float32(rng.normal(size=shape) / np.sqrt(shape[0]))  # noqa: E731
  return jax.tree.map(draw, shapes, is_leaf=lambda shape: isinstance(shape, tuple))


def embed(
  params, noise_label, class_labels=None, augment_labels=None, train=False, label_dropout=0.0, **rngs
):
  module = Embedding(FEATURES, AUGMENT, label_dropout)
  return module.apply({"params": params}, noise_label, class_labels, augment_labels, train, **rngs)


def test_sum_of_its_definition(params):
  label = np.float32([-1.5, 0.3, 80.0, 999.0])
  classes, augment = np.eye(LABELS, dtype=np.float32)[[0, 1, 2, 2]], np.float32(np.arange(8).reshape(4, 2))
  angle = label[:, None].astype(np.float64) * np.geomspace(1, 1e-4, FREQUENCIES // 2)
  e = np.concatenate([np.sin(angle), np.cos(angle)], 1) @ params["map_layer0"]["kernel"]
  e = e + params["map_layer0"]["bias"]
  e = e / (1 + np.exp(-e)) @ params["map_layer1"]["kernel"] + params["map_layer1"]["bias"]
  e = e + classes @ params["map_label"]["kernel"] + augment @ params["map_augment"]["kernel"]
  # Sines of angles near 1000 keep an error of 6e-5 in float32, of which some 256 add up at random.
  np.testing.assert_allclose(embed(params, label, classes, augment), e, atol=2e-4)


@pytest.mark.parametrize("name", edm.PRECONDITIONINGS)
def test_every_noise_level_is_told_from_the_next(params, name):
  # Neighbours on a grid of 40 levels, in a range on which every preconditioning trains.
  sigma = edm.sigma_grid(40, 0.02, 80.0)
  e = np.asarray(embed(params, edm.PRECONDITIONINGS[name](jnp.float32(sigma)).c_noise))
  assert np.isfinite(e).all()
  assert np.abs(np.diff(e, axis=0)).max(1).min() > 1e-4


def test_labels_may_be_dropped(params):
  label, classes = jnp.zeros(64), jnp.asarray(np.eye(LABELS, dtype=np.float32)[np.arange(64) % LABELS])
  rngs = {"rngs": {"dropout": jax.random.key(0)}}
  silent, heard = embed(params, label), embed(params, label, classes)
  some = embed(params, label, classes, train=True, label_dropout=0.5, **rngs)
  is_silent = np.isclose(some, silent, atol=1e-5).all(1)
  is_heard = np.isclose(some, heard, atol=1e-5).all(1)
  assert np.all(is_silent ^ is_heard) and 10 < is_silent.sum() < 54
  np.testing.assert_array_equal(embed(params, label, classes, label_dropout=0.5), heard)


def test_augmentation_labels_are_heard_by_those_that_have_any(params):
  label, augment = jnp.zeros(4), jnp.ones((4, AUGMENT))
  deaf = Embedding(FEATURES, 0, 0.0).apply({"params": params}, label, None, augment, False)
  np.testing.assert_array_equal(deaf, embed(params, label))
  assert np.abs(embed(params, label, None, augment) - deaf).max() > 0.1
