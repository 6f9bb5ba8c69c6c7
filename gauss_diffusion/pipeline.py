"""The work of a study: train each network, analyse each network, report; do nothing twice."""

import pathlib
import time
from typing import NamedTuple

import jax
from jax.tree_util import Partial
from ml_collections import ConfigDict
from tqdm import tqdm

from gauss_diffusion import (
  analyses,
  checkpoint,
  data,
  edm,
  headline,
  networks,
  plots,
  report,
  results,
  statistics,
  study,
  train,
)
from gauss_diffusion.analyses.subject import Subject

MAPS = ("weight", "bias")  # of distillation: as large as the data, and in no figure


class Model(NamedTuple):
  """One network of a study, its data and its place on disk."""

  label: str
  entry: ConfigDict  # of the study's `models`
  subset: data.Subset
  card: dict  # of the network
  folder: pathlib.Path


def models(config: ConfigDict, dataset: data.Dataset, workdir: pathlib.Path) -> list[Model]:
  """Return the study's networks, in the order of the report, with the images each is trained on."""
  made = []
  for label in study.labels(config):
    entry = config.models[label]
    subset = data.subset(dataset, entry.size, entry.part)
    card = study.network_card(entry, dataset.pool.shape[1:])
    made.append(Model(label, entry, subset, card, workdir / "models" / label))
  return made


def train_models(config: ConfigDict, trained: list[Model]) -> int:
  """Train every network that has not had all its steps; returns how many were worked on."""
  worked = 0
  for model in trained:
    settings = train.Settings(**model.entry.train)
    if checkpoint.latest_step(model.folder) == settings.steps:
      continue
    network = networks.create(**model.card["network"])
    title = f"train {model.label}"
    train.run(network, model.card, model.subset.images, model.folder, settings, seed=config.seed, title=title)
    worked += 1
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


def headlines(config: ConfigDict, trained: list[Model], workdir: pathlib.Path) -> list[dict]:
  """Return one row of headline numbers per model: name -> (mean, low, high)."""
  rows = []
  for model in trained:
    found = {name: _load(workdir, name, model)[0] for name in config.analyses}
    numbers = {name: tuple(map(float, value)) for name, value in headline.headlines(found)}
    rows.append({"model": model.entry.title} | numbers)
  return rows


def write_report(
  config: ConfigDict, dataset: data.Dataset, trained: list[Model], workdir: pathlib.Path, command: str
) -> pathlib.Path:
  """Draw the figures and write the report of what was found; returns its path."""
  seconds, figures = {}, {}
  for name in tqdm([*config.analyses, "training"], "figures", unit="figure", delay=2):
    if name == "training":
      found = {model.entry.title: results.read_metrics(model.folder / train.METRICS) for model in trained}
      figures[name] = config.train.to_dict()
    else:
      loaded = {model.entry.title: _load(workdir, name, model) for model in trained}
      found = {title: arrays for title, (arrays, _) in loaded.items()}
      seconds[name] = sum(card["seconds"] for _, card in loaded.values())
      figures[name] = config[name].to_dict()
    plots.save(plots.PLOTS[name].draw(found), workdir / "figures" / name)
  rows = headlines(config, trained, workdir)
  results.write_json(workdir / "headline.json", rows)
  about = {
    "Data": {
      "name": dataset.title,
      "fingerprint": dataset.fingerprint,
      "training images available": len(dataset.pool),
      "held-out images": len(dataset.held_out),
      "shape": " × ".join(map(str, dataset.pool.shape[1:])),
    },
    "Device": {"report made on": _device()},
    "Seconds of analysis, all models": seconds,
    "Versions": results.versions(),
  }
  return report.write(
    workdir,
    title=config.title,
    command=command,
    about=about,
    config=config.to_dict(),
    networks=[_describe(model) for model in trained],
    headline=rows,
    figures=figures,
  )


def _describe(model: Model) -> dict:
  metrics = results.read_metrics(model.folder / train.METRICS)
  shapes = jax.tree.leaves(networks.shapes(networks.create(**model.card["network"])))
  return {
    "model": model.entry.title,
    "training images": len(model.subset.images),
    "fingerprint": model.subset.fingerprint,
    "network": model.card["network"]["name"],
    "parameters": sum(leaf.size for leaf in shapes),
    "steps": int(metrics["step"][-1]),
    "images seen": int(metrics["images"][-1]),
    "last loss": float(metrics["loss"][-1]),
  }


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
