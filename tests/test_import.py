"""`import gauss_diffusion` is quick, and what it shows is all there."""

import importlib.metadata
import json
import pathlib
import re
import subprocess
import sys

import gauss_diffusion as gd

REPOSITORY = pathlib.Path(__file__).parents[1]
SECONDS = 2.0  # of processor time, which a busy machine does not stretch
HEAVY = ("xarray", "pandas", "orbax", "matplotlib", "sklearn", "tensorflow_datasets")
PROBE = """
import json, sys, time
start = time.process_time()
import gauss_diffusion
print(json.dumps({"seconds": time.process_time() - start, "modules": list(sys.modules)}))
"""


def imported():
  done = subprocess.run(
    [sys.executable, "-c", PROBE], cwd=REPOSITORY, capture_output=True, text=True, check=True
  )
  return json.loads(done.stdout)


def test_import_takes_two_seconds_and_nothing_heavy():
  found = [imported() for _ in range(2)]
  assert min(each["seconds"] for each in found) <= SECONDS
  assert not {name.split(".")[0] for name in found[0]["modules"]} & set(HEAVY)


def test_every_name_is_there_and_help_says_where():
  for name in gd.__all__:
    assert getattr(gd, name) is not None
    assert name in dir(gd)
  for name in gd.__all__:
    assert name[0].isupper() or re.search(rf"\b{name}\b", gd.__doc__), f"help(gd) does not say what {name} is"
  assert not hasattr(gd, "nothing")


def test_one_version_everywhere():
  assert importlib.metadata.version("gauss-diffusion") == gd.__version__
  assert f"\nversion: {gd.__version__}\n" in (REPOSITORY / "CITATION.cff").read_text()
  assert f"## {gd.__version__}" in (REPOSITORY / "CHANGELOG.md").read_text()
