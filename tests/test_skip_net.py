"""The Skip network against a float64 rendering of its definition, and what makes it a denoiser's network."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gauss_diffusion import edm, networks

OPTIONS = dict(img_resolution=8, img_channels=1, model_channels=8, skip_channels=4, num_levels=2, label_dim=3)
ROUNDING = 2e-5  # some ten float32 layers with norms, which divide by spreads of order one


@functools.cache
def trained():
  network = networks.create("skip", **OPTIONS, preconditioning="none")
  params = jax.device_get(networks.init(network, jax.random.key(0)))
  rng = np.random.default_rng(0)
  # All that starts at or near zero comes alive.
  return network, jax.tree.map(lambda p: p + np.float32(0.1 * rng.normal(size=p.shape)), params)


@functools.partial(jax.jit, static_argnums=0)
def apply(network, params, x, sigma, class_labels=None):
  return network.apply({"params": params}, x, sigma, class_labels)


def inputs(num=4):
  rng = np.random.default_rng(1)
  sigma = np.resize(np.float32([0.01, 0.3, 2.0, 40.0]), num)
  return np.float32(rng.uniform(-1, 1, (num, 8, 8, 1)) + sigma[:, None, None, None]), sigma


# Float64, one image [H, W, C] at a time.


def conv(p, x):
  width, (h, w, _) = len(p["kernel"]), x.shape
  pad = width // 2
  padded = np.pad(x, ((pad, pad), (pad, pad), (0, 0)))
  kernel = np.float64(p["kernel"])
  shifts = ((i, j) for i in range(width) for j in range(width))
  return sum(padded[i : i + h, j : j + w] @ kernel[i, j] for i, j in shifts) + p["bias"]


def norm(p, x):
  groups = x.reshape(*x.shape[:2], -1, 4)  # of four channels
  groups = groups - groups.mean((0, 1, 3), keepdims=True)
  groups = groups / np.sqrt((groups**2).mean((0, 1, 3), keepdims=True) + 1e-5)
  return groups.reshape(x.shape) * p["scale"] + p["bias"]


def block(p, x, e):
  x = norm(p["norm0"], conv(p["conv0"], x)) + e @ p["affine"]["kernel"] + p["affine"]["bias"]
  x = np.where(x > 0, x, 0.2 * x)
  x = norm(p["norm1"], conv(p["conv1"], x))
  return np.where(x > 0, x, 0.2 * x)


def silu(x):
  return x / (1 + np.exp(-x))


def reference(p, x, noise_label, class_label):
  angle = noise_label * np.geomspace(1, 1e-4, 128)
  e, linear = p["embedding"], lambda q, v: v @ q["kernel"] + q["bias"]
  e = linear(e["map_layer1"], silu(linear(e["map_layer0"], np.r_[np.sin(angle), np.cos(angle)]))) + (
    class_label @ e["map_label"]["kernel"]
  )
  e, skips = silu(e), []
  for level in range(2):
    skips.append(conv(p[f"skip{level}"], x))
    h, w, c = x.shape
    x = block(p[f"down{level}"], x.reshape(h // 2, 2, w // 2, 2, c).mean((1, 3)), e)
  for level in (1, 0):
    x = np.concatenate([skips[level], x.repeat(2, 0).repeat(2, 1)], -1)
    x = block(p[f"up{level}"], x, e)
  return conv(p["out"], x)


def test_network_is_that_of_its_definition():
  network, params = trained()
  x, sigma = inputs()
  labels = np.eye(3, dtype=np.float32)[[0, 1, 2, 0]]
  want = [reference(params["model"], *sample) for sample in zip(np.float64(x), sigma, labels, strict=True)]
  got = apply(network, params, x, sigma, labels)
  np.testing.assert_allclose(got, want, atol=ROUNDING * np.abs(want).max())
  assert np.abs(apply(network, params, x, sigma) - got).max() > 1e-2  # labels are heard


@pytest.mark.parametrize("preconditioning", ["edm", "none"])
def test_a_new_network_is_its_preconditioning(preconditioning):
  network = networks.create("skip", **OPTIONS, preconditioning=preconditioning)
  x, sigma = inputs()
  got = apply(network, networks.init(network, jax.random.key(0)), x, sigma)
  c_skip = edm.PRECONDITIONINGS[preconditioning](jnp.asarray(sigma)).c_skip[:, None, None, None]
  np.testing.assert_allclose(got, c_skip * x, atol=1e-3)


def test_samples_of_a_batch_do_not_see_each_other():
  # As they would under the batch norm of Ulyanov et al.
  network, params = trained()
  x, sigma = inputs()
  together = apply(network, params, x, sigma)
  changed = apply(network, params, np.concatenate([x[:1], 50 * x[1:]]), sigma)
  np.testing.assert_array_equal(together[0], changed[0])
  np.testing.assert_allclose(together[::-1], apply(network, params, x[::-1], sigma[::-1]), atol=ROUNDING)


@pytest.mark.parametrize(
  ("changes", "named"),
  [
    ({"img_resolution": 10}, "`img_resolution` is 10.*multiple of 4"),
    ({"num_levels": 4}, "`num_levels`"),
    ({"model_channels": 10}, "`model_channels` is 10.*multiple of 4"),
    ({"skip_channels": 0}, "`skip_channels`"),
    ({"num_blocks": 1}, "`num_blocks`.*num_levels"),
  ],
)
def test_wrong_options_are_named(changes, named):
  with pytest.raises(ValueError, match=named):
    networks.create("skip", **(OPTIONS | changes))


def test_wrong_inputs_are_refused():
  network = networks.create("skip", **(OPTIONS | {"label_dim": 0}))
  with pytest.raises(ValueError, match="`class_labels`"):
    jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, 8, 8, 1)), jnp.ones(1), jnp.ones((1, 3)))
  with pytest.raises(ValueError, match="`img_resolution`"):
    jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, 4, 4, 1)), jnp.ones(1))
