import math

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gauss_diffusion import networks
from gauss_diffusion.networks import layers

ROUNDING = 2e-6  # float32 sums of a few hundred terms of order one: some ten roundings of 1.2e-7
BFLOAT16 = 2.0**-8  # one rounding
FILTERS = [(1, 1), (1, 3, 3, 1), (1, 2, 4, 8, 3, 2)]


# Closed form: each layer against float64 loops.


def test_group_norm_is_that_of_its_definition():
  rng = np.random.default_rng(0)
  x = rng.normal(3.0, 2.0, (2, 4, 4, 8)).astype(np.float32)
  scale, bias = rng.normal(size=(2, 8)).astype(np.float32)
  want = np.empty(x.shape)
  for n in range(2):
    for group in (slice(0, 4), slice(4, 8)):
      part = x[n, :, :, group].astype(np.float64)
      want[n, :, :, group] = (part - part.mean()) / np.sqrt(part.var() + 1e-6)
  got = layers.GroupNorm(1e-6).apply({"params": {"scale": scale, "bias": bias}}, x)
  np.testing.assert_allclose(got, want * scale + bias, atol=4 * ROUNDING)


def test_group_norm_takes_its_statistics_in_float32():
  x = np.random.default_rng(0).normal(100.0, 2.0, (1, 16, 16, 4)).astype(jnp.bfloat16)
  params = {"scale": np.ones(4, np.float32), "bias": np.zeros(4, np.float32)}
  got = layers.GroupNorm(1e-6).apply({"params": params}, jnp.asarray(x))
  exact = x.astype(np.float64)
  want = (exact - exact.mean()) / exact.std()
  assert got.dtype == jnp.bfloat16
  np.testing.assert_allclose(np.float64(got), want, rtol=BFLOAT16, atol=1e-5)


def test_convolution_is_a_sum_over_shifts():
  rng = np.random.default_rng(1)
  x, kernel = rng.normal(size=(2, 5, 4, 3)), rng.normal(size=(3, 3, 3, 6))
  padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
  want = sum(padded[:, i : i + 5, j : j + 4] @ kernel[i, j] for i in range(3) for j in range(3))
  params = {"kernel": jnp.float32(kernel), "bias": jnp.ones(6)}
  got = layers.Conv(6).apply({"params": params}, jnp.float32(x))
  np.testing.assert_allclose(got, want + 1, atol=4 * ROUNDING)


def test_convolution_with_a_margin_goes_on_past_the_border():
  x = np.random.default_rng(1).normal(size=(2, 4, 4, 3)).astype(np.float32)
  params = layers.Conv(6).init(jax.random.key(0), x)
  wide = layers.Conv(6, margin=2).apply(params, x)
  padded = np.pad(x, ((0, 0), (2, 2), (2, 2), (0, 0)))
  np.testing.assert_allclose(wide, layers.Conv(6).apply(params, padded), atol=ROUNDING)


@pytest.mark.parametrize("heads", [1, 2])
def test_attention_is_a_softmax_over_pixels(heads):
  rng = np.random.default_rng(2)
  q, k, v = rng.normal(size=(3, 6, heads, 5))
  want = np.empty((6, heads, 5))
  for head in range(heads):
    weight = np.exp(q[:, head] @ k[:, head].T / math.sqrt(5))
    want[:, head] = weight / weight.sum(1, keepdims=True) @ v[:, head]
  interleaved = np.stack([q, k, v], axis=-1).reshape(1, 2, 3, 15 * heads)
  got = layers.attend(jnp.float32(interleaved), heads)
  np.testing.assert_allclose(got.reshape(6, heads, 5), want, atol=ROUNDING)


def test_attention_in_bfloat16_keeps_its_logits_in_float32():
  # Logits near 128 that differ by about one, to which bfloat16 would round them.
  rng = np.random.default_rng(3)
  q, v = jnp.full((16, 1, 4), 8, jnp.bfloat16), jnp.bfloat16(rng.uniform(-1, 1, (16, 1, 4)))
  k = jnp.bfloat16(8 + 0.1 * rng.normal(size=(16, 1, 4)))
  logits = np.einsum("qhc,khc->hqk", *(np.float64(a) for a in (q, k))) / 2
  weight = np.exp(logits - logits.max(-1, keepdims=True))
  want = np.einsum("hqk,khc->qhc", weight / weight.sum(-1, keepdims=True), np.float64(v))
  got = layers.attend(jnp.stack([q, k, v], axis=-1).reshape(1, 4, 4, 12))
  assert got.dtype == jnp.bfloat16
  # Weights and outputs are rounded once each.
  np.testing.assert_allclose(np.float64(got).reshape(want.shape), want, atol=2 * BFLOAT16)


def filtered(x, taps):
  """Sum over the filter's taps at every pixel, ``y[i, j] = sum_kl f_k f_l x[i + k, j + l]``, float64."""
  f = np.float64(taps) / np.sum(taps)
  h, w = (size - len(taps) + 1 for size in x.shape[1:3])
  return sum(f[k] * f[m] * x[:, k : k + h, m : m + w] for k in range(len(taps)) for m in range(len(taps)))


@pytest.mark.parametrize("taps", FILTERS)
def test_halving_keeps_every_other_pixel_of_the_filtered_image(taps):
  x = np.random.default_rng(4).normal(size=(2, 6, 8, 3))
  pad = len(taps) // 2 - 1
  want = filtered(np.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0))), taps)[:, ::2, ::2]
  np.testing.assert_allclose(layers.halve(jnp.float32(x), taps), want, atol=ROUNDING)
  # With a margin, what lies past the border is the image's own.
  np.testing.assert_allclose(
    layers.halve(jnp.float32(x), taps, pad), filtered(x, taps)[:, ::2, ::2], atol=ROUNDING
  )


@pytest.mark.parametrize("taps", FILTERS)
def test_doubling_is_the_transpose_of_halving(taps):
  rng = np.random.default_rng(5)
  x, y = rng.normal(size=(1, 8, 12, 2)), rng.normal(size=(1, 4, 6, 2))
  np.testing.assert_allclose(
    np.sum(layers.halve(jnp.float32(x), taps) * y),
    np.sum(x * layers.double(jnp.float32(y), taps)) / 4,
    atol=2e-5,
  )


def test_doubling_keeps_a_constant_image_but_for_its_border():
  doubled = layers.double(jnp.ones((1, 6, 6, 1)), (1, 3, 3, 1))
  np.testing.assert_allclose(doubled[:, 1:-1, 1:-1], 1.0, atol=ROUNDING)
  np.testing.assert_allclose(doubled[0, 0, 1:-1, 0], 0.75, atol=ROUNDING)


def test_resampling_averages_and_repeats():
  x = np.arange(2 * 4 * 4, dtype=np.float32).reshape(2, 4, 4, 1)
  np.testing.assert_array_equal(layers.double(jnp.array(x)), x.repeat(2, 1).repeat(2, 2))
  np.testing.assert_array_equal(layers.halve(jnp.array(x))[:, 0, 0], x[:, :2, :2].mean((1, 2)))


@pytest.mark.parametrize(
  ("endpoint", "frequencies"), [(True, [1, 1e-2, 1e-4]), (False, [1, 1e-4 ** (1 / 3), 1e-4 ** (2 / 3)])]
)
def test_embedding_falls_from_frequency_one_to_1e_minus_4(endpoint, frequencies):
  label = np.array([-1.5, 0.7], np.float32)
  angle = label[:, None] * np.array(frequencies)
  want = np.concatenate([np.sin(angle), np.cos(angle)], axis=1)
  np.testing.assert_allclose(layers.positional_embedding(jnp.array(label), 6, endpoint), want, atol=2e-7)


def test_fourier_embedding_counts_full_turns():
  label, freqs = np.array([-0.5, 0.25], np.float32), np.array([0.0, 1.0, 5.0], np.float32)
  got = layers.FourierEmbedding(6).apply({"params": {"freqs": freqs}}, label)
  # sin and cos of -pi freqs and pi freqs / 2.
  np.testing.assert_allclose(got, [[0, 0, 0, 1, -1, -1], [0, 1, 1, 1, 0, 0]], atol=ROUNDING)


def test_fourier_frequencies_are_never_trained():
  embedding, label = layers.FourierEmbedding(8), jnp.array([0.3])
  params = {"freqs": jnp.array([1.0, -2.0, 3.0, 16.0])}
  gradient = jax.grad(lambda p: embedding.apply({"params": p}, label).sum())(params)
  optimizer = optax.adam(0.1)
  updates, _ = optimizer.update(gradient, optimizer.init(params), params)
  np.testing.assert_array_equal(optax.apply_updates(params, updates)["freqs"], params["freqs"])


# The dtype of a computation is that of its input.


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32, jnp.float64])
@pytest.mark.parametrize(
  "layer",
  [layers.Linear(4), layers.Conv(4), layers.Conv(4, width=1), layers.GroupNorm(1e-6), layers.Table(4)],
  ids=lambda layer: type(layer).__name__,
)
def test_layers_compute_in_the_dtype_of_their_input(layer, dtype, x64):
  shapes = jax.eval_shape(lambda: layer.init(jax.random.key(0), jnp.zeros((1, 4, 4, 8), dtype)))
  assert {leaf.dtype for leaf in jax.tree.leaves(shapes)} == {jnp.dtype(jnp.float32)}
  out = jax.eval_shape(layer.apply, shapes, jax.ShapeDtypeStruct((1, 4, 4, 8), dtype))
  assert out.dtype == dtype


def products(jaxpr):
  """Yield every convolution and matmul of a program."""
  for eqn in jaxpr.eqns:
    if eqn.primitive.name in ("dot_general", "conv_general_dilated"):
      yield eqn
    for inner in jax.extend.core.jaxprs_in_params(eqn.params):
      yield from products(inner)


@pytest.mark.parametrize("name", networks.NETWORKS)
def test_float32_is_float32_on_accelerators(name):
  network = networks.create(name, img_resolution=32, img_channels=1, label_dim=2)
  shapes = networks.shapes(network)
  x, labels = jnp.zeros((1, 32, 32, 1)), jnp.zeros((1, 2))
  program = jax.make_jaxpr(network.apply)({"params": shapes}, x, jnp.ones(1), labels)
  found = list(products(program.jaxpr))
  assert len(found) > 5
  for eqn in found:
    assert set(eqn.params["precision"]) == {jax.lax.Precision.HIGHEST}, eqn
