"""Figures of a whole study draw what the measures say, labelled and legible."""

import numpy as np
import pytest
from test_plots import legible

from gauss_diffusion import plots, results
from gauss_diffusion.analyses.subject import IMAGE, LAWS
from gauss_diffusion.plots import style
from gauss_diffusion.readings import measures
from gauss_diffusion.readings.measures import Reading

SIGMA = np.geomspace(80, 0.002, 10)
ANALYSES = ("samples", "linearity", "score_gap", "score_gap")  # of the panels of `sweep`


def reading(i, **entry):
  rng = np.random.default_rng(i)
  denoisers = {"denoiser": ["network", "gaussian"]}
  score_gap = results.labelled(
    {
      "rmse": (("law", "pair", "sigma", "image"), rng.uniform(0.1, 0.3, (2, 2, 10, 20))),
      "error": (("denoiser", "clean", "sigma", "image"), rng.uniform(0.3, 0.4, (2, 2, 10, 20))),
    },
    denoisers
    | {
      "law": list(LAWS),
      "clean": list(LAWS),
      "sigma": SIGMA,
      "one": ("pair", ["network", "network"]),
      "two": ("pair", ["gaussian", "multi-delta"]),
    },
  )
  linearity = results.labelled(
    {"cosine": (("inputs", "sigma", "alpha2", "sample"), rng.uniform(0.9, 1, (2, 10, 1, 20)))},
    {"inputs": ["noisy image", "pure noise"], "sigma": SIGMA, "alpha2": [0.5]},
  )
  samples = results.labelled(
    {
      "gl": (("denoiser", "sample"), rng.uniform(0, 1, (2, 20))),
      "memorized": (("denoiser", "sample"), rng.uniform(0, 1, (2, 20)) < 0.5),
      "samples": (("denoiser", "sample", *IMAGE), rng.normal(size=(2, 20, 8, 8, 1))),
    },
    denoisers,
  )
  entry = {
    "size": 4**i,
    "network": {"model_channels": 2**i},
    "train": {"steps": 10 * 2**i, "batch": 8},
  } | entry
  found = {"score_gap": score_gap, "linearity": linearity, "samples": samples}
  return Reading(entry.pop("title", f"N = {4**i}"), entry, found, {})


def without(one, *analyses):
  found = {name: arrays for name, arrays in one.found.items() if name not in analyses}
  return one._replace(found=found, absent=dict.fromkeys(analyses, "it is too slow"))


@pytest.mark.parametrize("sweep", measures.SWEEPS)
def test_sweep_draws_the_measures_in_order_and_rings_the_best(sweep):
  readings = [reading(i) for i in (5, 2, 3, 7)]
  figure = plots.sweep.draw(readings, sweep)
  assert measures.SWEEPS[sweep] in legible(figure)
  ordered = [readings[i] for i in (1, 2, 0, 3)]
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


def test_sweep_leaves_out_what_a_reading_lacks():
  full = [reading(i) for i in (2, 3, 5)]
  best = min(range(3), key=lambda i: measures.error(full[i]).mean())
  mixed = list(full)
  mixed[best] = without(mixed[best], "score_gap")
  mixed[best - 1] = without(mixed[best - 1], "linearity")
  figure = plots.sweep.draw(mixed, "size")
  assert {"16", "64", "1024"} <= set(legible(figure).split())
  for axis, name, curves in zip(figure.axes, ANALYSES, (2, 1, 2, 2)):
    shown = [one.entry["size"] for one in mixed if name in one.found]
    assert len(shown) == (3 if name == "samples" else 2)
    assert [list(line.get_xdata()) for line in axis.lines[:curves]] == [shown] * curves
  kept = [measures.error(one).mean() for one in mixed if "score_gap" in one.found]
  assert figure.axes[3].lines[-1].get_ydata() == [min(kept)]
  bare = plots.sweep.draw([without(one, "linearity", "score_gap") for one in full], "size")
  legible(bare)
  assert [len(axis.lines) for axis in bare.axes] == [2, 0, 0, 0]
  assert [axis.get_legend() is not None for axis in bare.axes] == [True, False, False, False]


@pytest.mark.parametrize("num_pairs", [1, 2, 4])
def test_agreement_draws_each_pair_and_its_distance(num_pairs):
  readings = [
    reading(2 * p + part, group=f"g{p}", part=part, title=f"halves of {p}, {part + 1}")
    for p in range(num_pairs)
    for part in (1, 0)
  ]
  alone = reading(9, group="alone", part=0, title="not of a pair, 1")
  figure = plots.agreement.draw([alone, *readings], "")
  words = legible(figure)
  assert "not of a pair" not in words
  assert all(f"halves of {p}" in words for p in range(num_pairs))
  widths = [bar.get_width() for bar in figure.axes[-1].patches]
  pairs = [(readings[2 * p + 1], readings[2 * p]) for p in range(num_pairs)]
  want = [measures.distance(*pair).mean() for pair in pairs]
  want += [measures.apart(pair, "network", "gaussian").mean() for pair in pairs]
  want += [measures.distance(*pair, "gaussian").mean() for pair in pairs]
  np.testing.assert_allclose(widths, want)


def test_agreement_leaves_out_a_pair_without_samples():
  pairs = [
    [reading(2 * p + part, group=f"g{p}", part=part, title=f"halves of {p}, {part + 1}") for part in (0, 1)]
    for p in range(2)
  ]
  figure = plots.agreement.draw([*pairs[0], pairs[1][0], without(pairs[1][1], "samples")], "")
  words = legible(figure)
  assert "halves of 0" in words and "halves of 1" not in words
  assert len(figure.axes[-1].patches) == 3
  none = plots.agreement.draw([without(one, "samples") for one in pairs[0]], "")
  legible(none)
  assert not none.axes[-1].patches


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


def replicate(i: int, number: int, **entry) -> Reading:
  """Return another network of the model of `reading(i)`."""
  other = reading(100 * number + i, **entry)
  same = reading(i, **entry)
  return same._replace(found=other.found, replicate=number)


def test_sweep_draws_the_mean_and_bar_over_the_networks_of_a_title():
  readings = [replicate(i, r) for r in range(3) for i in (5, 2)] + [replicate(3, 0)]
  figure = plots.sweep.draw(readings, "size")
  assert "95 % over 3 networks" in legible(figure)
  axis = figure.axes[1]
  at = [[measures.linearity(one).mean() for one in readings if one.title == f"N = {4**i}"] for i in (2, 3, 5)]
  np.testing.assert_allclose(axis.lines[0].get_ydata(), [np.mean(means) for means in at])
  bars = np.array(axis.collections[0].get_segments())
  half = [4.302652730 * np.std(means, ddof=1) / np.sqrt(3) for means in (at[0], at[2])]  # t, 2 degrees
  np.testing.assert_allclose(np.diff(bars[:, :, 1])[:, 0] / 2, half, rtol=1e-8)
  errors = [
    np.mean([measures.error(one).mean() for one in readings if one.title == f"N = {4**i}"]) for i in (2, 3, 5)
  ]
  np.testing.assert_allclose(figure.axes[3].lines[-1].get_ydata(), min(errors))


def test_agreement_takes_pairs_within_a_replicate():
  halves = [("g", part, r) for r in (1, 0) for part in (1, 0)]
  readings = [replicate(part, r, group=g, part=part, title=f"halves, {part + 1}") for g, part, r in halves]
  figure = plots.agreement.draw(readings, "")
  assert "95 % over 2 pairs" in legible(figure)
  pairs = [(readings[1], readings[0]), (readings[3], readings[2])]
  bar = figure.axes[-1].patches[0]
  np.testing.assert_allclose(bar.get_width(), np.mean([measures.distance(*pair).mean() for pair in pairs]))


DENOISERS = ("network", "gaussian", "multi-delta", "mean", "skip", "identity")


def errors(seed: int, *, worse: tuple[int, ...] = (), denoisers: tuple[str, ...] = DENOISERS):
  """Return made-up errors of 20 images; at the levels `worse` the network does worse than the mean image."""
  rng = np.random.default_rng(seed)
  error = rng.uniform(0.1, 0.3, (len(denoisers), 2, 10, 20))
  error[denoisers.index("mean")] += 0.4
  error[denoisers.index("network"), :, list(worse)] += 1
  return results.labelled(
    {"error": (("denoiser", "clean", "sigma", "image"), error), "dimension": ((), 64)},
    {"denoiser": list(denoisers), "clean": list(LAWS), "sigma": SIGMA},
  )


def known(seed: int, title: str, **options) -> Reading:
  return Reading(title, {}, {"score_gap": errors(seed, **options)}, {})


def test_knowledge_draws_errors_share_gain_and_nats_of_the_networks_of_a_title():
  readings = [known(1, "a"), known(2, "b", worse=(0, 3)), known(3, "a"), known(4, "b")]
  figure = plots.knowledge.draw(readings, "")
  of_a, of_b, share, gain, nats = figure.axes
  assert "95 % over 2 networks" in legible(figure)

  def levels(reading):
    held_out = reading.found["score_gap"].error.sel(clean="held-out")
    network, gaussian, null = (
      64 * (held_out.sel(denoiser=["network", "gaussian", "mean"]) ** 2).mean("image").to_numpy()
    )
    steps = np.diff(np.log(SIGMA**-2)) * np.convolve((gaussian - network) / SIGMA**2, [0.5, 0.5], "valid")
    return (null - gaussian) / (null - network), (gaussian - network) / gaussian, np.cumsum(steps) / 2

  for i, (axis, both) in enumerate(((of_a, readings[::2]), (of_b, readings[1::2]))):
    for line, name in zip(axis.lines, DENOISERS):
      each = [one.found["score_gap"].error.sel(denoiser=name, clean="held-out").mean("image") for one in both]
      np.testing.assert_allclose(line.get_ydata(), np.mean(each, axis=0))
    want = (
      np.mean([levels(one)[0] for one in both], axis=0),
      np.mean([levels(one)[1] for one in both], axis=0),
    )
    known_levels = np.delete(np.arange(10), [0, 3]) if i else np.arange(10)
    np.testing.assert_allclose(share.lines[i].get_xdata(), SIGMA[known_levels])
    np.testing.assert_allclose(share.lines[i].get_ydata(), want[0][known_levels])
    np.testing.assert_allclose(gain.lines[i].get_ydata(), want[1])
    np.testing.assert_allclose(nats.lines[i].get_xdata(), SIGMA[1:])
    np.testing.assert_allclose(nats.lines[i].get_ydata(), np.mean([levels(one)[2] for one in both], axis=0))


def test_knowledge_is_the_same_of_levels_that_rise():
  falling = known(1, "a")
  rising = falling._replace(found={"score_gap": falling.found["score_gap"].isel(sigma=slice(None, None, -1))})
  one, two = (plots.knowledge.draw([reading], "") for reading in (falling, rising))
  for a, b in zip(one.axes, two.axes):
    for line, other in zip(a.lines, b.lines):
      np.testing.assert_array_equal(line.get_xydata(), other.get_xydata())


@pytest.mark.parametrize("count", [1, 4, 12])
def test_knowledge_is_legible_of_many_models_and_without_a_memorizer(count):
  titles = [f"64, {i} channels, 150 steps" for i in range(count)]
  readings = [known(i, title, denoisers=DENOISERS[:2] + DENOISERS[3:]) for i, title in enumerate(titles)]
  figure = plots.knowledge.draw([*readings, without(reading(2, title="no errors"), "score_gap")], "")
  words = legible(figure)
  assert (
    titles[0] in words and titles[-1] in words and "multi-delta" not in words and "no errors" not in words
  )
