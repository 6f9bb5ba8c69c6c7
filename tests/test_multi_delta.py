"""Multi-delta denoiser: invariants M1-M14 and its float32 accuracy, against brute force in NumPy float64."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from gauss_diffusion import edm, statistics
from gauss_diffusion.denoisers import gaussian, levels, multi_delta

F64 = 1e-10  # logits of order 100 at float64 rounding, with margin
F32 = 2e-6  # a weighted mean in float32: rounding of the weights' exponents and of the sum, on a scale of 2

SHAPE = (2, 3, 2)
SIGMA = 0.3
denoise = jax.jit(multi_delta.denoise, static_argnames="chunk")
denoise_batch = jax.jit(jax.vmap(multi_delta.denoise, (None, 0, None)))


def images_of(count, shape=SHAPE, seed=0):
  return np.random.default_rng(seed).integers(60, 196, (count, *shape), dtype=np.uint8)


def to_float(images):
  return images / 127.5 - 1


def weights(images, x, sigma):
  """Posterior weights, from differences and in float64."""
  differences = (to_float(images) - np.asarray(x, np.float64)).reshape(len(images), -1)
  squares = np.sum(differences**2, axis=1)
  weight = np.exp(-(squares - squares.min()) / (2 * np.float64(sigma) ** 2))
  return weight / weight.sum()


def brute_force(images, x, sigma):
  return np.tensordot(weights(images, x, sigma), to_float(images), 1)


@pytest.fixture(autouse=True)
def every_way(monkeypatch):
  """Sets of images as small as these would take the one way that is right at any noise."""
  monkeypatch.setattr(multi_delta, "SMALL", 0)


@pytest.fixture
def x():
  return 0.4 * np.random.default_rng(1).normal(size=SHAPE)


@pytest.mark.parametrize("count", [1, 2, 9])
@pytest.mark.parametrize("sigma", [1e-5, 0.002, SIGMA, 5.0, 80.0, 1e4])
def test_m1_posterior_mean(x64, x, count, sigma):
  images = images_of(count)
  got = np.asarray(denoise(images, x, sigma))
  np.testing.assert_allclose(got, brute_force(images, x, sigma), rtol=0, atol=F64)
  low, high = to_float(images).min(axis=0), to_float(images).max(axis=0)
  assert np.all(got >= low - F64) and np.all(got <= high + F64)


def near_duplicates():
  """Pairs of 3072-element images that differ in three elements by one level."""
  rng = np.random.default_rng(0)
  images = rng.integers(1, 255, (64, 32, 32, 3), dtype=np.uint8)
  twins = images.copy()
  for twin in twins.reshape(64, -1):
    twin[rng.choice(3072, 3, replace=False)] += 1
  return np.concatenate([images, twins])


def sparse(kind):
  rng = np.random.default_rng(1)
  images = rng.integers(0, 256, (150, 32, 32, 3), dtype=np.uint8)
  if kind == "midpoint":
    return images, (to_float(images[:8]) + to_float(images[8:16])) / 2
  base = {"extreme": np.tile(images[0] // 128 * 255, (8, 1, 1, 1)), "unseen": 255 - images[:8]}[kind]
  return images, to_float(base)


@pytest.mark.parametrize("sigma", [1e-4, 0.002, 0.02, 0.3, 4.0, 80.0])
def test_float32_is_right_for_near_duplicates(sigma):
  images, sigma = near_duplicates(), np.float32(sigma)
  x = to_float(images[:32]) + sigma * np.random.default_rng(2).normal(size=(32, 32, 32, 3))
  x = x.astype(np.float32)
  got = np.asarray(denoise_batch(images, x, sigma), np.float64)
  want = np.array([brute_force(images, row, sigma) for row in x])
  np.testing.assert_allclose(got, want, rtol=0, atol=F32)
  # The share of the twin, read off the elements in which the two differ: float32 stores them to
  # 1e-7, one level is 8e-3, so the share is known to 2e-5. The expanded distance is wrong by 0.1 to 1 here.
  step = to_float(images[64:96]) - to_float(images[:32])
  share = np.sum((got - want) * step, axis=(1, 2, 3)) / np.sum(step**2, axis=(1, 2, 3))
  assert np.abs(share).max() < (5e-5 if sigma < 1 else F32 * 127.5)


@pytest.mark.parametrize("sigma", [0.002, 0.02])
def test_float32_weights(sigma):
  """Twins one level apart in all of 3072 elements, so that their average shows the share to 1e-6."""
  rng = np.random.default_rng(3)
  image = rng.integers(1, 255, (1, 32, 32, 3), dtype=np.uint8)
  twins, sigma = np.concatenate([image, image + np.uint8(1)]), np.float32(sigma)
  logit_one = 127.5 * sigma**2 / np.sqrt(3072)  # this much noise moves the logit by about one
  x = to_float(twins).mean(axis=0) + logit_one * rng.normal(size=(16, 32, 32, 3))
  x = x.astype(np.float32)
  got = np.asarray(denoise_batch(twins, x, sigma), np.float64) - to_float(image)
  want = np.array([weights(twins, row, sigma)[1] for row in x])
  assert 0.2 < np.median(np.minimum(want, 1 - want))
  np.testing.assert_allclose(127.5 * got.mean(axis=(1, 2, 3)), want, rtol=0, atol=2e-5)


@pytest.mark.parametrize("kind", ["midpoint", "extreme", "unseen"])
def test_float32_far_from_all_images(kind):
  images, base = sparse(kind)
  for sigma in np.float32([0.002, 0.3, 2.0, 10.0, 80.0]):
    x = (base + sigma * np.random.default_rng(2).normal(size=base.shape)).astype(np.float32)
    want = np.array([brute_force(images, row, sigma) for row in x])
    np.testing.assert_allclose(denoise_batch(images, x, sigma), want, rtol=0, atol=F32)


def test_small_sets_have_one_way(x, monkeypatch):
  images = images_of(9)
  monkeypatch.setattr(multi_delta, "SMALL", images.size)
  compiled = jax.jit(lambda x: multi_delta.denoise(images, x, SIGMA)).lower(x).compile()
  assert "conditional" not in compiled.as_text()
  np.testing.assert_allclose(
    multi_delta.denoise(images, x, SIGMA), brute_force(images, x, SIGMA), rtol=0, atol=F32
  )


def close_by(count, most=1):
  """Images of 3072 elements, near black or near white, that differ from one another by so many levels."""
  rng = np.random.default_rng(7)
  base = rng.choice(np.array([most, 255 - most]), (32, 32, 3))
  return (base + rng.integers(-most, most + 1, (count, 32, 32, 3))).astype(np.uint8)


def near_ties(count):
  """Images of 3072 elements that differ from one in one element by one level, each in another."""
  images = np.repeat(close_by(1), count, axis=0)
  images.reshape(count, -1)[np.arange(count), 7 * np.arange(count)] ^= 1
  return images


class Taken(Exception):  # noqa: N818  # no error
  """Ends a call as soon as its way is known."""


def way_of(images, x, sigma, **options):
  """Which way is taken: of the few images that matter, or of all with 1, 2 or 3 parts of the sample."""

  def end(value):
    if isinstance(value, jax.core.Tracer):
      return value
    raise Taken(int(value))

  with pytest.MonkeyPatch.context() as patch, pytest.raises(Taken) as taken:
    patch.setattr(levels, "largest", end)
    multi_delta.denoise(images, x, sigma, **options)
  return taken.value.args[0]


def take(way, x, sigma, monkeypatch):
  """Let images that are not few be compared with 1, 2 or 3 parts of the sample."""
  one, two = (multi_delta._error(levels.split(jnp.asarray(x.reshape(-1)), parts)) for parts in (1, 2))
  limit = {0: 0, 1: 2 * one, 2: (one + two) / 2, 3: 0}[way]
  monkeypatch.setattr(multi_delta, "ROUGH", float(limit / levels.variance(sigma, x.dtype)))


@pytest.mark.parametrize("way, sigma", [(0, 1e-4), (1, 30.0), (2, 3.0), (3, 0.02)])
def test_every_way_is_right(way, sigma):
  images = near_duplicates() if way == 0 else close_by(200)
  x = to_float(images[:8]) + sigma * np.random.default_rng(2).normal(size=(8, 32, 32, 3))
  x = x.astype(np.float32)
  assert way_of(images, x[0], np.float32(sigma)) == way
  want = np.array([brute_force(images, row, np.float32(sigma)) for row in x])
  np.testing.assert_allclose(denoise_batch(images, x, np.float32(sigma)), want, rtol=0, atol=F32)


@pytest.mark.parametrize("parts, scale, most", [(1, 30.0, 100), (2, 3.0, 20)])
def test_ways_meet(parts, scale, most):
  """Where one part more begins to be needed, both sides are right."""
  images = close_by(200, most)
  x = to_float(images[0]) + scale * np.random.default_rng(2).normal(size=(32, 32, 3))
  x = x.astype(np.float32)
  error = multi_delta._error(levels.split(jnp.asarray(x.reshape(-1)), parts))
  edge = np.sqrt(error / multi_delta.ROUGH) / 127.5
  for factor, way in ((0.999, parts + 1), (1.001, parts)):
    sigma = np.float32(factor * edge)
    assert way_of(images, x, sigma) == way
    np.testing.assert_allclose(
      multi_delta.denoise(images, x, sigma), brute_force(images, x, sigma), rtol=0, atol=F32
    )


@pytest.mark.parametrize("count, far", [(16, 100), (17, 0), (60, 100)])
def test_near_ties_are_all_found(count, far):
  """A product in floats is wrong by more than what these distances differ by, and puts them in any order."""
  images, sigma = near_ties(count), np.float32(0.002)
  x = to_float(images.mean(axis=0)) + 2 * sigma * np.random.default_rng(2).normal(size=(16, 32, 32, 3))
  x = x.astype(np.float32)
  if far:
    images = np.concatenate([255 - images[:1].repeat(far, axis=0), images])
  assert way_of(images, x[0], sigma) == (3 if count > 16 else 0)
  want = np.array([brute_force(images, row, sigma) for row in x])
  step = to_float(images[-count:]) - to_float(images[-1:])  # weights are read off the elements that differ
  got = np.asarray(denoise_batch(images, x, sigma), np.float64)
  share = (got - want).reshape(16, -1) @ step.reshape(count, -1).T * 127.5**2
  np.testing.assert_allclose(share, 0, rtol=0, atol=1e-4)  # an element is stored to 1e-7, a level is 8e-3


def test_near_ties_at_one_place_of_their_chunks():
  images, sigma = near_ties(40), np.float32(0.002)
  images[np.arange(40) % 8 > 0] = 255 - images[0]
  x = to_float(images[0]) + 2 * sigma * np.random.default_rng(2).normal(size=(32, 32, 3))
  x = x.astype(np.float32)
  assert way_of(images, x, sigma, chunk=8) == 3
  got, want = multi_delta.denoise(images, x, sigma, chunk=8), brute_force(images, x, sigma)
  np.testing.assert_allclose(got, want, rtol=0, atol=F32)


def test_samples_that_need_different_ways():
  """One that is near a few images, one far from all, one that could have any, in either order."""
  images = np.concatenate([near_duplicates(), close_by(600)])
  x = np.stack([to_float(images[0]), to_float(images[-1]), np.full((32, 32, 3), 3.0)]).astype(np.float32)
  for sigma in np.float32([0.002, 1.0]):
    assert {way_of(images, row, sigma) for row in x} > {0}
    want = np.array([brute_force(images, row, sigma) for row in x])
    for order in ([0, 1, 2], [2, 1, 0]):
      np.testing.assert_allclose(denoise_batch(images, x[order], sigma), want[order], rtol=0, atol=F32)
      each = jax.jit(jax.vmap(multi_delta.denoise, (None, 0, 0)))(images, x[order], np.full(3, sigma))
      np.testing.assert_allclose(each, want[order], rtol=0, atol=F32)


@pytest.mark.parametrize("way", [0, 1, 2, 3])
def test_derivatives_of_every_way(way, x64, x, monkeypatch):
  """J = Cov_w(y) / s^2 and D''[v, v] = E_w[(y - D) ((y - D) . v)^2] / s^4, forward and in reverse."""
  images = images_of(40)
  sigma, (one, two) = SIGMA if way else 0.05, to_float(images[:2])
  x = x if way else 0.501 * one + 0.499 * two
  take(way, x, sigma, monkeypatch)
  assert way_of(images, x, sigma) == way
  weight = weights(images, x, sigma)
  offset = to_float(images).reshape(40, -1) - brute_force(images, x, sigma).ravel()
  jacobian = (weight * offset.T) @ offset / sigma**2
  v = np.random.default_rng(3).normal(size=SHAPE)
  second = (weight * (offset @ v.ravel()) ** 2) @ offset / sigma**4
  assert np.abs(jacobian).max() > 0.1 and np.abs(second).max() > 0.1

  def estimate(x):
    return multi_delta.denoise(images, x, sigma, chunk=32).ravel()

  for derivative in (jax.jacfwd, jax.jacrev):
    got = jax.jit(derivative(estimate))(x).reshape(12, 12)
    np.testing.assert_allclose(got, jacobian, rtol=0, atol=F64 / sigma**2)
  along = lambda f: lambda x: jax.jvp(f, (x,), (v,))[1]  # noqa: E731
  np.testing.assert_allclose(jax.jit(along(along(estimate)))(x), second, rtol=0, atol=F64 / sigma**4)
  back = jax.jit(jax.vmap(lambda x, u: jax.vjp(along(estimate), x)[1](u)[0], (None, 0)))(x, np.eye(12))
  np.testing.assert_allclose(back.reshape(12, 12) @ v.ravel(), second, rtol=0, atol=F64 / sigma**4)


def test_m2_nearest_image_as_sigma_falls(x64, x):
  images = images_of(9)
  squares = np.sum((to_float(images) - x) ** 2, axis=(1, 2, 3))
  nearest = to_float(images)[np.argmin(squares)]
  squares.sort()
  radius = np.sqrt(np.sum((to_float(images) - nearest) ** 2, axis=(1, 2, 3))).max()
  for sigma in [0.5, 0.3, 0.1, 0.01]:
    bound = 8 * np.exp(-(squares[1] - squares[0]) / (2 * sigma**2)) * radius
    assert np.linalg.norm(denoise(images, x, sigma) - nearest) <= bound + F64


def test_m3_one_and_two_images(x64, x):
  one = images_of(1)
  np.testing.assert_allclose(denoise(one, x, SIGMA), to_float(one)[0], rtol=0, atol=F64)
  assert not np.any(jax.jacfwd(partial(multi_delta.denoise, one, sigma=SIGMA))(x))
  two = images_of(2)
  mean, delta = to_float(two).mean(axis=0), (to_float(two)[1] - to_float(two)[0]) / 2
  slope = np.tanh(np.sum(delta * (x - mean)) / SIGMA**2)
  np.testing.assert_allclose(denoise(two, x, SIGMA), mean + delta * slope, rtol=0, atol=F64)


def test_m3_second_derivative(x64):
  """Derivatives of any order: D = m + d tanh(d (x - m) / s^2) in one dimension."""
  two = np.array([100, 160], np.uint8).reshape(2, 1, 1, 1)
  mean, delta = to_float(two).mean(), np.ptp(to_float(two)) / 2
  x, slope = 0.1, delta / SIGMA**2
  tanh = np.tanh(slope * (x - mean))
  scalar = lambda x: multi_delta.denoise(two, x.reshape(1, 1, 1), SIGMA, chunk=1)[0, 0, 0]  # noqa: E731
  np.testing.assert_allclose(jax.grad(scalar)(x * jnp.ones(())), delta * slope * (1 - tanh**2), rtol=F64)
  curvature = jax.jit(jax.grad(jax.grad(scalar)))(x * jnp.ones(()))
  np.testing.assert_allclose(curvature, -2 * delta * slope**2 * tanh * (1 - tanh**2), rtol=F64)


@pytest.mark.parametrize("derivative", [jax.jacfwd, jax.jacrev])
def test_m4_jacobian_is_posterior_covariance(x64, x, derivative):
  images = images_of(9)
  weight, rows = weights(images, x, SIGMA), to_float(images).reshape(9, -1)
  covariance = np.cov(rows.T, aweights=weight, bias=True)
  jacobian = jax.jit(derivative(lambda x: multi_delta.denoise(images, x, SIGMA, chunk=2).ravel()))(x)
  jacobian = np.asarray(jacobian).reshape(12, 12)
  np.testing.assert_allclose(jacobian, covariance / SIGMA**2, rtol=0, atol=F64)
  assert np.linalg.eigvalsh(jacobian).min() > -F64 and np.trace(jacobian) > 0.01


def test_derivative_in_sigma(x64, x):
  """dD/dsigma = Cov_w(y, |x - y|^2) / sigma^3."""
  images = images_of(9)
  weight, square = weights(images, x, SIGMA), np.sum((to_float(images) - x) ** 2, axis=(1, 2, 3))
  want = np.tensordot(weight * (square - weight @ square), to_float(images), 1) / SIGMA**3
  got = jax.jit(jax.jacfwd(lambda sigma: multi_delta.denoise(images, x, sigma, chunk=4)))(SIGMA)
  np.testing.assert_allclose(got, want, rtol=0, atol=F64)


def test_float32_jacobian_between_near_duplicates():
  images, sigma = near_duplicates(), np.float32(0.02)
  x = to_float(images[:1])[0] + sigma * np.random.default_rng(2).normal(size=(32, 32, 3))
  x = x.astype(np.float32)
  step = (to_float(images[64]) - to_float(images[0])).astype(np.float32)
  weight = weights(images, x, sigma)[[0, 64]]
  want = step * weight.prod() * np.sum(step**2) / sigma**2
  _, got = jax.jit(lambda x, v: jax.jvp(lambda x: multi_delta.denoise(images, x, sigma), (x,), (v,)))(x, step)
  np.testing.assert_allclose(got, want, rtol=0, atol=1e-3 * np.abs(want).max())  # y . v in plain float32


def test_m5_score(x64, x):
  images = images_of(9)

  def log_density(x):
    squares = jnp.sum((to_float(images) - x[None]) ** 2, axis=(1, 2, 3))
    return jax.scipy.special.logsumexp(-squares / (2 * SIGMA**2))

  score = (denoise(images, x, SIGMA) - x) / SIGMA**2
  np.testing.assert_allclose(score, jax.jit(jax.grad(log_density))(x), rtol=0, atol=F64 / SIGMA**2)


@pytest.mark.parametrize("symmetric, fixed, moving", [(False, 4, 4), (True, 16, 8)])
def test_m6_far_field_is_gaussian(x64, x, symmetric, fixed, moving):
  images = images_of(9)
  images = np.concatenate([images, 255 - images]) if symmetric else images
  stats = statistics.gaussian_stats(images)

  def gap(x, sigma):
    return np.linalg.norm(denoise(images, x, sigma) - gaussian.denoise(stats, x, sigma))

  ratio = gap(x, 50.0) / gap(x, 100.0)
  np.testing.assert_allclose(ratio, fixed, rtol=0.02)  # next order: 1 / sigma^2 times |y|^2 ~ 4
  z = np.random.default_rng(5).normal(size=SHAPE)
  ratio = gap(stats.mean + 50 * z, 50.0) / gap(stats.mean + 100 * z, 100.0)
  np.testing.assert_allclose(ratio, moving, rtol=0.05)  # next order: 1 / sigma


def test_m7_order_and_multiplicity(x64, x):
  images = images_of(9)
  plain = denoise(images, x, SIGMA)
  shuffled = np.random.default_rng(0).permutation(images)
  np.testing.assert_allclose(denoise(shuffled, x, SIGMA), plain, rtol=0, atol=F64)
  np.testing.assert_allclose(denoise(np.tile(images, (2, 1, 1, 1)), x, SIGMA), plain, rtol=0, atol=F64)
  weight = weights(images, x, SIGMA) * ([1] * 8 + [2])
  want = np.tensordot(weight / weight.sum(), to_float(images), 1)
  np.testing.assert_allclose(denoise(np.concatenate([images, images[-1:]]), x, SIGMA), want, rtol=0, atol=F64)


def test_m8_shift_rotation_scale(x64, x):
  images = np.random.default_rng(0).integers(90, 165, (9, *SHAPE), dtype=np.uint8)
  plain = np.asarray(denoise(images, x, SIGMA))
  shifted = denoise(images + np.uint8(20), x + 20 / 127.5, SIGMA)
  np.testing.assert_allclose(shifted, plain + 20 / 127.5, rtol=0, atol=F64)
  # A signed permutation is the rotation that keeps uint8 images uint8.
  order, flip = np.random.default_rng(1).permutation(12), np.arange(12) % 2 == 0
  turned = images.reshape(9, 12)[:, order]
  turned = np.where(flip, 255 - turned, turned).reshape(images.shape)
  turn = lambda z: (z.ravel()[order] * np.where(flip, -1, 1)).reshape(SHAPE)  # noqa: E731
  np.testing.assert_allclose(denoise(turned, turn(x), SIGMA), turn(plain), rtol=0, atol=F64)
  scaled = (3 * images.astype(int) - 255).astype(np.uint8)
  np.testing.assert_allclose(denoise(scaled, 3 * x, 3 * SIGMA), 3 * plain, rtol=0, atol=F64)


@pytest.mark.parametrize("chunk", [1, 2, 4, 9, 1000])
def test_m9_chunks_do_not_matter(x64, x, chunk):
  images = images_of(9)
  for point, sigma in [(x, SIGMA), (x, 0.02), (to_float(images[:2]).mean(axis=0), 0.02)]:
    want = brute_force(images, point, sigma)
    np.testing.assert_allclose(denoise(images, point, sigma, chunk=chunk), want, rtol=0, atol=F64)


def test_m10_rows_are_independent(x64, x):
  images = images_of(9)
  batch = np.stack([x, 1e4 * x, x + 3, 1e-6 * x])
  rows = denoise_batch(images, batch, SIGMA)
  for row, point in zip(rows, batch, strict=True):
    np.testing.assert_allclose(row, denoise(images, point, SIGMA), rtol=0, atol=F64)


def test_m11_best_affine_fit_depends_on_the_inputs(x64):
  """D_M - D_G is uncorrelated with inputs noised from the training images, and with no others."""
  images = images_of(7)
  stats = statistics.gaussian_stats(images)
  rng = np.random.default_rng(4)

  def largest_moment(clean, count=20_000):
    x0 = to_float(clean[rng.integers(0, len(clean), count)])
    y = x0 + SIGMA * rng.normal(size=x0.shape)
    residual = denoise_batch(images, y, SIGMA) - jax.vmap(gaussian.denoise, (None, 0, None))(stats, y, SIGMA)
    features = np.concatenate([np.ones((count, 1)), y.reshape(count, -1)], axis=1)
    products = np.asarray(residual).reshape(count, -1)[:, :, None] * features[:, None]
    return np.max(
      np.abs(products.mean(axis=0)) / (products.std(axis=0) / np.sqrt(count))
    )  # in standard errors

  assert largest_moment(images) < 5
  assert largest_moment(images_of(40, seed=9)) > 50


def test_m12_ode_lands_on_a_training_image():
  images = images_of(30)
  sigmas = np.append(edm.sigma_grid(40), 0)
  x = 80 * np.random.default_rng(6).normal(size=(16, *SHAPE))
  for now, then in zip(sigmas[:-1], sigmas[1:], strict=True):
    x = x + (then - now) * (x - np.asarray(denoise_batch(images, x, now))) / now
  distances = np.linalg.norm((x[:, None] - to_float(images)).reshape(16, 30, -1), axis=-1)
  nearest, second = np.sort(distances, axis=1)[:, :2].T
  assert nearest.max() < 1e-3
  assert np.mean(nearest / np.linalg.norm(x.reshape(16, -1), axis=1)) < 1e-3  # GL score
  assert np.mean(nearest / second < 1 / 3) == 1  # memorization ratio


def test_m13_information_and_error(x64):
  """dI/dg = mmse / 2 with g = 1/sigma^2 and I = log N - E[H(w)], by quadrature in one dimension."""
  two = np.array([100, 160], np.uint8).reshape(2, 1, 1, 1)
  points = to_float(two).ravel()
  grid = np.linspace(-9, 9, 4001)  # noise in units of sigma

  def information_and_error(g):
    sigma = g**-0.5
    information = error = 0.0
    for point in points:
      y = point + sigma * grid
      estimate = np.asarray(denoise_batch(two, y.reshape(-1, 1, 1, 1), sigma)).ravel()
      share = np.clip((estimate - points[0]) / np.ptp(points), 1e-300, 1)
      entropy = -share * np.log(share) - (1 - share) * np.log1p(-np.minimum(share, 1 - 1e-16))
      density = np.exp(-(grid**2) / 2) / np.sqrt(2 * np.pi) / 2
      information += np.trapezoid(density * (np.log(2) - entropy), grid)
      error += np.trapezoid(density * (estimate - point) ** 2, grid)
    return information, error

  g, step = 1 / SIGMA**2, 1e-3
  slope = (information_and_error(g + step)[0] - information_and_error(g - step)[0]) / (2 * step)
  np.testing.assert_allclose(slope, information_and_error(g)[1] / 2, rtol=1e-7)  # central difference, step^2


def test_m14_smoothed_images(x64, x):
  images, smooth = images_of(9), 0.2
  total = np.hypot(SIGMA, smooth)
  # Mixture of N(y_i, smooth^2 I): responsibilities at the total width, each component shrinks to its centre.
  responsible = weights(images, x, total)
  centres = (smooth**2 * x + SIGMA**2 * to_float(images)) / total**2
  want = np.tensordot(responsible, centres, 1)
  got = (smooth**2 * x + SIGMA**2 * denoise(images, x, total)) / total**2
  np.testing.assert_allclose(got, want, rtol=0, atol=F64)


@pytest.mark.parametrize(
  "images",
  [np.zeros((3, 2, 3, 2), np.float32), np.zeros((3, 12), np.uint8), np.zeros((0, 2, 3, 2), np.uint8)],
)
def test_wrong_images_are_named(images, x):
  with pytest.raises(ValueError, match="`images` are"):
    multi_delta.denoise(images, x, SIGMA)


def test_wrong_sizes_are_named(x):
  with pytest.raises(ValueError, match="`x` has shape"):
    multi_delta.denoise(images_of(3), x[:1], SIGMA)
  with pytest.raises(ValueError, match="`chunk` is 0"):
    multi_delta.denoise(images_of(3), x, SIGMA, chunk=0)
  with pytest.raises(ValueError, match="`images` have 49152 elements"):
    multi_delta.denoise(np.zeros((1, 128, 128, 3), np.uint8), np.zeros((128, 128, 3)), SIGMA)


def test_largest_images_do_not_overflow():
  images = np.zeros((3, 128, 128, 2), np.uint8)
  images[1:] = 255
  images[2, 0, 0] = 254
  x = np.full((128, 128, 2), 1.0, np.float32)
  with jax.disable_jit():  # 64 blocks are slow to compile
    # To the last bit but one: division on a GPU may round the other way.
    np.testing.assert_allclose(multi_delta.denoise(images, x, 0.002), np.ones_like(x), atol=1.2e-7)


def test_jit_vmap_pmap_float32():
  images = images_of(9)
  bound = Partial(multi_delta.denoise, images)
  x = 0.4 * np.random.default_rng(1).normal(size=(8, *SHAPE)).astype(np.float32)
  sigma = np.geomspace(0.002, 80, 8).astype(np.float32)
  want = np.array([brute_force(images, *pair) for pair in zip(x, sigma, strict=True)])
  batch = jax.jit(jax.vmap(lambda denoise, x, sigma: denoise(x, sigma), (None, 0, 0)))(bound, x, sigma)
  assert batch.dtype == np.float32
  np.testing.assert_allclose(batch, want, rtol=0, atol=F32)
  spread = jax.pmap(lambda denoise, x, sigma: denoise(x, sigma), in_axes=(None, 0, 0))(bound, x, sigma)
  np.testing.assert_allclose(spread, want, rtol=0, atol=F32)
