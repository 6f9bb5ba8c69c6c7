"""Every study of the paper, whole, on a few digits: the `:smoke` of each config, run as its user runs it."""

import json
import pathlib
import subprocess
import sys

import pytest

from configs import (
  architectures,
  capacity,
  cifar_small,
  dataset_size,
  digits,
  explained,
  external,
  gaussian_structure,
  geometry,
  guidance,
  imported,
  input_law,
  perturbation,
  strong_generalization,
  training_time,
)
from gauss_diffusion.readings.claims import CLAIMS
from gauss_diffusion.readings.claims.verdicts import CANNOT_FAIL, CANNOT_HOLD, FAILS, FEW, HOLDS, OPEN
from gauss_diffusion.study import check

pytestmark = pytest.mark.studies
REPOSITORY = pathlib.Path(__file__).parents[1]
STUDIES = {
  "architectures": architectures,
  "capacity": capacity,
  "dataset_size": dataset_size,
  "explained": explained,
  "gaussian_structure": gaussian_structure,
  "geometry": geometry,
  "guidance": guidance,
  "input_law": input_law,
  "perturbation": perturbation,
  "strong_generalization": strong_generalization,
  "training_time": training_time,
}
UNJUDGED = ("explained", "geometry", "guidance")  # they measure, and decide no claim
OFTEN = ("gaussian_structure", "strong_generalization")  # the others with --long
VERDICTS = (HOLDS, FAILS, OPEN, FEW, CANNOT_FAIL, CANNOT_HOLD)


def run(name, workdir):
  command = [sys.executable, "-m", "gauss_diffusion.main", f"--config=configs/{name}.py:smoke"]
  command.append(f"--workdir={workdir}")
  done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=500)
  assert done.returncode == 0, done.stderr
  return done.stdout


@pytest.mark.parametrize(
  "name", [name if name in OFTEN else pytest.param(name, marks=pytest.mark.long) for name in STUDIES]
)
def test_a_look_at_everything(name, tmp_path):
  config = STUDIES[name].get_config("smoke")
  printed = run(name, tmp_path)
  rows = json.loads((tmp_path / "claims.json").read_text())
  assert [row["claim"] for row in rows] == [CLAIMS[claim].statement for claim in config.claims]
  for row in rows:
    assert row["verdict"] in VERDICTS and row["claim"] in printed
    value, low, high = row["value"]
    assert low is high is None or low <= value <= high
  page = (tmp_path / "report.html").read_text()
  for figure in (*config.analyses, *config.figures, "training"):
    assert (tmp_path / "figures" / f"{figure}.png").stat().st_size > 10_000
    assert f'id="{figure}"' in page
  assert ("The paper's claims" in page) == bool(rows)


@pytest.mark.parametrize("name", STUDIES)
@pytest.mark.parametrize("arg", ["", "cpu", "digits", "smoke"])
def test_every_variant_passes_its_own_checks(name, arg):
  small = ((8, 8, 1), 1_437, 360)
  few = 10_000 if name == "gaussian_structure" else 2_000  # its weights are compared one by one
  cifar = {"": ((32, 32, 3), 50_000, 10_000), "cpu": ((16, 16, 3), 50_000, few)}
  shape, pool, held_out = cifar.get(arg, small)
  config = STUDIES[name].get_config(arg)
  check.check(config, shape, pool, held_out, num_classes=10)
  assert config.data.held_out == held_out and config.models
  assert bool(config.claims) == (name not in UNJUDGED)
  assert json.loads(config.to_json())


@pytest.mark.parametrize("module", [*STUDIES.values(), cifar_small, digits, external, imported])
def test_an_unknown_variant_names_the_known_ones(module):
  with pytest.raises(ValueError, match="`huge`.*smoke"):
    module.get_config("huge")
