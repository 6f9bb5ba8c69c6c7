"""What the README shows works as it stands: its commands, its example, its map."""

import importlib.util
import json
import pathlib
import re
import runpy
import shlex

import jax
import numpy as np
import pytest

from gauss_diffusion import networks, results
from gauss_diffusion.readings import headline
from gauss_diffusion.training import checkpoint

REPOSITORY = pathlib.Path(__file__).parents[1]
README = (REPOSITORY / "README.md").read_text()
CONTRIBUTING = (REPOSITORY / "CONTRIBUTING.md").read_text()


def blocks(text, language):
  return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def commands():
  """Return every command of the package that README and CONTRIBUTING show, as its words."""
  found = []
  for block in [block for text in (README, CONTRIBUTING) for block in blocks(text, "bash")]:
    for line in block.replace("\\\n", " ").split("\n"):
      for command in line.split("&&"):
        words = shlex.split(command, comments=True)
        if "-m" in words and words[words.index("-m") + 1].startswith("gauss_diffusion"):
          found.append(words[words.index("-m") + 1 :])
  return found


def test_it_is_read_in_one_sitting():
  assert len(README.splitlines()) < 150


def test_the_main_job_prints_what_it_shows():
  rows = json.loads((REPOSITORY / "results" / "digits" / "headline.json").read_text())
  assert headline.table(rows) in README


def test_words_are_explained_before_they_are_used():
  for word, explained in (("GL score", "*GL score* is"), ("D_G", "*Gaussian* denoiser, D_G")):
    assert README.index(word) == README.index(explained) + explained.index(word)
  assert README.index("multi-delta one knows") < README.index("*multi-delta*")


@pytest.mark.parametrize("command", commands(), ids=" ".join)
def test_commands_name_modules_configs_and_fields_that_exist(command):
  module, *words = command
  assert importlib.util.find_spec(module)
  flags = dict(word[2:].split("=", 1) for word in words if word.startswith("--") and "=" in word)
  if "config" in flags:
    file, _, variant = flags.pop("config").partition(":")
    config = runpy.run_path(str(REPOSITORY / file))["get_config"](variant)
    for field in [name for name in flags if name.startswith("config.")]:
      value = config
      for part in field.split(".")[1:]:
        value = value[part]


def test_the_map_names_every_room_and_no_other():
  (drawn,) = [block for block in blocks(README, "text") if "gauss_diffusion/" in block]
  inside, outside = set(), set()
  for line in drawn.splitlines():
    names = {name.rstrip("/") for name in re.split(r"\s{3,}|(?<=/)  ", line.strip())[0].split()}
    (inside if line.startswith("  ") else outside).update(names)
  inside |= {"command_line", "hosts", "interrupts"}  # named in passing
  rooms = {path.stem for path in (REPOSITORY / "gauss_diffusion").glob("[!_.]*") if path.suffix != ".html"}
  assert inside == rooms
  assert all(name in drawn for name in ("command_line", "hosts", "interrupts"))
  for name in outside:
    assert (REPOSITORY / name).is_dir(), name


def test_the_notebook_example_runs(tmp_path, monkeypatch):
  workdir = tmp_path / "runs" / "digits"
  levels, rmse = [0.5, 0.1], np.random.default_rng(0).uniform(size=(2, 1, 2, 5))
  found = results.labelled(
    {"rmse": (("law", "pair", "sigma", "image"), rmse)},
    {
      "law": ["train", "held-out"],
      "sigma": levels,
      "one": ("pair", ["network"]),
      "two": ("pair", ["gaussian"]),
    },
  )
  results.save(workdir / "results" / "score_gap" / "n16", found, {})
  options = {"name": "ddpmpp", "img_resolution": 8, "img_channels": 1, "model_channels": 8}
  network = networks.create(**options, channel_mult=[1], num_blocks=1, attn_resolutions=[])
  params = jax.device_get(networks.init(network, jax.random.key(0)))
  checkpoint.save_ema(workdir / "models" / "n1437", params, {"network": networks.card(network)})
  monkeypatch.chdir(tmp_path)
  (code,) = blocks(README, "python")
  *_, last = lines = code.strip().splitlines()
  names = {}
  exec("\n".join([*lines[:-1], f"ends = {last}"]), names)
  assert names["ends"].shape == (16, 8, 8, 1) and np.isfinite(names["ends"]).all()
  np.testing.assert_allclose(
    names["found"]["score_gap"]["n16"].rmse.sel(law="held-out", one="network", two="gaussian"), rmse[1, 0]
  )
