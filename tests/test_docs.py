"""Pages that quote results say what the results say, and no link of any page leads nowhere."""

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
PAGE = (REPOSITORY / "docs" / "claims.md").read_text()
COLUMNS = ("digits", "cifar10_16")
PAGES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/claims.md")


def load_script():
  spec = importlib.util.spec_from_file_location("tables", SCRIPT)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


tables = load_script()


def means(study, name):
  rows = json.loads((RESULTS / study / "headline.json").read_text())
  return [row[name][0] for row in rows]


def quoted():
  """Yield study, statement, data and cell of the table of claims."""
  study = None
  for line in PAGE.splitlines():
    cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip("|"))]
    if line.startswith("`configs/"):
      study = re.search(r"configs/(\w+)\.py", line)[1]
    elif study and line.startswith("| ") and len(cells) == 6 and cells[0] != "Claim":
      yield from ((study, cells[0], data, cell) for data, cell in zip(COLUMNS, cells[4:]))


def test_no_page_is_stale():
  for path, text in tables.files().items():
    assert path.read_text() == text, f"{path.name}: run `python docs/tables.py`"


def test_the_table_holds_every_claim_that_was_decided():
  found = {(study, statement, data): cell for study, statement, data, cell in quoted() if cell != "–"}
  decided = {}
  for path in RESULTS.glob("*/*/claims.json"):
    for row in json.loads(path.read_text()):
      said = row["verdict"]
      if row["value"] is None:
        said += f": {row['why']}"
      else:
        value = " ".join(f"{x:.3f}" for x in row["value"]).replace("-0.000", "0.000").split()
        said = f"{said} {value[0]} [{value[1]}, {value[2]}]".replace("-", "−")
      decided[path.parts[-3], row["claim"], path.parts[-2]] = said
  assert len(decided) > 30
  assert {key: cell.replace("*", "") for key, cell in found.items()} == decided


def test_what_does_not_hold_is_explained_with_numbers_that_say_so():
  text, gap = " ".join(PAGE.split()), "RMSE to gaussian at σ = 0.47"
  width, time = means("capacity/digits", gap), means("training_time/digits", gap)
  assert f"rises with width from {width[0]:.3f} to {width[-1]:.3f}" in text and width == sorted(width)
  assert f"falls from {time[0]:.3f} to {min(time):.3f} in training and rises to {time[-1]:.3f}" in text
  assert time[0] > time[-1] > min(time)
  narrow, *others = means("capacity/cifar10_16", gap)
  assert f"the nearest there, at {narrow:.3f}" in text and narrow < min(others)
  assert max(others) - min(others) < (min(others) - narrow) / 2, "the others are alike"
  copies = means("dataset_size/cifar10_16", "memorized share")
  score = means("dataset_size/cifar10_16", "GL score")
  assert copies[0] > 0 and not any(copies[1:])
  assert f"the score goes down from {score[1]:.3f} to {score[-1]:.3f}" in text and score[1] > score[-1]


@pytest.fixture
def results(tmp_path):
  """Return a copy of the results' claims and headlines that a test may change."""
  for path in [*RESULTS.glob("*/*/*.json"), RESULTS / "digits" / "headline.json"]:
    copy = tmp_path / "results" / path.relative_to(RESULTS)
    copy.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(path, copy)
  return tmp_path / "results"


def change(results, study, statement, **changes):
  """Change the row of a claim, on all data."""
  paths = list(results.glob(f"{study}/*/claims.json"))
  assert paths
  for path in paths:
    rows = json.loads(path.read_text())
    assert any(row["claim"].startswith(statement) for row in rows)
    rows = [row | changes if row["claim"].startswith(statement) else row for row in rows]
    path.write_text(json.dumps(rows))


def test_a_claim_that_does_not_hold_wants_an_explanation(results):
  change(results, "input_law", "Distilled on noisy training", verdict="does not hold")
  with pytest.raises(ValueError, match="does not say why: Distilled on noisy training"):
    tables.claims_page(results, TEMPLATE)


def test_a_claim_that_holds_wants_none(results):
  change(results, "capacity", "On a small training set, wider networks lie", verdict="holds")
  with pytest.raises(ValueError, match="'width leaves' does not hold, and no result says"):
    tables.claims_page(results, TEMPLATE)


def test_a_claim_without_a_value_says_why(results):
  why = "c4: it has no derivatives"
  change(results, "capacity", "On a small training set, wider", value=None, verdict="not decided", why=why)
  template = TEMPLATE.replace('"width leaves"', '"width leaves", "width memorizes"')
  page = tables.claims_page(results, template)
  assert page.count(f"| not decided: {why} | not decided: {why} |") == 2


def test_a_study_without_a_title_is_refused(results):
  (results / "new" / "digits").mkdir(parents=True)
  (results / "new" / "digits" / "claims.json").write_text("[]")
  with pytest.raises(ValueError, match="new/digits/claims.json` is of a study"):
    tables.decided(results)


def test_a_block_without_a_name_is_refused():
  with pytest.raises(ValueError, match="'headlin'; known: headline, verdicts"):
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

  assert run("--check") == (0, "")
  readme = (root / "README.md").read_text()
  number = f"{means('digits', 'GL score')[0]:.3f}"
  assert number in readme
  (root / "README.md").write_text(readme.replace(number, "0.999"))
  assert run("--check") == (1, "README.md is not what the results say\n")
  assert run() == (0, "README.md written\n")
  assert (root / "README.md").read_text() == readme


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
  path = REPOSITORY / page
  for link in re.findall(r"\]\((?!https?:)([^)#]+)\)", path.read_text()):
    assert (path.parent / link).exists(), link
