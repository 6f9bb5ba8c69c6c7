"""Train one network by denoising score matching, and continue where a killed run stopped."""

import functools
import inspect
import math
import pathlib
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Float, Int, Key
from tqdm import tqdm

from gauss_diffusion import edm, networks, parallel, results
from gauss_diffusion.images import to_float
from gauss_diffusion.networks.preconditioned import Preconditioned
from gauss_diffusion.training import checkpoint, losses, train_state
from gauss_diffusion.training.train_state import TrainState
from gauss_diffusion.types import Array, Pixels

METRICS = "metrics.jsonl"


class StepInfo(NamedTuple):
  """What a person wants to see of one step."""

  loss: Float[Array, ""]  # weighted denoising error, about 1 for an untrained network
  grad_norm: Float[Array, ""]


class Settings(NamedTuple):
  """How to train; the fields of a study's `train`."""

  steps: int
  batch: int  # images a step, over all devices
  learning_rate: float
  rampup_images: int
  ema_halflife_images: float
  ema_rampup: float
  flips: bool  # mirror half the images left to right
  noise_law: str  # of `edm.TRAINING_NOISE`; empty: the one that goes with the network's preconditioning
  p_mean: float  # of ln sigma, under the law "edm"
  p_std: float
  sigma_min: float  # of the laws "log-uniform" and "none"; equal ends are a single level
  sigma_max: float
  log_every: int  # steps
  checkpoint_every: int  # steps
  keep: int  # checkpoints
  dtype: str  # in which the raw network computes, see `networks.compute`
  remat: bool  # less memory for more time


# Law of training noise -> the fields of `Settings` that it takes; the others are given by table 1 alone.
NOISE_FIELDS = {
  "edm": ("p_mean", "p_std"),
  "log-uniform": ("sigma_min", "sigma_max"),
  "none": ("sigma_min", "sigma_max"),
}


def noise_law(network: Preconditioned, settings: Settings) -> edm.NoiseLaw:
  """Return the law of `settings`, or the one of the network's preconditioning, with all its constants.

  Constants that the law shares with the network's preconditioning, such as sigma_data, are the network's.
  """
  name = settings.noise_law or network.preconditioning
  law = edm.TRAINING_NOISE[name]
  known = inspect.signature(law).parameters
  shared = {constant: value for constant, value in network.constants if constant in known}
  chosen = {field: getattr(settings, field) for field in NOISE_FIELDS.get(name, ())}
  return functools.partial(law, **shared, **chosen)


def train_step(
  state: TrainState,
  x0: Float[Array, "b H W C"],
  keys: Key[Array, " b"],
  *,
  network: Preconditioned,
  tx: optax.GradientTransformation,
  settings: Settings,
) -> tuple[TrainState, StepInfo]:
  """Make one update from this device's share of the batch.

  Args:
    state: replicated.
    x0: images in [-1, 1].
    keys: one key per image.
    network: the linen module, preconditioned.
    tx: the optimizer.
    settings: see `Settings`.

  Returns:
    ``(state, info)``, averaged over devices.
  """
  key_flip, key_noise, key_dropout = jnp.moveaxis(jax.vmap(lambda key: jax.random.split(key, 3))(keys), 1, 0)
  if settings.flips:
    flip = jax.vmap(jax.random.bernoulli)(key_flip)
    x0 = jnp.where(flip[:, None, None, None], x0[:, :, ::-1], x0)

  def mean_loss(params):
    def denoise(x, sigma):
      return network.apply({"params": params}, x, sigma, train=True, rngs={"dropout": key_dropout[0]})

    return jnp.mean(losses.denoising_loss(denoise, x0, key_noise, noise_law=noise_law(network, settings)))

  loss, grads = parallel.mean(jax.value_and_grad(mean_loss)(state.params))
  decay = train_state.ema_decay(state.step, settings.batch, settings.ema_halflife_images, settings.ema_rampup)
  return train_state.update(state, grads, decay, tx), StepInfo(loss, optax.tree.norm(grads))


def batch_indices(seed: int, step: int, batch: int, num_images: int) -> Int[np.ndarray, " {batch}"]:
  """Return which images make up the batch of a step: a pure function of (seed, step).

  Every pass over the data is a fresh permutation, and a batch may span several passes, so that each
  image is seen equally often whatever the sizes.
  """
  positions = np.arange(step * batch, (step + 1) * batch)
  epochs = positions // num_images
  orders = {epoch: _epoch_order(seed, int(epoch), num_images) for epoch in np.unique(epochs)}
  return np.array([orders[epoch][position % num_images] for epoch, position in zip(epochs, positions)])


@functools.lru_cache(maxsize=4)
def _epoch_order(seed: int, epoch: int, num_images: int) -> Int[np.ndarray, " {num_images}"]:
  return np.random.default_rng((seed, epoch)).permutation(num_images)


def run(
  network: Preconditioned,
  card: dict[str, Any],
  images: Pixels,
  directory: results.Path,
  settings: Settings,
  *,
  seed: int,
  title: str,
) -> Any:
  """Train until `settings.steps`, from the newest checkpoint if there is one.

  Of no step at all, what stays is a checkpoint of the initial weights, and an empty file of metrics.

  Args:
    network: the linen module.
    card: ``{"network": {...}}`` for the checkpoint, see `checkpoint.save`.
    images: to train on, all of which are used.
    directory: the model's folder; gets `checkpoints/` and `metrics.jsonl`.
    settings: see `Settings`.
    seed: of the initial weights, the batches and the noise.
    title: shown beside the progress bar.

  Returns:
    The EMA parameters.

  Raises:
    FloatingPointError: at a non-finite loss or gradient, naming step and loss; the checkpoints
      written before stay as they are.
  """
  directory = pathlib.Path(directory)
  key_init, key_train = jax.random.split(jax.random.key(seed))
  computing = networks.compute(network, dtype=settings.dtype, remat=settings.remat)
  tx, compiled, step_keys = _compiled(computing, settings._replace(steps=0))
  fresh = train_state.create(networks.init(network, key_init), tx)

  with checkpoint.manager(directory, settings.keep) as checkpoints:
    state = parallel.replicate(checkpoint.restore(checkpoints, fresh, card))
    first = int(state.step)
    window = _Window(time.perf_counter(), [])
    pending = None
    if not settings.steps and checkpoints.latest_step() is None:
      (directory / METRICS).touch()
      checkpoint.save(checkpoints, state, card)
    bar = tqdm(range(first, settings.steps), title, settings.steps, initial=first, unit="step", delay=2)
    for step in bar:
      rows = parallel.local_rows(settings.batch)
      index = batch_indices(seed, step, settings.batch, len(images))[rows]
      keys = step_keys(key_train, step)[rows]
      state, info = compiled(state, parallel.shard(to_float(images[index])), parallel.shard(keys))
      # The next step is on its way before the last one's numbers are looked at.
      if pending is not None:
        window = _look(*pending, window, directory, settings, bar)
      pending = step, info
      if (step + 1) % settings.checkpoint_every == 0 or step + 1 == settings.steps:
        window = _look(*pending, window, directory, settings, bar)
        pending = None
        checkpoint.save(checkpoints, state, card)
    checkpoints.wait_until_finished()
  return jax.device_get(state.ema_params)


@functools.lru_cache(maxsize=8)
def _compiled(network, settings: Settings):
  """Return optimizer, step and key maker, shared by all models of a study that train alike, however long."""
  tx = train_state.optimizer(settings.learning_rate, settings.rampup_images, settings.batch)
  step = functools.partial(train_step, network=network, tx=tx, settings=settings)
  keys = jax.jit(lambda key, step: jax.random.split(jax.random.fold_in(key, step), settings.batch))
  return tx, parallel.replicated_step(step), keys


class _Window(NamedTuple):
  """Losses since the last metric line."""

  start: float  # seconds
  losses: list[float]


def _look(step: int, info: StepInfo, window: _Window, directory, settings: Settings, bar) -> _Window:
  """Fetch a step's numbers, stop at a non-finite one, and write a metric line when one is due."""
  loss, grad_norm = float(info.loss), float(info.grad_norm)
  if not (math.isfinite(loss) and math.isfinite(grad_norm)):
    raise FloatingPointError(
      f"loss {loss} with gradient norm {grad_norm} at step {step + 1} of `{directory}`; earlier checkpoints "
      "are intact: lower `train.learning_rate` or lengthen `train.rampup_images`"
    )
  window.losses.append(loss)
  images = (step + 1) * settings.batch
  if (step + 1) % settings.log_every and step + 1 != settings.steps:
    return window
  now = time.perf_counter()
  schedule = train_state.learning_rate_schedule(
    settings.learning_rate, settings.rampup_images, settings.batch
  )
  record = {
    "step": step + 1,
    "images": images,
    "loss": sum(window.losses) / len(window.losses),
    "learning_rate": float(schedule(step)),
    "images_per_second": len(window.losses) * settings.batch / (now - window.start),
  }
  bar.set_postfix(loss=f"{record['loss']:.3f}", refresh=False)
  if jax.process_index() == 0:
    results.append_metrics(directory / METRICS, record)
  return _Window(now, [])
