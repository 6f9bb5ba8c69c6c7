"""Write the report of a study, or several side by side: one self-contained HTML file that works offline."""

import base64
import collections
import colorsys
import functools
import hashlib
import pathlib
import re
from typing import Any, NamedTuple

import jinja2

from gauss_diffusion import analyses, plots, results
from gauss_diffusion.plots.svg import Inline

NAME = "report.html"
TEMPLATE = pathlib.Path(__file__).with_suffix(".html").read_text(encoding="utf-8")
DARK_PAPER = "#17191c"  # behind a page for dark rooms
SIDE_BY_SIDE = "studies side by side"  # how the title of a comparison ends
GREY = 0.01  # channels of a grey differ by less
LEAST_CONTRAST = 3  # of a curve with it: WCAG 2.2, 1.4.11
_FIRST = {plots.KNOWLEDGE: plots.STUDY_PLOTS[plots.KNOWLEDGE], plots.STRIPS: plots.strips}
FIGURES = _FIRST | plots.STUDY_PLOTS | analyses.FIGURES
# Of a verdict, what the page's style calls it.
_VERDICTS = {"holds": "holds", "does not hold": "fails", "not decided": "open", "too few to decide": "open"}
# Roles and verdicts of controls that must not meet.
_WRONG = {("negative", "holds"), ("reference", "does not hold")}
_MARKS = {"negative": ("□", "◧", "■"), "reference": ("○", "◐", "●")}  # fails, is not decided, passes


class Drawn(NamedTuple):
  """A figure of a study."""

  inline: Inline
  settings: dict[str, Any]  # behind it
  files: dict[str, str]  # what it can be had as: kind -> address relative to the page
  results: dict[str, str]  # the numbers behind it: of which network -> address of the NetCDF file


class Study(NamedTuple):
  """All that a page says of a study.

  A table's row is a dict, column -> value, and its columns are those of the first row. A value is a string, a
  number, None, or ``(mean, low, high)``, shown with its interval beneath.
  """

  title: str
  command: str  # that makes it
  about: dict[str, dict]  # what was run: heading -> {name: value}, such as data, versions, device, wall times
  config: dict[str, Any]  # its nested fields, shown folded
  subjects: list[dict]  # a row for each model: what it is, parameters, images, ...
  headline: list[dict]  # a row for each model: the numbers to remember
  meanings: dict[str, str]  # of these numbers, name -> what it says
  claims: list[dict]  # a row for each claim of the paper, decided, as `readings.claims.judge` returns them
  absent: list[dict]  # a row for each analysis that a model cannot have, with the reason
  figures: dict[str, Drawn]  # in any order: a page follows `FIGURES`
  smoke: bool  # a quick look, from which nothing follows
  made_from: str  # a digest of all that is shown, see `is_made_from`
  archive: bytes = b""  # all results, as ``.tar.xz``, where no files of them lie beside the page


def write(workdir: results.Path, study: Study) -> pathlib.Path:
  """Write ``<workdir>/report.html`` with every figure inside it, and return its path.

  Raises:
    ValueError: when a figure is none of `FIGURES`.
  """
  path = pathlib.Path(workdir) / NAME
  _write(path, {"": study}, study.title)
  return path


def compare(path: results.Path, studies: dict[str, Study]) -> None:
  """Write a page of several studies, what each is called -> the study: verdicts and numbers in columns.

  Figures of one name stand beside one another, and are switched together.

  Raises:
    ValueError: when a figure is none of `FIGURES`.
  """
  _write(pathlib.Path(path), studies, f"{len(studies)} {SIDE_BY_SIDE}")


def is_made_from(workdir: results.Path, made_from: str) -> bool:
  """Tell whether the report in `workdir` was written with this digest of all that it shows."""
  path = pathlib.Path(workdir) / NAME
  return path.exists() and f'<meta name="made-from" content="{made_from}">'.encode() in path.read_bytes()


def is_comparison(path: results.Path) -> bool:
  """Tell whether a file is a page that `compare` wrote."""
  with open(path, "rb") as file:
    head = file.read(1000)
  return b'<meta name="made-from"' in head and f" {SIDE_BY_SIDE}</title>".encode() in head


def _write(path: pathlib.Path, studies: dict[str, Study], title: str) -> None:
  drawn = {name: of.figures for name, of in studies.items()}
  for name in dict.fromkeys(name for figures in drawn.values() for name in figures):
    if name not in FIGURES:
      raise ValueError(f"`figures` has no plot for {name!r}; known: {', '.join(FIGURES)}")
  environment = jinja2.Environment(
    autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
  )
  environment.filters.update(
    verdict_class=lambda verdict: _VERDICTS.get(verdict, "other"),
    is_wrong=lambda control: (control["role"], control["verdict"]) in _WRONG,
    mark=_mark,
    base64=lambda content: base64.b64encode(content).decode(),
    measured=_text,
    tally=lambda rows: collections.Counter(row["verdict"] for row in rows).most_common(),
    leaves=results.leaves,
    setting=functools.partial(_text, floats="g"),
    fact=functools.partial(_text, floats=".4g"),
  )
  colors = {color for figures in drawn.values() for each in figures.values() for color in each.inline.colors}
  html = environment.from_string(TEMPLATE).render(
    title=title,
    studies=studies,
    compared=len(studies) > 1,
    claims_rows=_claims_beside(studies),
    numbers_rows=_numbers_beside(studies),
    differences=_differences(studies),
    meanings={name: line for of in studies.values() for name, line in of.meanings.items()},
    absent=[
      ({"study": name} if len(studies) > 1 else {}) | row for name, of in studies.items() for row in of.absent
    ],
    figures=[_figure(name, drawn) for name in FIGURES if any(name in own for own in drawn.values())],
    colors={color: _in_the_dark(color) for color in sorted(colors)},
    dark_paper=DARK_PAPER,
    script=_script(),
    made_from=" ".join(of.made_from for of in studies.values()),
  )
  with results.writing(path) as file:
    file.write(html.encode())


def _figure(name: str, drawn: dict[str, dict[str, Drawn]]) -> dict[str, Any]:
  of = {study: figures[name] for study, figures in drawn.items() if name in figures}
  return {
    "name": name,
    "title": FIGURES[name].TITLE,
    "look_for": FIGURES[name].LOOK_FOR,
    "of": of,
    "series": {series: color for each in of.values() for series, color in each.inline.series.items()},
  }


def _script() -> str:
  """Return the digest of the page's script, by which a browser runs it and no other."""
  found = re.search(r"<script>(.*?)</script>", TEMPLATE, re.DOTALL)
  digest = hashlib.sha256(found[1].encode()).digest() if found else b""
  return f"sha256-{base64.b64encode(digest).decode()}"


def _in_the_dark(color: str) -> str:
  """Return what a colour "rrggbb" of a figure becomes on dark paper, as CSS.

  Greys go from ink to paper as before from black to white; a colour grows lighter until it can be seen.
  """
  channels = [each / 255 for each in bytes.fromhex(color)]
  if max(channels) - min(channels) < GREY:
    return f"color-mix(in srgb, var(--ink) {100 * (1 - channels[0]):.0f}%, var(--paper))"
  hue, lightness, saturation = colorsys.rgb_to_hls(*channels)
  while contrast(color, DARK_PAPER[1:]) < LEAST_CONTRAST:
    lightness += 0.02
    color = bytes(round(255 * each) for each in colorsys.hls_to_rgb(hue, lightness, saturation)).hex()
  return f"#{color}"


def contrast(one: str, other: str) -> float:
  """Return the contrast of two colours "rrggbb", from 1 to 21 (WCAG 2.2)."""
  dark, light = sorted(map(_luminance, (one, other)))
  return (light + 0.05) / (dark + 0.05)


def _luminance(color: str) -> float:
  linear = [
    c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4
    for c in (each / 255 for each in bytes.fromhex(color))
  ]
  return sum(weight * each for weight, each in zip((0.2126, 0.7152, 0.0722), linear))


def _claims_beside(studies: dict[str, Study]) -> list[tuple[str, str, dict[str, dict | None]]]:
  """Return every claim: statement, statistic, and what it is in each study, None where it is not judged."""
  statements = {row["claim"]: row["statistic"] for of in studies.values() for row in of.claims}
  found = {name: {row["claim"]: row for row in of.claims} for name, of in studies.items()}
  return [
    (claim, statistic, {name: rows.get(claim) for name, rows in found.items()})
    for claim, statistic in statements.items()
  ]


def _numbers_beside(studies: dict[str, Study]) -> list[tuple[str, list[tuple[str, list]]]]:
  """Return every headline number: its name, and for each model that has it what it is in each study."""
  found: dict[str, dict[str, dict[str, Any]]] = {}
  for name, of in studies.items():
    for row in of.headline:
      for number, value in row.items():
        if number != "model":
          found.setdefault(number, {}).setdefault(row["model"], {})[name] = value
  return [
    (number, [(model, [values.get(name) for name in studies]) for model, values in models.items()])
    for number, models in found.items()
  ]


def _differences(studies: dict[str, Study]) -> list[dict[str, Any]]:
  """Return a row for each field in which configurations differ."""
  fields = {name: dict(results.leaves(of.config)) for name, of in studies.items()}
  every = dict.fromkeys(field for own in fields.values() for field in own)
  return [
    {"field": field} | {name: _text(own.get(field), "g") for name, own in fields.items()}
    for field in every
    if len({repr(own.get(field)) for own in fields.values()}) > 1
  ]


def _mark(control: dict[str, Any]) -> str:
  fails, undecided, passes = _MARKS[control["role"]]
  return {"holds": passes, "does not hold": fails}.get(control["verdict"], undecided)


def _text(value, floats: str = ".3f", separator: str = ", ") -> str:
  """Return how the report shows a plain value, real numbers in the format `floats`."""
  if value is None or value == "":
    return "–"
  if isinstance(value, (str, bool)):
    return str(value)
  if isinstance(value, int):
    return (
      f"{value:,}".replace(",", "\u202f") if abs(value) >= 10_000 else str(value)
    )  # narrow no-break space
  if isinstance(value, float):
    return f"{value:{floats}}"
  return separator.join(_text(item, floats, " / ") for item in value) or "–"
