"""One analysis a file: ``compute(subject, settings, title)`` returns named arrays, raw values per sample."""

from gauss_diffusion.analyses import (
  denoised,
  descent,
  distillation,
  gain,
  input_law,
  linearity,
  modes,
  perturbation,
  samples,
  score_gap,
  trajectories,
)

# In the order in which they run: later ones may read what distillation found.
ANALYSES = {
  "distillation": distillation,
  "input_law": input_law,
  "descent": descent,
  "linearity": linearity,
  "score_gap": score_gap,
  "denoised": denoised,
  "trajectories": trajectories,
  "samples": samples,
  "gain": gain,
  "modes": modes,
  "perturbation": perturbation,
}
