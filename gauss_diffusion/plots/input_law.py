"""What linear distillation can tell on each input law, for the exact memorizer and for the networks."""

import numpy as np

from gauss_diffusion.plots import style

TITLE = "When does a Gaussian best affine map mean anything? Only on held-out images"
LOOK_FOR = (
  "Each denoiser is replaced by its best affine map, which is held against the Gaussian denoiser. Fitted on "
  "noisy training images, the exact memorizer (multi-delta) too has the Gaussian map: a gap of 0 there is a "
  "theorem, for any data. Fitted on held-out images the memorizer is far from it, and so is a network that "
  "memorizes; one that generalizes stays near. Outputs are compared on fresh noisy images of the law of the "
  "fit. Faint: as measured; bold: without what the Monte-Carlo noise of the fits adds."
)
_LAWS = {"train": "training images", "held-out": "held-out images"}
_GAPS = {"weight": "‖W$_L$ − W$_G$‖ / ‖W$_G$‖", "output": "RMSE to Gaussian"}


@style.talk
def draw(results: dict):
  """Draw the gaps of maps and of outputs, left and right, on both laws, one row a denoiser.

  Args:
    results: model label -> arrays of the `input_law` analysis.
  """
  first = next(iter(results.values()))
  denoisers = list(first["denoiser"])
  figure = style.figure(1.1 + 2.8 * len(denoisers))
  colors = style.model_colors(results)
  for block, (gap, name) in zip(figure.subfigures(1, len(_GAPS)), _GAPS.items()):
    panels = block.subplots(len(denoisers), len(_LAWS), sharex=True, sharey=True, squeeze=False)
    for axis, (row, law) in zip(panels.flat, np.ndindex(panels.shape)):
      for label, arrays in results.items():
        measured, beyond = _gaps(arrays, gap, denoisers[row], list(_LAWS)[law])
        line = {"color": colors[label], "label": label}
        axis.plot(arrays["sigma"], measured, linewidth=1.2, alpha=0.4, color=colors[label])
        axis.plot(arrays["sigma"], beyond, "o-", markersize=4.5, **line)
      style.sigma_axis(axis)
      axis.label_outer()
    for axis, heading in zip(panels[0], _LAWS.values()):
      axis.set_title(f"{'Maps' if gap == 'weight' else 'Outputs'}, {heading}")
    for axis, denoiser in zip(panels[:, 0], denoisers):
      axis.set_ylabel(f"{style.named(denoiser)}\n{name}" if gap == "weight" else name)
    panels[0, 0].set_ylim(bottom=-0.03 * panels[0, 0].get_ylim()[1])
  figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=5)
  return figure


def _gaps(arrays: dict, gap: str, denoiser: str, law: str):
  """Return the gap [S], in the mean square over repeats and images, as measured and beyond its noise."""
  row, index = list(arrays["denoiser"]).index(denoiser), list(arrays["law"]).index(law)
  squares, noise = arrays[f"{gap}_gap"][row, index] ** 2, arrays[f"{gap}_noise"][row, index] ** 2
  if gap == "output":
    squares, noise = squares[:, index].mean(axis=(1, 2)), noise[:, index].mean(axis=1)
  else:
    squares = squares.mean(axis=1)
  return np.sqrt(squares), np.sqrt(np.maximum(squares - noise, 0))
