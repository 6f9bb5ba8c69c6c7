"""Both analyses of Jacobian modes on denoisers that are known, and what their figures draw."""

import itertools

import numpy as np
import pytest
from ml_collections import ConfigDict

from gauss_diffusion import data, edm, statistics
from gauss_diffusion.analyses import modes, perturbation
from gauss_diffusion.analyses.subject import Subject, denoiser, sample
from gauss_diffusion.plots import modes as modes_plot
from gauss_diffusion.plots import perturbation as perturbation_plot

SIGMAS = edm.sigma_grid(5, 0.02, 10.0)


def subject(name, size):
  """Return a study's subject whose network is a denoiser of that name, fitted to `size` digits."""
  dataset = data.load("digits", held_out=360, seed=0)
  images = data.subset(dataset, size).images
  stats = statistics.gaussian_stats(images)
  made = Subject(
    network=None,
    stats=stats,
    train=images,
    held_out=dataset.held_out,
    sigmas=SIGMAS,
    solver="euler",
    seed=0,
    records={"gaussian": stats, "multi-delta": images},
    distillation=None,
  )
  return made._replace(network=denoiser(made, name), records={})


def settings(module, **changes):
  return ConfigDict({**module.DEFAULTS, "latents": 3, **changes})


def config(module, **changes):
  return ConfigDict({module.__name__.split(".")[-1]: settings(module, **changes)})


@pytest.fixture(scope="module")
def on_gaussian():
  return subject("gaussian", 100)


@pytest.fixture(scope="module")
def gaussian_modes(on_gaussian):
  return modes.compute(on_gaussian, settings(modes, vectors=6), "test")


@pytest.fixture(scope="module")
def gaussian_pushes(on_gaussian):
  return perturbation.compute(on_gaussian, settings(perturbation, levels=(11.0, 1.0, 0.9, 0.001)), "test")


def test_the_gaussian_denoiser_has_the_components_as_modes(on_gaussian, gaussian_modes):
  found, stats = gaussian_modes, on_gaussian.stats
  assert np.all(stats.eigenvalues[:6] > 1.05 * stats.eigenvalues[1:7])  # separated: vectors have their order
  expected = stats.eigenvalues[:6] / (stats.eigenvalues[:6] + SIGMAS[:, None] ** 2)
  np.testing.assert_allclose(found["values"], np.stack([expected] * 3, 1), rtol=1e-4)
  np.testing.assert_allclose(found.gaussian_values, expected, rtol=1e-6)
  # At the lowest level the gains differ by little more than float32 resolves: only the span is left.
  np.testing.assert_allclose(found.correlation[:3], np.broadcast_to(np.eye(6), (3, 3, 6, 6)), atol=0.01)
  np.testing.assert_allclose(found.alignment, 1, atol=0.01)
  assert found.chance == 6 / 64
  for name in ("vectors", "components"):
    assert found[name].shape[-4:] == (6, 8, 8, 1)
  noise = np.random.default_rng([0, *b"latents"]).standard_normal((3, 8, 8, 1), np.float32)
  state = np.asarray(sample(on_gaussian, on_gaussian.network, noise).x)[0, 2]
  np.testing.assert_allclose(found.estimates[2], on_gaussian.network(state, SIGMAS[2]), atol=1e-6)
  cos = np.sum(found.vectors.values[0] * found.components.values, axis=(1, 2, 3))
  np.testing.assert_allclose(np.abs(cos), 1, atol=1e-3)


def test_the_memorizer_leaves_the_components_at_middle_noise():
  memorizer = subject("multi-delta", 100)
  found = modes.compute(memorizer, settings(modes, vectors=6), "test")
  alignment = found.alignment.mean("latent")
  assert alignment[0] > 0.9  # noise 10: the posterior is all of the data
  assert alignment[2] < 0.6  # noise 0.87: between a few neighbours
  # There, J is the posterior covariance at the trajectory's own state, over sigma^2.
  noise = np.random.default_rng([0, *b"latents"]).standard_normal((3, 8, 8, 1), np.float32)
  y = memorizer.train.reshape(100, 64) / 127.5 - 1
  for i, x in enumerate(sample(memorizer, memorizer.network, noise).x[:, 2]):
    distance = np.sum((y - x.reshape(1, 64)) ** 2, axis=1)
    weights = np.exp(-(distance - distance.min()) / (2 * SIGMAS[2] ** 2))
    covariance = np.cov(y.T, aweights=weights / weights.sum(), ddof=0)
    values = np.linalg.eigvalsh(covariance)[::-1][:6] / SIGMAS[2] ** 2
    np.testing.assert_allclose(found["values"][2, i], values, atol=1e-4)  # float32


def test_components_beyond_the_rank_are_nothing():
  found = modes.compute(subject("gaussian", 4), settings(modes, vectors=5), "test")
  assert found.chance == 3 / 64 and not found.gaussian_values[:, 3:].any()
  assert not found.correlation[..., 3:].any() and not found.components[3:].any()
  np.testing.assert_allclose(found.alignment, 3 / 5, atol=1e-4)


def test_levels_are_the_nearest_of_the_grid_once(gaussian_pushes):
  np.testing.assert_array_equal(gaussian_pushes.sigma, SIGMAS[[0, 2, 4]])
  np.testing.assert_allclose(gaussian_pushes.length, 3 * SIGMAS[[0, 2, 4]])


def test_a_push_of_the_gaussian_trajectory_is_the_product_of_its_steps(on_gaussian, gaussian_pushes):
  """Euler multiplies a mode of variance λ by 1 + (σ' - σ) σ/(λ + σ²) at each step, from the push on."""
  stats, grid = on_gaussian.stats, np.append(SIGMAS, 0)

  def gain(lam, start):
    steps = zip(grid[start:-1], grid[start + 1 :])
    return np.prod([1 + (after - now) * now / (lam + now**2) for now, after in steps], axis=0)

  lam = stats.eigenvalues.astype(float)
  noise = np.random.default_rng([0, *b"perturbation"]).standard_normal((3, 64), np.float32)
  along = noise / np.linalg.norm(noise, axis=1, keepdims=True) @ stats.basis
  outside = 1 - np.sum(along**2, axis=1)
  for row, start in enumerate((0, 2, 4)):
    push = 3 * SIGMAS[start]
    first = push * gain(lam[0], start) / 8
    random = push * np.sqrt(along**2 @ gain(lam, start) ** 2 + outside * gain(0.0, start) ** 2) / 8
    if start < 4:  # at the lowest level all gains are 1 to 1e-3, and the first vector is any of them
      pushed = gaussian_pushes.change.sel(direction="first singular vector")[row]
      np.testing.assert_allclose(pushed, first, rtol=1e-3)
    pushed = gaussian_pushes.change.sel(direction="random")[row]
    np.testing.assert_allclose(pushed, [random] * 2, rtol=1e-3)
  middle = gaussian_pushes.samples.mean("sign").to_numpy()
  np.testing.assert_allclose(middle, np.broadcast_to(gaussian_pushes.unmoved, middle.shape), atol=1e-4)


def test_steps_from_a_level_to_itself_change_nothing_under_heun_either(on_gaussian):
  heun = on_gaussian._replace(solver="heun")
  found = perturbation.compute(heun, settings(perturbation, levels=(1.0,), strength=1e-9), "test")
  assert found.change.max() < 1e-5  # nothing is moved


@pytest.mark.parametrize(
  "module, changes",
  [
    (modes, {"latents": 0}),
    (modes, {"iterations": 0}),
    (modes, {"vectors": 0}),
    (modes, {"vectors": 65}),
    (perturbation, {"levels": ()}),
    (perturbation, {"levels": (1.0, 0.0)}),
    (perturbation, {"latents": 0}),
    (perturbation, {"iterations": 0}),
    (perturbation, {"strength": 0.0}),
  ],
)
def test_check_names_the_field(module, changes):
  name = module.__name__.split(".")[-1]
  module.check(config(module), (8, 8, 1), 360)
  with pytest.raises(ValueError, match=f"`{name}.{next(iter(changes))}` is"):
    module.check(config(module, **changes), (8, 8, 1), 360)


def test_the_figure_of_modes_draws_alignment_and_mean_correlation(gaussian_modes):
  rng = np.random.default_rng(0)
  other = gaussian_modes.copy(deep=True)
  other.correlation[:] = rng.uniform(0, 1, (5, 3, 6, 6))
  other.alignment[:] = rng.uniform(0, 1, (5, 3))
  figure = modes_plot.draw({"N = 1": [gaussian_modes], "N = 2": [other]})
  curves = figure.axes[0].lines
  np.testing.assert_allclose(curves[1].get_ydata(), other.alignment.mean("latent"))
  np.testing.assert_allclose(curves[2].get_ydata(), 6 / 64)
  kept = figure.axes[1].lines  # of the last model
  np.testing.assert_allclose(kept[0].get_ydata(), other["values"][0].mean("latent"))
  np.testing.assert_allclose(kept[1].get_ydata(), other.gaussian_values[0])
  maps = [axis for axis in figure.axes if axis.get_title(loc="left").startswith("σ")]
  names = ["σ = 10", "σ = 3.3", "σ = 0.87", "σ = 0.17", "σ = 0.02"]
  assert [axis.get_title(loc="left") for axis in maps] == 2 * names
  assert [maps[0].get_ylabel(), maps[5].get_ylabel()] == ["N = 1", "N = 2"]
  for level, axis in enumerate(maps[5:]):
    # Vectors to the right, components up.
    np.testing.assert_allclose(axis.images[0].get_array(), other.correlation.values[level].mean(0).T)
  rows = [text.get_text() for text in figure.axes[-2].get_yticklabels()]
  assert rows == ["principal\ncomponents", *names] and len(figure.axes[-1].get_yticklabels()) == 6


def test_the_figure_of_pushes_draws_the_mean_change_of_both_directions(gaussian_pushes):
  figure = perturbation_plot.draw({"N = 1": [gaussian_pushes]})
  sheet, axis = figure.axes
  assert [text.get_text().split() for text in sheet.get_yticklabels()][:3] == [
    ["unmoved"],
    ["σ", "=", "10", "−"],
    ["σ", "=", "10", "+"],
  ]
  page = np.asarray(sheet.images[0].get_array())
  along = gaussian_pushes.samples.sel(direction="first singular vector").isel(latent=1)
  for row, (level, sign) in enumerate(itertools.product(range(3), (-1, 1)), 1):
    moved = np.clip((along.isel(sigma=level).sel(sign=sign) + 1) / 2, 0, 1)
    tile = page[103 * row : 103 * row + 96 : 12, 103:199:12, :1]  # of the second latent
    np.testing.assert_allclose(tile, moved, atol=1e-6)
  for line, direction in zip(axis.lines, ("first singular vector", "random")):
    change = gaussian_pushes.change.sel(direction=direction)
    np.testing.assert_allclose(line.get_ydata(), change.mean(["sign", "latent"]))
  assert "3 σ" in axis.get_title(loc="left")
