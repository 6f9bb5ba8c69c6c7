"""The wrapper around a raw network, and that how a network computes does not change what it is."""

import functools
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gauss_diffusion import edm, networks
from gauss_diffusion.networks.preconditioned import Preconditioned

SHAPE = {"img_resolution": 8, "img_channels": 1}
UNET = SHAPE | {"model_channels": 8, "channel_mult": (1,), "num_blocks": 1, "attn_resolutions": (8,)}
TINY = {
  "ddpmpp": UNET,
  "ncsnpp": UNET,
  "adm": UNET,
  "skip": SHAPE | {"model_channels": 8, "num_levels": 2},
  "dit": SHAPE | {"patch_size": 2, "hidden_size": 16, "depth": 2, "num_heads": 2},
}
SIGMA = np.float32([0.002, 0.05, 0.47, 4.0, 80.0])
# Unit roundoff of bfloat16 is 2^-9; some thirty roundings in a row, of both signs, of numbers of order one.
BFLOAT16 = 2**-9 * np.sqrt(30) * 3


@functools.cache
def trained(name, **options):
  network = networks.create(name, **TINY[name], **options)
  rng = np.random.default_rng(0)

  # Layers that start at or near zero would hide the rest: give them a Glorot-like draw.
  def lively(p):
    p = np.asarray(p)
    return p if np.abs(p).max() > 1e-3 else np.float32(rng.normal(size=p.shape) / np.sqrt(p.shape[0] + 4))

  params = jax.tree.map(lively, jax.device_get(networks.init(network, jax.random.key(0))))
  return network, params


def noisy(num):
  rng = np.random.default_rng(1)
  sigma = np.resize(SIGMA, num)
  x0, noise = rng.uniform(-1, 1, (num, 8, 8, 1)), rng.normal(size=(num, 8, 8, 1))
  return np.float32(x0 + sigma[:, None, None, None] * noise), sigma


class Echo(nn.Module):
  """A raw network that says what it was given, in more channels than the image has."""

  def __call__(self, x, noise_label, class_labels, augment_labels, train):
    heard = jnp.asarray(noise_label, x.dtype)[:, None, None, None]
    self.sow("intermediates", "given", (x, noise_label))
    return jnp.concatenate([2 * x + heard, jnp.full_like(x, 7.0)], axis=-1)


@pytest.mark.parametrize("name", edm.PRECONDITIONINGS)
def test_denoiser_is_the_scaled_sum(x64, name):
  x, sigma = (np.float64(v) for v in noisy(5))
  c_skip, c_out, c_in, c_noise = (
    np.asarray(c)[:, None, None, None] for c in edm.PRECONDITIONINGS[name](sigma)
  )
  got = Preconditioned(Echo(), name).apply({}, x, sigma)
  np.testing.assert_allclose(got, c_skip * x + c_out * (2 * c_in * x + c_noise), rtol=1e-12)


def test_constants_reach_the_formula():
  x, sigma = noisy(5)
  got = Preconditioned(Echo(), "edm", (("sigma_data", 2.0),)).apply({}, x, sigma)
  c = edm.precondition(sigma, 2.0)
  raw = 2 * c.c_in[:, None, None, None] * x + c.c_noise[:, None, None, None]
  np.testing.assert_allclose(
    got, c.c_skip[:, None, None, None] * x + c.c_out[:, None, None, None] * raw, rtol=1e-6
  )


def test_bfloat16_is_the_raw_networks_alone():
  x, sigma = noisy(5)
  network = Preconditioned(Echo(), "vp", dtype="bfloat16")
  out, state = network.apply({}, x, sigma, mutable="intermediates")
  ((inner, label),) = state["intermediates"]["model"]["given"]
  assert inner.dtype == jnp.bfloat16 and label.dtype == jnp.float32 and out.dtype == jnp.float32
  scalings = edm.precondition_vp(sigma)
  np.testing.assert_array_equal(label, scalings.c_noise)
  # D = x - sigma F, where F is rounded and x is not.
  raw = np.float32(2 * inner + label.astype(jnp.bfloat16)[:, None, None, None])
  np.testing.assert_allclose(out, x - sigma[:, None, None, None] * raw, rtol=1e-6)


# How a network computes.


def test_compute_keeps_the_network():
  network, params = trained("ddpmpp")
  other = networks.compute(network, dtype="bfloat16", remat=True)
  assert other != network and networks.compute(other) == network
  assert networks.card(other) == networks.card(network)
  assert networks.shapes(other) == networks.shapes(network)
  with pytest.raises(ValueError, match="`dtype` is 'float16'.*bfloat16"):
    networks.compute(network, dtype="float16")
  with pytest.raises(ValueError, match="`remat` is no option"):
    networks.create("ddpmpp", **UNET, remat=True)


def traced(network, params, x, sigma):
  """Return the text of the training forward pass, with one operation a line."""
  apply = functools.partial(network.apply, train=True, rngs={"dropout": jax.random.key(0)})
  return str(jax.make_jaxpr(apply)({"params": params}, x, sigma))


@pytest.mark.parametrize("name", TINY)
def test_bfloat16_reaches_every_layer(name):
  network, params = trained(name)
  text = traced(networks.compute(network, dtype="bfloat16"), params, *noisy(5))
  # What convolutions, or the products of tokens with a weight, put out; norms and embeddings are float32.
  shapes = r"\[5,\d+,\d+,\d+\] = conv_general_dilated" if name != "dit" else r"\[5,16,\d+\] = dot_general"
  assert set(re.findall(r":(\w+)" + shapes, text)) == {"bf16"}
  assert "f64" not in text


@functools.partial(jax.jit, static_argnums=0)
def apply(network, params, x, sigma):
  return network.apply({"params": params}, x, sigma)


@pytest.mark.parametrize("name", TINY)
def test_bfloat16_is_near_float32_at_every_level(name):
  network, params = trained(name)
  x, sigma = noisy(20)
  want = apply(network, params, x, sigma)
  got = apply(networks.compute(network, dtype="bfloat16"), params, x, sigma)
  assert got.dtype == jnp.float32
  scalings = edm.precondition(sigma)
  raw = (want - scalings.c_skip[:, None, None, None] * x) / scalings.c_out[:, None, None, None]
  error = (got - want) / scalings.c_out[:, None, None, None]
  relative = np.sqrt(np.mean(np.square(error), (1, 2, 3)) / np.mean(np.square(raw), (1, 2, 3)))
  assert relative.max() < BFLOAT16
  assert relative.min() > 0


def gradient_residuals(network, params, x, sigma):
  """Return the bytes that a backward pass keeps of the forward one."""

  def forward(params):
    return network.apply({"params": params}, x, sigma, train=True, rngs={"dropout": jax.random.key(0)})

  kept = jax.eval_shape(lambda params: jax.vjp(forward, params)[1], params)
  return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(kept))


@pytest.mark.parametrize("name", TINY)
def test_rematerialising_keeps_less(name):
  # XLA on CPUs undoes it, so what is counted is what the gradient asks to be kept. Some of a small network
  # stays in any case: parameters, the blocks' inputs, what lies outside of blocks.
  network, params = trained(name)
  x, sigma = noisy(40)
  kept, recomputed = (
    gradient_residuals(networks.compute(network, remat=remat), params, x, sigma) for remat in (False, True)
  )
  assert recomputed < 0.5 * kept


@pytest.mark.parametrize("name", ["ddpmpp", "skip"])
def test_rematerialised_gradients_are_the_same(name):
  network, params = trained(name)
  x, sigma = noisy(5)

  @functools.partial(jax.jit, static_argnums=0)
  def gradient(network, params):
    def loss(params):
      out = network.apply({"params": params}, x, sigma, train=True, rngs={"dropout": jax.random.key(0)})
      return jnp.mean(out**2)

    return jax.grad(loss)(params)

  want, got = (gradient(networks.compute(network, remat=remat), params) for remat in (False, True))
  for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
    np.testing.assert_allclose(a, b, atol=1e-5 * np.abs(b).max() + 1e-9)  # float32 sums in another order


def test_bfloat16_gradients_are_float32():
  network, params = trained("skip")
  x, sigma = noisy(5)
  low = networks.compute(network, dtype="bfloat16")
  gradient = jax.eval_shape(jax.grad(lambda p: jnp.mean(low.apply({"params": p}, x, sigma) ** 2)), params)
  assert {leaf.dtype for leaf in jax.tree.leaves(gradient)} == {np.dtype("float32")}
