"""Analyses on denoisers whose answers are theorems: the Gaussian one, and the one that memorized."""

import functools

import jax
import numpy as np
import pytest
from jax.tree_util import Partial
from ml_collections import ConfigDict

from gauss_diffusion import analyses, data, edm, sampling, statistics
from gauss_diffusion.analyses import subject as subjects
from gauss_diffusion.analyses.subject import DENOISERS, LINEAR, Subject, denoiser
from gauss_diffusion.denoisers import FAMILIES, affine, family
from gauss_diffusion.images import to_float
from gauss_diffusion.readings import headline, measures

SMALL = {
  "distillation": {"pairs": 4096, "subspaces": (1, 4, 64)},
  "linearity": {"levels": 3, "alpha2": (0.5, 0.9), "pairs": 6},
  "score_gap": {"images": 12},
  "trajectories": {"latents": 2},
  "samples": {"num": 10},
  "halves": {"images": 12, "latents": 4, "pairs": 2},
  "gain": {"pairs": 2, "directions": 5},
  "directions": {"images": 8, "directions": 5},
  "calibration": {"images": 4},
  "likelihood": {"images": 4, "levels": 5, "sigmas": (1.0, 0.1)},
  "explained": {"images": 12, "directions": 5},
  "input_law": {"pairs": 512, "images": 8},
  "descent": {"steps": 20, "batch": 32},
  "denoised": {"images": 8},
  "modes": {"latents": 2, "vectors": 4},
  "perturbation": {"latents": 2},
  "teleportation": {"latents": 2, "fine": 8},
}
FLOAT32 = 2e-5  # of images of norm about 1 per pixel, after a few matmuls of 64 terms


def analyse(name, subject, **changes):
  analysis = analyses.ANALYSES[name]
  return analysis.compute(subject, ConfigDict({**analysis.DEFAULTS, **SMALL[name], **changes}), "test")


@functools.cache
def every_family():
  """Return a subject of 100 digits without a network, with every family."""
  dataset = data.load("digits", held_out=360, seed=0)
  subset = data.subset(dataset, 100)
  images, labels = subset.images, subset.labels
  records = {each: family.fit(made, images, labels, family.defaults(made)) for each, made in FAMILIES.items()}
  return Subject(
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


def under_test(name):
  """Return the subject whose network is a denoiser of that name."""
  return every_family()._replace(network=denoiser(every_family(), name))


def examine(name, *asked):
  """Run analyses on one denoiser, distillation first: others read its maps."""
  subject, found = under_test(name), {}
  for analysis in sorted(asked, key=lambda analysis: analysis != "distillation"):
    found[analysis] = analyse(analysis, subject._replace(distillation=found.get("distillation")))
  return subject, found


@pytest.fixture(scope="module")
def on_gaussian():
  return examine("gaussian", "distillation", "linearity", "score_gap", "trajectories", "samples", "gain")


@pytest.fixture(scope="module")
def on_multi_delta():
  return examine("multi-delta", "distillation", "linearity", "score_gap", "samples")


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
  # Least squares of float32 outputs.
  assert abs(found.weight_gap2).max() < 1e-6 and found.weight_noise2.max() < 1e-6
  assert found.fit_rmse.max() < 1e-5
  assert found.perturbation.max() < 1e-3 and found.cluster_energy.min() > 0.99
  assert found.subspace.isel(k=[0, 1]).min() > 0.99 and found.subspace_between_fits.isel(k=1).min() > 0.99
  # 100 digits have less than 64 components with variance: there is no such subspace.
  assert found.subspace.sel(k=64).isnull().all()


def test_the_gaussian_denoiser_is_at_no_distance_from_itself(on_gaussian):
  found = on_gaussian[1]["score_gap"]
  assert found.rmse.shape == (3, 12, 4, 12) and found.error.shape == (8, 2, 4, 12)
  assert not found.rmse.sel(one="network", two="gaussian").any()
  assert found.rmse.sel(one="network", two="linear (held-out)").max() < 1e-3
  # At sigma 0.02 the memorizer stays at a training image: far from held-out inputs, near training ones.
  memorizer = found.rmse.sel(one="network", two="multi-delta").isel(sigma=-1).mean("image")
  far, near = memorizer.sel(law="held-out"), memorizer.sel(law="train")
  assert far > 0.2 > 0.05 > near


def test_gaps_always_hold_the_nulls_and_the_memorizer_where_it_is_asked_for():
  asked = {"pairs": (("network", "gaussian"), ("mean", "gaussian"))}
  nulls = [("mean", "gaussian"), ("skip", "gaussian"), ("identity", "gaussian")]
  nulls += [("mean", "network"), ("skip", "network"), ("identity", "network")]
  settings = ConfigDict(analyses.score_gap.DEFAULTS | asked)
  assert analyses.score_gap.pairs(settings) == (("network", "gaussian"), *nulls)
  settings = ConfigDict(analyses.score_gap.DEFAULTS)
  assert analyses.score_gap.pairs(settings) == (*settings.pairs, *nulls, ("gaussian", "multi-delta"))


def test_gaps_of_the_nulls_are_those_of_their_formulas(on_gaussian):
  subject, found = on_gaussian
  found, gaussian = found["score_gap"], subject.network
  noise = np.random.default_rng([0, *b"score gap"]).standard_normal((12, 8, 8, 1), np.float32)
  x = to_float(subject.held_out[:12]) + np.float32(subject.sigmas[1]) * noise
  outputs = np.stack([gaussian(each, np.float32(subject.sigmas[1])) for each in x])
  skip = 0.25 / (0.25 + subject.sigmas[1] ** 2) * x
  mean = subject.train.mean(0) / 127.5 - 1
  for null, output in {"mean": mean, "skip": skip, "identity": x}.items():
    want = np.sqrt(np.mean((output - outputs) ** 2, axis=(1, 2, 3)))
    gap = found.rmse.sel(law="held-out", one=null, two="gaussian").isel(sigma=1)
    np.testing.assert_allclose(gap, want, rtol=FLOAT32)
  assert found.dimension == 64
  error = found.error.sel(denoiser="mean")  # of no noise level
  np.testing.assert_array_equal(error, error.isel(sigma=[0, 0, 0, 0]))


def test_a_trajectory_is_a_law_of_inputs_without_clean_images(on_multi_delta):
  subject, found = on_multi_delta
  found = found["score_gap"]
  assert found.law.to_numpy().tolist() == ["train", "held-out", "trajectory"]
  assert found.clean.to_numpy().tolist() == ["train", "held-out"] and not found.error.isnull().any()
  noise = np.random.default_rng([0, *b"latents"]).standard_normal((12, 8, 8, 1), np.float32)
  gap = found.rmse.sel(law="trajectory", one="network", two="gaussian")
  run = jax.jit(sampling.sample)(subject.network, noise[11], subject.sigmas.astype(np.float32))
  for s, (x, own) in enumerate(zip(run.x, run.denoised)):
    other = denoiser(subject, "gaussian")(x, np.float32(subject.sigmas[s]))
    np.testing.assert_allclose(gap[s, 11], np.sqrt(np.mean((own - other) ** 2)), rtol=1e-3, atol=FLOAT32)


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
  train, held_out = (found.sel(law=law).isel(sigma=slice(1, 3)) for law in ("train", "held-out"))
  # The estimate has no bias: far less is left of the gap than the noise that the mean map has.
  assert train.weight_noise2.min() > 1e-4
  assert (abs(train.weight_gap2) < train.weight_noise2 / 4).all()
  # At sigma 0.3 the memorizer is far from Gaussian.
  assert held_out.weight_gap2[1] > 10 * (train.weight_gap2 + train.weight_noise2)[1]


def test_the_memorizer_draws_training_images(on_multi_delta):
  found = on_multi_delta[1]["samples"].sel(denoiser="network")
  assert found.memorized.all()
  assert found.gl.max() < 1e-3


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


def test_samples_of_denoisers_of_every_kind_come_from_the_same_noise(on_multi_delta):
  subject, found = on_multi_delta
  subject = subject._replace(distillation=found["distillation"])
  asked = ("network", "multi-delta", "linear (held-out)", "gaussian", "identity", "mean", "class_mixture")
  drawn = analyse("samples", subject, denoisers=asked).samples
  assert drawn.denoiser.to_numpy().tolist() == list(asked)
  assert drawn.shape == (len(asked), 10, 8, 8, 1)
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
    error = found.error.sel(denoiser="identity", clean=law)
    np.testing.assert_allclose(error, found.sigma.to_numpy()[:, None] * noise, rtol=FLOAT32)
  # The network is always among those whose error is taken; here it is the identity.
  np.testing.assert_array_equal(found.error.sel(denoiser="network"), found.error.sel(denoiser="identity"))


def test_headlines_pick_the_memorizers_numbers(on_multi_delta):
  numbers = headline.headlines([measures.Reading("multi-delta", {}, on_multi_delta[1], {})])
  assert numbers["memorized share"].mean == 1
  multi_delta_gap = next(value for name, value in numbers.items() if "multi-delta" in name)
  assert multi_delta_gap.mean == multi_delta_gap.high == 0


def test_all_denoisers_are_bound_to_the_subject(on_gaussian):
  subject, found = on_gaussian
  subject = subject._replace(distillation=found["distillation"])
  x, sigma = to_float(subject.held_out[0]), subject.sigmas[2]
  for name in DENOISERS:
    assert jax.eval_shape(denoiser(subject, name), x, sigma).shape == x.shape
  assert denoiser(subject, "network") is subject.network
  for name, made in FAMILIES.items():
    assert denoiser(subject, name).func == Partial(made.denoise).func
  for name, law in LINEAR.items():
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
  "explained": {"denoisers": ("mean", "linear (held-out)")},
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
