import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from gauss_diffusion import distill

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
  weight, bias, mse = distill._least_squares(iter([(y[:200], target[:200]), (y[200:], target[200:])]))
  residual = target - y @ weight.T - bias
  np.testing.assert_allclose(residual.mean(0), 0, atol=F64)
  np.testing.assert_allclose(residual.T @ (y - y.mean(0)) / 500, 0, atol=F64)
  np.testing.assert_allclose(mse, np.mean(residual**2), rtol=F64)
  covariance = np.cov(y.T, bias=True)
  identity = np.trace(np.cov(target.T, bias=True)) - np.trace(weight @ covariance @ weight.T)
  np.testing.assert_allclose(mse * D, identity, rtol=F64)
  scaled, _, _ = distill._least_squares(iter([(y / np.sqrt(D), target)]))
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


@pytest.mark.parametrize(
  ("change", "named"),
  [
    (dict(num_pairs=23), "`num_pairs` is 23; 12 coordinates need at least 24"),
    (dict(sigmas=[0.5, 0.0]), "`sigmas`"),
    (dict(sigmas=0.5), "`sigmas`"),
    (dict(images=make_images(4) / 255), "`images` is float64"),
    (dict(images=make_images(4)[0]), "want uint8"),
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
