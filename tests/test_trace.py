"""Trace and diagonal of Jacobians that are known matrices: exact, and unbiased by Hutch++."""

import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from gauss_diffusion.probes import trace


def matrix_denoise(matrix, x, sigma):
  return jnp.matmul(matrix, x.reshape(-1), precision="highest").reshape(x.shape)


def test_the_trace_is_exact_with_as_many_products_as_pixels():
  matrix = np.random.default_rng(6).standard_normal((300, 300)).astype(np.float32)  # two blocks of directions
  x = np.zeros((2, 10, 10, 3), np.float32)
  found = trace.trace(Partial(matrix_denoise, matrix), x, 1.0, 300)
  np.testing.assert_allclose(found, np.trace(matrix.astype(np.float64)), rtol=1e-4)
  found = trace.diagonal(Partial(matrix_denoise, matrix), x, 1.0, 400)
  np.testing.assert_allclose(found, np.broadcast_to(np.diag(matrix).reshape(10, 10, 3), x.shape), rtol=1e-6)


def decaying(size, power):
  basis = np.linalg.qr(np.random.default_rng(7).standard_normal((size, size)))[0]
  return basis * np.arange(1.0, size + 1) ** -power @ basis.T


def test_hutchpp_is_exact_up_to_its_rank_and_unbiased_beyond(x64):
  matrix = decaying(48, 1.5)
  x, truth = np.zeros((4000, 4, 4, 3)), np.trace(matrix)
  low = matrix[:, :3] @ np.random.default_rng(8).standard_normal((3, 48))  # not symmetric
  found = trace.trace(Partial(matrix_denoise, low), x[:5], 1.0, 9)
  np.testing.assert_allclose(found, np.trace(low), rtol=1e-10)
  found = trace.trace(Partial(matrix_denoise, matrix), x, 1.0, 12)
  error = found.std() / np.sqrt(len(found))
  assert found.mean() == pytest.approx(truth, abs=4 * error)
  assert len(set(found)) == len(found)  # directions of its own for every point
  # Hutchinson's estimate from 12 products, whose error the leading eigenvalues make.
  signs = np.random.default_rng(9).choice([-1.0, 1.0], (4000, 12, 48))
  plain = np.mean(np.sum(signs @ matrix * signs, axis=-1), axis=-1)
  assert found.std() < 0.5 * plain.std()


def test_the_diagonal_is_exact_up_to_its_rank_and_unbiased_beyond(x64):
  x, half = np.zeros((4000, 4, 4, 3)), np.random.default_rng(8).standard_normal((48, 6))
  matrix = half @ half.T  # of rank 6
  found = trace.diagonal(Partial(matrix_denoise, matrix), x[:5], 1.0, 18)
  np.testing.assert_allclose(found.reshape(5, 48), np.broadcast_to(np.diag(matrix), (5, 48)), rtol=1e-9)
  matrix = decaying(48, 1.5)
  found = trace.diagonal(Partial(matrix_denoise, matrix), x, 1.0, 12).reshape(4000, 48)
  error = found.std(axis=0) / np.sqrt(len(found))
  assert np.all(np.abs(found.mean(axis=0) - np.diag(matrix)) < 4.5 * error)
  signs = np.random.default_rng(9).choice([-1.0, 1.0], (4000, 12, 48))
  plain = np.mean(signs * (signs @ matrix), axis=1)
  assert np.sqrt(np.mean(found.var(axis=0))) < 0.7 * np.sqrt(np.mean(plain.var(axis=0)))


def test_wrong_products_and_jacobians_are_named():
  broken = Partial(matrix_denoise, np.full((6, 6), np.nan, np.float32))
  x = np.zeros((2, 3, 2, 1), np.float32)
  for measure in (trace.trace, trace.diagonal):
    with pytest.raises(ValueError, match="`products` is 2"):
      measure(broken, x, 1.0, 2)
    for products in (4, 6):
      with pytest.raises(ValueError, match="`denoise` has a Jacobian"):
        measure(broken, x, 1.0, products)
