"""Memorization, seen while it happens: errors, samples and states of a network in training, and when to stop.

Three lines in any loop, where `denoise` is a `types.Denoiser` such as ``Partial(f, params)``::

    alarm = memorization_alarm(train_images, held_out_images, every=500)
    for step in ...:
      if step % 500 == 0 and alarm(denoise, step).memorizing: break
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.special
from jaxtyping import Float, Shaped

from gauss_diffusion import edm, parallel, sampling
from gauss_diffusion.images import to_float
from gauss_diffusion.probes import generalization
from gauss_diffusion.types import Array, Denoiser, Image, Images, Number

# Where much of an image is lost in the noise, and a memorizer still knows which one it was.
SIGMAS = (0.2, 0.5, 1.0)
# Of the errors' logarithms: training images are denoised with half the error of new ones. This was chosen on
# digits where networks are there at 0.78 to 0.9 of the steps at which one in a hundred of their samples is a
# copy. On runs not looked at before (`configs/transition.py:digits`) they were at 1.5 and 1.05 of 16 and 32
# images, 1.06 of 64, 0.86 of 128; and of 256 at 3,800 steps, where three samples in a thousand are copies.
HALF = float(np.log(2))
_GRID = edm.sigma_grid(10)  # of the sampler
_BLOCK = 2**22  # float64 elements of a block of training images


class Watch(NamedTuple):
  """What every look is taken at."""

  images: Images  # the training images, each once
  x0: Float[np.ndarray, "m H W C"]  # of them, and after these held-out ones
  num_train: int
  noise: Float[np.ndarray, "m H W C"]
  latents: Float[np.ndarray, "n H W C"]
  sigmas: tuple[float, ...]
  place: int  # of the level among the sampler's at which posteriors of both kinds differ most
  seen: float  # largest posterior weight there, of training images
  unseen: float  # and of held-out ones
  every: int
  level: float


class Look(NamedTuple):
  """What a network looks like after some steps."""

  step: int
  gap: float  # mean ln of the error on held-out images, less that on training images
  p: float  # of a gap as large where the network treats both alike
  level: float  # below which p must be at this look
  copies: float  # share of the samples with d₁/d₂ < 1/3, the distances to the two nearest training images
  nearest: float  # median of d₁/d₂
  concentration: float  # mean of the largest weight in the multi-delta posterior, at the sampler's states of
  # one level: that at which noisy images tell most whether they were trained on
  seen: float  # what training images in as much noise have
  unseen: float  # what held-out ones have: states that are no copies
  memorizing: bool  # p is below its level, and the gap above `HALF`


def memorization_alarm(
  train: Shaped[np.ndarray, "..."],
  held_out: Shaped[np.ndarray, "..."],
  *,
  every: int,
  images: int = 64,
  samples: int = 16,
  sigmas: tuple[float, ...] = SIGMAS,
  level: float = 0.05,
  seed: int = 0,
) -> Callable[[Denoiser, int], Look]:
  """Return ``alarm(denoise, step) -> Look``, a pure function of both.

  A look compares ``ln ‖D(x0 + σε; σ) − x0‖²``, averaged over some σ, of training and of held-out images, one-
  sided by Welch's t. Both kinds are of one law; until the network depends on which of them it was trained on,
  they are exchangeable. The k-th look, at ``step = k every``, may spend ``level/(k (k + 1))``: the sum over
  any number of looks is `level`, which bounds the probability that one of them rejects by chance. A gap that
  is certain may be small, and every network that learns comes to have one. So it must also be above `HALF`.

  A denoiser that knows little more than the span of few training images has such a gap too and copies none:
  the Gaussian one of fewer images than pixels. Whether there are copies yet, `Look.copies` says. For d₁/d₂
  and for posteriors equal training images count as one; nearly equal ones hide copies, see `data.duplicates`.

  Args:
    train: the training images, uint8 or float32 [N, H, W, C], of which there are two different ones at least.
    held_out: images of the same law that are not trained on, likewise.
    every: steps between looks.
    images: of each kind to be denoised, or all there are.
    samples: to be drawn, by Euler on ten levels.
    sigmas: noise levels of the errors, on the [-1, 1] scale.
    level: probability of a false alarm, over all looks.
    seed: of the images chosen, the noise and the latents.

  Raises:
    ValueError: on images that are neither uint8 nor float32, or of two shapes, or numbers out of range.
  """
  _check(train, held_out, every, images, samples, sigmas, level)
  rng = np.random.default_rng(seed)
  distinct = np.stack([train[i] for i in {image.tobytes(): i for i, image in enumerate(train)}.values()])
  if len(distinct) < 2:
    raise ValueError(f"`train` is {len(train)} times one image; want at least 2 different ones")
  chosen = [to_float(each[rng.permutation(len(each))[:images]]) for each in (distinct, held_out)]
  x0, shape = np.concatenate(chosen), train.shape[1:]
  noise = rng.standard_normal(x0.shape, np.float32)
  latents = rng.standard_normal((samples, *shape), np.float32)
  weights = np.stack([largest_weight(distinct, x0 + sigma * noise, sigma) for sigma in _GRID])
  ends = [kind.mean(axis=1) for kind in np.split(weights, [len(chosen[0])], axis=1)]
  place = int(np.argmax(ends[0] - ends[1]))
  seen, unseen = (float(end[place]) for end in ends)
  watch = Watch(
    distinct, x0, len(chosen[0]), noise, latents, tuple(sigmas), place, seen, unseen, every, level
  )
  return functools.partial(look, watch)


def look(watch: Watch, denoise: Denoiser, step: int) -> Look:
  """Look at a network after some steps, see `memorization_alarm`.

  Args:
    watch: what to look at.
    denoise: a pytree, such as ``Partial(f, params)``: it is compiled once.
    step: how many steps were made; a multiple of `every`.

  Raises:
    ValueError: on a step between two looks, or a denoiser that returns NaN or infinity.
  """
  if step < 1 or step % watch.every:
    raise ValueError(f"`step` is {step}; looks are at multiples of {watch.every}, see `every`")
  count = step // watch.every
  errors = parallel.map_samples(_errors, (denoise, np.array(watch.sigmas, np.float32)), watch.x0, watch.noise)
  if not np.isfinite(errors).all():
    raise ValueError(f"`denoise` returns NaN or infinite pixels at step {step}")
  logs = np.log(np.maximum(errors.astype(np.float64), np.finfo(np.float32).tiny)).mean(axis=1)
  gap, p = welch(logs[watch.num_train :], logs[: watch.num_train])
  states = parallel.map_samples(_sample, (denoise, np.float32(_GRID)), watch.latents)
  nearest = parallel.share_rows(
    functools.partial(generalization.neighbours, images=watch.images), states[:, -1]
  )
  weights = largest_weight(watch.images, states[:, watch.place], float(_GRID[watch.place]))
  level = watch.level / (count * (count + 1))
  return Look(
    step=step,
    gap=gap,
    p=p,
    level=level,
    copies=float(generalization.memorized(nearest).mean()),
    nearest=float(np.median(nearest.distance[:, 0] / nearest.distance[:, 1])),
    concentration=float(weights.mean()),
    seen=watch.seen,
    unseen=watch.unseen,
    memorizing=p < level and gap > HALF,
  )


def welch(one: Float[np.ndarray, " n"], two: Float[np.ndarray, " m"]) -> tuple[float, float]:
  """Return the difference of two means, and the probability of one as large by chance (Welch 1947).

  Args:
    one: at least 2 numbers, whose mean may be the larger one.
    two: at least 2 others.
  """
  difference = float(one.mean() - two.mean())
  parts = np.array([each.var(ddof=1) / len(each) for each in (one, two)])
  if not parts.sum() > 0:
    return difference, float(not difference > 0)
  freedom = parts.sum() ** 2 / np.sum(parts**2 / (np.array([len(one), len(two)]) - 1))
  return difference, float(scipy.special.stdtr(freedom, -difference / np.sqrt(parts.sum())))


def largest_weight(images: Images, x: Float[np.ndarray, "n H W C"], sigma: float) -> Float[np.ndarray, " n"]:
  """Return ``max_i w_i`` of the posterior ``w = softmax_i(−‖x − y_i‖²/2σ²)`` at each x, float64.

  From 1/N, where x tells nothing, to 1, where it tells which image it came from.

  Args:
    images: y, [N, H, W, C].
    x: noisy images.
    sigma: their noise level.
  """
  rows, flat = images.reshape(len(images), -1), x.reshape(len(x), -1).astype(np.float64)
  block, parts = max(_BLOCK // rows.shape[1], 1), []
  for start in range(0, len(rows), block):
    y = to_float(rows[start : start + block], np.float64)
    parts.append(flat @ y.T - np.sum(y**2, axis=1) / 2)  # −‖x − y‖²/2 but for a number that all share
  scores = np.concatenate(parts, axis=1) / sigma**2
  return 1 / np.sum(np.exp(scores - scores.max(axis=1, keepdims=True)), axis=1)


def _errors(shared: tuple[Denoiser, Float[Array, " S"]], x0: Image, noise: Image) -> Float[Array, " S"]:
  denoise, sigmas = shared

  def error(sigma: Number) -> Float[Array, ""]:
    return jnp.mean((denoise(x0 + sigma * noise, sigma) - x0) ** 2)

  return jax.vmap(error)(sigmas)


def _sample(shared: tuple[Denoiser, Float[Array, " T"]], noise: Image) -> Float[Array, "T+1 H W C"]:
  denoise, sigmas = shared
  return jnp.asarray(sampling.sample(denoise, noise, sigmas).x)


def _check(train, held_out, every, images, samples, sigmas, level) -> None:
  for name, each in (("train", train), ("held_out", held_out)):
    if each.dtype not in (np.uint8, np.float32) or each.ndim != 4 or len(each) < 2:
      raise ValueError(
        f"`{name}` is {each.dtype} of shape {each.shape}; want uint8 or float32 [N, H, W, C], N at least 2"
      )
  if train.shape[1:] != held_out.shape[1:]:
    raise ValueError(f"`held_out` holds images {held_out.shape[1:]}, and `train` such of {train.shape[1:]}")
  for name, value, least in (("every", every, 1), ("images", images, 2), ("samples", samples, 1)):
    if value < least:
      raise ValueError(f"`{name}` is {value}; want at least {least}")
  if not len(sigmas) or not all(sigma > 0 for sigma in sigmas):
    raise ValueError(f"`sigmas` is {sigmas}; want noise levels > 0")
  if not 0 < level < 1:
    raise ValueError(f"`level` is {level}; want a probability between 0 and 1")
