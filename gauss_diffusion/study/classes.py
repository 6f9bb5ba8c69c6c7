"""Class labels of a study: what models are told of classes and held against, and what images cannot give."""

import typing
from collections.abc import Sequence
from typing import Any

from ml_collections import ConfigDict

from gauss_diffusion import analyses, data
from gauss_diffusion.denoisers import FAMILIES
from gauss_diffusion.study.members import analyses_of

if typing.TYPE_CHECKING:
  from gauss_diffusion.study.subjects import Model

MOST_GUIDANCE = 100.0  # the greatest weight
# What a `class_label` may be besides a class.
NO_CLASS = "none"  # a conditional network is told zeros, and held against all images
ALL = "all"  # one model for each class


def label(entry: Any) -> int | None:
  """Return the class of a model's `class_label`, None where it has none."""
  return int(entry.class_label) if entry.class_label.isdecimal() else None


def resolve(config: ConfigDict, names: Sequence[str]) -> None:
  """Write classes that models are asked about by name as labels, and a model of all classes as one of each.

  Of the model ``digits`` that of class 3 is ``digits-3``, and all of them are the group ``digits``.

  Args:
    config: the study, changed in place.
    names: of the classes, by label; where there are none, ``all`` stays, which `check_label` refuses.
  """
  for where, model in list(config.models.items()):
    if model.class_label in names:
      model.class_label = str(names.index(model.class_label))
    elif model.class_label == ALL and names:
      with config.unlocked():
        del config.models[where]
        for label, name in enumerate(names):
          one = config.models[f"{where}-{label}"] = model.copy_and_resolve_references()
          title, group = f"{model.title}, {name}", model.group or where
          one.update({"class_label": str(label), "title": title, "group": group})


def meant(images: data.Subset, entry: Any) -> data.Subset:
  """Return those of the images that a model is held against: of its class, where it has one."""
  wanted = label(entry)
  return images if wanted is None else data.of_class(images, wanted)


def fewest_held_out(config: ConfigDict, dataset: data.Dataset) -> int:
  """Return the smallest number of held-out images that a model of the study is held against."""
  every = data.apart(dataset)
  kept = [every, *(meant(every, model) for model in config.models.values() if dataset.classes)]
  return min(len(held_out.images) for held_out in kept)


def check_training(where: str, model: ConfigDict, name: str, num_classes: int) -> None:
  """Refuse a training on classes where there are none, and a dropout of labels that nobody gives.

  Args:
    where: the model's field.
    model: its entry, trained here.
    name: of the data.
    num_classes: of the images, 0 where they have no labels.
  """
  train = model.train
  if not 0 <= train.label_dropout < 1:
    raise ValueError(f"`{where}.train.label_dropout` is {train.label_dropout}; want a rate from 0 to below 1")
  if train.label_dropout and not train.conditional:
    raise ValueError(
      f"`{where}.train.label_dropout` is {train.label_dropout}, of labels that are not given; set "
      "`train.conditional`, or leave it 0"
    )
  if model.guidance and not train.label_dropout:
    raise ValueError(
      f"`{where}.guidance` is {model.guidance:g}, away from what the network says of no class, which it "
      "learns with `train.label_dropout` > 0 alone"
    )
  if train.conditional and not num_classes:
    raise ValueError(f"`{where}.train.conditional` is true, which needs labels, and {name!r} has none")
  if train.conditional and model.surrogate:
    raise ValueError(f"`{where}` has both `surrogate` and `train.conditional`; draws have no classes")


def check_label(where: str, model: ConfigDict, network: dict[str, Any], num_classes: int) -> None:
  """Refuse a class that the network or the images do not know, and a conditional network without any.

  Args:
    where: the model's field.
    model: its entry.
    network: the card of the model's network, empty where it has none.
    num_classes: of the images, 0 where they have no labels.
  """
  chosen, known = model.class_label, network.get("label_dim", 0)
  if chosen and chosen not in (NO_CLASS, ALL) and not (chosen.isdecimal() and chosen.isascii()):
    raise ValueError(
      f"`{where}.class_label` is {chosen!r}; want a label, such as '0', a class's name, {ALL!r} or "
      f"{NO_CLASS!r}"
    )
  if known and not chosen:
    raise ValueError(
      f"`{where}` is a network conditional on {known} classes; set `{where}.class_label` to one, '0' to "
      f"'{known - 1}', to {ALL!r} or to {NO_CLASS!r}"
    )
  if chosen and network and not known:
    raise ValueError(f"`{where}.class_label` is {chosen!r}, and its network is unconditional; leave it empty")
  wanted = label(model)
  if not 0 <= model.guidance <= MOST_GUIDANCE:
    raise ValueError(f"`{where}.guidance` is {model.guidance}; want a weight from 0 to {MOST_GUIDANCE:g}")
  if model.guidance and (wanted is None or not network):
    raise ValueError(
      f"`{where}.guidance` is {model.guidance:g}, which leads a class-conditional network to a class; set "
      f"`{where}.class_label` to one"
    )
  # Of no class EDM's networks are told zeros; UNet2DModel raises an error, unless it learned of them here.
  refuses = network.get("name") == "diffusers" and not network.get("label_dropout")
  if refuses and (chosen == NO_CLASS or model.guidance):
    raise ValueError(
      f"`{where}` asks a UNet2DModel of diffusers about no class, by `class_label` 'none' or by `guidance`, "
      f"and it knows none; set `{where}.class_label` to one, '0' to '{known - 1}', or to {ALL!r}, and "
      "`guidance` to 0"
    )
  if wanted is None and chosen != ALL:
    return
  if not num_classes:
    raise ValueError(
      f"`{where}.class_label` is {chosen!r}, and the images have no labels by which to hold it against them"
    )
  most = min(known or num_classes, num_classes)
  if wanted is not None and wanted >= most:
    raise ValueError(f"`{where}.class_label` is {chosen!r}; want a label from '0' to '{most - 1}'")


def check(config: ConfigDict, models: "list[Model]") -> None:
  """Refuse what a model's images cannot give: those of its class, labels to fit, memorization to be watched.

  Args:
    config: the study, checked.
    models: of the study.

  Raises:
    ValueError: naming the field that asks for the class, the denoiser or the alarm.
  """
  for model in models:
    every, images = model.entry.train.alarm_every, model.training.images
    if every and model.source == "training" and data.duplicates.one_alone(images):
      raise ValueError(
        f"`models.{model.label}.train.alarm_every` is {every}, and its training images are {len(images)} "
        "times one, of which all samples are copies; want two different ones, or 0"
      )
    if not len(model.subset.images):
      raise ValueError(
        f"`models.{model.label}.class_label` is {model.entry.class_label!r}, a class of which none of its "
        f"{len(model.training.images)} images is; want a larger `size`, or another class"
      )
    asking = {f"models.{model.label}.denoiser": [model.entry.denoiser]}
    asking |= {name: analyses.ANALYSES[name].uses(config[name]) for name in analyses_of(config, model.member)}
    for field, names in asking.items():
      for name in names:
        if name in FAMILIES and FAMILIES[name].labelled:
          _check_family(f"`{field}` asks for {name!r}", name, config, model)


def _check_family(what: str, name: str, config: ConfigDict, model: "Model") -> None:
  labels = model.subset.labels
  if labels is None:
    raise ValueError(f"{what}, which needs labels, and {config.data.name!r} has none")
  options = config.denoisers[name]
  if "label" in options and options.label not in labels:
    raise ValueError(
      f"{what}, and `denoisers.{name}.label` is {options.label}, a class of which none of the {len(labels)} "
      f"images of `models.{model.label}` is; want one of {', '.join(map(str, sorted(set(labels.tolist()))))}"
    )
