"""One analysis a file: ``compute(subject, settings, title)`` returns labelled arrays, raw values per sample.

Beside `compute` a file has

- ``VERSION``, raised whenever its results can differ from those of the code before;
- ``DERIVATIVES``, whether it differentiates the network;
- ``FIGURE``, the file in `plots` that draws what it found;
- ``DEFAULTS``, which become the section of its name in a study's config, and their ``MEANINGS``;
- ``OF_HELD_OUT``, where it has any, those of them that count held-out images or pairs of them, and
  ``PER_COORDINATE``, those that count what determines an affine map, with how many a coordinate: both follow
  the data where they are the defaults, see `study.counts`;
- ``uses(settings)``, the denoisers that it evaluates, and ``evaluations(...)``, on how many images;
- ``check(config, shape, num_held_out)``, which refuses settings that cannot be.
"""

from gauss_diffusion.analyses import (
  calibration,
  denoised,
  descent,
  directions,
  distillation,
  explained,
  gain,
  halves,
  input_law,
  likelihood,
  linearity,
  modes,
  perturbation,
  samples,
  score_gap,
  teleportation,
  trajectories,
)
from gauss_diffusion.plots import training

# In the order of the report.
ANALYSES = {
  "explained": explained,
  "linearity": linearity,
  "score_gap": score_gap,
  "distillation": distillation,
  "input_law": input_law,
  "descent": descent,
  "denoised": denoised,
  "trajectories": trajectories,
  "samples": samples,
  "teleportation": teleportation,
  "halves": halves,
  "gain": gain,
  "directions": directions,
  "calibration": calibration,
  "likelihood": likelihood,
  "modes": modes,
  "perturbation": perturbation,
}
FIGURES = {name: analysis.FIGURE for name, analysis in ANALYSES.items()} | {"training": training}
