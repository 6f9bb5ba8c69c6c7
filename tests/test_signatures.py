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


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_public_functions_are_fully_typed(path):
  for node in ast.parse(path.read_text()).body:
    if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
      arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
      untyped = [argument.arg for argument in arguments if argument.annotation is None]
      assert not untyped, f"`{node.name}` says nothing of {', '.join(untyped)}"
      assert node.returns is not None, f"`{node.name}` does not say what it returns"


def test_a_wrong_axis_is_caught_where_it_enters():
  def half(x, sigma):
    return x / 2

  x, directions = jnp.zeros((4, 4, 1)), jnp.eye(16)
  assert jacobian.gain(half, x, 1.0, directions).shape == (16,)
  with pytest.raises(jaxtyping.TypeCheckError, match="directions"):
    jacobian.gain(half, x, 1.0, directions[0])
  with pytest.raises(jaxtyping.TypeCheckError, match="denoise"):
    jacobian.gain("no denoiser", x, 1.0, directions)
