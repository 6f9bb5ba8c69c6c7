import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from gauss_diffusion import distill
from gauss_diffusion.types import GaussianStats

F64 = 1e-9  # least squares in float64, condition number up to 1e6
SHAPE = (2, 3, 2)
D = 12
SIGMAS = np.array([2.0, 0.3])
KEY = jax.random.key(7)


def make_images(num, seed=0) -> np.ndarray:
  return np.random.default_rng(seed).integers(0, 256, (num, *SHAPE), np.uint8)


def to_points(images) -> np.ndarray:
  return images.reshape(len(images), -1) / 127.5 - 1


def gaussian_map(points, sigma):
  """Weight and bias of the Gaussian denoiser, dense."""
  covariance = np.cov(points.T, bias=True)
  weight = np.linalg.solve(covariance + sigma**2 * np.eye(D), covariance).T
  return weight, points.mean(0) - weight @ points.mean(0)


def affine(weight, bias, x, sigma):
  return (weight @ x.reshape(-1) + bias).reshape(x.shape)


def gaussian(mean, covariance, x, sigma):
  gain = jnp.linalg.solve(covariance + sigma**2 * jnp.eye(D), covariance).T
  return (mean + gain @ (x.reshape(-1) - mean)).reshape(x.shape)


def memorizer(points, x, sigma):
  """Exact posterior mean of equally likely points."""
  logits = -jnp.sum((points - x.reshape(1, -1)) ** 2, axis=1) / (2 * sigma**2)
  return (jax.nn.softmax(logits) @ points).reshape(x.shape)


def memorizer_numpy(points, y, sigma):
  logits = -((y[:, None] - points[None]) ** 2).sum(-1) / (2 * sigma**2)
  weights = np.exp(logits - logits.max(axis=1, keepdims=True))
  return weights / weights.sum(axis=1, keepdims=True) @ points


def bumps(x, sigma):
  return jnp.sin(3 * x) + 0.2 * x**2


@pytest.mark.parametrize("num_images", [1, 40])
def test_affine_teacher_is_recovered(x64, num_images):
  # D1, and with one image: the noise alone spans the space.
  rng = np.random.default_rng(1)
  weight, bias = rng.normal(size=(D, D)), rng.normal(size=D)
  maps, fit = distill.closed_form(
    Partial(affine, weight, bias), make_images(num_images), SIGMAS, KEY, num_pairs=4 * D
  )
  np.testing.assert_array_equal(maps.sigma, SIGMAS)
  for s in range(2):
    np.testing.assert_allclose(maps.weight[s], weight, atol=F64)
    np.testing.assert_allclose(maps.bias[s], bias, atol=F64)
  assert np.all(fit.residual_mse < F64) and fit.num_pairs == 4 * D


def test_gaussian_teacher_gives_its_map_on_any_images(x64):
  # D2: the images of the fit are not those of the teacher.
  points = to_points(make_images(40))
  teacher = Partial(gaussian, points.mean(0), np.cov(points.T, bias=True))
  maps, _ = distill.closed_form(teacher, make_images(5, seed=9), SIGMAS, KEY, num_pairs=100)
  for s, sigma in enumerate(SIGMAS):
    weight, bias = gaussian_map(points, sigma)
    np.testing.assert_allclose(maps.weight[s], weight, atol=F64)
    np.testing.assert_allclose(maps.bias[s], bias, atol=F64)


def test_normal_equations_and_residual():
  # D3, D4, D5 on data far from 0, where careless moments lose their digits; blocks must not matter.
  rng = np.random.default_rng(3)
  y = 1e3 + rng.normal(size=(500, D)) * np.geomspace(1, 1e-2, D)
  target = np.sin(y) + 1e3
  weight, bias, mse = distill.least_squares(iter([(y[:200], target[:200]), (y[200:], target[200:])]))
  residual = target - y @ weight.T - bias
  np.testing.assert_allclose(residual.mean(0), 0, atol=F64)
  np.testing.assert_allclose(residual.T @ (y - y.mean(0)) / 500, 0, atol=F64)
  np.testing.assert_allclose(mse, np.mean(residual**2), rtol=F64)
  covariance = np.cov(y.T, bias=True)
  identity = np.trace(np.cov(target.T, bias=True)) - np.trace(weight @ covariance @ weight.T)
  np.testing.assert_allclose(mse * D, identity, rtol=F64)
  scaled, _, _ = distill.least_squares(iter([(y / np.sqrt(D), target)]))
  np.testing.assert_allclose(scaled / np.sqrt(D), weight, atol=F64)


def test_memorizer_distils_to_the_gaussian_on_its_own_images_only(x64):
  # M11. Standard errors of least squares with unequal variances (White 1980), from pairs drawn here.
  train, held_out, sigma, num = make_images(8), make_images(8, seed=5), 0.8, 16_000
  points = to_points(train)
  weight, bias = gaussian_map(points, sigma)
  rng = np.random.default_rng(4)
  y = np.tile(points, (num // 8, 1)) + sigma * rng.normal(size=(num, D))
  residual = memorizer_numpy(points, y, sigma) - y @ weight.T - bias
  design = np.hstack([y, np.ones((num, 1))])
  influence = design @ np.linalg.inv(design.T @ design)
  error = np.sqrt((residual**2).T @ influence**2)  # [D, D + 1], of (W, b)

  teacher, deviation = Partial(memorizer, points), {}
  for law, images in (("train", train), ("held_out", held_out)):
    maps, _ = distill.closed_form(teacher, images, [sigma], KEY, num_pairs=num)
    found = np.hstack([maps.weight[0], maps.bias[0][:, None]])
    deviation[law] = np.abs(found - np.hstack([weight, bias[:, None]])) / error
  # Noise of both signs makes the errors smaller than those of independent pairs.
  assert deviation["train"].max() < 5
  assert deviation["held_out"].max() > 20


def test_every_noise_has_both_signs():
  # Around one image, a teacher that is even in the noise has no linear part, in the sample itself.
  images = make_images(1)
  centre = to_points(images).astype(np.float32).reshape(SHAPE)
  teacher = Partial(lambda c, x, sigma: (x - c) ** 2, centre)
  maps, _ = distill.closed_form(teacher, images, [0.5], KEY, num_pairs=200)
  np.testing.assert_allclose(maps.weight, 0, atol=1e-5)  # float32 pairs


def test_gradient_descent_follows_the_spectrum(x64):
  # D7 with inputs whose sample moments are exact: y - μ = ±√D C^(1/2) e_i.
  rng, sigma, eta, num_steps = np.random.default_rng(6), 0.4, 0.1, 25
  basis = np.linalg.qr(rng.normal(size=(D, D)))[0]
  lam = np.append(np.geomspace(3, 1e-2, D - 2), [0, 0])
  curvature = lam[0] + sigma**2
  assert eta < 1 / curvature
  half = np.sqrt(D * (lam + sigma**2))[:, None] * basis.T
  y = np.vstack([half, -half])
  gamma = lam / (lam + sigma**2)
  mean = rng.normal(size=D)
  target = mean + y @ (basis * gamma) @ basis.T
  z = np.hstack([y, np.full((2 * D, 1), np.sqrt(curvature))])[None]
  theta, average = jnp.zeros((1, D, D + 1)), jnp.zeros((1, D, D + 1))
  weighted, total = np.zeros(D), 0
  for step in range(num_steps):
    theta, average, loss = distill._descend(theta, average, z, target[None], np.array([eta]), step)
    grown = gamma * (1 - (1 - 2 * eta * (lam + sigma**2)) ** (step + 1))
    np.testing.assert_allclose(theta[0, :, :D], (basis * grown) @ basis.T, atol=1e-12)
    # Shamir & Zhang's average, unrolled: weight (n + 1)(n + 2)(n + 3) for iterate n + 1.
    share = (step + 1) * (step + 2) * (step + 3)
    weighted, total = weighted + share * grown, total + share
    np.testing.assert_allclose(average[0, :, :D], (basis * (weighted / total)) @ basis.T, atol=1e-12)
    if step == 0:
      np.testing.assert_allclose(loss, np.mean(target**2), rtol=1e-12)
  offset = mean * (1 - (1 - 2 * eta * curvature) ** num_steps) / np.sqrt(curvature)
  np.testing.assert_allclose(theta[0, :, D], offset, atol=1e-12)


def test_learning_rate_is_the_fastest_sure_one(x64):
  images, batch = make_images(8), 64
  points = to_points(images)
  _, info = distill.gradient_descent(bumps_teacher(), images, SIGMAS, KEY, num_steps=2, batch=batch)
  largest = np.linalg.eigvalsh(np.cov(points.T, bias=True))[-1] + SIGMAS**2
  assert np.all(info.learning_rate < 1 / (2 * largest))
  # E[‖z‖² z zᵀ] ≤ R² E[z zᵀ] for z = (y - μ, √L), exactly for the points and by moments for the noise.
  rng = np.random.default_rng(8)
  for sigma, rate, top in zip(SIGMAS, info.learning_rate, largest):
    y = np.tile(points - points.mean(0), (20_000, 1)) + sigma * rng.normal(size=(160_000, D))
    z = np.hstack([y, np.full((len(y), 1), np.sqrt(top))])
    fourth = (z * (z**2).sum(1, keepdims=True)).T @ z / len(z)
    bound = batch / (2 * rate) - (batch - 1) * top
    # 1 % for the sampling error of the fourth moments.
    assert np.linalg.eigvalsh(1.01 * bound * (z.T @ z) / len(z) - fourth)[0] > 0


def bumps_teacher():
  return Partial(bumps)


def test_both_methods_agree():
  # A batch is a whole number of cycles through the images, with both signs of each noise. The images are
  # bright, so that a bias for centred inputs would show.
  images, num_steps, batch, num_pairs = make_images(8) // 4 + 190, 100, 256, 20_000
  exact, fit = distill.closed_form(bumps_teacher(), images, SIGMAS, KEY, num_pairs=num_pairs)
  found, info = distill.gradient_descent(
    bumps_teacher(), images, SIGMAS, jax.random.key(8), num_steps=num_steps, batch=batch, record_every=50
  )
  # Standard errors of least squares: Σ r² tr Cov(y)⁻¹ / n for W, Σ r² (1 + μᵀ Cov(y)⁻¹ μ) / n for b; the
  # average over iterates counts as 7/16 of them. Norms of 144 and 12 errors stay below three of these.
  points = to_points(images)
  variance = D * fit.residual_mse * (16 / (7 * num_steps * batch) + 1 / num_pairs)
  for s, sigma in enumerate(SIGMAS):
    precision = np.linalg.inv(np.cov(points.T, bias=True) + sigma**2 * np.eye(D))
    mean = points.mean(0)
    weight_error = np.sqrt(variance[s] * np.trace(precision))
    bias_error = np.sqrt(variance[s] * (1 + mean @ precision @ mean))
    assert np.linalg.norm(found.weight[s] - exact.weight[s]) < 3 * weight_error
    assert np.linalg.norm(found.bias[s] - exact.bias[s]) < 3 * bias_error
    assert 3 * bias_error < np.linalg.norm(exact.weight[s] @ mean)  # the tolerance can tell
  assert info.loss.shape == (num_steps, 2)
  np.testing.assert_array_equal(info.step, [50, 100])
  np.testing.assert_array_equal(info.history[1].weight, found.weight)
  np.testing.assert_allclose(info.residual_mse, fit.residual_mse, rtol=0.2)  # 256 x 12 fresh residuals


def test_a_level_does_not_depend_on_the_others():
  images = make_images(10)
  one, _ = distill.closed_form(bumps_teacher(), images, SIGMAS, KEY, num_pairs=1200)
  two, _ = distill.closed_form(bumps_teacher(), images, SIGMAS[:1], KEY, num_pairs=1200)
  assert one.weight.dtype == np.float32
  np.testing.assert_allclose(one.weight[0], two.weight[0], atol=1e-6)


def test_one_compile_for_all_levels():
  traces = []

  def counted(x, sigma):
    traces.append(1)
    return x * sigma

  teacher = Partial(counted)
  distill.closed_form(teacher, make_images(10), np.geomspace(0.1, 3, 7), KEY, num_pairs=2500)
  assert len(traces) == 1


def test_pixels_and_their_floats_are_the_same_images():
  images = make_images(6)
  floats = images.astype(np.float32) / 127.5 - 1
  one, fit = distill.closed_form(bumps_teacher(), images, SIGMAS, KEY, num_pairs=200)
  two, other = distill.closed_form(bumps_teacher(), floats, SIGMAS, KEY, num_pairs=200)
  np.testing.assert_allclose(one.weight, two.weight, atol=2e-6)  # pixels are rounded anew
  np.testing.assert_allclose(fit.residual_mse, other.residual_mse, rtol=1e-5)
  one, info = distill.gradient_descent(bumps_teacher(), images, SIGMAS, KEY, num_steps=3, batch=8)
  two, other = distill.gradient_descent(bumps_teacher(), floats, SIGMAS, KEY, num_steps=3, batch=8)
  np.testing.assert_allclose(one.weight, two.weight, atol=2e-6)
  np.testing.assert_array_equal(info.learning_rate, other.learning_rate)


def test_images_may_lie_beyond_the_range_of_pixels(x64):
  # Draws from a Gaussian: the maps of an affine teacher are exact wherever its inputs are.
  rng = np.random.default_rng(1)
  images = 4 * rng.standard_normal((9, *SHAPE), np.float32)
  weight, bias = rng.normal(size=(D, D)), rng.normal(size=D)
  seen = []
  teacher = Partial(lambda x, sigma: jax.debug.callback(lambda y: seen.append(np.abs(y).max()), x) or x)
  distill.closed_form(teacher, images, SIGMAS[1:], KEY, num_pairs=50)
  assert max(seen) > 8
  maps, _ = distill.closed_form(Partial(affine, weight, bias), images, SIGMAS, KEY, num_pairs=100)
  np.testing.assert_allclose(maps.weight, np.stack([weight] * 2), atol=F64)
  mean, radius, variance = distill._extent(images)
  points = images.reshape(9, -1).astype(np.float64)
  np.testing.assert_allclose(mean, points.mean(0), atol=F64)
  assert radius == pytest.approx(np.max(np.sum((points - points.mean(0)) ** 2, axis=1)), rel=F64)
  assert variance == pytest.approx(np.linalg.eigvalsh(np.cov(points.T, bias=True))[-1], rel=F64)


def antithetic_fits(num_pairs, residual, repeats, x0_scale=0.0):
  """Fit residuals on pairs of both signs; the best map is 0. Mean square there, on fresh pairs, and ‖W‖²."""
  rng, found = np.random.default_rng(0), []
  for _ in range(repeats):
    noise = np.repeat(rng.normal(size=(num_pairs // 2, D)), 2, axis=0)
    noise[1::2] *= -1
    y = noise + x0_scale * np.repeat(rng.normal(size=(num_pairs // 2, D)), 2, axis=0)
    target = rng.normal(size=(num_pairs // 2, D))
    target = np.repeat(target, 2, axis=0)
    if residual == "odd":
      target[1::2] *= -1
    if residual == "independent":
      target, y = rng.normal(size=(2, num_pairs, D))
    weight, bias, mse = distill.least_squares(iter([(y, target)]))
    error2 = np.sum(weight**2)
    found.append((mse, 1 + ((1 + x0_scale**2) * error2 + np.sum(bias**2)) / D, error2))
  return np.array(found)


@pytest.mark.parametrize(("residual", "worth"), [("odd", 1 / 2), ("independent", 1), ("even", np.inf)])
@pytest.mark.parametrize("per_coordinate", [4, 8, 16])
def test_what_a_residual_on_fresh_pairs_is_more(residual, worth, per_coordinate):
  """The docstring's (m / (m - D))², and what the noise in W is."""
  num_pairs = per_coordinate * D
  mse, fresh, error2 = antithetic_fits(num_pairs, residual, 400).mean(0)
  m = worth * num_pairs
  rule = 1 if worth == np.inf else (m / (m - D)) ** 2
  # The bias's own parameter, and orders beyond D/m: they are largest where pairs are fewest.
  assert fresh / mse == pytest.approx(rule, rel=2 / per_coordinate**2 + 3 / num_pairs)
  variance = 0 if worth == np.inf else D * D / (m - D - 2)
  assert error2 == pytest.approx(variance, rel=0.12, abs=1e-20)  # of 400 fits, and of the intercept


@pytest.mark.parametrize("x0_scale", [0.0, 1.0])
def test_expected_noise_is_what_fits_have_and_never_less(x0_scale):
  num_pairs = 10 * D
  mse, _, error2 = antithetic_fits(num_pairs, "odd", 400, x0_scale).mean(0)
  stats = GaussianStats(np.zeros(SHAPE), np.eye(D), np.full(D, 1e-12 + x0_scale**2))
  size2 = D * (x0_scale**2 / (1 + x0_scale**2)) ** 2 if x0_scale else D * 1e-24
  found = distill.expected_noise2(float(mse), num_pairs, stats, 1.0) * size2
  if x0_scale:
    assert error2 < found < 4 * error2  # inputs that differ by more than the noise: conservative
  else:
    # 2 % of 400 fits, and 4 % for the intercept: it takes nothing from residuals that are odd.
    assert found == pytest.approx(1.04 * error2, rel=0.03)


def test_expected_noise_counts_directions_without_variance():
  basis = np.eye(D)[:, :2]
  stats = GaussianStats(np.zeros(SHAPE), basis, np.array([3.0, 1.0]))
  m, sigma = 5 * D, 0.5
  variance = 0.2 * m / (m - D - 1)
  precision = np.trace(np.linalg.inv(basis * [3.0, 1.0] @ basis.T + sigma**2 * np.eye(D)))
  gains = np.array([3 / 3.25, 1 / 1.25])
  expected = D * variance * precision / (m - D - 2) / np.sum(gains**2)
  assert distill.expected_noise2(0.2, 2 * m, stats, sigma) == pytest.approx(expected, rel=F64)
  assert distill.expected_noise2(0.2, 2 * (D + 2), stats, sigma) == np.inf
  assert np.isfinite(distill.expected_noise2(0.2, 2 * (D + 3), stats, sigma))


def test_as_many_pairs_as_needed_decide_a_gap():
  # From the noise of one number of pairs, predict how many leave a quarter of it, in root mean square.
  few = 8 * D
  at_few = antithetic_fits(few, "odd", 400)[:, 2].mean()
  gap = np.sqrt(at_few) / 4
  needed = distill.pairs_needed(gap, at_few, few, D)
  assert needed % 2 == 0 and needed > 3 * few
  assert np.sqrt(antithetic_fits(needed, "odd", 400)[:, 2].mean()) == pytest.approx(gap, rel=0.05)
  # Too few by as much as the rule for independent pairs would say: half.
  assert np.sqrt(antithetic_fits(needed // 2, "odd", 400)[:, 2].mean()) > 1.3 * gap


def test_pairs_needed_is_the_least_number():
  stats = GaussianStats(np.zeros(SHAPE), np.eye(D), np.geomspace(1, 0.1, D))
  noise2 = lambda pairs, mse: distill.expected_noise2(  # noqa: E731
    mse * (pairs // 2 - D - 1) / (pairs // 2), pairs, stats, 0.5
  )
  needed = distill.pairs_needed(0.1, noise2(96, 0.01), 96, D)
  assert noise2(needed, 0.01) <= 0.1**2 < noise2(needed - 2, 0.01)
  assert distill.pairs_needed(0.1, 0.0, 96, D) == 2 * (D + 3)
  for arguments, named in (
    ((0.0, 0.1, 96, D), "gap"),
    ((0.1, 0.1, 2 * (D + 2), D), "num_pairs"),
    ((0.1, np.inf, 96, D), "num_pairs"),
  ):
    with pytest.raises(ValueError, match=f"^`{named}`"):
      distill.pairs_needed(*arguments)


@pytest.mark.parametrize(
  ("change", "named"),
  [
    (dict(num_pairs=23), "`num_pairs` is 23; 12 coordinates need at least 24"),
    (dict(sigmas=[0.5, 0.0]), "`sigmas`"),
    (dict(sigmas=0.5), "`sigmas`"),
    (dict(images=make_images(4) / 255), "`images` is float64"),
    (dict(images=make_images(4)[0]), "want uint8 or float32"),
    (dict(denoise=Partial(lambda x, sigma: x / 0)), "`denoise` returns NaN"),
  ],
)
def test_closed_form_refuses(change, named):
  call = dict(denoise=bumps_teacher(), images=make_images(4), sigmas=[0.5], key=KEY, num_pairs=48) | change
  with pytest.raises(ValueError, match=named):
    distill.closed_form(**call)


@pytest.mark.parametrize(
  ("change", "named"),
  [
    (dict(num_steps=0), "`num_steps` is 0"),
    (dict(batch=0), "`batch` is 0"),
    (dict(record_every=-1), "`record_every` is -1"),
    (dict(sigmas=[-1.0]), "`sigmas`"),
    (dict(denoise=Partial(lambda x, sigma: x / 0)), "`denoise` returns NaN"),
  ],
)
def test_gradient_descent_refuses(change, named):
  call = dict(denoise=bumps_teacher(), images=make_images(4), sigmas=[0.5], key=KEY, num_steps=1, batch=8)
  with pytest.raises(ValueError, match=named):
    distill.gradient_descent(**(call | change))


@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_floats_of_any_range_are_distilled(x64, offset):
  # D1 on float32 data with a mean far from 0: an affine teacher comes back to rounding.
  rng = np.random.default_rng(5)
  images = (offset + rng.normal(size=(40, *SHAPE))).astype(np.float32)
  teacher = rng.normal(size=(D, D)) / 4, rng.normal(size=D)
  denoise = Partial(affine, *map(jnp.asarray, teacher))
  found, fit = distill.closed_form(denoise, images, SIGMAS, KEY, num_pairs=400)
  for weight, bias in zip(found.weight, found.bias):
    np.testing.assert_allclose(weight, teacher[0], atol=F64)
    np.testing.assert_allclose(bias, teacher[1], atol=F64 * (1 + offset))
  assert fit.residual_mse.max() < F64
