"""Claims: that each can hold and fail in worlds made for it, and what real controls make of it, measured."""

import functools
import json
import math
import pathlib
import re

import numpy as np
import pytest
import scipy.stats
from ml_collections import ConfigDict

from gauss_diffusion import analyses, data, edm, results, statistics
from gauss_diffusion.analyses import ANALYSES
from gauss_diffusion.analyses.subject import IMAGE, Subject, denoiser
from gauss_diffusion.denoisers import FAMILIES, family
from gauss_diffusion.plots import STUDY_PLOTS
from gauss_diffusion.readings import claims, measures
from gauss_diffusion.readings.claims import (
  CLAIMS,
  architectures,
  halves,
  input_law,
  noise_law,
  perturbation,
  size,
  structure,
  time,
  transition,
  width,
)
from gauss_diffusion.readings.claims import statistics as of_means
from gauss_diffusion.readings.claims.claim import MUST_NOT_PASS
from gauss_diffusion.readings.claims.verdicts import (
  CANNOT_FAIL,
  CANNOT_HOLD,
  ENOUGH,
  FAILS,
  FEW,
  HOLDS,
  OPEN,
  lacking,
)
from gauss_diffusion.readings.measures import Reading

RESULTS = pathlib.Path(__file__).parents[1] / "results"
SIGMA = np.array([80.0, 5.0, 0.5, 0.01])
SWEEP = {size: "size", width: "width", time: "time", input_law: "size"}  # of a table's study
TABLE = {name: table for table in claims.TABLES for name in table.CLAIMS}


# Worlds that are made up: what analyses would measure, where networks and samples differ by some 1e-3.

PLAIN = {  # what a reading says where its world does not say otherwise
  "gaussian": 0.2,  # distance of the network to D_G
  "memorizer": 0.2,  # to D_M
  "linear": 0.04,  # to its best affine map
  "linear to gaussian": 0.03,
  "nulls": 0.25,  # of each null to D_G
  "to nulls": 0.6,  # of the network to each null
  "apart": 0.3,  # D_G from D_M
  "floor": None,  # the network's own distance at the lowest level
  "errors": {"network": 0.25, "gaussian": 0.3, "linear (held-out)": 0.26, "multi-delta": 0.6},
  "score": 0.98,
  "uneven": 0.99,  # linearity score
  "gl": 0.5,
  "memorized": False,
  "pictures": {"network": 1, "gaussian": 2},  # seeds; a negative one draws the negatives of its pictures
  "change": 0.01,
  "pushes": {"first singular vector": (0.5, 0.2, 0.001), "random": (0.1, 0.1, 0.1)},
  "alignment": (0.9, 0.1),  # at σ ≥ 10 and below
  "weight gap": 0.01,
  "subspace": 0.95,
  "map gap": {("network", "train"): 0.1, ("network", "held-out"): 0.3, ("multi-delta", "train"): 0.01,
              ("multi-delta", "held-out"): 1.0},
}  # fmt: skip


def reading(entry, replicate=0, controls=(), of=tuple(ANALYSES), **changes):
  """Return one reading with the results of some analyses, of all that a claim may ask for."""
  says = PLAIN | changes
  rng = np.random.default_rng([replicate, *str(sorted(entry.items())).encode()])

  def spread(value, *shape):
    return value + 1e-3 * (rng.normal() + rng.normal(size=shape))

  gaps = {
    ("network", "gaussian"): says["gaussian"],
    ("network", "multi-delta"): says["memorizer"],
    ("network", "linear (held-out)"): says["linear"],
    ("linear (held-out)", "gaussian"): says["linear to gaussian"],
    ("gaussian", "multi-delta"): says["apart"],
    **{(null, "gaussian"): says["nulls"] for null in of_means.NULLS},
    **{(null, "network"): says["to nulls"] for null in of_means.NULLS},
  }
  rmse = np.stack([spread(value, 1, 4, 50) for value in gaps.values()], axis=1)
  errors = dict.fromkeys(of_means.NULLS, 0.5) | PLAIN["errors"] | says["errors"]
  one, two = zip(*gaps)
  names = ("network", "gaussian")
  found = {
    "score_gap": lambda: results.labelled(
      {
        "rmse": (("law", "pair", "sigma", "image"), rmse),
        "nmse": (("law", "pair", "sigma", "image"), rmse),
        "error": (
          ("denoiser", "clean", "sigma", "image"),
          np.stack([spread(value, 1, 4, 50) for value in errors.values()]),
        ),
        "floor": ("image", rmse[0, 0, -1] if says["floor"] is None else spread(says["floor"], 50)),
      },
      {
        "law": ["held-out"],
        "clean": ["held-out"],
        "sigma": SIGMA,
        "denoiser": list(errors),
        "one": ("pair", list(one)),
        "two": ("pair", list(two)),
      },
    ),
    "linearity": lambda: results.labelled(
      {
        "cosine": (
          ("inputs", "sigma", "alpha2", "sample"),
          np.stack([spread(says[weight], 1, 4, 50) for weight in ("uneven", "score")], axis=2),
        )
      },
      {"inputs": ["noisy image"], "sigma": SIGMA, "alpha2": [0.99, 0.5]},
    ),
    "samples": lambda: results.labelled(
      {
        "memorized": (("denoiser", "sample"), np.full((2, 40), says["memorized"])),
        "gl": (("denoiser", "sample"), np.stack([spread(says["gl"], 40) for _ in names])),
        "samples": (
          ("denoiser", "sample", *IMAGE),
          [
            np.sign(seed) * np.random.default_rng([replicate, abs(seed)]).normal(size=(40, 4, 4, 1))
            for seed in map(says["pictures"].get, names)
          ],
        ),
      },
      {"denoiser": list(names)},
    ),
    "denoised": lambda: results.labelled(
      {"nmse": (("compared", "sigma", "image"), spread(says["change"], 1, 4, 50))},
      {"compared": ["network"], "sigma": SIGMA},
    ),
    "modes": lambda: results.labelled(
      {
        "alignment": (
          ("sigma", "latent"),
          np.where(SIGMA >= 10, *says["alignment"])[:, None] + spread(0.0, 8),
        )
      },
      {"sigma": SIGMA},
    ),
    "perturbation": lambda: results.labelled(
      {
        "change": (
          ("direction", "sigma", "sign", "latent"),
          np.array(list(says["pushes"].values()))[..., None, None] + 1e-2 * spread(0.0, 1, 1, 2, 8),
        ),
        "length": ("sigma", 3 * SIGMA[[0, 1, 3]]),
        "unmoved": (("latent", *IMAGE), np.zeros((8, 4, 4, 1))),
      },
      {"sigma": SIGMA[[0, 1, 3]], "direction": list(says["pushes"]), "sign": [-1, 1]},
    ),
    "distillation": lambda: results.labelled(
      {
        "weight_gap2": (("law", "sigma"), spread(says["weight gap"], 1, 4)),
        "subspace": (("law", "sigma", "k"), spread(says["subspace"], 1, 4, 2)),
      },
      {"law": ["held-out"], "sigma": SIGMA},
    ),
    "input_law": lambda: results.labelled(
      {
        "output_gap": (
          ("denoiser", "law", "sigma", "evaluated", "repeat", "image"),
          np.reshape([np.sqrt(spread(value, 4, 1, 2, 50)) for value in says["map gap"].values()],
                     (2, 2, 4, 1, 2, 50)),
        ),
        "output_noise": (
          ("denoiser", "law", "sigma", "evaluated", "image"), np.zeros((2, 2, 4, 1, 50)),
        ),
      },
      {
        "denoiser": ["network", "multi-delta"],
        "law": ["train", "held-out"],
        "evaluated": ["held-out"],
        "sigma": SIGMA,
      },
    ),
  }  # fmt: skip
  title = f"{entry['group']} {entry['size']} {entry['part']} {entry['train']['steps']}"
  controls = {name: reading(entry, replicate, (), of, **says) for name, says in dict(controls).items()}
  found = {name: make() for name, make in found.items() if name in of}
  return Reading(title, entry, found, {}, replicate, controls)


def entry(size=256, part=0, group="", width=8, steps=1):
  network, train = {"model_channels": width}, {"steps": steps, "batch": 1}
  return {"size": size, "part": part, "group": group, "network": network, "train": train}


def along(entries, **says):
  """Return entries with what each one says, its place in the lists."""
  return [(each, {name: values[i] for name, values in says.items()}) for i, each in enumerate(entries)]


def together(network, gaussian, error=0.3, memorized=False):
  """Return what the halves of a group say, by the seeds of their pictures."""
  return [
    {"pictures": {"network": one, "gaussian": two}, "errors": {"network": error}, "memorized": memorized}
    for one, two in zip(network, gaussian)
  ]


def in_groups(**groups):
  return [
    (entry(256 if group == "large" else 16, part, group), says)
    for group, pair in groups.items()
    for part, says in enumerate(pair)
  ]


SIZES = [entry(n) for n in (10, 100, 1000)]
WIDTHS = [entry(16, width=channels) for channels in (4, 16)]
TIMES = [entry(16, steps=steps) for steps in (1, 10, 100)]
KINDS = [entry(group=group) for group in ("edm", "plain ve", "dit")]
GRID = [entry(n, steps=steps) for n in (16, 64) for steps in (10, 100, 1000, 10_000)]
LAWS = [entry(group=group) for group in (noise_law.EDM, noise_law.LOG_UNIFORM)]
CONTROLS = dict.fromkeys(of_means.NULLS, {}) | {
  "multi-delta": {"score": 0.95},
  "surrogate": {"gaussian": 0.05, "errors": {"network": 0.35}},
}
# table -> the world in which all its claims hold, and the one in which they fail.
GOOD = {
  size: along(
    SIZES, gaussian=(0.3, 0.2, 0.1), memorizer=(0.1, 0.2, 0.3), score=(0.9, 0.95, 0.99), gl=(0.1, 0.4, 0.7)
  ),
  structure: [(entry(), {})],
  width: along(WIDTHS, gaussian=(0.1, 0.3), gl=(0.7, 0.1)),
  time: along(
    TIMES,
    gaussian=(0.3, 0.1, 0.2),
    gl=(0.7, 0.4, 0.1),
    errors=[{"network": value} for value in (0.4, 0.25, 0.3)],
  ),
  halves: in_groups(
    small=together((1, 2), (3, 3), 0.4, memorized=True),
    large=together((4, 4), (4, 4)),
    stopped=together((5, 5), (6, 6)),
    narrow=together((7, 7), (8, 8)),
  ),
  architectures: along(KINDS, score=(0.98, 0.7, 0.97), memorizer=(0.3, 0.3, 0.3)),
  perturbation: [(entry(), {})],
  input_law: along(
    SIZES[::2], **{"map gap": [PLAIN["map gap"], PLAIN["map gap"] | {("network", "held-out"): 0.1}]}
  ),
  noise_law: along(LAWS, gaussian=(0.3, 0.1)),
  transition: along(
    GRID,
    memorized=[False, False, True, True, False, False, False, True],
    errors=[{"network": value} for value in (0.5, 0.3, 0.3, 0.3) * 2],
  ),
}
BAD = {
  size: along(
    SIZES,
    gaussian=(0.1, 0.2, 0.31),
    memorizer=(0.3, 0.2, 0.1),
    score=(0.99, 0.95, 0.9),
    gl=(0.7, 0.4, 0.1),
    floor=(0.2, 0.2, 0.2),
    errors=[{"network": 0.25, "gaussian": 0.45}] * 3,
  ),
  structure: [
    (
      entry(),
      {
        "score": 0.9,
        "uneven": 0.8,
        "gaussian": 0.04,
        "linear": 0.1,
        "linear to gaussian": 0.1,
        "to nulls": 0.3,
        "errors": {"linear (held-out)": 0.4},
        "change": 0.2,
      },
    )
  ],
  width: along(WIDTHS, gaussian=(0.3, 0.1), gl=(0.1, 0.7)),
  time: along(
    TIMES,
    gaussian=(0.1, 0.3, 0.2),
    gl=(0.1, 0.4, 0.7),
    errors=[{"network": value} for value in (0.25, 0.4, 0.3)],
  ),
  halves: in_groups(
    small=together((1, 1), (1, 2)),
    large=together((-5, 4), (5, 5)),
    stopped=together((6, 7), (8, 8), 0.4),
    narrow=together((6, 7), (8, 8), 0.4),
  ),
  architectures: along(
    KINDS,
    score=(0.7, 0.98, 0.97),
    gaussian=(0.1, 0.1, 0.4),
    memorizer=(0.3, 0.3, 0.1),
    alignment=[(0.1, 0.9)] * 3,
  ),
  perturbation: [
    (entry(), {"pushes": {"first singular vector": (0.1, 0.2, 0.5), "random": (0.6, 0.1, 0.1)}})
  ],
  input_law: along(
    SIZES[::2],
    **{
      "map gap": [
        {("network", "train"): 0.6, ("network", "held-out"): 0.3, ("multi-delta", "train"): 0.2,
         ("multi-delta", "held-out"): 0.1}
      ]
      * 2
    },
  ),
  noise_law: along(LAWS, gaussian=(0.1, 0.3)),
  transition: along(
    GRID,
    memorized=[False, False, False, True, False, False, True, True],
    errors=[{"network": value} for value in (0.5, 0.3, 0.3, 0.3) * 2],
  ),
}  # fmt: skip
# What no world of its table can say beside the rest.
BAD_ALONE = {
  "gl and linearity": {"gl": 0.1},
  "beyond gaussian": {"errors": {"network": 0.35, "gaussian": 0.3}},
  "beyond undertraining": {"gaussian": 0.01},
  "weights": {"weight gap": 0.5},
  "subspaces": {"subspace": 0.3},
  "push keeps its length": {
    "pushes": {"first singular vector": (0.5, 0.001, 0.001), "random": (0.1, 0.1, 0.1)}
  },
}


def world(name, worlds, networks=None, which=-1, **changes):
  """Return the readings of a claim's table in one of the worlds, one of them with changes."""
  claim, models = CLAIMS[name], worlds[TABLE[name]]
  if networks is None:
    networks = ENOUGH if claim.networks else 1
  controls = {control: CONTROLS[control] for control in claim.needs.controls}
  readings = []
  for replicate in range(networks):
    for i, (place, says) in enumerate(models):
      says = says | (changes if i == which % len(models) else {})
      readings.append(reading(place, replicate, controls, needed(claim), **says))
  return readings


def needed(claim):
  return {place.partition(".")[0] for place in claim.needs.results}


def judged(name, readings):
  (row,) = claims.judge([name], readings, SWEEP.get(TABLE[name], ""))
  return row


@pytest.mark.parametrize("name", CLAIMS)
def test_a_claim_holds_in_a_world_made_for_it_and_fails_in_another(name):
  row = judged(name, world(name, GOOD))
  assert (row["verdict"], row["why"]) == (HOLDS, ""), row
  assert row["networks"] == (ENOUGH if CLAIMS[name].networks else 1)
  assert row["value"].low <= row["value"].mean <= row["value"].high and row["p"] < 0.05 / len(CLAIMS)
  if row["strip"]:
    inside = measures.within(row["strip"]["sigma"], CLAIMS[name].band or measures.ALL)
    assert {row["strip"]["verdict"][i] for i in np.flatnonzero(inside)} == {HOLDS}
  readings = world(name, BAD, **BAD_ALONE.get(name, {}))
  if name == "gl and linearity":  # the score falls and so does copying, but for one network that does both
    readings = world(name, GOOD, which=0, gl=0.9)
    readings = [each for each in readings if each.entry["size"] != 100]
  assert judged(name, readings)["verdict"] == FAILS


@pytest.mark.parametrize("name", [name for name, claim in CLAIMS.items() if claim.networks])
def test_four_networks_are_too_few_for_a_claim_about_networks(name):
  row = judged(name, world(name, GOOD, ENOUGH - 1))
  assert (row["verdict"], row["why"]) == (FEW, "4 of 5 networks")
  assert row["networks"] == 4 and row["of"] == "networks"


def test_the_order_of_readings_does_not_matter():
  for name in ("gap falls", "width leaves", "time turns", "held-out images tell"):
    readings = world(name, GOOD)
    one, other = (judged(name, each) for each in (readings, readings[::-1]))
    np.testing.assert_allclose(one["value"], other["value"], rtol=1e-12)
    assert one["verdict"] == other["verdict"] == HOLDS


def test_a_study_has_the_share_of_its_claims_of_the_error_rate():
  names = list(width.CLAIMS)
  share = claims.ERROR_RATE * len(names) / len(CLAIMS)
  seen = set()
  for gap in np.geomspace(1e-4, 1e-2, 12):
    readings = world(names[0], {width: along(WIDTHS, gaussian=(0.2, 0.2 + gap), gl=(0.7, 0.1))}, ENOUGH)
    (row,) = claims.judge(names[:1], readings, "width")
    assert (row["p"] <= share / len(names)) == (row["verdict"] == HOLDS)
    seen.add(row["verdict"])
  assert seen == {HOLDS, OPEN}


# Statistics.


def made_of(values):
  """Return a statistic of readings whose means are given, and their readings along the size."""
  readings = [reading(entry(n)) for n in (10, 40, 70, 500)]
  each = {one.title: np.asarray(value, float) for one, value in zip(readings, values)}
  return of_means.mean(lambda one: each[one.title]), readings


@pytest.mark.parametrize("values", [(0.1, 0.5, 0.3, 0.7), (0.4, 0.4, 0.1, 0.1), (0.2, 0.5, 0.5, 0.1)])
def test_slopes_are_numpys_per_decade_and_ranks_are_scipys_with_ties(values):
  statistic, readings = made_of([np.full(5, value) for value in values])
  prepared = of_means.slope(statistic, "size")(readings)
  means = np.stack([array.mean(keepdims=True) for array in prepared.ingredients])
  decades = np.log10([10, 40, 70, 500])
  np.testing.assert_allclose(prepared.combine(means), np.polyfit(decades, values, 1)[0], rtol=1e-12)
  want = scipy.stats.spearmanr(decades, values).statistic
  np.testing.assert_allclose(prepared.rank(means), want, rtol=1e-12)
  # Rounding in float32 does not break a tie.
  np.testing.assert_allclose(prepared.rank(means + 1e-7 * np.arange(4)[:, None]), want, rtol=1e-12)


def test_rank_correlation_of_two_measures_is_scipys():
  one, other = np.random.default_rng(0).normal(size=(2, 4, 30)).round(1)
  (first, readings), (second, _) = made_of(one), made_of(other)
  take = lambda statistic: lambda reading: statistic([reading]).ingredients[0]  # noqa: E731
  prepared = of_means.rank_correlation(take(first), take(second), measures.MIDDLE)(readings)
  means = np.stack([array.mean(keepdims=True) for array in prepared.ingredients])
  want = scipy.stats.spearmanr(one.mean(1), other.mean(1)).statistic
  np.testing.assert_allclose(prepared.combine(means), want, rtol=1e-12)
  flat = np.concatenate([means[:4], np.zeros((4, 1))])
  assert prepared.combine(flat) == 0  # nothing rises with what stands still


def test_statistics_of_many_means_are_those_of_each():
  """What the bootstrap gives to a statistic is an axis more, of which each entry is by itself."""
  rng = np.random.default_rng(0)
  for name in CLAIMS:
    prepared = CLAIMS[name].compute(world(name, GOOD, 1))
    means = rng.uniform(0.1, 1, (len(prepared.ingredients), 4, 7))
    together = prepared.combine(means)
    assert together.shape == (4, 7), name
    for s, b in ((0, 0), (3, 6), (1, 4)):
      np.testing.assert_allclose(together[s, b], prepared.combine(means[:, s, b][:, None])[0], rtol=1e-12)


def test_known_values():
  name, exact = "beyond gaussian", 4e-3  # five networks that differ by 1e-3, through squares and ratios
  np.testing.assert_allclose(
    judged(name, world(name, GOOD))["value"].mean, 1 - (0.25 / 0.3) ** 2, atol=2 * exact
  )
  share = (0.5**2 - 0.3**2) / (0.5**2 - 0.25**2)
  for name, value in (
    ("gap falls", -0.1),
    ("gl rises", 0.3),
    ("memorizer", 0.2),
    ("nearest to gaussian", 0.15),
    ("lead grows", 0.075),  # 0, 0.05, 0.15
    ("low noise is learned", share),
    ("time turns", 0.1),
    ("time overfits", 0.3**2 - 0.25**2),
    ("weights", 0.01),
    ("memorizer looks gaussian", 0.01),
    ("held-out images tell", 0.1),
    ("training images flatter the memorizer", 0.01 - 0.1),
    ("held-out images tell knowledge", 0.3 - 0.1),
    ("undertrained at high noise", 0.2),
  ):
    np.testing.assert_allclose(judged(name, world(name, GOOD))["value"].mean, value, atol=exact, err_msg=name)
  row = judged("gap falls", world("gap falls", GOOD))
  assert (
    row["rank correlation"] == -1
    and judged("memorizer", world("memorizer", GOOD))["rank correlation"] is None
  )


def test_least_over_models_says_what_each_is_alone():
  row = judged("modes are components", world("modes are components", GOOD))
  assert len(row["models"]) == 3 and {each["verdict"] for each in row["models"].values()} == {HOLDS}
  readings = world("all are gaussian", GOOD, which=1, gaussian=0.4)
  row = judged("all are gaussian", readings)
  assert row["verdict"] == FAILS
  assert [each["verdict"] for each in row["models"].values()] == [HOLDS, FAILS, HOLDS]
  np.testing.assert_allclose(row["value"].mean, row["models"][readings[1].title]["value"].mean, atol=1e-12)
  without = judged("modes lose order, edm", world("modes lose order, edm", GOOD))
  assert [title.split()[0] for title in without["models"]] == ["edm", "dit"]


def test_a_reading_without_the_analysis_leaves_the_claim_undecided_and_says_why():
  whole = [reading(place, replicate, **says) for replicate in range(ENOUGH) for place, says in GOOD[size]]
  absent = {"linearity": "it is too slow", "score_gap": "it is too slow", "modes": "it has no derivatives"}
  lame = lambda one, title="a function": one._replace(  # noqa: E731
    title=title, found={"samples": one.found["samples"]}, absent=absent
  )
  readings = [lame(one) if one.entry["size"] == 100 else one for one in whole]
  assert judged("gl rises", readings)["verdict"] == HOLDS
  for name in ("gap falls", "gl and linearity"):
    row = judged(name, readings)
    assert (row["value"], row["verdict"], row["why"]) == (None, OPEN, "a function: it is too slow")
    assert row["controls"] == {} and row["strip"] is None
  twice = [lame(one, one.title) if one.entry["size"] > 10 else one for one in whole]
  assert (
    lacking(CLAIMS["gap falls"], twice)
    == f"{twice[1].title}: it is too slow; {twice[2].title}: it is too slow"
  )
  assert lacking(CLAIMS["identity"], [lame(whole[0])]) == "a function: no result of denoised"


# Real controls, on digits.

SETTINGS = {
  "distillation": {"pairs": 256, "subspaces": (1, 4)},
  "linearity": {"levels": 3, "alpha2": (0.5, 0.9), "pairs": 24},
  "score_gap": {"images": 48},
  "samples": {"num": 32},
  "input_law": {"pairs": 512, "images": 24, "sigmas": (3.0, 0.2)},
  "denoised": {"images": 16},
  "modes": {"latents": 4, "vectors": 4},
  "perturbation": {"latents": 8},
}
KNOWN = (*of_means.NULLS, "gaussian", "multi-delta", "linear")
DENOISER = {"untrained": "skip"}  # which EDM's network is before its first step, see `test_pipeline`
STUDIES = {
  size: [entry(n) for n in (16, 256)],
  structure: [entry()],
  width: WIDTHS,
  time: TIMES,
  halves: in_groups(**dict.fromkeys(("small", "large", "stopped", "narrow"), ({}, {}))),
  architectures: KINDS,
  perturbation: [entry()],
  input_law: [entry(n) for n in (16, 256)],
  noise_law: LAWS,
  transition: [entry(n, steps=steps) for n in (16, 256) for steps in (1, 10)],
}
NOTHING = ("mean", "skip", "identity", "untrained")
SKIPS = NOTHING[1:]
# Claims that cannot fail here: the negative controls that pass them, as measured. A control that joins or
# leaves says that the claim, or what it is made of, has become weaker or stronger: see which, then change it.
PASSED_BY = {
  "linearity rises": ("multi-delta",),
  "gap falls": SKIPS,
  "generalizer": NOTHING,
  "low-noise floor": ("skip", "identity"),
  "linear everywhere": NOTHING,
  "linear at high noise": NOTHING,
  "linear at low noise": NOTHING,
  "identity": SKIPS,
  "gaussians agree": ("mean",),  # samples that are all the same are as far apart as chance
  "networks are gaussian": SKIPS,
  "stopping helps": SKIPS,
  "narrowing helps": SKIPS,
  "all are gaussian": NOTHING,
  "global before detail": (*SKIPS, "gaussian"),
  "nothing at low noise": NOTHING,
}
# Claims that are ratios of squared gaps, of which the lower one can be none; differences replace them.
RATIOS = ("memorizer looks gaussian", "held-out images tell")
# Claims that references do not pass: of fits of a single network there are no samples.
MISSED_BY = {
  "weights": ("gaussian",),
  "subspaces": ("gaussian",),
}


@functools.cache
def examined(name, size, part, analysis, maps=False):
  """Return what an analysis says of one denoiser of so many digits; with ``maps``, of its affine ones too."""
  settings = ConfigDict(ANALYSES[analysis].DEFAULTS | SETTINGS[analysis])
  if analysis == "score_gap" and not maps:
    settings.pairs = (("network", "gaussian"), ("network", "multi-delta"))
  if analysis == "denoised":
    settings.denoisers = ("network",)
  subject = subject_of(size, part)
  if name == "linear":
    of_gaussian = subject._replace(distillation=examined("gaussian", size, part, "distillation"))
    subject = subject._replace(network=denoiser(of_gaussian, "linear (held-out)"))
  else:
    subject = subject._replace(network=denoiser(subject, name))
  if any(used.startswith("linear") for used in ANALYSES[analysis].uses(settings)):
    subject = subject._replace(distillation=examined(name, size, part, "distillation"))
  return analyses.ANALYSES[analysis].compute(subject, settings, "test")


@functools.cache
def subject_of(size, part):
  dataset = data.load("digits", held_out=360, seed=0)
  images = data.subset(dataset, size, part).images
  return Subject(
    network=None,
    stats=statistics.gaussian_stats(images),
    train=images,
    held_out=dataset.held_out,
    sigmas=edm.sigma_grid(5, 0.002, 80.0),
    solver="euler",
    seed=0,
    records={
      name: made.fit(images, **family.defaults(made)) for name, made in FAMILIES.items() if name in KNOWN
    },
    distillation=None,
  )


def measured(name):
  """Return readings of a claim's study in which a denoiser is the network, with real controls."""
  claim, places = CLAIMS[name], STUDIES[TABLE[name]]
  if TABLE[name] is halves:
    places = [place for place, _ in places]
  if TABLE[name] is size and claim.needs.along == 1:
    places = places[-1:]
  wanted = needed(claim)
  maps = any("linear (held-out)" in pair for pairs in claim.needs.results.values() for pair in pairs)

  def one(known, place):
    names = wanted - {"linearity"} if known == "linear" else wanted
    found = {
      each: examined(known, place["size"], place["part"], each, maps and each == "score_gap")
      for each in names
    }
    return Reading(
      f"{known} {place['group']} {place['size']}", place, found, dict.fromkeys(wanted - names, "it is affine")
    )

  readings = []
  for place in places:
    network = "multi-delta" if place["group"] in ("small", "stopped", "narrow") else "gaussian"
    controls = {
      control: one(DENOISER.get(control, control), place)
      for control in {*claim.controls, *claim.needs.controls}
      if DENOISER.get(control, control) in KNOWN
    }
    readings.append(one(network, place)._replace(controls=controls))
  return readings


@pytest.mark.parametrize("name", [name for name in CLAIMS if "surrogate" not in CLAIMS[name].needs.controls])
def test_real_controls_say_what_they_must_or_the_claim_cannot_be_decided(name):
  claim = CLAIMS[name]
  row = judged(name, measured(name))
  passed = {control for control, found in row["controls"].items() if found["verdict"] == HOLDS}
  negative = {control for control, role in claim.controls.items() if role == MUST_NOT_PASS}
  references = {
    control
    for control, found in row["controls"].items()
    if found["role"] != MUST_NOT_PASS and found["value"] is not None
  }
  assert set(row["controls"]) == set(claim.controls) - {"surrogate"}
  assert passed & negative == set(PASSED_BY.get(name, ())), row["controls"]
  assert references - passed == set(MISSED_BY.get(name, ())), row["controls"]
  if name in PASSED_BY:
    among = [control for control in claim.controls if control in passed & negative]
    assert (row["verdict"], row["why"]) == (CANNOT_FAIL, f"passed by {', '.join(among)}")
  elif claim.networks:
    assert (row["verdict"], row["why"]) == (FEW, f"1 of {ENOUGH} networks")
  else:
    assert (row["verdict"] == CANNOT_HOLD) == (name in MISSED_BY)


def test_what_is_put_in_place_of_a_claim_can_fail_on_the_controls_that_pass_that_one():
  for name, claim in CLAIMS.items():
    if claim.instead_of:
      assert claim.instead_of in (*PASSED_BY, *RATIOS) and name not in PASSED_BY
      negative = {control for control, role in claim.controls.items() if role == MUST_NOT_PASS}
      # Of a push the Gaussian denoiser keeps what it should: there it is a reference.
      assert set(PASSED_BY.get(claim.instead_of, negative)) & negative or claim.instead_of in RATIOS, name


# The tables.


def test_claims_say_what_the_committed_results_say():
  # Statements are quoted in the README. Where one changes by design, run its study again.
  for path in RESULTS.glob("*/*/claims.json"):
    for row in json.loads(path.read_text()):
      if "name" in row:  # results of before claims had names are kept as they were
        claim = CLAIMS[row["name"]]
        said = claim.statement, claim.source, claim.statistic, claims.holds_if(claim), claim.instead_of
        assert said == tuple(
          row[field] for field in ("claim", "in the paper", "statistic", "holds if", "instead of")
        ), path


def test_no_claim_stands_in_two_tables():
  claim = CLAIMS["gap falls"]
  assert list(claims.merged([{"b": claim}, {"a": claim, "c": claim}])) == ["b", "a", "c"]
  with pytest.raises(ValueError, match="two tables of claims have 'a'"):
    claims.merged([{"a": claim, "b": claim}, {"c": claim, "a": claim}])
  with pytest.raises(ValueError, match="'b' is put in place of 'gap falls', which is no claim"):
    claims.merged([{"a": claim, "b": claim._replace(instead_of="gap falls")}])


def test_every_claim_is_whole_and_no_two_say_the_same():
  assert set(TABLE) == set(CLAIMS)
  assert len({claim.statement for claim in CLAIMS.values()}) == len(CLAIMS)
  for claim in CLAIMS.values():
    assert sum(map(math.isfinite, claim.region)) == 1 and claim.region[0] < claim.region[1]
    assert claim.source and claim.statistic and re.fullmatch(r"[<>] [-\d.e]+", claims.holds_if(claim))
    assert claim.over == "mean" or claim.band is not None
    assert not claim.replaced or set(claim.replaced) <= set(claim.needs.halves)


def test_what_claims_and_figures_need_exists():
  for needs in [claim.needs for claim in CLAIMS.values()] + [plot.NEEDS for plot in STUDY_PLOTS.values()]:
    assert needs.results and needs.along >= 1
    for place, entries in needs.results.items():
      analysis, _, option = place.partition(".")
      assert set(entries) <= set(ANALYSES[analysis].DEFAULTS[option] if option else ())
