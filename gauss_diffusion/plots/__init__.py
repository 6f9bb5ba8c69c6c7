"""One file per figure: ``draw(results)`` takes model label -> arrays, in study order."""

import pathlib

from gauss_diffusion.plots import (
  distillation,
  gain,
  linearity,
  samples,
  score_gap,
  style,
  training,
  trajectories,
)

PLOTS = {
  "linearity": linearity,
  "score_gap": score_gap,
  "distillation": distillation,
  "trajectories": trajectories,
  "samples": samples,
  "gain": gain,
  "training": training,
}


@style.talk
def save(figure, path) -> tuple[pathlib.Path, pathlib.Path]:
  """Write a figure as ``<path>.png`` and ``<path>.pdf``; the same figure gives the same bytes.

  Returns:
    The two paths.
  """
  png, pdf = pathlib.Path(f"{path}.png"), pathlib.Path(f"{path}.pdf")
  png.parent.mkdir(parents=True, exist_ok=True)
  figure.savefig(png, dpi=160, metadata={"Software": None})
  figure.set_layout_engine("none")  # it is laid out: not again
  figure.savefig(pdf, dpi=160, metadata={"CreationDate": None, "Creator": None, "Producer": None})
  return png, pdf
