"""Patch posteriors and PCA locality: invariants L1, L2, L5, L6, and float32, against NumPy in float64."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

from gauss_diffusion.denoisers import FAMILIES, family, multi_delta
from gauss_diffusion.denoisers.levels import Distance
from gauss_diffusion.denoisers.local import masks, patches, pca_locality
from gauss_diffusion.denoisers.local.patches import Flexible, Squares
from gauss_diffusion.denoisers.local.windows import Windows

F64 = 1e-10  # logits of order 100 at float64 rounding, with margin
F32 = 2e-6  # a weighted mean in float32: rounding of the weights' exponents and of the sum, on a scale of 2

SHAPE = (5, 4, 2)
SIGMA = 0.3
square = jax.jit(patches.denoise, static_argnames="chunk")
flexible = jax.jit(patches.denoise_flexible, static_argnames="chunk")
locality = jax.jit(pca_locality.denoise, static_argnames="chunk")


def images_of(count, shape=SHAPE, seed=0):
  return np.random.default_rng(seed).integers(60, 196, (count, *shape), dtype=np.uint8)


def to_float(images):
  return images / 127.5 - 1


@pytest.fixture
def x():
  return 0.4 * np.random.default_rng(1).normal(size=SHAPE)


def posterior_mean(y, x, sigma, seen):
  """Return the mean of images [N, ...], weighted by how near each is to x where `seen`."""
  squares = np.sum(((y - x) ** 2)[:, seen], axis=1)
  weight = np.exp(-(squares - squares.min()) / (2 * np.float64(sigma) ** 2))
  return np.tensordot(weight / weight.sum(), y, 1)


def composite(images, x, sigma, cut):
  """Return the mean over patches, masks [P, H, W], of the posterior mean of each."""
  total, count = np.zeros(x.shape), np.zeros((*x.shape[:2], 1))
  for mask in cut:
    seen = np.broadcast_to(mask[..., None], x.shape)
    total += seen * posterior_mean(to_float(images), x, sigma, seen)
    count += mask[..., None]
  return total / count


def squares_of(width, shape=SHAPE):
  cut = []
  for i, j in np.ndindex(shape[0] - width + 1, shape[1] - width + 1):
    cut.append(np.zeros(shape[:2], bool))
    cut[-1][i : i + width, j : j + width] = True
  return np.array(cut)


def of_width(images, width):
  return Squares(images, Windows((0.0,), (width,)))


@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_squares(x64, x, width):
  images = images_of(7)
  for sigma, chunk in [(SIGMA, 64), (0.002, 3), (80.0, 1)]:  # chunks of unequal length too
    got = square(of_width(images, width), x, sigma, chunk=chunk)
    np.testing.assert_allclose(got, composite(images, x, sigma, squares_of(width)), rtol=0, atol=F64)


def test_patches_of_any_shape(x64, x):
  images, rng = images_of(7), np.random.default_rng(3)
  cut = rng.random((6, *SHAPE[:2])) < 0.4
  cut[0] |= ~cut.any(axis=0)
  for sigma, chunk in [(SIGMA, 64), (0.002, 3)]:
    got = flexible(Flexible(images, np.stack([cut, ~cut]), np.array([sigma, 50.0])), x, sigma, chunk=chunk)
    np.testing.assert_allclose(got, composite(images, x, sigma, cut), rtol=0, atol=F64)


def test_l6_tiles_that_do_not_overlap_are_memorizers(x64, x):
  images = images_of(7)
  tiles = np.zeros((4, *SHAPE[:2]), bool)
  want = np.empty(SHAPE)
  for tile, place in zip(tiles, [np.s_[:2, :2], np.s_[:2, 2:], np.s_[2:, :2], np.s_[2:, 2:]], strict=True):
    tile[place] = True
    want[place] = multi_delta.denoise(images[:, *place], x[place], SIGMA)
  got = flexible(Flexible(images, tiles[None], np.ones(1)), x, SIGMA)
  np.testing.assert_allclose(got, want, rtol=0, atol=F64)
  holes = flexible(Flexible(images, tiles[None, :3], np.ones(1)), x, SIGMA)
  assert np.all(np.isnan(holes[2:, 2:])) and np.all(np.isfinite(holes[:2]))


def test_l1_a_patch_of_all_is_the_memorizer(x64, x):
  images = images_of(7)
  want = multi_delta.denoise(images, x, SIGMA)
  every = np.ones((1, 3, *SHAPE[:2]), bool)
  np.testing.assert_allclose(flexible(Flexible(images, every, np.ones(1)), x, SIGMA), want, rtol=0, atol=F64)


@pytest.mark.parametrize("derivative", [jax.jacfwd, jax.jacrev])
def test_l5_nothing_outside_the_patches_matters(x64, x, derivative):
  images = images_of(5)
  machine = partial(patches.denoise, of_width(images, 2), sigma=SIGMA, chunk=2)
  jacobian = np.asarray(jax.jit(derivative(machine))(x))
  near = [np.abs(np.subtract.outer(np.arange(n), np.arange(n))) < 2 for n in SHAPE[:2]]
  seen = np.broadcast_to(
    near[0][:, None, None, :, None, None] & near[1][None, :, None, None, :, None], jacobian.shape
  )
  assert not np.any(jacobian[~seen]) and np.all(jacobian[seen] != 0)
  step, v = 1e-5, np.random.default_rng(2).normal(size=SHAPE)
  ahead, behind = (composite(images, x + s * v, SIGMA, squares_of(2)) for s in (step, -step))
  np.testing.assert_allclose(np.sum(jacobian * v, axis=(3, 4, 5)), (ahead - behind) / (2 * step), atol=1e-7)


def reads(record, sigma):
  """Return |W_ij / W_ii| of the covariance itself, [i, j]."""
  y = to_float(record.images).reshape(len(record.images), -1)
  covariance = np.cov(y.T, bias=True)
  weight = covariance @ np.linalg.inv(covariance + sigma**2 * np.eye(len(covariance)))
  return np.abs(weight / np.diag(weight)[:, None])


def test_pca_locality(x64, x):
  images = images_of(30)
  for sigma, threshold, chunk in [(SIGMA, 0.1, 256), (0.05, 0.3, 7), (5.0, 0.02, 30)]:
    record = pca_locality.fit(images, threshold=threshold)
    share = reads(record, sigma)
    seen = share >= threshold * share.max()
    assert len(seen) < seen.sum() < seen.size  # more than each itself, and less than all
    want = [
      posterior_mean(to_float(images).reshape(30, -1), x.ravel(), sigma, row)[j]
      for j, row in enumerate(seen.T)
    ]
    got = locality(record, x, sigma, chunk=chunk)
    np.testing.assert_allclose(np.ravel(got), want, rtol=0, atol=F64)


def test_l1_what_reads_everything_is_the_memorizer(x64, x):
  images = images_of(30)
  record = pca_locality.fit(images, threshold=1e-9)
  want = multi_delta.denoise(images, x, SIGMA)
  np.testing.assert_allclose(locality(record, x, SIGMA), want, rtol=0, atol=F64)


def test_l2_uncorrelated_pixels_read_themselves_alone(x64, x):
  images = (128 + 50 * scipy.linalg.hadamard(64)[:, 1:41]).astype(np.uint8).reshape(64, *SHAPE)
  got = locality(pca_locality.fit(images, threshold=0.02), x, SIGMA)
  apart = np.tanh(2 * 50 / 127.5 * (x - 0.5 / 127.5) / SIGMA**2 / 2)  # of two values, each in half the images
  np.testing.assert_allclose(got, 0.5 / 127.5 + 50 / 127.5 * apart, rtol=0, atol=F64)


@pytest.mark.parametrize("sigma", [1e-4, 0.02, 4.0])
def test_float32_is_right_between_near_duplicates(sigma):
  rng, shape, sigma = np.random.default_rng(0), (8, 8, 3), np.float32(sigma)
  images = rng.integers(1, 255, (6, *shape), dtype=np.uint8)
  images = np.concatenate([images, images + (rng.random(images.shape) < 0.1).astype(np.uint8)])
  cut = rng.random((5, 8, 8)) < 0.5
  cut[0] |= ~cut.any(axis=0)
  for base in (images[0], 255 - images[0]):
    x = (to_float(base) + sigma * rng.normal(size=shape)).astype(np.float32)
    wide = x.astype(np.float64)
    for width in (3, 8):
      want = composite(images, wide, sigma, squares_of(width, shape))
      np.testing.assert_allclose(square(of_width(images, width), x, sigma), want, rtol=0, atol=F32)
    got = flexible(Flexible(images, cut[None], np.ones(1, np.float32)), x, sigma)
    np.testing.assert_allclose(got, composite(images, wide, sigma, cut), rtol=0, atol=F32)


def test_m10_rows_are_independent(x64, x):
  machine = partial(patches.denoise, of_width(images_of(5), 3))
  batch = np.stack([x, 1e4 * x, x + 3, 1e-6 * x])
  rows = jax.jit(jax.vmap(machine, (0, None)))(batch, 0.05)
  for row, point in zip(rows, batch, strict=True):
    np.testing.assert_allclose(row, jax.jit(machine)(point, 0.05), rtol=0, atol=F64)


def test_sums_over_masks_are_exact():
  """Of the largest images, and of levels as far apart as they can be."""
  rng = np.random.default_rng(0)
  maps = rng.integers(-49152, 49152, (2, 2**15)).astype(np.int32)
  maps[0] = 49151
  mask = rng.random((3, 2**15)) < 0.7
  mask[0] = True
  zeros = np.zeros(maps.shape, np.float32)
  got = masks.sums(Distance(jnp.asarray(maps), jnp.asarray(-maps), jnp.asarray(zeros)), jnp.asarray(mask))
  want = maps.astype(np.int64) @ mask.T.astype(np.int64)
  np.testing.assert_array_equal(got.near, want)
  np.testing.assert_array_equal(got.q_y, -want)


def test_the_hottest_pixels():
  heat = np.array([[4.0, 1.0], [2.0, 3.0]])
  for share, want in [
    (0.3, [[1, 0], [0, 0]]),
    (0.41, [[1, 0], [0, 1]]),
    (0.71, [[1, 0], [1, 1]]),
    (1.0, np.ones((2, 2))),
  ]:
    np.testing.assert_array_equal(masks.hottest(heat, share), want)
  np.testing.assert_array_equal(masks.hottest(np.stack([heat, heat.T]), 0.71)[1], [[1, 1], [0, 1]])


def test_wrong_patches_are_named():
  known = FAMILIES["pspc"]
  options = family.defaults(known) | {"window": 5, "growth": 0.0}
  with pytest.raises(ValueError, match="`denoisers.pspc.window` is 5; on images of 5 x 4 want at most 4"):
    family.check_images("pspc", known, SHAPE, 2, options)
  with pytest.raises(ValueError, match="`window` is 5"):
    known.fit(images_of(2), **options)
  with pytest.raises(ValueError, match="'pca_locality' takes images of at most 4096 values"):
    family.check_images("pca_locality", FAMILIES["pca_locality"], (64, 64, 3), 2, {})
