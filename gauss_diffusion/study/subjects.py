"""The models of a study, whatever their source: the one place that knows where a denoiser came from."""

import hashlib
import json
import pathlib
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.tree_util import Partial
from ml_collections import ConfigDict

from gauss_diffusion import data, networks
from gauss_diffusion.denoisers import FAMILIES, external, family
from gauss_diffusion.study import asked, check, schema
from gauss_diffusion.training import checkpoint
from gauss_diffusion.types import Denoiser


class Model(NamedTuple):
  """One model of a study: its entry in the config, its images, and its place on disk."""

  label: str
  entry: ConfigDict  # of the study's `models`
  subset: data.Subset
  source: str  # see `schema.source`
  folder: pathlib.Path  # of a network, with `checkpoints/` in it
  card: dict[str, Any]  # of a network, to rebuild it; else empty


class Opened(NamedTuple):
  """A model's denoiser, and what a result remembers of it."""

  denoise: Denoiser
  digest: str  # of parameters, or of source and outputs, or of a family's name and options
  derivatives: bool
  about: dict[str, Any]  # what a report says of it


def models(config: ConfigDict, dataset: data.Dataset, workdir: pathlib.Path) -> list[Model]:
  """Return the study's models in the order of the report, with the images that each is held against."""
  made = []
  for label in asked.in_order(config.models):
    entry = config.models[label]
    source = schema.source(entry)
    folder = pathlib.Path(entry.checkpoint) if source == "checkpoint" else workdir / "models" / label
    has_network = source in ("training", "checkpoint")
    card = check.network_card(config, entry, dataset.pool.shape[1:]) if has_network else {}
    subset = data.subset(dataset, entry.size, entry.part)
    made.append(Model(label, entry, subset, source, folder, card))
  return made


def functions(found: list[Model]) -> dict[str, tuple[Denoiser, str]]:
  """Load and try every function among the models, so that a wrong one is refused before any compute.

  Returns:
    label -> the denoiser and its digest.

  Raises:
    ValueError: as `denoisers.external.examined`, naming the model.
  """
  loaded = {}
  for model in found:
    if model.source == "function":
      try:
        shape = model.subset.images.shape[1:]
        loaded[model.label] = external.examined(model.entry.function, shape, of_jax=model.entry.jax)
      except ValueError as error:
        raise ValueError(f"`models.{model.label}`: {error}") from error
  return loaded


def opened(
  model: Model,
  options: dict[str, dict[str, Any]],
  loaded: dict[str, tuple[Denoiser, str]],
  fits: pathlib.Path,
) -> Opened:
  """Return a model's denoiser, ready to be examined.

  Args:
    model: a trained one must have its checkpoint.
    options: of all families of ideal denoisers, the study's section `denoisers`.
    loaded: from `functions`.
    fits: where fitted records are kept.
  """
  if model.source == "function":
    denoise, digest = loaded[model.label]
    kind = "function of JAX" if model.entry.jax else "function of NumPy arrays"
    return Opened(denoise, digest, model.entry.jax, {"kind": kind, "name": model.entry.function})
  if model.source == "denoiser":
    name = model.entry.denoiser
    images, fingerprint = model.subset.images, model.subset.fingerprint
    record = family.fitted(name, FAMILIES[name], images, fingerprint, options[name], fits)
    digest = hashlib.sha256(json.dumps([name, options[name]]).encode()).hexdigest()
    return Opened(
      Partial(FAMILIES[name].denoise, record), digest, True, {"kind": "ideal denoiser", "name": name}
    )
  network, params = checkpoint.load_ema(model.folder)
  denoise = Partial(networks.denoise, networks.Trained(params=params, network=network))
  leaves = jax.tree.leaves(params)
  about = {
    "kind": "trained here" if model.source == "training" else "network from a checkpoint",
    "name": model.card["network"]["name"],
    "parameters": sum(leaf.size for leaf in leaves),
    "network": model.card["network"],
  }
  return Opened(denoise, _digest(model.card["network"], params), True, about)


def _digest(card: dict[str, Any], params: Any) -> str:
  found = hashlib.sha256(json.dumps(card, sort_keys=True).encode())
  for path, leaf in jax.tree_util.tree_leaves_with_path(params):
    found.update(f"{jax.tree_util.keystr(path)} {leaf.dtype} {leaf.shape}".encode())
    # An array is a buffer, which NumPy tells type checkers from Python 3.12 on.
    found.update(np.ascontiguousarray(leaf))  # type: ignore[arg-type]
  return found.hexdigest()
