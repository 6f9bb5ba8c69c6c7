"""Headlines of results that are made up: which numbers there are, what they say, how they are printed."""

import numpy as np

from gauss_diffusion import results
from gauss_diffusion.analyses.subject import LAWS
from gauss_diffusion.readings import headline, measures
from gauss_diffusion.readings.intervals import bootstrap_mean, t_interval
from gauss_diffusion.readings.measures import Reading

SIGMA = np.array([80.0, 5.0, 0.5, 0.01])
PAIRS = (
  ("network", "gaussian"),
  ("network", "linear (train)"),
  ("network", "linear (held-out)"),
  ("network", "multi-delta"),
  ("linear (held-out)", "gaussian"),
)
NULL_IS_WORST = np.array([0.0, 0.0, 1.0])[:, None, None, None]
KNOWLEDGE = (
  "Gaussian share at σ = 0.5",
  "gain over Gaussian at σ = 0.5",
  "nats beyond the Gaussian down to σ = 0.5",
)
F64 = 1e-12


def score_gap(pairs):
  rng = np.random.default_rng(0)
  one, two = zip(*pairs)
  return results.labelled(
    {
      "rmse": (("law", "pair", "sigma", "image"), rng.uniform(size=(2, len(pairs), 4, 9))),
      "error": (("denoiser", "clean", "sigma", "image"), rng.uniform(size=(3, 2, 4, 9)) + NULL_IS_WORST),
      "dimension": ((), 64),
    },
    {
      "law": list(LAWS),
      "clean": list(LAWS),
      "sigma": SIGMA,
      "denoiser": ["gaussian", "network", "mean"],
      "one": ("pair", list(one)),
      "two": ("pair", list(two)),
    },
  )


def linearity():
  cosine = np.random.default_rng(1).uniform(-1, 1, (2, 4, 2, 9))
  return results.labelled(
    {"cosine": (("inputs", "sigma", "alpha2", "sample"), cosine)},
    {"inputs": ["noisy image", "pure noise"], "sigma": SIGMA, "alpha2": [0.9, 0.6]},
  )


def samples(*denoisers):
  rng = np.random.default_rng(2)
  values = {"gl": rng.uniform(size=(len(denoisers), 9)), "memorized": np.ones((len(denoisers), 9), bool)}
  return results.labelled(
    {name: (("denoiser", "sample"), value) for name, value in values.items()}, {"denoiser": list(denoisers)}
  )


def reading(**found):
  return Reading("one", {}, found, {})


def test_numbers_are_those_of_the_measures_at_the_nearest_level_and_weight():
  one = reading(score_gap=score_gap(PAIRS), linearity=linearity(), samples=samples("gaussian", "network"))
  level = (0.5, 0.5)
  found = headline.headlines([one])
  assert {name: value for name, value in found.items() if name not in KNOWLEDGE} == {
    "GL score": bootstrap_mean(measures.gl(one)),
    "memorized share": (1.0, 1.0, 1.0),
    "linearity score at σ = 0.5, α² = 0.6": bootstrap_mean(measures.linearity(one, level, 0.6)),
    "RMSE to gaussian at σ = 0.5": bootstrap_mean(measures.gap(one, "network", "gaussian", level)),
    "RMSE to linear (held-out) at σ = 0.5": bootstrap_mean(
      measures.gap(one, "network", "linear (held-out)", level)
    ),
    "RMSE to multi-delta at σ = 0.5": bootstrap_mean(measures.gap(one, "network", "multi-delta", level)),
    "denoising RMSE on held-out images": bootstrap_mean(measures.error(one)),
  }


def test_the_network_is_held_against_what_it_was_paired_with_in_that_order():
  pairs = (
    ("network", "kernel"),
    ("kernel", "gaussian"),
    ("network", "multi-delta"),
    ("network", "linear (train)"),
    ("network", "gaussian"),
  )
  names = list(headline.headlines([reading(score_gap=score_gap(pairs))]))
  assert names == [
    *(f"RMSE to {name} at σ = 0.5" for name in ("kernel", "multi-delta", "gaussian")),
    "denoising RMSE on held-out images",
    *KNOWLEDGE,
  ]
  alone = headline.headlines([reading(score_gap=score_gap(pairs[:1]))])
  assert list(alone) == ["RMSE to kernel at σ = 0.5", "denoising RMSE on held-out images", *KNOWLEDGE]


def test_knowledge_is_that_of_the_errors_at_the_nearest_level_and_down_to_middle_noise():
  found = score_gap(PAIRS)
  gaussian, network, null = 64 * (found.error.sel(clean="held-out").to_numpy() ** 2).mean(-1)
  rates = SIGMA[:3] ** -2.0  # 0.01 is low noise, where the span of few images decides
  gap = rates * (gaussian - network)[:3]
  steps = [np.log(high / low) * (a + b) / 2 for low, high, a, b in zip(rates, rates[1:], gap, gap[1:])]
  want = ((null - gaussian) / (null - network))[2], (gaussian - network)[2] / gaussian[2], sum(steps) / 2
  values = headline.headlines([reading(score_gap=found)])
  np.testing.assert_allclose([values[name].mean for name in KNOWLEDGE], want, rtol=F64)
  others = [reading(score_gap=found), reading(score_gap=found.assign(error=found.error**1.5))]
  means = [[headline.numbers(one)[name].mean() for one in others] for name in KNOWLEDGE]
  values = headline.headlines(others)
  assert [values[name] for name in KNOWLEDGE] == [t_interval(each) for each in means]


def test_a_share_that_is_no_number_is_left_out_for_all_networks_of_the_model():
  found = score_gap(PAIRS)
  lost = found.assign(error=found.error + np.array([0.0, 2.0, 0.0])[:, None, None, None])
  networks = [reading(score_gap=found), reading(score_gap=lost)]
  for shown in (networks[1:], networks, networks[::-1]):
    values = headline.headlines(shown)
    assert KNOWLEDGE[0] not in values and set(KNOWLEDGE[1:]) < set(values)
  assert KNOWLEDGE[0] in headline.headlines(networks[:1])


def test_of_several_networks_the_interval_is_over_their_means():
  networks = [reading(samples=samples("network")) for _ in range(3)]
  for network, shift in zip(networks, (0.0, 0.1, 0.5)):
    network.found["samples"]["gl"] = network.found["samples"].gl + shift
  found = headline.headlines(networks)["GL score"]
  assert found == t_interval([measures.gl(network).mean() for network in networks])


def test_what_was_not_measured_is_left_out():
  assert headline.headlines([reading()]) == {}
  assert headline.headlines([reading(samples=samples("gaussian"))]) == {}
  rows = [{"model": "a", "x": (0.5, 0.25, 0.75)}, {"model": "b", "y": (1.0, 1.0, 1.0)}]
  assert headline.table(rows).splitlines() == [
    "model  a                     b",
    "x      0.500 [0.250, 0.750]",
    "y                            1.000 [1.000, 1.000]",
  ]
  rows = [{"nats": (3_591_326.86, -5.0, 7.5e6), "one image": (0.25, None, None)}]
  assert headline.table(rows).splitlines() == [
    "nats       3,591,327 [-5.000, 7,500,000]",
    "one image  0.250",
  ]


def test_verdicts_show_the_value_or_why_there_is_none():
  rows = [
    {"verdict": "holds", "claim": "Snow is white", "value": (0.5, 0.25, 0.75), "why": ""},
    {"verdict": "cannot fail here", "claim": "A is A", "value": (1.0, 1.0, 1.0), "why": "passed by mean"},
    {"verdict": "not decided", "claim": "Grass is green", "value": None, "why": "moss: it is no grass"},
  ]
  assert headline.verdicts(rows).splitlines() == [
    "holds              Snow is white  0.500 [0.250, 0.750]",
    "cannot fail here   A is A  1.000 [1.000, 1.000] passed by mean",
    "not decided        Grass is green  moss: it is no grass",
  ]
