"""The house keeps its shape: no import runs upwards, and each heavy library has one home."""

import ast
import pathlib

import pytest

PACKAGE = pathlib.Path(__file__).parents[1] / "gauss_diffusion"
FLOORS = {
  "types": 0,
  "command_line": 0,
  "hosts": 0,
  "images": 0,
  "interrupts": 0,
  "edm": 1,
  "parallel": 1,
  "results": 1,
  "moments": 2,
  "statistics": 2,
  "denoisers": 3,
  "networks": 4,
  "sampling": 3,
  "data": 3,
  "probes": 4,
  "importers": 5,
  "distill": 4,
  "readings": 4,
  "training": 5,
  "plots": 5,
  "analyses": 6,
  "page": 7,
  "study": 8,
  "main": 9,
  "keep": 9,
  "report": 10,
  "import_edm": 9,
  "__init__": 9,
}
HOMES = {
  "flax.linen": ("networks/",),
  "orbax": ("training/checkpoint.py",),
  "tensorflow_datasets": ("data/tfds.py",),
  "matplotlib": ("plots/",),
  "jinja2": ("page.py",),
  "xarray": ("results.py",),
}
FILES = sorted(PACKAGE.rglob("*.py"))


def room(path: pathlib.Path) -> str:
  return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imports(path: pathlib.Path):
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.Import):
      yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
      yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_run_downwards_only(path):
  for name in imports(path):
    if name.startswith("gauss_diffusion."):
      target = name.split(".")[1]
      inside = target == room(path)
      assert inside or FLOORS[target] < FLOORS[room(path)], f"{path.name} imports {name}"


@pytest.mark.parametrize("library", HOMES)
def test_a_heavy_library_has_one_home(library):
  for path in FILES:
    inside = str(path.relative_to(PACKAGE)).startswith(HOMES[library])
    used = any(name == library or name.startswith(library + ".") for name in imports(path))
    assert inside or not used, f"{path.name} imports {library}"


def test_pmap_has_one_home():
  for path in FILES:
    calls = {node.attr for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)}
    assert path.name == "parallel.py" or "pmap" not in calls, path.name


def test_plots_and_results_do_without_jax():
  for path in [
    *(PACKAGE / "plots").glob("*.py"),
    *(PACKAGE / "readings").rglob("*.py"),
    PACKAGE / "results.py",
  ]:
    assert not any(name.split(".")[0] == "jax" for name in imports(path)), path.name


def test_public_functions_have_docstrings():
  for path in FILES:
    for node in ast.parse(path.read_text()).body:
      if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
        assert ast.get_docstring(node), f"{path.name}: {node.name}"
    assert ast.get_docstring(ast.parse(path.read_text())), f"{path.name} says nothing of itself"


def test_nothing_mapped_over_devices_factorises_a_matrix():
  # LAPACK calls of two CPU devices share one pool of threads and can deadlock under pmap.
  factorisations = {"qr", "svd", "eigh", "eigvalsh", "cholesky", "inv", "solve", "lstsq", "det", "slogdet"}
  for path in FILES:
    for node in ast.walk(ast.parse(path.read_text())):
      if isinstance(node, ast.Attribute) and ast.unparse(node).startswith(
        ("jnp.linalg.", "jax.scipy.linalg.")
      ):
        assert node.attr not in factorisations, f"{path.name}: {ast.unparse(node)}"
