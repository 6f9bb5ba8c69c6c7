"""The work of a study: train each network, analyse each network, report; do nothing twice."""

import pathlib
import time
from typing import NamedTuple

import jax
from jax.tree_util import Partial
from ml_collections import ConfigDict
from tqdm import tqdm

from gauss_diffusion import analyses, data, edm, networks, page, plots, results, statistics
from gauss_diffusion.analyses.subject import Subject
from gauss_diffusion.readings import claims, headline, measures
from gauss_diffusion.study import schema
from gauss_diffusion.training import checkpoint, loop

MAPS = ("weight", "bias")  # of distillation: as large as the data, and in no figure


class Model(NamedTuple):
  """One network of a study, its data and its place on disk."""

  label: str
  entry: ConfigDict  # of the study's `models`
  subset: data.Subset
  card: dict  # of the network
  folder: pathlib.Path  # with `checkpoints/` in it


def models(config: ConfigDict, dataset: data.Dataset, workdir: pathlib.Path) -> list[Model]:
  """Return the study's networks, in the order of the report, with the images each is trained on."""
  made = []
  for label in schema.labels(config):
    entry = config.models[label]
    subset = data.subset(dataset, entry.size, entry.part)
    card = schema.network_card(entry, dataset.pool.shape[1:])
    folder = pathlib.Path(entry.checkpoint) if entry.checkpoint else workdir / "models" / label
    made.append(Model(label, entry, subset, card, folder))
  return made


def runs(models: list[Model]) -> list[list[Model]]:
  """Group models that are one training run looked at after different numbers of steps, shortest first."""
  grouped = {}
  for model in models:
    entry = model.entry.to_dict()
    key = {name: entry[name] for name in ("size", "part", "seed", "network", "checkpoint")}
    grouped.setdefault(str((key, {**entry["train"], "steps": None})), []).append(model)
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
  for run in runs(models):
    before = None
    for model in run:
      settings = loop.Settings(**model.entry.train)
      if not model.entry.checkpoint and checkpoint.latest_step(model.folder) != settings.steps:
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
  config: ConfigDict, dataset: data.Dataset, trained: list[Model], workdir: pathlib.Path
) -> int:
  """Run every analysis that has no finished result; returns how many were run."""
  ran = 0
  for model in trained:
    missing = [name for name in config.analyses if not results.exists(_place(workdir, name, model))]
    if not missing:
      continue
    subject = _subject(config, dataset, workdir, model)
    # In the order of `ANALYSES`, whatever that of the config: later ones read what distillation found.
    for name in sorted(missing, key=list(analyses.ANALYSES).index):
      if subject.distillation is None and results.exists(_place(workdir, "distillation", model)):
        subject = subject._replace(distillation=results.load(_place(workdir, "distillation", model))[0])
      start = time.perf_counter()
      arrays = analyses.ANALYSES[name].compute(subject, config[name], model.label)
      card = {
        "analysis": name,
        "settings": config[name].to_dict(),
        "model": model.entry.to_dict(),
        "network": model.card["network"],
        "data": {
          "title": dataset.title,
          "fingerprint": model.subset.fingerprint,
          "size": len(model.subset.images),
          "study fingerprint": dataset.fingerprint,
        },
        "seed": config.seed,
        "seconds": time.perf_counter() - start,
        "device": _device(),
        "versions": results.versions(),
      }
      if jax.process_index() == 0:
        results.save(_place(workdir, name, model), arrays, card)
      ran += 1
  return ran


def unfinished(config: ConfigDict, trained: list[Model], workdir: pathlib.Path) -> list[str]:
  """Return the labels of models that still lack a result."""
  return [
    model.label
    for model in trained
    if not all(results.exists(_place(workdir, name, model)) for name in config.analyses)
  ]


def write_report(
  config: ConfigDict, dataset: data.Dataset, trained: list[Model], workdir: pathlib.Path, command: str
) -> pathlib.Path:
  """Decide the claims, draw the figures and write the report of what was found; returns its path."""
  loaded = {name: [_load(workdir, name, model) for model in trained] for name in config.analyses}
  found = [
    measures.Model(
      title=model.entry.title,
      entry=model.entry.to_dict() | {"size": len(model.subset.images)},
      found={name: loaded[name][m][0] for name in config.analyses},
    )
    for m, model in enumerate(trained)
  ]
  rows = [{"model": model.title} | headline.headlines(model) for model in found]
  results.write_json(workdir / "headline.json", rows)
  decided = claims.judge(config.claims, found, config.sweep)
  results.write_json(workdir / "claims.json", decided)

  figures = {name: {} for name in config.figures}
  figures |= {name: config[name].to_dict() for name in config.analyses}
  own = [model for model in trained if not model.entry.checkpoint]
  if own:
    figures["training"] = config.train.to_dict()
  for name in tqdm(figures, "figures", unit="figure", delay=2):
    if name in plots.STUDY_PLOTS:
      drawn = plots.STUDY_PLOTS[name].draw(found, config.sweep)
    elif name == "training":
      losses = {model.entry.title: results.read_metrics(model.folder / loop.METRICS) for model in own}
      drawn = plots.PLOTS[name].draw(losses)
    else:
      drawn = plots.PLOTS[name].draw({model.title: model.found[name] for model in found})
    plots.save(drawn, workdir / "figures" / name)
  about = {
    "Data": {
      "name": dataset.title,
      "fingerprint": dataset.fingerprint,
      "training images available": len(dataset.pool),
      "held-out images": len(dataset.held_out),
      "shape": " × ".join(map(str, dataset.pool.shape[1:])),
    },
    "Device": {"report made on": _device()},
    "Seconds of analysis, all models": {
      name: sum(card["seconds"] for _, card in loaded[name]) for name in config.analyses
    },
    "Versions": results.versions(),
  }
  return page.write(
    workdir,
    title=config.title,
    command=command,
    about=about,
    config=config.to_dict(),
    networks=[_describe(model) for model in trained],
    headline=rows,
    claims=decided,
    figures=figures,
  )


def _describe(model: Model) -> dict:
  history = {}
  if not model.entry.checkpoint:
    metrics = results.read_metrics(model.folder / loop.METRICS)
    history = {
      "steps": int(metrics["step"][-1]),
      "images seen": int(metrics["images"][-1]),
      "last loss": float(metrics["loss"][-1]),
    }
  shapes = jax.tree.leaves(networks.shapes(networks.create(**model.card["network"])))
  return {
    "model": model.entry.title,
    "training images": len(model.subset.images),
    "fingerprint": model.subset.fingerprint,
    "network": model.card["network"]["name"],
    "parameters": sum(leaf.size for leaf in shapes),
  } | history


def _subject(config: ConfigDict, dataset: data.Dataset, workdir: pathlib.Path, model: Model) -> Subject:
  network, params = checkpoint.load_ema(model.folder)
  sampler = config.sampler
  return Subject(
    network=Partial(networks.denoise, networks.Trained(params=params, network=network)),
    stats=statistics.cached(model.subset.images, model.subset.fingerprint, workdir / "statistics"),
    train=model.subset.images,
    held_out=dataset.held_out,
    sigmas=edm.sigma_grid(sampler.levels, sampler.sigma_min, sampler.sigma_max),
    solver=sampler.solver,
    seed=config.seed,
    distillation=None,
  )


def _load(workdir: pathlib.Path, analysis: str, model: Model) -> tuple[dict, dict]:
  return results.load(_place(workdir, analysis, model), skip=MAPS)


def _place(workdir: pathlib.Path, analysis: str, model: Model) -> pathlib.Path:
  return workdir / "results" / analysis / model.label


def _device() -> str:
  return f"{jax.device_count()} × {jax.devices()[0].device_kind}"
