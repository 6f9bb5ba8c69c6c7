"""PPCA and the shrunk Gaussian against dense NumPy float64, scikit-learn and other choices' likelihoods."""

import jax
import numpy as np
import pytest
from jax.tree_util import Partial
from sklearn.covariance import ledoit_wolf
from sklearn.datasets import load_digits

from gauss_diffusion import statistics
from gauss_diffusion.denoisers import gaussian, spiked
from gauss_diffusion.denoisers.spiked import Spiked

F64 = 1e-10  # relative, for chains of small float64 matmuls
F32 = 1e-5  # relative, for the same in float32

SHAPE = (2, 3, 2)
D = 12
SIGMA = 0.3


def images_of(count, seed=0):
  """Draw images whose pixels depend on each other."""
  rng = np.random.default_rng(seed)
  mixed = rng.normal(size=(count, D)) @ np.random.default_rng(9).normal(size=(D, D))
  return np.clip(128 + 25 * mixed, 0, 255).astype(np.uint8).reshape(count, *SHAPE)


def rows_of(images):
  return images.reshape(len(images), -1) / 127.5 - 1


def dense(record):
  outside = np.eye(D) - record.basis @ record.basis.T
  return record.basis * record.eigenvalues @ record.basis.T + record.rest * outside


def posterior_mean(mean, covariance, x, sigma):
  weight = covariance @ np.linalg.inv(covariance + sigma**2 * np.eye(len(covariance)))
  return (mean + weight @ (x.ravel() - mean)).reshape(x.shape)


def likelihood(rows, covariance):
  """Return the mean log-density of rows under their mean and a covariance, but for a constant."""
  centred = rows - rows.mean(0)
  return -np.linalg.slogdet(covariance)[1] - np.mean(np.sum(centred @ np.linalg.inv(covariance) * centred, 1))


@pytest.fixture
def x():
  return np.random.default_rng(1).normal(size=SHAPE)


@pytest.mark.parametrize("sigma", [0.002, SIGMA, 80.0])
@pytest.mark.parametrize("rest", [0.0, 1e-6, 0.2])
def test_closed_form(x64, x, sigma, rest):
  stats = statistics.gaussian_stats(images_of(50))
  record = Spiked(stats.mean, stats.basis[:, :4], stats.eigenvalues[:4], np.float64(rest))
  want = posterior_mean(stats.mean.ravel(), dense(record), x, sigma)
  np.testing.assert_allclose(jax.jit(spiked.denoise)(record, x, sigma), want, rtol=F64, atol=F64)


def test_without_a_rest_it_is_the_gaussian(x64, x):
  stats = statistics.gaussian_stats(images_of(5))
  got = spiked.denoise(Spiked(*stats, np.float64(0)), x, SIGMA)
  np.testing.assert_allclose(got, gaussian.denoise(stats, x, SIGMA), rtol=F64)


@pytest.mark.parametrize("rank", [0, 1, 4, 11])
def test_ppca_is_the_likeliest_of_its_rank(rank):
  images = images_of(50)
  record, rows = spiked.fit_ppca(images, rank=rank), rows_of(images)
  values = np.linalg.eigvalsh(np.cov(rows.T, bias=True))[::-1]
  np.testing.assert_allclose(record.eigenvalues, values[:rank], rtol=F64)
  np.testing.assert_allclose(record.rest, values[rank:].mean(), rtol=F64)
  best, rng = likelihood(rows, dense(record)), np.random.default_rng(2)
  for rest in (0.9, 1.1):
    assert likelihood(rows, dense(record._replace(rest=rest * record.rest))) < best
  for _ in range(5 if rank else 0):
    turned = np.linalg.qr(record.basis + 0.05 * rng.normal(size=record.basis.shape))[0]
    assert likelihood(rows, dense(record._replace(basis=turned))) < best
    other = record._replace(eigenvalues=record.eigenvalues * np.exp(0.1 * rng.normal(size=rank)))
    assert likelihood(rows, dense(other)) < best


def test_ppca_of_few_images_counts_the_directions_in_which_they_do_not_vary():
  images = images_of(5)
  values = np.linalg.eigvalsh(np.cov(rows_of(images).T, bias=True))[::-1]
  np.testing.assert_allclose(spiked.fit_ppca(images, rank=2).rest, values[2:].sum() / (D - 2), rtol=1e-9)
  for rank in (4, D, 10**9):
    assert spiked.fit_ppca(images, rank=rank).rest == 0


@pytest.mark.parametrize("count", [2, 5, 50, 3000])
def test_shrinkage_is_ledoit_and_wolfs(count):
  images = images_of(count)
  record = spiked.fit_shrunk(images)
  covariance, share = ledoit_wolf(rows_of(images))
  np.testing.assert_allclose(spiked.intensity(images, statistics.gaussian_stats(images)), share, rtol=1e-9)
  np.testing.assert_allclose(dense(record), covariance, rtol=0, atol=F64)


def test_shrinkage_of_digits():
  digits = np.round(load_digits().images * (255 / 16)).astype(np.uint8)[:200, ..., None]
  share = spiked.intensity(digits, statistics.gaussian_stats(digits))
  np.testing.assert_allclose(share, ledoit_wolf(rows_of(digits))[1], rtol=1e-9)


def test_shrinkage_falls_with_the_images_and_helps_on_average():
  law = images_of(40_000, seed=5)
  truth = np.cov(rows_of(law).T, bias=True)
  for count in (8, 80):
    sets = [law[start : start + count] for start in range(0, 60 * count, count)]
    shrunk = [np.sum((dense(spiked.fit_shrunk(few)) - truth) ** 2) for few in sets]
    plain = [np.sum((np.cov(rows_of(few).T, bias=True) - truth) ** 2) for few in sets]
    gain = np.subtract(plain, shrunk)
    assert gain.mean() > 3 * gain.std() / np.sqrt(len(sets))
  few, many = (spiked.intensity(each, statistics.gaussian_stats(each)) for each in (law[:4000], law))
  np.testing.assert_allclose(few / many, 10, rtol=0.05)  # as 1/N, of moments that 4000 images give to 2 %


def test_covariances_with_nothing_to_shrink():
  one = spiked.fit_shrunk(images_of(1))
  assert one.rest == 0 and not len(one.eigenvalues)
  corners = np.array([[64, 64], [64, 192], [192, 64], [192, 192]], np.uint8).reshape(4, 1, 2, 1)
  flat = spiked.fit_shrunk(corners)
  np.testing.assert_allclose(flat.eigenvalues, flat.rest, rtol=F64)


def test_streaming_does_not_matter(monkeypatch):
  images = images_of(50)
  stats = statistics.gaussian_stats(images)
  whole = spiked.intensity(images, stats)
  monkeypatch.setattr(spiked, "CHUNK", 7)
  np.testing.assert_allclose(spiked.intensity(images, stats), whole, rtol=F64)


def test_wrong_shape_is_named(x):
  with pytest.raises(ValueError, match="`x` has shape"):
    spiked.denoise(spiked.fit_shrunk(images_of(5)), x[:1], SIGMA)


def test_jit_vmap_pmap_float32():
  record = spiked.fit_ppca(images_of(50), rank=3)
  bound, x = Partial(spiked.denoise, record), np.random.default_rng(1).normal(size=(8, *SHAPE))
  sigma = np.geomspace(0.002, 80, 8)
  want = [posterior_mean(record.mean.ravel(), dense(record), *each) for each in zip(x, sigma)]
  x, sigma = x.astype(np.float32), sigma.astype(np.float32)
  for mapped in (jax.vmap, jax.pmap):
    got = mapped(lambda denoise, x, sigma: denoise(x, sigma), in_axes=(None, 0, 0))(bound, x, sigma)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, want, rtol=0, atol=F32)
