"""The numbers that a panel shows, as a table for those who do not see it."""

import weakref
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike


class Panel(NamedTuple):
  """The numbers behind one panel, as text."""

  title: str
  x: str  # what the rows are
  y: str  # what the values are
  names: list[str]  # of the columns
  rows: list[list[str]]  # x, then a value of each column, empty where there is none


# Of panels whose numbers cannot be read off their curves and bars. Matplotlib's own have no place for it.
_TABLES: weakref.WeakKeyDictionary[Axes, Panel] = weakref.WeakKeyDictionary()


def tabulate(
  axis: Axes,
  x: str,
  y: str,
  rows: Sequence[str],
  columns: Sequence[str],
  cells: ArrayLike,
  *,
  title: str = "",
) -> None:
  """Say what a panel of pictures, cells or signs shows.

  Args:
    axis: the panel.
    x: what the rows are.
    y: what the cells are.
    rows: names [R], without line breaks where a figure has them.
    columns: names [C].
    cells: [R, C], numbers, of which NaN is none, or words.
    title: where it is not the panel's own.
  """
  values = np.asarray(cells)
  said = [[str(each) if values.dtype.kind == "U" else number(each) for each in row] for row in values]
  names = [" ".join(name.split()) for name in rows]
  _TABLES[axis] = Panel(
    title, x, y, list(columns), [[name, *row] for name, row in zip(names, said, strict=True)]
  )


def table(axis: Axes) -> Panel | None:
  """Return what `tabulate` was told of a panel."""
  return _TABLES.get(axis)


def apart(images: ArrayLike, reference: ArrayLike) -> np.ndarray:
  """Return the RMSE per pixel of images [..., H, W, channels] to others, [...]; NaN where one is blank."""
  difference = np.asarray(images, np.float64) - np.asarray(reference, np.float64)
  return np.sqrt(np.mean(difference**2, axis=(-3, -2, -1)))


def number(value: float) -> str:
  """Return a number as tables and tips show it, nothing for NaN; a linearity score of 0.9996 is not 1."""
  return "" if np.isnan(value) else f"{value:.4g}"
