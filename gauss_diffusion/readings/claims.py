"""What the paper claims, each as a statistic of a study's results that can turn out either way.

A claim names the interval in which its statistic must lie. With the statistic's 95 % bootstrap interval over
samples (images, pairs or latents, which all models share) it *holds* when all of that lies inside, *does not
hold* when all of it lies outside, and is *not decided* otherwise. Models are not resampled: what is said is
said of the networks of this study. What rises or falls along a sweep must do so with a rank correlation
beyond ± 0.5: of a handful of networks, less means little.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from gauss_diffusion.readings import intervals, measures
from gauss_diffusion.readings.intervals import Interval
from gauss_diffusion.readings.measures import HIGH, LOW, Model, Needs

POSITIVE = (0.0, math.inf)
RISES, FALLS = (0.5, math.inf), (-math.inf, -0.5)


class Claim(NamedTuple):
  """A statement of the paper, and the statistic that decides it."""

  statement: str
  source: str  # figure or section of Li et al. 2024
  statistic: str  # what is computed
  region: tuple[float, float]  # the statement is true when the statistic lies in it
  needs: Needs  # of the study
  compute: Callable[[list[Model]], Interval]  # of models in the order of the sweep


def verdict(claim: Claim, value: Interval) -> str:
  """Return "holds", "does not hold" or "not decided"."""
  low, high = claim.region
  if value.low > low and value.high < high:
    return "holds"
  return "does not hold" if value.high <= low or value.low >= high else "not decided"


def judge(names: tuple[str, ...], models: list[Model], sweep: str) -> list[dict]:
  """Return one row per claim: statement, figure, statistic, its value and interval, verdict.

  Args:
    names: keys of `CLAIMS`.
    models: of the study.
    sweep: what changes along it, one of `measures.SWEEPS`, or empty: then in the order given.
  """
  if sweep:
    models = sorted(models, key=lambda model: measures.position(model, sweep))
  rows = []
  for name in names:
    claim = CLAIMS[name]
    value = claim.compute(models)
    rows.append(
      {
        "claim": claim.statement,
        "in the paper": claim.source,
        "statistic": claim.statistic,
        "holds if": _region(claim.region),
        "value": tuple(map(float, value)),
        "verdict": verdict(claim, value),
      }
    )
  return rows


def _region(region: tuple[float, float]) -> str:
  low, high = region
  if low == -math.inf:
    return f"< {high:g}"
  return f"> {low:g}" if high == math.inf else f"{low:g} to {high:g}"


# Statistics. Each returns a function of the models, first to last along the sweep.


def _rank(measure: Callable[[Model], np.ndarray]):
  """Spearman's rank correlation of a measure's mean with the position along the sweep."""

  def compute(models):
    position = np.arange(len(models)) - (len(models) - 1) / 2

    def correlation(means):
      ranks = np.argsort(np.argsort(means, axis=0), axis=0) - position[-1]
      return position @ ranks / (position @ position)

    return intervals.bootstrap_statistic(correlation, [measure(model) for model in models])

  return compute


def _rank_of(one: Callable[[Model], np.ndarray], other: Callable[[Model], np.ndarray]):
  """Spearman's rank correlation between the means of two measures over the models."""

  def compute(models):
    values = [measure(model) for measure in (one, other) for model in models]
    num = min(map(len, values))  # they count different samples: pairs, latents

    def correlation(means):
      ranks = np.argsort(np.argsort(means.reshape(2, len(models), -1), axis=1), axis=1)
      ranks = ranks - (len(models) - 1) / 2
      return (ranks[0] * ranks[1]).sum(0) / (ranks[0] ** 2).sum(0)

    return intervals.bootstrap_statistic(correlation, [v[:num] for v in values])

  return compute


def _level(measure: Callable[[Model], np.ndarray], which: int = -1):
  """The mean of a measure of one model, by default the last along the sweep."""
  return lambda models: intervals.bootstrap_mean(measure(models[which]))


def _difference(one: Callable[[Model], np.ndarray], other: Callable[[Model], np.ndarray], which: int = -1):
  """How much larger the first measure's mean is than the second's, of one model."""
  return lambda models: intervals.bootstrap_mean(one(models[which]) - other(models[which]))


def _lowest_linearity(models):
  """The lowest mean linearity score over the levels, of the last model."""
  arrays = models[-1].found["linearity"]
  scores = [measures.linearity(models[-1], (sigma, sigma)) for sigma in arrays["sigma"]]
  return intervals.bootstrap_statistic(lambda means: means.min(0), scores)


def _largest_gap(one: str, two: str, band):
  """The largest mean RMSE over the levels in a band, of the last model."""

  def compute(models):
    sigma = models[-1].found["score_gap"]["sigma"]
    levels = sigma[measures.within(sigma, band)]
    gaps = [measures.gap(models[-1], one, two, (level, level)) for level in levels]
    return intervals.bootstrap_statistic(lambda means: means.max(0), gaps)

  return compute


def _floor_miss(models):
  """How far the gap to the Gaussian denoiser at the lowest level is from its network-free floor, at worst."""
  sigma = models[0].found["score_gap"]["sigma"][-1]
  values = [measures.gap(model, "network", "gaussian", (sigma, sigma)) for model in models]
  values += [model.found["score_gap"]["floor"] for model in models]

  def miss(means):
    gaps, floors = np.split(means, 2)
    return np.abs(gaps - floors).max(0)

  return intervals.bootstrap_statistic(miss, values)


def _worst_weight(models):
  """How much higher the linearity score is at the most uneven alpha^2 than at the most even one."""
  alpha2 = models[-1].found["linearity"]["alpha2"]
  uneven = measures.linearity(models[-1], alpha2=max(alpha2))
  return intervals.bootstrap_mean(uneven - measures.linearity(models[-1], alpha2=min(alpha2)))


def _rises_again(measure: Callable[[Model], np.ndarray]):
  """How far the lower of first and last mean lies above the least one along the sweep."""

  def compute(models):
    return intervals.bootstrap_statistic(
      lambda means: np.minimum(means[0], means[-1]) - means.min(0), [measure(model) for model in models]
    )

  return compute


def _apart(kind: str, other: str, denoisers=("network", "network"), other_denoisers=("network", "network")):
  """How much farther apart samples of two halves' denoisers are in one group of models than in another."""

  def compute(models):
    halves = measures.halves(models)
    one = measures.apart(halves[kind], *denoisers)
    return intervals.bootstrap_mean(one - measures.apart(halves[other], *other_denoisers))

  return compute


def _between(measure: Callable[[Model], np.ndarray], group: str, other: str):
  """How much larger a measure's mean is for one model of the study than for another, by group."""

  def compute(models):
    named = {model.entry["group"]: model for model in models}
    return intervals.bootstrap_mean(measure(named[group]) - measure(named[other]))

  return compute


def _singular_correlation(models):
  """How well the singular vectors of the last model's best affine map match, sampled over the vectors."""
  arrays = models[-1].found["distillation"]
  held_out = arrays["singular_correlation"][list(arrays["law"]).index("held-out")]
  return intervals.bootstrap_mean(held_out[measures.within(arrays["sigma"], (0.11, np.inf))].mean(0))


def _small_weight_gaps(models):
  """The share of noise levels with a weight gap below 0.2, sampled over the levels, of the last model."""
  arrays = models[-1].found["distillation"]
  return intervals.bootstrap_mean(arrays["weight_gap"][list(arrays["law"]).index("held-out")] < 0.2)


def _change_at_low_noise(models):
  """The relative change that the network makes to an image at the lowest level, of the last model."""
  arrays = models[-1].found["denoised"]
  return intervals.bootstrap_mean(arrays["nmse"][list(arrays["pair"]).index("network"), -1])


def _law_ratio(denoiser: str, which: int):
  """The squared gap of the map fitted on training images over that of the one fitted on held-out images."""

  def compute(models):
    gaps = [measures.map_gap(models[which], denoiser, law) for law in ("train", "held-out")]
    return intervals.bootstrap_statistic(lambda means: means[0] / means[1], gaps)

  return compute


def _knowledge_over_memory(models):
  """The squared held-out gap of the network with the most images over the memorizer's of the fewest."""
  gaps = [measures.map_gap(models[-1], "network", "held-out")]
  gaps.append(measures.map_gap(models[0], "multi-delta", "held-out"))
  return intervals.bootstrap_statistic(lambda means: means[0] / means[1], gaps)


def _least(measure: Callable[[Model], np.ndarray], but: str | None = None):
  """The least mean of a measure over all models, those of one group left out."""

  def compute(models):
    values = [measure(model) for model in models if model.entry["group"] != but]
    return intervals.bootstrap_statistic(lambda means: means.min(0), values)

  return compute


def _to_gaussian(model: Model) -> np.ndarray:
  return measures.gap(model, "network", "gaussian")


def _to_memorizer(model: Model) -> np.ndarray:
  return measures.gap(model, "network", "multi-delta")


def _alignment(model: Model) -> np.ndarray:
  return measures.alignment(model, (10.0, np.inf))


def _nearer_gaussian(model: Model) -> np.ndarray:
  return _to_memorizer(model) - _to_gaussian(model)


GAUSSIAN = ("network", "gaussian")
MEMORIZER = ("network", "multi-delta")
LINEAR = ("network", "linear (held-out)")
_GAP = "score difference to the Gaussian denoiser, σ in [0.1, 20]"
CLAIMS = {
  # Size of the training set.
  "linearity rises": Claim(
    "Denoisers become more linear as the training set grows",
    "fig. 1, 13",
    "rank correlation of the linearity score, σ in [0.1, 20], with N",
    RISES,
    Needs({"linearity": ()}, along=2),
    _rank(measures.linearity),
  ),
  "gl rises": Claim(
    "Samples leave the training set as it grows",
    "fig. 13",
    "rank correlation of the GL score with N",
    RISES,
    Needs({"samples.denoisers": ("network",)}, along=2),
    _rank(measures.gl),
  ),
  "gl and linearity": Claim(
    "Generalization and linearity rise together",
    "fig. 13",
    "rank correlation of the GL score with the linearity score over models",
    RISES,
    Needs({"samples.denoisers": ("network",), "linearity": ()}, along=2),
    _rank_of(measures.gl, measures.linearity),
  ),
  "gap falls": Claim(
    "Denoisers approach the Gaussian one as the training set grows",
    "fig. 5, 6",
    f"rank correlation of the {_GAP}, with N",
    FALLS,
    Needs({"score_gap.pairs": (GAUSSIAN,)}, along=2),
    _rank(_to_gaussian),
  ),
  "memorizer": Claim(
    "The network with the fewest images is nearer to the memorizing denoiser than to the Gaussian one",
    "fig. 5",
    "RMSE to D_G minus RMSE to D_M, σ in [0.1, 20], held-out images",
    POSITIVE,
    Needs({"score_gap.pairs": (GAUSSIAN, MEMORIZER)}, along=2),
    _difference(_to_gaussian, _to_memorizer, 0),
  ),
  "generalizer": Claim(
    "The network with the most images is nearer to the Gaussian denoiser than to the memorizing one",
    "fig. 2, 5",
    "RMSE to D_M minus RMSE to D_G, σ in [0.1, 20], held-out images",
    POSITIVE,
    Needs({"score_gap.pairs": (GAUSSIAN, MEMORIZER)}),
    _level(_nearer_gaussian),
  ),
  "low-noise floor": Claim(
    "At vanishing noise the gap to D_G is fixed by the training set alone",
    "fig. 16",
    "largest difference over models between the gap at the lowest σ and ‖(I − P)(x − μ)‖/√d",
    (-math.inf, 0.01),
    Needs({"score_gap.pairs": (GAUSSIAN,)}),
    _floor_miss,
  ),
  # One well-trained network.
  "linear everywhere": Claim(
    "A well-trained denoiser has a linearity score of at least 0.96 at every noise level",
    "fig. 1, 10",
    "lowest linearity score over σ",
    (0.96, math.inf),
    Needs({"linearity": ()}),
    _lowest_linearity,
  ),
  "even weights are worst": Claim(
    "α = β = 1/√2 is the hardest mixture",
    "fig. 10",
    "linearity score at the most uneven α² minus that at α² = 1/2, σ in [0.1, 20]",
    POSITIVE,
    Needs({"linearity": ()}),
    _worst_weight,
  ),
  "linear at high noise": Claim(
    "At high noise the best affine map replaces the network",
    "fig. 2",
    "largest RMSE between network and D_L (held-out) over σ ≥ 20",
    (-math.inf, 0.05),
    Needs({"score_gap.pairs": (LINEAR,)}),
    _largest_gap("network", "linear (held-out)", HIGH),
  ),
  "linear at low noise": Claim(
    "At low noise the best affine map replaces the network",
    "fig. 2",
    "largest RMSE between network and D_L (held-out) over σ ≤ 0.1",
    (-math.inf, 0.05),
    Needs({"score_gap.pairs": (LINEAR,)}),
    _largest_gap("network", "linear (held-out)", LOW),
  ),
  "linear is gaussian": Claim(
    "The best affine map of a well-trained denoiser is the Gaussian denoiser",
    "fig. 2",
    "largest RMSE between D_L (held-out) and D_G over all σ",
    (-math.inf, 0.05),
    Needs({"score_gap.pairs": (("linear (held-out)", "gaussian"),)}),
    _largest_gap("linear (held-out)", "gaussian", (0.0, np.inf)),
  ),
  # Width.
  "width leaves": Claim(
    "On a small training set, wider networks lie farther from the Gaussian denoiser",
    "fig. 7",
    f"rank correlation of the {_GAP}, with width",
    RISES,
    Needs({"score_gap.pairs": (GAUSSIAN,)}, along=2),
    _rank(_to_gaussian),
  ),
  "width memorizes": Claim(
    "On a small training set, wider networks copy more",
    "fig. 7, 18",
    "rank correlation of the GL score with width",
    FALLS,
    Needs({"samples.denoisers": ("network",)}, along=2),
    _rank(measures.gl),
  ),
  # Training time.
  "time turns": Claim(
    "During training the network first approaches the Gaussian denoiser, then leaves it",
    "fig. 8",
    f"how far the {_GAP}, is above its least value both at the first and at the last snapshot",
    POSITIVE,
    Needs({"score_gap.pairs": (GAUSSIAN,)}, along=2),
    _rises_again(_to_gaussian),
  ),
  "time overfits": Claim(
    "A network trained too long on few images denoises unseen images worse than at its best",
    "fig. 8, 9",
    "held-out denoising RMSE, σ in [0.1, 20]: last snapshot minus the best one",
    POSITIVE,
    Needs({"score_gap": ()}, along=2),
    lambda models: intervals.bootstrap_statistic(
      lambda means: means[-1] - means.min(0), [measures.error(model) for model in models]
    ),
  ),
  "time memorizes": Claim(
    "Training on few images ends in copies",
    "fig. 8, 18",
    "rank correlation of the GL score with training time",
    FALLS,
    Needs({"samples.denoisers": ("network",)}, along=2),
    _rank(measures.gl),
  ),
  # Disjoint halves.
  "halves agree": Claim(
    "Networks trained on disjoint halves draw nearer pictures when the halves are large",
    "fig. 9, 26",
    "distance of the two networks' samples, small halves minus large ones (1 = unrelated)",
    POSITIVE,
    Needs({"samples.denoisers": ("network",)}, halves=("small", "large")),
    _apart("small", "large"),
  ),
  "gaussians agree": Claim(
    "Of small halves, the two Gaussian denoisers agree where the two networks do not",
    "fig. 9",
    "distance of samples: between the networks minus between the Gaussians",
    POSITIVE,
    Needs({"samples.denoisers": ("network", "gaussian")}, halves=("small",)),
    _apart("small", "small", other_denoisers=("gaussian", "gaussian")),
  ),
  "networks are gaussian": Claim(
    "Networks of large halves draw what both Gaussian denoisers draw, more than networks of small ones do",
    "fig. 9, 26",
    "distance of samples from networks to those of both Gaussians: small halves minus large ones",
    POSITIVE,
    Needs({"samples.denoisers": ("network", "gaussian")}, halves=("small", "large")),
    _apart("small", "large", ("network", "gaussian"), ("network", "gaussian")),
  ),
  "stopping helps": Claim(
    "Stopping early brings the networks of small halves together",
    "fig. 9, 26",
    "distance of samples: trained long minus stopped early",
    POSITIVE,
    Needs({"samples.denoisers": ("network",)}, halves=("small", "stopped")),
    _apart("small", "stopped"),
  ),
  "narrowing helps": Claim(
    "Narrow networks on small halves agree more than wide ones",
    "fig. 9, 26",
    "distance of samples: wide minus narrow",
    POSITIVE,
    Needs({"samples.denoisers": ("network",)}, halves=("small", "narrow")),
    _apart("small", "narrow"),
  ),
  # Architectures.
  "all are gaussian": Claim(
    "Every architecture is nearer to the Gaussian denoiser than to the memorizing one",
    "fig. 22–24",
    "least of RMSE to D_M minus RMSE to D_G over models, σ in [0.1, 20]",
    POSITIVE,
    Needs({"score_gap.pairs": (GAUSSIAN, MEMORIZER)}),
    _least(_nearer_gaussian),
  ),
  "preconditioning": Claim(
    "Without EDM's preconditioning and weighting the denoiser is less linear",
    "fig. 11",
    "linearity score of the EDM network minus that of the plain VE network, σ ≥ 20",
    POSITIVE,
    Needs({"linearity": ()}, groups=("edm", "plain ve")),
    _between(lambda model: measures.linearity(model, HIGH), "edm", "plain ve"),
  ),
  "modes are components": Claim(
    "At high noise the Jacobian's leading singular vectors are principal components",
    "fig. 28, 29",
    "least alignment over models but plain VE, σ ≥ 10 (1 = same span, 0 = orthogonal)",
    (0.5, math.inf),
    Needs({"modes": ()}),
    _least(_alignment, but="plain ve"),
  ),
  "modes lose order": Claim(
    "At vanishing noise the Jacobian's singular vectors have no order left",
    "fig. 28, 29",
    "least over models but plain VE of the alignment at σ ≥ 10 minus that at σ ≤ 0.1",
    POSITIVE,
    Needs({"modes": ()}),
    _least(lambda model: _alignment(model) - measures.alignment(model, LOW), but="plain ve"),
  ),
  # The best affine map, weight by weight.
  "weights": Claim(
    "The weights of the best affine map are those of the Gaussian denoiser at most noise levels",
    "fig. 4",
    "share of levels with ‖W_L − W_G‖/‖W_G‖ < 0.2 (held-out; interval over levels)",
    (0.5, math.inf),
    Needs({"distillation": ()}),
    _small_weight_gaps,
  ),
  "singular vectors": Claim(
    "The singular vectors of the best affine map are the principal components for σ ≥ 0.11",
    "fig. 4, 14",
    "mean |correlation| of each with its counterpart (held-out; interval over vectors)",
    (0.9, math.inf),
    Needs({"distillation": ()}),
    _singular_correlation,
  ),
  "identity": Claim(
    "At vanishing noise the denoiser is the identity",
    "fig. 15",
    "‖D(x) − x‖/‖x‖ at the lowest σ",
    (-math.inf, 0.05),
    Needs({"denoised": ()}),
    _change_at_low_noise,
  ),
  # Moves along the first singular vector, at three levels.
  "global before detail": Claim(
    "A move along the first singular vector changes the picture more at high noise than at middle noise",
    "fig. 30",
    "RMSE of the change at the highest level minus that at the middle one",
    POSITIVE,
    Needs({"perturbation": ()}),
    _difference(lambda model: measures.push(model, 0), lambda model: measures.push(model, 1)),
  ),
  "nothing at low noise": Claim(
    "At the lowest noise the same move changes nothing",
    "fig. 30",
    "RMSE of the change at the lowest level",
    (-math.inf, 0.01),
    Needs({"perturbation": ()}),
    _level(lambda model: measures.push(model, -1)),
  ),
  "singular vectors move more": Claim(
    "At high noise the first singular vector moves the picture more than a random direction does",
    "fig. 30",
    "RMSE of the change at the highest level: singular vector minus random direction",
    POSITIVE,
    Needs({"perturbation": ()}),
    _difference(lambda model: measures.push(model, 0), lambda model: measures.push(model, 0, "random")),
  ),
  # Distillation on training and on held-out images. Not the paper's: the caveat that it needs.
  "memorizer looks gaussian": Claim(
    "Distilled on noisy training images, the exact memorizer is the Gaussian denoiser",
    "none: theorem",
    "squared gap of its map to D_G, fitted on training images over fitted on held-out ones; fewest images",
    (-math.inf, 0.1),
    Needs({"input_law.denoisers": ("multi-delta",)}),
    _law_ratio("multi-delta", 0),
  ),
  "memorizing network looks gaussian": Claim(
    "The network that has memorized looks more Gaussian on training images than on held-out ones",
    "none",
    "the same ratio for the network with the fewest images",
    (-math.inf, 1.0),
    Needs({"input_law.denoisers": ("network",)}),
    _law_ratio("network", 0),
  ),
  "held-out images tell": Claim(
    "Distilled on held-out images, the network with the most images looks more Gaussian than the memorizer",
    "none",
    "squared gap of its map to D_G over that of the exact memorizer of the fewest images",
    (-math.inf, 1.0),
    Needs({"input_law.denoisers": ("multi-delta", "network")}, along=2),
    _knowledge_over_memory,
  ),
}
