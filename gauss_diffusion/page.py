"""Write the report of a study: one self-contained HTML file that works offline."""

import base64
import functools
import pathlib

import jinja2

from gauss_diffusion import plots, results

_PLOTS = plots.STUDY_PLOTS | plots.PLOTS


def write(
  workdir,
  *,
  title: str,
  command: str,
  about: dict,
  config: dict,
  networks: list[dict],
  headline: list[dict],
  claims: list[dict],
  figures: dict[str, dict],
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
    networks: one row per model: size, parameters, ...
    headline: one row per model: the numbers to remember.
    claims: one row per claim of the paper, decided.
    figures: name -> settings behind it, in any order: the report has those of the whole study first, then
      follows `plots.PLOTS`.

  Returns:
    The path of the report.

  Raises:
    ValueError: when an analysis has no plot or its figure is not there.
  """
  workdir = pathlib.Path(workdir)
  for name in figures:
    if name not in _PLOTS:
      raise ValueError(f"`figures` has no plot for {name!r}; known: {', '.join(_PLOTS)}")
  template = pathlib.Path(__file__).with_suffix(".html").read_text()
  environment = jinja2.Environment(
    autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
  )
  environment.filters.update(
    measured=_text, setting=functools.partial(_text, floats="g"), fact=functools.partial(_text, floats=".4g")
  )
  html = environment.from_string(template).render(
    title=title,
    command=command,
    about=about,
    config=list(results.leaves(config)),
    networks=networks,
    headline=headline,
    claims=claims,
    figures=[_figure(workdir, name, figures[name]) for name in _PLOTS if name in figures],
  )
  path = workdir / "report.html"
  with results.writing(path) as file:
    file.write(html.encode())
  return path


def _figure(workdir: pathlib.Path, name: str, settings: dict) -> dict:
  path = workdir / "figures" / f"{name}.png"
  if not path.exists():
    raise ValueError(f"`{path}` is missing; draw it with `plots.save` before writing the report")
  return {
    "name": name,
    "title": _PLOTS[name].TITLE,
    "look_for": _PLOTS[name].LOOK_FOR,
    "settings": list(results.leaves(settings)),
    "png": base64.b64encode(path.read_bytes()).decode(),
  }


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
