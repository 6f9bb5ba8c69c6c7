"""One analysis a file: ``compute(subject, settings, title)`` returns named arrays, raw values per sample."""

from gauss_diffusion.analyses import distillation, gain, linearity, samples, score_gap, trajectories

# In the order in which they run: later ones may read what distillation found.
ANALYSES = {
  "distillation": distillation,
  "linearity": linearity,
  "score_gap": score_gap,
  "trajectories": trajectories,
  "samples": samples,
  "gain": gain,
}
