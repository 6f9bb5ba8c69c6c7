"""EDM2's networks against a forward pass of ten small functions in NumPy, from the paper, in float64."""

import functools
import json

import forge
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_importers import channels_last, weights
from test_state_dicts import saved

from gauss_diffusion import importers, networks
from gauss_diffusion.importers import edm2
from gauss_diffusion.networks import edm2 as network_edm2

PLAIN = {"img_resolution": 8, "img_channels": 1, "label_dim": 0, "model_channels": 8, "channel_mult": [1, 2]}
CASES = {
  "plain": PLAIN | {"num_blocks": 1, "attn_resolutions": [4], "use_fp16": True, "dropout": 0.1},
  "classes and heads": {
    "img_resolution": 8,
    "img_channels": 3,
    "label_dim": 3,
    "model_channels": 64,
    "channel_mult": [2, 1],
    "channel_mult_noise": 1,
    "channel_mult_emb": 3,
    "num_blocks": 2,
    "attn_resolutions": [8],
    "sigma_data": 0.7,
    "label_balance": 0.4,
    "concat_balance": 0.6,
    "res_balance": 0.2,
    "attn_balance": 0.45,
    "logvar_channels": 16,
  },
}
# Relative to an image's largest number: some forty layers in float32, each of size one; 1e-6 seen.
ROUNDING = 1e-5


def shapes(config):
  """Return the names and shapes of the reference's tensors, as its constructor makes them."""
  mult, unit = config["channel_mult"], config["model_channels"]
  noise = unit * config.get("channel_mult_noise", mult[0])
  emb = unit * config.get("channel_mult_emb", max(mult))
  found = {"unet.out_gain": [], "unet.emb_fourier.freqs": [noise], "unet.emb_fourier.phases": [noise]}
  found |= {
    "unet.emb_noise.weight": [emb, noise],
    "logvar_fourier.freqs": [16],
    "logvar_linear.weight": [1, 16],
  }
  if config["label_dim"]:
    found["unet.emb_label.weight"] = [emb, config["label_dim"]]

  def block(name, into, out, decodes, attends):
    found[f"unet.{name}.emb_gain"] = []
    found[f"unet.{name}.conv_res0.weight"] = [out, into if decodes else out, 3, 3]
    found[f"unet.{name}.emb_linear.weight"] = [out, emb]
    found[f"unet.{name}.conv_res1.weight"] = [out, out, 3, 3]
    if into != out:
      found[f"unet.{name}.conv_skip.weight"] = [out, into, 1, 1]
    if attends and out >= 64:
      found[f"unet.{name}.attn_qkv.weight"] = [3 * out, out, 1, 1]
      found[f"unet.{name}.attn_proj.weight"] = [out, out, 1, 1]

  for name, into, out, decodes, attends in plan(config):
    if name.endswith("conv"):
      found[f"unet.{name}.weight"] = [out, into, 3, 3]
    else:
      block(name, into, out, decodes, attends)
  found["unet.out_conv.weight"] = [config["img_channels"], unit * mult[0], 3, 3]
  return found


def plan(config):
  """Yield each block's name, channels in and out, whether it is of the decoder, and whether it attends."""
  widths = [config["model_channels"] * each for each in config["channel_mult"]]
  out, skips = config["img_channels"] + 1, []
  for level, width in enumerate(widths):
    side = config["img_resolution"] >> level
    if level == 0:
      yield f"enc.{side}x{side}_conv", out, width, False, False
      out = width
    else:
      yield f"enc.{side}x{side}_down", out, out, False, False
    skips.append(out)
    for i in range(config["num_blocks"]):
      yield f"enc.{side}x{side}_block{i}", out, width, False, side in config["attn_resolutions"]
      out = width
      skips.append(out)
  for level, width in reversed(list(enumerate(widths))):
    side = config["img_resolution"] >> level
    for name, attends in (("in0", True), ("in1", False)) if level == len(widths) - 1 else (("up", False),):
      yield f"dec.{side}x{side}_{name}", out, out, True, attends
    for i in range(config["num_blocks"] + 1):
      yield f"dec.{side}x{side}_block{i}", out + skips.pop(), width, True, side in config["attn_resolutions"]
      out = width


def norm(x, axis):
  return x / (1e-4 + np.sqrt(np.mean(x**2, axis=axis, keepdims=True)))


def silu(x):
  return x / (1 + np.exp(-x)) / 0.596


def mean(a, b, t):
  return ((1 - t) * a + t * b) / np.hypot(1 - t, t)


def layer(x, weight, gain=1.0):
  weight = norm(weight, tuple(range(1, weight.ndim))) / np.sqrt(weight[0].size) * gain
  if weight.ndim == 2:
    return x @ weight.T
  edge = weight.shape[-1] // 2
  padded = np.pad(x, ((0, 0), (0, 0), (edge, edge), (edge, edge)))
  taps = np.lib.stride_tricks.sliding_window_view(padded, weight.shape[2:], (2, 3))
  return np.einsum("nchwij,ocij->nohw", taps, weight, optimize=True)


def attend(x, state, name, balance):
  n, channels, h, w = x.shape
  heads = channels // 64
  qkv = layer(x, state[f"{name}.attn_qkv.weight"]).reshape(n, heads, channels // heads, 3, h * w)
  q, k, v = np.moveaxis(norm(qkv, 2), 3, 0)
  logits = np.einsum("nhcq,nhck->nhqk", q, k) / np.sqrt(q.shape[2])
  weight = np.exp(logits - logits.max(-1, keepdims=True))
  weight /= weight.sum(-1, keepdims=True)
  out = np.einsum("nhqk,nhck->nhcq", weight, v).reshape(x.shape)
  return mean(x, layer(out, state[f"{name}.attn_proj.weight"]), balance)


def denoise(state, config, x, sigma, labels):
  """Return D(x; sigma) of the reference, from x [N, C, H, W]."""
  sigma_data = config.get("sigma_data", 0.5)
  tall, total = sigma[:, None, None, None], sigma**2 + sigma_data**2
  e = np.sqrt(2) * np.cos(
    np.outer(np.log(sigma) / 4, state["unet.emb_fourier.freqs"]) + state["unet.emb_fourier.phases"]
  )
  e = layer(e, state["unet.emb_noise.weight"])
  if labels is not None:
    of_class = layer(labels * np.sqrt(labels.shape[1]), state["unet.emb_label.weight"])
    e = mean(e, of_class, config.get("label_balance", 0.5))
  e = silu(e)
  h = x / np.sqrt(total)[:, None, None, None]
  h, skips = np.concatenate([h, np.ones_like(h[:, :1])], 1), []
  for name, into, out, decodes, attends in plan(config):
    name = f"unet.{name}"
    if name.endswith("conv"):
      h = layer(h, state[f"{name}.weight"])
      skips.append(h)
      continue
    if decodes and "block" in name:
      t, skip = config.get("concat_balance", 0.5), skips.pop()
      a, b = h.shape[1], skip.shape[1]
      scale = np.sqrt((a + b) / ((1 - t) ** 2 + t**2))
      h = scale * np.concatenate([h * (1 - t) / np.sqrt(a), skip * t / np.sqrt(b)], 1)
    if name.endswith("down"):
      h = h.reshape(*h.shape[:2], h.shape[2] // 2, 2, h.shape[3] // 2, 2).mean((3, 5))
    if name.endswith("up"):
      h = h.repeat(2, 2).repeat(2, 3)
    if not decodes:
      h = norm(layer(h, state[f"{name}.conv_skip.weight"]) if into != out else h, 1)
    y = layer(silu(h), state[f"{name}.conv_res0.weight"])
    scale = layer(e, state[f"{name}.emb_linear.weight"], state[f"{name}.emb_gain"]) + 1
    y = layer(silu(y * scale[:, :, None, None]), state[f"{name}.conv_res1.weight"])
    if decodes and into != out:
      h = layer(h, state[f"{name}.conv_skip.weight"])
    h = mean(h, y, config.get("res_balance", 0.3))
    if attends and out >= 64:
      h = attend(h, state, name, config.get("attn_balance", 0.3))
    h = np.clip(h, -256, 256)
    skips += [] if decodes else [h]
  raw = layer(h, state["unet.out_conv.weight"], state["unet.out_gain"])
  return (
    sigma_data**2 * x / total[:, None, None, None]
    + tall * sigma_data / np.sqrt(total)[:, None, None, None] * raw
  )


@functools.cache
def made(case):
  """Return a state dict of a configuration; gains are drawn too, or the rest would not be seen."""
  return {name: np.float32(value) for name, value in weights(shapes(CASES[case]), {}).items()}


@pytest.mark.parametrize("case", CASES)
def test_denoisers_equal_the_reference(case):
  config, rng = CASES[case], np.random.default_rng(0)
  sigma = np.float32([0.002, 0.3, 1.5, 80])
  x = np.float32((1 + sigma[:, None, None, None]) * rng.normal(size=(4, config["img_channels"], 8, 8)))
  labels = np.eye(3)[[0, 1, 2, 1]] if config["label_dim"] else None
  state = {name: np.float64(value) for name, value in made(case).items()}
  want = channels_last(denoise(state, config, np.float64(x), np.float64(sigma), labels))
  network, params = edm2.from_state_dict(made(case), config)
  got = jax.jit(network.apply)({"params": params}, channels_last(x), sigma, labels)
  moved = np.abs(want - channels_last(x)).max(axis=(1, 2, 3))
  assert (moved > 1e-4).all()  # the network is heard
  for d, d_reference in zip(np.asarray(got), want, strict=True):
    assert np.abs(d - d_reference).max() < ROUNDING * np.abs(d_reference).max()


@pytest.mark.parametrize("case", CASES)
def test_pickles_and_state_dicts_become_their_network(tmp_path, case):
  state, config = made(case), CASES[case]
  wanted = edm2.from_state_dict(state, config)
  forge.snapshot(tmp_path / "snapshot.pkl", state, config, class_name="Precond")
  network, params = importers.load(tmp_path / "snapshot.pkl")
  assert network == wanted[0] and networks.create(**json.loads(json.dumps(networks.card(network)))) == network
  jax.tree.map(np.testing.assert_array_equal, params, wanted[1])
  told = importers.Told(sigma_data=config.get("sigma_data", 0.5))
  network, params = importers.load(saved(tmp_path / "state.pt", state), told)
  jax.tree.map(np.testing.assert_array_equal, params, wanted[1])
  assert network.constants == wanted[0].constants


NOISE = "unet.emb_noise.weight"


@pytest.mark.parametrize(
  ("state", "config", "named"),
  [
    ({"unet.out_gain": None}, {}, "`unet.out_gain` is missing"),
    ({"unet.extra": np.zeros(3)}, {}, "`unet.extra` has no place"),
    ({"unet.out_gain": np.zeros(1, np.float32)}, {}, r"`unet.out_gain` has shape \(1,\); want \(\)"),
    ({}, {"clip_act": 100}, "`clip_act` is 100, which is not supported; want 256"),
    ({}, {"resample_filter": [1, 3, 3, 1]}, "`resample_filter` is"),
    ({}, {"channel_mult": [1, "2"]}, "`channel_mult` is"),
    ({}, {"res_balance": 2.0}, "`res_balance` is 2.0"),
    ({}, {"depth": 1}, "`depth` is no option of edm2"),
    ({}, {"img_resolution": 7}, "`img_resolution` is 7"),
  ],
)
def test_wrong_networks_are_named(state, config, named):
  state = {name: value for name, value in (made("plain") | state).items() if value is not None}
  with pytest.raises(ValueError, match=named):
    edm2.from_state_dict(state, CASES["plain"] | config)


@pytest.mark.parametrize(
  ("state", "sigma_data", "named"),
  [
    (made("plain"), None, "EDM2's, which does not say sigma_data: add --sigma_data=0.5"),
    ({name: value for name, value in made("plain").items() if name != NOISE}, 0.5, f"`{NOISE}` is missing"),
    ({"unet.enc.x": np.zeros(3, np.float32)}, 0.5, "_block0.conv_res0.weight` is missing"),
  ],
)
def test_state_dicts_that_are_not_whole_are_named(tmp_path, state, sigma_data, named):
  with pytest.raises(ValueError, match=named):
    importers.load(saved(tmp_path / "state.pt", state), importers.Told(sigma_data=sigma_data))


def test_layers_keep_the_size_of_a_signal():
  rng = np.random.default_rng(0)
  a, b = (jnp.asarray(rng.normal(size=(200, 8, 8, c)), jnp.float32) for c in (24, 8))

  def size(x):
    return float(jnp.sqrt(jnp.mean(x**2)))

  for x in (a, network_edm2.silu(a), network_edm2.join(a, b, 0.3), network_edm2.normalise(7 * a)):
    assert abs(size(x) - 1) < 0.01
  assert abs(size(network_edm2.add(a, a[::-1], 0.3)) - 1) < 0.01
  layer = network_edm2.Layer(16, 3)
  params = {"params": {"direction": jnp.asarray(5 * rng.normal(size=(3, 3, 24, 16)), jnp.float32)}}
  inside = layer.apply(params, a)[:, 1:-1, 1:-1]
  assert abs(size(inside) - 1) < 0.02


def test_it_starts_as_its_preconditioning_and_learns():
  network = networks.create("edm2", **{k: v for k, v in PLAIN.items()}, num_blocks=1, attn_resolutions=())
  params = networks.init(network, jax.random.key(0))
  x, sigma = jnp.ones((2, 8, 8, 1)), jnp.full(2, 0.5)
  np.testing.assert_allclose(network.apply({"params": params}, x, sigma), 0.5 * x, rtol=1e-6)
  directions = [leaf for path, leaf in jax.tree.flatten_with_path(params)[0] if path[-1].key == "direction"]
  drawn = np.concatenate([np.ravel(leaf) for leaf in directions])
  assert abs(drawn.std() - 1) < 0.05 and abs(drawn.mean()) < 0.05

  def loss(params):
    return jnp.mean(network.apply({"params": params}, x, sigma, train=True) ** 2)

  grads = jax.grad(loss)(params)
  assert abs(grads["model"]["out_gain"]) > 0 and not np.any(grads["model"]["emb_fourier"]["freqs"])
