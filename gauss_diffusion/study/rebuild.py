"""From results to the report: headline, claims, figures and page, with no data, no networks, no devices."""

import hashlib
import json
import pathlib
from typing import Any

from tqdm import tqdm

from gauss_diffusion import analyses, page, plots, results
from gauss_diffusion.readings import claims, headline
from gauss_diffusion.readings.measures import Reading
from gauss_diffusion.study import asked

MAPS = ("weight", "bias")  # of distillation: as large as the data, and in no figure
HEADLINE, CLAIMS = "headline.json", "claims.json"
TRAINING = "training"  # the result that holds a network's metrics
Cards = dict[str, dict[str, dict[str, Any]]]  # analysis -> label -> card


def rebuild(folder: pathlib.Path) -> bool:
  """Decide the claims, draw the figures and write the report, unless all of it is of these very results.

  Args:
    folder: the working directory of a study: ``config.json`` and ``results/`` are read.

  Returns:
    Whether anything had to be written.

  Raises:
    ValueError: when a file is damaged, or results are missing or of other settings than the config's.
  """
  config = asked.read(folder)
  cards = _cards(folder, config)
  for label, names in _lacking(config, cards).items():
    raise ValueError(
      f"`{folder}` has no current results of {', '.join(names)} for the model {label!r}; run the study"
    )
  made_from = _digest(config, cards)
  shown = [*config["figures"], *(name for name, own in cards.items() if any(map(_measured, own.values())))]
  written = [folder / "figures" / f"{name}.{kind}" for name in shown for kind in ("png", "pdf")]
  written += [folder / HEADLINE, folder / CLAIMS]
  if page.is_made_from(folder, made_from) and all(path.exists() for path in written):
    return False
  _write(folder, config, cards, made_from)
  return True


def lacking(folder: pathlib.Path) -> dict[str, list[str]]:
  """Return the models that lack results, or have some of other settings than the config's, and which.

  Raises:
    ValueError: when a file is damaged.
  """
  config = asked.read(folder)
  return _lacking(config, _cards(folder, config))


def summary(folder: pathlib.Path) -> str:
  """Return the headline and verdicts of a finished report, and where it lies, as text."""
  rows, decided = results.read_json(folder / HEADLINE), results.read_json(folder / CLAIMS)
  return f"{headline.table(rows)}\n{headline.verdicts(decided)}report: {folder / page.NAME}\n"


def _write(folder: pathlib.Path, config: dict[str, Any], cards: Cards, made_from: str) -> None:
  readings = _readings(folder, config, cards)
  rows = [{"model": reading.title} | headline.headlines(reading) for reading in readings]
  decided = claims.judge(config["claims"], readings, config["sweep"])
  drawn = _draw(folder, config, cards, readings)
  results.write_json(folder / HEADLINE, rows)
  results.write_json(folder / CLAIMS, decided)
  absent = [
    {"model": reading.title, "analysis": name, "why": f"{reading.title}: {reason}"}
    for reading in readings
    for name, reason in reading.absent.items()
  ]
  page.write(
    folder,
    title=config["title"],
    command=config["command"],
    about=_about(cards),
    config={name: value for name, value in config.items() if name != "command"},
    subjects=[_describe(folder, config, cards, label) for label in asked.in_order(config["models"])],
    headline=rows,
    claims=[_shown(row) for row in decided],
    absent=absent,
    figures={name: _settings(config, name) for name in drawn},
    made_from=made_from,
  )


def _shown(row: dict[str, Any]) -> dict[str, Any]:
  """Return a claim's row with the reason in the place of a value that it does not have."""
  return {
    name: row.get("why") if name == "value" and value is None else value
    for name, value in row.items()
    if name != "why"
  }


def _readings(folder: pathlib.Path, config: dict[str, Any], cards: Cards) -> list[Reading]:
  readings = []
  for label in asked.in_order(config["models"]):
    own = {name: cards[name][label] for name in config["analyses"]}
    found = {name: results.load(_place(folder, name, label), skip=MAPS)[0] for name in own}
    first = next(iter(own.values()))
    readings.append(
      Reading(
        title=config["models"][label]["title"],
        entry=config["models"][label]
        | {"size": first["data"]["size"], "network": first["subject"].get("network", {})},
        found={name: arrays for name, arrays in found.items() if arrays is not None},
        absent={name: card["absent"] for name, card in own.items() if card["absent"]},
      )
    )
  return readings


def _draw(folder: pathlib.Path, config: dict[str, Any], cards: Cards, readings: list[Reading]) -> list[str]:
  """Draw and save every figure that has something to show; returns their names."""
  drawn = []
  for name in tqdm([*config["figures"], *config["analyses"], TRAINING], "figures", unit="figure", delay=2):
    if name in plots.STUDY_PLOTS:
      figure = plots.STUDY_PLOTS[name].draw(readings, config["sweep"])
    else:
      if name == TRAINING:
        titles = {label: config["models"][label]["title"] for label in cards[name]}
        shown = {title: results.load(_place(folder, name, label))[0] for label, title in titles.items()}
      else:
        shown = {reading.title: reading.found[name] for reading in readings if name in reading.found}
      if not shown:
        continue
      figure = analyses.FIGURES[name].draw(shown)
    plots.save(figure, folder / "figures" / name)
    drawn.append(name)
  return drawn


def _settings(config: dict[str, Any], figure: str) -> dict[str, Any]:
  if figure == TRAINING:
    return config["train"]
  return config[figure] if figure in analyses.ANALYSES else {}


def _about(cards: Cards) -> dict[str, dict[str, Any]]:
  every = [card for own in cards.values() for card in own.values()]
  data = every[0]["data"]
  versions: dict[str, list[str]] = {}
  for card in every:
    for package, version in card["versions"].items():
      if version not in versions.setdefault(package, []):
        versions[package].append(version)
  analyses = {name: own.values() for name, own in cards.items() if name != TRAINING}
  return {
    "Data": {
      "name": data["title"],
      "fingerprint": data["study fingerprint"],
      "training images available": data["pool"],
      "held-out images": data["held-out"],
      "shape": " × ".join(map(str, data["shape"])),
    }
    | _copies(data.get("duplicates")),
    "Device": {"analysed on": ", ".join(dict.fromkeys(card["device"] for card in every))},
    "Seconds of analysis, all models": {
      name: sum(card["seconds"] for card in own) for name, own in analyses.items()
    },
    "Versions": {package: ", ".join(found) for package, found in versions.items()},
  }


def _copies(found: dict[str, int] | None) -> dict[str, str]:
  """Return what the report says of images that occur again; cards of older results know nothing of them."""
  if found is None:
    return {}
  return {
    "training images equal to another": f"{found['repeated']} (nearly: {found['repeated_near']})",
    "held-out images equal to a training image": f"{found['leaked']} (nearly: {found['leaked_near']})",
    "left out because they occur again": str(found["dropped"]),
  }


def _describe(folder: pathlib.Path, config: dict[str, Any], cards: Cards, label: str) -> dict[str, Any]:
  card = cards[config["analyses"][0]][label]
  row = {
    "model": config["models"][label]["title"],
    "what": card["subject"]["kind"],
    "name": card["subject"]["name"],
    "parameters": card["subject"].get("parameters"),
    "images": card["data"]["size"],
    "fingerprint": card["data"]["fingerprint"],
    "steps": None,
    "images seen": None,
    "last loss": None,
  }
  lines = results.load(_place(folder, TRAINING, label))[0] if label in cards[TRAINING] else None
  if lines is not None:
    metrics = lines.isel(line=-1)
    row |= {
      "steps": int(metrics["step"]),
      "images seen": int(metrics["images"]),
      "last loss": float(metrics["loss"]),
    }
  return row


def _cards(folder: pathlib.Path, config: dict[str, Any]) -> Cards:
  """Return the cards of those results that are there."""
  return {
    name: {
      label: results.read_card(_place(folder, name, label))
      for label in asked.in_order(config["models"])
      if results.exists(_place(folder, name, label))
    }
    for name in (*config["analyses"], TRAINING)
  }


def _lacking(config: dict[str, Any], cards: Cards) -> dict[str, list[str]]:
  found = {}
  for label in asked.in_order(config["models"]):
    answered = [
      name
      for name in config["analyses"]
      if label in cards[name] and asked.answers(cards[name][label], config, name, label)
    ]
    if missing := [name for name in config["analyses"] if name not in answered]:
      found[label] = missing
  return found


def _digest(config: dict[str, Any], cards: Cards) -> str:
  versions = results.versions()["gauss-diffusion"]
  return hashlib.sha256(json.dumps([versions, config, cards], sort_keys=True).encode()).hexdigest()


def _measured(card: dict[str, Any]) -> bool:
  return card["content"] is not None


def _place(folder: pathlib.Path, analysis: str, label: str) -> pathlib.Path:
  return folder / "results" / analysis / label
