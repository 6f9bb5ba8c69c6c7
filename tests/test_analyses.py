"""Analyses on denoisers whose answers are theorems: the Gaussian one, and the one that memorized."""

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from gauss_diffusion import analyses, data, edm, sampling, statistics
from gauss_diffusion.analyses import subject as subjects
from gauss_diffusion.analyses.subject import DENOISERS, Subject
from gauss_diffusion.denoisers import gaussian, multi_delta
from gauss_diffusion.images import to_float
from gauss_diffusion.readings import headline, measures

SMALL = {
  "distillation": {"pairs": 4096, "singular_vectors": 4},
  "linearity": {"levels": 3, "alpha2": (0.5, 0.9), "pairs": 6},
  "score_gap": {"images": 12},
  "trajectories": {"latents": 2},
  "samples": {"num": 10},
  "gain": {"pairs": 2, "directions": 5},
  "input_law": {"pairs": 512, "images": 8},
  "descent": {"steps": 20, "batch": 32},
  "denoised": {"images": 8},
  "modes": {"latents": 2, "vectors": 4},
  "perturbation": {"latents": 2},
}
FLOAT32 = 2e-5  # of images of norm about 1 per pixel, after a few matmuls of 64 terms


def analyse(name, subject):
  settings = ConfigDict({**analyses.ANALYSES[name].DEFAULTS, **SMALL[name]})
  return analyses.ANALYSES[name].compute(subject, settings, "test")


def examine(record):
  """Run every analysis on one denoiser of 100 digits."""
  dataset = data.load("digits", held_out=360, seed=0)
  images = data.subset(dataset, 100).images
  subject = Subject(
    network=None,
    stats=statistics.gaussian_stats(images),
    train=images,
    held_out=dataset.held_out,
    sigmas=edm.sigma_grid(4, 0.02, 10.0),
    solver="euler",
    seed=0,
    distillation=None,
  )
  subject = subject._replace(network=DENOISERS[record](subject))
  found = {}
  for name in analyses.ANALYSES:
    found[name] = analyse(name, subject._replace(distillation=found.get("distillation")))
  return subject, found


@pytest.fixture(scope="module")
def on_gaussian():
  return examine("gaussian")


@pytest.fixture(scope="module")
def on_multi_delta():
  return examine("multi-delta")


def test_the_gaussian_denoiser_is_linear_about_its_mean(on_gaussian):
  found = on_gaussian[1]["linearity"]
  assert found["cosine"].shape == (2, 3, 2, 6)
  np.testing.assert_allclose(found["centred_cosine"], 1, atol=FLOAT32)
  assert found["centred_nmse"].max() < 1e-3  # float32: at sigma 10 inputs are 1e3 times the centred output
  assert found["nmse"][0, 0, 0].min() > 0.1  # sigma 10: the affine limit, not nonlinearity


def test_the_gaussian_denoiser_distils_to_itself_on_both_laws(on_gaussian):
  found = on_gaussian[1]["distillation"]
  assert found["weight"].shape == (2, 4, 64, 64)
  assert found["weight_gap"].max() < 1e-3  # least squares of float32 outputs
  assert found["fit_rmse"].max() < 1e-5
  assert found["singular_correlation"].min() > 0.99


def test_the_gaussian_denoiser_is_at_no_distance_from_itself(on_gaussian):
  found = on_gaussian[1]["score_gap"]
  pairs = list(found["pair"])
  assert found["rmse"].shape == (2, 5, 4, 12)
  assert not found["rmse"][:, pairs.index("network / gaussian")].any()
  assert found["rmse"][:, pairs.index("network / linear (held-out)")].max() < 1e-3
  # At sigma 0.02 the memorizer stays at a training image: far from held-out inputs, near training ones.
  law = list(found["law"])
  far = found["rmse"][law.index("held-out"), pairs.index("network / multi-delta"), -1].mean()
  near = found["rmse"][law.index("train"), pairs.index("network / multi-delta"), -1].mean()
  assert far > 0.2 > 0.05 > near


def test_the_gaussian_trajectory_is_the_product_of_its_modes(on_gaussian):
  subject, found = on_gaussian
  found = found["trajectories"]
  noise = np.random.default_rng([0, *b"latents"]).standard_normal((2, 8, 8, 1), np.float32)
  row = list(found["denoiser"]).index("network")
  for i in range(2):
    want = sampling.gaussian_trajectory(subject.stats, noise[i], subject.sigmas, method="euler")
    np.testing.assert_allclose(found["x"][row, i], want.x, atol=1e-4)  # |x| up to 40
    np.testing.assert_allclose(found["denoised"][row, i], want.denoised, atol=1e-4)


def test_the_gaussian_gain_is_the_predicted_one(on_gaussian):
  found = on_gaussian[1]["gain"]
  want = found["eigenvalues"] / (found["eigenvalues"] + found["sigma"][:, None] ** 2)
  assert found["gain"].shape == (4, 5, 4)
  np.testing.assert_allclose(found["gain"], np.broadcast_to(want[..., None], (4, 5, 4)), atol=FLOAT32)
  for name in ("asymmetry", "constancy"):
    assert found[name].max() < 1e-4


def test_the_memorizer_looks_gaussian_on_training_inputs_only(on_multi_delta):
  # Li et al.'s headline is forced on noisy training images (tower rule); only held-out ones tell.
  found = on_multi_delta[1]["distillation"]
  train, held_out = found["weight_gap"]
  assert train[1:3].max() < 0.25  # Monte-Carlo error of 4096 pairs in 64 x 64 weights
  assert held_out[2] > 3 * train[2]  # sigma 0.3: the memorizer is far from Gaussian


def test_the_memorizer_draws_training_images(on_multi_delta):
  found = on_multi_delta[1]["samples"]
  row = list(found["denoiser"]).index("network")
  assert found["memorized"][row].all()
  assert found["gl"][row].max() < 1e-3


def test_headlines_pick_the_memorizers_numbers(on_multi_delta):
  numbers = headline.headlines(measures.Model("multi-delta", {}, on_multi_delta[1]))
  assert numbers["memorized share"].mean == 1
  multi_delta_gap = next(value for name, value in numbers.items() if "multi-delta" in name)
  assert multi_delta_gap.mean == multi_delta_gap.high == 0


def test_all_denoisers_are_bound_to_the_subject(on_gaussian):
  subject, found = on_gaussian
  subject = subject._replace(distillation=found["distillation"])
  x = to_float(subject.held_out[0])
  for name in DENOISERS:
    assert DENOISERS[name](subject)(x, subject.sigmas[2]).shape == x.shape
  assert DENOISERS["gaussian"](subject).func is gaussian.denoise
  assert DENOISERS["multi-delta"](subject).func is multi_delta.denoise


def test_keys_depend_on_the_seed_and_the_whole_tag(on_gaussian):
  subject, _ = on_gaussian
  other = subject._replace(seed=1)
  asked = [(subject, "input law"), (subject, "input noise"), (other, "input law"), (subject, "input law")]
  keys = [tuple(jax.random.key_data(subjects.key(*each)).tolist()) for each in asked]
  assert len(set(keys)) == 3 and keys[0] == keys[3]
