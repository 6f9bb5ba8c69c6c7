"""Guidance: its limits for any denoisers, and its three pieces where both are Gaussian."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from gauss_diffusion import sampling, statistics
from gauss_diffusion.denoisers import gaussian, guidance, multi_delta
from gauss_diffusion.denoisers.guidance import Guided
from gauss_diffusion.types import GaussianStats

SHAPE = (4, 3, 2)
FLOAT64 = 1e-12  # of sums of 24 terms of order one
SIGMAS = (0.01, 0.3, 1.0, 20.0)


def images(count, seed):
  return np.random.default_rng(seed).integers(0, 256, (count, *SHAPE)).astype(np.uint8)


def stats(count, seed):
  return statistics.gaussian_stats(images(count, seed))


def guided(one, other, weight):
  return Partial(
    guidance.denoise, Guided(Partial(gaussian.denoise, one), Partial(gaussian.denoise, other), weight)
  )


def noisy(seed=0):
  return np.random.default_rng(seed).standard_normal(SHAPE)


def shrinkage(one, sigma):
  """Return W = Σ (Σ + σ² I)⁻¹ by dense matrices."""
  covariance = one.basis * one.eigenvalues @ one.basis.T
  return covariance @ np.linalg.inv(covariance + sigma**2 * np.eye(len(covariance)))


RANKS = [(8, 40), (40, 8), (60, 60), (1, 9), (9, 1), (1, 1)]  # images of each: below, at and above 24 pixels


@pytest.mark.parametrize(("own", "every"), RANKS)
def test_the_pieces_sum_to_the_guidance(own, every, x64):
  one, other, x = stats(own, 1), stats(every, 2), noisy()
  for sigma in SIGMAS:
    found = guidance.pieces(guidance.contrast(one, other, sigma), x)
    want = gaussian.denoise(one, x, sigma) - gaussian.denoise(other, x, sigma)
    np.testing.assert_allclose(sum(found), want, atol=FLOAT64)


@pytest.mark.parametrize(("own", "every"), RANKS)
def test_contrastive_components_are_eigenvectors_of_the_difference(own, every, x64):
  one, other, x = stats(own, 1), stats(every, 2), noisy()
  for sigma in SIGMAS:
    dense = shrinkage(one, sigma) - shrinkage(other, sigma)
    values, vectors = np.linalg.eigh(dense)
    found = guidance.contrast(one, other, sigma)
    gram = found.directions.T @ found.directions
    np.testing.assert_allclose(gram, np.eye(len(found.values)), atol=FLOAT64)
    np.testing.assert_allclose(found.directions * found.values @ found.directions.T, dense, atol=1e-10)
    assert (np.diff(found.values) <= 0).all() and (np.abs(found.values) < 1).all()
    shift = (np.eye(24) - shrinkage(other, sigma)) @ (one.mean - other.mean).ravel()
    np.testing.assert_allclose(found.shift.ravel(), shift, atol=1e-10)
    centred = (x - one.mean).ravel()
    split = guidance.pieces(found, x)
    for piece, kept in ((split.positive, values > 0), (split.negative, values < 0)):
      want = vectors[:, kept] * values[kept] @ (vectors[:, kept].T @ centred)
      np.testing.assert_allclose(np.ravel(piece), want, atol=1e-10)


def test_equal_classes_guide_nowhere(x64):
  one, x = stats(12, 1), noisy()
  for sigma in SIGMAS:
    for piece in guidance.pieces(guidance.contrast(one, one, sigma), x):
      np.testing.assert_allclose(piece, 0, atol=FLOAT64)
    np.testing.assert_array_equal(guided(one, one, 7.0)(x, sigma), gaussian.denoise(one, x, sigma))


def test_weight_zero_is_the_conditional_denoiser_and_minus_one_the_other(x64):
  u8, x = images(9, 3), noisy()
  pair = Partial(gaussian.denoise, stats(12, 1)), Partial(multi_delta.denoise, u8)
  for sigma in SIGMAS:
    found = [guidance.denoise(Guided(*pair, weight), x, sigma) for weight in (0.0, -1.0, 1.0)]
    np.testing.assert_array_equal(found[0], pair[0](x, sigma))
    np.testing.assert_allclose(found[1], pair[1](x, sigma), atol=FLOAT64)
    np.testing.assert_allclose(found[2] - found[0], found[0] - found[1], atol=FLOAT64)


@pytest.mark.parametrize("solver", sampling.SOLVERS)
def test_guided_samples_of_equal_covariances_have_their_mean_moved(solver, x64):
  """``D_w = W x + (I − W)(μ_c + w (μ_c − μ_∅))`` is the Gaussian denoiser of that mean, and so is its ODE."""
  one, weight, sigmas = stats(12, 1), 1.5, np.geomspace(20, 0.01, 12)
  other = one._replace(mean=stats(12, 2).mean)
  moved = one._replace(mean=one.mean + weight * (one.mean - other.mean))
  noise = noisy()
  found = sampling.sample(guided(one, other, weight), noise, sigmas, solver=solver)
  want = sampling.gaussian_trajectory(moved, noise, sigmas, method=solver)
  np.testing.assert_allclose(found.x, want.x, atol=1e-10)
  split = guidance.pieces(guidance.contrast(one, other, 0.5), noise)
  np.testing.assert_allclose([split.positive, split.negative], 0, atol=FLOAT64)


def test_one_compile_serves_other_weights_and_laws():
  compiled, calls = [], []

  @jax.jit
  def run(denoise, x):
    compiled.append(1)
    return jax.vmap(denoise, (0, None))(x, jnp.float32(0.5))

  x = np.stack([noisy(seed) for seed in range(3)]).astype(np.float32)
  for weight, seed in ((0.5, 1), (2.0, 3)):
    calls.append(run(guided(stats(40, seed), stats(40, 2), jnp.float32(weight)), x))
  assert len(compiled) == 1 and calls[0].dtype == np.float32
  assert not np.allclose(calls[0], calls[1])


def test_images_of_two_shapes_are_refused():
  flat = GaussianStats(np.zeros((2, 2, 1)), np.zeros((4, 0)), np.zeros(0))
  with pytest.raises(
    ValueError, match=r"`of_class` describes images of shape \(4, 3, 2\), `of_all` of \(2, 2, 1\)"
  ):
    guidance.contrast(stats(5, 1), flat, 1.0)
