"""Disjoint halves, measured and predicted: the analysis, its readings, its figures and its study."""

import itertools

import numpy as np
import pytest
from ml_collections import ConfigDict
from test_plots import legible

from configs import halves as config
from gauss_diffusion import data, edm, results, statistics
from gauss_diffusion.analyses import halves
from gauss_diffusion.analyses import subject as subjects
from gauss_diffusion.analyses.subject import IMAGE, Subject
from gauss_diffusion.images import to_float
from gauss_diffusion.plots import halves as plot
from gauss_diffusion.plots import halves_distance
from gauss_diffusion.probes import finite_data
from gauss_diffusion.readings import halves as readings_of
from gauss_diffusion.readings.measures import Reading
from gauss_diffusion.study import check

FEW = {"images": 2, "latents": 3, "pairs": 2}
SIGMA = np.geomspace(80, 0.002, 10)
FLOAT32 = 2e-5  # of images of norm about 1 per pixel, after a few matmuls of 64 terms


@pytest.fixture(scope="module")
def dataset():
  return data.load("digits", held_out=360, seed=0)


def subject_of(dataset, images):
  """A subject on these digits, the Gaussian denoiser under the microscope."""
  stats = statistics.gaussian_stats(images)
  subject = Subject(
    network=None,
    stats=stats,
    train=images,
    held_out=dataset.held_out,
    sigmas=edm.sigma_grid(5, 0.5, 20.0),
    solver="euler",
    seed=0,
    records={"gaussian": stats},
    distillation=None,
    pool=statistics.gaussian_stats(dataset.pool),
  )
  return subject._replace(network=subjects.denoiser(subject, "gaussian"))


def reading(found, size, part, replicate=0, group=""):
  entry = {"size": size, "part": part, "group": group or f"halves of {size}"}
  found = {"halves": found, "samples": drawn(size + part + 5 * replicate)}
  return Reading(f"halves of {size}, {part + 1}", entry, found, {}, replicate)


def drawn(seed):
  samples = np.random.default_rng(seed).normal(size=(2, 5, 4, 4, 1)).astype(np.float32)
  return results.labelled(
    {"samples": (("denoiser", "latent", *IMAGE), samples)}, {"denoiser": ["network", "gaussian"]}
  )


def test_deviations_are_those_of_shared_inputs(dataset):
  subject = subject_of(dataset, data.subset(dataset, 128, 1).images)
  found = halves.compute(subject, ConfigDict(FEW | {"images": 6}), "test")
  assert found.deviations.shape == (2, 5, 6, 8, 8, 1) and found.deviations.dtype == np.float32
  np.testing.assert_array_equal(
    found.deviations.sel(denoiser="network"), found.deviations.sel(denoiser="gaussian")
  )
  noise = np.random.default_rng([0, *b"halves"]).standard_normal((6, 8, 8, 1), np.float32)
  rows = to_float(subject.train).reshape(128, 64).astype(np.float64)
  every = to_float(dataset.pool).reshape(-1, 64).astype(np.float64)

  def exact(rows, x, sigma):
    covariance = np.cov(rows.T, bias=True)
    weight = np.linalg.solve(covariance + sigma**2 * np.eye(64), covariance).T
    return rows.mean(0) + (x - rows.mean(0)) @ weight.T

  for s, sigma in enumerate(subject.sigmas):
    x = (to_float(dataset.held_out[:6]) + np.float32(sigma) * noise).reshape(6, 64)
    want = exact(rows, x, sigma) - exact(every, x, sigma)
    got = found.deviations.sel(denoiser="gaussian").to_numpy()[s].reshape(6, 64)
    np.testing.assert_allclose(got, want, atol=FLOAT32)


def test_what_is_predicted_is_what_halves_of_digits_are_apart(dataset):
  """One pair scatters by up to 40 %, as 200 pairs showed: 16 leave 10 %. Digits are no Gaussians."""
  rng, size, readings = np.random.default_rng(1), 128, []
  for replicate in range(16):
    images = dataset.pool[rng.permutation(len(dataset.pool))]
    for part in (0, 1):
      subject = subject_of(dataset, images[part * size : (part + 1) * size])
      found = halves.compute(subject, ConfigDict(FEW | {"images": 30}), "test")
      readings.append(reading(found, size, part, replicate))
  found = readings_of.by_size(readings)[size]
  np.testing.assert_allclose(found.gaussian, found.predicted, rtol=0.25)
  np.testing.assert_array_equal(found.gaussian, found.network)


def test_a_subject_without_the_pool_is_refused(dataset):
  subject = subject_of(dataset, dataset.pool[:45])._replace(pool=None)
  with pytest.raises(AssertionError, match="all training images"):
    halves.compute(subject, ConfigDict(FEW), "test")


def test_samples_are_predicted_with_the_sampler_of_the_study(dataset):
  """Two Gaussian denoisers of 128 digits each, sampled by the study's solver, not by the exact flow."""
  size, settings = 128, ConfigDict(FEW | {"latents": 40, "pairs": 12})
  one, two = (subject_of(dataset, data.subset(dataset, size, part).images) for part in (0, 1))
  found = halves.compute(one, settings, "test")
  assert found.samples_predicted.shape == (12, 40)
  latents = subjects.noise(one, "latents", 40)
  drawn = []
  for subject in (one, two):
    rows = to_float(subject.train).reshape(size, 64).astype(np.float64)
    values, basis = np.linalg.eigh(np.cov(rows.T, bias=True))
    levels = np.append(subject.sigmas, 0)
    x = levels[0] * latents.reshape(40, 64) - rows.mean(0)
    gain = np.prod([1 + (s - t) / t * t**2 / (values + t**2) for t, s in zip(levels, levels[1:])], axis=0)
    drawn.append(rows.mean(0) + x @ basis * gain @ basis.T)
  apart = np.linalg.norm(drawn[0][:, None] - drawn[1][None], axis=-1)
  same = np.diagonal(apart)
  measured = np.mean(same / ((apart.sum(1) - same) / 39))
  spread = found.samples_predicted.mean("latent").to_numpy()
  assert abs(measured / spread.mean() - 1) < 0.1 + 3 * spread.std() / spread.mean()
  exact = finite_data.halves_samples(
    one.pool, latents, one.sigmas, size, method="exact", pairs=12, seed=0
  ).mean()
  assert abs(exact / spread.mean() - 1) > 0.01


@pytest.mark.parametrize(
  ("field", "value", "message"),
  [
    ("images", 0, "there are 360 held-out"),
    ("images", 361, "there are 360 held-out"),
    ("latents", 1, "want at least 2"),
    ("pairs", 0, "want at least 1"),
  ],
)
def test_refuses(field, value, message):
  settings = ConfigDict({"halves": FEW | {field: value}})
  with pytest.raises(ValueError, match=f"^`halves.{field}` is {value}; {message}"):
    halves.check(settings, (8, 8, 1), 360)


def fake(seed, network=2.0, size=16):
  rng = np.random.default_rng(seed)
  outputs = rng.normal(size=(2, 10, 7, 4, 4, 1)).astype(np.float32)
  outputs[0] *= network
  return results.labelled(
    {
      "deviations": (("denoiser", "sigma", "image", *IMAGE), outputs / np.sqrt(size)),
      "predicted": (("sigma", "image"), rng.uniform(1, 3, (10, 7)) / size),
      "samples_predicted": (("pair", "latent"), rng.uniform(0.5, 1, (2, 6))),
    },
    {"denoiser": ["network", "gaussian"], "sigma": SIGMA},
  )


def study(sizes, replicates=1):
  return [
    reading(fake(size + 3 * part + 10 * replicate, size=size), size, part, replicate)
    for replicate, size, part in itertools.product(range(replicates), sizes, (1, 0))
  ]


def test_distances_are_means_over_pairs_and_inputs():
  readings = study((256, 16), replicates=2)
  alone = reading(fake(99), 64, 0)
  bare = reading(fake(98), 32, 0)._replace(found={})
  found = readings_of.by_size([alone, bare, *readings])
  assert list(found) == [16, 256]
  want, predicted = [], []
  for replicate in (0, 1):
    one, two = (fake(16 + 3 * part + 10 * replicate) for part in (0, 1))
    want.append(((one.deviations - two.deviations).to_numpy().astype(np.float64) ** 2).mean((2, 3, 4, 5)))
    predicted.append(one.predicted.to_numpy().mean(1))
  network, gaussian = np.mean(want, 0)
  np.testing.assert_allclose(found[16].network, network, rtol=1e-6)  # float32 outputs
  np.testing.assert_allclose(found[16].gaussian, gaussian, rtol=1e-6)
  np.testing.assert_allclose(found[16].predicted, np.mean(predicted, 0))
  np.testing.assert_array_equal(found[16].sigma, SIGMA)
  pairs = [readings_of.distances((readings[i], readings[j])) for i, j in ((3, 2), (7, 6))]
  assert found[16].samples_predicted == np.mean([pair.samples_predicted for pair in pairs])
  a, b = (drawn(16 + part).samples.to_numpy()[0].reshape(5, 16).astype(np.float64) for part in (0, 1))
  apart = np.linalg.norm(a[:, None] - b[None], axis=-1)
  want = np.diagonal(apart) / ((apart.sum(1) - np.diagonal(apart)) / 4)
  np.testing.assert_allclose(pairs[0].samples_network, want.mean())


@pytest.mark.parametrize("sizes", [(16,), (16, 45, 128, 256, 718), (64, 782, 6_250, 25_000)])
def test_the_figure_of_the_study_draws_the_readings(sizes):
  readings = study(sizes)
  figure = halves_distance.draw(readings, "")
  words = legible(figure)
  assert all(f"{size:,}" in words for size in sizes)
  assert all(word in words for word in ("networks", "predicted", "Gaussian denoisers", "σ"))
  found = readings_of.by_size(readings)
  over_level, over_size, over_samples, gaussians, networks, of_predicted = figure.axes
  for i, size in enumerate(sizes):
    lines = over_level.lines[3 * i : 3 * i + 3]
    for line, values in zip(lines, found[size][1:4]):
      np.testing.assert_allclose(line.get_xdata(), SIGMA)
      np.testing.assert_allclose(line.get_ydata(), values)
    for axis, values in ((gaussians, found[size].gaussian), (networks, found[size].network)):
      np.testing.assert_allclose(axis.lines[i + 1].get_ydata(), values / found[size].predicted)
  samples = [found[size].samples_network for size in sizes]
  np.testing.assert_allclose(over_samples.lines[-1].get_ydata(), samples)
  predicted = [found[size].samples_predicted for size in sizes]
  np.testing.assert_allclose(of_predicted.lines[-1].get_ydata(), np.divide(samples, predicted))
  lowest = over_size.lines[-3]
  level = np.flatnonzero((SIGMA >= 0.1) & (SIGMA <= 20))[-1]
  assert list(lowest.get_xdata()) == list(sizes)
  np.testing.assert_allclose(lowest.get_ydata(), [found[size].predicted[level] for size in sizes])


def test_the_figure_of_the_study_without_pairs_is_empty():
  figure = halves_distance.draw([reading(fake(0), 16, 0)], "")
  legible(figure)
  assert not figure.axes[0].lines


@pytest.mark.parametrize("num_models", [1, 7])
def test_the_figure_of_a_model_draws_roots(num_models):
  found = {f"halves of {i}": [fake(i), fake(10 + i)] for i in range(num_models)}
  figure = plot.draw(found)
  words = legible(figure)
  assert all(title in words for title in found) and "predicted" in words
  predicted, own = figure.axes[0].lines
  networks = found["halves of 0"]
  np.testing.assert_allclose(
    predicted.get_ydata(), np.mean([np.sqrt(one.predicted).mean("image") for one in networks], 0)
  )
  gaps = [np.diff(one.deviations.to_numpy(), axis=0)[0] for one in networks]
  roots = [np.sqrt((gap.astype(np.float64) ** 2).mean((2, 3, 4))).mean(1) for gap in gaps]
  np.testing.assert_allclose(own.get_ydata(), np.mean(roots, 0), rtol=1e-6)


@pytest.mark.parametrize("arg", ["", "cpu", "digits", "smoke"])
def test_every_variant_of_the_study_passes_its_own_checks(arg):
  small = ((8, 8, 1), 1_437, 360)
  cifar = {"": ((32, 32, 3), 50_000, 10_000), "cpu": ((16, 16, 3), 50_000, 2_000)}
  asked = config.get_config(arg)
  check.check(asked, *cifar.get(arg, small))
  assert len(asked.models) == 2 * len(config.SIZES[arg])
  pairs = [(model.group, model.size) for model in asked.models.values()]
  assert all(pairs.count(pair) == 2 for pair in pairs)


def test_an_unknown_variant_of_the_study_is_refused():
  with pytest.raises(ValueError, match="`huge`.*smoke"):
    config.get_config("huge")
