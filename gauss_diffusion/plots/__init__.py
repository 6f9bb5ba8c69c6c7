"""One file per figure; those of an analysis are named in its file, those of a whole study here.

Of an analysis, ``draw(results)`` takes model title -> the labelled results of its networks, in study order.
Of a whole study, ``draw(readings, sweep)`` takes every `measures.Reading` and what changes along them; those
of one title are networks of one model. Pictures are of a model's first network; curves are the networks' mean
with its intervals, see `style.curve`.
"""

import pathlib

from matplotlib.figure import Figure

from gauss_diffusion import results
from gauss_diffusion.plots import (
  agreement,
  halves_distance,
  knowledge,
  one_level,
  strips,
  style,
  sweep,
  transition,
)

DPI = 128  # a figure is some 1,600 pixels wide; who wants more has the PDF
KNOWLEDGE = "knowledge"  # the name of the figure that a study has wherever it can be drawn
STUDY_PLOTS = {
  KNOWLEDGE: knowledge,
  "sweep": sweep,
  "agreement": agreement,
  "halves_distance": halves_distance,
  "transition": transition,
  "one_level": one_level,
}
STRIPS = "strips"  # the name of the figure of a study's claims, which `strips` draws
__all__ = ["KNOWLEDGE", "STRIPS", "STUDY_PLOTS", "save", "strips"]


@style.talk
def save(figure: Figure, path: results.Path) -> tuple[pathlib.Path, pathlib.Path]:
  """Write a figure as ``<path>.png`` and ``<path>.pdf``; the same figure gives the same bytes.

  Returns:
    The two paths.
  """
  png, pdf = pathlib.Path(f"{path}.png"), pathlib.Path(f"{path}.pdf")
  with results.writing(png) as file:
    figure.savefig(file, format="png", dpi=DPI, metadata={"Software": None})
  figure.set_layout_engine("none")  # it is laid out: not again
  with results.writing(pdf) as file:
    none = {"CreationDate": None, "Creator": None, "Producer": None}
    figure.savefig(file, format="pdf", dpi=DPI, metadata=none)
  return png, pdf
