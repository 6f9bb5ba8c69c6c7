"""Pages of the documentation site that stand elsewhere: in the code, under results/, beside the code.

A hook of MkDocs (`mkdocs.yml`). Nothing is written here that a report, `--help` or a docstring says already.
"""

import pathlib
import re

from mkdocs.structure.files import File, Files

from gauss_diffusion import page
from gauss_diffusion.readings import headline
from gauss_diffusion.study import schema

ROOT = pathlib.Path(__file__).parents[1]
# Pages that stand elsewhere in the repository -> where.
ELSEWHERE = {
  "claims.md": "docs/claims.md",
  "registered.md": "docs/registered.md",
  "determinism.md": "docs/determinism.md",
  "security.md": "docs/security.md",
  "extending.md": "CONTRIBUTING.md",
  "launching.md": "launch/README.md",
}
# Pages of the API -> their heading, and the modules of which each has the docstrings.
API = {
  "denoisers": ("Denoisers", ["types", "denoisers"]),
  "probes": ("Probes", ["probes"]),
  "sampling": ("Sampling and distillation", ["edm", "sampling", "distill", "moments", "parallel"]),
  "networks": ("Networks and training", ["networks", "training", "importers"]),
  "data": ("Data and statistics", ["images", "data", "statistics"]),
  "results": ("Results and readings", ["results", "readings"]),
}
LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)(#[^)\s]*)?\)")


def on_files(files: Files, config) -> Files:
  """Add the pages and pictures that stand elsewhere."""
  added = {"figures.md": figures(), "fields.md": fields(), "numbers.md": numbers()}
  for name, (heading, rooms) in API.items():
    modules = [module for room in rooms for module in modules_of(room)]
    added[f"api/{name}.md"] = "\n\n".join([f"# {heading}", *(f"::: {module}" for module in modules)])
  pictures = set()
  for name, source in ELSEWHERE.items():
    added[name], shown = moved((ROOT / source).read_text(), (ROOT / source).parent)
    pictures |= shown
  added["index.md"], shown = moved((ROOT / "README.md").read_text(), ROOT)
  pictures |= shown | set(kept().values())
  for name, content in added.items():
    files.append(File.generated(config, name, content=content))
  for path in sorted(pictures):
    files.append(File.generated(config, f"{path.relative_to(ROOT)}", abs_src_path=str(path)))
  return files


def modules_of(room: str) -> list[str]:
  """Return the modules of a room of the package, or the one module of that name, dotted."""
  place = ROOT / "gauss_diffusion" / room
  if not place.is_dir():
    return [f"gauss_diffusion.{room}"]
  paths = [path for path in sorted(place.rglob("*.py")) if not path.name.startswith("_")]
  return [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in paths]


def kept() -> dict[str, pathlib.Path]:
  """Return figure -> a picture of it among the results that are kept, on digits."""
  found: dict[str, pathlib.Path] = {}
  for path in sorted((ROOT / "results").glob("*/digits/figures/*.webp")):
    if "exploratory" not in path.parts:
      found.setdefault(path.stem, path)
  return {name: path for name, path in found.items() if name in page.FIGURES}


def figures() -> str:
  """Return how to read every figure, in the words of its report, beside one that is kept."""
  pictures = kept()
  parts = ["# How to read every figure", "Of digits, in the order of a report; each study keeps its own."]
  for name, figure in page.FIGURES.items():
    parts += [f"## {figure.TITLE}", f"*`{name}`*  {figure.LOOK_FOR}"]
    if name in pictures:
      parts.append(f"![{figure.TITLE}]({pictures[name].relative_to(ROOT)})")
  return "\n\n".join(parts)


def numbers() -> str:
  """Return what the numbers of a headline say."""
  rows = [f"| {name} … | {meaning} |" for name, meaning in headline.MEANINGS.items()]
  return "\n".join(["# Numbers of a headline", "", "| Number | Says |", "|---|---|", *rows])


def fields() -> str:
  """Return every field of a study with its default and meaning."""
  rows = [f"| `{name}` | `{field.default!r}` | {field.meaning} |" for name, field in schema.fields()]
  intro = "Each is set as `--config.FIELD=VALUE`, or in a config file; `--help` lists them too."
  return "\n".join(
    ["# Every field of a study", "", intro, "", "| Field | Default | Meaning |", "|---|---|---|", *rows]
  )


def moved(text: str, folder: pathlib.Path) -> tuple[str, set[pathlib.Path]]:
  """Return a page with its links as the site has them, and the pictures that it shows.

  A link to a file that the site lacks leads to its first page.
  """
  shown, pages = set(), {(ROOT / source).resolve(): name for name, source in ELSEWHERE.items()}

  def link(match: re.Match) -> str:
    target = (folder / match[1]).resolve()
    if target in pages:
      return f"]({pages[target]}{match[2] or ''})"
    if target.is_relative_to(ROOT / "docs" / "site"):
      return f"]({target.relative_to(ROOT / 'docs' / 'site')}{match[2] or ''})"
    if target.suffix in (".png", ".webp"):
      shown.add(target)
      return f"]({target.relative_to(ROOT)})"
    return "](index.md)"

  return LINK.sub(link, re.sub(r"<!--.*?-->", "", text)), shown
