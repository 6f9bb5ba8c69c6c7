"""What networks are made of: the scale, the analysis on known denoisers, readings, figure and study."""

import numpy as np
import pytest
from ml_collections import ConfigDict
from test_analyses import under_test
from test_plots import legible

from configs import explained as config
from gauss_diffusion import edm, results
from gauss_diffusion.analyses import explained
from gauss_diffusion.analyses.subject import IMAGE, denoiser
from gauss_diffusion.denoisers import FAMILIES
from gauss_diffusion.images import to_float
from gauss_diffusion.plots import explained as plot
from gauss_diffusion.plots import style
from gauss_diffusion.probes import explained as probe
from gauss_diffusion.readings import explained as readings
from gauss_diffusion.readings import headline, projection
from gauss_diffusion.readings.intervals import t_interval
from gauss_diffusion.readings.measures import Reading
from gauss_diffusion.study import check

F64 = 1e-9
FLOAT32 = 2e-5  # of images of norm about 1 per pixel, after a few matmuls of 64 terms
NAMES = ("gaussian", "kernel", "multi-delta")
SIGMA = np.geomspace(80, 0.002, 10)


# The scale.


@pytest.mark.parametrize("sigma", [0.002, 0.5, 80.0])
def test_the_raw_networks_output_is_found_again(sigma):
  rng = np.random.default_rng(0)
  x, raw = rng.normal(size=(2, 5, 4, 4, 1))
  scale, zero = edm.precondition(sigma), np.zeros((4, 4, 1))
  denoised = scale.c_skip * x + float(scale.c_out) * raw
  found = probe.excess(denoised, scale.c_skip * x, zero, scale)
  np.testing.assert_allclose(found, raw, rtol=1e-6, atol=1e-12 / sigma)
  # A mean that the raw network knows is no part of what it says.
  mean = rng.normal(size=(4, 4, 1))
  denoised = denoised + (1 - scale.c_skip) * mean
  np.testing.assert_allclose(
    probe.excess(denoised, scale.c_skip * x, mean, scale), raw, rtol=1e-6, atol=1e-12 / sigma
  )


@pytest.mark.parametrize("sigma", [0.002, 0.5, 80.0])
def test_nothing_is_the_gaussian_whose_pixels_are_alike_and_what_is_to_be_found_has_variance_one(sigma):
  # Karras et al. 2022: of N(mean, sigma_data² I) the best denoiser is the null, and the target's variance 1.
  rng = np.random.default_rng(1)
  mean = rng.normal(size=(8, 8, 1))
  clean = mean + 0.5 * rng.normal(size=(500, 8, 8, 1))
  x, scale = clean + sigma * rng.normal(size=clean.shape), edm.precondition(sigma, 0.5)
  best = mean + 0.25 / (0.25 + sigma**2) * (x - mean)
  assert abs(probe.excess(best, scale.c_skip * x, mean, scale)).max() < 1e-6 / min(sigma, 1)
  target = probe.excess(clean, scale.c_skip * x, mean, scale)
  np.testing.assert_allclose((target**2).mean(), 1, rtol=5 * np.sqrt(2 / clean.size))


def test_inner_products_are_means_over_pixels():
  fields = np.random.default_rng(2).normal(size=(3, 5, 4, 4, 2)).astype(np.float32)
  want = [[[np.mean(a[i].astype(float) * b[i]) for b in fields] for a in fields] for i in range(5)]
  np.testing.assert_allclose(probe.gram(fields), want, rtol=F64)


# The analysis.


def settings(**changes):
  return ConfigDict(explained.DEFAULTS | {"images": 12, "directions": 5} | changes)


@pytest.fixture(scope="module")
def on_gaussian():
  subject = under_test("gaussian")
  return subject, explained.compute(subject, settings(), "test")


def test_the_gaussian_denoiser_explains_itself_and_the_others_add_nothing(on_gaussian):
  _, found = on_gaussian
  assert found.gram.shape == (3, 4, 12, 4, 4) and found.residual.shape == (4, 12, 8, 8, 1)
  assert readings.families(found) == list(NAMES)
  for law in explained.LAWS:
    subsets = readings.subsets(found, law).mean(-1)
    np.testing.assert_allclose(subsets[1::2], 1, atol=1e-6)  # all that it is among
    np.testing.assert_allclose(projection.last_in(subsets)[1:], 0, atol=1e-6)
    np.testing.assert_allclose(projection.shapley(subsets).sum(0), 1, atol=1e-6)
    assert np.all(subsets[[2, 4, 6], -1] < 0.9)  # at σ = 0.02 the others do not know it
  np.testing.assert_allclose(readings.of_images(found), 1, atol=1e-5)
  assert abs(readings.of_components(found)).max() < 1e-5


def test_inner_products_are_those_of_shared_inputs_on_the_raw_scale(on_gaussian):
  subject, found = on_gaussian
  noise = np.random.default_rng([0, *b"explained"]).standard_normal((12, 64), np.float32)
  rows = to_float(subject.train).reshape(100, 64).astype(np.float64)
  mean, covariance = rows.mean(0), np.cov(rows.T, bias=True)
  for s, sigma in enumerate(subject.sigmas):
    x = to_float(subject.held_out[:12]).reshape(12, 64) + np.float32(sigma) * noise - mean
    weight = np.linalg.solve(covariance + sigma**2 * np.eye(64), covariance).T
    c_skip = 0.25 / (0.25 + sigma**2)
    want = (x @ weight.T - c_skip * x) / (sigma * np.sqrt(c_skip))
    got = found.gram.sel(law="held-out")[s].sel(denoiser="gaussian")
    rounding = FLOAT32 / (sigma * np.sqrt(c_skip)) * abs(want).mean(1).max()
    for other in ("gaussian", "network"):
      np.testing.assert_allclose(got.sel(other=other), (want**2).mean(1), rtol=1e-4, atol=2 * rounding)
    basis = np.linalg.eigh(covariance)[1][:, ::-1][:, found.index.to_numpy()]
    said = (want @ basis) ** 2
    np.testing.assert_allclose(found.said[s].T, said, rtol=1e-3, atol=1e-2 * said.max())


def test_a_memorizer_is_memory_whatever_the_inputs():
  found = explained.compute(under_test("multi-delta"), settings(images=40), "test")
  for law in explained.LAWS:
    first = projection.first_in(readings.subsets(found, law).mean(-1))
    np.testing.assert_allclose(first[2], 1, atol=1e-6)
    assert np.all(first[0, 2:] < 0.9)  # of the lower levels, where it is no longer the Gaussian denoiser


def test_who_knows_the_mean_alone_has_nothing_to_explain(on_gaussian):
  subject, _ = on_gaussian
  grey = subject.stats._replace(mean=0 * subject.stats.mean)  # of images whose mean c_skip x knows
  null = subject._replace(network=denoiser(subject, "skip"), stats=grey)
  found = explained.compute(null, settings(denoisers=("mean",)), "test")
  energy = found.gram.sel(denoiser="network", other="network")
  assert energy.max() < 1e-6  # of outputs of variance 1, of which float32 rounds 1e-7/σ


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"denoisers": ()}, "`explained.denoisers` is empty"),
    ({"denoisers": ("gaussian", "network")}, "`explained.denoisers` has 'network', which"),
    ({"denoisers": ("gausian",)}, "`explained.denoisers` has no denoiser 'gausian'; known: "),
    ({"denoisers": ("linear (train)",)}, "needs 'distillation' among `analyses`"),
    ({"images": 7}, "`explained.images` is 7; want at least 8"),
    ({"images": 361}, "`explained.images` is 361; want at least 8, .* and of 360 held-out"),
    ({"directions": 0}, "`explained.directions` is 0"),
  ],
)
def test_check_names_the_field(changes, message):
  def asked(**changes):
    return ConfigDict({"explained": explained.DEFAULTS | changes, "analyses": ("explained",)})

  explained.check(asked(images=8), (8, 8, 1), 360)
  with pytest.raises(ValueError, match=message):
    explained.check(asked(**changes), (8, 8, 1), 360)


def test_check_bounds_the_subsets(monkeypatch):
  monkeypatch.setattr(explained, "MOST", 2)
  asked = ConfigDict({"explained": explained.DEFAULTS, "analyses": ("explained",)})
  with pytest.raises(ValueError, match="`explained.denoisers` has 3; want at most 2"):
    explained.check(asked, (8, 8, 1), 360)


# Readings.


def along(fields, basis):
  return (fields.reshape(*fields.shape[:2], -1) @ basis).swapaxes(1, 2) ** 2


def made(fields, inputs=0, names=NAMES):
  """Return a result of fields [g, S, n, H, W, C], the network's last, the same on all laws."""
  names = [*names[: len(fields) - 1], "network"]
  flat = fields.reshape(*fields.shape[:3], -1)
  gram = np.einsum("gsnd,hsnd->sngh", flat, flat) / flat.shape[-1]
  basis = np.eye(16)[:, :5]
  residual = projection.residual(fields, gram)
  return results.labelled(
    {
      "gram": (("law", "sigma", "image", "denoiser", "other"), np.triu(np.stack([gram] * 3))),
      "residual": (("sigma", "image", *IMAGE), residual),
      "left": (("sigma", "direction", "image"), along(residual, basis)),
      "said": (("sigma", "direction", "image"), along(fields[-1], basis)),
      "eigenvalues": ("direction", np.geomspace(3, 0.01, basis.shape[1])),
      "index": ("direction", np.arange(basis.shape[1])),
      "inputs": ((), inputs),
    },
    {"law": list(explained.LAWS), "sigma": SIGMA[-fields.shape[1] :], "denoiser": names, "other": names},
  )


def networks(count, *, shared=1.0, own=1.0, families=3, levels=2, images=40, seed=0, inputs=0):
  """Return networks that are the sum of their first family, of something shared, and of their own."""
  rng = np.random.default_rng(seed)
  shape = (levels, images, 4, 4, 1)
  common = np.sqrt(shared) * rng.normal(size=shape)
  found = []
  for _ in range(count):
    known = rng.normal(size=(families, *shape))
    network = known[0] + common + np.sqrt(own) * rng.normal(size=shape)
    found.append(made(np.concatenate([known, network[None]]), inputs))
  return found


def mean_parts(found):
  parts = readings.parts(found)
  return {name: np.mean([part[name].mean(-1) for part in parts], axis=0) for name in parts[0]}


@pytest.mark.parametrize(("shared", "own"), [(1.0, 1.0), (0.2, 1.8), (0.0, 2.0), (2.0, 0.0)])
def test_what_networks_share_and_what_is_their_own_is_recovered(shared, own):
  found = mean_parts(networks(5, shared=shared, own=own, levels=1, images=400))
  assert list(found) == [*NAMES, readings.SHARED, readings.OWN]
  want = np.array([1, 0, 0, shared, own]) / 3
  # Standard errors of energies and inner products of 400 · 16 numbers: 1/√6400 of them, about 0.01.
  np.testing.assert_allclose(np.ravel(list(found.values())), want, atol=4 * 0.0125)
  np.testing.assert_allclose(sum(found.values()), 1, rtol=F64)


def test_parts_of_each_network_sum_to_one_and_average_to_the_mean_over_pairs():
  found = networks(4)
  parts = readings.parts(found)
  for part in parts:
    np.testing.assert_allclose(sum(each.mean(-1) for each in part.values()), 1, rtol=F64)
  rest = [
    each.residual.to_numpy() / np.sqrt(readings.energy(each).mean(1))[:, None, None, None, None]
    for each in found
  ]
  pairs = {(a, b): (rest[a] * rest[b]).mean((1, 2, 3, 4)) for a in range(4) for b in range(a)}
  mean = np.mean(list(pairs.values()), axis=0)
  np.testing.assert_allclose(mean_parts(found)[readings.SHARED], mean, rtol=F64)
  for a, part in enumerate(parts):  # leave one out, by hand
    without = np.mean([value for pair, value in pairs.items() if a not in pair], axis=0)
    np.testing.assert_allclose(part[readings.SHARED].mean(-1), 4 * mean - 3 * without, rtol=1e-7)


def test_residuals_are_what_the_inner_products_say():
  (found,) = networks(1)
  grams = readings._grams(found, "held-out")
  np.testing.assert_array_equal(grams, grams.swapaxes(-1, -2))
  squared = (found.residual.to_numpy() ** 2).mean((2, 3, 4))
  np.testing.assert_allclose(squared, projection.unexplained(grams, range(3)), rtol=1e-8)
  np.testing.assert_allclose(readings.of_images(found), 1 - squared / grams[..., -1, -1], rtol=1e-8)
  np.testing.assert_allclose(
    readings.together(found).mean(-1), 1 - squared.sum(1) / grams[..., -1, -1].sum(1)
  )


@pytest.mark.parametrize("count", [1, 2])
def test_few_networks_leave_the_rest_whole(count):
  found = mean_parts(networks(count))
  assert list(found) == [*NAMES, readings.REST]
  np.testing.assert_allclose(sum(found.values()), 1, rtol=F64)


def test_networks_of_other_inputs_are_not_compared():
  found = networks(2) + networks(1, inputs=1)
  assert list(readings.parts(found)[0]) == [*NAMES, readings.REST]


def test_components_say_where_the_rest_is():
  rng = np.random.default_rng(3)
  field, rest = rng.normal(size=(2, 1, 60, 4, 4, 1))
  only = np.zeros((4, 4, 1))
  only[0, 1] = 1  # the second component
  found = readings.of_components(made(np.stack([field, field + only * rest])))
  assert found.shape == (1, 5, 60)
  np.testing.assert_allclose(found.mean(-1)[0, [0, 2, 3, 4]], 0, atol=0.01)
  np.testing.assert_allclose(found.mean(-1)[0, 1], 0.5, atol=0.2)


def test_headlines_have_the_parts_at_the_middle_level():
  found = networks(3, levels=10)
  rows = headline.headlines([Reading("a", {}, {"explained": each}, {}) for each in found])
  assert list(rows) == [f"made of {name} at σ = 0.72" for name in (*NAMES, readings.SHARED, readings.OWN)]
  parts = readings.parts(found)
  for row, name in zip(rows.values(), parts[0]):
    assert row == t_interval([part[name][4].mean() for part in parts])
  one = headline.headlines([Reading("a", {}, {"explained": found[0]}, {})])
  assert list(one)[-1] == f"made of {readings.REST} at σ = 0.72"
  assert not headline.headlines([Reading("a", {}, {}, {}), Reading("a", {}, {"explained": found[0]}, {})])


# The figure.


def test_the_figure_stacks_the_shares():
  found = {"N = 1": networks(5, levels=10), "N = 2": networks(5, levels=10, shared=3.0, seed=1)}
  figure = plot.draw(found)
  words = legible(figure)
  assert all(FAMILIES[name].title in words for name in NAMES)
  assert all(
    word in words for word in (readings.SHARED, readings.OWN, "95 % over 5 networks", "N = 1", "N = 2")
  )
  for axis, each in zip(figure.axes, found.values()):
    parts = mean_parts(each)
    bands = axis.collections[: 2 * len(parts)]
    heights = np.zeros(10)
    for up, down, (name, share) in zip(bands[::2], bands[1::2], parts.items()):
      assert up.get_label() == style.named(name)
      for band, part in ((up, np.maximum(share, 0)), (down, np.minimum(share, 0))):
        (path,) = band.get_paths()
        edges = {x: path.vertices[np.isclose(path.vertices[:, 0], x), 1] for x in each[0].sigma.to_numpy()}
        np.testing.assert_allclose([np.ptp(y) for y in edges.values()], abs(part), atol=1e-7)
      heights += share
    np.testing.assert_allclose(heights, 1, rtol=F64)
    together = np.mean([readings.together(one).mean(-1) for one in each], axis=0)
    line = next(line for line in axis.lines if line.get_label() == "explained together")
    np.testing.assert_allclose(line.get_ydata(), together, rtol=1e-7)


@pytest.mark.parametrize(("models", "count"), [(1, 1), (3, 3), (7, 2)])
def test_the_figure_is_legible_of_any_number_of_models_and_networks(models, count):
  found = {f"N = {4**m}": networks(count, levels=10, seed=m) for m in range(models)}
  words = legible(plot.draw(found))
  assert (readings.REST in words) == (count < readings.LEAST) != (readings.SHARED in words)
  assert "N = 1" in words and plot.TITLE and plot.LOOK_FOR


def test_the_figure_shows_any_denoisers():
  names = (
    "mean",
    "linear (held-out)",
    "skip",
    "gaussian",
    "kernel",
    "multi-delta",
    "identity",
    "linear (train)",
  )
  rng = np.random.default_rng(4)
  found = made(rng.normal(size=(9, 10, 12, 4, 4, 1)), names=names)
  words = legible(plot.draw({"N = 1": [found]}))
  assert all(style.named(name) in words for name in names)


# The study.


@pytest.mark.parametrize("arg", ["", "cpu", "digits", "smoke"])
def test_every_variant_of_the_study_passes_its_own_checks(arg):
  small = ((8, 8, 1), 1_437, 360)
  cifar = {"": ((32, 32, 3), 50_000, 10_000), "cpu": ((16, 16, 3), 50_000, 2_000)}
  asked = config.get_config(arg)
  check.check(asked, *cifar.get(arg, small))
  assert asked.replicates >= readings.LEAST and asked.analyses == ("explained", "samples")


def test_an_unknown_variant_of_the_study_is_refused():
  with pytest.raises(ValueError, match="`huge`.*smoke"):
    config.get_config("huge")
