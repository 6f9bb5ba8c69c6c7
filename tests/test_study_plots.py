"""Figures of a whole study draw what the measures say, labelled and legible."""

import numpy as np
import pytest
from test_plots import legible

from gauss_diffusion import plots
from gauss_diffusion.plots import style
from gauss_diffusion.readings import measures
from gauss_diffusion.readings.measures import Model

SIGMA = np.geomspace(80, 0.002, 10)


def model(i, **entry):
  rng = np.random.default_rng(i)
  gap = rng.uniform(0.1, 0.3, (2, 2, 10, 20))
  pairs = np.array(["network / gaussian", "network / multi-delta"])
  found = {
    "score_gap": {"sigma": SIGMA, "law": np.array(["train", "held-out"]), "pair": pairs, "rmse": gap}
    | {"error": rng.uniform(0.3, 0.4, (2, 10, 20))},
    "linearity": {
      "sigma": SIGMA,
      "alpha2": np.array([0.5]),
      "inputs": np.array(["noisy image", "pure noise"]),
    }
    | {"cosine": rng.uniform(0.9, 1, (2, 10, 1, 20))},
    "samples": {
      "denoiser": np.array(["network", "gaussian"]),
      "gl": rng.uniform(0, 1, (2, 20)),
      "memorized": rng.uniform(0, 1, (2, 20)) < 0.5,
      "samples": rng.normal(size=(2, 20, 8, 8, 1)),
    },
  }
  entry = {
    "size": 4**i,
    "network": {"model_channels": 2**i},
    "train": {"steps": 10 * 2**i, "batch": 8},
  } | entry
  return Model(entry.pop("title", f"N = {4**i}"), entry, found)


@pytest.mark.parametrize("sweep", measures.SWEEPS)
def test_sweep_draws_the_measures_in_order_and_rings_the_best(sweep):
  models = [model(i) for i in (5, 2, 3, 7)]
  figure = plots.sweep.draw(models, sweep)
  assert measures.SWEEPS[sweep] in legible(figure)
  ordered = [models[i] for i in (1, 2, 0, 3)]
  x = [measures.position(m, sweep) for m in ordered]
  lines = [line for axis in figure.axes for line in axis.lines]
  assert [list(line.get_xdata()) for line in lines[:-1]] == [x] * 7
  want = [measures.gl, measures.memorized, measures.linearity]
  want += [
    lambda m: measures.gap(m, "network", "gaussian"),
    lambda m: measures.gap(m, "network", "multi-delta"),
  ]
  want += [lambda m: measures.error(m, "train"), measures.error]
  for line, measure in zip(lines, want):
    np.testing.assert_allclose(line.get_ydata(), [measure(m).mean() for m in ordered])
  errors = [measures.error(m).mean() for m in ordered]
  assert lines[-1].get_xdata() == [x[np.argmin(errors)]] and lines[-1].get_ydata() == [min(errors)]


@pytest.mark.parametrize("num_pairs", [1, 2, 4])
def test_agreement_draws_each_pair_and_its_distance(num_pairs):
  models = [
    model(2 * p + part, group=f"g{p}", part=part, title=f"halves of {p}, {part + 1}")
    for p in range(num_pairs)
    for part in (1, 0)
  ]
  alone = model(9, group="alone", part=0, title="not of a pair, 1")
  figure = plots.agreement.draw([alone, *models], "")
  words = legible(figure)
  assert "not of a pair" not in words
  assert all(f"halves of {p}" in words for p in range(num_pairs))
  widths = [bar.get_width() for bar in figure.axes[-1].patches]
  pairs = [(models[2 * p + 1], models[2 * p]) for p in range(num_pairs)]
  want = [measures.distance(*pair).mean() for pair in pairs]
  want += [measures.apart(pair, "network", "gaussian").mean() for pair in pairs]
  want += [measures.distance(*pair, "gaussian").mean() for pair in pairs]
  np.testing.assert_allclose(widths, want)


def test_logarithmic_axes_of_few_decades_are_labelled_between_the_powers():
  figure = style.figure(4.0)
  one, few, many = figure.subplots(1, 3)
  for axis, values in ((one, (0.55, 1.8)), (few, (0.3, 7.0)), (many, (0.003, 30.0))):
    axis.plot(values, values)
    axis.set_yscale("log")
    style.plain_log(axis.yaxis)
  figure.draw_without_rendering()

  def labels(axis):
    low, high = axis.get_ylim()
    return [t.get_text() for t in axis.get_yticklabels() if low <= t.get_position()[1] <= high]

  assert labels(one) == ["0.7", "1"]
  assert labels(few) == ["0.5", "1", "2", "5"]
  assert labels(many) == ["0.01", "0.1", "1", "10"]


def test_counts_are_short():
  assert [style.count(n) for n in (16, 1437, 50_000, 2_508_800)] == ["16", "1437", "50k", "2.51M"]
