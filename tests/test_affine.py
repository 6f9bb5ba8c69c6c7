"""Affine denoiser: the map of the level asked for, and no other."""

import jax
import numpy as np
import pytest
from jax.tree_util import Partial

from gauss_diffusion.denoisers import affine
from gauss_diffusion.types import Affine

F64 = 1e-12  # one small float64 matrix-vector product
F32 = 1e-5  # the same in float32

SHAPE = (2, 2, 1)
LEVELS = np.array([0.002, 80.0, 0.47, 4.0661])  # any order
rng = np.random.default_rng(0)
RECORD = Affine(rng.normal(size=(4, 4, 4)), rng.normal(size=(4, 4)), LEVELS)
X = rng.normal(size=(8, *SHAPE))


def apply(level, x):
  return (RECORD.weight[level] @ x.ravel() + RECORD.bias[level]).reshape(SHAPE)


@pytest.mark.parametrize("level", range(4))
def test_picks_the_map_of_its_level(x64, level):
  got = affine.denoise(RECORD, X[0], LEVELS[level] * 1.0005)  # a level that went through float32 and back
  np.testing.assert_allclose(got, apply(level, X[0]), rtol=F64)


@pytest.mark.parametrize("sigma", [0.47 * 1.002, 0.47 / 1.002, 1.0, 0.001, 100.0])
def test_other_levels_answer_nan(sigma):
  assert np.all(np.isnan(affine.denoise(RECORD, X[0], sigma)))


def test_wrong_shapes_are_named():
  with pytest.raises(ValueError, match="`affine` has weight"):
    affine.denoise(RECORD, np.zeros((3, 2, 1)), 0.47)
  with pytest.raises(ValueError, match="`affine` has weight"):
    affine.denoise(Affine(RECORD.weight[0], RECORD.bias[0], LEVELS[0]), X[0], 0.47)


def test_jit_vmap_pmap_float32():
  bound = Partial(affine.denoise, RECORD)
  x, level = X.astype(np.float32), np.arange(8) % 4
  sigma = LEVELS[level].astype(np.float32)
  want = np.array([apply(*pair) for pair in zip(level, x, strict=True)])
  batch = jax.jit(jax.vmap(lambda denoise, x, sigma: denoise(x, sigma), (None, 0, 0)))(bound, x, sigma)
  assert batch.dtype == np.float32
  np.testing.assert_allclose(batch, want, rtol=0, atol=F32)
  spread = jax.pmap(lambda denoise, x, sigma: denoise(x, sigma), in_axes=(None, 0, 0))(bound, x, sigma)
  np.testing.assert_allclose(spread, want, rtol=0, atol=F32)
