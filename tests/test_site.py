"""The documentation site: pages made of code have all of it, and links lead where the site has something."""

import importlib.util
import pathlib
import re

import pytest

from gauss_diffusion import page
from gauss_diffusion.study import schema

pytest.importorskip("mkdocs", reason="want `pip install -e '.[docs]'`")
ROOT = pathlib.Path(__file__).parents[1]
DESCRIPTION = importlib.util.spec_from_file_location("pages", ROOT / "docs" / "pages.py")
pages = importlib.util.module_from_spec(DESCRIPTION)
DESCRIPTION.loader.exec_module(pages)
FOR_PROGRAMS = {"analyses", "study", "plots"}  # rooms that are commands' own, and are told of elsewhere


def test_every_figure_and_field_is_told_of():
  figures, fields = pages.figures(), pages.fields()
  for name, figure in page.FIGURES.items():
    assert f"## {figure.TITLE}\n\n*`{name}`*  {figure.LOOK_FOR}" in figures
  shown = re.findall(r"\]\((results/[^)]+)\)", figures)
  assert len(shown) > len(page.FIGURES) / 2 and all((ROOT / path).is_file() for path in shown)
  assert fields.count("\n| `") == len(dict(schema.fields()))
  assert all(line.count(" | ") == 2 for line in fields.splitlines() if line.startswith("| `"))


def test_every_room_of_a_notebook_is_in_the_api():
  rooms = {room for _, own in pages.API.values() for room in own}
  package = ROOT / "gauss_diffusion"
  there = {path.name for path in package.iterdir() if (path / "__init__.py").exists()}
  assert there - FOR_PROGRAMS <= rooms
  assert pages.modules_of("edm") == ["gauss_diffusion.edm"]
  assert "gauss_diffusion.denoisers.local.patches" in pages.modules_of("denoisers")


def test_links_lead_to_pages_pictures_or_home():
  text = "[a](docs/claims.md#words) [b](launch) ![d](results/digits/figures/score_gap.webp) [e](#f)"
  got, shown = pages.moved(f"<!-- gone -->{text}", ROOT)
  want = "[a](claims.md#words) [b](index.md) ![d](results/digits/figures/score_gap.webp) [e](#f)"
  assert got == want
  assert shown == {ROOT / "results/digits/figures/score_gap.webp"}
