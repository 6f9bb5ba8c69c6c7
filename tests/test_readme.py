"""Every number that the README quotes stands in a committed card."""

import json
import pathlib
import re

import pytest

from gauss_diffusion.readings import headline

REPOSITORY = pathlib.Path(__file__).parents[1]
README = (REPOSITORY / "README.md").read_text()
RESULTS = REPOSITORY / "results"
COLUMNS = ("digits", "cifar10_16")


def quoted():
  """Yield study, statement, data and cell of the table of claims."""
  study = None
  for line in README.splitlines():
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    if line.startswith("| **"):
      study = re.search(r"configs/(\w+)\.py", line)[1]
    elif study and line.startswith("| ") and len(cells) == 5:
      yield from ((study, cells[0], data, cell) for data, cell in zip(COLUMNS, cells[3:]))


def test_the_table_holds_every_claim_that_was_decided():
  found = {(study, statement, data): cell for study, statement, data, cell in quoted() if cell != "–"}
  cards = {}
  for path in RESULTS.glob("*/*/claims.json"):
    for row in json.loads(path.read_text()):
      value = " ".join(f"{x:.3f}" for x in row["value"]).replace("-0.000", "0.000").split()
      cell = f"{row['verdict']} {value[0]} [{value[1]}, {value[2]}]".replace("-", "−")
      cards[path.parts[-3], row["claim"], path.parts[-2]] = cell
  assert len(cards) > 30
  assert {key: cell.replace("*", "") for key, cell in found.items()} == cards


def test_the_main_job_prints_what_the_readme_shows():
  rows = json.loads((RESULTS / "digits" / "headline.json").read_text())
  assert headline.table(rows) in README


def test_what_does_not_hold_is_explained_with_numbers_of_the_cards():
  def means(study, name):
    return [row[name][0] for row in json.loads((RESULTS / study / "headline.json").read_text())]

  text, gap = " ".join(README.split()), "RMSE to gaussian at σ = 0.47"
  width, time = means("capacity/digits", gap), means("training_time/digits", gap)
  assert f"rises with width from {width[0]:.3f} to {width[-1]:.3f}" in text
  assert f"falls from {time[0]:.3f} to {min(time):.3f} in training and rises to {time[-1]:.3f}" in text
  copies = means("dataset_size/cifar10_16", "memorized share")
  score = means("dataset_size/cifar10_16", "GL score")
  assert copies[0] > 0 and not any(copies[1:])
  assert f"the score goes down from {score[1]:.3f} to {score[-1]:.3f}" in text


@pytest.mark.parametrize("link", re.findall(r"\]\((?!https?:)([^)#]+)\)", README))
def test_links_lead_somewhere(link):
  assert (REPOSITORY / link).exists()
