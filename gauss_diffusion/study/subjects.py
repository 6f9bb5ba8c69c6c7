"""The models of a study, whatever their source: the one place that knows where a denoiser came from."""

import functools
import hashlib
import json
import pathlib
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.tree_util import Partial
from ml_collections import ConfigDict

from gauss_diffusion import data, networks, results
from gauss_diffusion.denoisers import FAMILIES, affine, external, family, guidance
from gauss_diffusion.study import check, classes, members, schema, surrogate
from gauss_diffusion.study.members import Member
from gauss_diffusion.training import checkpoint
from gauss_diffusion.types import Affine, Denoiser


class Model(NamedTuple):
  """One member of a study: its entry, its images, and its place on disk."""

  label: str
  member: Member
  entry: ConfigDict  # of the study's `models`, as this member has it
  subset: data.Subset  # that it is held against
  training: data.Subset  # that a network is trained on: of all classes, where `subset` is of one
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
  """Return the study's members in the order of the report, with the images that each is held against."""
  made = []
  subset = functools.cache(functools.partial(data.subset, dataset))  # one for a model and its controls
  for member in members.members(config):
    entry, source = member.entry, schema.source(member.entry)
    folder = pathlib.Path(entry.checkpoint) if source == "checkpoint" else workdir / "models" / member.label
    has_network = source in ("training", "checkpoint")
    shape, num_classes = dataset.pool.shape[1:], len(dataset.classes)
    card = check.network_card(config, entry, shape, num_classes) if has_network else {}
    training = subset(entry.size, entry.part, member.replicate)
    images = classes.meant(training, entry)
    made.append(Model(member.label, member, entry, images, training, source, folder, card))
  return made


def fitted(model: Model, name: str, options: dict[str, Any], folder: pathlib.Path) -> Any:
  """Return a family's record of the images that a model is held against.

  Args:
    model: whose images.
    name: of the family.
    options: all of the family's.
    folder: the study's working directory.
  """
  images, _, fingerprint, labels, label_fingerprint = model.subset
  return family.fitted(
    name,
    FAMILIES[name],
    images,
    fingerprint,
    options,
    folder / "fits",
    labels=labels,
    label_fingerprint=label_fingerprint,
  )


def training_images(model: Model, folder: pathlib.Path) -> np.ndarray:
  """Return what a model is trained on: its images, or float32 draws from the Gaussian of their moments."""
  return draws(model, folder, surrogate.DRAWS, 0) if model.entry.surrogate else model.training.images


def seen_images(model: Model, folder: pathlib.Path) -> np.ndarray:
  """Return those of what a model is trained on that it is looked at with: all, or one class's."""
  return training_images(model, folder) if model.entry.surrogate else model.subset.images


def held_out_images(model: Model, dataset: data.Dataset, folder: pathlib.Path) -> np.ndarray:
  """Return what a model is looked at with and has not seen: held-out images, or as many further draws."""
  if model.entry.surrogate:
    return draws(model, folder, len(dataset.held_out), 1)
  return classes.meant(data.apart(dataset), model.entry).images


def draws(model: Model, folder: pathlib.Path, num: int, stream: int) -> np.ndarray:
  """Return draws from N(μ, Σ) of a model's images; of each stream they are others."""
  stats = fitted(model, "gaussian", family.defaults(FAMILIES["gaussian"]), folder)
  return surrogate.draw(stats, num, 2 * model.entry.seed + stream)


def functions(found: list[Model], levels: tuple[float, float]) -> dict[str, tuple[Denoiser, str]]:
  """Load and try every function among the models, so that a wrong one is refused before any compute.

  Args:
    found: the models of a study.
    levels: its lowest and highest noise level.

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
        loaded[model.label] = external.examined(model.entry.function, shape, levels, of_jax=model.entry.jax)
      except ValueError as error:
        raise ValueError(f"`models.{model.label}`: {error}") from error
  return loaded


def opened(
  model: Model,
  options: dict[str, dict[str, Any]],
  loaded: dict[str, tuple[Denoiser, str]],
  folder: pathlib.Path,
) -> Opened:
  """Return a model's denoiser, ready to be examined.

  Args:
    model: a trained one must have its checkpoint, and one that is another's affine map that map.
    options: of all families of ideal denoisers, the study's section `denoisers`.
    loaded: from `functions`.
    folder: the study's working directory.
  """
  if model.source == "function":
    denoise, digest = loaded[model.label]
    derivatives = external.differentiable(denoise)
    kind = "function of JAX" if model.entry.jax else "function of NumPy arrays"
    kind += ", with derivatives" if derivatives and not model.entry.jax else ""
    return Opened(denoise, digest, derivatives, {"kind": kind, "name": model.entry.function})
  if model.source == "denoiser":
    name = model.entry.denoiser
    record = fitted(model, name, options[name], folder)
    digest = hashlib.sha256(json.dumps([name, options[name]]).encode()).hexdigest()
    return Opened(
      Partial(FAMILIES[name].denoise, record), digest, True, {"kind": "ideal denoiser", "name": name}
    )
  if model.source == "linear":
    found, result_card = results.load(folder / "results" / "distillation" / model.entry.linear)
    assert found is not None
    maps = found.sel(law="held-out")
    best = Affine(*(maps[field].to_numpy() for field in Affine._fields))
    about = {"kind": "best affine map", "name": f"of {model.entry.linear}"}
    return Opened(Partial(affine.denoise, best), result_card["content"], True, about)
  network, params = checkpoint.load_ema(model.folder)
  leaves, weight = jax.tree.leaves(params), model.entry.guidance

  def told(label: int | None) -> Partial:
    vector = networks.class_vector(network, label)
    return Partial(networks.denoise, networks.Trained(params=params, network=network, label=vector))

  denoise = told(classes.label(model.entry))
  if weight:
    denoise = Partial(guidance.denoise, guidance.Guided(denoise, told(None), np.float32(weight)))
  of_class = f", class {model.entry.class_label}" if model.entry.class_label else ""
  of_class += f", guidance {weight:g}" if weight else ""
  about = {
    "kind": "trained here" if model.source == "training" else "network from a checkpoint",
    "name": model.card["network"]["name"] + of_class,
    "parameters": sum(leaf.size for leaf in leaves),
    "network": model.card["network"],
  }
  return Opened(denoise, _digest(model.card["network"], params, of_class), True, about)


def _digest(card: dict[str, Any], params: Any, of_class: str) -> str:
  found = hashlib.sha256(json.dumps(card, sort_keys=True).encode() + of_class.encode())
  for path, leaf in jax.tree_util.tree_leaves_with_path(params):
    found.update(f"{jax.tree_util.keystr(path)} {leaf.dtype} {leaf.shape}".encode())
    # An array is a buffer, which NumPy tells type checkers from Python 3.12 on.
    found.update(np.ascontiguousarray(leaf))  # type: ignore[arg-type]
  return found.hexdigest()
