"""Every family of ideal denoisers under one table of exact limits, and what its options refuse."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from gauss_diffusion import results
from gauss_diffusion.denoisers import FAMILIES, family
from gauss_diffusion.denoisers.family import Family, Option

SHAPE = (5, 4, 3)
FLOAT64 = 1e-10  # relative, of sums of 60 terms


DENOISE = {name: jax.jit(known.denoise) for name, known in FAMILIES.items()}


def images(count=12, seed=0):
  return np.random.default_rng(seed).integers(0, 256, (count, *SHAPE)).astype(np.uint8)


def pixels(u8):
  return u8 / 127.5 - 1


def classes(u8):
  """Return classes 0 to 2 that belong to the image, whatever its place in the set."""
  return (u8.reshape(len(u8), -1)[:, 0] % 3).astype(np.int32)


def denoiser(name, u8, labels=None, **options):
  known = FAMILIES[name]
  labels = classes(u8) if labels is None else labels
  record = family.fit(known, u8, labels, family.defaults(known) | options)
  denoise = DENOISE[name]
  return lambda x, sigma: np.asarray(denoise(record, jnp.asarray(x), jnp.asarray(sigma, float)))


def noisy(u8, sigma, seed=1):
  return pixels(u8[0]) + sigma * np.random.default_rng(seed).standard_normal(SHAPE)


# The limits. Each takes a family's denoisers through `denoiser` and says what must come out, in float64.


def one_image_is_all_it_knows(name):
  """N = 1: the posterior of a single image is that image."""
  u8 = images(1)
  np.testing.assert_allclose(denoiser(name, u8)(noisy(u8, 0.7), 0.7), pixels(u8[0]), rtol=FLOAT64)


def kernel_of_one_image(name):
  """N = 1: the Gaussian of one image and variance s², ``y + s²/(s² + σ²) (x − y)``."""
  u8, s, sigma = images(1), 0.3, 0.7
  y, x = pixels(u8[0]), noisy(u8, sigma)
  want = y + s**2 / (s**2 + sigma**2) * (x - y)
  np.testing.assert_allclose(denoiser(name, u8, bandwidth=s)(x, sigma), want, rtol=FLOAT64)


def high_noise_leaves_the_mean(name):
  """σ → ∞: nothing of x = x0 + σ ε survives but the prior's mean, to O(1/σ)."""
  u8, sigma = images(), 1e6
  want = pixels(u8).mean(0)
  np.testing.assert_allclose(denoiser(name, u8)(noisy(u8, sigma), sigma), want, atol=1e-4)


def low_noise_leaves_the_nearest_image(name):
  """σ → 0: the posterior is the nearest image."""
  u8 = images()
  np.testing.assert_allclose(denoiser(name, u8)(noisy(u8, 0.01), 0.01), pixels(u8[0]), atol=1e-9)


def low_noise_leaves_the_input(name):
  """σ → 0: x itself."""
  u8 = images()
  x = noisy(u8, 0.1)
  np.testing.assert_allclose(denoiser(name, u8)(x, 1e-7), x, atol=1e-10)


def low_noise_projects_on_the_span(name):
  """σ → 0: ``μ + P (x − μ)``, P the projector on the span of the images about their mean."""
  u8 = images()
  y, x = pixels(u8).reshape(12, -1), noisy(u8, 0.5)
  _, _, basis = np.linalg.svd(y - y.mean(0), full_matrices=False)
  basis, mean = basis[:-1], y.mean(0)
  want = mean + basis.T @ (basis @ (x.ravel() - mean))
  np.testing.assert_allclose(denoiser(name, u8)(x, 1e-7).ravel(), want, atol=1e-9)


def narrow_kernel_is_the_memorizer(name):
  """Bandwidth 0: the multi-delta denoiser."""
  u8, sigma = images(), 2.0
  x = noisy(u8, sigma)
  want = denoiser("multi-delta", u8)(x, sigma)
  np.testing.assert_allclose(denoiser(name, u8, bandwidth=1e-6)(x, sigma), want, rtol=FLOAT64)


def wide_kernel_is_the_identity(name):
  """Infinite bandwidth: any image is as likely as x."""
  u8 = images()
  x = noisy(u8, 0.5)
  np.testing.assert_allclose(denoiser(name, u8, bandwidth=1e6)(x, 0.5), x, atol=1e-6)


def no_component_is_the_mean(name):
  """Of rank 1 and high noise along it, or of no variance: the mean."""
  u8 = np.repeat(images(1), 4, axis=0)
  np.testing.assert_allclose(denoiser(name, u8)(noisy(u8, 0.5), 0.5), pixels(u8[0]), rtol=FLOAT64)


def all_components_are_all_of_it(name):
  """Rank N − 1 keeps everything; rank 1 is what NumPy makes of the first principal component."""
  u8, sigma = images(), 0.5
  x = noisy(u8, sigma)
  np.testing.assert_array_equal(denoiser(name, u8, rank=11)(x, sigma), denoiser(name, u8)(x, sigma))
  y = pixels(u8).reshape(12, -1)
  mean, centred = y.mean(0), y - y.mean(0)
  _, values, basis = np.linalg.svd(centred, full_matrices=False)
  lam, u = values[0] ** 2 / 12, basis[0]
  want = mean + lam / (lam + sigma**2) * u * (u @ (x.ravel() - mean))
  np.testing.assert_allclose(denoiser(name, u8, rank=1)(x, sigma).ravel(), want, rtol=1e-9)


def order_does_not_matter(name):
  """A training set is a set."""
  u8 = images()
  x = noisy(u8, 1.0)
  np.testing.assert_allclose(denoiser(name, u8[::-1].copy())(x, 1.0), denoiser(name, u8)(x, 1.0), rtol=1e-8)


def twice_the_set_is_the_set(name):
  """Every image twice is the same law."""
  u8 = images()
  x = noisy(u8, 1.0)
  np.testing.assert_allclose(
    denoiser(name, np.concatenate([u8, u8]))(x, 1.0), denoiser(name, u8)(x, 1.0), rtol=1e-8
  )


def a_window_of_all_is_the_memorizer(name):
  """What sees the whole image wherever it looks knows which training image it is."""
  u8, sigma = images(), 2.0
  x = noisy(u8, sigma)
  want = denoiser("multi-delta", u8)(x, sigma)
  np.testing.assert_allclose(denoiser(name, u8, window=9, growth=0.0)(x, sigma), want, rtol=FLOAT64)


def one_patch_is_the_memorizer(name):
  """A patch as large as a square image is the only one."""
  u8, sigma = images()[:, :4], 2.0
  x = noisy(images(), sigma)[:4]
  want = denoiser("multi-delta", u8)(x, sigma)
  np.testing.assert_allclose(denoiser(name, u8, window=4, growth=0.0)(x, sigma), want, rtol=FLOAT64)


def whoever_reads_everything_is_the_memorizer(name):
  """Threshold 0, as good as: every value is read for every value."""
  u8, sigma = images(), 2.0
  x = noisy(u8, sigma)
  want = denoiser("multi-delta", u8)(x, sigma)
  np.testing.assert_allclose(denoiser(name, u8, threshold=1e-6)(x, sigma), want, rtol=FLOAT64)


def one_pixel_windows_are_medleys(name):
  """σ → 0 and windows of one pixel: the nearest value that any image has there, pixel by pixel."""
  u8 = images()
  x = noisy(u8, 0.5)
  y = pixels(u8)
  nearest = np.argmin(np.sum((y - x) ** 2, axis=-1), axis=0)
  want = np.take_along_axis(y, nearest[None, ..., None], axis=0)[0]
  np.testing.assert_allclose(denoiser(name, u8, window=1, growth=0.0)(x, 1e-3), want, atol=1e-9)


def high_noise_leaves_the_mean_of_all_places(name):
  """σ → ∞ and patches from any place: the mean pixel of those that are in the middle of a window."""
  u8, sigma = images(), 1e6
  y = pixels(u8)[:, 1:-1, 1:-1]
  want = np.broadcast_to(y.mean((0, 1, 2)), SHAPE)
  np.testing.assert_allclose(denoiser(name, u8, window=3)(noisy(u8, sigma), sigma), want, atol=1e-4)


def skips_as_edm_does(name):
  """``σ_d² / (σ² + σ_d²) x``, half of x at σ = σ_d."""
  x = noisy(images(), 1.0)
  np.testing.assert_allclose(denoiser(name, images(), sigma_data=0.25)(x, 0.25), x / 2, rtol=FLOAT64)


def passes_on(name):
  """D(x) = x."""
  x = noisy(images(), 1.0)
  np.testing.assert_array_equal(denoiser(name, images())(x, 1.0), x)


def hears_nothing(name):
  """D(x) does not depend on x."""
  u8 = images()
  np.testing.assert_allclose(denoiser(name, u8)(noisy(u8, 1.0), 0.1), pixels(u8).mean(0), atol=1e-15)


def an_isotropic_rest_leaves_the_input(name):
  """σ → 0, with components left over: x itself, which the rest of the covariance allows."""
  u8 = images()
  x = noisy(u8, 0.1)
  np.testing.assert_allclose(denoiser(name, u8, rank=3)(x, 1e-7), x, atol=1e-10)


def no_component_is_isotropic(name):
  """Rank 0: every direction has the mean variance."""
  u8, sigma = images(), 0.5
  x, y = noisy(u8, sigma), pixels(u8)
  mean, variance = y.mean(0), y.var(0).mean()
  want = mean + variance / (variance + sigma**2) * (x - mean)
  np.testing.assert_allclose(denoiser(name, u8, rank=0)(x, sigma), want, rtol=1e-9)


def all_components_are_the_gaussian(name):
  """Rank N − 1: nothing is left over."""
  u8, sigma = images(), 0.5
  x = noisy(u8, sigma)
  want = denoiser("gaussian", u8)(x, sigma)
  np.testing.assert_allclose(denoiser(name, u8, rank=11)(x, sigma), want, rtol=FLOAT64)


def high_noise_leaves_the_mean_of_each_channel(name):
  """σ → ∞, for a law that has no places."""
  u8, sigma = images(), 1e6
  want = np.broadcast_to(pixels(u8).mean((0, 1, 2)), SHAPE)
  np.testing.assert_allclose(denoiser(name, u8)(noisy(u8, sigma), sigma), want, atol=1e-4)


def shifts_pass_through(name):
  """Of the image: its estimate is shifted; of every training image on its own: nothing changes."""
  u8 = images()
  x, rng = noisy(u8, 0.5), np.random.default_rng(2)
  got = denoiser(name, u8)(np.roll(x, (2, 1), (0, 1)), 0.5)
  want = denoiser(name, u8)(x, 0.5)
  np.testing.assert_allclose(got, np.roll(want, (2, 1), (0, 1)), atol=FLOAT64)
  moved = np.stack([np.roll(one, rng.integers(0, 9, 2), (0, 1)) for one in u8])
  np.testing.assert_allclose(denoiser(name, moved)(x, 0.5), want, atol=FLOAT64)


def no_power_is_the_mean(name):
  """Images of one colour, the same for all."""
  u8 = np.broadcast_to(np.array([10, 100, 200], np.uint8), (4, *SHAPE))
  np.testing.assert_allclose(denoiser(name, u8)(noisy(u8, 0.5), 0.5), pixels(u8[0]), rtol=FLOAT64)


def infinite_data_are_the_gaussian(name):
  """N → ∞ draws, to O(1/N), also where every image is there twice."""
  u8, sigma = images(), 0.5
  x = noisy(u8, sigma)
  want = denoiser("gaussian", u8)(x, sigma)
  np.testing.assert_allclose(denoiser(name, u8, num=10**9)(x, sigma), want, atol=1e-7)
  np.testing.assert_allclose(denoiser(name, np.repeat(u8, 2, 0), num=10**9)(x, sigma), want, atol=1e-7)


def a_single_draw_is_the_mean(name):
  """N = 1: every denoiser says its own image, and on average the mean."""
  u8 = images()
  got = denoiser(name, u8, num=1)(noisy(u8, 0.5), 0.5)
  np.testing.assert_allclose(got, pixels(u8).mean(0), atol=1e-15)


def a_single_component_is_the_gaussian(name):
  """K = 1, of no width but the data's."""
  u8, sigma = images(), 0.5
  x = noisy(u8, sigma)
  want = denoiser("gaussian", u8)(x, sigma)
  np.testing.assert_allclose(denoiser(name, u8, components=1, floor=1e-6)(x, sigma), want, atol=1e-10)


def a_component_an_image_is_the_kernel(name):
  """K = N, each as narrow as the floor lets it be."""
  u8, sigma = images(), 2.0
  x = noisy(u8, sigma)
  want = denoiser("kernel", u8, bandwidth=0.1)(x, sigma)
  np.testing.assert_allclose(denoiser(name, u8, components=12, floor=0.1)(x, sigma), want, atol=1e-10)


def a_floor_leaves_the_input(name):
  """σ → 0: x itself, where there is some variance in every direction."""
  u8 = images()
  x = noisy(u8, 0.1)
  np.testing.assert_allclose(denoiser(name, u8, floor=0.1)(x, 1e-7), x, atol=1e-10)


def unmoved_it_is_the_memorizer(name):
  """Width 0: the multi-delta denoiser."""
  u8, sigma = images(), 2.0
  x = noisy(u8, sigma)
  want = denoiser("multi-delta", u8)(x, sigma)
  np.testing.assert_allclose(denoiser(name, u8, width=0.0)(x, sigma), want, rtol=FLOAT64)


def one_image_alone_is_the_nearest(name):
  """Of m = 1, whatever the noise; of m = N, the multi-delta denoiser."""
  u8, sigma = images(), 2.0
  x = noisy(u8, sigma)
  nearest = pixels(u8)[np.argmin(np.sum((pixels(u8) - x) ** 2, axis=(1, 2, 3)))]
  np.testing.assert_allclose(denoiser(name, u8, nearest=1)(x, sigma), nearest, rtol=FLOAT64)
  want = denoiser("multi-delta", u8)(x, sigma)
  np.testing.assert_allclose(denoiser(name, u8, nearest=12)(x, sigma), want, rtol=FLOAT64)


def one_class_is_the_gaussian_denoiser(name):
  """K = 1: the Gaussian denoiser."""
  u8 = images()
  for sigma in (0.01, 0.5, 20.0):
    x = noisy(u8, sigma)
    want = denoiser("gaussian", u8)(x, sigma)
    np.testing.assert_allclose(denoiser(name, u8, np.zeros(12, int))(x, sigma), want, rtol=FLOAT64)


def flat_classes_are_the_memorizer_of_their_means(name):
  """All covariances 0: the multi-delta denoiser of the means, each as often as its class has images."""
  u8 = np.repeat(images(4), [1, 2, 2, 3], axis=0)
  labels = np.repeat([5, 0, 3, 1], [1, 2, 2, 3])
  for sigma in (0.5, 2.0, 5.0):
    x = noisy(u8, sigma)
    want = denoiser("multi-delta", u8)(x, sigma)
    np.testing.assert_allclose(denoiser(name, u8, labels)(x, sigma), want, rtol=1e-9)


def weighs_classes_by_their_densities(name):
  """``Σ_c w_c D_c`` with dense covariances, determinants and a log-sum-exp of NumPy."""
  u8, labels = images(), classes(images())
  y = pixels(u8).reshape(12, -1)
  for sigma in (0.05, 0.5, 2.0, 5.0, 50.0):
    x, logs, estimates = noisy(u8, sigma).ravel(), [], []
    for label in range(3):
      own = y[labels == label]
      mean, covariance = own.mean(0), np.cov(own.T, bias=True)
      total = covariance + sigma**2 * np.eye(len(x))
      solved = np.linalg.solve(total, x - mean)
      logs.append(np.log(len(own)) - (np.linalg.slogdet(total)[1] + (x - mean) @ solved) / 2)
      estimates.append(mean + covariance @ solved)
    weights = np.exp(logs - np.logaddexp.reduce(logs))
    np.testing.assert_allclose(
      denoiser(name, u8)(x.reshape(SHAPE), sigma).ravel(), weights @ estimates, atol=1e-9
    )


def knows_its_class_alone(name):
  """The Gaussian denoiser of the class's images, of the rank asked for; other images don't matter."""
  u8, sigma = images(), 0.5
  x = noisy(u8, sigma)
  for label, rank in ((0, 0), (2, 0), (2, 1)):
    want = denoiser("gaussian", u8[classes(u8) == label], rank=rank)(x, sigma)
    found = denoiser(name, u8, label=label, rank=rank)(x, sigma)
    np.testing.assert_array_equal(found, want)


SET = (order_does_not_matter, twice_the_set_is_the_set)
LIMITS = {
  "gaussian": (
    one_image_is_all_it_knows,
    high_noise_leaves_the_mean,
    low_noise_projects_on_the_span,
    no_component_is_the_mean,
    all_components_are_all_of_it,
    *SET,
  ),
  "multi-delta": (
    one_image_is_all_it_knows,
    high_noise_leaves_the_mean,
    low_noise_leaves_the_nearest_image,
    *SET,
  ),
  "kernel": (
    kernel_of_one_image,
    high_noise_leaves_the_mean,
    low_noise_leaves_the_input,
    narrow_kernel_is_the_memorizer,
    wide_kernel_is_the_identity,
    *SET,
  ),
  "mean": (one_image_is_all_it_knows, high_noise_leaves_the_mean, hears_nothing, *SET),
  "skip": (low_noise_leaves_the_input, skips_as_edm_does, *SET),
  "identity": (low_noise_leaves_the_input, passes_on, *SET),
  "ppca": (
    one_image_is_all_it_knows,
    high_noise_leaves_the_mean,
    an_isotropic_rest_leaves_the_input,
    no_component_is_isotropic,
    all_components_are_the_gaussian,
    no_component_is_the_mean,
    *SET,
  ),
  # Shrinkage and noise of finite data ask how many images there are: twice the set is another one.
  "shrunk": (
    one_image_is_all_it_knows,
    high_noise_leaves_the_mean,
    low_noise_leaves_the_input,
    no_component_is_the_mean,
    order_does_not_matter,
  ),
  "stationary": (
    high_noise_leaves_the_mean_of_each_channel,
    low_noise_leaves_the_input,
    shifts_pass_through,
    no_power_is_the_mean,
    *SET,
  ),
  "finite_data": (
    one_image_is_all_it_knows,
    high_noise_leaves_the_mean,
    infinite_data_are_the_gaussian,
    a_single_draw_is_the_mean,
    no_component_is_the_mean,
    order_does_not_matter,
  ),
  "mixture": (
    a_single_component_is_the_gaussian,
    a_component_an_image_is_the_kernel,
    a_floor_leaves_the_input,
    high_noise_leaves_the_mean,
  ),
  "smoothed": (
    one_image_is_all_it_knows,
    high_noise_leaves_the_mean,
    unmoved_it_is_the_memorizer,
    *SET,
  ),
  "golden": (
    one_image_is_all_it_knows,
    high_noise_leaves_the_mean,
    low_noise_leaves_the_nearest_image,
    one_image_alone_is_the_nearest,
    *SET,
  ),
  "class_mixture": (
    one_image_is_all_it_knows,
    high_noise_leaves_the_mean,
    one_class_is_the_gaussian_denoiser,
    flat_classes_are_the_memorizer_of_their_means,
    weighs_classes_by_their_densities,
    *SET,
  ),
  "class_gaussian": (knows_its_class_alone, *SET),
  "ls": (
    one_image_is_all_it_knows,
    high_noise_leaves_the_mean,
    low_noise_leaves_the_nearest_image,
    a_window_of_all_is_the_memorizer,
    one_pixel_windows_are_medleys,
    *SET,
  ),
  "els": (high_noise_leaves_the_mean_of_all_places, *SET),
  "els_borders": (*SET,),
  "pspc": (one_image_is_all_it_knows, high_noise_leaves_the_mean, one_patch_is_the_memorizer, *SET),
  "pca_locality": (
    one_image_is_all_it_knows,
    high_noise_leaves_the_mean,
    whoever_reads_everything_is_the_memorizer,
    *SET,
  ),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_exact_limits(name, x64):
  for limit in LIMITS[name]:
    limit(name)


@pytest.mark.parametrize("name", FAMILIES)
def test_one_contract(name):
  """Shape and dtype of x are kept, and jit and vmap take the record as an argument."""
  u8 = images()
  record = family.fit(FAMILIES[name], u8, classes(u8), family.defaults(FAMILIES[name]))
  denoise = Partial(FAMILIES[name].denoise, record)
  x = jnp.asarray(np.stack([noisy(u8, 0.5, seed) for seed in range(3)]), jnp.float32)
  batch = jax.jit(jax.vmap(lambda d, x, s: d(x, s), (None, 0, None)))(denoise, x, jnp.float32(0.5))
  assert batch.shape == x.shape and batch.dtype == x.dtype
  np.testing.assert_allclose(batch[1], denoise(x[1], jnp.float32(0.5)), atol=1e-6)


@pytest.mark.parametrize("name", FAMILIES)
def test_defaults_pass_their_own_check(name):
  known = FAMILIES[name]
  family.check_options(name, known, family.defaults(known))
  family.check_images(name, known, (32, 32, 3), 100, family.defaults(known))
  assert known.title and all(option.meaning for option in known.options.values())
  assert name.isidentifier() or not known.options  # or no flag could set them


@pytest.mark.parametrize(
  ("name", "options", "named"),
  [
    ("kernel", {"bandwidht": 0.1}, "`denoisers.kernel.bandwidht` is no option .* did you mean 'bandwidth'"),
    ("kernel", {"bandwidth": 0.0}, "`denoisers.kernel.bandwidth` is 0.0; want a number from 1e-06 to"),
    ("kernel", {"bandwidth": float("nan")}, "`denoisers.kernel.bandwidth` is nan"),
    ("kernel", {"bandwidth": "wide"}, "`denoisers.kernel.bandwidth` is 'wide'; want a number"),
    ("gaussian", {"rank": 1.5}, "`denoisers.gaussian.rank` is 1.5; want a whole number"),
    ("gaussian", {"rank": True}, "`denoisers.gaussian.rank` is True; want a whole number"),
    ("gaussian", {"rank": -1}, "`denoisers.gaussian.rank` is -1"),
    ("mean", {"rank": 1}, "`denoisers.mean.rank` is no option of this denoiser; known: it has none"),
  ],
)
def test_wrong_options_are_named(name, options, named):
  with pytest.raises(ValueError, match=named):
    family.check_options(name, FAMILIES[name], options)


def test_images_too_large_for_exact_distances_are_refused():
  with pytest.raises(ValueError, match="'multi-delta' takes images of at most 32768 values, .* 49152"):
    family.check_images("multi-delta", FAMILIES["multi-delta"], (128, 128, 3), 2, {})
  family.check_images("gaussian", FAMILIES["gaussian"], (128, 128, 3), 2, {})


def test_a_record_is_fitted_once_for_each_images_and_options(tmp_path):
  calls = []

  def fit(u8, **options):
    calls.append(options)
    return FAMILIES["gaussian"].fit(u8, **options)

  known = FAMILIES["gaussian"]._replace(fit=fit)
  u8 = images()
  first = family.fitted("gaussian", known, u8, "abc", {"rank": 0}, tmp_path)
  again = family.fitted("gaussian", known, None, "abc", {"rank": 0}, tmp_path)
  assert calls == [{"rank": 0}]
  for one, other in zip(first, again, strict=True):
    assert one.dtype == other.dtype
    np.testing.assert_array_equal(one, other)
  assert len(family.fitted("gaussian", known, u8, "abc", {"rank": 2}, tmp_path).eigenvalues) == 2
  family.fitted("gaussian", known, images(seed=1), "abd", {"rank": 0}, tmp_path)
  assert len(calls) == 3


def test_a_damaged_or_foreign_record_is_fitted_anew(tmp_path):
  known, u8 = FAMILIES["gaussian"], images()
  want = family.fitted("gaussian", known, u8, "abc", {"rank": 0}, tmp_path)
  family.fitted("gaussian", known, images(3), "abd", {"rank": 0}, tmp_path)
  entry, other = sorted(tmp_path.glob("gaussian/*.nc"))
  whole = entry.read_bytes()
  for broken in (b"", whole[: len(whole) // 2], bytes([whole[0] ^ 1]) + whole[1:], other.read_bytes()):
    entry.write_bytes(broken)
    for one, again in zip(
      want, family.fitted("gaussian", known, u8, "abc", {"rank": 0}, tmp_path), strict=True
    ):
      np.testing.assert_array_equal(one, again)
  assert entry.read_bytes() == whole
  # Another record under this one's name, card and all.
  for kind in (".nc", ".json"):
    entry.with_suffix(kind).write_bytes(other.with_suffix(kind).read_bytes())
  assert family.fitted("gaussian", known, u8, "abc", {"rank": 0}, tmp_path).basis.shape == want.basis.shape
  assert results.read_card(entry.with_suffix(""))["inputs"]["images"] == "abc"


def test_a_record_is_of_its_labels_where_the_family_reads_them(tmp_path):
  known, u8 = FAMILIES["class_mixture"], images()
  for labels, name in ((classes(u8), "one"), (np.arange(12), "other")):
    record = family.fitted(
      "class_mixture", known, u8, "abc", {"rank": 0}, tmp_path, labels=labels, label_fingerprint=name
    )
    again = family.fitted("class_mixture", known, None, "abc", {"rank": 0}, tmp_path, label_fingerprint=name)
    for one, other in zip(record, again, strict=True):
      np.testing.assert_array_equal(one, other)
  assert len(list(tmp_path.glob("class_mixture/*.nc"))) == 2
  for name in ("one", "other"):  # to one that reads none they are nothing
    family.fitted("gaussian", FAMILIES["gaussian"], u8, "abc", {"rank": 0}, tmp_path, label_fingerprint=name)
  assert len(list(tmp_path.glob("gaussian/*.nc"))) == 1


def test_a_class_without_images_is_refused():
  with pytest.raises(
    ValueError, match="class_gaussian.label` is 3, and none of 12 images .* want one of 0, 1"
  ):
    denoiser("class_gaussian", images(), label=3)


def test_a_family_of_ones_own_needs_no_more_than_the_record():
  blur = Family(
    "blur", lambda u8, *, width: width, lambda width, x, s: x / (1 + width), {"width": Option(1, "w", 0, 9)}
  )
  record = blur.fit(images(), **family.defaults(blur))
  np.testing.assert_allclose(blur.denoise(record, np.ones(SHAPE), 1.0), 0.5)


@pytest.mark.parametrize("name", FAMILIES)
def test_floats_are_taken_for_what_they_are_or_refused(name, x64):
  """Pixels as floats give what pixels give, and other floats what a change of scale makes of that."""
  u8, known = images(), FAMILIES[name]
  floats, options = pixels(u8).astype(np.float32), family.defaults(known)
  if known.exact:
    with pytest.raises(ValueError, match="`images` are float32.*exactly.*wants uint8"):
      family.fit(known, floats, classes(u8), options)
    return
  x, sigma = noisy(u8, 0.7), 0.7
  want = denoiser(name, u8)(x, sigma)
  # To the rounding of float32 pixels; a mixture's shares of images are as steep as exponentials of them.
  np.testing.assert_allclose(denoiser(name, floats, classes(u8))(x, sigma), want, atol=1e-5)
  if "floor" in options or "sigma_data" in options:  # lengths of their own
    return
  scaled = (40 * floats.astype(float) + 1000).astype(np.float32)
  found = denoiser(name, scaled, classes(u8))(40 * x + 1000, 40 * sigma)
  np.testing.assert_allclose((found - 1000) / 40, want, atol=1e-4)
