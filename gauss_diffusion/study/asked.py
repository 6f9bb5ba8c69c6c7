"""What a study asks for, as plain values: all that a report, which has no images, knows of the config."""

import json
import pathlib
import re
from collections.abc import Iterable
from typing import Any

from ml_collections import ConfigDict

from gauss_diffusion import results

FILE = "config.json"  # of a working directory: the study that its report is of, and the `command` that ran it
_FIELDS = {
  "command",
  "models",
  "replicates",
  "controls",
  "analyses",
  "claims",
}  # that a report cannot do without


def plain(config: ConfigDict) -> dict[str, Any]:
  """Return a config as the plain values that JSON knows."""
  return json.loads(config.to_json())


def read(folder: pathlib.Path) -> dict[str, Any]:
  """Return the study that a working directory is of.

  Raises:
    ValueError: when the folder holds none, or its file is damaged.
  """
  path, remedy = folder / FILE, "run the study again, which writes it anew"
  if not path.exists():
    raise ValueError(f"`{folder}` holds no study: there is no `{path}`; want the working directory of one")
  config = results.read_json(path, remedy)
  if not isinstance(config, dict) or not _FIELDS <= set(config):
    raise ValueError(f"`{path}` is no config of a study; {remedy}")
  return config


def in_order(labels: Iterable[str]) -> list[str]:
  """Return models' labels in the order of the report: by name, numbers in them by value."""

  def natural(label):
    return [(part.isdigit(), int(part) if part.isdigit() else part) for part in re.split(r"(\d+)", label)]

  return sorted(labels, key=natural)


def inputs(config: dict[str, Any], analysis: str) -> dict[str, Any]:
  """Return those inputs of an analysis that the config decides, the same for all models."""
  return {
    "analysis": analysis,
    "settings": config[analysis],
    "sampler": config["sampler"],
    "seed": config["seed"],
  }


def answers(card: dict[str, Any], config: dict[str, Any], analysis: str, label: str) -> bool:
  """Tell whether a result is of this model, and of the settings that the config asks for.

  Args:
    card: of the result.
    config: from `plain` or `read`.
    analysis: that wants it.
    label: of the model.
  """
  found, want = card.get("inputs", {}), inputs(config, analysis)
  options = {name: config["denoisers"].get(name) for name in found.get("denoisers", {})}
  same = all(found.get(name) == value for name, value in want.items())
  return same and found["denoisers"] == options and card["model"]["label"] == label
