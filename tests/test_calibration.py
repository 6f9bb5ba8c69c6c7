"""What a Jacobian says of the error, on denoisers whose posterior variance is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from gauss_diffusion.probes import calibration, jacobian

SHAPE = (3, 2, 2)
D = 12
SIGMA = 0.7
COUNT = 20_000  # of Monte-Carlo averages, which must agree within five of their own standard errors
F64 = 1e-10
F32 = 1e-5  # float32 rounding over a dozen operations on values of order 1
FULL = jacobian.random_probes(1, D, D, seed=0)[0]  # as many as dimensions: traces are exact


@jax.jit
def over_images(denoise, x0, noise, sigma, probes):
  return jax.vmap(calibration.calibrate, (None, 0, 0, None, None))(denoise, x0, noise, sigma, probes)


def affine(record, x, sigma):
  weight, bias = record
  return (jnp.matmul(weight, x.ravel(), precision="highest") + bias).reshape(x.shape)


def posterior_mean(images, x, sigma):
  """The exact denoiser of a few images."""
  weights = jax.nn.softmax(-jnp.sum((images - x[None]) ** 2, axis=(1, 2, 3)) / (2 * sigma**2))
  return jnp.einsum("n,nhwc->hwc", weights, images, precision="highest")


def itself(x, sigma):
  return x


def swirl(x, sigma):
  """A map that is nobody's posterior mean."""
  flat = x.ravel()
  return (0.5 * flat + jnp.tanh(jnp.roll(flat, 1))).reshape(x.shape)


def draw(*shape, seed=0):
  return np.random.default_rng(seed).normal(size=shape)


def gaussian(sigma):
  """Return D_G of a random law N(mean, Σ), the mean, a root of Σ and its eigenvalues."""
  root, mean = draw(D, D) / 3, draw(D, seed=1)
  eigenvalues, basis = np.linalg.eigh(root @ root.T)
  weight = basis * (eigenvalues / (eigenvalues + sigma**2)) @ basis.T
  return Partial(affine, (weight, mean - weight @ mean)), mean, root, eigenvalues


def assert_zero_mean(samples):
  assert abs(samples.mean()) <= 5 * samples.std() / np.sqrt(len(samples)) + 1e-12


def test_the_gaussian_denoiser_expects_the_error_that_it_makes(x64):  # G12
  denoise, mean, root, eigenvalues = gaussian(SIGMA)
  x0 = (mean + draw(COUNT, D, seed=2) @ root.T).reshape(-1, *SHAPE)
  found = over_images(denoise, x0, draw(*x0.shape, seed=3), SIGMA, FULL)
  want = np.sum(eigenvalues * SIGMA**2 / (eigenvalues + SIGMA**2)) / D
  np.testing.assert_allclose(found.variance, want, rtol=F64)
  np.testing.assert_allclose(found.asymmetry, 0, atol=F64)
  assert_zero_mean(found.error - want)
  assert_zero_mean(found.sure - found.error)


@pytest.mark.parametrize("sigma", [0.3, 0.7, 5.0])
def test_the_memorizer_of_two_images_knows_its_posterior(x64, sigma):  # M4
  images = draw(2, *SHAPE, seed=4) / 6
  pick = np.random.default_rng(5).integers(0, 2, COUNT)
  x0, noise = images[pick], draw(COUNT, *SHAPE, seed=6)
  found = over_images(Partial(posterior_mean, images), x0, noise, sigma, FULL)
  half, x = (images[1] - images[0]).ravel() / 2, (x0 + sigma * noise).reshape(COUNT, D)
  tangent = np.tanh((x - images.mean(0).ravel()) @ half / sigma**2)  # M3: D = m + δ tanh(⟨δ, x − m⟩/σ²)
  np.testing.assert_allclose(found.variance, half @ half * (1 - tangent**2) / D, atol=F64)
  np.testing.assert_allclose(found.asymmetry, 0, atol=1e-8)  # relative to a Jacobian that may be small
  assert_zero_mean(found.variance - found.error)
  assert_zero_mean(found.sure - found.error)


def test_the_identity_expects_the_noise(x64):
  x0, noise = draw(2, 50, *SHAPE)
  found = over_images(Partial(itself), x0, noise, SIGMA, FULL[:2])  # exact with any probes
  np.testing.assert_allclose(found.variance, SIGMA**2, rtol=F64)
  np.testing.assert_allclose(found.sure, SIGMA**2, rtol=F64)
  np.testing.assert_allclose(found.error, SIGMA**2 * np.mean(noise**2, axis=(1, 2, 3)), rtol=F64)
  assert not np.any(found.asymmetry)


def test_steins_estimate_is_right_for_any_map_and_the_variance_is_not(x64):  # T4
  x0, noise = draw(2, COUNT, *SHAPE)
  found = over_images(Partial(swirl), x0, noise, SIGMA, FULL)
  assert_zero_mean(found.sure - found.error)
  assert np.mean(found.error) > 2 * np.mean(found.variance) and np.min(found.asymmetry) > 0.1


def test_few_probes_estimate_the_trace_without_bias(x64):
  x = draw(*SHAPE)
  exact = calibration.calibrate(swirl, x, 0 * x, SIGMA, FULL).variance
  sets = jacobian.random_probes(4000, D, 3, seed=1)
  over = jax.vmap(calibration.calibrate, (None, None, None, None, 0))
  estimates = np.asarray(jax.jit(over)(Partial(swirl), x, 0 * x, SIGMA, sets).variance)
  assert estimates.std() > 0.01 * exact
  assert_zero_mean(estimates - exact)


def test_one_probe_is_too_few(x64):
  with pytest.raises(ValueError, match="`probes` has 1 row"):
    calibration.calibrate(itself, draw(*SHAPE), draw(*SHAPE), SIGMA, FULL[:1])


def test_pmap_of_vmap_is_one_by_one():
  denoise = jax.tree.map(np.float32, gaussian(SIGMA)[0])
  x0, noise, probes = jax.tree.map(np.float32, (*draw(2, 8, 2, *SHAPE), FULL[:4]))
  axes = (None, 0, 0, None, None)
  mapped = jax.pmap(jax.vmap(calibration.calibrate, axes), in_axes=axes)
  everywhere = mapped(denoise, x0, noise, np.float32(SIGMA), probes)
  for i, j in [(0, 0), (7, 1)]:
    alone = jax.jit(calibration.calibrate)(denoise, x0[i, j], noise[i, j], np.float32(SIGMA), probes)
    for all_of, one in zip(everywhere, alone):
      np.testing.assert_allclose(all_of[i, j], one, atol=F32)
