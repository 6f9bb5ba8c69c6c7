"""The notebooks run as they stand, from the first cell to the last, and show what they say."""

import pathlib
import shutil

import nbformat
import pytest
from nbclient import NotebookClient

pytestmark = pytest.mark.notebooks
NOTEBOOKS = pathlib.Path(__file__).parents[1] / "notebooks"
FIGURES = {"tour": 7, "your_pytorch_model": 2, "your_edm_checkpoint": 2}
SECONDS = 300  # for one cell, on a busy machine


def run(name, folder):
  """Run a copy in a folder of its own, but for the cells that install; returns the outputs."""
  shutil.copy(NOTEBOOKS / f"{name}.ipynb", folder)
  book = nbformat.read(folder / f"{name}.ipynb", as_version=4)
  nbformat.validate(book)
  assert not any(cell.get("outputs") for cell in book.cells), "want a notebook without outputs"
  book.cells = [cell for cell in book.cells if "install" not in cell.metadata.get("tags", [])]
  NotebookClient(book, timeout=SECONDS, resources={"metadata": {"path": str(folder)}}).execute()
  return [output for cell in book.cells for output in cell.get("outputs", [])]


@pytest.mark.parametrize("name", FIGURES)
def test_it_runs_and_draws(name, tmp_path):
  if name == "your_pytorch_model":
    pytest.importorskip("torch", reason="want PyTorch")
  outputs = run(name, tmp_path)
  drawn = sum("image/png" in output.get("data", {}) for output in outputs)
  assert drawn == FIGURES[name]
  said = "".join(output.get("text", "") for output in outputs if output.output_type == "stream")
  assert "Traceback" not in said and "Warning" not in said
  if name == "tour":
    assert "N = 16: GL score 0." in said and "N = 1437: GL score 0." in said


def test_all_are_run():
  assert {path.stem for path in NOTEBOOKS.glob("*.ipynb")} == set(FIGURES)
