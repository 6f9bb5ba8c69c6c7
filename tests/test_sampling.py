import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import SHARED
from jax.tree_util import Partial

from gauss_diffusion import edm, networks, sampling
from gauss_diffusion.importers import edm as importer
from gauss_diffusion.types import GaussianStats

F64 = 1e-10  # products of tens of float64 factors
F32 = 1e-5  # tens of float32 steps
SHAPE = (2, 3, 2)
REFERENCE = SHARED / "reference/edm_ddpmpp.npz"
GRID = edm.sigma_grid(10)
METHODS = ("exact", "euler", "heun")

sample = jax.jit(sampling.sample, static_argnames="solver")
gaussian_trajectory = jax.jit(sampling.gaussian_trajectory, static_argnames="method")


def make_stats(seed=0, rank=7) -> GaussianStats:
  rng = np.random.default_rng(seed)
  basis = np.linalg.qr(rng.normal(size=(12, 12)))[0][:, :rank]
  return GaussianStats(rng.normal(size=SHAPE) / 3, basis, np.geomspace(5, 1e-3, 7)[:rank])


def draw_noise(*leading, seed=1):
  return np.random.default_rng(seed).normal(size=(*leading, *SHAPE))


def gaussian(stats, x, sigma):
  gain = stats.eigenvalues / (stats.eigenvalues + sigma**2)
  return stats.mean + (stats.basis @ (gain * (stats.basis.T @ (x - stats.mean).reshape(-1)))).reshape(SHAPE)


def nearest(points, x, sigma):
  """Exact posterior mean of equally likely points."""
  logits = -jnp.sum((points - x[None]) ** 2, axis=(1, 2, 3)) / (2 * sigma**2)
  return jnp.tensordot(jax.nn.softmax(logits), points, 1)


def bound(stats):
  return Partial(gaussian, jax.tree.map(jnp.asarray, stats))


def heun_numpy(denoise, x, sigmas):
  """Return the states of Karras et al. 2022, algorithm 1 as printed, with churn 0."""
  states = [x]
  for sigma, sigma_next in zip(sigmas, [*sigmas[1:], 0]):
    slope = (x - denoise(x, sigma)) / sigma
    euler = x + (sigma_next - sigma) * slope
    if sigma_next:
      slope = (slope + (euler - denoise(euler, sigma_next)) / sigma_next) / 2
      euler = x + (sigma_next - sigma) * slope
    x = euler
    states.append(x)
  return np.stack(states)


def test_exact_trajectory_is_the_matrix_square_root(x64):
  # G8: x_σ = μ + C(σ)^(1/2) C(σ_T)^(-1/2) (x_T - μ) with C(σ) = Σ + σ² I, dense.
  stats, noise = make_stats(), draw_noise()
  mean, covariance = stats.mean.reshape(-1), (stats.basis * stats.eigenvalues) @ stats.basis.T
  values, vectors = np.linalg.eigh(covariance)
  values[values < 1e-12] = 0  # the rank is known
  got = gaussian_trajectory(stats, noise, GRID)
  np.testing.assert_array_equal(got.sigma, [*GRID, 0])
  for x, sigma in zip(got.x, [*GRID, 0]):
    root = (vectors * np.sqrt((values + sigma**2) / (values + 80**2))) @ vectors.T
    want = mean + root @ (80 * noise.reshape(-1) - mean)
    np.testing.assert_allclose(x.reshape(-1), want, rtol=F64, atol=F64)
  for x, x0_hat, sigma in zip(got.x, got.denoised, GRID):
    np.testing.assert_allclose(x0_hat, gaussian(stats, x, sigma), rtol=F64, atol=F64)


def test_exact_trajectory_composes_and_reverses(x64):
  stats, noise = make_stats(), draw_noise()
  whole = gaussian_trajectory(stats, noise, GRID)
  rest = gaussian_trajectory(stats, whole.x[4] / GRID[4], GRID[4:])
  np.testing.assert_allclose(rest.x, whole.x[4:], rtol=F64, atol=F64)
  back = gaussian_trajectory(stats, whole.x[9] / GRID[9], GRID[::-1])
  np.testing.assert_allclose(back.x[9], whole.x[0], rtol=F64)


def test_euler_gains(x64):
  # G9, the product written for the ODE's right-hand side rather than for the sampler's steps.
  stats, noise = make_stats(), draw_noise()
  gain = np.ones(7)
  for sigma, sigma_next in zip(GRID, [*GRID[1:], 0]):
    gain *= 1 + (sigma_next - sigma) * sigma / (stats.eigenvalues + sigma**2)
  check_gains(gaussian_trajectory(stats, noise, GRID, method="euler"), stats, noise, gain)


def test_heun_gains(x64):
  # G10; the last step, to 0, is Euler's.
  stats, noise = make_stats(), draw_noise()
  gain = np.ones(7)
  for sigma, sigma_next in zip(GRID[:-1], GRID[1:]):
    slope, slope_next = (s / (stats.eigenvalues + s**2) for s in (sigma, sigma_next))
    step = sigma_next - sigma
    gain *= 1 + step / 2 * (slope + slope_next * (1 + step * slope))
  gain *= stats.eigenvalues / (stats.eigenvalues + GRID[-1] ** 2)
  check_gains(gaussian_trajectory(stats, noise, GRID, method="heun"), stats, noise, gain)


def check_gains(trajectory, stats, noise, gain):
  modes = stats.basis.T @ (80 * noise - stats.mean).reshape(-1)
  want = stats.mean.reshape(-1) + stats.basis @ (gain * modes)
  np.testing.assert_allclose(trajectory.x[-1].reshape(-1), want, rtol=F64, atol=F64)


@pytest.mark.parametrize("solver", sampling.SOLVERS)
@pytest.mark.parametrize("rank", [0, 3, 7])
def test_gaussian_trajectory_is_what_the_sampler_does(x64, solver, rank):
  stats, noise = make_stats(rank=rank), draw_noise()
  got = gaussian_trajectory(stats, noise, GRID, method=solver)
  want = sample(bound(stats), noise, GRID, solver=solver)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=F64, atol=F64), got, want)


@pytest.mark.parametrize(("solver", "order"), [("euler", 1), ("heun", 2)])
def test_order_of_convergence(x64, solver, order):
  # G10: doubling the steps divides the error by 2^order in the end. The last level is far above 0, where
  # the flow is compared; only the step to it counts.
  stats, noise, errors = make_stats(), draw_noise(), []
  for num_steps in (81, 161, 321):
    sigmas = edm.sigma_grid(num_steps, sigma_min=0.1)
    x = gaussian_trajectory(stats, noise, sigmas, method=solver).x[-2]
    errors.append(np.linalg.norm(x - gaussian_trajectory(stats, noise, sigmas).x[-2]))
  ratios = np.array(errors[:-1]) / errors[1:]
  np.testing.assert_allclose(ratios, 2**order, rtol=0.1)


def test_heun_is_the_published_algorithm(x64):
  # On a denoiser that is far from linear, so that the order of evaluations matters.
  points, noise = draw_noise(5, seed=2), draw_noise()
  want = heun_numpy(lambda x, sigma: np.asarray(nearest(jnp.asarray(points), x, sigma)), 80 * noise, GRID)
  got = sample(Partial(nearest, points), noise, GRID, solver="heun")
  np.testing.assert_allclose(got.x, want, rtol=F64, atol=F64)


@pytest.mark.parametrize("solver", sampling.SOLVERS)
def test_trajectory_is_consistent(x64, solver):
  points, noise = draw_noise(5, seed=2), draw_noise()
  got = sample(Partial(nearest, points), noise, GRID, solver=solver)
  np.testing.assert_array_equal(got.sigma, [*GRID, 0])
  np.testing.assert_allclose(got.x[0], 80 * noise, rtol=F64)
  for x, x0_hat, sigma in zip(got.x, got.denoised, GRID):
    np.testing.assert_allclose(x0_hat, nearest(jnp.asarray(points), x, sigma), rtol=F64)


@pytest.mark.parametrize("solver", sampling.SOLVERS)
def test_last_step_returns_the_denoised_image_exactly(solver):
  noise = draw_noise().astype(np.float32)
  got = sample(bound(make_stats()), noise, GRID, solver=solver)
  assert got.x.dtype == np.float32
  np.testing.assert_array_equal(got.x[-1], got.denoised[-1])


@pytest.mark.parametrize("solver", sampling.SOLVERS)
def test_memorizer_lands_on_a_training_point(solver):
  # M12
  points, noise = draw_noise(6, seed=3).astype(np.float32), draw_noise(8).astype(np.float32)
  run = jax.vmap(lambda noise: sample(Partial(nearest, points), noise, GRID, solver=solver).x[-1])
  distances = np.linalg.norm((np.asarray(run(noise))[:, None] - points[None]).reshape(8, 6, -1), axis=-1)
  assert distances.min(axis=1).max() < 1e-3


def test_variance_along_the_modes():
  # G11: from N(0, σ_T² I), mode i has variance σ_T² (λ+σ²)/(λ+σ_T²); MC with five standard errors.
  stats, num = make_stats(), 4096
  run = jax.jit(jax.vmap(gaussian_trajectory, in_axes=(None, 0, None)))
  x = np.asarray(run(stats, draw_noise(num).astype(np.float32), GRID.astype(np.float32)).x, np.float64)
  modes = (x - stats.mean).reshape(num, 11, 12) @ stats.basis
  gain2 = (stats.eigenvalues + np.append(GRID, 0)[:, None] ** 2) / (stats.eigenvalues + 80**2)
  want = 80**2 * gain2
  np.testing.assert_allclose(modes.var(axis=0), want, rtol=5 * np.sqrt(2 / num))
  mean = -np.sqrt(gain2) * (stats.basis.T @ stats.mean.reshape(-1))
  assert np.all(np.abs(modes.mean(axis=0) - mean) < 5 * np.sqrt(want / num))


@pytest.mark.parametrize("method", METHODS)
def test_float32_is_as_good_as_float64(method):
  stats, noise, grid = make_stats(), draw_noise(), edm.sigma_grid(40)
  got = gaussian_trajectory(stats, noise.astype(np.float32), grid, method=method)
  stepped = got if method == "exact" else sample(
    bound(stats), noise.astype(np.float32), grid, solver=method
  )  # fmt: skip
  with jax.enable_x64(True):
    want = jax.device_get(gaussian_trajectory(stats, noise, grid, method=method))
  for run in (got, stepped):
    scale = np.abs(want.x).max(axis=(1, 2, 3), keepdims=True)
    assert run.x.dtype == np.float32
    assert np.max(np.abs(run.x - want.x) / scale) < F32


def test_denoiser_is_compiled_once():
  def marked(x, sigma):
    return jnp.sin(x) * sigma

  for solver in sampling.SOLVERS:
    program = jax.make_jaxpr(lambda x, s, solver=solver: sampling.sample(marked, x, s, solver=solver))
    assert str(program(draw_noise().astype(np.float32), GRID.astype(np.float32))).count(" sin ") == 1


@pytest.mark.parametrize("solver", sampling.SOLVERS)
def test_many_latents_are_each_by_itself_and_compiled_once(solver):
  traces = []

  def counted(record, x, sigma):
    traces.append(x.shape)
    return record / (1 + sigma) + jnp.sin(x) / (2 + sigma)

  noise, grid = draw_noise(5).astype(np.float32), edm.sigma_grid(4, 0.1, 5.0)
  for record in (np.float32(0.3), np.float32(-1.0)):
    found = sampling.sample_many(Partial(counted, record), noise, grid, solver=solver, batch=2)
    assert isinstance(found.x, np.ndarray) and found.x.shape == (5, 5, *noise.shape[1:])
    for i in (0, 4):
      alone = sampling.sample(Partial(counted, record), noise[i], grid, solver=solver)
      for field, want in zip(found, alone, strict=True):
        np.testing.assert_allclose(field[i], want, rtol=1e-6, atol=1e-6)
  assert traces[0] == noise.shape[1:] and len(traces) == 1 + 4  # `sample` by itself is traced each time


@pytest.mark.skipif(not REFERENCE.exists(), reason="needs the shared reference arrays")
@pytest.mark.parametrize(("name", "solver", "num_steps"), [("heun18", "heun", 18), ("euler10", "euler", 10)])
def test_reference_samples(name, solver, num_steps):
  arrays = np.load(REFERENCE)
  state = {
    k.removeprefix("param/"): v.astype(np.float32) for k, v in arrays.items() if k.startswith("param/")
  }
  network, params = importer.from_state_dict(state, json.loads(str(arrays["config"])))
  denoise = Partial(networks.denoise, networks.Trained(params, network))
  run = jax.jit(
    jax.vmap(lambda d, z, s: sampling.sample(d, z, s, solver=solver).x[-1], in_axes=(None, 0, None))
  )
  got = run(denoise, arrays["latents"].transpose(0, 2, 3, 1), edm.sigma_grid(num_steps).astype(np.float32))
  want = arrays[name].transpose(0, 2, 3, 1)
  assert np.max(np.abs(got - want)) < 1e-3 * np.abs(want).max()


@pytest.mark.parametrize(
  ("call", "named"),
  [
    (lambda d, s, z: sampling.sample(d, z, GRID, solver="rk4"), "`solver` is 'rk4'; known are euler, heun"),
    (lambda d, s, z: sampling.gaussian_trajectory(s, z, GRID, method="rk4"), "known are exact, euler, heun"),
    (lambda d, s, z: sampling.sample(d, z, [2.0, 0.0]), "`sigmas` is"),
    (lambda d, s, z: sampling.sample(d, z, 2.0), "`sigmas` is 2.0"),
    (lambda d, s, z: sampling.gaussian_trajectory(s, z, [2.0, np.nan]), "all > 0"),
    (lambda d, s, z: sampling.sample_many(d, z[None], GRID, solver="rk4"), "`solver` is 'rk4'"),
    (lambda d, s, z: sampling.sample_many(d, z[None], [2.0, 0.0]), "`sigmas` is"),
    (lambda d, s, z: sampling.sample_many(d, z[:0][None][:0], GRID), "`noise` is empty"),
  ],
)
def test_refuses(call, named):
  with pytest.raises(ValueError, match=named):
    call(bound(make_stats()), make_stats(), draw_noise())


@pytest.mark.parametrize("method", METHODS)
def test_under_jit_vmap_and_pmap(method):
  stats, noise, grid = make_stats(), draw_noise(8).astype(np.float32), GRID.astype(np.float32)

  def run(stats, noise, sigmas):
    closed = sampling.gaussian_trajectory(stats, noise, sigmas, method=method)
    solver = "euler" if method == "exact" else method
    return closed, sampling.sample(Partial(gaussian, stats), noise, sigmas, solver=solver)

  stats = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), stats)
  one = run(stats, noise[0], grid)
  many = jax.jit(jax.vmap(run, in_axes=(None, 0, None)))(stats, noise, grid)
  spread = jax.pmap(run, in_axes=(None, 0, None))(stats, noise, grid)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b[0], rtol=F32, atol=F32), one, many)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=F32, atol=F32), many, spread)
