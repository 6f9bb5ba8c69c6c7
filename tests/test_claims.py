"""Claims decided on results that are made up, so that each verdict is known beforehand."""

import json
import pathlib

import numpy as np
import pytest

from gauss_diffusion import results
from gauss_diffusion.analyses import ANALYSES
from gauss_diffusion.analyses.subject import IMAGE, LAWS
from gauss_diffusion.plots import STUDY_PLOTS
from gauss_diffusion.readings import claims, intervals
from gauss_diffusion.readings.claims import CLAIMS
from gauss_diffusion.readings.intervals import Interval
from gauss_diffusion.readings.measures import Reading

RESULTS = pathlib.Path(__file__).parents[1] / "results"
SIGMA = np.array([80.0, 5.0, 0.5, 0.01])
PAIRS = (
  ("network", "gaussian"),
  ("network", "multi-delta"),
  ("network", "linear (held-out)"),
  ("linear (held-out)", "gaussian"),
)


def reading(
  size, *, to_gaussian=0.2, to_memorizer=0.2, score=0.97, gl=0.5, error=0.3, noise=0.0, floor=None, **entry
):
  rng = np.random.default_rng(size)
  spread = lambda value, *shape: value + noise * rng.normal(size=(*shape, 50))  # noqa: E731
  rmse = np.stack([spread(value, 2, 4) for value in (to_gaussian, to_memorizer, 0.04, 0.03)], axis=1)
  network = {"model_channels": entry.pop("width", 8)}
  one, two = zip(*PAIRS)
  score_gap = results.labelled(
    {
      "rmse": (("law", "pair", "sigma", "image"), rmse),
      "error": (("denoiser", "clean", "sigma", "image"), spread(error, 1, 2, 4)),
      "floor": ("image", rmse[1, 0, -1] if floor is None else np.full(50, floor)),
    },
    {
      "law": list(LAWS),
      "clean": list(LAWS),
      "sigma": SIGMA,
      "denoiser": ["network"],
      "one": ("pair", list(one)),
      "two": ("pair", list(two)),
    },
  )
  cosine = np.stack([spread(1.0, 2, 4), spread(score, 2, 4)], axis=2)
  linearity = results.labelled(
    {"cosine": (("inputs", "sigma", "alpha2", "sample"), cosine)},
    {"inputs": ["noisy image", "pure noise"], "sigma": SIGMA, "alpha2": [0.99, 0.5]},
  )
  return Reading(
    title=f"N = {size}",
    entry={"size": size, "network": network, "train": {"steps": entry.pop("steps", 1), "batch": 1}, **entry},
    found={
      "score_gap": score_gap,
      "linearity": linearity,
      "samples": samples(gl=np.stack([spread(gl), spread(0.7)]), memorized=np.zeros((2, 50), bool)),
    },
    absent={},
  )


def samples(**arrays):
  """Return a result of `samples` of the network and the Gaussian denoiser."""
  axes = ("denoiser", "sample", *IMAGE)
  return results.labelled(
    {name: (axes[: values.ndim], values) for name, values in arrays.items()},
    {"denoiser": ["network", "gaussian"]},
  )


def judged(names, readings, sweep="size"):
  rows = claims.judge(names, readings, sweep)
  return {name: row for name, row in zip(names, rows, strict=True)}


def test_verdict_asks_for_the_whole_interval():
  claim = CLAIMS["linear everywhere"]._replace(region=(0.5, np.inf))
  for low, high, verdict in ((0.6, 0.7, "holds"), (0.4, 0.7, "not decided"), (0.1, 0.5, "does not hold")):
    assert claims.verdict(claim, Interval(0.5, low, high)) == verdict
  between = claim._replace(region=(0.9, 1.1))
  for low, high, verdict in ((0.95, 1.05, "holds"), (1.0, 1.2, "not decided"), (1.2, 1.3, "does not hold")):
    assert claims.verdict(between, Interval(1.0, low, high)) == verdict


def test_the_papers_story_holds_in_a_world_made_for_it_whatever_the_order():
  world = [
    reading(1000, to_gaussian=0.1, to_memorizer=0.3, score=0.99, gl=0.7),
    reading(10, to_gaussian=0.3, to_memorizer=0.1, score=0.90, gl=0.1),
    reading(100, to_gaussian=0.2, to_memorizer=0.2, score=0.95, gl=0.4),
  ]
  names = ("linearity rises", "gl rises", "gl and linearity", "gap falls", "memorizer", "generalizer")
  rows = judged((*names, "low-noise floor"), world)
  assert {row["verdict"] for row in rows.values()} == {"holds"}
  assert rows["gap falls"]["value"] == (-1.0, -1.0, -1.0)
  np.testing.assert_allclose(rows["memorizer"]["value"], 0.2)
  mirrored = [one._replace(entry=one.entry | {"size": 1 / one.entry["size"]}) for one in world]
  rows = judged(names, mirrored)
  assert {row["verdict"] for name, row in rows.items() if name != "gl and linearity"} == {"does not hold"}


def test_what_noise_hides_is_not_decided():
  world = [reading(size, to_gaussian=0.2, noise=0.1) for size in (10, 11)]
  world += [reading(12, to_gaussian=0.2, noise=0.1)]
  assert judged(("gap falls",), world)["gap falls"]["verdict"] == "not decided"


def test_rank_correlation_is_spearmans():
  for scores, correlation, verdict in (
    ((0.1, 0.5, 0.3, 0.7), 1 - 6 * (1 + 1) / (4 * 15), "holds"),
    ((0.1, 0.7, 0.5, 0.3), 1 - 6 * (4 + 4) / (4 * 15), "does not hold"),  # too weak to call it a trend
  ):
    row = judged(("gl rises",), [reading(size, gl=gl) for size, gl in enumerate(scores)])["gl rises"]
    np.testing.assert_allclose(row["value"], correlation)
    assert row["verdict"] == verdict


def test_floor_is_missed_where_the_gap_is_not_it():
  world = [reading(10, to_gaussian=0.3), reading(20, to_gaussian=0.3, floor=0.25)]
  row = judged(("low-noise floor",), world)["low-noise floor"]
  np.testing.assert_allclose(row["value"], 0.05)
  assert row["verdict"] == "does not hold"


def test_time_turns_where_the_gap_has_a_minimum_inside():
  turning = [reading(16, steps=steps, to_gaussian=gap) for steps, gap in ((1, 0.5), (2, 0.1), (3, 0.3))]
  falling = [reading(16, steps=steps, to_gaussian=gap) for steps, gap in ((1, 0.5), (2, 0.3), (3, 0.1))]
  np.testing.assert_allclose(judged(("time turns",), turning, "time")["time turns"]["value"], 0.2)
  assert judged(("time turns",), falling, "time")["time turns"]["verdict"] == "does not hold"


def test_one_networks_claims():
  one = [reading(10, score=0.95)]
  names = ("linear everywhere", "even weights are worst", "linear at high noise", "linear is gaussian")
  rows = judged(names, one, "")
  assert [rows[name]["verdict"] for name in names] == ["does not hold", "holds", "holds", "holds"]
  np.testing.assert_allclose(rows["linear is gaussian"]["value"], 0.03)


def halves(group, seeds, gaussian_seeds=(7, 7)):
  """Return two readings that draw the pictures of their seeds: the same seed, the same pictures."""
  draw = lambda seed: np.random.default_rng(seed).normal(size=(40, 4, 4, 1))  # noqa: E731
  pair = []
  for part, seed in enumerate(seeds):
    one = reading(16, group=group, part=part)
    one.found["samples"] = samples(samples=np.stack([draw(seed), draw(gaussian_seeds[part])]))
    pair.append(one)
  return pair


def test_halves_agree_where_they_draw_the_same_pictures():
  world = halves("small", (1, 2)) + halves("narrow", (4, 5))
  world += halves("stopped", (6, 6), gaussian_seeds=(7, 8))
  world += halves("large", (3, 3), gaussian_seeds=(3, 3))
  names = ("halves agree", "gaussians agree", "networks are gaussian", "stopping helps", "narrowing helps")
  for order in (world, world[::-1]):
    rows = judged(names, order, "")
    assert [rows[name]["verdict"] for name in names] == ["holds"] * 4 + ["not decided"]
    np.testing.assert_allclose([rows[name]["value"][0] for name in names[:4]], 1.0, atol=0.05)


def test_architectures_are_judged_together_and_plain_ve_by_its_preconditioning():
  world = []
  for group, score, alignment in (("edm", 0.98, 0.9), ("plain ve", 0.7, 0.1), ("dit", 0.97, 0.8)):
    one = reading(16, group=group, score=score)
    at_high_noise = (SIGMA >= 10)[:, None]
    alignments = np.where(at_high_noise, alignment, 0.05) + np.zeros(8)
    one.found["modes"] = results.labelled({"alignment": (("sigma", "latent"), alignments)}, {"sigma": SIGMA})
    world.append(one)
  rows = judged(("preconditioning", "modes are components", "modes lose order"), world, "")
  np.testing.assert_allclose(rows["preconditioning"]["value"], 0.28)
  np.testing.assert_allclose(rows["modes are components"]["value"], 0.8)
  np.testing.assert_allclose(rows["modes lose order"]["value"], 0.75)


def test_a_reading_without_the_analysis_leaves_the_claim_undecided_and_says_why():
  world = [reading(size, to_gaussian=1 / size, gl=size / 100) for size in (10, 20, 30)]
  lacking = world[1]._replace(
    title="a function",
    found={name: arrays for name, arrays in world[1].found.items() if name == "samples"},
    absent={"linearity": "it is too slow", "score_gap": "it is too slow", "modes": "it has no derivatives"},
  )
  found = judged(("gl rises", "gap falls", "gl and linearity"), [world[0], lacking, world[2]])
  assert found["gl rises"] == judged(("gl rises",), world)["gl rises"]
  assert found["gl rises"]["verdict"] == "holds" and "why" not in found["gl rises"]
  for name in ("gap falls", "gl and linearity"):
    row, decided = found[name], judged((name,), world)[name]
    assert row == decided | {"value": None, "verdict": "not decided", "why": "a function: it is too slow"}
    assert list(row) == [*decided, "why"]
  twice = judged(("gap falls",), [lacking, world[0], lacking._replace(title="another")])["gap falls"]
  assert twice["why"] == "a function: it is too slow; another: it is too slow"
  neither = lacking._replace(found={}, absent=dict.fromkeys(ANALYSES, "it is too slow"))
  assert judged(("gl and linearity",), [neither])["gl and linearity"]["why"] == "a function: it is too slow"


def test_claims_say_what_the_committed_results_say():
  # Statements are quoted in the README. Where one changes by design, run its study again.
  wording = {
    claim.statement: (claim.source, claim.statistic, claims.holds_if(claim)) for claim in CLAIMS.values()
  }
  rows = [row for path in RESULTS.glob("*/*/claims.json") for row in json.loads(path.read_text())]
  assert len(rows) > 60
  for row in rows:
    assert wording[row["claim"]] == (row["in the paper"], row["statistic"], row["holds if"])


def test_no_claim_stands_in_two_tables():
  claim = CLAIMS["gap falls"]
  assert list(claims.merged([{"b": claim}, {"a": claim, "c": claim}])) == ["b", "a", "c"]
  with pytest.raises(ValueError, match="two tables of claims have 'a'"):
    claims.merged([{"a": claim, "b": claim}, {"c": claim, "a": claim}])


def test_every_claim_says_what_it_needs_and_no_two_say_the_same():
  assert len({claim.statement for claim in CLAIMS.values()}) == len(CLAIMS)
  for claim in CLAIMS.values():
    low, high = claim.region
    assert low < high and claim.source and claim.statistic


def test_what_claims_and_figures_need_exists():
  for needs in [claim.needs for claim in CLAIMS.values()] + [plot.NEEDS for plot in STUDY_PLOTS.values()]:
    assert needs.results and needs.along >= 1
    for place, entries in needs.results.items():
      analysis, _, option = place.partition(".")
      assert set(entries) <= set(ANALYSES[analysis].DEFAULTS[option] if option else ())


def test_bootstrap_of_a_statistic_is_that_of_its_means():
  values = np.random.default_rng(0).normal([[1.0], [3.0]], 1.0, (2, 400))
  found = intervals.bootstrap_statistic(lambda means: means[1] - means[0], values)
  want = intervals.bootstrap_mean(values[1] - values[0])
  np.testing.assert_allclose(found, want, rtol=1e-12)
  with pytest.raises(ValueError, match=r"\(2,\)"):
    intervals.bootstrap_statistic(lambda means: means, values[:, 0])
