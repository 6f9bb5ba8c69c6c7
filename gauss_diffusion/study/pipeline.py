"""The work of a study: train each network, analyse each model; what is current is never touched."""

import functools
import pathlib
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from ml_collections import ConfigDict

from gauss_diffusion import analyses, data, edm, hosts, interrupts, networks, parallel, results
from gauss_diffusion.analyses import subject as subjects
from gauss_diffusion.analyses.subject import Subject
from gauss_diffusion.denoisers import FAMILIES, family
from gauss_diffusion.study import asked, classes, pictures
from gauss_diffusion.study.members import analyses_of
from gauss_diffusion.study.subjects import (
  Model,
  Opened,
  fitted,
  held_out_images,
  opened,
  seen_images,
  training_images,
)
from gauss_diffusion.training import checkpoint, loop
from gauss_diffusion.types import Denoiser, GaussianStats, Images

_OF_A_LOOK = ("title", "group", "class_label", "guidance", "train")  # no part of how a network is trained


def runs(models: list[Model]) -> list[list[Model]]:
  """Group models that are one training run looked at after other steps or of other classes, shortest first.

  A best affine map goes with the model that it is of.
  """
  alike = {}
  for model in models:
    entry = model.entry.to_dict()
    same = {name: entry[name] for name in entry if name not in _OF_A_LOOK}
    images = model.training.fingerprint, model.training.label_fingerprint
    alike[model.label] = str((same, images, {**entry["train"], "steps": None}))
  grouped: dict[str, list[Model]] = {}
  for model in models:
    grouped.setdefault(alike[model.entry.linear or model.label], []).append(model)
  return [
    sorted(run, key=lambda model: (bool(model.entry.linear), model.entry.train.steps))
    for run in grouped.values()
  ]


def share(models: list[Model], task: int, tasks: int) -> list[Model]:
  """Return the models that are this process's when several divide a study; a run is never divided."""
  if not 0 <= task < tasks:
    raise ValueError(f"`task` is {task}; of {tasks} `tasks` the last is {tasks - 1}")
  return [model for run in runs(models)[task::tasks] for model in run]


def unsaid(what: str) -> None:
  """Say nothing of what begins."""


def train_models(
  models: list[Model],
  folder: pathlib.Path,
  held_out: Images | None = None,
  begin: Callable[[str], None] = unsaid,
) -> int:
  """Train every network that has not had all its steps; returns how many were worked on.

  Of models that are one run, each starts where the one before it stopped: batches, noise and schedules are
  functions of the step alone, so that the end is the same to the last bit.

  Args:
    models: all or some of a study's.
    folder: the study's working directory.
    held_out: for `train.alarm_every`: what networks are watched with, and do not train on.
    begin: is told what is trained next, "train LABEL".
  """
  worked = 0
  for run in runs([model for model in models if model.source == "training"]):
    before = None
    for model in run:
      settings = loop.Settings(*(model.entry.train[field] for field in loop.Settings._fields))
      if model.entry.surrogate:  # draws have no pixels to be copied
        settings = settings._replace(alarm_every=0)
      if (step := checkpoint.sound_step(model.folder)) != settings.steps:
        begin(f"train {model.label}")
        if before is not None and step is None:
          loop.branch(before.folder, model.folder)
        network = networks.create(**model.card["network"])
        title, images = f"train {model.label}", training_images(model, folder)
        labels = model.training.labels if model.entry.train.conditional else None
        own = {"seed": model.entry.seed, "title": title, "labels": labels, "held_out": held_out}
        loop.run(network, model.card, images, model.folder, settings, **own)
        worked += 1
      before = model
  return worked


def analyse_models(
  config: ConfigDict,
  dataset: data.Dataset,
  models: list[Model],
  loaded: dict[str, tuple[Denoiser, str]],
  folder: pathlib.Path,
  begin: Callable[[str], None] = unsaid,
  shown: pictures.Shown | None = None,
) -> int:
  """Run every analysis whose result is not current; returns how many were run.

  Args:
    config: the study.
    dataset: its images.
    models: those to look at, trained.
    loaded: from `subjects.functions`.
    folder: the study's working directory.
    begin: is told what is run next, "ANALYSIS LABEL".
    shown: from `pictures.of`.
  """
  study = _Study(config, asked.plain(config), dataset, loaded, folder, begin, shown)
  # Best affine maps last: they are found by the analysis of another model.
  return sum(_analyse(study, model) for model in sorted(models, key=lambda model: bool(model.entry.linear)))


class _Study(NamedTuple):
  """What is the same for all models."""

  config: ConfigDict
  asked: dict[str, Any]  # the config as plain values
  dataset: data.Dataset
  loaded: dict[str, tuple[Denoiser, str]]
  folder: pathlib.Path
  begin: Callable[[str], None]
  shown: pictures.Shown | None


def _analyse(study: _Study, model: Model) -> int:
  """Run what is not current for one model, distillation first: others read its maps."""
  examined = opened(model, study.asked["denoisers"], study.loaded, study.folder)
  if model.source == "training" and model.entry.train.steps:
    _keep_training(study, model, examined)
  subject, ran = None, 0
  for name in sorted(analyses_of(study.config, model.member), key=lambda name: name != "distillation"):
    place, inputs = _place(study.folder, name, model), _inputs(study, name, model, examined)
    if hosts.told(results.current(place, inputs)):
      hosts.alone(functools.partial(pictures.renew, study.shown, name, place))
      continue
    interrupts.check(hosts.anywhere(interrupts.asked()))
    study.begin(f"{name} {model.label}")
    start, found = time.perf_counter(), None
    absent = _why_not(name, model, examined)
    if not absent:
      subject = subject or _subject(study, model, examined)
      held_against = _with(subject, study, model, inputs)
      found = analyses.ANALYSES[name].compute(held_against, study.config[name], model.label)
      if study.dataset.scale is not None:
        found = found.assign_attrs({results.VALUES: "floats"})
    card = _card(study, inputs, model, examined)
    card |= {"absent": absent, "seconds": time.perf_counter() - start}
    hosts.alone(functools.partial(_save, place, name, found, card, study.shown))
    ran += 1
  return ran


def _save(
  place: pathlib.Path, name: str, found: Any, card: dict[str, Any], shown: pictures.Shown | None
) -> None:
  """Keep a result, and only then show it to a decoder, which may fail."""
  results.save(place, found, card)
  pictures.renew(shown, name, place)


def _why_not(name: str, model: Model, examined: Opened) -> str | None:
  """Return why a model can have no result of an analysis, None where it can."""
  if analyses.ANALYSES[name].DERIVATIVES and not examined.derivatives:
    return "it is a function outside JAX and has no derivatives"
  if name == "linearity" and model.source == "linear":
    return "it is an affine map, and exists at the sampler's levels alone"
  return None


def _inputs(study: _Study, name: str, model: Model, examined: Opened) -> dict[str, Any]:
  """Return all that a result of an analysis depends on."""
  uses = analyses.ANALYSES[name].uses(study.config[name])
  held_out = classes.meant(data.apart(study.dataset), model.entry).fingerprint
  if model.entry.surrogate:
    held_out = f"{len(study.dataset.held_out)} draws"
  reads = ["distillation"] if set(uses) & set(subjects.LINEAR) else []
  fits = {model.entry.denoiser, *uses} & set(FAMILIES)
  labels = model.subset.label_fingerprint if any(FAMILIES[fit].labelled for fit in fits) else ""
  return (
    asked.inputs(study.asked, name)
    | {
      "version": analyses.ANALYSES[name].VERSION,
      "subject": examined.digest,
      "images": model.subset.fingerprint,
      "held-out": held_out,
      "denoisers": {used: study.asked["denoisers"][used] for used in uses if used in FAMILIES},
      "reads": {read: results.read_card(_place(study.folder, read, model))["content"] for read in reads},
    }
    | ({"labels": labels} if labels else {})
  )


def _subject(study: _Study, model: Model, examined: Opened) -> Subject:
  """Return a model as analyses look at it, before it is held against anything."""
  sampler = study.config.sampler
  return Subject(
    network=parallel.put(examined.denoise),
    stats=fitted(model, "gaussian", family.defaults(FAMILIES["gaussian"]), study.folder),
    train=seen_images(model, study.folder),
    held_out=held_out_images(model, study.dataset, study.folder),
    sigmas=edm.sigma_grid(sampler.levels, sampler.sigma_min, sampler.sigma_max),
    solver=sampler.solver,
    seed=study.config.seed,
    records={},
    distillation=None,
    pool=_pool(study) if "halves" in study.config.analyses else None,
  )


def _pool(study: _Study) -> GaussianStats:
  """Return the statistics of all images that a model of the study may be trained on."""
  gaussian, dataset = FAMILIES["gaussian"], study.dataset
  options, fits = family.defaults(gaussian), study.folder / "fits"
  return family.fitted("gaussian", gaussian, dataset.pool, dataset.fingerprint, options, fits)


def _with(subject: Subject, study: _Study, model: Model, inputs: dict[str, Any]) -> Subject:
  """Return the subject with the fitted denoisers and the maps that a result depends on."""
  maps = results.load(_place(study.folder, "distillation", model))[0] if inputs["reads"] else None
  records = {
    name: fitted(model, name, options, study.folder) for name, options in inputs["denoisers"].items()
  }
  return subject._replace(records=records, distillation=maps)


def _keep_training(study: _Study, model: Model, examined: Opened) -> None:
  """Keep how the loss went as a result, so that a report needs no more than results."""
  settings = asked.plain(model.entry.train)
  inputs = {"analysis": "training", "settings": settings, "subject": examined.digest}
  place = _place(study.folder, "training", model)
  if hosts.first() and not results.current(place, inputs):
    metrics = loop.metrics(model.folder)
    found = results.labelled({name: ("line", values) for name, values in metrics.items()}, {})
    results.save(place, found, _card(study, inputs, model, examined))


def _card(study: _Study, inputs: dict[str, Any], model: Model, examined: Opened) -> dict[str, Any]:
  dataset, (height, width, channels) = study.dataset, study.dataset.pool.shape[1:]
  return {
    "inputs": inputs,
    "model": {"label": model.label} | asked.plain(model.entry),
    "subject": examined.about,
    "data": {
      "title": dataset.title,
      "fingerprint": model.subset.fingerprint,
      "size": len(model.subset.images),
      "study fingerprint": dataset.fingerprint,
      "pool": len(dataset.pool),
      "held-out": len(dataset.held_out),
      "duplicates": dataset.duplicates._asdict() | {"dropped": dataset.dropped},
      "shape": [height, width, channels],
      "scale": dataset.scale and dataset.scale._asdict(),
    },
    "device": f"{jax.device_count()} × {jax.devices()[0].device_kind}",
    "versions": results.versions(),
  }


def _place(folder: pathlib.Path, analysis: str, model: Model) -> pathlib.Path:
  return folder / "results" / analysis / model.label
