"""What linear distillation can tell on each input law, for the exact memorizer and for the networks."""

import itertools
import typing

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from gauss_diffusion.plots import style
from gauss_diffusion.plots.distillation import network_band, signed_root

if typing.TYPE_CHECKING:
  from gauss_diffusion.results import xarray

TITLE = "When does a Gaussian best affine map mean anything? Only on held-out images"
LOOK_FOR = (
  "Each denoiser is replaced by its best affine map, which is held against the Gaussian denoiser. Fitted on "
  "noisy training images, the exact memorizer (multi-delta) too has the Gaussian map: a gap of 0 there is a "
  "theorem, for any data. Fitted on held-out images the memorizer is far from it, and so is a network that "
  "memorizes; one that generalizes stays near. Outputs are compared on fresh noisy images of the law of the "
  "fit. Faint: as measured; bold: without what the noise of the fits adds, which can leave less than 0."
)
_LAWS = {"train": "training images", "held-out": "held-out images"}
_GAPS = {"weight": "‖W$_L$ − W$_G$‖ / ‖W$_G$‖", "output": "RMSE to Gaussian"}

_FAINT: dict[str, typing.Any] = {"linewidth": 1.2, "alpha": 0.4}


@style.talk
def draw(results: style.Results) -> Figure:
  """Draw the gaps of maps and of outputs, left and right, on both laws, one row a denoiser.

  Args:
    results: model's title -> what the analysis `input_law` found of each of its networks.
  """
  denoisers = next(iter(results.values()))[0].denoiser.to_numpy()
  figure = style.figure(1.1 + 2.8 * len(denoisers))
  colors = style.model_colors(results)
  for block, (gap, name) in zip(figure.subfigures(1, len(_GAPS), squeeze=False)[0], _GAPS.items()):
    panels = block.subplots(len(denoisers), len(_LAWS), sharex=True, sharey=True, squeeze=False)
    for axis, (denoiser, law) in zip(panels.flat, itertools.product(denoisers, _LAWS)):
      for label, networks in results.items():
        fits = [found.sel(denoiser=denoiser, law=law) for found in networks]
        found = [_map_gap(fit) if gap == "weight" else _output_gap(fit.sel(evaluated=law)) for fit in fits]
        measured, noise = map(np.stack, zip(*found))  # [networks, S]
        sigma, net = networks[0].sigma, measured - noise
        axis.plot(sigma, np.sqrt(measured.mean(0)), color=colors[label], gid=label, **_FAINT)
        (line,) = axis.plot(
          sigma, signed_root(net.mean(0)), "o-", markersize=4.5, color=colors[label], label=label
        )
        network_band(line, net, signed_root)
      style.sigma_axis(axis)
      axis.label_outer()
    for axis, heading in zip(panels[0], _LAWS.values()):
      axis.set_title(f"{'Maps' if gap == 'weight' else 'Outputs'}, {heading}")
    for axis, denoiser in zip(panels[:, 0], denoisers):
      axis.set_ylabel(f"{style.named(denoiser)}\n{name}" if gap == "weight" else name)
    low, high = panels[0, 0].get_ylim()
    panels[0, 0].set_ylim(bottom=min(low, -0.03 * high))
  handles, labels = style.entries(panels[0, 0], results, images=False)
  handles, labels = [*handles, Line2D([], [], color="0.35", **_FAINT)], [*labels, "with the fits' noise"]
  figure.legend(handles, labels, loc="outside lower center", ncols=5)
  return figure


def _map_gap(fit: "xarray.Dataset") -> tuple[np.ndarray, np.ndarray]:
  """Return the squared gap of maps at each level, mean over repeats, and what noise adds to it."""
  return (fit.weight_gap**2).mean("repeat").to_numpy(), (fit.weight_noise**2).to_numpy()


def _output_gap(fit: "xarray.Dataset") -> tuple[np.ndarray, np.ndarray]:
  """Return the squared gap of outputs likewise, mean over repeats and images."""
  squares = (fit.output_gap.astype(np.float64) ** 2).mean(["repeat", "image"])
  return squares.to_numpy(), (fit.output_noise.astype(np.float64) ** 2).mean("image").to_numpy()
