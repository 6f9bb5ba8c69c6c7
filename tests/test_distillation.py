"""Two fits of every map, on images that nothing is evaluated on, and the figure of them."""

import numpy as np
import pytest
from jax.tree_util import Partial
from ml_collections import ConfigDict
from test_plots import legible

from gauss_diffusion import distill, edm, results, statistics
from gauss_diffusion.analyses import denoised, distillation, input_law, score_gap
from gauss_diffusion.analyses.subject import LAWS, Subject
from gauss_diffusion.plots import distillation as plot
from gauss_diffusion.probes import spectrum

D = 16
SETTINGS = ConfigDict(distillation.DEFAULTS | {"pairs": 256, "reserved": 9, "subspaces": (1, 3, 16)})


def curved(x, sigma):
  return 0.5 * x + 0.1 * x**2


@pytest.fixture(scope="module")
def subject():
  images = np.random.default_rng(0).integers(0, 256, (60, 4, 4, 1), np.uint8)
  return Subject(
    network=Partial(curved),
    stats=statistics.gaussian_stats(images[:12]),  # of rank 11
    train=images[:12],
    held_out=images[12:],
    sigmas=edm.sigma_grid(3, 0.1, 10.0),
    solver="euler",
    seed=0,
    records={},
    distillation=None,
  )


@pytest.fixture(scope="module", params=["closed_form", "gradient_descent"])
def watched(subject, request):
  """Return the result by one method, and what each fit was given and gave."""
  method, fits = request.param, []
  fit = getattr(distill, method)

  def watch(denoise, images, sigmas, key, **options):
    fits.append((images, *fit(denoise, images, sigmas, key, **options)))
    return fits[-1][1:]

  settings = ConfigDict(SETTINGS.to_dict() | {"method": method, "steps": 5})
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(distill, method, watch)
    return distillation.compute(subject, settings, "test"), fits


def test_no_map_is_fitted_to_a_reserved_image_and_held_out_fits_share_none(subject, watched):
  found, fits = watched
  half = len(fits) // 2
  for images, *_ in fits[:half]:
    np.testing.assert_array_equal(images, subject.train)
  sets = [{image.tobytes() for image in images} for images, *_ in fits[half:]]
  one, two = sets[0], sets[-1]
  assert not one & two and len(one | two) == 39
  assert one | two == {image.tobytes() for image in subject.held_out[9:]}
  np.testing.assert_array_equal(found.disjoint.sel(law=list(LAWS)), [False, True])
  assert found.pairs == 256


def test_the_map_is_the_mean_of_two_fits_and_what_is_said_of_it_follows(subject, watched):
  found, fits = watched
  per_fit = len(fits) // 4  # the closed form is called once a level
  for i, law in enumerate(LAWS):
    one, two = (
      np.concatenate([maps.weight for _, maps, _ in fits[(2 * i + j) * per_fit : (2 * i + j + 1) * per_fit]])
      for j in range(2)
    )
    assert np.all(np.any(one != two, axis=(1, 2)))  # other pairs, on the same images too
    at = found.sel(law=law)
    np.testing.assert_allclose(at.weight, (one.astype(np.float64) + two) / 2, atol=1e-6)
    for s, sigma in enumerate(subject.sigmas):
      gap = spectrum.weight_gap(at.weight[s].to_numpy(), subject.stats, sigma) ** 2
      # The mean is rounded to float32.
      np.testing.assert_allclose(at.weight_gap2[s] + at.weight_noise2[s], gap, rtol=1e-4)
      expected = distill.expected_noise2(float(at.fit_rmse[s]) ** 2, 256, subject.stats, sigma) / 2
      np.testing.assert_allclose(at.expected_noise2[s], expected, rtol=1e-12)
      np.testing.assert_allclose(
        at.perturbation[s], np.linalg.norm((one[s] - two[s]).astype(np.float64), 2) / 2, rtol=1e-6
      )
      vectors = [
        np.linalg.svd(each.astype(np.float64))[0][:, :3] for each in (at.weight.values[s], one[s], two[s])
      ]
      energy = lambda a, b: np.sum((a.T @ b) ** 2) / 3  # noqa: E731
      np.testing.assert_allclose(
        at.subspace.sel(k=3)[s], energy(vectors[0], subject.stats.basis[:, :3]), atol=1e-4
      )
      np.testing.assert_allclose(at.subspace_between_fits.sel(k=3)[s], energy(*vectors[1:]), atol=1e-4)
  assert found.subspace.sel(k=16).isnull().all() and found.subspace.sel(k=3).notnull().all()
  assert found.cluster.shape == found.cluster_energy.shape == (2, 3, D)


def test_one_training_image_is_distilled_too(subject):
  one = subject._replace(train=subject.train[:1], stats=statistics.gaussian_stats(subject.train[:1]))
  found = distillation.compute(one, SETTINGS, "test")
  assert np.isfinite(found.weight).all() and found.subspace.isnull().all()
  assert (found.cluster == 0).all() and (found.cluster_energy == 1).all()  # no component is told from another
  legible(plot.draw({"N = 1": [found]}))


def config_of(**changes):
  config = ConfigDict(
    {
      "analyses": ("distillation", "score_gap"),
      "sampler": {"levels": 3},
      "distillation": distillation.DEFAULTS | {"pairs": 128},
      "score_gap": score_gap.DEFAULTS,
      "denoised": denoised.DEFAULTS,
      "input_law": input_law.DEFAULTS,
    }
  )
  config.update_from_flattened_dict(changes)
  return config


@pytest.mark.parametrize(
  "changes, named",
  [
    ({"distillation.reserved": -1}, "distillation.reserved"),
    ({"distillation.reserved": 359}, "distillation.reserved"),
    ({"distillation.reserved": 99}, "score_gap.images"),
    ({"score_gap.images": 101}, "score_gap.images"),
    ({"analyses": ("distillation", "denoised"), "denoised.shown": 101}, "denoised.shown"),
    (
      {
        "analyses": ("distillation", "input_law"),
        "input_law.denoisers": ("linear (held-out)",),
        "input_law.images": 101,
      },
      "input_law.images",
    ),
    ({"distillation.subspaces": ()}, "distillation.subspaces"),
    ({"distillation.subspaces": (0, 1)}, "distillation.subspaces"),
    ({"distillation.subspaces": (2, 2)}, "distillation.subspaces"),
    ({"distillation.subspaces": (1, 65)}, "distillation.subspaces"),
  ],
)
def test_refuses(changes, named):
  distillation.check(config_of(), (8, 8, 1), 360)
  with pytest.raises(ValueError, match=f"^`{named}`"):
    distillation.check(config_of(**changes), (8, 8, 1), 360)


@pytest.mark.parametrize(
  "changes",
  [
    {"distillation.reserved": 358},
    {"analyses": ("distillation",), "score_gap.images": 101},
    {"score_gap.pairs": (("network", "linear (train)"),), "score_gap.images": 101},
    {"analyses": ("distillation", "input_law"), "input_law.images": 101},
  ],
)
def test_images_beyond_the_reserved_are_free_for_what_was_not_fitted_to_them(changes):
  distillation.check(config_of(**changes), (8, 8, 1), 360)


def fake(num_models, networks=1):
  """Return title -> random results of its networks, labelled as the analysis does it."""
  rng, k = np.random.default_rng(0), [1, 2, 4, 8, 16, 32]

  def found():
    level, space = ("law", "sigma"), ("law", "sigma", "k")
    return results.labelled(
      {
        "weight_gap2": (level, rng.uniform(-0.1, 1, (2, 7))),
        "weight_noise2": (level, rng.uniform(0, 0.1, (2, 7))),
        "subspace": (space, rng.uniform(0, 1, (2, 7, 6))),
        "subspace_between_fits": (space, rng.uniform(0, 1, (2, 7, 6))),
      },
      {"law": list(LAWS), "sigma": np.geomspace(80, 0.002, 7), "k": k},
    )

  return {f"N = {2 ** (i + 4)}": [found() for _ in range(networks)] for i in range(num_models)}


@pytest.mark.parametrize("networks", [1, 3])
def test_the_figure_keeps_the_sign_and_shows_the_noise(networks):
  ((label, found),) = fake(1, networks).items()
  axes = plot.draw({label: found}).axes
  for i, law in enumerate(LAWS):
    gap, noise, *_ = (line.get_ydata() for line in axes[i].lines)
    square = np.mean([one.weight_gap2.sel(law=law) for one in found], axis=0)
    np.testing.assert_allclose(gap, np.sign(square) * np.sqrt(np.abs(square)))
    square = np.mean([one.weight_noise2.sel(law=law) for one in found], axis=0)
    np.testing.assert_allclose(noise, np.sqrt(square))
  assert networks > 1 or (axes[0].lines[0].get_ydata() < 0).any()
  for axis, k in zip(axes[2:], (1, 4, 8, 32), strict=True):
    assert axis.get_title(loc="left") == f"k = {k}"
    for line, name in zip(axis.lines, ("subspace", "subspace_between_fits")):
      want = np.mean([one[name].sel(law="held-out", k=k) for one in found], axis=0)
      np.testing.assert_allclose(line.get_ydata(), want)


@pytest.mark.parametrize("num_models", [1, 4, 8])
def test_the_figure_is_legible(num_models):
  words = legible(plot.draw(fake(num_models, 2)))
  assert all(
    label in words for label in [*fake(num_models), "noise alone", "between two fits", "k = 32", "σ"]
  )
