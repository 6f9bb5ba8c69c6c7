"""The diffusion transformer against a float64 rendering of its definition, and its symmetries."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from gauss_diffusion import edm, networks
from gauss_diffusion.networks import dit

OPTIONS = dict(
  img_resolution=8, img_channels=3, label_dim=3, patch_size=2, hidden_size=16, depth=2, num_heads=2
)
ROUNDING = 2e-5  # a dozen float32 products of 16 to 64 terms, with norms between


@functools.cache
def trained():
  network = networks.create("dit", **OPTIONS, preconditioning="none")
  params = jax.device_get(networks.init(network, jax.random.key(0)))
  rng = np.random.default_rng(0)
  # All that starts at zero comes alive.
  return network, jax.tree.map(
    lambda p: p + np.float32(rng.normal(size=p.shape) / np.sqrt(p.shape[0])), params
  )


@functools.partial(jax.jit, static_argnums=0)
def apply(network, params, x, sigma, class_labels=None):
  return network.apply({"params": params}, x, sigma, class_labels)


def inputs(num=4):
  rng = np.random.default_rng(1)
  sigma = np.resize(np.float32([0.01, 0.3, 2.0, 40.0]), num)
  return np.float32(rng.uniform(-1, 1, (num, 8, 8, 3)) * (1 + sigma[:, None, None, None])), sigma


# Float64, one image at a time.


def linear(p, x):
  return x @ p["kernel"] + p["bias"]


def silu(x):
  return x / (1 + np.exp(-x))


def layer_norm(x):
  return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)


def attention(qkv, heads):
  # A head's channels are neighbours, and so are query, key and value of a channel.
  qkv = qkv.reshape(len(qkv), heads, -1, 3)
  out = []
  for head in range(heads):
    q, k, v = np.moveaxis(qkv[:, head], -1, 0)
    out.append(scipy.special.softmax(q @ k.T / np.sqrt(q.shape[1]), axis=1) @ v)
  return np.concatenate(out, axis=1)


def gelu(x):
  return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def block(p, x, e):
  shift0, scale0, gate0, shift1, scale1, gate1 = np.split(linear(p["adaLN_modulation"], silu(e)), 6)
  h = linear(p["proj"], attention(linear(p["qkv"], layer_norm(x) * (1 + scale0) + shift0), 2))
  x = x + gate0 * h
  h = linear(p["fc2"], gelu(linear(p["fc1"], layer_norm(x) * (1 + scale1) + shift1)))
  return x + gate1 * h


def sincos(side, features):
  rows = []
  for row in range(side):
    for column in range(side):
      frequency = 10000.0 ** -(np.arange(features // 4) / (features / 4))
      parts = [f(position * frequency) for position in (column, row) for f in (np.sin, np.cos)]
      rows.append(np.concatenate(parts))
  return np.array(rows)


def reference(p, x, noise_label, class_label):
  angle, e = noise_label * np.geomspace(1, 1e-4, 128), p["embedding"]
  e = linear(e["map_layer1"], silu(linear(e["map_layer0"], np.r_[np.sin(angle), np.cos(angle)]))) + (
    class_label @ e["map_label"]["kernel"]
  )
  tokens = [x[i : i + 2, j : j + 2].ravel() for i in range(0, 8, 2) for j in range(0, 8, 2)]
  h = linear(p["patch_embedding"], np.array(tokens)) + sincos(4, 16)
  for i in range(2):
    h = block(p[f"block{i}"], h, e)
  shift, scale = np.split(linear(p["final_modulation"], silu(e)), 2)
  h = linear(p["final_linear"], layer_norm(h) * (1 + scale) + shift)
  out = np.empty((8, 8, 3))
  for token, (i, j) in zip(h, np.ndindex(4, 4), strict=True):
    out[2 * i : 2 * i + 2, 2 * j : 2 * j + 2] = token.reshape(2, 2, 3)
  return out


def test_network_is_that_of_its_definition():
  network, params = trained()
  params64 = jax.tree.map(np.float64, params["model"])
  x, sigma = inputs()
  labels = np.eye(3, dtype=np.float32)[[0, 1, 2, 0]]
  want = [reference(params64, *sample) for sample in zip(np.float64(x), sigma, labels, strict=True)]
  got = apply(network, params, x, sigma, labels)
  np.testing.assert_allclose(got, want, atol=ROUNDING * np.abs(want).max())
  assert np.abs(apply(network, params, x, sigma) - got).max() > 1e-2  # labels are heard


def test_patches_go_back_where_they_came_from():
  x = jnp.arange(2 * 6 * 6 * 3.0).reshape(2, 6, 6, 3)
  np.testing.assert_array_equal(dit.from_patches(dit.to_patches(x, 2), 2), x)
  np.testing.assert_array_equal(dit.to_patches(x, 2)[1, 4], np.ravel(x[1, 2:4, 2:4]))  # row 1, column 1 of 3


@pytest.mark.parametrize("preconditioning", ["edm", "none"])
def test_a_new_network_is_its_preconditioning(preconditioning):
  network = networks.create("dit", **OPTIONS, preconditioning=preconditioning)
  x, sigma = inputs()
  got = apply(network, networks.init(network, jax.random.key(0)), x, sigma)
  c_skip = edm.PRECONDITIONINGS[preconditioning](jnp.asarray(sigma)).c_skip[:, None, None, None]
  np.testing.assert_allclose(got, c_skip * x, rtol=1e-6)  # F is zero, not nearly


def test_a_new_block_is_the_identity():
  network = networks.create("dit", **OPTIONS)
  params = networks.init(network, jax.random.key(0))["model"]["block0"]
  tokens = jax.random.normal(jax.random.key(1), (2, 16, 16))
  embedding = jax.random.normal(jax.random.key(2), (2, 16))
  np.testing.assert_array_equal(dit.Block(2, 4).apply({"params": params}, tokens, embedding), tokens)


def test_blocks_know_no_order_of_tokens():
  _, params = trained()
  tokens = jax.random.normal(jax.random.key(1), (2, 16, 16))
  embedding = jax.random.normal(jax.random.key(2), (2, 16))
  order = np.random.default_rng(0).permutation(16)
  apply_block = functools.partial(dit.Block(2, 4).apply, {"params": params["model"]["block0"]})
  got, want = apply_block(tokens[:, order], embedding), apply_block(tokens, embedding)[:, order]
  np.testing.assert_allclose(got, want, atol=ROUNDING * np.abs(want).max())
  # The position embedding alone tells patches apart: no two are the same.
  position = dit.position_embedding(4, 16)
  distances = np.abs(position[:, None] - position[None]).max(-1)
  assert distances[~np.eye(16, dtype=bool)].min() > 0.1


def test_samples_of_a_batch_do_not_see_each_other():
  network, params = trained()
  x, sigma = inputs()
  together = apply(network, params, x, sigma)
  changed = apply(network, params, np.concatenate([x[:1], 50 * x[1:]]), sigma)
  np.testing.assert_array_equal(together[0], changed[0])


@pytest.mark.parametrize(
  ("changes", "named"),
  [
    ({"patch_size": 3}, "`patch_size` is 3.*divisor of 8"),
    ({"num_heads": 3}, "`num_heads` is 3.*divisor of `hidden_size`, 16"),
    ({"hidden_size": 18}, "`hidden_size` is 18.*multiple of 4"),
    ({"depth": 0}, "`depth`"),
    ({"mlp_ratio": 4.0}, "`mlp_ratio`.*whole"),
    ({"model_channels": 8}, "`model_channels`.*hidden_size"),
  ],
)
def test_wrong_options_are_named(changes, named):
  with pytest.raises(ValueError, match=named):
    networks.create("dit", **(OPTIONS | changes))


def test_wrong_inputs_are_refused():
  network = networks.create("dit", **(OPTIONS | {"label_dim": 0}))
  with pytest.raises(ValueError, match="`class_labels`"):
    jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, 8, 8, 3)), jnp.ones(1), jnp.ones((1, 3)))
  with pytest.raises(ValueError, match="`img_channels`"):
    jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, 8, 8, 1)), jnp.ones(1))
