"""From results to the report: headline, claims, figures and page, with no data, no networks, no devices."""

import hashlib
import json
import pathlib
from collections.abc import Iterator
from typing import Any

from tqdm import tqdm

from gauss_diffusion import analyses, page, plots, results
from gauss_diffusion.plots import svg
from gauss_diffusion.readings import claims, headline
from gauss_diffusion.readings.measures import Reading
from gauss_diffusion.study import asked
from gauss_diffusion.study.members import Member, analyses_of, members

MAPS = ("weight", "bias")  # of distillation: as large as the data, and in no figure
HEADLINE, CLAIMS = "headline.json", "claims.json"
TRAINING = "training"  # the result that holds a network's metrics
BESIDE = ("png", "pdf")  # what a figure can be had as
Cards = dict[str, dict[str, dict[str, Any]]]  # analysis -> label -> card


def rebuild(folder: pathlib.Path, archive: pathlib.Path | None = None) -> bool:
  """Decide the claims, draw the figures and write the report, unless all of it is of these very results.

  Args:
    folder: the working directory of a study: ``config.json`` and ``results/`` are read.
    archive: of all results, that the report is to hold itself; else it refers to files beside it.

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
  models = {member.label for member in members(config) if not member.control}
  shown = [*([plots.STRIPS] if config["claims"] else []), *_figures(config)]
  shown += [
    name for name, own in cards.items() if any(_measured(own[label]) for label in own if label in models)
  ]
  written = [folder / "figures" / f"{name}.{kind}" for name in shown for kind in ("png", "pdf")]
  written += [folder / HEADLINE, folder / CLAIMS]
  if all(path.exists() for path in written) and page.is_made_from(folder, _digest(folder, config, cards)):
    return False
  _write(folder, config, cards, archive)
  return True


def shown(folder: pathlib.Path, prefix: str) -> page.Study:
  """Return what the report of a study shows, which `rebuild` has written, for another page.

  Args:
    folder: the working directory.
    prefix: of the ids in its figures, which no other study of the page has.
  """
  config = asked.read(folder)
  cards = _cards(folder, config)
  readings = _readings(folder, config, cards)
  figures = {
    name: _drawn(config, readings, name, figure, prefix, beside=False)
    for name, figure in _draw(config, readings, results.read_json(folder / CLAIMS))
  }
  return _study(folder, config, cards, readings, figures)


def judge(folder: pathlib.Path) -> list[dict[str, Any]]:
  """Return the verdicts on the claims of a study, anew and without a figure.

  Raises:
    ValueError: when a file is damaged.
  """
  config = asked.read(folder)
  readings = _readings(folder, config, _cards(folder, config))
  return claims.judge(config["claims"], readings, config["sweep"])


def lacking(folder: pathlib.Path) -> dict[str, list[str]]:
  """Return the models that lack results, or have some of other settings than the config's, and which.

  Raises:
    ValueError: when a file is damaged.
  """
  config = asked.read(folder)
  return _lacking(config, _cards(folder, config))


def found(folder: pathlib.Path) -> dict[str, Any]:
  """Return the headline and verdicts of a finished report, and where it lies."""
  rows, decided = results.read_json(folder / HEADLINE), results.read_json(folder / CLAIMS)
  return {"report": str(folder / page.NAME), "headline": rows, "claims": decided}


def summary(folder: pathlib.Path) -> str:
  """Return the headline and verdicts of a finished report, and where it lies, as text."""
  report, rows, decided = found(folder).values()
  return f"{headline.table(rows)}\n{headline.verdicts(decided)}report: {report}\n"


def _write(folder: pathlib.Path, config: dict[str, Any], cards: Cards, archive: pathlib.Path | None) -> None:
  readings = _readings(folder, config, cards)
  rows = [{"model": title} | headline.headlines(networks) for title, networks in _by_title(readings).items()]
  decided = claims.judge(config["claims"], readings, config["sweep"])
  figures = {}
  for name, figure in _draw(config, readings, decided):
    plots.save(figure, folder / "figures" / name)
    figures[name] = _drawn(config, readings, name, figure, "", beside=archive is None)
  results.write_json(folder / HEADLINE, rows)
  results.write_json(folder / CLAIMS, decided)
  study = _study(folder, config, cards, readings, figures)
  page.write(folder, study._replace(archive=archive.read_bytes()) if archive else study)


def _study(
  folder: pathlib.Path,
  config: dict[str, Any],
  cards: Cards,
  readings: list[Reading],
  figures: dict[str, page.Drawn],
) -> page.Study:
  """Return all that a page says, headline and claims as they were written."""
  rows = results.read_json(folder / HEADLINE)
  absent = [
    {"model": reading.title, "analysis": name, "why": f"{reading.title}: {reason}"}
    for reading in readings
    for name, reason in reading.absent.items()
  ]
  subjects = [
    _describe(cards[config["analyses"][0]][member.label], reading)
    for member, reading in zip(_subjects(config), readings)
  ]
  return page.Study(
    title=config["title"],
    command=config["command"],
    about=_about(cards),
    config={name: value for name, value in config.items() if name != "command"},
    subjects=subjects,
    headline=rows,
    meanings=headline.meanings(rows),
    claims=results.read_json(folder / CLAIMS),
    absent=absent,
    figures=figures,
    smoke=config.get("smoke", False),
    made_from=_digest(folder, config, cards),
  )


def _subjects(config: dict[str, Any]) -> list[Member]:
  """Return the members that are no controls, in the order of `_readings`."""
  return [member for member in members(config) if not member.control]


def _by_title(readings: list[Reading]) -> dict[str, list[Reading]]:
  models: dict[str, list[Reading]] = {}
  for reading in readings:
    models.setdefault(reading.title, []).append(reading)
  return models


def _rows(decided: list[dict[str, Any]]) -> list[dict[str, Any]]:
  """Return claims with the models of which each is the least, a row each below it."""
  rows = []
  for row in decided:
    rows.append(row)
    rows += [{"claim": f"– {title}", "controls": {}} | model for title, model in row["models"].items()]
  return rows


def _readings(folder: pathlib.Path, config: dict[str, Any], cards: Cards) -> list[Reading]:
  """Return a reading of every network of every model, each with its controls."""
  everybody = {member.label: member for member in members(config)}
  read = {label: _reading(folder, config, cards, member) for label, member in everybody.items()}
  readings = []
  for label, member in everybody.items():
    if not member.control:
      # In the place of a model a control has that model's place along the sweep, and its group.
      controls = {
        control: read[other]._replace(entry=read[label].entry) for control, other in member.stands_in.items()
      }
      readings.append(read[label]._replace(controls=controls))
  return readings


def _reading(folder: pathlib.Path, config: dict[str, Any], cards: Cards, member: Member) -> Reading:
  names = [*analyses_of(config, member), TRAINING]
  own = {name: cards[name][member.label] for name in names if member.label in cards[name]}
  found = {name: results.load(_place(folder, name, member.label), skip=MAPS)[0] for name in own}
  about: dict[str, Any] = {}
  for card in own.values():
    about = {"size": card["data"]["size"], "network": card["subject"].get("network", {})}
  return Reading(
    title=member.entry["title"],
    entry=member.entry | about,
    found={name: arrays for name, arrays in found.items() if arrays is not None},
    absent={name: card["absent"] for name, card in own.items() if card.get("absent")},
    replicate=member.replicate,
  )


def _draw(
  config: dict[str, Any], readings: list[Reading], decided: list[dict[str, Any]]
) -> Iterator[tuple[str, Any]]:
  """Yield the name and the figure of everything that has something to show."""
  for name in tqdm([*_figures(config), *config["analyses"], TRAINING], "figures", unit="figure", delay=2):
    if name in plots.STUDY_PLOTS:
      yield name, plots.STUDY_PLOTS[name].draw(readings, config["sweep"])
      continue
    found = [reading for reading in readings if name in reading.found]
    if found:
      of_models = {title: [one.found[name] for one in own] for title, own in _by_title(found).items()}
      yield name, analyses.FIGURES[name].draw(of_models)
  if decided:
    yield plots.STRIPS, plots.strips.draw(_rows(decided))


def _drawn(
  config: dict[str, Any],
  readings: list[Reading],
  name: str,
  figure: Any,
  prefix: str,
  *,
  beside: bool,
) -> page.Drawn:
  """Return a figure for a page, with the files of it and of its results where these lie beside the page."""
  labels = [
    (f"{one.title}, network {one.replicate + 1}" if one.replicate else one.title, member.label)
    for member, one in zip(_subjects(config), readings)
    if name in one.found
  ]
  return page.Drawn(
    inline=svg.inline(figure, page.FIGURES[name].TITLE, f"{prefix}{name}"),
    settings=_settings(config, name),
    files={kind.upper(): f"figures/{name}.{kind}" for kind in BESIDE} if beside else {},
    results={title: f"results/{name}/{label}.nc" for title, label in labels} if beside else {},
  )


def _figures(config: dict[str, Any]) -> list[str]:
  """Return the figures of the whole study: those asked for, and `knowledge` where it can be drawn."""
  known = set(plots.STUDY_PLOTS[plots.KNOWLEDGE].NEEDS.results) <= set(config["analyses"])
  return list(dict.fromkeys([*([plots.KNOWLEDGE] if known else []), *config["figures"]]))


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
    | _floats(data.get("scale"), every)
    | _copies(data.get("duplicates"), pixels=data.get("scale") is None),
    "Device": {"analysed on": ", ".join(dict.fromkeys(card["device"] for card in every))},
    "Seconds of analysis, all models": {
      name: sum(card["seconds"] for card in own) for name, own in analyses.items()
    },
    "Versions": {
      package: ", ".join(found) + (" (results were made with different versions)" if found[1:] else "")
      for package, found in versions.items()
    },
  }


def _floats(scale: dict[str, float] | None, cards: list[dict[str, Any]]) -> dict[str, str]:
  """Return what the report says of data that are floats: their scale, and as what figures show them."""
  if scale is None:
    return {}
  shown = {card["pictures"]["how"] for card in cards if "pictures" in card}
  return {
    "scale, in the place of pixels in [−1, 1]": f"(value − {scale['shift']:.6g}) / {scale['factor']:.6g}",
    "images shown": ", ".join(sorted(shown)) or "none",
    "errors and directions shown": "as they are, at most three channels",
  }


def _copies(found: dict[str, int] | None, *, pixels: bool) -> dict[str, str]:
  """Return what the report says of images that occur again; cards of older results know nothing of them.

  That images are nearly equal is said of pixels alone.
  """
  if found is None:
    return {}
  near = {key: f" (nearly: {found[f'{key}_near']})" for key in ("repeated", "leaked")} if pixels else {}
  return {
    "training images equal to another": f"{found['repeated']}{near.get('repeated', '')}",
    "held-out images equal to a training image": f"{found['leaked']}{near.get('leaked', '')}",
    "left out because they occur again": str(found["dropped"]),
  }


def _describe(card: dict[str, Any], reading: Reading) -> dict[str, Any]:
  row = {
    "model": reading.title + (f", network {reading.replicate + 1}" if reading.replicate else ""),
    "what": card["subject"]["kind"],
    "name": card["subject"]["name"],
    "parameters": card["subject"].get("parameters"),
    "images": card["data"]["size"],
    "fingerprint": card["data"]["fingerprint"],
    "steps": None,
    "images seen": None,
    "last loss": None,
  }
  if TRAINING in reading.found:
    metrics = reading.found[TRAINING].isel(line=-1)
    row |= {
      "steps": int(metrics["step"]),
      "images seen": int(metrics["images"]),
      "last loss": float(metrics["loss"]),
    }
  return row


def _cards(folder: pathlib.Path, config: dict[str, Any]) -> Cards:
  """Return the cards of those results that are there."""
  found: Cards = {name: {} for name in (*config["analyses"], TRAINING)}
  for member in members(config):
    for name in (*analyses_of(config, member), TRAINING):
      if results.exists(_place(folder, name, member.label)):
        found[name][member.label] = results.read_card(_place(folder, name, member.label))
  return found


def _lacking(config: dict[str, Any], cards: Cards) -> dict[str, list[str]]:
  found = {}
  for member in members(config):
    wanted, label = analyses_of(config, member), member.label
    answered = [
      name
      for name in wanted
      if label in cards[name] and asked.answers(cards[name][label], config, name, label)
    ]
    if missing := [name for name in wanted if name not in answered]:
      found[label] = missing
  return found


def _digest(folder: pathlib.Path, config: dict[str, Any], cards: Cards) -> str:
  """Return the digest of all that the report shows, which lies in files that must be what was written."""
  shown = [results.digest(folder / name) for name in (HEADLINE, CLAIMS)]
  versions = results.versions()["gauss-diffusion"]
  made_from = [versions, page.TEMPLATE, config, cards, shown]
  return hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()


def _measured(card: dict[str, Any]) -> bool:
  return card["content"] is not None


def _place(folder: pathlib.Path, analysis: str, label: str) -> pathlib.Path:
  return folder / "results" / analysis / label
