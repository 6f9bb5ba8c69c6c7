import json
import pathlib

import jax
import numpy as np
import pytest

from gauss_diffusion.importers import edm

# Parameters, inputs at ten noise levels and outputs of the reference implementation, float32.
REFERENCE = np.load(pathlib.Path(__file__).parent / "data" / "edm_ddpmpp.npz")
STATE = {name.removeprefix("param/"): REFERENCE[name] for name in REFERENCE if name.startswith("param/")}
CONFIG = json.loads(str(REFERENCE["config"]))


def test_denoiser_equals_the_reference_at_every_noise_level():
  network, params = edm.from_state_dict(STATE, CONFIG)
  x, want = (REFERENCE[name].transpose(0, 2, 3, 1) for name in ("x", "denoised"))
  got = jax.jit(network.apply)({"params": params}, x, REFERENCE["sigma"])
  assert np.unique(REFERENCE["sigma"]).size == 10
  for d, d_reference in zip(got, want, strict=True):
    # Both sides round in float32, a chain of some forty layers: ten units in the last place, 1e-6 seen.
    assert np.abs(d - d_reference).max() < 5e-6 * np.abs(d_reference).max()


def test_names_map_one_to_one():
  network, params = edm.from_state_dict(STATE, CONFIG)
  back = edm.to_state_dict(network, params)
  assert back.keys() == STATE.keys()
  for name, value in STATE.items():
    np.testing.assert_array_equal(back[name], value, err_msg=name)


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
    (changed("model.enc.8x8_down.skip.resample_filter", np.ones((1, 1, 4, 4))), "`.*resample_filter`.*box"),
  ],
)
def test_wrong_tensors_are_named(state, named):
  with pytest.raises(ValueError, match=named):
    edm.from_state_dict(state, CONFIG)


@pytest.mark.parametrize(
  ("config", "named"),
  [
    (CONFIG | {"encoder_type": "residual"}, "`encoder_type`.*standard"),
    (CONFIG | {"resample_filter": [1, 3, 3, 1]}, "`resample_filter`"),
    ({k: v for k, v in CONFIG.items() if k != "model_type"}, "`model_type`.*SongUNet"),
    (CONFIG | {"depth": 3}, "`depth`.*num_blocks"),
    (CONFIG | {"num_blocks": "1"}, "`num_blocks`.*whole"),
  ],
)
def test_wrong_options_are_named(config, named):
  with pytest.raises(ValueError, match=named):
    edm.from_state_dict(STATE, config)
