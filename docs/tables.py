"""Write docs/claims.md and the marked blocks of README.md from the results that are committed.

    python docs/tables.py
    python docs/tables.py --check
    python docs/tables.py --register

The second writes nothing, and exits with 1 where the files are not what the results say. The third writes
docs/registered.md, what the claims are before they are judged. Nobody types a number: prose stands in
``claims.template.md``, and asks for its numbers by name.
"""

import argparse
import functools
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
from gauss_diffusion.readings.claims import CLAIMS, ERROR_RATE, claim, holds_if, verdicts
from gauss_diffusion.study import members, recipes

ROOT = pathlib.Path(__file__).parents[1]
STUDIES = {
  "dataset_size": "Size of the training set",
  "gaussian_structure": "One well-trained network",
  "capacity": "Width",
  "training_time": "Training time",
  "transition": "Size and time together",
  "strong_generalization": "Disjoint halves",
  "architectures": "Architectures",
  "perturbation": "Perturbation",
  "input_law": "Law of the inputs",
  "noise_law": "Law of the training noise",
}
# Folder of results/STUDY -> what prose calls the data; the variant of a config that takes them.
DATA = {"digits": "digits", "cifar10_16": "CIFAR-10 at 16 × 16"}
VARIANTS = {"digits": "digits", "cifar10_16": "cpu"}
VERDICTS = (
  verdicts.HOLDS,
  verdicts.FAILS,
  verdicts.OPEN,
  verdicts.FEW,
  verdicts.CANNOT_FAIL,
  verdicts.CANNOT_HOLD,
)
CONTROLS = {"skip": "c_skip x", "gaussian": "D_G", "multi-delta": "D_M", "linear": "D_L"}  # in prose
MARKS = {verdicts.HOLDS: "✓", verdicts.FAILS: "✗", verdicts.OPEN: "?"}
# Exploratory claims whose statement is another today -> the claim.
FORMER = {
  "The weights of the best affine map are those of the Gaussian denoiser at most noise levels": "weights",
  "The singular vectors of the best affine map are the principal components for σ ≥ 0.11": "subspaces",
  "A network trained too long on few images denoises unseen images worse than at its best": "time overfits",
  "Distilled on held-out images, the network with the most images looks more Gaussian than the memorizer": (
    "held-out images tell"
  ),
}
# What README shows of all claims, and what each means.
TEN = {
  "nearest to gaussian": "with many images a network has learned what D_G knows, or comes near it",
  "beyond gaussian": "yet it knows more than these two moments",
  "memorizer": "with few images it is its images that it knows",
  "linearity outgrows memory": "more images make it more linear, and not only because any denoiser would be",
  "lead grows": "and they make it more Gaussian",
  "linear is gaussian": "how near the linear part of a network comes to D_G, at every noise level",
  "time turns": "early stopping would find a nearly Gaussian network",
  "stopping helps both": "stopped early, networks of few images agree, and that costs nothing",
  "halves agree": "networks that share no image draw the same pictures",
  "held-out images tell knowledge": "distilled on held-out images, memory and knowledge part",
}
ELSEWHERE = ("speed",)  # blocks that `python -m benchmarks.table` fills
REGISTERED_ON, EXPLORATORY_SEED = "2026-11-24", 0
SINCE = "## Changes since"

ENVIRONMENT = jinja2.Environment(
  undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
)

Row = dict[str, Any]  # of a claims.json
Decided = dict[str, dict[str, list[Row]]]  # study -> data -> its claims


def decided(results: pathlib.Path) -> Decided:
  """Return the claims of every study as they were decided.

  Args:
    results: a folder with ``STUDY/DATA/claims.json``, of as many as there are.

  Raises:
    ValueError: when it holds a study or data that have no name here.
  """
  found: Decided = {study: {} for study in STUDIES}
  for path in sorted(results.glob("*/*/claims.json")):
    study, data = path.parts[-3:-1]
    if not json.loads(path.read_text()):
      continue  # a study that decides nothing
    if study not in STUDIES or data not in DATA:
      raise ValueError(
        f"`{path}` is of a study or of data that `STUDIES`, `DATA` do not name; want a title there"
      )
    found[study][data] = json.loads(path.read_text())
  return found


def cell(row: Row | None) -> str:
  """Return how a claim was decided: verdict, value, networks, controls; a dash where it was not asked."""
  if row is None:
    return "–"
  said = f"**{row['verdict']}**" if row["verdict"] == verdicts.HOLDS else row["verdict"]
  if row["why"]:
    said += f": {row['why']}"
  if row["value"] is None:
    return said
  said += f" {interval(row['value'])}"
  if row.get("networks", 1) > 1:
    said += f", {row['networks']} networks"
  controls = marked(row.get("controls", {}))
  return f"{said} · {controls}" if controls else said


def interval(value: list[float | None]) -> str:
  """Return a value with its interval, ``0.964 [0.960, 0.968]``; an end that is not there is infinite."""
  mean, low, high = value
  ends = ("−∞" if low is None else f"{low:z.3f}", "∞" if high is None else f"{high:z.3f}")
  return f"{mean:z.3f} [{ends[0]}, {ends[1]}]".replace("-", "−")


def marked(controls: dict[str, Row]) -> str:
  """Return what a claim says of controls, ``✓ D_G ✗ mean, identity``; in bold where it should say otherwise.

  ✓ it holds of them, ✗ it does not, ? undecided, – not judged.
  """
  groups: dict[str, list[str]] = {}
  for name, row in controls.items():
    mark = MARKS.get(row["verdict"], "–")
    wrong = (row["role"], mark) in {(claim.MUST_NOT_PASS, "✓"), (claim.MUST_PASS, "✗")}
    title = CONTROLS.get(name, name)
    groups.setdefault(mark, []).append(f"**{title}**" if wrong else title)
  return " ".join(f"{mark} {', '.join(groups[mark])}" for mark in "✓✗?–" if mark in groups)


def lines(found: dict[str, list[Row]]) -> list[tuple[str, ...]]:
  """Return a study's claims as rows of cells, each restated claim right below the one that it restates."""
  by_name: dict[str, dict[str, Row]] = {}
  for data, rows in found.items():
    for row in rows:
      by_name.setdefault(row["name"], {})[data] = row
  table = []
  for name in below(list(by_name)):
    by_data = by_name[name]
    first = next(iter(by_data.values()))
    restates = "↳ " if first["instead of"] in by_name else ""
    cells = [restates + first["claim"], first["in the paper"], first["statistic"], minus(first["holds if"])]
    table.append(escaped(*cells, *(cell(by_data.get(data)) for data in DATA)))
  return table


def below(names: list[str]) -> list[str]:
  """Return names of claims in their order, restated ones right below those that they restate."""
  ordered = [name for name in names if CLAIMS[name].instead_of not in names]
  for name in names:
    if name not in ordered:
      ordered.insert(ordered.index(CLAIMS[name].instead_of) + 1, name)
  return ordered


def changes(before: Decided, now: Decided) -> list[tuple[str, ...]]:
  """Return claims whose statistic or verdict is another than when they were explored, as rows of cells.

  Raises:
    ValueError: when an exploratory claim is none today, and `FORMER` does not say which it became.
  """
  today = {each.statement: name for name, each in CLAIMS.items()}
  found: dict[tuple[str, str], dict[str, Row]] = {}
  for study, data, row in _rows(before):
    name = FORMER.get(row["claim"], today.get(row["claim"]))
    if name is None:
      raise ValueError(f"{row['claim']!r} is no claim today; want its name in `FORMER`")
    found.setdefault((study, name), {})[data] = row
  table = []
  for (study, name), by_data in found.items():
    after = {data: {row["name"]: row for row in rows}.get(name) for data, rows in now[study].items()}
    then = next(iter(by_data.values()))["statistic"]
    statistic = next((row["statistic"] for row in after.values() if row), CLAIMS[name].statistic)
    verdict = {data: row["verdict"] for data, row in after.items() if row}
    if then != statistic or any(by_data[data]["verdict"] != said for data, said in verdict.items()):
      cells = [CLAIMS[name].statement, then, *(_brief(by_data.get(data), "–") for data in DATA)]
      cells += [statistic, *(_brief(after.get(data), "not judged yet") for data in DATA)]
      table.append(escaped(*cells))
  return table


def counted(found: Decided) -> list[tuple[str, ...]]:
  """Return how many claims have which verdict on each data set, as rows of cells."""
  table = []
  for data, title in DATA.items():
    said = [row["verdict"] for _, of, row in _rows(found) if of == data]
    table.append((title, str(len(said)), *(str(said.count(verdict)) for verdict in VERDICTS)))
  return table


def tally(found: Decided) -> str:
  """Return how many claims have which verdict, as a sentence."""
  parts = []
  for data, title in DATA.items():
    said = [row["verdict"] for _, of, row in _rows(found) if of == data]
    if said:
      counts = [_counted(said.count(verdict), verdict) for verdict in VERDICTS if verdict in said]
      parts.append(f"of {len(said)} claims on {title}: {', '.join(counts)}")
  text = "; ".join(parts) or "no claim has been judged yet"
  return f"{text[0].upper()}{text[1:]}."


def _counted(number: int, verdict: str) -> str:
  several = {verdicts.HOLDS: "hold", verdicts.FAILS: "do not hold"}
  return f"{number} {several.get(verdict, verdict) if number > 1 else verdict}"


def claims_page(results: pathlib.Path, template: str) -> str:
  """Return docs/claims.md.

  Args:
    results: a folder with ``STUDY/DATA/claims.json``, where there are any, and ``exploratory/STUDY/DATA``.
    template: of jinja; what it can ask for is the dict below.

  Raises:
    ValueError: when it asks for something that the results lack.
  """
  found, explained = decided(results), set()

  def fails(*names: str) -> str:
    """List claims that do not hold on some data; empty when all do. Prose that says why may follow."""
    explained.update(names)
    return "\n".join(bullet for name in names for bullet in _failures(found, name))

  strips = [(study, data) for study in STUDIES for data in DATA if (results / _strips(study, data)).exists()]
  return ENVIRONMENT.from_string(template).render(
    studies=[(study, title, lines(found[study])) for study, title in STUDIES.items()],
    strips={
      study: [(DATA[data], _strips(study, data)) for of, data in strips if of == study] for study in STUDIES
    },
    titles=list(DATA.values()),
    commands={study: [command(study, data) for data in DATA] for study in STUDIES},
    changes=changes(decided(results / "exploratory"), found),
    counted=counted(found),
    verdicts=VERDICTS,
    tally=tally(found),
    fails=fails,
    others=lambda: "\n".join(
      bullet for name in CLAIMS if name not in explained for bullet in _failures(found, name)
    ),
    images_seen=_images_seen,
    one_in=_one_in,
    p_mean=f"{edm.P_MEAN:g}".replace("-", "−"),
    p_std=f"{edm.P_STD:g}",
    enough=verdicts.ENOUGH,
    error_rate=_percent(ERROR_RATE),
    confidence=_percent(verdicts.CONFIDENCE),
  )


def command(study: str, data: str) -> str:
  """Return the commands that judge a study, and keep what it finds."""
  run = f"runs/{study}_{data}"
  return (
    f"python -m gauss_diffusion.main --config=configs/{study}.py:{VARIANTS[data]} --workdir={run}\n"
    f"python -m gauss_diffusion.keep {run} results/{study}/{data}"
  )


def ten(found: Decided) -> str:
  """Return the README's rows: what is claimed, what it means, how it was decided."""
  rows = {data: {} for data in DATA}
  for _, data, row in _rows(found):
    rows[data].setdefault(row["name"], row)
  if not any(rows.values()):
    return "\nNone has been judged yet; [docs/claims.md](docs/claims.md) has the commands that judge them.\n"
  table = [("Claim", "If so,", *DATA.values()), ("---",) * (2 + len(DATA))]
  for name, meaning in TEN.items():
    told = [_brief(rows[data].get(name), "not judged yet") for data in DATA]
    table.append(escaped(CLAIMS[name].statement, meaning, *told))
  return "\n" + "".join(f"| {' | '.join(cells)} |\n" for cells in table)


def readme(results: pathlib.Path, text: str) -> str:
  """Return the README with its blocks, ``<!-- NAME -->…<!-- /NAME -->``, as the results have them."""
  rows, found = json.loads((results / "digits" / "headline.json").read_text()), decided(results)
  blocks = {
    "headline": f"\n```text\n{headline.table(rows)}\nreport: runs/digits/report.html\n```\n",
    "verdicts": tally(found),
    "ten": ten(found),
  }

  def fill(block: re.Match) -> str:
    if block[1] in ELSEWHERE:
      return block[0]
    if block[1] not in blocks:
      raise ValueError(f"README.md has a block {block[1]!r}; known: {', '.join(blocks)}")
    return f"<!-- {block[1]} -->{blocks[block[1]]}<!-- /{block[1]} -->"

  return re.sub(r"<!-- (\w+) -->.*?<!-- /\1 -->", fill, text, flags=re.DOTALL)


def registered(before: str) -> str:
  """Return docs/registered.md.

  Args:
    before: what it holds now, empty for nothing; its section of changes is kept.

  Raises:
    ValueError: when a claim is another than it was, and the section of changes doesn't name it.
  """
  head, _, since = before.partition(SINCE)
  rows = {name: _registration(name) for name in CLAIMS}
  old = {line.split("`")[1]: line for line in head.splitlines() if line.startswith("| `")}
  since = since or "\n\nNone.\n"
  changed = [name for name in {**old, **rows} if old and old.get(name) != rows.get(name)]
  if silent := [name for name in changed if f"`{name}`" not in since]:
    raise ValueError(
      f"{', '.join(map(repr, silent))} differ from what `docs/registered.md` has; say what changed in its "
      f"section {SINCE[3:]!r}, with both verdicts, or, before anything was judged, delete the file"
    )
  seeds = {_config(study, variant).seed for study in STUDIES for variant in VARIANTS.values()}
  replicates = " and ".join(
    f"{recipes.REPLICATES[VARIANTS[data]]} on {title}" for data, title in DATA.items()
  )
  template = (ROOT / "docs" / "registered.template.md").read_text()
  return ENVIRONMENT.from_string(template).render(
    date=REGISTERED_ON,
    exploratory=EXPLORATORY_SEED,
    judged=", ".join(map(str, sorted(seeds))),
    stride=f"{members.STRIDE:,}",
    replicates=replicates,
    enough=verdicts.ENOUGH,
    few=verdicts.FEW,
    cannot_fail=verdicts.CANNOT_FAIL,
    cannot_hold=verdicts.CANNOT_HOLD,
    confidence=_percent(verdicts.CONFIDENCE),
    error_rate=_percent(ERROR_RATE),
    rounding=f"{verdicts.ROUNDING:g}".replace("-", "−"),
    rows=list(rows.values()),
    since=f"{SINCE}{since}",
  )


def files() -> dict[pathlib.Path, str]:
  """Return what should stand in each file that quotes results."""
  results, template = ROOT / "results", (ROOT / "docs" / "claims.template.md").read_text()
  return {
    ROOT / "docs" / "claims.md": claims_page(results, template),
    ROOT / "README.md": readme(results, (ROOT / "README.md").read_text()),
  }


def minus(text: str) -> str:
  """Return text with minus signs."""
  return text.replace("-", "−")


def escaped(*cells: str) -> tuple[str, ...]:
  """Return cells of a table in Markdown."""
  return tuple(text.replace("|", r"\|") for text in cells)


def _registration(name: str) -> str:
  one = CLAIMS[name]
  levels = "–" if one.band is None else f"{one.over} of {measures.spelled(one.band)}"
  by_role = [
    ", ".join(CONTROLS.get(control, control) for control, of in one.controls.items() if of == role) or "–"
    for role in (claim.MUST_NOT_PASS, claim.MUST_PASS)
  ]
  where = ", ".join(study for study in STUDIES if name in _config(study, "digits").claims) or "–"
  cells = (
    one.statement,
    one.statistic,
    minus(holds_if(one)),
    levels,
    "networks" if one.networks else "this network",
    *by_role,
    one.instead_of or "–",
    where,
  )
  return f"| `{name}` | {' | '.join(escaped(*cells))} |"


def _rows(found: Decided):
  for study, by_data in found.items():
    for data, rows in by_data.items():
      yield from ((study, data, row) for row in rows)


def _brief(row: Row | None, none: str) -> str:
  if row is None:
    return none
  return row["verdict"] if row["value"] is None else f"{row['verdict']} {interval(row['value'])}"


def _failures(found: Decided, name: str) -> list[str]:
  rows = [
    f"- *{row['claim']}* ({STUDIES[study].lower()}, {DATA[data]}): {interval(row['value'])}, "
    f"and it holds if {minus(row['holds if'])}."
    for study, data, row in _rows(found)
    if row["name"] == name and row["verdict"] == verdicts.FAILS
  ]
  return rows


def _strips(study: str, data: str) -> str:
  return f"{study}/{data}/figures/strips.webp"


@functools.cache
def _config(study: str, variant: str):
  return runpy.run_path(str(ROOT / "configs" / f"{study}.py"))["get_config"](variant)


def _images_seen(study: str, variant: str) -> int:
  """Return how many images the network of a study that is trained longest sees."""
  return max(model.train.steps * model.train.batch for model in _config(study, variant).models.values())


def _one_in(sigma: float) -> float:
  """Return one over the share of training images with more noise than `sigma`: ln σ is normal."""
  return 2 / math.erfc((math.log(sigma) - edm.P_MEAN) / edm.P_STD / math.sqrt(2))


def _percent(share: float) -> str:
  return f"{share:.0%}".replace("%", " %")


def _rounded(value: float, digits: int) -> str:
  return f"{float(f'{value:.{digits}g}'):,.0f}"


def main() -> int:
  """Write the files, or compare them; returns the exit code."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 where a file differs")
  parser.add_argument("--register", action="store_true", help="write docs/registered.md instead")
  flags = parser.parse_args()
  page = ROOT / "docs" / "registered.md"
  try:
    wanted = {page: registered(page.read_text() if page.exists() else "")} if flags.register else files()
  except ValueError as reason:
    print(f"error: {reason}", file=sys.stderr)
    return 1
  stale = [path for path, text in wanted.items() if not path.exists() or path.read_text() != text]
  for path in stale:
    if not flags.check:
      path.write_text(wanted[path])
    print(f"{path.relative_to(ROOT)} {'is not what the results say' if flags.check else 'written'}")
  return int(flags.check and bool(stale))


ENVIRONMENT.filters |= {"thousands": "{:,}".format, "rounded": _rounded}

if __name__ == "__main__":
  sys.exit(main())
