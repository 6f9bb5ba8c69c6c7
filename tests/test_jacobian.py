"""Jacobian probes on denoisers whose Jacobian is known in closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from gauss_diffusion.probes import jacobian

SHAPE = (3, 2, 2)
D = 12
SIGMA = 0.9
F64 = 1e-10
F32 = 1e-5  # float32 rounding over a dozen operations on values of order 1

gain = jax.jit(jacobian.gain)
local_linearity = jax.jit(jacobian.local_linearity)
PROBES = jacobian.random_probes(1, D, seed=0)[0]  # as many as dimensions: norms are exact


@jax.jit
def dense(denoise, x, sigma):
  """Return the whole Jacobian [D, D]."""
  return jacobian.pushforward(denoise, x, sigma, jnp.eye(x.size, dtype=x.dtype))[1].T


def affine(record, x, sigma):
  weight, bias = record
  return (jnp.matmul(weight, x.ravel(), precision="highest") + bias).reshape(x.shape)


def posterior_mean(images, x, sigma):
  """The exact denoiser of a few images."""
  weights = jax.nn.softmax(-jnp.sum((images - x[None]) ** 2, axis=(1, 2, 3)) / (2 * sigma**2))
  return jnp.einsum("n,nhwc->hwc", weights, images, precision="highest")


def square(scale, x, sigma):
  """A denoiser with Jacobian diag(scale x)."""
  return scale * x**2 / 2


def relu_net(record, x, sigma):
  first, second = record
  return jnp.matmul(second, jax.nn.relu(jnp.matmul(first, x.ravel()))).reshape(x.shape)


def draw(*shape, seed=0):
  return np.random.default_rng(seed).normal(size=shape)


def gaussian(sigma):
  """Return D_G for a random covariance, with its eigenvectors [D, D] as rows and eigenvalues."""
  eigenvalues, basis = np.linalg.eigh(np.cov(draw(D, 2 * D)))
  weight = basis * (eigenvalues / (eigenvalues + sigma**2)) @ basis.T
  return Partial(affine, (weight, draw(D, seed=1))), basis.T, eigenvalues


@pytest.mark.parametrize("sigma", [0.002, 0.9, 80.0])
def test_gaussian_in_float64(x64, sigma):
  denoise, directions, eigenvalues = gaussian(sigma)
  x1, x2 = sigma * draw(2, *SHAPE)
  expected = eigenvalues / (eigenvalues + sigma**2)
  found = local_linearity(denoise, x1, x2, sigma, directions[:4], PROBES)
  np.testing.assert_allclose(found.gain, np.stack([expected[:4]] * 2), rtol=F64)
  np.testing.assert_allclose(found.asymmetry, 0, atol=F64)
  np.testing.assert_allclose(found.constancy, 0, atol=F64)
  np.testing.assert_allclose(found.displacement, 0, atol=F64 * (1 + 1 / sigma))  # D(x2) - D(x1) cancels
  np.testing.assert_allclose(gain(denoise, x1, sigma, directions), expected, rtol=F64)


def test_gaussian_in_float32():
  denoise, directions, eigenvalues = gaussian(SIGMA)
  inputs = jax.tree.map(jnp.float32, (denoise, *draw(2, *SHAPE), SIGMA, directions))
  found = local_linearity(*inputs, PROBES)
  assert found.gain.dtype == jnp.float32
  np.testing.assert_allclose(found.gain[0], eigenvalues / (eigenvalues + SIGMA**2), atol=F32)
  np.testing.assert_allclose(np.stack(found[1:]), 0, atol=F32)


def test_two_delta_closed_form(x64):
  """For images m ± δ the Jacobian is δδᵀ sech²(δ·(x - m)/σ²)/σ², of rank one and symmetric."""
  middle, delta = draw(2, *SHAPE) / 3
  denoise = Partial(posterior_mean, np.stack([middle - delta, middle + delta]))
  x1, x2 = draw(2, *SHAPE, seed=2) / 2
  peak = [1 / np.cosh(np.sum(delta * (x - middle)) / SIGMA**2) ** 2 for x in (x1, x2)]
  mean = [middle + delta * np.tanh(np.sum(delta * (x - middle)) / SIGMA**2) for x in (x1, x2)]
  along = delta.ravel() / np.linalg.norm(delta)

  found = local_linearity(denoise, x1, x2, SIGMA, np.stack([along, draw(D, seed=3)]), PROBES)
  np.testing.assert_allclose(found.gain[:, 0], np.array(peak) * np.sum(delta**2) / SIGMA**2, rtol=F64)
  np.testing.assert_allclose(found.asymmetry, 0, atol=F64)
  np.testing.assert_allclose(found.constancy, abs(peak[0] - peak[1]) / np.array(peak), rtol=F64)
  change, step = mean[1] - mean[0], delta * np.sum(delta * (x2 - x1)) / SIGMA**2
  expected = [np.linalg.norm(change - p * step) / np.linalg.norm(change) for p in peak]
  np.testing.assert_allclose(found.displacement, expected, rtol=1e-8)  # a difference of near equals


def test_posterior_covariance(x64):  # T2
  images, x = draw(5, *SHAPE) / 3, draw(*SHAPE, seed=1)
  weights = np.exp(-np.sum((images - x) ** 2, axis=(1, 2, 3)) / (2 * SIGMA**2))
  covariance = np.cov(images.reshape(5, D).T, aweights=weights / weights.sum(), ddof=0)
  np.testing.assert_allclose(
    SIGMA**2 * dense(Partial(posterior_mean, images), x, SIGMA), covariance, atol=F64
  )


def test_stein_identity(x64):  # T3
  """E tr J = E[D(x) · ε]/σ² for noise ε of variance σ², whatever D: within five standard errors."""
  images, noise = draw(5, *SHAPE) / 3, SIGMA * draw(4000, *SHAPE, seed=1)
  x = images[np.arange(4000) % 5] + noise
  denoise = Partial(posterior_mean, images)
  gains = jax.jit(jax.vmap(jacobian.gain, (None, 0, None, None)))(denoise, x, SIGMA, np.eye(D))
  denoised = jax.vmap(denoise, (0, None))(x, SIGMA)
  difference = gains.sum(1) - np.sum(denoised * noise, axis=(1, 2, 3)) / SIGMA**2
  assert abs(difference.mean()) < 5 * difference.std() / np.sqrt(4000)
  assert gains.sum(1).mean() > 0.1


def test_quadratic_closed_form(x64):
  """J = diag(s x), so J(x1) - J(x2) = diag(s (x1 - x2)), and the tangent errs by s (x1 - x2)²/2."""
  x1, x2 = draw(2, *SHAPE)
  scale = draw(*SHAPE, seed=4)
  found = local_linearity(Partial(square, scale), x1, x2, SIGMA, np.eye(D), PROBES)
  norm = np.linalg.norm
  np.testing.assert_allclose(found.gain, (scale * np.stack([x1, x2])).reshape(2, D), rtol=F64)
  difference = norm(scale * (x1 - x2)) / np.array([norm(scale * x1), norm(scale * x2)])
  np.testing.assert_allclose(found.constancy, difference, rtol=F64)
  error = norm(scale * (x1 - x2) ** 2) / norm(scale * (x1**2 - x2**2))
  np.testing.assert_allclose(found.displacement, error, rtol=F64)


def test_asymmetry_is_exact_with_all_probes(x64):
  weight, (x1, x2) = draw(D, D), draw(2, *SHAPE)
  expected = np.linalg.norm(weight - weight.T) / np.linalg.norm(weight)
  found = local_linearity(Partial(affine, (weight, np.zeros(D))), x1, x2, 1.0, np.eye(D), PROBES)
  np.testing.assert_allclose(found.asymmetry, expected, rtol=F64)
  skew = Partial(affine, (weight - weight.T, np.zeros(D)))
  found = local_linearity(skew, x1, x2, 1.0, np.eye(D), PROBES)
  np.testing.assert_allclose(found.asymmetry, 2, rtol=F64)


def test_few_probes_are_unbiased(x64):
  """For an orthogonal J the denominator is certain, so asymmetry² must average to its exact value."""
  weight, _ = np.linalg.qr(draw(D, D))
  probes = jacobian.random_probes(1000, D, 3, seed=1)
  found = jax.jit(jax.vmap(jacobian.local_linearity, (None,) * 5 + (0,)))(
    Partial(affine, (weight, np.zeros(D))), *draw(2, *SHAPE), 1.0, np.eye(D), probes
  )
  squares = np.asarray(found.asymmetry[:, 0]) ** 2
  assert squares.std() > 0.1
  expected = np.sum((weight - weight.T) ** 2) / D
  assert abs(squares.mean() - expected) < 5 * squares.std() / np.sqrt(1000)


def test_zero_over_zero_is_zero(x64):
  constant = Partial(affine, (np.zeros((D, D)), np.ones(D)))
  found = local_linearity(constant, *draw(2, *SHAPE), 1.0, np.eye(D), PROBES)
  np.testing.assert_array_equal(np.concatenate([field.ravel() for field in found]), 0)


def test_homogeneous_net_is_its_jacobian(x64):  # H6
  denoise, x = Partial(relu_net, tuple(draw(2, D, D))), draw(*SHAPE, seed=5)
  denoised, product = jax.jit(jacobian.pushforward)(denoise, x, 1.0, x.reshape(1, D))
  np.testing.assert_allclose(denoised, denoise(x, 1.0), rtol=F64)
  np.testing.assert_allclose(product[0], denoised.ravel(), rtol=F64)


def test_swapping_the_points_swaps_the_rows(x64):
  denoise, (x1, x2) = Partial(relu_net, tuple(draw(2, D, D))), draw(2, *SHAPE)
  once = local_linearity(denoise, x1, x2, 1.0, np.eye(D), PROBES)
  swapped = local_linearity(denoise, x2, x1, 1.0, np.eye(D), PROBES)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b[::-1], rtol=F64), once, swapped)


def test_probes_are_orthonormal_and_differ_from_set_to_set():
  probes = jacobian.random_probes(3, D, 4, seed=2)
  np.testing.assert_allclose(probes @ probes.mT, np.broadcast_to(np.eye(4), (3, 4, 4)), atol=1e-12)
  assert np.abs(probes[0] - probes[1]).max() > 0.1
  assert jacobian.random_probes(1, 3, 16, seed=0).shape == (1, 3, 3)


def test_refuses():
  x = np.zeros(SHAPE, np.float32)
  with pytest.raises(ValueError, match="`probes`"):
    jacobian.local_linearity(Partial(square, x), x, x, 1.0, np.eye(D), PROBES[:1])
  with pytest.raises(AssertionError):
    jacobian.gain(Partial(square, x), x, 1.0, np.eye(D + 1))


def test_pmap_of_vmap_is_one_by_one_and_traces_the_denoiser_once():
  traces = []

  def counted(images, x, sigma):
    traces.append(x.shape)
    return posterior_mean(images, x, sigma)

  images, pairs = np.float32(draw(5, *SHAPE)), np.float32(draw(8, 2, 2, *SHAPE, seed=1))
  probes = np.float32(jacobian.random_probes(16, D, 4, seed=0)).reshape(8, 2, 4, D)
  directions = np.eye(D, dtype=np.float32)[:2]

  def of_pair(denoise, sigma, directions, pair, probes):
    return jacobian.local_linearity(denoise, pair[0], pair[1], sigma, directions, probes)

  shared, axes = (np.float32(SIGMA), directions), (None,) * 3 + (0, 0)
  everywhere = jax.pmap(jax.vmap(of_pair, axes), in_axes=axes)(
    Partial(counted, images), *shared, pairs, probes
  )
  assert traces == [SHAPE]
  assert everywhere.gain.shape == (8, 2, 2, 2)
  for i, j in [(0, 0), (3, 1), (7, 1)]:
    alone = jax.jit(of_pair)(Partial(posterior_mean, images), *shared, pairs[i, j], probes[i, j])
    jax.tree.map(lambda a, b, at=(i, j): np.testing.assert_allclose(a[at], b, atol=F32), everywhere, alone)
