"""Tests check signatures, see eight fake CPU devices, refuse implicit rank promotion, share a cache."""

import os
import pathlib

import jax
import jaxtyping
import pytest

# From here on every call of a function in these rooms is checked against its signature, axes included.
MATHS = "edm images sampling statistics moments distill parallel denoisers probes networks training".split()
jaxtyping.install_import_hook([f"gauss_diffusion.{room}" for room in MATHS], "signatures.checked")

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_compilation_cache_dir", os.path.expanduser("~/.cache/gauss_diffusion/jax"))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)

REPOSITORY = pathlib.Path(__file__).parents[1]
SHARED = REPOSITORY.parent / "shared"
# Kinds of slow tests, the markers that name them, and the seconds of two cores that all of a kind may take.
BUDGETS = {
  "studies": 420,  # whole smoke studies
  "processes": 420,  # commands, started as their users start them
  "kills": 300,  # studies that are killed and continued
  "hosts": 120,  # runs of several processes
  "notebooks": 180,  # notebooks, run from top to bottom
  "browser": 120,  # reports, opened in a browser
}


def pytest_addoption(parser):
  parser.addoption("--long", action="store_true", help="run the tests marked `long` too")


def pytest_configure(config):
  for kind, seconds in BUDGETS.items():
    config.addinivalue_line("markers", f"{kind}: a slow kind of test; all of it may take {seconds} s")
  config.addinivalue_line("markers", "long: run with --long alone")


def pytest_collection_modifyitems(config, items):
  if not config.getoption("--long"):
    for item in items:
      if item.get_closest_marker("long"):
        item.add_marker(pytest.mark.skip(reason="want --long"))


def pytest_terminal_summary(terminalreporter):
  """Say how long each slow kind took, of what it may; under xdist the workers' reports arrive here too."""
  spent = {}
  for reports in terminalreporter.stats.values():
    for report in reports:
      for kind in BUDGETS:
        if isinstance(report, pytest.TestReport) and kind in report.keywords:
          spent[kind] = spent.get(kind, 0) + report.duration
  for kind, seconds in spent.items():
    over = ": over its budget" if seconds > BUDGETS[kind] else ""
    terminalreporter.write_line(f"{kind}: {seconds:.0f} s of {BUDGETS[kind]} s{over}")


@pytest.fixture(autouse=True, scope="session")
def eight_devices():
  assert jax.device_count() == 8, "the suite must see eight fake devices"


@pytest.fixture(autouse=True, scope="module")
def forget_what_was_compiled():
  """Give the memory of a file's compiled functions to the next one's: all files' together are gigabytes."""
  yield
  jax.clear_caches()


@pytest.fixture
def x64():
  """Run the test in float64, for identities that hold to rounding."""
  with jax.enable_x64(True):
    yield
