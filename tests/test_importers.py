import functools
import json
import pathlib

import jax
import numpy as np
import pytest
from conftest import SHARED
from jax.tree_util import Partial

from gauss_diffusion import edm as edm_formulas
from gauss_diffusion import networks, sampling
from gauss_diffusion.importers import edm

DATA = pathlib.Path(__file__).parent / "data"
# Parameters, inputs at ten noise levels and outputs of the reference implementation, float32.
FAMILIES = {
  "ddpmpp": DATA / "edm_ddpmpp.npz",
  "ncsnpp": DATA / "edm_ncsnpp.npz",
  "adm": SHARED / "reference" / "edm_adm.npz",
}
# Outputs of the reference's classes in float64 (torch.float32 was read as torch.float64) for options that the
# three families leave alone: preconditionings, encoders, decoders and filters, labels, heads. The file
# holds configurations, names and shapes of all tensors, inputs and outputs; `weights` makes the tensors.
VARIANTS = np.load(DATA / "edm_variants.npz")
CASES = sorted({name.split("/")[0] for name in VARIANTS})


@functools.cache
def reference(family):
  if not FAMILIES[family].exists():
    pytest.skip("no ../shared/reference")
  arrays = dict(np.load(FAMILIES[family]))
  state = {
    name.removeprefix("param/"): arrays.pop(name) for name in list(arrays) if name.startswith("param/")
  }
  return state, json.loads(str(arrays.pop("config"))), arrays


STATE, CONFIG, _ = reference("ddpmpp")


def weights(shapes, config):
  """Draw every tensor, in order of its name, from NumPy's frozen stream: multiples of 1/1024 in [-1, 1].

  Tensors of more than one axis are scaled by the power of two next to 1 / sqrt(fan in).
  """
  stream, state = np.random.RandomState(0), {}
  taps = np.float64(config.get("resample_filter", [1, 1]))
  for name in sorted(shapes):
    if name.endswith("resample_filter"):
      state[name] = (np.outer(taps, taps) / taps.sum() ** 2)[None, None]
    elif name == "u":
      state[name] = edm_formulas.iddpm_sigmas(config["C_1"], config["C_2"], config["M"])
    else:
      state[name] = stream.randint(-1024, 1025, shapes[name]) / 1024
      if state[name].ndim > 1:
        state[name] *= 2.0 ** np.ceil(-np.log2(np.prod(shapes[name][1:])) / 2)
  return state


@functools.cache
def variant(case):
  config = json.loads(str(VARIANTS[f"{case}/config"]))
  state = weights(json.loads(str(VARIANTS[f"{case}/shapes"])), config)
  return edm.from_state_dict(state, config), state, config


def channels_last(images):
  return images.transpose(0, 2, 3, 1)


@pytest.mark.parametrize("family", FAMILIES)
def test_denoiser_equals_the_reference_at_every_noise_level(family):
  state, config, arrays = reference(family)
  network, params = edm.from_state_dict(state, config)
  got = jax.jit(network.apply)({"params": params}, channels_last(arrays["x"]), arrays["sigma"])
  assert np.unique(arrays["sigma"]).size == 10 and networks.card(network)["name"] == family
  for d, d_reference in zip(got, channels_last(arrays["denoised"]), strict=True):
    # Both sides round in float32, a chain of some forty layers: ten units in the last place, 2e-6 seen.
    assert np.abs(d - d_reference).max() < 5e-6 * np.abs(d_reference).max()


@pytest.mark.parametrize(("family", "name", "num_steps"), [("ncsnpp", "euler10", 10), ("adm", "heun18", 18)])
def test_samples_equal_the_reference(family, name, num_steps):
  state, config, arrays = reference(family)
  network, params = edm.from_state_dict(state, config)
  solver = functools.partial(sampling.sample, solver=name.rstrip("018"))
  run = jax.jit(jax.vmap(lambda d, z, s: solver(d, z, s).x[-1], in_axes=(None, 0, None)))
  denoise = Partial(networks.denoise, networks.Trained(params, network))
  sigma = edm_formulas.sigma_grid(num_steps).astype(np.float32)
  want = channels_last(arrays[name])
  got = run(denoise, channels_last(arrays["latents"]), sigma)
  # The reference steps in float64 between denoisers in float32; 6e-7 seen.
  assert np.abs(got - want).max() < 1e-5 * np.abs(want).max()


@pytest.mark.parametrize("case", CASES)
def test_every_option_equals_the_reference(case):
  (network, params), _, _ = variant(case)
  x, want = (channels_last(VARIANTS[f"{case}/{name}"]) for name in ("x", "denoised"))
  inputs = [x, VARIANTS[f"{case}/sigma"]]
  for name in (f"{case}/class_labels", f"{case}/augment_labels"):
    inputs.append(VARIANTS[name] if name in VARIANTS else None)

  def run(dtype):
    cast = [None if value is None else value.astype(dtype) for value in inputs]
    # Unoptimised: half the time to compile.
    apply = jax.jit(network.apply, compiler_options={"xla_backend_optimization_level": 0})
    return np.asarray(apply({"params": params}, *cast))

  def worst(error, scale):
    return max(np.abs(e).max() / np.abs(s).max() for e, s in zip(error, scale, strict=True))

  single = run(np.float32)
  with jax.enable_x64(True):
    double = run(np.float64)
  assert single.dtype == np.float32 and double.dtype == np.float64
  # Of what the network adds to the image, whose scale is sigma: 2e-14 seen. Rescaling any one tensor by
  # 1.25 moves it by 2e-6 or more.
  assert worst(double - want, want - x) < 1e-12
  assert worst(single - want, want) < 3e-6  # 5e-7 seen


@pytest.mark.parametrize("family", FAMILIES)
def test_names_map_one_to_one(family):
  state, config, _ = reference(family)
  back = edm.to_state_dict(*edm.from_state_dict(state, config))
  assert back.keys() == state.keys()
  for name, value in state.items():
    np.testing.assert_array_equal(back[name], value, err_msg=name)


@pytest.mark.parametrize("case", CASES)
def test_names_map_one_to_one_with_every_option(case):
  (network, params), state, _ = variant(case)
  back = edm.to_state_dict(network, params)
  assert back.keys() == state.keys()
  for name, value in state.items():
    np.testing.assert_array_equal(back[name], np.float32(value), err_msg=name)
    assert back[name].dtype == np.float32


@pytest.mark.parametrize(
  ("reference", "ours"),
  [
    ("model.map_layer0.weight", ("map_layer0", "kernel")),
    ("model.enc.16x16_conv.bias", ("enc_16x16_conv", "bias")),
    ("model.enc.8x8_block0.norm2.weight", ("enc_8x8_block0", "norm2", "scale")),
    ("model.dec.16x16_block0.conv0.weight", ("dec_16x16_block0", "conv0", "kernel")),
  ],
)
def test_layouts_are_turned_round(reference, ours):
  _, params = edm.from_state_dict(STATE, CONFIG)
  leaf = params["model"]
  for part in ours:
    leaf = leaf[part]
  want = STATE[reference]
  np.testing.assert_array_equal(leaf, np.moveaxis(want, (0, 1), (-1, -2)) if want.ndim > 1 else want)
  assert leaf.dtype == np.float32


def test_options_left_out_have_the_defaults_of_the_reference():
  song = dict(
    label_dim=0,
    augment_dim=0,
    model_channels=128,
    channel_mult=[1, 2, 2, 2],
    channel_mult_emb=4,
    num_blocks=4,
    attn_resolutions=[16],
    dropout=0.1,
    label_dropout=0.0,
    embedding_type="positional",
    channel_mult_noise=1,
    encoder_type="standard",
    decoder_type="standard",
    resample_filter=[1, 1],
  )
  adm = dict(
    label_dim=0,
    augment_dim=0,
    model_channels=192,
    channel_mult=[1, 2, 3, 4],
    channel_mult_emb=4,
    num_blocks=3,
    attn_resolutions=[32, 16, 8],
    dropout=0.1,
    label_dropout=0.0,
  )
  image = dict(img_resolution=16, img_channels=3)
  for class_name, want in {
    None: adm | dict(name="adm", preconditioning="edm", sigma_data=0.5, out_channels=0),
    "VPPrecond": song | dict(name="ddpmpp", preconditioning="vp", beta_d=19.9, beta_min=0.1, M=1000),
    "VEPrecond": song | dict(name="ddpmpp", preconditioning="ve", out_channels=0),
    "training.networks.iDDPMPrecond": adm
    | dict(name="adm", preconditioning="iddpm", C_1=0.001, C_2=0.008, M=1000, out_channels=6),
  }.items():
    config = image if class_name is None else image | {"class_name": class_name}
    # Options that change nothing about the function are those of samplers, losses and precision.
    got = networks.card(
      edm._network(config | dict(use_fp16=True, sigma_min=0.02, sigma_max=100, epsilon_t=1e-5))
    )
    assert {option: got[option] for option in want} == want


def changed(name, value):
  return STATE | {name: value}


@pytest.mark.parametrize(
  ("state", "named"),
  [
    ({k: v for k, v in STATE.items() if k != "model.map_layer1.bias"}, "`model.map_layer1.bias` is missing"),
    (changed("model.map_label.weight", np.zeros((16, 3))), "`model.map_label.weight` has no place"),
    (
      changed("model.dec.8x8_up.conv1.weight", np.zeros((32, 32, 3))),
      r"`model.dec.8x8_up.conv1.weight`.*want",
    ),
    (changed("model.map_layer0.weight", np.zeros((16, 64))), r"`model.map_layer0.weight`.*\(64, 16\)"),
    (changed("model.map_layer0.bias", np.full(64, np.inf, np.float16)), "`model.map_layer0.bias`.*finite"),
    (changed("model.enc.8x8_down.skip.resample_filter", np.ones((1, 1, 4, 4))), "`.*resample_filter`.*0.25"),
    (changed("model.enc.8x8_down.skip.resample_filter", np.ones((1, 1, 2, 2))), "`.*resample_filter`.*0.25"),
  ],
)
def test_wrong_tensors_are_named(state, named):
  with pytest.raises(ValueError, match=named):
    edm.from_state_dict(state, CONFIG)


def test_noise_levels_of_another_schedule_are_named():
  _, state, config = variant("iddpm_adm")
  with pytest.raises(ValueError, match="`u`"):
    edm.from_state_dict(state, config | {"C_2": 0.008})
  with pytest.raises(ValueError, match="`u` is missing"):
    edm.from_state_dict({name: value for name, value in state.items() if name != "u"}, config)


@pytest.mark.parametrize(
  ("config", "named"),
  [
    (CONFIG | {"encoder_type": "residual"}, "`model.enc.*_aux_residual.*` is missing"),
    (CONFIG | {"encoder_type": "dense"}, "`encoder_type`.*residual"),
    (CONFIG | {"resample_filter": [1, 3, 3, 1]}, "resample_filter` is not"),
    (CONFIG | {"resample_filter": [1, 2, 1]}, "`resample_filter`.*even"),
    ({k: v for k, v in CONFIG.items() if k != "model_type"}, "`embedding_type`.*adm"),
    (CONFIG | {"model_type": "UNet"}, "`model_type`.*SongUNet"),
    (CONFIG | {"class_name": "Precond"}, "`class_name`.*EDMPrecond"),
    (CONFIG | {"depth": 3}, "`depth`.*num_blocks"),
    (CONFIG | {"out_channels": 6}, "`out_channels`.*class_name"),
    (CONFIG | {"num_blocks": "1"}, "`num_blocks`.*whole"),
    (CONFIG | {"class_name": "VPPrecond", "sigma_data": 0.5}, "`sigma_data`.*beta_d"),
  ],
)
def test_wrong_options_are_named(config, named):
  with pytest.raises(ValueError, match=named):
    edm.from_state_dict(STATE, config)


TINY = dict(img_resolution=8, img_channels=1, model_channels=8, channel_mult=(1,), num_blocks=1)


@pytest.mark.parametrize(
  ("network", "named"),
  [
    (networks.create("dit", img_resolution=8, img_channels=1), "`dit`.*ddpmpp"),
    (networks.create("ddpmpp", preconditioning="none", **TINY), "`preconditioning`.*iddpm"),
    (networks.create("ddpmpp", preconditioning="iddpm", **TINY), "`out_channels`.*2"),
    (networks.create("adm", out_channels=2, **TINY), "`out_channels`.*1"),
  ],
)
def test_networks_that_the_reference_lacks_are_named(network, named):
  with pytest.raises(ValueError, match=named):
    edm.to_state_dict(network, {})
