"""Singular vectors of Jacobians that are known: affine, multi-delta, diagonal."""

import jax
import numpy as np
import pytest
from jax.tree_util import Partial

from gauss_diffusion.denoisers import external, multi_delta
from gauss_diffusion.probes import jacobian, modes

SHAPE = (4, 4, 4)
D = 64
SIGMA = 0.7
F64 = 1e-10


def affine(weight, x, sigma):
  return jax.numpy.matmul(weight, x.ravel(), precision="highest").reshape(x.shape)


def square(scale, x, sigma):
  """A denoiser with Jacobian diag(scale x)."""
  return scale * x**2 / 2


def draw(*shape, seed=0):
  return np.random.default_rng(seed).normal(size=shape)


def matrix(values, seed=0):
  """Return W [D, D] with these singular values, and its left and right vectors as rows."""
  left, right = (np.linalg.qr(draw(D, D, seed=seed + s))[0][:, : len(values)] for s in range(2))
  return (left * values) @ right.T, left.T, right.T


def assert_same_up_to_sign(found, expected, atol):
  np.testing.assert_allclose(np.abs(np.sum(found * expected, axis=-1)), 1, atol=atol)


# k = 2 of 64 dimensions: whole Jacobian from 4 iterations on (9 x 10 products), iterated with 2.
@pytest.mark.parametrize("iterations", [2, 4])
def test_affine_in_float64(x64, iterations):
  # (s_11 / s_2)^5 < 1e-13 for s_i = 3^-i: below the tolerance after two iterations.
  weight, left, right = matrix(3.0 ** -np.arange(D))
  np.testing.assert_allclose(np.linalg.svd(weight)[1][:2], [1, 1 / 3], rtol=F64)
  found = modes.singular_vectors(
    Partial(affine, weight), draw(3, *SHAPE), SIGMA, 2, iterations=iterations, seed=5
  )
  assert found.left.shape == found.right.shape == (3, 2, D)
  np.testing.assert_allclose(found.values, np.broadcast_to([1, 1 / 3], (3, 2)), rtol=F64)
  for i in range(3):
    assert_same_up_to_sign(found.left[i], left[:2], F64)
    assert_same_up_to_sign(found.right[i], right[:2], F64)
    np.testing.assert_allclose(found.right[i] @ weight.T, found.values[i, :, None] * found.left[i], atol=F64)
  assert (np.take_along_axis(found.left, np.abs(found.left).argmax(-1)[..., None], -1) > 0).all()


def test_all_vectors_are_those_of_the_dense_matrix(x64):
  weight = draw(D, D)
  left, values, right = np.linalg.svd(weight)
  found = modes.singular_vectors(Partial(affine, weight), draw(1, *SHAPE), SIGMA, D)
  np.testing.assert_allclose(found.values[0], values, atol=F64)
  np.testing.assert_allclose((found.left[0].T * values) @ found.right[0], weight, atol=F64)


def test_equal_singular_values_leave_their_span(x64):
  weight, left, right = matrix(np.r_[3, 3, 3, 2, 0.5 ** np.arange(4, D)])
  found = modes.singular_vectors(Partial(affine, weight), draw(1, *SHAPE), SIGMA, 3, iterations=2)
  np.testing.assert_allclose(found.values[0], 3, rtol=1e-8)
  for rows, expected in ((found.left[0], left[:3]), (found.right[0], right[:3])):
    np.testing.assert_allclose(rows.T @ rows, expected.T @ expected, atol=1e-6)  # (s_12 / s_3)^5 is 1e-14


@pytest.mark.parametrize("iterations", [1, 4])
def test_multi_delta_is_the_posterior_covariance(x64, iterations):  # T2: J = Cov_w(y) / sigma^2
  images = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 1), np.uint8)
  y, sigma, k = images.reshape(6, D) / 127.5 - 1, 3.0, 7
  x = y[0].reshape(1, 8, 8, 1) + sigma * draw(2, 8, 8, 1)
  found = modes.singular_vectors(
    Partial(multi_delta.denoise, images), x, sigma, k, iterations=iterations, seed=1
  )
  for i in range(2):
    distance = np.sum((y - x[i].ravel()) ** 2, axis=1)
    weights = np.exp(-(distance - distance.min()) / (2 * sigma**2))
    covariance = np.cov(y.T, aweights=weights / weights.sum(), ddof=0)
    left, values, _ = np.linalg.svd(covariance / sigma**2)
    np.testing.assert_allclose(found.values[i, :5], values[:5], rtol=1e-8)
    assert found.values[i, 5:].max() < F64  # six images: rank five
    assert_same_up_to_sign(found.left[i, :5], left.T[:5], 1e-8)
    assert_same_up_to_sign(found.right[i, :5], left.T[:5], 1e-8)
    np.testing.assert_allclose(found.left[i] @ found.left[i].T, np.eye(k), atol=F64)


def test_every_point_has_its_own_jacobian():
  x = np.float32(draw(5, *SHAPE))
  found = modes.singular_vectors(Partial(square, np.float32(1.5)), x, SIGMA, 3, iterations=4)
  largest = np.sort(np.abs(1.5 * x.reshape(5, D)), axis=1)[:, ::-1]
  np.testing.assert_allclose(found.values, largest[:, :3], rtol=1e-6)
  place = np.argsort(-np.abs(x.reshape(5, D)), axis=1)[:, :3]
  np.testing.assert_allclose(np.take_along_axis(found.left, place[..., None], -1), 1, atol=1e-6)
  np.testing.assert_allclose(
    np.take_along_axis(found.right, place[..., None], -1)[..., 0],
    np.sign(np.take_along_axis(x.reshape(5, D), place, 1)),
    atol=1e-6,
  )


def test_pullback_is_the_transpose_of_pushforward(x64):
  weight, x = draw(D, D), draw(*SHAPE)

  def denoise(x, sigma):
    return jax.numpy.tanh(affine(weight, x, sigma) / sigma)

  rows = draw(3, D, seed=2), draw(4, D, seed=3)
  pushed = jacobian.pushforward(denoise, x, SIGMA, rows[0])[1]
  pulled = modes.pullback(denoise, x, SIGMA, rows[1])
  np.testing.assert_allclose(pushed @ rows[1].T, rows[0] @ pulled.T, rtol=F64)


def test_refuses():
  x = np.zeros((1, *SHAPE), np.float32)
  identity = Partial(square, np.float32(1))
  for name, arguments in {"`k`": {"k": 0}, "`iterations`": {"k": 1, "iterations": 0}}.items():
    with pytest.raises(ValueError, match=name):
      modes.singular_vectors(identity, x, SIGMA, **arguments)
  with pytest.raises(ValueError, match="`k` is 65"):
    modes.singular_vectors(identity, x, SIGMA, D + 1)
  with pytest.raises(ValueError, match="NaN"):
    modes.singular_vectors(Partial(square, np.float32(np.nan)), x, SIGMA, 1)
  for iterations in (1, 9):
    with pytest.raises(TypeError, match="no derivatives"):
      modes.singular_vectors(external.denoiser(lambda x, sigma: x), x, SIGMA, 1, iterations=iterations)
