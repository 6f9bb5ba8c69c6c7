"""Analyses on denoisers whose answers are theorems: the Gaussian one, and the one that memorized."""

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from gauss_diffusion import analyses, data, edm, sampling, statistics
from gauss_diffusion.analyses import subject as subjects
from gauss_diffusion.analyses.subject import DENOISERS, LINEAR, Subject, denoiser
from gauss_diffusion.denoisers import FAMILIES, affine, family
from gauss_diffusion.images import to_float
from gauss_diffusion.readings import headline, measures

SMALL = {
  "distillation": {"pairs": 4096, "singular_vectors": 4},
  "linearity": {"levels": 3, "alpha2": (0.5, 0.9), "pairs": 6},
  "score_gap": {"images": 12},
  "trajectories": {"latents": 2},
  "samples": {"num": 10},
  "halves": {"images": 12},
  "gain": {"pairs": 2, "directions": 5},
  "input_law": {"pairs": 512, "images": 8},
  "descent": {"steps": 20, "batch": 32},
  "denoised": {"images": 8},
  "modes": {"latents": 2, "vectors": 4},
  "perturbation": {"latents": 2},
}
FLOAT32 = 2e-5  # of images of norm about 1 per pixel, after a few matmuls of 64 terms


def analyse(name, subject, **changes):
  analysis = analyses.ANALYSES[name]
  return analysis.compute(subject, ConfigDict({**analysis.DEFAULTS, **SMALL[name], **changes}), "test")


def under_test(name, size=100):
  """Return a subject of so many digits whose network is a denoiser of that name, with every family."""
  dataset = data.load("digits", held_out=360, seed=0)
  images = data.subset(dataset, size).images
  records = {each: made.fit(images, **family.defaults(made)) for each, made in FAMILIES.items()}
  subject = Subject(
    network=None,
    stats=statistics.gaussian_stats(images),
    train=images,
    held_out=dataset.held_out,
    sigmas=edm.sigma_grid(4, 0.02, 10.0),
    solver="euler",
    seed=0,
    records=records,
    distillation=None,
    pool=statistics.gaussian_stats(dataset.pool),
  )
  return subject._replace(network=denoiser(subject, name))


def examine(name):
  """Run every analysis on one denoiser of 100 digits, distillation first: others read its maps."""
  subject, found = under_test(name), {}
  for analysis in sorted(analyses.ANALYSES, key=lambda analysis: analysis != "distillation"):
    found[analysis] = analyse(analysis, subject._replace(distillation=found.get("distillation")))
  return subject, found


@pytest.fixture(scope="module")
def on_gaussian():
  return examine("gaussian")


@pytest.fixture(scope="module")
def on_multi_delta():
  return examine("multi-delta")


def test_the_gaussian_denoiser_is_linear_about_its_mean(on_gaussian):
  found = on_gaussian[1]["linearity"]
  assert found.cosine.shape == (2, 3, 2, 6)
  np.testing.assert_allclose(found.centred_cosine, 1, atol=FLOAT32)
  assert found.centred_nmse.max() < 1e-3  # float32: at sigma 10 inputs are 1e3 times the centred output
  high = found.sel(inputs="noisy image", sigma=10.0, alpha2=0.5)
  assert high.nmse.min() > 0.1  # the affine limit, not nonlinearity


def test_the_gaussian_denoiser_distils_to_itself_on_both_laws(on_gaussian):
  found = on_gaussian[1]["distillation"]
  assert found.weight.shape == (2, 4, 64, 64)
  assert found.weight_gap.max() < 1e-3  # least squares of float32 outputs
  assert found.fit_rmse.max() < 1e-5
  assert found.singular_correlation.min() > 0.99


def test_the_gaussian_denoiser_is_at_no_distance_from_itself(on_gaussian):
  found = on_gaussian[1]["score_gap"]
  assert found.rmse.shape == (2, 5, 4, 12)
  assert not found.rmse.sel(one="network", two="gaussian").any()
  assert found.rmse.sel(one="network", two="linear (held-out)").max() < 1e-3
  # At sigma 0.02 the memorizer stays at a training image: far from held-out inputs, near training ones.
  memorizer = found.rmse.sel(one="network", two="multi-delta").isel(sigma=-1).mean("image")
  far, near = memorizer.sel(law="held-out"), memorizer.sel(law="train")
  assert far > 0.2 > 0.05 > near


def test_the_gaussian_trajectory_is_the_product_of_its_modes(on_gaussian):
  subject, found = on_gaussian
  run = found["trajectories"].sel(denoiser="network")
  noise = np.random.default_rng([0, *b"latents"]).standard_normal((2, 8, 8, 1), np.float32)
  for i in range(2):
    want = sampling.gaussian_trajectory(subject.stats, noise[i], subject.sigmas, method="euler")
    np.testing.assert_allclose(run.x[i], want.x, atol=1e-4)  # |x| up to 40
    np.testing.assert_allclose(run.denoised[i], want.denoised, atol=1e-4)


def test_the_gaussian_gain_is_the_predicted_one(on_gaussian):
  found = on_gaussian[1]["gain"]
  want = found.eigenvalues / (found.eigenvalues + found.sigma**2)
  assert found.gain.shape == (4, 5, 4)
  np.testing.assert_allclose(found.gain, want.broadcast_like(found.gain), atol=FLOAT32)
  assert found.asymmetry.max() < 1e-4 and found.constancy.max() < 1e-4


def test_the_memorizer_looks_gaussian_on_training_inputs_only(on_multi_delta):
  # Li et al.'s headline is forced on noisy training images (tower rule); only held-out ones tell.
  found = on_multi_delta[1]["distillation"]
  train, held_out = (found.weight_gap.sel(law=law) for law in ("train", "held-out"))
  assert train[1:3].max() < 0.25  # Monte-Carlo error of 4096 pairs in 64 x 64 weights
  assert held_out[2] > 3 * train[2]  # sigma 0.3: the memorizer is far from Gaussian


def test_the_memorizer_draws_training_images(on_multi_delta):
  found = on_multi_delta[1]["samples"].sel(denoiser="network")
  assert found.memorized.all()
  assert found.gl.max() < 1e-3


def test_samples_of_every_denoiser_come_from_the_same_noise(on_multi_delta):
  subject, found = on_multi_delta
  subject = subject._replace(distillation=found["distillation"])
  drawn = analyse("samples", subject, denoisers=DENOISERS).samples
  assert drawn.denoiser.to_numpy().tolist() == list(DENOISERS)
  assert drawn.shape == (len(DENOISERS), 10, 8, 8, 1)
  noise = np.random.default_rng([0, *b"latents"]).standard_normal((10, 8, 8, 1), np.float32)
  # With the image as its estimate of itself the ODE stands still; with the mean it goes straight there.
  np.testing.assert_allclose(drawn.sel(denoiser="identity"), 10 * noise, rtol=FLOAT32)
  mean = np.broadcast_to(subject.train.mean(0) / 127.5 - 1, noise.shape)
  np.testing.assert_allclose(drawn.sel(denoiser="mean"), mean, atol=FLOAT32)
  np.testing.assert_array_equal(drawn.sel(denoiser="network"), drawn.sel(denoiser="multi-delta"))
  for i, each in enumerate(drawn.sel(denoiser="gaussian")):
    want = sampling.gaussian_trajectory(subject.stats, noise[i], subject.sigmas, method="euler")
    np.testing.assert_allclose(each, want.x[-1], atol=1e-4)  # on the way there |x| is up to 40
  default = found["samples"].samples
  np.testing.assert_array_equal(drawn.sel(denoiser=default.denoiser), default)


def test_the_error_of_the_identity_is_the_noise_itself():
  found = analyse("score_gap", under_test("identity"), pairs=(("identity", "mean"),))
  noise = np.random.default_rng([0, *b"score gap"]).standard_normal((12, 64), np.float32)
  noise = np.linalg.norm(noise, axis=1) / np.sqrt(64)
  for law in ("train", "held-out"):
    # x is rounded to float32 before the image is taken off again: 1e-7 of its size, beside noise of 0.02.
    error = found.error.sel(denoiser="identity", law=law)
    np.testing.assert_allclose(error, found.sigma.to_numpy()[:, None] * noise, rtol=FLOAT32)
  # The network is always among those whose error is taken; here it is the identity.
  np.testing.assert_array_equal(found.error.sel(denoiser="network"), found.error.sel(denoiser="identity"))


def test_headlines_pick_the_memorizers_numbers(on_multi_delta):
  numbers = headline.headlines(measures.Reading("multi-delta", {}, on_multi_delta[1], {}))
  assert numbers["memorized share"].mean == 1
  multi_delta_gap = next(value for name, value in numbers.items() if "multi-delta" in name)
  assert multi_delta_gap.mean == multi_delta_gap.high == 0


def test_all_denoisers_are_bound_to_the_subject(on_gaussian):
  subject, found = on_gaussian
  subject = subject._replace(distillation=found["distillation"])
  x, sigma = to_float(subject.held_out[0]), subject.sigmas[2]
  for name in DENOISERS:
    assert denoiser(subject, name)(x, sigma).shape == x.shape
  assert denoiser(subject, "network") is subject.network
  for name, made in FAMILIES.items():
    assert denoiser(subject, name).func is made.denoise
  for name, law in LINEAR.items():
def test_held_out_images_say_what_a_gl_score_is_without_copies(on_gaussian, on_multi_delta):
  subject, found = on_multi_delta[0], on_multi_delta[1]["samples"]
  apart, near = (images.reshape(len(images), 64) / 127.5 - 1 for images in (subject.held_out, subject.train))
  distance = np.sort(np.linalg.norm(apart[:10, None] - near[None], axis=-1), axis=1)
  np.testing.assert_allclose(
    found.held_out_gl, distance[:, 0] / np.linalg.norm(apart[:10], axis=1), rtol=1e-6
  )
  np.testing.assert_array_equal(found.held_out_memorized, 3 * distance[:, 0] < distance[:, 1])
  other = on_gaussian[1]["samples"]  # of the same images
  np.testing.assert_array_equal(other.held_out_gl, found.held_out_gl)
  many = analyse("samples", subject, num=400, denoisers=("mean",))
  assert many.sizes["sample"] == 400 and many.sizes["image"] == len(subject.held_out) == 360


    bound, maps = denoiser(subject, name), found["distillation"].sel(law=law)
    assert bound.func is affine.denoise
    want = maps.weight.values[2] @ x.ravel() + maps.bias.values[2]
    np.testing.assert_allclose(np.ravel(bound(x, sigma)), want, atol=FLOAT32)


def test_keys_depend_on_the_seed_and_the_whole_tag(on_gaussian):
  subject, _ = on_gaussian
  other = subject._replace(seed=1)
  asked = [(subject, "input law"), (subject, "input noise"), (other, "input law"), (subject, "input law")]
  keys = [tuple(jax.random.key_data(subjects.key(*each)).tolist()) for each in asked]
  assert len(set(keys)) == 3 and keys[0] == keys[3]


class Asked(dict):
  """Records of families that remember which were asked for."""

  def __init__(self, records):
    super().__init__(records)
    self.names = set()

  def __getitem__(self, name):
    self.names.add(name)
    return super().__getitem__(name)


OTHERS = {  # settings with other denoisers than the defaults
  "score_gap": {"pairs": (("mean", "kernel"), ("network", "skip"))},
  "trajectories": {"denoisers": ("linear (train)", "kernel")},
  "samples": {"denoisers": ("mean", "identity")},
  "input_law": {"denoisers": ("kernel", "linear (held-out)")},
  "denoised": {"denoisers": ("identity", "skip")},
}


@pytest.mark.parametrize(
  "name, changes",
  [*((name, {}) for name in analyses.ANALYSES), *OTHERS.items()],
  ids=lambda value: str(value),
)
def test_an_analysis_uses_the_denoisers_that_it_names_and_no_others(on_gaussian, name, changes):
  subject, found = on_gaussian
  analysis = analyses.ANALYSES[name]
  settings = ConfigDict({**analysis.DEFAULTS, **SMALL[name], **changes})
  used = analysis.uses(settings)
  assert len(set(used)) == len(used) and set(used) <= set(DENOISERS)
  asked = Asked({each: record for each, record in subject.records.items() if each in used})
  maps = found["distillation"] if set(used) & set(LINEAR) else None
  network = subject.network if "network" in used else None
  analysis.compute(subject._replace(records=asked, distillation=maps, network=network), settings, "test")
  assert asked.names == set(used) & set(FAMILIES)
