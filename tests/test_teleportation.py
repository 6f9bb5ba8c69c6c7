"""Teleportation: for the Gaussian denoiser only the remaining steps err; what the figure draws and marks."""

import numpy as np
import pytest
from ml_collections import ConfigDict
from test_modes_analysis import subject
from test_plots import legible

from gauss_diffusion import edm
from gauss_diffusion.analyses import teleportation
from gauss_diffusion.plots import teleportation as plot

LEVELS = 10
FLOAT32 = 1e-4  # absolute: states are up to 40 at the first level


def compute(name, levels=LEVELS, solver="euler", **changes):
  made = subject(name, 100)._replace(sigmas=edm.sigma_grid(levels, 0.02, 10.0), solver=solver)
  return made, teleportation.compute(made, ConfigDict(teleportation.DEFAULTS | changes), "test")


@pytest.fixture(scope="module")
def gaussian():
  return compute("gaussian", latents=6)


@pytest.fixture(scope="module")
def memorizer():
  return compute("multi-delta", latents=6)


def flow(lam, start, end):
  return np.sqrt((lam + end**2) / (lam + start**2))


def euler(lam, grid):
  """Return the product of the gains of Euler's steps on a grid and to 0, float64."""
  grid = np.append(grid, 0)
  steps = 1 + np.diff(grid) * grid[:-1] / (lam[:, None] + grid[:-1] ** 2)
  return np.prod(steps, axis=1)


def reference(made, gain, num):
  """Return samples of the Gaussian denoiser whose modes have these gains, outside of the span as well."""
  stats, noise = (
    made.stats,
    np.random.default_rng([0, *b"latents"]).standard_normal((num, 8, 8, 1), np.float32),
  )
  centred = (noise * made.sigmas[0] - stats.mean).reshape(num, -1)
  modes = centred @ stats.basis
  outside = (centred - modes @ stats.basis.T) * gain[-1]
  return (stats.mean.reshape(-1) + outside + (modes * gain[:-1]) @ stats.basis.T).reshape(noise.shape)


def rms(difference):
  return np.sqrt(np.mean(difference**2, axis=(-3, -2, -1)))


def test_of_the_gaussian_denoiser_only_the_remaining_steps_err(gaussian):
  made, found = gaussian
  lam = np.append(made.stats.eigenvalues, 0)
  full = reference(made, euler(lam, made.sigmas), 6)
  for skip, sigma in enumerate(made.sigmas[:-1]):
    want = reference(made, flow(lam, made.sigmas[0], sigma) * euler(lam, made.sigmas[skip:]), 6)
    at = found.isel(sigma=skip).sel(start="teleported")
    np.testing.assert_allclose(at.samples, want[: teleportation.SHOWN], atol=FLOAT32)
    np.testing.assert_allclose(at.change, rms(want - full), atol=FLOAT32)
  fewer = [np.append(edm.sigma_grid(LEVELS - skip, 0.02, 10.0), 0) for skip in range(LEVELS - 1)]
  for skip, grid in enumerate(fewer):
    at = found.isel(sigma=skip).sel(start="fewer levels")
    want = reference(made, euler(lam, grid[:-1]), 6)
    np.testing.assert_allclose(at.change, rms(want - full), atol=FLOAT32)


def test_the_finer_the_sampler_the_less_teleportation_changes_the_gaussian():
  changes = [compute("gaussian", levels, "heun", latents=3, fine=160)[1] for levels in (10, 20, 40)]
  largest = [found.change.sel(start="teleported").max().item() for found in changes]
  assert largest[0] > 3 * largest[1] > 9 * largest[2]  # of second order, the last step to 0 aside
  # And with the whole way teleported but the last steps, it is nearer to the exact flow than the full run.
  errors = changes[0].error.sel(start="teleported").mean("latent")
  assert np.all(np.diff(errors) < 0)


def test_the_reference_is_the_exact_flow(gaussian):
  made, found = gaussian
  lam = np.append(made.stats.eigenvalues, 0)
  exact = reference(made, flow(lam, made.sigmas[0], made.sigmas[-1]) * lam / (lam + made.sigmas[-1] ** 2), 6)
  exact = exact[: teleportation.SHOWN]
  # The last step is Euler's to 0, as the sampler's: it returns the denoised image.
  np.testing.assert_allclose(found.fine, exact, atol=5e-3)  # Heun's error at 64 levels
  np.testing.assert_allclose(
    found.full_error[: teleportation.SHOWN], rms(found.samples[0, 0] - found.fine), rtol=1e-4
  )


def test_the_memorizer_is_no_gaussian(memorizer):
  _, found = memorizer
  change = found.change.sel(start="teleported").mean("latent")
  assert change[0] == 0 and change[1] < 0.1 < 0.3 < change[-1]
  error = found.error.sel(start="teleported").mean("latent")
  assert error[-1] > 0.3 > 1e-4 > found.full_error.mean()  # every full run ends on a training image


@pytest.mark.parametrize(("solver", "saved"), [("euler", range(9)), ("heun", range(0, 18, 2))])
def test_saved_calls_are_those_of_the_steps_left_out(solver, saved):
  found = compute("gaussian", solver=solver, latents=1, fine=20)[1]
  np.testing.assert_array_equal(found.saved, saved)
  assert found.calls == {"euler": 10, "heun": 19}[solver]


@pytest.mark.parametrize("changes", [{"latents": 0}, {"fine": 19}])
def test_check_names_the_field(changes):
  config = ConfigDict({"teleportation": teleportation.DEFAULTS | changes, "sampler": {"levels": 10}})
  with pytest.raises(ValueError, match=f"`teleportation.{next(iter(changes))}` is"):
    teleportation.check(config, (8, 8, 1), 360)


def test_the_figure_marks_the_last_start_that_costs_no_quality(gaussian, memorizer):
  one, two = gaussian[1], memorizer[1]
  error = 0 * two.error + (1 + 0.02 * two.saved) * one.full_error
  late = two.assign(full_error=one.full_error, error=error)
  figure = plot.draw({"N = 1": [one], "N = 2": [one, late], "N = 3": [two]})
  words = legible(figure)
  assert "N = 3" in words and "fewer levels" in words and plot.TITLE and plot.LOOK_FOR
  marks = [line for line in figure.axes[0].lines if line.get_marker() == "o"]
  assert len(marks) == 2  # a run without error has no start that is worse by a share of it
  for mark, networks in zip(marks, ([one], [one, late])):
    errors = [found.error.sel(start="teleported").mean("latent") for found in networks]
    relative = np.mean([each / found.full_error.mean() for each, found in zip(errors, networks)], axis=0)
    last = max(skip for skip in range(9) if (relative[: skip + 1] <= 1.05).all())
    assert mark.get_xdata()[0] == last and f"{last} saved" in words
    np.testing.assert_allclose(mark.get_ydata(), relative[last])
  assert marks[0].get_xdata()[0] == 8  # all of the Gaussian denoiser's way is the Gaussian's
  assert legible(plot.draw({"N = 1": [late]})).count("2 saved") == 1  # of 0, 2, 4, 6 % more
  legible(plot.draw({f"N = {i}": [two] for i in range(7)}))
