"""Files of the EDM reference become networks; files of anything else become one line of error."""

import json
import os
import pathlib
import re
import subprocess
import sys

import forge
import jax
import numpy as np
import pytest
from test_importers import variant

from gauss_diffusion import importers
from gauss_diffusion.importers import edm
from gauss_diffusion.training import checkpoint

pytestmark = pytest.mark.processes
REPOSITORY = pathlib.Path(__file__).parents[1]
REFERENCE = np.load(pathlib.Path(__file__).parent / "data" / "edm_ddpmpp.npz")
STATE = {name.removeprefix("param/"): REFERENCE[name] for name in REFERENCE if name.startswith("param/")}
CONFIG = json.loads(str(REFERENCE["config"]))
WANTED = edm.from_state_dict(STATE, CONFIG)


def assert_wanted(network, params):
  assert network == WANTED[0]
  jax.tree.map(np.testing.assert_array_equal, params, WANTED[1])


@pytest.mark.parametrize("protocol", [3, 4, 5])  # defaults of Python 3.7 (EDM's time), 3.8, 3.14
def test_a_snapshot_becomes_the_network_of_its_state_dict(tmp_path, protocol):
  forge.snapshot(tmp_path / "network-snapshot.pkl", STATE, CONFIG, protocol)
  assert_wanted(*importers.load(tmp_path / "network-snapshot.pkl"))


def test_a_training_state_becomes_its_network(tmp_path):
  forge.training_state(tmp_path / "training-state.pt", STATE, CONFIG)
  assert_wanted(*importers.load(tmp_path / "training-state.pt"))


def test_half_precision_is_widened(tmp_path):
  half = {name: value.astype(np.float16) for name, value in STATE.items()}
  forge.snapshot(tmp_path / "half.pkl", half, CONFIG)
  _, params = importers.load(tmp_path / "half.pkl")
  jax.tree.map(np.testing.assert_array_equal, params, edm.from_state_dict(half, CONFIG)[1])


def test_the_class_of_the_network_is_heard(tmp_path):
  config = {option: value for option, value in CONFIG.items() if option != "sigma_data"}
  forge.snapshot(tmp_path / "vp.pkl", STATE, config, class_name="VPPrecond")
  network, _ = importers.load(tmp_path / "vp.pkl")
  assert network == edm.from_state_dict(STATE, config | {"class_name": "VPPrecond"})[0] != WANTED[0]


def test_the_source_code_of_a_network_is_not_run(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  forge.snapshot(tmp_path / "network.pkl", STATE, CONFIG, source="open('CANARY', 'w')")
  assert_wanted(*importers.load("network.pkl"))
  assert os.listdir() == ["network.pkl"]


BIAS = "model.map_layer0.bias"
WRONG = {
  "missing tensor": ({k: v for k, v in STATE.items() if k != BIAS}, CONFIG, f"`{BIAS}` is missing"),
  "unknown tensor": (STATE | {"model.extra.weight": STATE[BIAS]}, CONFIG, "`model.extra.weight` has no"),
  "wrong shape": (STATE | {BIAS: STATE[BIAS][1:]}, CONFIG, rf"`{BIAS}` has shape \(\d+,\); want"),
  "overflow": (STATE | {BIAS: np.full_like(STATE[BIAS], np.inf, np.float16)}, CONFIG, f"`{BIAS}`.*finite"),
  "not a number": (STATE | {BIAS: np.full_like(STATE[BIAS], np.nan)}, CONFIG, f"`{BIAS}`.*finite"),
  "too large": (STATE | {BIAS: np.full_like(STATE[BIAS], 1e300, np.float64)}, CONFIG, f"`{BIAS}`.*finite"),
  "unknown option": (STATE, CONFIG | {"depth": 3}, "`depth`"),
  "wrong type": (STATE, CONFIG | {"num_blocks": "one"}, "`num_blocks`"),
  "no model": (STATE, CONFIG | {"model_type": [1]}, "`model_type`"),
  "other model": (STATE, CONFIG | {"model_type": "VisionTransformer"}, "`model_type`.*SongUNet"),
  "nested option": (STATE, CONFIG | {"channel_mult": [[1], 2]}, "`channel_mult` is neither"),
  "endless blocks": (STATE, CONFIG | {"num_blocks": 5000}, "`num_blocks` is 5000; the file has no more"),
  "endless channels": (STATE, CONFIG | {"model_channels": 2**40}, "`model_channels` is 1099511627776; the"),
  "endless steps": (STATE, CONFIG | {"M": 1e18}, "`M` is 1e"),
}


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.filterwarnings("error")
def test_wrong_networks_are_named(tmp_path, name):
  state, config, named = WRONG[name]
  forge.snapshot(tmp_path / "wrong.pkl", state, config)
  with pytest.raises(ValueError, match=named):
    importers.load(tmp_path / "wrong.pkl")


@pytest.mark.parametrize(
  ("content", "named"),
  [
    ({"generator": 1}, "want `ema`, of a snapshot, or `net`"),
    ([1, 2], "holds no network"),
    ({"ema": None}, "other than a network"),
    ({"ema": {"model.map_layer0.bias": 1}}, "other than a network"),
    ({"net": forge.Call(forge.RECONSTRUCT, {"class_name": "Net", "state": 1})}, "other than a network"),
    ({"ema": forge.network({}, {}, "Other")}, "`class_name` is 'Other'"),
  ],
)
def test_other_pickles_are_named(tmp_path, content, named):
  (tmp_path / "other.pkl").write_bytes(forge.dumps(content))
  with pytest.raises(ValueError, match=named):
    importers.load(tmp_path / "other.pkl")


@pytest.mark.parametrize(
  ("change", "named"),
  [
    ({"_init_kwargs": None}, "`_init_kwargs`"),
    ({"_init_args": (8,)}, "`_init_kwargs`"),
    ({"_modules": [1]}, "`_modules` does not go from names"),
    ({"_modules": {"model": 1}}, "`model.` is no module"),
    ({"_buffers": {"x": 1}}, "`x` is no tensor"),
  ],
)
def test_odd_modules_are_named(tmp_path, change, named):
  network = forge.network(STATE, CONFIG)
  network.arguments[0]["state"].update(change)
  (tmp_path / "odd.pkl").write_bytes(forge.dumps({"ema": network}))
  with pytest.raises(ValueError, match=named):
    importers.load(tmp_path / "odd.pkl")


def test_modules_without_end_are_refused(tmp_path):
  network = forge.network(STATE, CONFIG)
  network.arguments[0]["state"]["_modules"]["again"] = network.arguments[0]["state"]["_modules"]["model"]
  (tmp_path / "twice.pkl").write_bytes(forge.dumps({"ema": network}))
  with pytest.raises(ValueError, match="used twice"):
    importers.load(tmp_path / "twice.pkl")


def start(folder, *arguments):
  command = [sys.executable, "-m", "gauss_diffusion.import_edm", *map(str, arguments)]
  environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
  return subprocess.Popen(
    command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
  )


COMMANDS = {
  "imports": (["good.pkl", "--workdir=new"], "imported ddpmpp.*16 x 16 x 3, unconditional, to new"),
  "conditional": (
    ["conditional.pkl", "--workdir=conditional"],
    "imported ddpmpp under the vp .*, class-conditional, 3 labels; augmentation labels: 4, to conditional",
  ),
  "attack": (["attack.pkl", "--workdir=no"], "error: `attack.pkl` is no pickle.*`posix.system`"),
  "missing": (["none.pkl", "--workdir=no"], "error: .*none.pkl"),
  "full": (["good.pkl", "--workdir=full"], "error: `workdir` 'full' already holds something"),
  "two files": (["good.pkl", "good.pkl", "--workdir=no"], "error: want one FILE.*not 2"),
}


@pytest.fixture(scope="module")
def commands(tmp_path_factory):
  """Start all commands at once: each spends its time importing."""
  folder = tmp_path_factory.mktemp("import")
  forge.snapshot(folder / "good.pkl", STATE, CONFIG)
  _, state, config = variant("vp_skip_skip")
  inner = {name: value for name, value in config.items() if name != "class_name"}
  forge.snapshot(folder / "conditional.pkl", state, inner, class_name=config["class_name"])
  (folder / "attack.pkl").write_bytes(b"cposix\nsystem\n(X\x0c\x00\x00\x00touch CANARYtR.")
  (folder / "full").mkdir()
  (folder / "full" / "notes.txt").write_text("mine")
  runs = {name: start(folder, *arguments) for name, (arguments, _) in COMMANDS.items()}
  return folder, {name: (*run.communicate(timeout=300), run.returncode) for name, run in runs.items()}


@pytest.mark.parametrize("name", COMMANDS)
def test_the_command_says_one_line(commands, name):
  out, err, code = commands[1][name]
  good = name in ("imports", "conditional")
  assert code == (0 if good else 2), err
  said, silent = (out, err) if good else (err, out)
  assert re.fullmatch(COMMANDS[name][1] + ".*\n", said) and not silent, (out, err)


def test_the_command_writes_the_network_and_nothing_else(commands):
  folder, _ = commands
  assert sorted(os.listdir(folder)) == [
    "attack.pkl",
    "conditional",
    "conditional.pkl",
    "full",
    "good.pkl",
    "new",
  ]
  assert os.listdir(folder / "full") == ["notes.txt"]
  assert_wanted(*checkpoint.load_ema(folder / "new"))
