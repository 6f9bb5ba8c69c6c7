"""Local denoisers: invariants L1-L7 and float32, against brute force over patches in NumPy float64."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from gauss_diffusion.denoisers import FAMILIES, family, multi_delta
from gauss_diffusion.denoisers.local import score_machines, windows
from gauss_diffusion.denoisers.local.score_machines import BORDERS, ELS, LS, Local
from gauss_diffusion.denoisers.local.windows import Windows

F64 = 1e-10  # logits of order 100 at float64 rounding, with margin
F32 = 2e-6  # a weighted mean in float32: rounding of the weights' exponents and of the sum, on a scale of 2

SHAPE = (6, 5, 2)
SIGMA = 0.3
POOLS = {"ls": LS, "els": ELS, "els_borders": BORDERS}
denoise = jax.jit(score_machines.denoise, static_argnames=("pool", "chunk"))
memorizer = jax.jit(multi_delta.denoise)


def images_of(count, shape=SHAPE, seed=0):
  return np.random.default_rng(seed).integers(60, 196, (count, *shape), dtype=np.uint8)


def to_float(images):
  return images / 127.5 - 1


def constant(images, window):
  return Local(images, Windows((0.0,), (window,)))


@pytest.fixture
def x():
  return 0.4 * np.random.default_rng(1).normal(size=SHAPE)


def extent(place, length, reach):
  """Return how far a window reaches on an axis before the border cuts it: pixels before, pixels after."""
  return min(place, reach), min(length - 1 - place, reach)


def brute_force(images, x, sigma, window, pool):
  """Return the posterior mean of every pixel, patch by patch."""
  y, (height, width, _), reach = to_float(images), x.shape, window // 2
  rows, columns = range(height), range(width)
  out = np.empty_like(x)

  def around(image, row, column):
    for axis, place in enumerate((row, column)):
      line = np.arange(place - reach, place + reach + 1)
      if pool != ELS:  # nothing is beyond the border
        line = line[(line >= 0) & (line < image.shape[axis])]
      image = np.take(image, line, axis, mode="wrap")
    return image

  def comparable(row, column):
    for i in rows:
      for j in columns:
        if pool == LS:
          fits = (i, j) == (row, column)
        elif pool == ELS:
          fits = reach <= i < height - reach and reach <= j < width - reach
        else:
          fits = extent(i, height, reach) == extent(row, height, reach)
          fits &= extent(j, width, reach) == extent(column, width, reach)
        if fits:
          yield i, j

  for row in rows:
    for column in columns:
      mine = around(x, row, column)
      squares, middles = [], []
      for i, j in comparable(row, column):
        for image in y:
          squares.append(np.sum((mine - around(image, i, j)) ** 2))
          middles.append(image[i, j])
      weight = np.exp(-(np.array(squares) - min(squares)) / (2 * np.float64(sigma) ** 2))
      out[row, column] = weight @ np.array(middles) / weight.sum()
  return out


@pytest.mark.parametrize("name", POOLS)
@pytest.mark.parametrize("window", [1, 3, 5])
@pytest.mark.parametrize("sigma", [0.002, SIGMA, 80.0])
def test_posterior_of_every_pixel(x64, x, name, window, sigma):
  images = images_of(4)
  got = denoise(constant(images, window), x, sigma, pool=POOLS[name])
  want = brute_force(images, x, sigma, window, POOLS[name])
  np.testing.assert_allclose(got, want, rtol=0, atol=F64)


def test_l1_a_window_of_all_is_the_memorizer(x64, x):
  images = images_of(9)
  want = memorizer(images, x, SIGMA)
  np.testing.assert_allclose(denoise(constant(images, 11), x, SIGMA, pool=LS), want, rtol=0, atol=F64)
  shorter = denoise(constant(images, 9), x, SIGMA, pool=LS)
  assert np.abs(shorter - want).max() > 1e-3  # 9 rows about the first one leave out the sixth


def test_l2_a_window_of_one_pixel_knows_nothing_else(x64, x):
  images = images_of(9)
  got = denoise(constant(images, 1), x, SIGMA, pool=LS)
  alone = np.array(
    [
      [memorizer(images[:, i : i + 1, j : j + 1], x[i : i + 1, j : j + 1], SIGMA)[0, 0] for j in range(5)]
      for i in range(6)
    ]
  )
  np.testing.assert_allclose(got, alone, rtol=0, atol=F64)


def test_l3_equivariance(x64, x):
  images = images_of(5)
  roll = partial(np.roll, shift=(2, -1), axis=(0, 1))
  rolled = {}
  for name, pool in POOLS.items():
    machine = partial(denoise, constant(images, 3), sigma=SIGMA, pool=pool)
    rolled[name] = np.abs(machine(roll(x)) - roll(np.asarray(machine(x)))).max()
  assert rolled["els"] < F64
  assert rolled["ls"] > 0.01 and rolled["els_borders"] > 0.01
  mirrored = np.concatenate([images, images[:, :, ::-1]])  # so are other symmetries of the training images
  machine = partial(denoise, constant(mirrored, 3), sigma=SIGMA, pool=BORDERS)
  np.testing.assert_allclose(machine(x[:, ::-1]), machine(x)[:, ::-1], rtol=0, atol=F64)


def test_l4_full_windows_on_a_torus_are_the_memorizer_of_the_orbit(x64):
  """Training images that wrap, so tiled that every window of theirs lies inside: ES, exactly."""
  images = images_of(3, (5, 5, 1))
  x = 0.4 * np.random.default_rng(1).normal(size=(5, 5, 1))
  orbit = np.concatenate([np.roll(images, (i, j), (1, 2)) for i in range(5) for j in range(5)])
  want = memorizer(orbit, x, SIGMA)
  # Each member of the orbit has one window of 5 x 5, in the middle, whose middle is any pixel in turn.
  np.testing.assert_allclose(denoise(constant(orbit, 5), x, SIGMA, pool=ELS), want, rtol=0, atol=F64)


@pytest.mark.parametrize("derivative", [jax.jacfwd, jax.jacrev])
@pytest.mark.parametrize("name", POOLS)
def test_l5_nothing_outside_the_window_matters(x64, x, name, derivative):
  machine = jax.jit(
    derivative(lambda x: score_machines.denoise(constant(images, 3), x, SIGMA, pool=POOLS[name], chunk=2))
  )
  images = images_of(5)
  jacobian = np.asarray(machine(x))
  rows, columns = (np.abs(np.subtract.outer(np.arange(n), np.arange(n))) for n in SHAPE[:2])
  if name == "els":
    rows, columns = np.minimum(rows, 6 - rows), np.minimum(columns, 5 - columns)
  seen = (rows <= 1)[:, None, None, :, None, None] & (columns <= 1)[None, :, None, None, :, None]
  seen = np.broadcast_to(seen, jacobian.shape)
  assert not np.any(jacobian[~seen])
  assert np.all(jacobian[seen] != 0)
  step, v = 1e-5, np.random.default_rng(2).normal(size=SHAPE)
  ahead, behind = (denoise(constant(images, 3), x + s * v, SIGMA, pool=POOLS[name]) for s in (step, -step))
  np.testing.assert_allclose(np.sum(jacobian * v, axis=(3, 4, 5)), (ahead - behind) / (2 * step), atol=1e-7)


@pytest.mark.parametrize("name", POOLS)
@pytest.mark.parametrize("chunk", [1, 3, 100])
def test_m9_chunks_do_not_matter(x64, x, name, chunk):
  """Unequal last chunks too: a published implementation averages its chunks' means."""
  images = images_of(7)
  for sigma in (SIGMA, 0.01):
    want = brute_force(images, x, sigma, 3, POOLS[name])
    got = denoise(constant(images, 3), x, sigma, pool=POOLS[name], chunk=chunk)
    np.testing.assert_allclose(got, want, rtol=0, atol=F64)


@pytest.mark.parametrize("name", POOLS)
def test_m10_rows_are_independent(x64, x, name):
  """Hugely different ones too: a published implementation shares one maximum among them."""
  machine = partial(score_machines.denoise, constant(images_of(5), 3), pool=POOLS[name])
  batch = np.stack([x, 1e4 * x, x + 3, 1e-6 * x])
  rows = jax.jit(jax.vmap(machine, (0, None)))(batch, 0.05)
  for row, point in zip(rows, batch, strict=True):
    np.testing.assert_allclose(row, jax.jit(machine)(point, 0.05), rtol=0, atol=F64)


@pytest.mark.parametrize("name", POOLS)
@pytest.mark.parametrize("sigma", [1e-4, 0.02, 4.0])
def test_float32_is_right_between_near_duplicates(name, sigma):
  """Twins that differ by one level in a few pixels, and a sample of neither: gaps far below the distances."""
  rng, shape, sigma = np.random.default_rng(0), (8, 8, 3), np.float32(sigma)
  images = rng.integers(1, 255, (6, *shape), dtype=np.uint8)
  twins = images + (rng.random(images.shape) < 0.1).astype(np.uint8)
  images = np.concatenate([images, twins])
  for base in (images[0], 255 - images[0]):
    x = (to_float(base) + sigma * rng.normal(size=shape)).astype(np.float32)
    for window in (3, 7):
      got = denoise(constant(images, window), x, sigma, pool=POOLS[name])
      assert got.dtype == np.float32
      want = brute_force(images, x.astype(np.float64), sigma, window, POOLS[name])
      np.testing.assert_allclose(got, want, rtol=0, atol=F32)


@pytest.mark.parametrize("sigma", [0.002, 0.02, 4.0])
def test_float32_is_right_where_a_window_has_more_values_than_a_product_is_exact_for(sigma):
  """Levels as far apart as they can be, 675 of them: the whole part of a product exceeds 2^24."""
  rng, shape, sigma = np.random.default_rng(0), (15, 15, 3), np.float32(sigma)
  images = rng.choice(np.array([0, 1, 254, 255], np.uint8), (3, *shape))
  images = np.concatenate([images, images ^ (rng.random(images.shape) < 0.02).astype(np.uint8)])
  x = (to_float(images[0]) + sigma * rng.normal(size=shape)).astype(np.float32)
  for name in ("els", "els_borders"):
    got = denoise(constant(images, 15), x, sigma, pool=POOLS[name])
    want = brute_force(images, x.astype(np.float64), sigma, 15, POOLS[name])
    np.testing.assert_allclose(got, want, rtol=0, atol=F32)


@pytest.mark.parametrize("name", POOLS)
def test_a_much_nearer_window_comes_late(name):
  """Each image is ten times nearer than the one before: what was seen first must not set the scale."""
  shape, sigma = (6, 6, 1), np.float32(0.01)
  x = np.full(shape, 60.5 / 127.5, np.float32)
  away = np.array([-180, 67, -18, 9, 2, -1], np.int16)
  images = (188 + away[:, None, None, None] + np.zeros(shape, np.int16)).astype(np.uint8)
  for order in (images, images[::-1]):
    for chunk in (1, 6):
      got = denoise(constant(order, 3), x, sigma, pool=POOLS[name], chunk=chunk)
      want = brute_force(order, x.astype(np.float64), sigma, 3, POOLS[name])
      np.testing.assert_allclose(got, want, rtol=0, atol=F32)


@pytest.mark.parametrize("name", POOLS)
def test_jit_vmap_pmap_float32(x, name):
  record = constant(images_of(5), 3)
  machine = Partial(FAMILIES[name].denoise, record)
  batch = np.stack([x, -x] * 4).astype(np.float32)
  want = [brute_force(record.images, row.astype(np.float64), SIGMA, 3, POOLS[name]) for row in batch[:2]]
  call = lambda denoise, x: denoise(x, jnp.float32(SIGMA))  # noqa: E731
  for got in (
    jax.jit(jax.vmap(call, (None, 0)))(machine, batch),
    jax.pmap(call, in_axes=(None, 0))(machine, batch),
  ):
    np.testing.assert_allclose(got[:2], want, rtol=0, atol=F32)


def test_windows_grow_as_asked():
  grown = windows.power_law(7, 0.75, range(1, 32, 2))
  assert grown.width == (3, 5, 7, 11, 15, 21, 29, 31)
  for sigma, want in [(0.002, 3), (0.3, 3), (0.6, 5), (1.0, 7), (2.0, 11), (3.0, 15), (4.6, 21), (80.0, 31)]:
    assert windows.switch(grown, sigma, jnp.float32) == want, sigma
    assert abs(np.log(want / np.clip(7 * sigma**0.75, 3, 31))) < np.log(windows.LADDER + 0.3) / 2
  assert windows.power_law(5, 0.0, range(1, 32, 2)) == Windows((0.0,), (5,))
  known = windows.of_levels([10.0, 0.1, 1.0], np.array([9, 3, 5]))
  np.testing.assert_allclose(known.start, [0, 10**-0.5, 10**0.5])
  assert known.width == (3, 5, 9)


@pytest.mark.parametrize("width", [1, 2, 3, 4, 5, 6, 7, 8, 11])
def test_sums_over_windows_are_exact(width):
  maps = np.random.default_rng(0).integers(-(2**25), 2**25, (2, 6, 5)).astype(np.int32)
  got = windows.sums(jnp.asarray(maps), width)
  want = np.zeros(maps.shape, np.int64)
  for i in range(6):
    for j in range(5):
      for a in range(i - width // 2, i - width // 2 + width):
        for b in range(j - width // 2, j - width // 2 + width):
          if 0 <= a < 6 and 0 <= b < 5:
            want[:, i, j] += maps[:, a, b]
  np.testing.assert_array_equal(got, want.astype(np.int32))  # as int32 holds them, modulo 2^32


def test_calibration_finds_the_window(x):
  record, machine = constant(images_of(6), 1), FAMILIES["els"].denoise
  noisy = np.stack([x, x[::-1], -x]).astype(np.float32)
  teacher = Partial(machine, constant(images_of(6), 3))
  assert score_machines.calibrate(teacher, machine, record, noisy, 0.3, (1, 3, 5)) == 3


@pytest.mark.parametrize(
  ("name", "options", "message"),
  [
    ("els", {"window": 4}, "`denoisers.els.window` is 4; want an odd number of pixels"),
    ("els", {"window": 7, "growth": 0.0}, "`denoisers.els.window` is 7; on images of 6 x 5 want at most 5"),
    ("ls", {"window": 13, "growth": 0.0}, "`denoisers.ls.window` is 13; on images of 6 x 5 want at most 11"),
    ("els_borders", {"window": 2}, "`denoisers.els_borders.window` is 2; want an odd"),
  ],
)
def test_wrong_windows_are_named(name, options, message):
  known = FAMILIES[name]
  options = family.defaults(known) | options
  with pytest.raises(ValueError, match=message):
    family.check_images(name, known, SHAPE, 2, options)
  with pytest.raises(ValueError, match=message.replace(f"denoisers.{name}.", "")):
    known.fit(images_of(2), **options)
