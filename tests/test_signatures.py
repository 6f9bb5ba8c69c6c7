"""Public functions say what they take and return, and the tests hold every call against that."""

import ast
import pathlib

import jax.numpy as jnp
import jaxtyping
import pytest

from gauss_diffusion import images
from gauss_diffusion.probes import jacobian

PACKAGE = pathlib.Path(images.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))


ARRAYS = ("Array", "ArrayLike", "jax.Array", "np.ndarray")
WITH_AXES = ("Float", "Complex", "Int", "Int32", "Bool", "UInt8", "Key", "Shaped")
# The rest handles arrays of any shape by name, as results and figures do.
MATHS = (
  "types edm images sampling statistics distill parallel data denoisers probes networks training".split()
)


def functions(path):
  """Yield public functions and the calls of modules."""
  for node in ast.walk(ast.parse(path.read_text())):
    for child in node.body if isinstance(node, ast.Module | ast.ClassDef) else []:
      if isinstance(child, ast.FunctionDef) and (child.name == "__call__" or not child.name.startswith("_")):
        yield child


def without_axes(annotation):
  """Yield the arrays in an annotation that do not state their axes."""
  if isinstance(annotation, ast.Subscript) and ast.unparse(annotation.value) in WITH_AXES:
    return
  if ast.unparse(annotation) in ARRAYS:
    yield ast.unparse(annotation)
  else:
    for child in ast.iter_child_nodes(annotation):
      yield from without_axes(child)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_public_functions_are_fully_typed(path):
  for node in functions(path):
    arguments = [argument for argument in ast.walk(node.args) if isinstance(argument, ast.arg)]
    untyped = [each.arg for each in arguments if each.annotation is None and each.arg != "self"]
    assert not untyped, f"`{node.name}` says nothing of {', '.join(untyped)}"
    assert node.returns is not None, f"`{node.name}` does not say what it returns"


@pytest.mark.parametrize("room", MATHS)
def test_arrays_of_the_maths_state_their_axes(room):
  for path in [PACKAGE / f"{room}.py", *(PACKAGE / room).rglob("*.py")]:
    for node in ast.walk(ast.parse(path.read_text())) if path.exists() else []:
      annotation = getattr(node, "annotation", None) or getattr(node, "returns", None)
      if annotation is not None:
        found = list(without_axes(annotation))
        assert not found, f"{path.name}, line {node.lineno}: {ast.unparse(annotation)}; want Float[..., axes]"


def test_a_wrong_axis_is_caught_where_it_enters():
  def half(x, sigma):
    return x / 2

  x, directions = jnp.zeros((4, 4, 1)), jnp.eye(16)
  assert jacobian.gain(half, x, 1.0, directions).shape == (16,)
  with pytest.raises(jaxtyping.TypeCheckError, match="directions"):
    jacobian.gain(half, x, 1.0, directions[0])
  with pytest.raises(jaxtyping.TypeCheckError, match="denoise"):
    jacobian.gain("no denoiser", x, 1.0, directions)
