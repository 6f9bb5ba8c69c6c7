"""Write the report of a study: one self-contained HTML file that works offline."""

import base64
import collections
import functools
import pathlib
from typing import Any

import jinja2

from gauss_diffusion import analyses, plots, results

NAME = "report.html"
TEMPLATE = pathlib.Path(__file__).with_suffix(".html").read_text(encoding="utf-8")
_FIRST = {plots.KNOWLEDGE: plots.STUDY_PLOTS[plots.KNOWLEDGE], plots.STRIPS: plots.strips}
_FIGURES = _FIRST | plots.STUDY_PLOTS | analyses.FIGURES
# Of a verdict, what the page's style calls it.
_VERDICTS = {"holds": "holds", "does not hold": "fails", "not decided": "open", "too few to decide": "open"}
# Roles and verdicts of controls that must not meet.
_WRONG = {("negative", "holds"), ("reference", "does not hold")}
_MARKS = {"negative": ("□", "◧", "■"), "reference": ("○", "◐", "●")}  # fails, is not decided, passes


def write(
  workdir: results.Path,
  *,
  title: str,
  command: str,
  about: dict[str, dict],
  config: dict[str, Any],
  subjects: list[dict],
  headline: list[dict],
  meanings: dict[str, str],
  claims: list[dict],
  absent: list[dict],
  figures: dict[str, dict],
  smoke: bool,
  made_from: str,
) -> pathlib.Path:
  """Write ``<workdir>/report.html`` with every figure inside it.

  A table's row is a dict, column -> value, and its columns are those of the first row. A value is a
  string, a number, None, or ``(mean, low, high)``, shown with its interval beneath.

  Args:
    workdir: the study's folder, where ``figures/<analysis>.png`` and ``.pdf`` lie.
    title: of the study.
    command: that makes this report.
    about: what was run: heading -> {name: value}, such as data, versions, device, wall times.
    config: the study's nested fields, shown folded.
    subjects: one row per model: what it is, parameters, images, ...
    headline: one row per model: the numbers to remember.
    meanings: of these numbers, name -> what it says.
    claims: one row per claim of the paper, decided, as `readings.claims.judge` returns them.
    absent: one row per analysis that a model cannot have, with the reason.
    figures: name -> settings behind it, in any order: the report has those of the whole study first, then
      follows `analyses.FIGURES`.
    smoke: whether it is a quick look, from which nothing follows.
    made_from: a digest of all that it shows, see `is_made_from`.

  Returns:
    The path of the report.

  Raises:
    ValueError: when an analysis has no plot or its figure is not there.
  """
  workdir = pathlib.Path(workdir)
  for name in figures:
    if name not in _FIGURES:
      raise ValueError(f"`figures` has no plot for {name!r}; known: {', '.join(_FIGURES)}")
  environment = jinja2.Environment(
    autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
  )
  environment.filters.update(
    verdict_class=lambda verdict: _VERDICTS.get(verdict, "other"),
    is_wrong=lambda control: (control["role"], control["verdict"]) in _WRONG,
    mark=_mark,
    measured=_text,
    tally=lambda rows: collections.Counter(row["verdict"] for row in rows).most_common(),
    setting=functools.partial(_text, floats="g"),
    fact=functools.partial(_text, floats=".4g"),
  )
  html = environment.from_string(TEMPLATE).render(
    title=title,
    command=command,
    about=about,
    config=list(results.leaves(config)),
    subjects=subjects,
    absent=absent,
    made_from=made_from,
    headline=headline,
    meanings=meanings,
    smoke=smoke,
    claims=claims,
    figures=[_figure(workdir, name, figures[name]) for name in _FIGURES if name in figures],
  )
  path = workdir / NAME
  with results.writing(path) as file:
    file.write(html.encode())
  return path


def is_made_from(workdir: results.Path, made_from: str) -> bool:
  """Tell whether the report in `workdir` was written with this digest of all that it shows."""
  path = pathlib.Path(workdir) / NAME
  return path.exists() and f'<meta name="made-from" content="{made_from}">'.encode() in path.read_bytes()


def _figure(workdir: pathlib.Path, name: str, settings: dict) -> dict:
  path = workdir / "figures" / f"{name}.png"
  if not path.exists():
    raise ValueError(f"`{path}` is missing; draw it with `plots.save` before writing the report")
  return {
    "name": name,
    "title": _FIGURES[name].TITLE,
    "look_for": _FIGURES[name].LOOK_FOR,
    "settings": list(results.leaves(settings)),
    "png": base64.b64encode(path.read_bytes()).decode(),
  }


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
