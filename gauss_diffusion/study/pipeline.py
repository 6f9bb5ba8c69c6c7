"""The work of a study: train each network, analyse each model; what is current is never touched."""

import pathlib
import time
from typing import Any

import jax
from ml_collections import ConfigDict

from gauss_diffusion import analyses, data, edm, networks, results
from gauss_diffusion.analyses import subject as subjects
from gauss_diffusion.analyses.subject import Subject
from gauss_diffusion.denoisers import FAMILIES, family
from gauss_diffusion.study import asked
from gauss_diffusion.study.subjects import Model, Opened, opened
from gauss_diffusion.training import checkpoint, loop
from gauss_diffusion.types import Denoiser


def runs(models: list[Model]) -> list[list[Model]]:
  """Group models that are one training run looked at after different numbers of steps, shortest first."""
  grouped: dict[str, list[Model]] = {}
  for model in models:
    entry = model.entry.to_dict()
    alike = {name: entry[name] for name in entry if name not in ("title", "group", "train")}
    grouped.setdefault(str((alike, {**entry["train"], "steps": None})), []).append(model)
  return [sorted(run, key=lambda model: model.entry.train.steps) for run in grouped.values()]


def share(models: list[Model], task: int, tasks: int) -> list[Model]:
  """Return the models that are this process's when several divide a study; a run is never divided."""
  if not 0 <= task < tasks:
    raise ValueError(f"`task` is {task}; of {tasks} `tasks` the last is {tasks - 1}")
  return [model for run in runs(models)[task::tasks] for model in run]


def train_models(models: list[Model]) -> int:
  """Train every network that has not had all its steps; returns how many were worked on.

  Of models that are one run, each starts where the one before it stopped: batches, noise and schedules are
  functions of the step alone, so that the end is the same to the last bit.
  """
  worked = 0
  for run in runs([model for model in models if model.source == "training"]):
    before = None
    for model in run:
      settings = loop.Settings(**model.entry.train)
      if checkpoint.latest_step(model.folder) != settings.steps:
        if before is not None and checkpoint.latest_step(model.folder) is None:
          checkpoint.branch(before.folder, model.folder)
          results.copy(before.folder / loop.METRICS, model.folder / loop.METRICS)
        network = networks.create(**model.card["network"])
        title, images = f"train {model.label}", model.subset.images
        loop.run(network, model.card, images, model.folder, settings, seed=model.entry.seed, title=title)
        worked += 1
      before = model
  return worked


def analyse_models(
  config: ConfigDict,
  dataset: data.Dataset,
  models: list[Model],
  loaded: dict[str, tuple[Denoiser, str]],
  folder: pathlib.Path,
) -> int:
  """Run every analysis whose result is not current; returns how many were run.

  Args:
    config: the study.
    dataset: its images.
    models: those to look at, trained.
    loaded: from `subjects.functions`.
    folder: the study's working directory.
  """
  plain = asked.plain(config)
  return sum(_analyse(plain, config, dataset, model, loaded, folder) for model in models)


def _analyse(plain, config, dataset, model, loaded, folder) -> int:
  """Run what is not current for one model, distillation first: others read its maps."""
  examined = opened(model, plain["denoisers"], loaded, folder / "fits")
  subject, ran = None, 0
  if model.source == "training":
    _keep_training(plain, dataset, model, examined, folder)
  for name in sorted(config.analyses, key=lambda name: name != "distillation"):
    analysis = analyses.ANALYSES[name]
    uses, place = analysis.uses(config[name]), _place(folder, name, model)
    reads = ["distillation"] if set(uses) & set(subjects.LINEAR) else []
    inputs = asked.inputs(plain, name) | {
      "version": analysis.VERSION,
      "subject": examined.digest,
      "images": model.subset.fingerprint,
      "held-out": dataset.fingerprint,
      "denoisers": {used: plain["denoisers"][used] for used in uses if used in FAMILIES},
      "reads": {read: results.read_card(_place(folder, read, model))["content"] for read in reads},
    }
    if results.current(place, inputs):
      continue
    found, start, absent = None, time.perf_counter(), None
    if analysis.DERIVATIVES and not examined.derivatives:
      absent = "it is a function outside JAX and has no derivatives"
    else:
      subject = subject or _subject(config, dataset, model, examined, folder)
      if reads:
        subject = subject._replace(distillation=results.load(_place(folder, "distillation", model))[0])
      for used in inputs["denoisers"]:
        if used not in subject.records:
          subject.records[used] = _fitted(used, plain["denoisers"][used], model, folder)
      found = analysis.compute(subject, config[name], model.label)
    card = _card(inputs, dataset, model, examined) | {
      "absent": absent,
      "seconds": time.perf_counter() - start,
    }
    if jax.process_index() == 0:
      results.save(place, found, card)
    ran += 1
  return ran


def _keep_training(plain, dataset, model: Model, examined: Opened, folder: pathlib.Path) -> None:
  """Keep how the loss went as a result, so that a report needs no more than results."""
  inputs = {
    "analysis": "training",
    "settings": plain["models"][model.label]["train"],
    "subject": examined.digest,
  }
  place = _place(folder, "training", model)
  if not results.current(place, inputs) and jax.process_index() == 0:
    metrics = results.read_metrics(model.folder / loop.METRICS)
    found = results.labelled({name: ("line", values) for name, values in metrics.items()}, {})
    results.save(place, found, _card(inputs, dataset, model, examined))


def _card(inputs: dict[str, Any], dataset, model: Model, examined: Opened) -> dict[str, Any]:
  height, width, channels = dataset.pool.shape[1:]
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
      "shape": [height, width, channels],
    },
    "device": f"{jax.device_count()} × {jax.devices()[0].device_kind}",
    "versions": results.versions(),
  }


def _subject(config, dataset, model: Model, examined: Opened, folder: pathlib.Path) -> Subject:
  sampler = config.sampler
  return Subject(
    network=examined.denoise,
    stats=_fitted("gaussian", family.defaults(FAMILIES["gaussian"]), model, folder),
    train=model.subset.images,
    held_out=dataset.held_out,
    sigmas=edm.sigma_grid(sampler.levels, sampler.sigma_min, sampler.sigma_max),
    solver=sampler.solver,
    seed=config.seed,
    records={},
    distillation=None,
  )


def _fitted(name: str, options: dict[str, Any], model: Model, folder: pathlib.Path) -> Any:
  images, fingerprint = model.subset.images, model.subset.fingerprint
  return family.fitted(name, FAMILIES[name], images, fingerprint, options, folder / "fits")


def _place(folder: pathlib.Path, analysis: str, model: Model) -> pathlib.Path:
  return folder / "results" / analysis / model.label
