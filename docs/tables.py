"""Write docs/claims.md and the marked blocks of README.md from the results that are committed.

    python docs/tables.py
    python docs/tables.py --check

The second writes nothing, and exits with 1 where the files are not what the results say. Nobody types a
number: prose stands in ``claims.template.md``, and asks for its numbers by name.
"""

import argparse
import json
import math
import pathlib
import re
import runpy
import sys
from typing import Any

import jinja2

from gauss_diffusion import edm
from gauss_diffusion.readings import headline, measures
from gauss_diffusion.readings.claims import CLAIMS

ROOT = pathlib.Path(__file__).parents[1]
STUDIES = {
  "dataset_size": "Size of the training set",
  "gaussian_structure": "One well-trained network",
  "capacity": "Width",
  "training_time": "Training time",
  "strong_generalization": "Disjoint halves",
  "architectures": "Architectures",
  "perturbation": "Perturbation",
  "input_law": "Law of the inputs",
}
DATA = {
  "digits": "digits",
  "cifar10_16": "CIFAR-10 at 16 × 16",
}  # folder of results/STUDY -> what prose calls it

Row = dict[str, Any]  # of a claims.json
Decided = dict[str, dict[str, list[Row]]]  # study -> data -> its claims


def decided(results: pathlib.Path) -> Decided:
  """Return the claims of every study as they were decided.

  Args:
    results: a folder with ``STUDY/DATA/claims.json``.

  Raises:
    ValueError: when it holds a study or data that have no name here.
  """
  found: Decided = {study: {} for study in STUDIES}
  for path in sorted(results.glob("*/*/claims.json")):
    study, data = path.parts[-3:-1]
    if study not in STUDIES or data not in DATA:
      raise ValueError(
        f"`{path}` is of a study or of data that `STUDIES`, `DATA` do not name; want a title there"
      )
    found[study][data] = json.loads(path.read_text())
  return found


def cell(row: Row | None) -> str:
  """Return verdict and value of a claim, ``**holds** 0.964 [0.960, 0.968]``; a dash where there is none."""
  if row is None:
    return "–"
  verdict = f"**{row['verdict']}**" if row["verdict"] == "holds" else row["verdict"]
  if row["value"] is None:
    return f"{verdict}: {row['why']}"
  mean, low, high = (f"{x:z.3f}".replace("-", "−") for x in row["value"])
  return f"{verdict} {mean} [{low}, {high}]"


def lines(found: dict[str, list[Row]]) -> list[tuple[str, ...]]:
  """Return a study's claims as rows of cells: statement, figure, statistic, where it must lie, verdicts."""
  by_claim: dict[str, dict[str, Row]] = {}
  for data, rows in found.items():
    for row in rows:
      by_claim.setdefault(row["claim"], {})[data] = row
  table = []
  for claim, by_data in by_claim.items():
    first = next(iter(by_data.values()))
    cells = [claim, first["in the paper"], first["statistic"], first["holds if"].replace("-", "−")]
    cells += [cell(by_data.get(data)) for data in DATA]
    table.append(tuple(text.replace("|", r"\|") for text in cells))
  return table


def tally(found: Decided) -> str:
  """Return how many claims hold, on each data set, as a sentence."""
  parts = []
  for data, title in DATA.items():
    verdicts = [row["verdict"] for _, of, row in _rows(found) if of == data]
    num = {verdict: verdicts.count(verdict) for verdict in ("holds", "does not hold", "not decided")}
    rest = f"{num['does not hold']} do not, {num['not decided']} not decided"
    parts.append(f"on {title}, {num['holds']} of {len(verdicts)} claims hold ({rest})")
  text = "; ".join(parts)
  return f"{text[0].upper()}{text[1:]}."


def claims_page(results: pathlib.Path, template: str) -> str:
  """Return docs/claims.md.

  Args:
    results: a folder with ``STUDY/DATA/claims.json`` and ``headline.json``.
    template: of jinja; what it can ask for is the dict below.

  Raises:
    ValueError: when it says why a claim does not hold that holds, or leaves one out that does not, or asks
      for something that the results lack.
  """
  found, explained = decided(results), set()

  def unsettled(*names: str) -> str:
    """List claims that do not hold, or are not decided, on some data; prose that says why must follow."""
    bullets = []
    for name in names:
      statement = CLAIMS[name].statement
      rows = [(data, row) for _, data, row in _rows(found) if row["claim"] == statement]
      rows.sort(key=lambda pair: list(DATA).index(pair[0]))
      open_on = [f"{row['verdict']} on {DATA[data]}" for data, row in rows if row["verdict"] != "holds"]
      if not open_on:
        raise ValueError(f"the template says why {name!r} does not hold, and no result says that it does not")
      explained.add(statement)
      bullets.append(f"- *{statement}*: {', '.join(open_on)}.")
    return "\n".join(bullets)

  def models(place: str) -> list[str]:
    """Return the titles of the models of ``STUDY/DATA``."""
    return [row["model"] for row in json.loads((results / place / "headline.json").read_text())]

  def means(place: str, name: str) -> list[float]:
    """Return one headline number of every model of ``STUDY/DATA``, by how its name begins."""
    rows = json.loads((results / place / "headline.json").read_text())
    names = [key for key in rows[0] if key.startswith(name)]
    if len(names) != 1:
      raise ValueError(f"`{place}/headline.json` has {len(names)} numbers that begin with {name!r}; want one")
    return [row[names[0]][0] for row in rows]

  environment = jinja2.Environment(
    undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
  )
  environment.filters |= {"f3": "{:.3f}".format, "thousands": "{:,}".format, "rounded": _rounded}
  page = environment.from_string(template).render(
    studies=[(study, title, lines(found[study])) for study, title in STUDIES.items()],
    titles=list(DATA.values()),
    tally=tally(found),
    unsettled=unsettled,
    models=models,
    means=means,
    images_seen=_images_seen,
    one_in=_one_in,
    p_mean=f"{edm.P_MEAN:g}".replace("-", "−"),
    p_std=f"{edm.P_STD:g}",
    sigma=headline.SIGMA,
    middle=measures.spelled(measures.MIDDLE),
  )
  open_claims = {row["claim"] for _, _, row in _rows(found) if row["verdict"] != "holds"}
  if open_claims - explained:
    raise ValueError(f"the template does not say why: {'; '.join(sorted(open_claims - explained))}")
  return page


def readme(results: pathlib.Path, text: str) -> str:
  """Return the README with its blocks, ``<!-- NAME -->…<!-- /NAME -->``, as the results have them."""
  rows = json.loads((results / "digits" / "headline.json").read_text())
  blocks = {
    "headline": f"\n```text\n{headline.table(rows)}\nreport: runs/digits/report.html\n```\n",
    "verdicts": tally(decided(results)),
  }

  def fill(block: re.Match) -> str:
    if block[1] not in blocks:
      raise ValueError(f"README.md has a block {block[1]!r}; known: {', '.join(blocks)}")
    return f"<!-- {block[1]} -->{blocks[block[1]]}<!-- /{block[1]} -->"

  return re.sub(r"<!-- (\w+) -->.*?<!-- /\1 -->", fill, text, flags=re.DOTALL)


def files() -> dict[pathlib.Path, str]:
  """Return what should stand in each file that quotes results."""
  results, template = ROOT / "results", (ROOT / "docs" / "claims.template.md").read_text()
  return {
    ROOT / "docs" / "claims.md": claims_page(results, template),
    ROOT / "README.md": readme(results, (ROOT / "README.md").read_text()),
  }


def _rows(found: Decided):
  for study, by_data in found.items():
    for data, rows in by_data.items():
      yield from ((study, data, row) for row in rows)


def _images_seen(study: str, variant: str) -> int:
  """Return how many images the network of a study that is trained longest sees."""
  config = runpy.run_path(str(ROOT / "configs" / f"{study}.py"))["get_config"](variant)
  return max(model.train.steps * model.train.batch for model in config.models.values())


def _one_in(sigma: float) -> float:
  """Return one over the share of training images with more noise than `sigma`: ln σ is normal."""
  return 2 / math.erfc((math.log(sigma) - edm.P_MEAN) / edm.P_STD / math.sqrt(2))


def _rounded(value: float, digits: int) -> str:
  return f"{float(f'{value:.{digits}g}'):,.0f}"


def main() -> int:
  """Write the files, or compare them; returns the exit code."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 where a file differs")
  check = parser.parse_args().check
  try:
    wanted = files()
  except ValueError as reason:
    print(f"error: {reason}", file=sys.stderr)
    return 1
  stale = [path for path, text in wanted.items() if not path.exists() or path.read_text() != text]
  for path in stale:
    if not check:
      path.write_text(wanted[path])
    print(f"{path.relative_to(ROOT)} {'is not what the results say' if check else 'written'}")
  return int(check and bool(stale))


if __name__ == "__main__":
  sys.exit(main())
