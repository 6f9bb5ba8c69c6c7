"""Superposition scores on denoisers whose answer is known: invariants H1 to H6."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from gauss_diffusion.probes import linearity

SHAPE = (3, 2, 2)
ALPHA2 = (0.99, 0.7, 0.5)
F64 = 1e-10
F32 = 1e-5  # float32 rounding over a dozen operations on values of order 1


@jax.jit
def score(denoise, x1, x2, sigma, alpha2, centre):
  return linearity.score(denoise, x1, x2, sigma, alpha2, centre=centre)


def affine(record, x, sigma):
  weight, bias = record
  return (jnp.matmul(weight, x.ravel(), precision="highest") + bias).reshape(x.shape)


def two_delta(record, x, sigma):
  middle, delta = record
  return middle + delta * jnp.tanh(jnp.sum(delta * (x - middle)) / sigma**2)


def relu_net(record, x, sigma):
  first, second = record
  return jnp.matmul(second, jax.nn.relu(jnp.matmul(first, x.ravel()))).reshape(x.shape)


def gaussian(rng, sigma):
  """Weight and bias of D_G for a random mean and covariance, and the mean."""
  root = rng.normal(size=(12, 12)) / 4
  mean = rng.normal(size=SHAPE) / 2
  weight = root @ root.T @ np.linalg.inv(root @ root.T + sigma**2 * np.eye(12))
  return Partial(affine, (weight, (np.eye(12) - weight) @ mean.ravel())), mean


def draw(seed=0):
  rng = np.random.default_rng(seed)
  return rng, rng.normal(size=SHAPE), rng.normal(size=SHAPE), rng.normal(size=SHAPE)


def reference(denoise, x1, x2, alpha2, centre):
  """The four numbers by their definition, in NumPy float64."""
  alpha, beta = np.sqrt(alpha2), np.sqrt(1 - alpha2)
  out = []
  for c in (np.zeros(SHAPE), centre):
    of_mix = denoise(c + alpha * (x1 - c) + beta * (x2 - c)) - c
    mix_of = alpha * (denoise(x1) - c) + beta * (denoise(x2) - c)
    norms = np.linalg.norm(of_mix), np.linalg.norm(mix_of)
    out += [np.sum(of_mix * mix_of) / np.prod(norms), np.linalg.norm(of_mix - mix_of) / norms[0]]
  return out


def test_two_delta_agrees_with_numpy(x64):
  rng, x1, x2, centre = draw()
  middle, delta = rng.normal(size=(2, *SHAPE)) / 2
  found = score(Partial(two_delta, (middle, delta)), x1, x2, 0.9, np.array(ALPHA2), centre)
  numpy_denoise = lambda x: middle + delta * np.tanh(np.sum(delta * (x - middle)) / 0.9**2)  # noqa: E731
  expected = [reference(numpy_denoise, x1, x2, alpha2, centre) for alpha2 in ALPHA2]
  np.testing.assert_allclose(np.stack(found, axis=1), expected, rtol=F64)
  assert 0.1 < found.nmse.max()  # not trivially linear
  one = score(Partial(two_delta, (middle, delta)), x1, x2, 0.9, ALPHA2[1], centre)
  np.testing.assert_allclose(one, [field[1] for field in found], rtol=F64)
  assert one.cosine.shape == ()


def test_linear_map_is_linear(x64):  # H1
  rng, x1, x2, centre = draw()
  found = score(
    Partial(affine, (rng.normal(size=(12, 12)), np.zeros(12))), x1, x2, 1.0, np.array(ALPHA2), centre
  )
  np.testing.assert_allclose(found.cosine, 1, atol=F64)
  np.testing.assert_allclose(found.nmse, 0, atol=F64)


def test_constant_map(x64):  # H2
  rng, x1, x2, centre = draw()
  found = score(
    Partial(affine, (np.zeros((12, 12)), rng.normal(size=12))), x1, x2, 1.0, np.array(ALPHA2), centre
  )
  np.testing.assert_allclose(found.cosine, 1, atol=F64)
  expected = np.abs(1 - np.sqrt(ALPHA2) - np.sqrt(1 - np.array(ALPHA2)))
  np.testing.assert_allclose(found.nmse, expected, atol=F64)


def test_sign_is_kept(x64):
  """An even map turned round: D(x1) = D(x2) = 0.5, D(mix) = -1, so the cosine is -1, its size 1."""
  flip = Partial(lambda _, x, sigma: jnp.where(jnp.sum(x) > 1.2, -1.0, 0.5) * jnp.ones_like(x), ())
  x1 = np.full(SHAPE, 1 / 12)
  found = score(flip, x1, x1, 1.0, 0.5, np.zeros(SHAPE))
  np.testing.assert_allclose(found.cosine, -1, atol=F64)


@pytest.mark.parametrize("sigma", [0.002, 0.5, 80.0])
def test_gaussian_is_linear_about_its_mean(x64, sigma):  # H3
  rng, x1, x2, _ = draw()
  denoise, mean = gaussian(rng, sigma)
  found = score(denoise, sigma * x1, sigma * x2, sigma, np.array(ALPHA2), mean)
  np.testing.assert_allclose(found.centred_cosine, 1, atol=F64)
  np.testing.assert_allclose(found.centred_nmse, 0, atol=F64)


def test_gaussian_float32():  # H3
  rng, x1, x2, _ = draw()
  denoise, mean = gaussian(rng, 0.5)
  found = score(*jax.tree.map(jnp.float32, (denoise, x1, x2)), 0.5, np.float32(ALPHA2), np.float32(mean))
  assert found.cosine.dtype == jnp.float32
  np.testing.assert_allclose(found.centred_cosine, 1, atol=F32)
  np.testing.assert_allclose(found.centred_nmse, 0, atol=F32)


def test_gaussian_high_noise_limit(x64):  # H3
  rng, x1, x2, _ = draw()
  sigma = 1e4
  denoise, mean = gaussian(rng, sigma)
  found = score(denoise, sigma * x1, sigma * x2, sigma, 0.5, mean)
  np.testing.assert_allclose(found.nmse, np.sqrt(2) - 1, rtol=1e-3)  # the approach is of order 1 / sigma
  np.testing.assert_allclose(found.cosine, 1, rtol=1e-3)


def test_weight_on_one_input_alone(x64):  # H4
  rng, x1, x2, centre = draw()
  record = Partial(two_delta, tuple(rng.normal(size=(2, *SHAPE))))
  found = score(record, x1, x2, 0.9, np.array([1.0, 0.0]), centre)
  np.testing.assert_allclose(np.stack(found), [[1, 1], [0, 0], [1, 1], [0, 0]], atol=F64)


def test_invariant_to_output_scale_and_to_swapping(x64):  # H5
  rng, x1, x2, centre = draw()
  first, second = rng.normal(size=(2, 12, 12))
  found = score(Partial(relu_net, (first, second)), x1, x2, 1.0, 0.3, np.zeros(SHAPE))
  scaled = score(Partial(relu_net, (first, 7 * second)), x1, x2, 1.0, 0.3, np.zeros(SHAPE))
  np.testing.assert_allclose(found, scaled, rtol=F64)
  once = score(Partial(relu_net, (first, second)), x1, x2, 1.0, 0.3, centre)
  swapped = score(Partial(relu_net, (first, second)), x2, x1, 1.0, 0.7, centre)
  np.testing.assert_allclose(once, swapped, rtol=F64)


def test_homogeneous_net_is_linear_on_a_ray_only(x64):  # H6
  rng, x1, x2, _ = draw()
  denoise = Partial(relu_net, tuple(rng.normal(size=(2, 12, 12))))
  on_ray = score(denoise, x1, 3 * x1, 1.0, 0.5, np.zeros(SHAPE))
  np.testing.assert_allclose(on_ray, [1, 0, 1, 0], atol=F64)
  across = score(denoise, x1, x2, 1.0, 0.5, np.zeros(SHAPE))
  assert across.cosine < 0.99 and across.nmse > 0.1


def test_two_zeros_agree(x64):
  _, x1, x2, centre = draw()
  found = score(Partial(affine, (np.zeros((12, 12)), np.zeros(12))), x1, x2, 1.0, 0.5, centre)
  np.testing.assert_array_equal(found[:2], [1, 0])


@pytest.mark.parametrize("alpha2", [1.5, -0.1, (0.5, np.nan)])
def test_refuses_weights_outside_the_unit_interval(alpha2):
  x = np.zeros(SHAPE, np.float32)
  with pytest.raises(ValueError, match="`alpha2`"):
    linearity.score(Partial(relu_net, ()), x, x, 1.0, alpha2, centre=x)


def test_refuses_other_shapes():
  x = np.zeros(SHAPE, np.float32)
  with pytest.raises(AssertionError):
    linearity.score(Partial(relu_net, ()), x, x[1:], 1.0, 0.5, centre=x)


def test_pmap_of_vmap_is_one_by_one_and_traces_the_denoiser_once():
  rng, *_ = draw()
  traces = []

  def counted(record, x, sigma):
    traces.append(x.shape)
    return two_delta(record, x, sigma)

  record = tuple(np.float32(rng.normal(size=(2, *SHAPE))))
  pairs = np.float32(rng.normal(size=(8, 2, 2, *SHAPE)))
  centre, alpha2 = np.float32(rng.normal(size=SHAPE)), np.float32(ALPHA2)

  def of_pair(denoise, sigma, alpha2, centre, pair):
    return linearity.score(denoise, pair[0], pair[1], sigma, alpha2, centre=centre)

  shared = Partial(counted, record), np.float32(0.9), alpha2, centre
  everywhere = jax.pmap(jax.vmap(of_pair, (None,) * 4 + (0,)), in_axes=(None,) * 4 + (0,))(*shared, pairs)
  assert traces == [SHAPE]
  assert everywhere.cosine.shape == (8, 2, 3)
  for i, j in [(0, 0), (3, 1), (7, 1)]:
    alone = score(Partial(two_delta, record), *pairs[i, j], 0.9, alpha2, centre)
    np.testing.assert_allclose([field[i, j] for field in everywhere], alone, atol=F32)


def test_many_pairs_are_each_by_itself_and_compiled_once():
  rng, *_ = draw(1)
  traces = []

  def counted(record, x, sigma):
    traces.append(x.shape)
    return two_delta(record, x, sigma)

  denoise = Partial(counted, tuple(np.float32(rng.normal(size=(2, *SHAPE)))))
  x1, x2, centre = np.float32(rng.normal(size=(3, 11, *SHAPE)))
  centre = centre[0]
  for sigma in (0.9, 0.3):
    found = linearity.score_many(denoise, x1, x2, sigma, ALPHA2, centre=centre, batch=8)
    assert found.cosine.shape == (11, 3) and isinstance(found.cosine, np.ndarray)
    for i in (0, 10):
      alone = score(Partial(two_delta, denoise.args[0]), x1[i], x2[i], sigma, np.float32(ALPHA2), centre)
      np.testing.assert_allclose([field[i] for field in found], alone, atol=F32)
  assert traces == [SHAPE]
  assert linearity.score_many(denoise, x1, x2, 0.5, centre=centre).nmse.shape == (11,)
  with pytest.raises(ValueError, match="hold 11 and 10 images"):
    linearity.score_many(denoise, x1, x2[1:], 0.5, centre=centre)
  with pytest.raises(ValueError, match="`alpha2` is 1.5"):
    linearity.score_many(denoise, x1, x2, 0.5, 1.5, centre=centre)
