"""One noisy image through denoisers whose answer is known, and the figure of it."""

import numpy as np
import pytest
from jax.tree_util import Partial
from ml_collections import ConfigDict
from test_plots import legible

from gauss_diffusion import data, edm, results, statistics
from gauss_diffusion.analyses import denoised
from gauss_diffusion.analyses.subject import DENOISERS, IMAGE, Subject
from gauss_diffusion.plots import denoised as plot
from gauss_diffusion.plots import style
from gauss_diffusion.probes import score_gap


def half(x, sigma):
  """Return a denoiser that is no identity but parallel to it."""
  return x / 2


@pytest.fixture(scope="module")
def examined():
  dataset = data.load("digits", held_out=360, seed=0)
  images = data.subset(dataset, 20).images
  sigmas = edm.sigma_grid(4, 0.02, 10.0)  # 10, 2.2, 0.31, 0.02
  weight = np.arange(1, 5)[:, None, None] * np.eye(64)  # level l multiplies by l + 1
  maps = results.labelled(
    {
      "weight": (("law", "sigma", "output", "input"), weight[None]),
      "bias": (("law", "sigma", "output"), np.zeros((1, 4, 64))),
    },
    {"sigma": sigmas, "law": ["held-out"]},
  )
  stats = statistics.gaussian_stats(images)
  subject = Subject(
    network=Partial(half),
    stats=stats,
    train=images,
    held_out=dataset.held_out,
    sigmas=sigmas,
    solver="euler",
    seed=0,
    records={"gaussian": stats, "multi-delta": images},
    distillation=maps,
  )
  settings = {"sigmas": (60.0, 0.3, 0.02), "pure_noise": (2.0,), "shown": 3, "images": 10}
  return subject, denoised.compute(subject, ConfigDict(denoised.DEFAULTS | settings), "test")


def test_all_see_the_same_inputs_at_levels_of_the_grid(examined):
  subject, found = examined
  np.testing.assert_array_equal(found.input_sigma, subject.sigmas[[0, 2, 3, 1]])
  assert found.inputs.shape == (4, 3, 8, 8, 1) and found.outputs.shape == (4, 4, 3, 8, 8, 1)
  clean = subject.held_out[:3] / 127.5 - 1
  noise = (found.inputs[3] / found.input_sigma[3]).to_numpy()  # of an input without an image
  np.testing.assert_array_equal(found.has_image, [True, True, True, False])
  for level in range(3):
    want = clean + found.input_sigma.to_numpy()[level] * noise
    np.testing.assert_allclose(found.inputs[level], want, atol=1e-5)  # float32 of |x| up to 40
  assert abs(noise.std() - 1) < 0.2


def test_each_denoiser_gives_its_own(examined):
  subject, found = examined
  inputs, outputs = found.inputs.to_numpy(), found.outputs
  np.testing.assert_allclose(outputs.sel(denoiser="network"), inputs / 2)
  factor = np.array([1, 3, 4, 2])[:, None, None, None, None]  # the map of the level
  np.testing.assert_allclose(outputs.sel(denoiser="linear (held-out)"), factor * inputs, rtol=1e-6)
  # At sigma 0.02 the memorizer gives a training image.
  train = subject.train.reshape(-1, 64) / 127.5 - 1
  memorized = outputs.sel(denoiser="multi-delta").to_numpy()[2]
  distance = np.abs(memorized.reshape(3, 1, 64) - train[None]).max(-1).min(-1)
  assert distance.max() < 1e-3


def test_likeness_to_the_identity(examined):
  subject, found = examined
  network, gaussian = (found.sel(compared=name) for name in ("network", "gaussian"))
  np.testing.assert_allclose(network.cosine, 1, atol=1e-5)
  np.testing.assert_allclose(network.nmse, 0.5, atol=1e-5)
  # At low noise what D_G takes away is what lies outside the span of the training images.
  clean = subject.held_out[:10] / 127.5 - 1
  floor = score_gap.low_noise_floor(subject.stats, clean) / np.sqrt(np.mean(clean**2, axis=(1, 2, 3)))
  np.testing.assert_allclose(gaussian.nmse[-1], floor, atol=0.05)  # noise of sigma 0.02
  assert floor.min() > 0.1


@pytest.mark.parametrize(
  "settings, named",
  [
    ({"denoisers": ("multi-beta",)}, "denoised.denoisers"),
    ({"denoisers": ()}, "denoised.denoisers"),
    ({"sigmas": ()}, "denoised.sigmas"),
    ({"sigmas": (0.0,)}, "denoised.sigmas"),
    ({"pure_noise": (-1.0,)}, "denoised.pure_noise"),
    ({"shown": 0}, "denoised.shown"),
    ({"images": 361}, "denoised.images"),
  ],
)
def test_refuses(settings, named):
  config = ConfigDict({"analyses": ("distillation", "denoised"), "denoised": denoised.DEFAULTS})
  denoised.check(config, (8, 8, 1), 360)
  config.denoised.update(settings)
  with pytest.raises(ValueError, match=f"^`{named}`"):
    denoised.check(config, (8, 8, 1), 360)


def fake(num_models: int, denoisers=("network", "gaussian", "linear (held-out)", "multi-delta")) -> dict:
  """Return title -> random results, labelled as the analysis does it."""
  rng = np.random.default_rng(0)

  def found():
    return results.labelled(
      {
        "cosine": (("compared", "sigma", "image"), rng.uniform(0, 1, (2, 10, 6))),
        "nmse": (("compared", "sigma", "image"), rng.uniform(0.01, 1, (2, 10, 6))),
        "clean": (("shown", *IMAGE), rng.uniform(-1, 1, (4, 8, 8, 1))),
        "input_sigma": ("input", [80, 4.07, 1.5, 0.47, 4.07]),
        "has_image": ("input", [True, True, True, True, False]),
        "inputs": (("input", "shown", *IMAGE), rng.uniform(-1, 1, (5, 4, 8, 8, 1))),
        "outputs": (
          ("denoiser", "input", "shown", *IMAGE),
          rng.uniform(-1, 1, (len(denoisers), 5, 4, 8, 8, 1)),
        ),
      },
      {
        "sigma": np.geomspace(80, 0.002, 10),
        "compared": ["network", "gaussian"],
        "denoiser": list(denoisers),
      },
    )

  return {f"N = {2 ** (i + 4)}": [found()] for i in range(num_models)}


@pytest.mark.parametrize("num_models", [1, 2, 7])
def test_the_figure_is_legible(num_models):
  found = fake(num_models)
  words = legible(plot.draw(found))
  assert all(label in words for label in [*found, "σ = 80", "noise\n4.1", "clean", "Gaussian", "multi-delta"])


@pytest.mark.parametrize("num_models", [1, 4])
def test_the_figure_is_legible_with_every_denoiser(num_models):
  words = legible(plot.draw(fake(num_models, DENOISERS)))
  assert all(style.row_name(name) in words for name in DENOISERS)


def test_the_figure_draws_what_was_found():
  ((label, (found,)),) = fake(1).items()
  sheet, cosine, nmse = plot.draw({label: [found]}).axes
  page, step = sheet.images[0].get_array()[:, :, 0], 8 * 12 + 7

  def tile(row, column):
    return 2 * page[row * step : row * step + 96 : 12, column * step : column * step + 96 : 12] - 1

  np.testing.assert_allclose(tile(0, 5), found.clean[1, :, :, 0], atol=1e-6)  # level 1, image 1
  assert tile(0, 16).min() == 1  # pure noise has no clean image
  np.testing.assert_allclose(tile(1, 5), found.inputs[1, 1, :, :, 0], atol=1e-6)
  np.testing.assert_allclose(tile(5, 18), found.outputs[3, 4, 2, :, :, 0], atol=1e-6)
  for axis, values in ((cosine, found.cosine), (nmse, found.nmse)):
    for line, name in zip(axis.lines, ("network", "gaussian")):
      np.testing.assert_allclose(line.get_ydata(), values.sel(compared=name).mean("image"))
