"""Mixture denoiser (M14, M15) and expectation-maximisation, against dense NumPy float64."""

import tracemalloc

import jax
import numpy as np
import pytest
from jax.tree_util import Partial

from gauss_diffusion import statistics
from gauss_diffusion.denoisers import family, gaussian, kernel, mixture, multi_delta
from gauss_diffusion.denoisers.mixture import Mixture

F64 = 1e-10  # relative, of densities of a dozen dimensions
F32 = 1e-5  # on a scale of 1, for the same in float32
EVEN = 1.5e-6  # on a scale of 1, of an estimate in float32 and of weights of a half
ROUNDING = 1e-9  # nats, of likelihoods of thousands of nats

SHAPE = (2, 3, 2)
D = 12
SIGMA = 0.3
DEFAULTS = family.defaults(mixture.FAMILY)
SIGMAS = (1e-4, 0.002, SIGMA, 5.0, 80.0, 1e4)
denoise = jax.jit(mixture.denoise)


def images_of(count, seed=0, shape=SHAPE, groups=3):
  """Draw images in groups, each about a centre and along directions of its own."""
  rng, size = np.random.default_rng(seed), int(np.prod(shape))
  law = np.random.default_rng(99)
  centres, scales = (
    law.uniform(60, 190, (groups, size)),
    law.normal(size=(groups, size, size)) * 20 / size**0.5,
  )
  group = np.arange(count) % groups
  rows = centres[group] + np.einsum("nij,nj->ni", scales[group], rng.normal(size=(count, size)))
  return np.clip(np.round(rows), 0, 255).astype(np.uint8).reshape(count, *shape)


def rows_of(images):
  return images.reshape(len(images), -1) / 127.5 - 1


def fit(images, **options):
  return mixture.fit(images, **(DEFAULTS | options))


def random_mixture(components=4, rank=5, shape=SHAPE, seed=0, scale=0.3):
  rng, size = np.random.default_rng(seed), int(np.prod(shape))
  basis = np.linalg.qr(rng.normal(size=(components, size, rank)))[0]
  values = np.sort(scale**2 * np.exp(rng.normal(size=(components, rank))))[:, ::-1]
  weights, means = rng.dirichlet(np.ones(components)), scale * rng.normal(size=(components, *shape))
  return Mixture(weights, means, basis, values, 0.1 * values[:, -1])


def covariances(record):
  size = record.basis.shape[1]
  return [
    basis * values @ basis.T + rest * (np.eye(size) - basis @ basis.T)
    for basis, values, rest in zip(*record[2:], strict=True)
  ]


def log_densities(record, rows, sigma):
  """Return ``log π_k + log N(row; μ_k, Σ_k + σ² I)``, [n, K]."""
  found, size = [], rows.shape[1]
  for weight, mean, covariance in zip(record.weights, record.means, covariances(record), strict=True):
    noisy = covariance + sigma**2 * np.eye(size)
    offset = rows - mean.ravel()
    square = np.sum(offset * np.linalg.solve(noisy, offset.T).T, axis=1)
    found.append(np.log(weight) - (square + np.linalg.slogdet(noisy)[1] + size * np.log(2 * np.pi)) / 2)
  return np.stack(found, axis=1)


def posterior_mean(record, x, sigma):
  joint = log_densities(record, x.reshape(1, -1), sigma)[0]
  shares, estimates = np.exp(joint - joint.max()), []
  for mean, covariance in zip(record.means, covariances(record), strict=True):
    noisy = covariance + sigma**2 * np.eye(x.size)
    estimates.append(mean.ravel() + covariance @ np.linalg.solve(noisy, x.ravel() - mean.ravel()))
  return (shares @ np.stack(estimates) / shares.sum()).reshape(x.shape)


def sample(record, sigma, seed=1):
  """Draw a noisy sample of the mixture's first component."""
  rng = np.random.default_rng(seed)
  x0 = rng.multivariate_normal(record.means[0].ravel(), covariances(record)[0]).reshape(record.means[0].shape)
  return x0 + sigma * rng.normal(size=x0.shape)


def test_memory_grows_by_a_few_numbers_an_image(monkeypatch, tmp_path):
  monkeypatch.setattr(mixture, "CHUNK", 2**14)
  options = {"components": 3, "rank": 2, "floor": 0.01, "iterations": 2, "seed": 0}
  peaks, found = [], []
  for count in (2000, 8000):
    np.save(tmp_path / "images.npy", images_of(count, shape=(8, 8, 1)))
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    tracemalloc.start()
    found.append(mixture.fit(mapped, **options))
    peaks.append(tracemalloc.get_traced_memory()[1])
    tracemalloc.stop()
  assert (
    peaks[1] < peaks[0] + 6000 * 8 * 6 < peaks[0] + mapped.nbytes
  )  # distances, probabilities and their sums
  for one, other in zip(found[1], mixture.fit(np.array(mapped), **options), strict=True):
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("rank", [1, 5, D])
@pytest.mark.parametrize("sigma", SIGMAS)
def test_posterior_mean(x64, rank, sigma):
  record = random_mixture(rank=rank)
  for seed in range(3):
    x = sample(record, sigma, seed)
    want = posterior_mean(record, x, sigma)
    np.testing.assert_allclose(denoise(record, x, sigma), want, rtol=0, atol=1e-9 * max(1, sigma))


def test_the_score_is_the_gradient_of_the_log_density(x64):
  record = random_mixture()
  x, step = sample(record, SIGMA), 1e-5
  score = (np.asarray(denoise(record, x, SIGMA)) - x).ravel() / SIGMA**2
  around = x.ravel() + step * np.concatenate([np.eye(D), -np.eye(D)])
  density = np.logaddexp.reduce(log_densities(record, around, SIGMA), axis=1)
  np.testing.assert_allclose(score, (density[:D] - density[D:]) / (2 * step), rtol=0, atol=1e-7)


def test_one_component_is_the_gaussian(x64):
  for count in (50, 5):
    images = images_of(count)
    record, x = fit(images, components=1, floor=1e-6), np.random.default_rng(1).normal(size=SHAPE)
    for sigma in (0.01, SIGMA, 80.0):
      want = gaussian.denoise(statistics.gaussian_stats(images), x, sigma)
      np.testing.assert_allclose(denoise(record, x, sigma), want, rtol=0, atol=1e-7)  # (floor / σ)² · |x − μ|


def test_components_without_variance_are_the_memorizer_of_their_means(x64):
  images = images_of(6)
  zero = np.zeros((6, D))
  record = Mixture(
    np.full(6, 1 / 6), rows_of(images).reshape(-1, *SHAPE), np.tile(np.eye(D), (6, 1, 1)), zero, zero[:, 0]
  )
  for sigma in (0.01, 0.1, SIGMA, 5.0, 80.0):
    x = rows_of(images)[0].reshape(SHAPE) + sigma * np.random.default_rng(1).normal(size=SHAPE)
    want = multi_delta.denoise(images, x, sigma)
    np.testing.assert_allclose(denoise(record, x, sigma), want, rtol=0, atol=1e-9)


def test_as_many_components_as_images_are_the_kernel(x64):
  images, bandwidth = images_of(9), 0.05
  record = fit(images, components=9, floor=bandwidth)
  np.testing.assert_allclose(record.weights, 1 / 9, rtol=F64)
  for sigma in (0.01, SIGMA, 5.0):
    x = rows_of(images)[0].reshape(SHAPE) + sigma * np.random.default_rng(1).normal(size=SHAPE)
    want = kernel.denoise(kernel.fit(images, bandwidth=bandwidth), x, sigma)
    np.testing.assert_allclose(denoise(record, x, sigma), want, rtol=0, atol=1e-9)


@pytest.mark.parametrize("rank", [0, 1, 4])
@pytest.mark.parametrize("components", [1, 3, 7])
def test_the_likelihood_never_falls(components, rank):
  images, found = images_of(200), []
  for iterations in (1, 2, 3, 5, 10, 20):
    record = fit(images, components=components, rank=rank, iterations=iterations, floor=0.01)
    found.append(mixture.log_likelihood(record, images))
  assert np.all(np.diff(found) > -ROUNDING)
  want = np.logaddexp.reduce(log_densities(record, rows_of(images), 0.0), axis=1).mean()
  np.testing.assert_allclose(found[-1], want, rtol=F64)


def test_it_ends_where_nothing_is_won():
  images = images_of(200)
  done = fit(images, components=3, iterations=10**6)
  more = mixture._likeliest(done, mixture._expected(done, images.reshape(200, -1)), DEFAULTS["floor"] ** 2)
  won = mixture.log_likelihood(more, images) - mixture.log_likelihood(done, images)
  assert -ROUNDING < won < mixture.TOLERANCE * D
  np.testing.assert_allclose(done.weights @ done.means.reshape(3, -1), rows_of(images).mean(0), rtol=1e-9)


def test_it_finds_the_groups():
  images = images_of(900)
  found = max(
    (fit(images, components=3, seed=seed) for seed in range(4)),
    key=lambda record: mixture.log_likelihood(record, images),
  )
  rows = rows_of(images)
  for group in range(3):
    members = rows[group::3]
    nearest = np.argmin(np.sum((found.means.reshape(3, -1) - members.mean(0)) ** 2, axis=1))
    np.testing.assert_allclose(found.means[nearest].ravel(), members.mean(0), atol=0.02)
    np.testing.assert_allclose(covariances(found)[nearest], np.cov(members.T, bias=True), atol=0.01)


def test_an_iteration_of_low_rank_is_the_likeliest():
  """No other direction, variance, mean or weight has a larger expected log-likelihood."""
  images, rng = images_of(200), np.random.default_rng(3)
  rows, before = rows_of(images), fit(images, components=2, rank=3, iterations=2)
  after = mixture._likeliest(before, mixture._expected(before, images.reshape(200, -1)), 1e-12)
  joint = log_densities(before, rows, 0.0)
  shares = np.exp(joint - np.logaddexp.reduce(joint, axis=1)[:, None])

  def expected(record):
    return np.mean(np.sum(shares * log_densities(record, rows, 0.0), axis=1))

  best = expected(after)
  for _ in range(5):
    tilt = np.exp(0.1 * rng.normal(size=2))
    others = (
      after._replace(weights=after.weights * tilt / np.sum(after.weights * tilt)),
      after._replace(means=after.means + 0.01 * rng.normal(size=after.means.shape)),
      after._replace(basis=np.linalg.qr(after.basis + 0.05 * rng.normal(size=after.basis.shape))[0]),
      after._replace(eigenvalues=after.eigenvalues * np.exp(0.1 * rng.normal(size=(2, 3)))),
      after._replace(rest=after.rest * tilt),
    )
    assert all(expected(other) < best for other in others)


def test_images_that_repeat_leave_components_at_the_floor():
  images = np.repeat(images_of(2), 5, axis=0)
  record = fit(images, components=4, floor=0.01)
  assert np.isfinite(mixture.log_likelihood(record, images))
  assert record.weights.sum() == pytest.approx(1) and np.all(record.weights >= 0)
  np.testing.assert_allclose(record.eigenvalues, 1e-4, rtol=F64)
  got = mixture.denoise(record, rows_of(images)[0].reshape(SHAPE), SIGMA)
  assert np.isfinite(got).all()


def test_a_component_without_images_keeps_its_place_and_says_nothing(x64):
  images = images_of(50)
  record = fit(images, components=2, iterations=1)
  far = record._replace(means=np.stack([record.means[0], record.means[1] + 1e3]))
  after = mixture._likeliest(far, mixture._expected(far, images.reshape(50, -1)), 1e-6)
  assert after.weights.tolist() == [1, 0]
  np.testing.assert_array_equal(after.means[1], far.means[1])
  alone = Mixture(*(np.asarray(leaf)[:1] for leaf in after))
  x = np.random.default_rng(1).normal(size=SHAPE)
  np.testing.assert_allclose(denoise(after, x, SIGMA), denoise(alone, x, SIGMA), rtol=0, atol=F64)
  assert np.isfinite(jax.jacrev(lambda x: mixture.denoise(after, x, SIGMA))(x)).all()


def test_streaming_does_not_matter(monkeypatch):
  images = images_of(50)
  whole = fit(images, components=3)
  monkeypatch.setattr(mixture, "CHUNK", 7 * D)
  again = fit(images, components=3)
  np.testing.assert_allclose(again.means, whole.means, rtol=0, atol=1e-8)
  value = mixture.log_likelihood(whole, images)
  np.testing.assert_allclose(mixture.log_likelihood(again, images), value, rtol=F64)


def test_the_seed_is_all_that_is_drawn():
  images = images_of(60, groups=6)
  one, same, other = (fit(images, components=4, seed=seed, iterations=1) for seed in (0, 0, 1))
  np.testing.assert_array_equal(one.means, same.means)
  assert (one.means != other.means).any()


def test_more_components_than_images_are_refused():
  with pytest.raises(ValueError, match="^`components` is 10; want at most the 9 images"):
    fit(images_of(9))
  with pytest.raises(ValueError, match="^`denoisers.mixture.components` is 10; want at most the 9 images"):
    family.check_images("mixture", mixture.FAMILY, SHAPE, 9, DEFAULTS)
  family.check_images("mixture", mixture.FAMILY, SHAPE, 10, DEFAULTS)


def test_wrong_shape_is_named():
  with pytest.raises(ValueError, match="`x` has shape"):
    mixture.denoise(random_mixture(), np.zeros((3, 2, 2)), SIGMA)


@pytest.mark.parametrize("rank", [12, 192])
def test_float32_at_any_noise(rank):
  """Narrow components in many dimensions, where a component's density is a sum of large numbers."""
  record = random_mixture(components=3, rank=rank, shape=(8, 8, 3))
  record = record._replace(means=record.means[:1] + 0.003 * record.means, rest=np.full(3, 5e-6))
  for sigma in SIGMAS:
    x = sample(record, sigma).astype(np.float32)
    want = posterior_mean(record, x.astype(np.float64), np.float64(np.float32(sigma)))
    got = denoise(record, x, np.float32(sigma))
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, want, rtol=0, atol=F32, err_msg=f"{sigma}")


@pytest.mark.parametrize(
  ("sigma", "apart", "rest"),
  [
    (80.0, 0.3, (5e-6, 1e-2)),
    (5.0, 0.3, (5e-6, 1e-2)),
    (5.0, 0.003, (5e-6, 7e-6)),
    (0.002, 1e-4, (5e-6, 5.002e-6)),
  ],
)
def test_float32_where_components_compete(sigma, apart, rest):
  """Two components, weighted so that both are as likely: what they share must not be rounded."""
  rng, shape, rank = np.random.default_rng(0), (32, 32, 3), 8
  basis = np.linalg.qr(rng.normal(size=(2, 3072, rank)))[0]
  values = np.sort(np.exp(rng.uniform(np.log(1e-3), np.log(100), (2, rank))))[:, ::-1]
  if sigma < 1:  # components that could compete are nearly the same
    basis, values = np.stack([basis[0]] * 2), np.stack([values[0]] * 2)
  means = 0.5 * rng.normal(size=shape) + apart * rng.normal(size=(2, *shape))
  x = means[0] + (basis[0] @ (np.sqrt(values[0]) * rng.normal(size=rank))).reshape(shape)
  x = (x + np.sqrt(rest[0] + sigma**2) * rng.normal(size=shape)).astype(np.float32)
  variance, densities, estimates = np.float64(np.float32(sigma)) ** 2, [], []
  for k in range(2):
    offset = (x - means[k]).ravel()
    modes = basis[k].T @ offset
    others = offset - basis[k] @ modes
    square = np.sum(modes**2 / (values[k] + variance)) + others @ others / (rest[k] + variance)
    volume = np.log(values[k] + variance).sum() + (3072 - rank) * np.log(rest[k] + variance)
    densities.append(-(square + volume) / 2)
    gain = values[k] / (values[k] + variance)
    estimates.append(means[k].ravel() + basis[k] @ (gain * modes) + rest[k] / (rest[k] + variance) * others)
  odds = densities[0] - densities[1]
  assert abs(odds) < 30
  weights = np.array([1, np.exp(odds)]) / (1 + np.exp(odds))
  got = denoise(Mixture(weights, means, basis, values, np.array(rest)), x, np.float32(sigma))
  want = np.mean(estimates, axis=0).reshape(shape)
  np.testing.assert_allclose(got, want, rtol=0, atol=EVEN)


def test_jit_vmap_pmap():
  record, sigma = random_mixture(), np.geomspace(0.002, 80, 8)
  x = np.stack([sample(record, level, seed) for seed, level in enumerate(sigma)]).astype(np.float32)
  want = [posterior_mean(record, *each) for each in zip(x.astype(np.float64), sigma)]
  bound, sigma = Partial(mixture.denoise, record), sigma.astype(np.float32)
  for mapped in (jax.vmap, jax.pmap):
    got = mapped(lambda denoise, x, sigma: denoise(x, sigma), in_axes=(None, 0, 0))(bound, x, sigma)
    np.testing.assert_allclose(got, want, rtol=0, atol=F32)
