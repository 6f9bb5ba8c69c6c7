"""The work of a study: train each network, analyse each network, and never do either twice."""

import pathlib
import time
from typing import NamedTuple

import jax
from jax.tree_util import Partial

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
  settings: object  # the study's entry
  images: data.Subset
  card: dict  # of the network
  folder: pathlib.Path


def models(config, dataset: data.Dataset, workdir: pathlib.Path) -> list[Model]:
  """Return the study's networks with the images each is trained on."""
  shape = dataset.pool.shape[1:]
  made = []
  for label in study.labels(config):
    entry = config.models[label]
    images = data.subset(dataset, entry.size, entry.part)
    made.append(Model(label, entry, images, study.network_card(entry, shape), workdir / "models" / label))
  return made


def train_models(config, dataset: data.Dataset, workdir: pathlib.Path) -> int:
  """Train every network that has not had all its steps; returns how many were worked on."""
  worked = 0
  for model in models(config, dataset, workdir):
    settings = train.Settings(**model.settings.train)
    if checkpoint.latest_step(model.folder) == settings.steps:
      continue
    network = networks.create(**model.card["network"])
    title = f"train {model.label}"
    train.run(network, model.card, model.images.images, model.folder, settings, seed=config.seed, title=title)
    worked += 1
  return worked


def analyse_models(config, dataset: data.Dataset, workdir: pathlib.Path) -> int:
  """Run every analysis that has no finished result; returns how many were run."""
  ran = 0
  for model in models(config, dataset, workdir):
    missing = [name for name in config.analyses if not results.exists(place(workdir, name, model.label))]
    if not missing:
      continue
    subject = _subject(config, dataset, workdir, model)
    for name in missing:
      if subject.distillation is None and results.exists(place(workdir, "distillation", model.label)):
        arrays, _ = results.load(place(workdir, "distillation", model.label))
        subject = subject._replace(distillation=arrays)
      start = time.perf_counter()
      arrays = analyses.ANALYSES[name].compute(subject, config[name], model.label)
      card = {
        "analysis": name,
        "settings": config[name].to_dict(),
        "model": model.settings.to_dict(),
        "network": model.card["network"],
        "data": {
          "title": dataset.title,
          "fingerprint": model.images.fingerprint,
          "size": len(model.images.images),
        },
        "seconds": time.perf_counter() - start,
        "device": device(),
        "versions": results.versions(),
      }
      if jax.process_index() == 0:
        results.save(place(workdir, name, model.label), arrays, card)
      ran += 1
  return ran


def summarise(config, dataset: data.Dataset, workdir: pathlib.Path, command: str) -> pathlib.Path:
  """Draw the figures and write the report of what has been found; returns the report's path."""
  rows, found = headlines(config, dataset, workdir), {}
  for name in config.analyses:
    found[name] = {
      model.settings.title: results.load(place(workdir, name, model.label), skip=MAPS)
      for model in models(config, dataset, workdir)
    }
  figures = {}
  for name in config.analyses:
    draw(workdir, name, {title: arrays for title, (arrays, _) in found[name].items()})
    figures[name] = config[name].to_dict()
  curves = {
    model.settings.title: results.read_metrics(model.folder / train.METRICS)
    for model in models(config, dataset, workdir)
  }
  draw(workdir, "training", curves)
  figures["training"] = config.train.to_dict()
  return report.write(
    workdir,
    title=config.title,
    command=command,
    about=_about(config, dataset, workdir, found),
    config=config.to_dict(),
    networks=_networks(config, dataset, workdir),
    headline=rows,
    figures=figures,
  )


def headlines(config, dataset: data.Dataset, workdir: pathlib.Path) -> list[dict]:
  """Return one row of headline numbers per model: name -> (mean, low, high)."""
  rows = []
  for model in models(config, dataset, workdir):
    found = {name: results.load(place(workdir, name, model.label), skip=MAPS)[0] for name in config.analyses}
    numbers = {name: tuple(map(float, value)) for name, value in headline.headlines(found)}
    rows.append({"model": model.settings.title} | numbers)
  return rows


def place(workdir: pathlib.Path, analysis: str, label: str) -> pathlib.Path:
  """Return where a result lies, without suffix."""
  return workdir / "results" / analysis / label


def device() -> str:
  """Return what the numbers were computed on, in words."""
  return f"{jax.device_count()} x {jax.devices()[0].device_kind}"


def draw(workdir: pathlib.Path, name: str, found: dict) -> None:
  """Draw one figure as PNG and PDF."""
  plots.save(plots.PLOTS[name].draw(found), workdir / "figures" / name)


def _about(config, dataset: data.Dataset, workdir: pathlib.Path, found: dict) -> dict:
  cards = [card for by_model in found.values() for _, card in by_model.values()]
  seconds = {name: sum(card["seconds"] for _, card in by_model.values()) for name, by_model in found.items()}
  return {
    "Data": {
      "name": dataset.title,
      "fingerprint": dataset.fingerprint,
      "training images available": len(dataset.pool),
      "held-out images": len(dataset.held_out),
      "shape": " × ".join(map(str, dataset.pool.shape[1:])),
    },
    "Device": {"computed on": cards[0]["device"] if cards else device()},
    "Seconds of analysis, all models": seconds,
    "Versions": results.read_json(workdir / "versions.json"),
  }


def _networks(config, dataset: data.Dataset, workdir: pathlib.Path) -> list[dict]:
  rows = []
  for model in models(config, dataset, workdir):
    _, params = checkpoint.load_ema(model.folder)
    metrics = results.read_metrics(model.folder / train.METRICS)
    rows.append(
      {
        "model": model.settings.title,
        "training images": len(model.images.images),
        "fingerprint": model.images.fingerprint,
        "network": model.card["network"]["name"],
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(params)),
        "steps": int(metrics["step"][-1]),
        "images seen": int(metrics["images"][-1]),
        "last loss": float(metrics["loss"][-1]),
      }
    )
  return rows


def _subject(config, dataset: data.Dataset, workdir: pathlib.Path, model: Model) -> Subject:
  network, params = checkpoint.load_ema(model.folder)
  sampler = config.sampler
  return Subject(
    network=Partial(networks.denoise, networks.Trained(params=params, network=network)),
    stats=statistics.cached(model.images.images, model.images.fingerprint, workdir / "statistics"),
    train=model.images.images,
    held_out=dataset.held_out,
    sigmas=edm.sigma_grid(sampler.levels, sampler.sigma_min, sampler.sigma_max),
    solver=sampler.solver,
    seed=config.seed,
    distillation=None,
  )
