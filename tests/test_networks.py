import functools
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from gauss_diffusion import edm, networks

TINY = dict(img_resolution=8, img_channels=1, model_channels=8, channel_mult=(1, 2), num_blocks=1)
ROUNDING = 2e-6  # float32 sums of a few hundred terms of order one: some ten roundings of 1.2e-7


@functools.cache
def trained(**options):
  network = networks.create("ddpmpp", **(TINY | {"attn_resolutions": (), "dropout": 0.0} | options))
  params = networks.init(network, jax.random.key(0))
  # The layers that start near zero would hide the rest of the network from every test below.
  params = jax.device_get(params)
  params = jax.tree.map(lambda p: p * np.float32(3e4 if np.abs(p).max() < 1e-4 else 1.0), params)
  return networks.Trained(params, network)


@jax.jit
def apply(trained, x, sigma, class_labels=None):
  return trained.network.apply({"params": trained.params}, x, sigma, class_labels)


@jax.jit
def denoise_each(denoise, x, sigma):
  return jax.vmap(denoise)(x, sigma)


def images(rng, n, sigma):
  return (rng.uniform(-1, 1, (n, 8, 8, 1)) + sigma * rng.normal(size=(n, 8, 8, 1))).astype(np.float32)


# Initial parameters.


# Half-widths of kernel and bias, from fan in and fan out; layers of another gain; the gain of last layers.
LAWS = {
  "ddpmpp": (lambda i, o: (math.sqrt(6 / (i + o)), 0.0), {"qkv": math.sqrt(0.2)}, 1e-5),
  "adm": (lambda i, o: (i**-0.5, i**-0.5), {"map_augment": 0.0}, 0.0),
}
LAST_OF_A_BRANCH = ("conv1", "proj", "out_conv", "dec_8x8_aux_conv")


@pytest.mark.parametrize("name", LAWS)
def test_initial_parameters_follow_the_law_of_their_kind(name):
  options = dict(model_channels=64, channel_mult=(1,), attn_resolutions=(8,), label_dim=3, augment_dim=9)
  options |= {"ddpmpp": dict(embedding_type="fourier", channel_mult_noise=16), "adm": {}}[name]
  network = networks.create(name, **(TINY | options))
  params = networks.init(network, jax.random.key(3))
  law, gains, last = LAWS[name]
  gains = gains | dict.fromkeys(LAST_OF_A_BRANCH, last)
  drawn, normal = [], []
  for path, leaf in jax.tree.flatten_with_path(params)[0]:
    module, kind = path[-2].key, path[-1].key
    assert leaf.dtype == jnp.float32
    kernel = functools.reduce(lambda tree, key: tree[key.key], path[:-1], params).get("kernel")
    if kind == "scale" or kernel is None and kind == "bias":
      np.testing.assert_array_equal(leaf, {"scale": 1.0, "bias": 0.0}[kind])
    elif kind in ("freqs", "table"):
      # Fourier frequencies N(0, 16^2); ADM's class labels N(0, 1).
      normal.append(np.ravel(leaf) / {"freqs": 16.0, "table": 1.0}[kind])
    else:
      *window, fan_in, fan_out = kernel.shape
      bounds = law(math.prod(window) * fan_in, math.prod(window) * fan_out)
      bound = gains.get(module, 1.0) * bounds[kind == "bias"]
      if bound:
        drawn.append(np.ravel(leaf) / bound)
        assert np.abs(drawn[-1]).max() <= 1 + 1e-6, path
        # The standard deviation of n uniform draws scatters by 0.26 / sqrt(n); five of these.
        assert abs(drawn[-1].std() - 3**-0.5) < 1.3 / math.sqrt(leaf.size), path
      else:
        assert not np.any(leaf), path
  drawn, normal = np.concatenate(drawn), np.concatenate(normal)
  assert abs(drawn.mean()) < 5 * 3**-0.5 / math.sqrt(drawn.size)
  # No draw serves two weights, up to the chance that two of 2^23 values agree.
  assert np.unique(drawn).size > 0.9 * drawn.size
  # Mean, variance and fourth moment of n normal draws scatter by 1, sqrt(2) and sqrt(96) over sqrt(n).
  for moment, want, scatter in ((1, 0, 1), (2, 1, 2**0.5), (4, 3, 96**0.5)):
    assert abs(np.mean(normal**moment) - want) < 5 * scatter / math.sqrt(normal.size)


def test_a_normal_draw_is_finite_whatever_the_uniform_one():
  draw = networks._draw("freqs", np.ones(3, np.float32), np.float32([-1, 0, 1 - 2**-24]))
  assert np.isfinite(draw).all() and draw[1] == 0 and draw[0] < -4 and draw[2] > 4


def test_initial_parameters_are_a_function_of_the_key():
  network = trained().network
  first, same, other = (networks.init(network, jax.random.key(seed)) for seed in (0, 0, 1))
  assert all(map(np.array_equal, jax.tree.leaves(first), jax.tree.leaves(same)))
  kernel = lambda params: params["model"]["map_layer0"]["kernel"]  # noqa: E731
  assert not np.array_equal(kernel(first), kernel(other))


# Limits.


def test_a_new_network_is_its_preconditioning():
  network = trained().network
  new = networks.Trained(networks.init(network, jax.random.key(0)), network)
  sigma = np.float32([0.002, 0.1, 0.5, 80.0])
  x = images(np.random.default_rng(4), 4, sigma[:, None, None, None])
  want = edm.precondition(np.float64(sigma)).c_skip[:, None, None, None] * x
  np.testing.assert_allclose(apply(new, x, sigma), want, atol=1e-3)  # the last layer starts at gain 1e-5


def test_denoiser_is_the_identity_without_noise():
  x = images(np.random.default_rng(5), 4, 0.0)
  moved = apply(trained(), x, np.full(4, 1e-6, np.float32)) - x
  assert np.abs(moved).max() < 1e-5  # c_out = sigma, and F is of order one


# Invariance.


def test_samples_of_a_batch_do_not_see_each_other():
  sigma = np.float32([0.01, 0.3, 2.0, 40.0])
  x = images(np.random.default_rng(6), 4, sigma[:, None, None, None])
  together = apply(trained(), x, sigma)
  np.testing.assert_allclose(together[::-1], apply(trained(), x[::-1], sigma[::-1]), atol=ROUNDING)
  changed = apply(trained(), np.concatenate([x[:1], -x[1:]]), sigma)
  np.testing.assert_array_equal(together[0], changed[0])


def test_dropout_acts_in_training_only():
  record = trained(dropout=0.5)
  x, sigma = images(np.random.default_rng(7), 4, 1.0), np.ones(4, np.float32)

  @jax.jit
  def train(params, key):
    return record.network.apply({"params": params}, x, sigma, train=True, rngs={"dropout": key})

  first, same, other = (train(record.params, jax.random.key(seed)) for seed in (0, 0, 1))
  np.testing.assert_array_equal(first, same)
  assert np.abs(first - other).max() > 1e-2
  np.testing.assert_allclose(apply(record, x, sigma), apply(trained(), x, sigma), atol=ROUNDING)


def test_conditional_network_hears_its_labels_unless_dropped():
  record = trained(label_dim=3, attn_resolutions=(8, 4), channel_mult=(1, 1), label_dropout=0.9)
  x, sigma = images(np.random.default_rng(8), 8, 1.0), np.ones(8, np.float32)
  labels = np.eye(3, dtype=np.float32)[np.arange(8) % 3]
  silent, heard = apply(record, x, sigma), apply(record, x, sigma, labels)
  np.testing.assert_allclose(silent, apply(record, x, sigma, 0 * labels), atol=ROUNDING)
  train = jax.jit(functools.partial(record.network.apply, train=True))
  dropped = train({"params": record.params}, x, sigma, labels, rngs={"dropout": jax.random.key(0)})
  is_silent = np.isclose(dropped, silent, atol=1e-4).all((1, 2, 3))
  is_heard = np.isclose(dropped, heard, atol=1e-4).all((1, 2, 3))
  assert np.all(is_silent ^ is_heard) and is_silent.any() and np.abs(silent - heard).max() > 1e-2


def test_a_class_is_a_leaf_of_the_denoiser_and_none_is_zeros():
  record = trained(label_dim=3, attn_resolutions=(8, 4), channel_mult=(1, 1), label_dropout=0.9)
  (x,), sigma = images(np.random.default_rng(8), 1, 1.0), np.ones(1, np.float32)
  for label, vector in ((0, [1, 0, 0]), (2, [0, 0, 1]), (None, [0, 0, 0])):
    bound = record.replace(label=networks.class_vector(record.network, label))
    want = apply(record, x[None], sigma, np.array([vector], np.float32))[0]
    np.testing.assert_allclose(networks.denoise(bound, x, sigma[0]), want, atol=ROUNDING)
  assert networks.class_vector(trained().network, None) is None


def test_float64_in_float64_out():
  sigma = np.float32([0.1, 3.0, 0.1, 3.0])
  x = images(np.random.default_rng(9), 4, sigma[:, None, None, None])
  single = apply(trained(), x, sigma)
  with jax.enable_x64(True):
    double = apply(trained(), x.astype(np.float64), sigma)
    assert double.dtype == np.float64 and single.dtype == np.float32
    assert apply(trained(), x, sigma.astype(np.float64)).dtype == np.float32
  np.testing.assert_allclose(single, double, atol=5 * ROUNDING)


# Errors.


@pytest.mark.parametrize(
  ("name", "options", "named"),
  [
    ("unet", {}, "`unet`.*ddpmpp"),
    ("ddpmpp", {"channels": 8}, "`channels`.*model_channels"),
    ("ddpmpp", {"parent": None}, "`parent`"),
    ("ddpmpp", {"model_channels": 8.0}, "`model_channels`.*whole"),
    ("ddpmpp", {"model_channels": True}, "`model_channels`.*whole"),
    ("ddpmpp", {"model_channels": 6}, "`model_channels`.*multiple of 4"),
    ("ddpmpp", {"channel_mult": 2}, "`channel_mult`.*tuple"),
    ("ddpmpp", {"channel_mult": ()}, "`channel_mult`.*tuple"),
    ("ddpmpp", {"img_resolution": 9}, "`img_resolution`.*multiple of 2"),
    ("ddpmpp", {"dropout": 1.0}, "`dropout`.*rate"),
    ("ddpmpp", {"label_dim": -1}, "`label_dim`"),
    ("ddpmpp", {"sigma_data": 0.0}, "`sigma_data`.*positive"),
    ("ncsnpp", {"resample_filter": (1, 3, 1)}, "`resample_filter`.*even"),
    ("ncsnpp", {"encoder_type": "dense"}, "`encoder_type`.*residual"),
  ],
)
def test_wrong_options_are_named(name, options, named):
  with pytest.raises(ValueError, match=named):
    networks.create(name, **(TINY | options))


@pytest.mark.parametrize("name", ["ddpmpp", "ncsnpp", "adm"])
def test_a_card_rebuilds_its_network(name):
  network = networks.create(name, **TINY, preconditioning="vp", M=500)
  card = networks.card(network)
  assert card["name"] == name and json.loads(json.dumps(card)) == card
  assert networks.create(**card) == network


def test_missing_option_is_named():
  with pytest.raises(ValueError, match="`img_channels`"):
    networks.create("ddpmpp", img_resolution=8)


def test_images_that_do_not_fit_are_refused():
  with pytest.raises(ValueError, match="`img_channels`"):
    apply(trained(), np.zeros((1, 8, 8, 3), np.float32), np.ones(1, np.float32))
  with pytest.raises(ValueError, match="`class_labels`"):
    apply(trained(), np.zeros((1, 8, 8, 1), np.float32), np.ones(1, np.float32), np.zeros((1, 3), np.float32))


def test_channels_that_do_not_split_are_refused():
  with pytest.raises(ValueError, match="132 channels.*`model_channels`"):
    networks.shapes(networks.create("ddpmpp", **(TINY | {"model_channels": 132})))


# jit, vmap, pmap.


def test_one_sample_denoiser_is_the_batched_network():
  sigma = np.float32([0.01, 0.3, 2.0, 40.0])
  x = images(np.random.default_rng(10), 4, sigma[:, None, None, None])
  want = apply(trained(), x, sigma)
  denoise = Partial(networks.denoise, trained())
  np.testing.assert_allclose(denoise_each(denoise, x, sigma), want, atol=ROUNDING)
  one_level = jax.pmap(jax.vmap(lambda d, x, s: d(x, s), in_axes=(None, 0, None)), in_axes=(None, 0, None))
  got = one_level(denoise, np.stack([x] * 8), np.float32(2.0))
  assert len(got.sharding.device_set) == 8
  for device in range(8):
    np.testing.assert_allclose(got[device, 2], want[2], atol=ROUNDING)


def test_networks_of_one_configuration_share_a_compile():
  x, sigma = np.zeros((4, 8, 8, 1), np.float32), np.ones(4, np.float32)
  denoise_each(Partial(networks.denoise, trained()), x, sigma)
  compiled = denoise_each._cache_size()
  again = networks.create("ddpmpp", **(TINY | {"attn_resolutions": [], "dropout": 0.0}))
  other = networks.Trained(jax.device_get(networks.init(again, jax.random.key(9))), again)
  assert hash(again) == hash(trained().network) and again == trained().network
  denoise_each(Partial(networks.denoise, other), x, sigma)
  assert denoise_each._cache_size() == compiled
