"""The memorizer of the nearest images against brute force in float64, and its bound against the truth."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from gauss_diffusion.denoisers import golden, multi_delta

F64 = 1e-10  # of weighted means of images, and of their distances
F32 = 2e-6  # the same in float32
SHAPE = (2, 3, 2)
SIGMAS = (0.01, 0.1, 0.3, 1.0, 80.0)
denoise, bound = jax.jit(golden.denoise), jax.jit(golden.error_bound)
memorizer = jax.jit(multi_delta.denoise)
gaps = jax.jit(multi_delta.gaps, static_argnames="chunk")


def images_of(count, seed=0):
  return np.random.default_rng(seed).integers(60, 196, (count, *SHAPE), dtype=np.uint8)


def squares(images, x):
  return np.sum((images / 127.5 - 1 - x).reshape(len(images), -1) ** 2, axis=1)


def brute_force(images, x, sigma, count):
  """Sort all images by distance, and weigh the first."""
  distances = squares(images, x)
  nearest = np.argsort(distances, kind="stable")[:count]
  weight = np.exp(-(distances[nearest] - distances.min()) / (2 * sigma**2))
  return np.tensordot(weight / weight.sum(), images[nearest] / 127.5 - 1, 1)


def noisy(images, sigma, seed=1):
  return images[0] / 127.5 - 1 + sigma * np.random.default_rng(seed).normal(size=SHAPE)


@pytest.mark.parametrize("count", [1, 2, 5, 30])
@pytest.mark.parametrize("sigma", SIGMAS)
def test_posterior_mean_of_the_nearest(x64, count, sigma):
  images = images_of(30)
  record, x = golden.fit(images, nearest=count), noisy(images, sigma)
  np.testing.assert_allclose(
    denoise(record, x, sigma), brute_force(images, x, sigma, count), rtol=0, atol=F64
  )


@pytest.mark.parametrize("count", [30, 10**9])
def test_all_images_are_the_memorizer(x64, count):
  images = images_of(30)
  record = golden.fit(images, nearest=count)
  for sigma in SIGMAS:
    x = noisy(images, sigma)
    want = memorizer(images, x, sigma)
    np.testing.assert_allclose(denoise(record, x, sigma), want, rtol=0, atol=F64)
    assert bound(record, x, sigma) == 0


@pytest.mark.parametrize("chunk", [1, 7, 30, 1000])
@pytest.mark.parametrize("sigma", [0.0, 0.3, 80.0])
def test_gaps_are_exact(x64, chunk, sigma):
  images = images_of(30)
  x = noisy(images, sigma)
  want = squares(images, x) - squares(images, x).min()
  got = gaps(images, x, chunk=chunk)
  np.testing.assert_allclose(got, want, rtol=0, atol=F64 * max(1, sigma))


def test_gaps_in_float32_tell_images_apart_by_a_level():
  """Images of 3072 values that differ in one of them, by one level: 1 part in 10⁸ of the squared distance."""
  rng = np.random.default_rng(0)
  images = np.repeat(rng.integers(0, 255, (1, 32, 32, 3), dtype=np.uint8), 9, axis=0)
  for i in range(1, 9):
    images[i, i, i, 0] += 1
  x = (images[0] / 127.5 - 1 + 0.5 * rng.normal(size=(32, 32, 3))).astype(np.float32)
  offset = x.astype(np.float64) - (images[0] / 127.5 - 1)
  want = np.array([0] + [(1 / 127.5) ** 2 - 2 / 127.5 * offset[i, i, 0] for i in range(1, 9)])
  np.testing.assert_allclose(multi_delta.gaps(images, x), want - want.min(), rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("count", [1, 3, 10, 29])
@pytest.mark.parametrize("sigma", SIGMAS)
def test_the_bound_holds(x64, count, sigma):
  images = images_of(30)
  record = golden.fit(images, nearest=count)
  for seed in range(10):
    x = noisy(images, sigma, seed)
    error = np.linalg.norm(denoise(record, x, sigma) - memorizer(images, x, sigma))
    assert error <= bound(record, x, sigma) * (1 + F64) + 1e-15


def test_the_bound_is_the_error_of_one_image_of_two(x64):
  images = images_of(2)
  record = golden.fit(images, nearest=1)
  for sigma in SIGMAS:
    x = noisy(images, sigma)
    error = np.linalg.norm(denoise(record, x, sigma) - memorizer(images, x, sigma))
    np.testing.assert_allclose(bound(record, x, sigma), error, rtol=1e-9, atol=1e-15)


def test_the_bound_is_of_the_errors_order(x64):
  """One image left out: the bound is the error but for the ball, at most 2 R wide, beside ‖y − D‖ itself."""
  images = images_of(30)
  record = golden.fit(images, nearest=29)
  for sigma in (0.7, 1.0, 80.0):
    x = noisy(images, sigma)
    error = np.linalg.norm(denoise(record, x, sigma) - memorizer(images, x, sigma))
    left = images[np.argmax(squares(images, x))] / 127.5 - 1
    slack = 2 * record.radius / np.linalg.norm(left - brute_force(images, x, sigma, 29))
    assert 1 <= bound(record, x, sigma) / error <= slack


def test_the_ball_holds_every_image(monkeypatch):
  images = images_of(30)
  distances = np.sqrt(squares(images, (images / 127.5 - 1).mean(0)))
  assert golden.fit(images, nearest=1).radius == pytest.approx(distances.max())
  monkeypatch.setattr(golden, "CHUNK", 7)
  assert golden.fit(images, nearest=1).radius == pytest.approx(distances.max())


def test_the_jacobian_is_the_posterior_covariance(x64):
  """``J = Cov_w(y) / σ²`` of the images that are kept, either way."""
  images, sigma = images_of(30), 0.3
  record, x = golden.fit(images, nearest=5), noisy(images, 0.3)
  nearest = np.argsort(squares(images, x))[:5]
  y, weight = (
    (images[nearest] / 127.5 - 1).reshape(5, -1),
    np.exp(-squares(images, x)[nearest] / (2 * sigma**2)),
  )
  want = np.cov(y.T, aweights=weight, ddof=0) / sigma**2
  for derivative in (jax.jacfwd, jax.jacrev):
    got = derivative(lambda x: golden.denoise(record, x, sigma))(jnp.asarray(x))
    np.testing.assert_allclose(np.reshape(got, want.shape), want, rtol=0, atol=1e-9)


def test_wrong_shape_is_named():
  with pytest.raises(ValueError, match="`x` has shape"):
    golden.denoise(golden.fit(images_of(3), nearest=1), np.zeros((3, 2, 2)), 1.0)


def test_jit_vmap_pmap_float32():
  images = images_of(30)
  record, x = (
    golden.fit(images, nearest=5),
    np.random.default_rng(1).normal(size=(8, *SHAPE)).astype(np.float32),
  )
  want = [brute_force(images, each.astype(float), 0.5, 5) for each in x]
  partial = Partial(golden.denoise, record)
  for mapped in (jax.vmap, jax.pmap):
    got = mapped(lambda denoise, x: denoise(x, np.float32(0.5)), in_axes=(None, 0))(partial, x)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, want, rtol=0, atol=F32)
