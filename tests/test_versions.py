"""An analysis whose code changes says so with its `VERSION`, or old results pass for current.

What counts is the analysis's file, without its checks and its cost, and those of the probes and of `distill`
that it imports; comments, docstrings and annotations do not. After a change run ``python
tests/test_versions.py``, which records the code as it is now; if results could differ, raise `VERSION` first.
"""

import ast
import hashlib
import importlib
import json
import pathlib

import pytest

from gauss_diffusion import analyses

PACKAGE = pathlib.Path(analyses.__file__).parents[1]
RECORD = pathlib.Path(__file__).parent / "data" / "analysis_versions.json"
UNCOUNTED = ("check", "evaluations")  # functions of an analysis that change no result
COUNTED = ("gauss_diffusion.probes", "gauss_diffusion.distill")


class Unannotated(ast.NodeTransformer):
  """Turns ``x: T = y`` into ``x = y``, and forgets of which type a record's field is."""

  def visit_AnnAssign(self, node):
    if node.value is not None:
      return ast.Assign([node.target], node.value, lineno=node.lineno)
    node.annotation = ast.Constant(None)
    return node


def code(path):
  """Return what a file does: its syntax tree without docstrings and annotations."""
  tree = Unannotated().visit(ast.parse(path.read_text()))
  for node in ast.walk(tree):
    if isinstance(node, ast.Module | ast.FunctionDef | ast.ClassDef):
      if node.body and isinstance(node.body[0], ast.Expr) and isinstance(node.body[0].value, ast.Constant):
        node.body[0].value.value = ""
    if isinstance(node, ast.FunctionDef):
      node.returns = None
    if isinstance(node, ast.arg):
      node.annotation = None
  tree.body = [
    node
    for node in tree.body
    if not isinstance(node, ast.Import | ast.ImportFrom)  # what is imported for annotations alone
    and not (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test))
    and not (isinstance(node, ast.FunctionDef) and node.name in UNCOUNTED)
  ]
  return ast.dump(tree)


def counted(path):
  """Return the files whose code an analysis is made of, itself first."""
  found = [path]
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.ImportFrom) and node.module:
      names = [f"{node.module}.{alias.name}" for alias in node.names]
      for name in names:
        if name.startswith(COUNTED):
          found.append(pathlib.Path(importlib.import_module(name).__file__))
  return found


def now():
  record = {}
  for name, module in analyses.ANALYSES.items():
    text = "".join(code(path) for path in counted(pathlib.Path(module.__file__)))
    record[name] = {"version": module.VERSION, "code": hashlib.sha256(text.encode()).hexdigest()[:16]}
  return record


@pytest.mark.parametrize("name", analyses.ANALYSES)
def test_changed_code_has_another_version(name):
  recorded, found = json.loads(RECORD.read_text()).get(name, {}), now()[name]
  assert found == recorded, (
    f"the code of {name!r} is not that of its VERSION {recorded.get('version')}: raise it if results can "
    "differ, and run `python tests/test_versions.py`"
  )


def test_docstrings_and_annotations_are_not_code(tmp_path):
  one, other, third = (tmp_path / name for name in ("one.py", "other.py", "third.py"))
  one.write_text('"""a"""\nimport x\ndef f(a: int) -> int:\n  """b"""\n  b: int = a\n  return b  # c\n')
  other.write_text('"""d"""\ndef f(a):\n  """e"""\n  b = a\n  return b\n')
  third.write_text('"""d"""\ndef f(a):\n  """e"""\n  b: float = a\n  return b + 1\n')
  assert code(one) == code(other) != code(third)


def test_probes_count():
  files = [path.name for path in counted(pathlib.Path(analyses.ANALYSES["distillation"].__file__))]
  assert files == ["distillation.py", "distill.py", "spectrum.py"]


if __name__ == "__main__":
  RECORD.write_text(json.dumps(now(), indent=2) + "\n")
