"""Who takes part in a study: each model, its replicates, and the controls that stand in for them.

A *replicate* is the same recipe once more: another seed, on other images where the pool has more. A *control*
is a denoiser of which is known beforehand what each claim has to say of it: claims are judged a second time
with the control in the place of every model, on the same images.
"""

import copy
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from gauss_diffusion.readings.claims import CLAIMS
from gauss_diffusion.study import asked, schema

STRIDE = 1000  # between the seeds of replicates: studies give the models of one replicate neighbouring ones
LINEAR, UNTRAINED, SURROGATE = "linear", "untrained", "surrogate"
# What may stand in for a model, and what it is.
CONTROLS = {
  "mean": "the training images' mean, whatever the input",
  "skip": "c_skip · x, which has learned nothing",
  "identity": "the noisy image itself",
  UNTRAINED: "the network before its first step",
  "gaussian": "the Gaussian denoiser of the model's images",
  "multi-delta": "the exact memorizer of the model's images",
  LINEAR: "the network's best affine map on held-out images",
  SURROGATE: "the same recipe, trained and looked at on draws from N(μ, Σ) instead of images",
}
TRAINED = (UNTRAINED, SURROGATE)  # controls that are networks: they depend on the recipe, not on images alone


class Member(NamedTuple):
  """One denoiser of a study."""

  label: str  # of its folder: ``n16``, ``n16.2`` for its second replicate, ``n16.2.mean`` for a control
  model: str  # its key among the config's `models`
  replicate: int  # from 0
  control: str  # one of `CONTROLS`, empty for the model itself
  entry: Any  # of the config's `models`, with the fields of this replicate or control
  stands_in: Mapping[str, str]  # of a model itself: control -> label of the member that replaces it


def members(config: Any) -> list[Member]:
  """Return everybody in the order of the report, models and their replicates before controls.

  A control of which no claim of the study has anything to say is left out.

  Args:
    config: a study, as a ConfigDict or as plain values.
  """
  models, controls, judged = [], {}, _judged(config)
  for label in asked.in_order(config["models"]):
    for replicate in range(config["replicates"]):
      name = label if not replicate else f"{label}.{replicate + 1}"
      entry = _resolved(config["models"][label])
      entry["seed"] += STRIDE * replicate
      if entry["linear"] and replicate:
        entry["linear"] += f".{replicate + 1}"
      stands_in = {}
      for control in judged:
        key = control, replicate, str(_deciding(entry, control, name))
        if key not in controls:
          controls[key] = _control(control, Member(name, label, replicate, "", entry, {}))
        stands_in[control] = controls[key].label
      models.append(Member(name, label, replicate, "", entry, stands_in))
  return models + list(controls.values())


def analyses_of(config: Any, member: Member) -> list[str]:
  """Return the analyses that look at a member; a control has those alone that a claim asks about it."""
  if not member.control:
    return list(config["analyses"])
  wanted = {
    place.partition(".")[0]
    for name in config["claims"]
    if member.control in CLAIMS[name].controls
    for place in CLAIMS[name].needs.results
  }
  if wanted and "distillation" in config["analyses"]:
    wanted.add("distillation")  # other analyses read its maps
  return [name for name in config["analyses"] if name in wanted]


def check(config: Any) -> None:
  """Refuse a number of replicates or controls that cannot be.

  Args:
    config: the study; the names in it have been checked.

  Raises:
    ValueError: naming the field and what would be right.
  """
  if not 1 <= config["replicates"] <= STRIDE:
    raise ValueError(f"`replicates` is {config['replicates']}; want 1 to {STRIDE} networks of each model")
  for label, entry in config["models"].items():
    single = next((field for field in ("checkpoint", "function") if entry[field]), None)
    if single and config["replicates"] > 1:
      raise ValueError(
        f"`replicates` is {config['replicates']}, and `models.{label}` is a {single}, of which there is one; "
        "want 1"
      )
    for control in _judged(config):
      if control in TRAINED and schema.source(entry) != "training":
        raise ValueError(
          f"`controls` has {control!r}, and `models.{label}` is no network that is trained here"
        )
      if control == SURROGATE and entry["train"]["conditional"]:
        raise ValueError(
          f"`controls` has {control!r}, and `models.{label}.train.conditional` is true; draws have no classes"
        )
  if LINEAR in _judged(config) and "distillation" not in config["analyses"]:
    raise ValueError(f"`controls` has {LINEAR!r}, which needs 'distillation' among `analyses`")


def _judged(config: Any) -> list[str]:
  """Return the study's controls of which one of its claims has something to say."""
  roles = {control for claim in config["claims"] for control in CLAIMS[claim].controls}
  return [control for control in config["controls"] if control in roles]


def _control(control: str, original: Member) -> Member:
  """Return the control that replaces a model."""
  entry = _resolved(original.entry)
  entry["title"] = f"{entry['title']}, {control}"
  if control == UNTRAINED:
    entry["train"]["steps"] = 0
  elif control == SURROGATE:
    entry["surrogate"] = True
  elif control == LINEAR:
    entry["linear"] = original.label
  else:
    entry["denoiser"] = control
    entry["checkpoint"] = entry["function"] = entry["linear"] = ""
    entry["jax"] = entry["surrogate"] = False
  return Member(f"{original.label}.{control}", original.model, original.replicate, control, entry, {})


def _deciding(entry: Any, control: str, label: str) -> Any:
  """Return what decides a control: models of which it is the same share one."""
  if control == LINEAR:
    return label
  images = entry["size"], entry["part"], entry.get("class_label", "")  # a field that older studies lack
  if control not in TRAINED:
    return images
  recipe = entry if isinstance(entry, dict) else asked.plain(entry)
  train = None if control == UNTRAINED else recipe["train"]
  return images, recipe["seed"], json.dumps([recipe["network"], train], sort_keys=True)


def _resolved(entry: Any) -> Any:
  return copy.deepcopy(entry) if isinstance(entry, dict) else entry.copy_and_resolve_references()
