"""Moments of pairs against NumPy float64: summed on the host, and on devices that have float32 alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gauss_diffusion import distill, moments, parallel

D = 24
SIGMA = 0.002
F64 = 1e-12  # sums of a few thousand products in float64, relative to the sum of their sizes
# Vectors are rounded to 2^-29 of a power of two, at most 2^-28 of the largest number; errors of many cancel.
ROUNDED = 2.0**-28


def pairs_of(num, seed=0):
  """Noisy images far from 0 that vary in few directions, and what a denoiser makes of them, as float32."""
  rng = np.random.default_rng(seed)
  clean = -0.6 + 0.3 * rng.normal(size=(num, 3)) @ rng.normal(size=(3, D)) / np.sqrt(3)
  y = (clean + SIGMA * rng.normal(size=clean.shape)).astype(np.float32)
  return y, (np.tanh(y) + 1e-4 * rng.normal(size=y.shape)).astype(np.float32)


def in_blocks(y, d, size=700):
  return [(y[i : i + size], d[i : i + size]) for i in range(0, len(y), size)]


def reference(y, d):
  y, d = np.float64(y), np.float64(d)
  return y - y.mean(0), d - d.mean(0)


def centred(found):
  yy = found.yy - np.outer(found.y, found.y / found.num)
  return yy, found.dy - np.outer(found.d, found.y / found.num)


@pytest.mark.parametrize(("host", "tolerance"), [(True, F64), (False, ROUNDED)])
@pytest.mark.parametrize("num", [5, 2100])  # fewer than devices; several blocks, the last not full
def test_moments_are_numpys(host, tolerance, num):
  y, d = pairs_of(num)
  found = moments.of_pairs(in_blocks(y, d), host=host)
  want_y, want_d = reference(y, d)
  size = np.abs(y).max() ** 2 * num
  for one, other in zip(centred(found), (want_y.T @ want_y, want_d.T @ want_y), strict=True):
    np.testing.assert_allclose(one, other, rtol=0, atol=tolerance * size)
  assert found.num == num
  np.testing.assert_allclose(found.origin_y + found.y / num, np.float64(y).mean(0), rtol=F64)
  spread = found.dd - np.vdot(found.d, found.d) / num
  np.testing.assert_allclose(spread, np.sum(want_d**2), rtol=1e-10)


def test_maps_at_low_noise_are_as_exact_on_devices_as_on_the_host(monkeypatch):
  """Of this map products that float32 rounds leave nothing, so that the comparison can fail."""
  y, d = pairs_of(4096)
  want_y, want_d = reference(y, d)
  want = np.linalg.lstsq(want_y, want_d, rcond=None)[0].T
  assert np.linalg.cond(want_y) ** 2 > 1e5
  of_pairs = moments.of_pairs
  for host, tolerance in ((True, 1e-9), (False, 5e-5)):
    monkeypatch.setattr(moments, "of_pairs", lambda pairs, host=host: of_pairs(pairs, host=host))
    weight, bias, mse = distill.least_squares(in_blocks(y, d))
    assert np.linalg.norm(weight - want) < tolerance * np.linalg.norm(want)
    residual = np.float64(d) - y @ weight.T - bias
    assert mse == pytest.approx(np.mean(residual**2), rel=1e-7)
  naive_yy, naive_dy = (np.float64(a.T @ y - np.outer(a.sum(0), y.sum(0)) / len(y)) for a in (y, d))
  naive = np.linalg.solve(naive_yy, naive_dy.T).T
  assert np.linalg.norm(naive - want) > 0.1 * np.linalg.norm(want)


def test_slices_are_whole_and_add_up():
  x = np.random.default_rng(0).normal(size=(64, D)).astype(np.float32) * np.float32(37.5)
  parts, exponent = moments.slices(jnp.asarray(x))
  assert 2.0 ** (int(exponent) - 1) <= np.abs(x).max() < 2.0 ** int(exponent)
  total = np.zeros(x.shape)
  for i, part in enumerate(np.float64(parts)):
    assert np.array_equal(part, np.round(part)) and np.abs(part).max() <= 2**moments.BITS
    total += part * 2.0 ** (int(exponent) - moments.BITS * (i + 1))
  assert np.abs(total - x).max() <= 2.0 ** (int(exponent) - 29)
  parts, _ = moments.slices(jnp.zeros((3, D)))
  assert not np.any(parts)


def test_products_of_slices_are_exact():
  """The largest that there can be: 1024 rows of 2^7 make 2^24 in every place."""
  full = jnp.full((moments.ROWS, 2), 2.0**moments.BITS)
  assert np.array_equal(moments._product(full, full), np.full((2, 2), 2.0**24))
  low = jnp.full((moments.ROWS, 2), 2.0**moments.BITS - 1)
  assert np.array_equal(moments._product(low, low), np.full((2, 2), 127.0**2 * 1024))


def test_sums_keep_what_float32_would_lose():
  total = (jnp.full((2, 2), 2.0**20), jnp.zeros((2, 2)))
  for _ in range(3):
    total = jax.jit(moments._add)(total, jnp.full((2, 2), 2.0**-12))
  assert np.array_equal(np.float64(total[0]) + np.float64(total[1]), np.full((2, 2), 2.0**20 + 3 * 2.0**-12))


def test_least_squares_are_solved_in_place(monkeypatch):
  """At D = 12,288 each copy would be 1.2 GB."""
  y, d = pairs_of(500)
  kept, of_pairs = [], moments.of_pairs
  monkeypatch.setattr(moments, "of_pairs", lambda pairs: kept.append(of_pairs(pairs)) or kept[0])
  weight, _, _ = distill.least_squares(in_blocks(y, d))
  assert np.shares_memory(weight, kept[0].dy)


def test_the_sum_over_processes_of_one_is_itself(monkeypatch):
  monkeypatch.setattr(parallel, "TOTALLED", 7)
  array = np.random.default_rng(0).normal(size=(5, 4)) * 2.0 ** np.arange(-40, 40, 20)
  np.testing.assert_array_equal(parallel.total(array.copy()), array)
  assert parallel.own_rows(11) == slice(0, 11)
