"""Linear distillation of two exact denoisers on both input laws, and the figure of it."""

import itertools

import numpy as np
import pytest
import scipy.stats
from ml_collections import ConfigDict
from test_plots import legible

from gauss_diffusion import data, distill, edm, results, statistics
from gauss_diffusion.analyses import input_law
from gauss_diffusion.analyses.subject import DENOISERS, Subject
from gauss_diffusion.plots import input_law as plot
from gauss_diffusion.plots import style
from gauss_diffusion.types import Affine

NUM, DIMENSION = 20, 64


@pytest.fixture(scope="module")
def subject():
  dataset = data.load("digits", held_out=360, seed=0)
  images = data.subset(dataset, NUM).images
  stats = statistics.gaussian_stats(images)
  return Subject(
    network=None,
    stats=stats,
    train=images,
    held_out=dataset.held_out,
    sigmas=edm.sigma_grid(4, 0.02, 10.0),  # 10, 2.2, 0.31, 0.02
    solver="euler",
    seed=0,
    records={"gaussian": stats, "multi-delta": images},
    distillation=None,
  )


@pytest.fixture(scope="module")
def found(subject):
  settings = {
    "denoisers": ("multi-delta", "gaussian"),
    "sigmas": (0.4, 0.3, 3.0),
    "pairs": 1024,
    "images": 24,
  }
  return input_law.compute(subject, ConfigDict(input_law.DEFAULTS | settings), "test")


def test_the_memorizer_is_gaussian_on_training_inputs_and_only_there(found):
  np.testing.assert_allclose(found.sigma, [2.17, 0.306], rtol=0.01)
  assert found.weight_gap.shape == (2, 2, 2, 2)
  assert found.output_gap.shape == (2, 2, 2, 2, 2, 24)
  memorizer = found.sel(denoiser="multi-delta")
  train, held_out = memorizer.sel(law="train"), memorizer.sel(law="held-out").isel(sigma=1)
  # The tower rule: on training inputs the gap is Monte-Carlo noise, whose norm 4096 weights fix to 1/64.
  np.testing.assert_allclose(train.weight_gap, train.weight_noise.values[:, None] * np.ones(2), rtol=0.1)
  assert (held_out.weight_gap**2).mean() - held_out.weight_noise**2 > 0.4**2
  # The same of outputs, on inputs of the law of the fit.
  own = train.sel(evaluated="train").isel(sigma=1)
  np.testing.assert_allclose((own.output_gap**2).mean(), (own.output_noise**2).mean(), rtol=0.2)
  own = held_out.sel(evaluated="held-out")
  assert (own.output_gap**2).mean() > 3 * (own.output_noise**2).mean()


def test_outputs_are_compared_on_images_that_no_map_was_fitted_to(subject, monkeypatch):
  fitted, closed_form = [], distill.closed_form

  def watched(denoise, images, *arguments, **options):
    fitted.append(images)
    return closed_form(denoise, images, *arguments, **options)

  monkeypatch.setattr(distill, "closed_form", watched)
  settings = {"denoisers": ("gaussian",), "sigmas": (0.3,), "pairs": 128, "images": 100, "repeats": 3}
  input_law.compute(subject, ConfigDict(input_law.DEFAULTS | settings), "test")
  train, held_out = fitted[:3], fitted[3:]
  assert len(held_out) == 3
  for images in train:  # a law of its own: the theorem is about all of them
    np.testing.assert_array_equal(images, subject.train)
  together = np.concatenate(held_out)
  assert len(together) == 260 == len({image.tobytes() for image in together})
  assert {image.tobytes() for image in together} == {image.tobytes() for image in subject.held_out[100:]}


def test_the_gaussian_denoiser_is_itself_on_both(found):
  # Least squares of float32 outputs.
  itself = found.sel(denoiser="gaussian")
  assert itself.weight_gap.max() < 1e-3 and itself.weight_noise.max() < 1e-3
  assert itself.output_gap.max() < 1e-4


def test_gaps_and_noise_are_those_of_the_maps(subject):
  rng, sigma = np.random.default_rng(0), subject.sigmas[2]
  covariance = subject.stats.basis * subject.stats.eigenvalues @ subject.stats.basis.T
  gaussian = covariance @ np.linalg.inv(covariance + sigma**2 * np.eye(DIMENSION))
  mean = subject.stats.mean.ravel()
  weights = (gaussian + 0.1 * rng.normal(size=(3, DIMENSION, DIMENSION))).astype(np.float32)
  biases = rng.normal(size=(3, DIMENSION)).astype(np.float32)
  maps = [Affine(w[None], b[None], np.float32([sigma])) for w, b in zip(weights, biases)]
  inputs = rng.normal(size=(2, 5, 8, 8, 1)).astype(np.float32)
  got = input_law._compare(subject, maps, inputs, sigma)

  size = np.linalg.norm(gaussian)
  np.testing.assert_allclose(
    got["weight_gap"], [np.linalg.norm(w - gaussian) / size for w in weights], rtol=1e-6
  )
  spread = [np.linalg.norm(one - two) for one, two in itertools.combinations(weights, 2)]
  np.testing.assert_allclose(got["weight_noise"], np.sqrt(np.mean(np.square(spread)) / 2) / size, rtol=1e-6)
  x = inputs.reshape(2, 5, DIMENSION).astype(np.float64)
  wanted = mean + (x - mean) @ gaussian.T
  outputs = np.stack([x @ w.T + b for w, b in zip(weights, biases)], axis=1)  # [laws, R, n, D]
  rmse = np.sqrt(np.mean((outputs - wanted[:, None]) ** 2, axis=-1))
  np.testing.assert_allclose(got["output_gap"], rmse, rtol=1e-4)  # float32
  pairs = [outputs[:, i] - outputs[:, j] for i, j in itertools.combinations(range(3), 2)]
  noise = np.sqrt(np.mean(np.square(pairs), axis=(0, -1)) / 2)
  np.testing.assert_allclose(got["output_noise"], noise, rtol=1e-4)


@pytest.mark.parametrize(
  "settings, named",
  [
    ({"denoisers": ("multi-beta",)}, "input_law.denoisers"),
    ({"denoisers": ()}, "input_law.denoisers"),
    ({"sigmas": ()}, "input_law.sigmas"),
    ({"sigmas": (1.0, 0.0)}, "input_law.sigmas"),
    ({"pairs": 127}, "input_law.pairs"),
    ({"repeats": 1}, "input_law.repeats"),
    ({"images": 0}, "input_law.images"),
    ({"images": 359}, "input_law.images"),
    ({"images": 357, "repeats": 4}, "input_law.images"),
  ],
)
def test_refuses(settings, named):
  config = ConfigDict({"analyses": ("input_law",), "input_law": input_law.DEFAULTS})
  input_law.check(config, (8, 8, 1), 360)
  config.input_law.update(settings)
  with pytest.raises(ValueError, match=f"^`{named}`"):
    input_law.check(config, (8, 8, 1), 360)


def fake(num_models: int, denoisers=("multi-delta", "network"), networks=1) -> dict:
  """Return title -> random results of its networks, labelled as the analysis does it."""
  rng, d = np.random.default_rng(0), len(denoisers)
  fit, laws = ("denoiser", "law", "sigma"), ["train", "held-out"]

  def found():
    return results.labelled(
      {
        "weight_gap": ((*fit, "repeat"), rng.uniform(0.5, 2, (d, 2, 6, 3))),
        "weight_noise": (fit, rng.uniform(0, 1.5, (d, 2, 6))),
        "output_gap": ((*fit, "evaluated", "repeat", "image"), rng.uniform(0.1, 0.3, (d, 2, 6, 2, 3, 9))),
        "output_noise": ((*fit, "evaluated", "image"), rng.uniform(0, 0.4, (d, 2, 6, 2, 9))),
      },
      {"denoiser": list(denoisers), "law": laws, "evaluated": laws, "sigma": np.geomspace(10, 0.02, 6)},
    )

  return {f"N = {2 ** (i + 4)}": [found() for _ in range(networks)] for i in range(num_models)}


@pytest.mark.parametrize("num_models", [1, 7])
def test_the_figure_is_legible(num_models):
  found = fake(num_models)
  words = legible(plot.draw(found))
  assert all(label in words for label in [*found, "multi-delta", "network", "held-out images", "σ"])


def test_the_figure_is_legible_with_every_denoiser():
  words = legible(plot.draw(fake(4, DENOISERS)))
  assert all(style.named(name) in words for name in DENOISERS)


@pytest.mark.parametrize("networks", [1, 3])
def test_the_figure_takes_the_noise_out_and_keeps_the_sign(networks):
  ((label, found),) = fake(1, networks=networks).items()
  axes, arrays = (
    plot.draw({label: found}).axes,
    [{name: one[name].to_numpy() for name in one} for one in found],
  )
  root = lambda squares: np.sign(squares) * np.sqrt(np.abs(squares))  # noqa: E731
  below = 0
  for row, law in np.ndindex(2, 2):
    measured, beyond = (line.get_ydata() for line in axes[2 * row + law].lines)
    squares = np.mean([np.mean(each["weight_gap"][row, law] ** 2, axis=-1) for each in arrays], axis=0)
    noise = np.mean([each["weight_noise"][row, law] ** 2 for each in arrays], axis=0)
    np.testing.assert_allclose(measured**2, squares)
    np.testing.assert_allclose(beyond, root(squares - noise))
    measured, beyond = (line.get_ydata() for line in axes[4 + 2 * row + law].lines)
    squares = np.mean(
      [np.mean(each["output_gap"][row, law, :, law] ** 2, axis=(1, 2)) for each in arrays], axis=0
    )
    noise = np.mean([np.mean(each["output_noise"][row, law, :, law] ** 2, axis=1) for each in arrays], axis=0)
    np.testing.assert_allclose(measured**2, squares)
    np.testing.assert_allclose(beyond, root(squares - noise), rtol=1e-6)
    below += np.sum(beyond < 0)
  assert networks > 1 or below


def test_the_band_is_the_interval_over_networks():
  ((label, found),) = fake(1, networks=3).items()
  axis = plot.draw({label: found}).axes[0]
  squares = np.stack([(one.weight_gap**2).mean("repeat") - one.weight_noise**2 for one in found])[:, 0, 0]
  half = scipy.stats.t.ppf(0.975, 2) * squares.std(0, ddof=1) / np.sqrt(3)
  ends = [squares.mean(0) + sign * half for sign in (-1, 1)]
  outline = axis.collections[0].get_paths()[0].vertices[: 2 * len(half), 1]
  want = np.concatenate([ends[0], ends[1][::-1]])
  np.testing.assert_allclose(outline, np.sign(want) * np.sqrt(np.abs(want)))
  assert not plot.draw({label: found[:1]}).axes[0].collections
