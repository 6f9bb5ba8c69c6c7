"""A plain state dict is the network that it was taken from; what it does not say is asked for."""

import json
import pathlib

import forge
import jax
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from test_importers import CASES, VARIANTS, weights

from gauss_diffusion import edm as edm_formulas
from gauss_diffusion import importers, networks
from gauss_diffusion.importers import edm, pickles, tensors

REFERENCE = np.load(pathlib.Path(__file__).parent / "data" / "edm_ddpmpp.npz")
STATE = {name.removeprefix("param/"): REFERENCE[name] for name in REFERENCE if name.startswith("param/")}
WANTED = edm.from_state_dict(STATE, json.loads(str(REFERENCE["config"])))
EDM = importers.Told("edm", 0.5)


# What tensors cannot say, and what they say themselves: narrow layers of ADM's have no attention anyway.
UNSAID = ("dropout", "label_dropout", "attn_resolutions")


def said(network):
  return {option: value for option, value in networks.card(network).items() if option not in UNSAID}


def assert_wanted(found):
  network, params = found
  assert said(network) == said(WANTED[0])
  jax.tree.map(np.testing.assert_array_equal, params, WANTED[1])


def saved(path, state, save=forge.archive, around=lambda state: state):
  """Write a state dict as torch.save does, in either of its formats."""
  storages = {str(i): np.ascontiguousarray(value) for i, value in enumerate(state.values())}
  named = forge.StateDict(
    (name, forge.tensor(forge.reference(storages[str(i)], str(i)), np.shape(value)))
    for i, (name, value) in enumerate(state.items())
  )
  save(path, around(named), storages)
  return path


@pytest.mark.parametrize("save", [forge.archive, forge.older])
def test_a_state_dict_of_torch_becomes_its_network(tmp_path, save):
  assert_wanted(importers.load(saved(tmp_path / "network.pt", STATE, save), EDM))


@pytest.mark.parametrize("name", ["network.safetensors", "network.bin"])
def test_safetensors_become_their_network(tmp_path, name):
  safetensors.numpy.save_file(STATE, tmp_path / name)
  assert_wanted(importers.load(tmp_path / name, EDM))


@pytest.mark.parametrize(
  ("around", "prefix"),
  [
    (lambda state: {"step": 3, "ema": state}, ""),
    (lambda state: {"net": forge.StateDict(), "state_dict": state, "optimizer": {"lr": 0.1}}, "module."),
  ],
)
def test_what_training_puts_around_is_taken_off(tmp_path, around, prefix):
  state = {prefix + name: value for name, value in STATE.items()}
  assert_wanted(importers.load(saved(tmp_path / "state.pth", state, around=around), EDM))


def test_a_raw_network_will_do(tmp_path):
  raw = {name.removeprefix("model."): value for name, value in STATE.items()}
  assert_wanted(importers.load(saved(tmp_path / "raw.pt", raw), EDM))


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_half_precision_is_widened(tmp_path, dtype):
  half = {name: value.astype(dtype) for name, value in STATE.items()}
  storage = forge.reference(half["model.map_layer0.bias"])
  forge.archive(
    tmp_path / "half.pt", {"x": forge.tensor(storage, (64,))}, {"0": half["model.map_layer0.bias"]}
  )
  found = pickles.arrays(tmp_path / "half.pt", pickles.read(tmp_path / "half.pt"))
  np.testing.assert_array_equal(found["x"], half["model.map_layer0.bias"])
  entries = {name: np.asarray(value) for name, value in half.items()}
  (tmp_path / "half.safetensors").write_bytes(serialised(entries))
  for name, value in tensors.read_safetensors(tmp_path / "half.safetensors").items():
    assert value.dtype == dtype
    np.testing.assert_array_equal(value, half[name])


def serialised(state):
  """Write safetensors by hand: a length, a header, and the numbers."""
  header, data = {}, b""
  names = {"<f4": "F32", "<f2": "F16", "<V2": "BF16", "|V2": "BF16", "<i4": "I32"}
  for name, value in state.items():
    kind = names[value.dtype.str]
    header[name] = {
      "dtype": kind,
      "shape": value.shape,
      "data_offsets": [len(data), len(data) + value.nbytes],
    }
    data += value.tobytes()
  said = json.dumps(header).encode()
  return len(said).to_bytes(8, "little") + said + data


@pytest.mark.parametrize("case", CASES)
def test_every_option_is_inferred(case):
  config = json.loads(str(VARIANTS[f"{case}/config"]))
  state = weights(json.loads(str(VARIANTS[f"{case}/shapes"])), config)
  # Of constants only EDM's has an option; others are the reference's own, and improved DDPM's M its levels'.
  own = {
    option: value for option, value in config.items() if option not in ("C_1", "C_2", "beta_d", "beta_min")
  }
  if "u" in state:
    state["u"] = edm_formulas.iddpm_sigmas(M=config["M"])
  else:
    own.pop("M", None)
  wanted, params = edm.from_state_dict(state, own)
  told = {"preconditioning": wanted.preconditioning}
  if wanted.preconditioning == "edm":
    told["sigma_data"] = config.get("sigma_data", 0.5)
  network, found = edm.from_names(state, **told)
  assert said(network) == said(wanted)
  jax.tree.map(np.testing.assert_array_equal, found, params)


FIRST = "model.enc.16x16_conv.weight"


def changed(**state):
  return STATE | state


@pytest.mark.parametrize(
  ("state", "told", "named"),
  [
    (STATE, (), "plain state dict.*add --preconditioning=edm --sigma_data=0.5"),
    (STATE, ("edm",), "`sigma_data` is None.*add --sigma_data=0.5"),
    (STATE, ("vp", 0.5), "`sigma_data` is 0.5.*leave it out"),
    (STATE, ("edm2", 0.5), "`preconditioning` is 'edm2'.*vp, ve or iddpm"),
    (STATE, ("iddpm",), "`preconditioning` is 'iddpm'.*`u`"),
    (STATE | {"u": np.zeros(1001, np.float32)}, ("vp",), "`preconditioning` is 'vp'.*`u`"),
    ({k: v for k, v in STATE.items() if k != FIRST}, EDM, "`model.enc.*_conv.weight`"),
    (
      {k: v for k, v in STATE.items() if k != "model.map_layer1.bias"},
      EDM,
      "`model.map_layer1.bias` is miss",
    ),
    (
      STATE | {"model.map_layer0.weight": np.zeros((64, 17), np.float32)},
      EDM,
      "`channel_mult_noise` would be 17",
    ),
    (
      STATE | {"model.map_layer0.weight": np.zeros(64, np.float32)},
      EDM,
      "`model.map_layer0.weight` has shape",
    ),
    (STATE | {"model.enc.64x64_block0.conv0.weight": STATE[FIRST]}, EDM, "`model.enc.._block0`.*64"),
    (STATE | {"model.enc.8x8_down.skip.resample_filter": np.ones((1, 1, 4, 4), np.float32)}, EDM, "filter"),
    ({k: v * (not k.endswith("filter")) for k, v in STATE.items()}, EDM, "taps"),
    (STATE | {"model.extra": np.zeros(3, np.float32)}, EDM, "`model.extra` has no place"),
    (
      STATE | {"model.map_layer0.bias": np.full(64, np.nan, np.float32)},
      EDM,
      "`model.map_layer0.bias`.*finite",
    ),
  ],
)
@pytest.mark.filterwarnings("error")
def test_what_is_open_or_wrong_is_named(tmp_path, state, told, named):
  with pytest.raises(ValueError, match=named):
    importers.load(saved(tmp_path / "network.pt", state), importers.Told(*told))


def test_what_a_snapshot_says_must_not_be_told(tmp_path):
  forge.snapshot(tmp_path / "network.pkl", STATE, json.loads(str(REFERENCE["config"])))
  with pytest.raises(ValueError, match="`sigma_data` was given, which `.*network.pkl` says itself"):
    importers.load(tmp_path / "network.pkl", importers.Told(sigma_data=0.5))


@pytest.mark.parametrize("cut", [4, 20, 1000, -1])
def test_damaged_safetensors_are_named(tmp_path, cut):
  (tmp_path / "cut.safetensors").write_bytes(serialised(STATE)[:cut])
  with pytest.raises(ValueError, match="`.*cut.safetensors` is no safetensors file"):
    importers.load(tmp_path / "cut.safetensors", EDM)


def test_damage_to_the_older_format_is_named(tmp_path):
  whole = saved(tmp_path / "network.pt", STATE, forge.older).read_bytes()
  for data, named in (
    (whole[:-1], "has .* bytes"),
    (whole + b"x", "1 bytes that are no storage's"),
    (
      whole.replace(b"little_endian\x94\x88", b"little_endian\x94\x89", 1).replace(b"\x88", b"\x89", 1),
      "big-endian",
    ),
  ):
    (tmp_path / "damaged.pt").write_bytes(data)
    with pytest.raises(ValueError, match=named):
      importers.load(tmp_path / "damaged.pt", EDM)
