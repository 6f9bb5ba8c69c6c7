"""Pages that quote results say what the results say, claims are as registered, and no link leads nowhere."""

import importlib.util
import json
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

REPOSITORY = pathlib.Path(__file__).parents[1]
RESULTS = REPOSITORY / "results"
SCRIPT = REPOSITORY / "docs" / "tables.py"
TEMPLATE = (REPOSITORY / "docs" / "claims.template.md").read_text()
COLUMNS = ("digits", "cifar10_16")
PAGES = (
  "README.md",
  "CONTRIBUTING.md",
  "CHANGELOG.md",
  "docs/claims.md",
  "docs/registered.md",
)


def load_script():
  spec = importlib.util.spec_from_file_location("tables", SCRIPT)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


tables = load_script()


def row(name, verdict="holds", value=(0.5, 0.25, 0.75), why="", networks=5, **controls):
  """Return a row of claims.json as `claims.judge` makes it; of controls it is given role and verdict."""
  one = tables.CLAIMS[name]
  return {
    "name": name,
    "claim": one.statement,
    "in the paper": one.source,
    "statistic": one.statistic,
    "holds if": tables.holds_if(one),
    "instead of": one.instead_of,
    "value": value,
    "p": 0.01,
    "rank correlation": None,
    "networks": networks,
    "of": "networks" if one.networks else "this network",
    "verdict": verdict,
    "why": why,
    "controls": {
      control: {"role": role, "value": [0, 0, 0], "verdict": said}
      for control, (role, said) in controls.items()
    },
    "strip": None,
  }


@pytest.fixture
def results(tmp_path):
  """Return a copy of what was explored, and of the headline of the README, with nothing judged yet."""
  shutil.copytree(RESULTS / "exploratory", tmp_path / "results" / "exploratory")
  (tmp_path / "results" / "digits").mkdir()
  shutil.copy(RESULTS / "digits" / "headline.json", tmp_path / "results" / "digits")
  return tmp_path / "results"


def judge(results, study, data, *rows):
  place = results / study / data
  place.mkdir(parents=True, exist_ok=True)
  (place / "claims.json").write_text(json.dumps(rows))


def section(page, title):
  return page.split(f"### {title}\n")[1].split("\n### ")[0].split("\n## ")[0]


def table(text):
  """Return the cells of a table of Markdown, its head and rule left out."""
  found = [line for line in text.splitlines() if line.startswith("|")]
  return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in found[2:]]


# What stands in the repository.


def test_no_page_is_stale():
  for path, text in tables.files().items():
    assert path.read_text() == text, f"{path.name}: run `python docs/tables.py`"


def test_claims_are_what_was_registered():
  text = (REPOSITORY / "docs" / "registered.md").read_text()
  assert tables.registered(text) == text, "run `python docs/tables.py --register`"


def test_the_table_holds_every_claim_that_was_judged():
  page, judged, found = (REPOSITORY / "docs" / "claims.md").read_text(), set(), set()
  for path in RESULTS.glob("*/*/claims.json"):
    judged |= {(path.parts[-3], each["claim"]) for each in json.loads(path.read_text())}
  for study, title in tables.STUDIES.items():
    found |= {(study, cells[0].removeprefix("↳ ")) for cells in table(section(page, title))}
  assert {(study, claim.replace("\\|", "|")) for study, claim in found} == judged


def test_every_study_that_judges_claims_has_a_title():
  configs = {path.stem for path in (REPOSITORY / "configs").glob("*.py")}
  assert {name for name in configs if tables._config(name, "").claims} == set(tables.STUDIES)


# None, some, or all.


def test_the_page_is_whole_before_anything_is_judged(results):
  page = tables.claims_page(results, TEMPLATE)
  assert "No claim has been judged yet." in page and "Of what has been judged, nothing." in page
  assert page.count("Not judged yet. What judges it:") == len(tables.STUDIES)
  assert "judged yet" in tables.ten(tables.decided(results))


def test_every_verdict_is_shown_and_counted(results):
  names = list(tables.CLAIMS)[: len(tables.VERDICTS)]
  rows = [row(name, verdict) for name, verdict in zip(names, tables.VERDICTS)]
  judge(results, "noise_law", "digits", *rows)
  page = tables.claims_page(results, TEMPLATE)
  shown = {
    cells[0].removeprefix("↳ "): cells[4] for cells in table(section(page, "Law of the training noise"))
  }
  for each in rows:
    assert (
      shown[each["claim"]].replace("*", "").startswith(f"{each['verdict']} 0.500 [0.250, 0.750], 5 networks")
    )
  assert tables.counted(tables.decided(results))[0] == ("digits", "6", *"111111")
  assert page.count("Not judged yet. What judges it:") == len(tables.STUDIES) - 1


def test_controls_are_marked_and_those_that_say_otherwise_are_bold():
  controls = {
    "mean": ("negative", "does not hold"),
    "skip": ("negative", "holds"),
    "identity": ("negative", "not decided"),
    "gaussian": ("reference", "holds"),
    "surrogate": ("reference", "does not hold"),
    "untrained": ("negative", "not judged: no result"),
  }
  shown = tables.cell(row("generalizer", "cannot fail here", why="passed by skip", **controls))
  assert shown == (
    "cannot fail here: passed by skip 0.500 [0.250, 0.750], 5 networks · "
    "✓ **c_skip x**, D_G ✗ mean, **surrogate** ? identity – untrained"
  )


def test_values_that_are_not_there():
  assert tables.cell(None) == "–"
  assert (
    tables.cell(row("generalizer", "not decided", None, "n16: no result")) == "not decided: n16: no result"
  )
  assert tables.interval([-0.5, None, None]) == "−0.500 [−∞, ∞]"
  assert tables.interval([-1e-9, -0.25, 0.25]) == "0.000 [−0.250, 0.250]"


def test_a_claim_that_restates_another_stands_below_it():
  names = ["gap falls", "linearity outgrows memory", "linearity rises", "lead grows", "nearest to gaussian"]
  assert tables.below(names) == [
    "gap falls",
    "lead grows",
    "linearity rises",
    "linearity outgrows memory",
    "nearest to gaussian",  # without the one that it restates
  ]


def test_what_does_not_hold_is_listed_with_its_reason_where_one_is_known(results):
  names = ("gl rises", "generalizer", "halves agree")
  judge(results, "dataset_size", "digits", *(row(name, "does not hold") for name in names[:2]), row(names[2]))
  text = tables.claims_page(results, TEMPLATE).split("## What does not hold")[1].split("## Before")[0]
  listed = [f"*{tables.CLAIMS[name].statement}* (size of the training set, digits): 0.500" for name in names]
  assert listed[0] in text and listed[1] in text and listed[2] not in text
  assert text.index(listed[0]) < text.index("the set grows denser") < text.index(listed[1])
  assert "ln σ" not in text


def test_strips_are_shown_where_they_were_drawn(results):
  judge(results, "capacity", "digits", row("width leaves"))
  assert "strips.webp" not in tables.claims_page(results, TEMPLATE)
  place = results / "capacity" / "digits" / "figures"
  place.mkdir()
  (place / "strips.webp").write_bytes(b"")
  page = section(tables.claims_page(results, TEMPLATE), "Width")
  assert "(../results/capacity/digits/figures/strips.webp)" in page


# Before and after.


def test_both_verdicts_stand_where_statistic_or_verdict_changed(results):
  floor, score = row("low-noise floor", "cannot fail here"), row("gl rises")
  judge(results, "dataset_size", "digits", floor, score)
  changed = {
    cells[0]: cells for cells in tables.changes(*map(tables.decided, (results / "exploratory", results)))
  }
  assert changed[floor["claim"]][2].startswith("holds 0.003") and changed[floor["claim"]][5].startswith(
    "cannot fail"
  )
  assert changed[score["claim"]][1] == "rank correlation of the GL score with N"
  assert changed[score["claim"]][4].startswith("slope") and changed[score["claim"]][5].startswith(
    "holds 0.500"
  )
  assert changed[score["claim"]][6] == "not judged yet"
  kept = "At vanishing noise the denoiser is the identity"  # same statistic, not judged again
  assert kept not in changed


def test_an_exploratory_claim_must_be_one_today(results):
  path = results / "exploratory" / "capacity" / "digits" / "claims.json"
  path.write_text(path.read_text().replace("wider networks copy more", "wider networks sing"))
  with pytest.raises(ValueError, match="wider networks sing' is no claim today; want its name in `FORMER`"):
    tables.claims_page(results, TEMPLATE)


def test_a_study_without_a_title_is_refused_unless_it_decides_nothing(results):
  judge(results, "new", "digits")
  assert "new" not in tables.decided(results)
  judge(results, "new", "digits", row("gl rises"))
  with pytest.raises(ValueError, match="new/digits/claims.json` is of a study"):
    tables.decided(results)


# The registration.


def test_a_claim_that_changed_must_be_named_among_the_changes(monkeypatch):
  text = tables.registered("")
  one = tables.CLAIMS["identity"]
  monkeypatch.setitem(tables.CLAIMS, "identity", one._replace(region=(one.region[0], 0.5)))
  with pytest.raises(ValueError, match="'identity' differ from what `docs/registered.md` has"):
    tables.registered(text)
  told = text.replace("None.", "`identity`: below 0.5; before: holds, now: holds.")
  again = tables.registered(told)
  assert "| < 0.5 |" in again and again.endswith("`identity`: below 0.5; before: holds, now: holds.\n")
  monkeypatch.delitem(tables.CLAIMS, "identity")
  with pytest.raises(ValueError, match="'identity' differ"):
    tables.registered(text)


@pytest.mark.parametrize(
  "field", ["region", "band", "over", "controls", "networks", "statistic", "instead_of"]
)
def test_everything_that_decides_a_claim_is_registered(field, monkeypatch):
  text, one = tables.registered(""), tables.CLAIMS["nearest to gaussian"]
  other = {
    "region": (1.0, one.region[1]),
    "band": (0.2, 20.0),
    "over": "worst",
    "controls": {**one.controls, "mean": "reference"},
    "networks": False,
    "statistic": "another",
    "instead_of": "",
  }
  monkeypatch.setitem(tables.CLAIMS, "nearest to gaussian", one._replace(**{field: other[field]}))
  with pytest.raises(ValueError, match="'nearest to gaussian' differ"):
    tables.registered(text)


# README.


def test_the_readme_shows_ten_claims_and_stays_short(results):
  judge(results, "dataset_size", "digits", *map(row, tables.TEN))
  filled = tables.readme(results, (REPOSITORY / "README.md").read_text())
  shown = table(filled.split("<!-- ten -->")[1].split("<!-- /ten -->")[0])
  assert len(shown) == len(tables.TEN) == 10 and len(filled.splitlines()) < 150
  assert all(cells[2:] == ["holds 0.500 [0.250, 0.750]", "not judged yet"] for cells in shown)


def test_a_block_without_a_name_is_refused():
  with pytest.raises(ValueError, match="'headlin'; known: headline, verdicts, ten"):
    tables.readme(RESULTS, "<!-- headlin --><!-- /headlin -->")


@pytest.mark.processes
def test_check_finds_a_number_that_was_typed_and_the_command_mends_it(results):
  root = results.parent
  for name in ("docs", "configs"):
    shutil.copytree(REPOSITORY / name, root / name)
  shutil.copy(REPOSITORY / "README.md", root)

  def run(*arguments):
    command = [sys.executable, "docs/tables.py", *arguments]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=100)
    return done.returncode, done.stdout + done.stderr

  run()
  assert run("--check") == (0, "")
  readme = (root / "README.md").read_text()
  number = f"{json.loads((results / 'digits' / 'headline.json').read_text())[0]['GL score'][0]:.3f}"
  assert number in readme
  (root / "README.md").write_text(readme.replace(number, "0.999"))
  assert run("--check") == (1, "README.md is not what the results say\n")
  assert run() == (0, "README.md written\n")
  assert (root / "README.md").read_text() == readme
  assert run("--register", "--check") == (0, "")


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
  path = REPOSITORY / page
  for link in re.findall(r"\]\((?!https?:)([^)#]+)\)", path.read_text()):
    assert (path.parent / link).exists(), link
