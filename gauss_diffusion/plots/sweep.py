"""What changes along a study: one panel per measure, against size, width or time."""

import numpy as np

from gauss_diffusion.plots import style
from gauss_diffusion.readings import measures

TITLE = "Along the study"
LOOK_FOR = (
  "Top left: samples leave the training set where the GL score rises and the memorized share falls to 0. "
  "Top right: the linearity score at middle noise, whose rise the paper ties to generalization. Bottom left: "
  "distance to the Gaussian denoiser against distance to the memorizing one; where the curves cross, the "
  "network changes sides. Bottom right: denoising error on training and on held-out images; where the two "
  "part the network has begun to memorize, and the lowest held-out error, ringed, is the model that has "
  "learned most."
)
NEEDS = measures.Needs(
  {
    "samples.denoisers": ("network",),
    "linearity": (),
    "score_gap.pairs": (("network", "gaussian"), ("network", "multi-delta")),
  },
  along=2,
)


@style.talk
def draw(models: list, sweep: str):
  """Draw GL score, linearity, score differences and denoising error against the sweep's position.

  Args:
    models: `measures.Model`s with results of samples, linearity and score_gap.
    sweep: one of `measures.SWEEPS`.
  """
  models = sorted(models, key=lambda model: measures.position(model, sweep))
  x = np.array([measures.position(model, sweep) for model in models], float)
  figure = style.figure(7.2)
  axes = figure.subplots(2, 2, sharex=True)
  panels = (
    (
      "Do samples copy training images?",
      "GL score, memorized share",
      {"GL score": (measures.gl, style.BLUE), "memorized share": (measures.memorized, style.VERMILLION)},
    ),
    ("How linear?", "linearity score, σ in [0.1, 20]", {"": (measures.linearity, style.BLACK)}),
    (
      "Gaussian or memorizer?",
      "RMSE, σ in [0.1, 20]",
      {
        "to Gaussian": (lambda model: measures.gap(model, "network", "gaussian"), style.BLUE),
        "to multi-delta": (lambda model: measures.gap(model, "network", "multi-delta"), style.VERMILLION),
      },
    ),
    (
      "How well does it denoise?",
      "denoising RMSE, σ in [0.1, 20]",
      {
        "training images": (lambda model: measures.error(model, "train"), style.GREEN),
        "held-out images": (lambda model: measures.error(model, "held-out"), style.ORANGE),
      },
    ),
  )
  for axis, (title, name, lines) in zip(axes.flat, panels):
    for label, (measure, color) in lines.items():
      style.curve(
        axis, x, np.stack([measure(model) for model in models]), color=color, label=label, marker="o"
      )
    axis.set(title=title, ylabel=name, xscale="log")
    axis.set_xticks(x, [style.count(value) for value in x])
    axis.minorticks_off()
    if len(lines) > 1:
      axis.legend()
  best = min(range(len(models)), key=lambda i: measures.error(models[i]).mean())
  ring = {"marker": "o", "markersize": 16, "fillstyle": "none", "color": style.BLACK, "markeredgewidth": 1.5}
  axes[1, 1].plot(x[best], measures.error(models[best]).mean(), **ring)
  for axis in axes[1]:
    axis.set_xlabel(measures.SWEEPS[sweep])
  return figure
