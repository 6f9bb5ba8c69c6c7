"""Docstrings as the documentation site wants them: what follows a `::` is fenced as code."""

import re
import textwrap

import griffe

LITERAL = re.compile(r"::\n\n((?: +\S.*(?:\n|$)|\n)+)")


class Literals(griffe.Extension):
  """Fence the literal blocks of docstrings, which are indented by two as all our code is."""

  def on_instance(self, *, obj: griffe.Object | griffe.Alias, **kwargs) -> None:
    """Rewrite the docstring of one object."""
    if obj.docstring:
      obj.docstring.value = LITERAL.sub(_fenced, obj.docstring.value)


def _fenced(match: re.Match) -> str:
  return f":\n\n```\n{textwrap.dedent(match[1]).strip()}\n```\n\n"
