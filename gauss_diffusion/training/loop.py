"""Train one network by denoising score matching, and continue where a killed run stopped."""

import functools
import inspect
import math
import pathlib
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree
from jax.tree_util import Partial
from jaxtyping import Float, Int, Int32, Key, UInt8
from tqdm import tqdm

from gauss_diffusion import edm, hosts, interrupts, networks, parallel, results
from gauss_diffusion.images import to_float
from gauss_diffusion.networks.preconditioned import Preconditioned
from gauss_diffusion.training import alarm, augment, checkpoint, losses, train_state
from gauss_diffusion.training.train_state import TrainState
from gauss_diffusion.types import Array, Denoiser, Images

METRICS = "metrics.jsonl"
ALARM = ("gap", "p", "copies", "nearest", "concentration", "memorizing")  # of a look, what a metric line has


class StepInfo(NamedTuple):
  """What a person wants to see of one step."""

  loss: Float[Array, ""]  # weighted denoising error, about 1 for an untrained network
  grad_norm: Float[Array, ""]
  nonfinite: Int32[Array, "2"]  # the place of the first such number in gradient and new parameters, or -1


class Settings(NamedTuple):
  """How to train; fields of a study's `train`, which has besides those that decide the network."""

  steps: int = 500
  batch: int = 64  # images a step, over all devices
  learning_rate: float = 4e-3
  rampup_images: int = 5_000
  ema_halflife_images: float = 5_000.0
  ema_rampup: float = 0.1
  flips: bool = False  # mirror half the images left to right
  noise_law: str = ""  # of `edm.TRAINING_NOISE`; empty: the one that goes with the network's preconditioning
  p_mean: float = edm.P_MEAN  # of ln sigma, under the law "edm"
  p_std: float = edm.P_STD
  sigma_min: float = edm.SIGMA_MIN  # of the laws "log-uniform" and "none"; equal ends are a single level
  sigma_max: float = edm.SIGMA_MAX
  log_every: int = 10  # steps
  checkpoint_every: int = 250  # steps
  keep: int = 2  # checkpoints
  dtype: str = "float32"  # in which the raw network computes, see `networks.compute`
  remat: bool = False  # less memory for more time
  alarm_every: int = 0  # steps between looks for memorization, a multiple of log_every; 0: none
  augment: float = 0.0  # probability of each kind of change of an image, see `augment`; 0: none


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
  labels: Int32[Array, " b"] | None = None,
  *,
  network: Preconditioned,
  tx: optax.GradientTransformation,
  settings: Settings,
) -> tuple[TrainState, StepInfo]:
  """Make one update from this device's share of the batch.

  Args:
    state: replicated, of vectors, see `train_state.pack`.
    x0: images in [-1, 1].
    keys: one key per image.
    labels: the class of each image, of which a class-conditional network is told, one-hot, but for those that
      its `label_dropout` takes away: zeros stand for no class.
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
  like = networks.shapes(network)
  done = None
  if settings.augment:
    x0, done = jax.vmap(augment.augment, (0, 0, None))(x0, key_flip, settings.augment)

  def mean_loss(params):
    def denoise(x, sigma):
      known = None if labels is None else jax.nn.one_hot(labels, network.model.label_dim, dtype=x.dtype)
      rngs = {"dropout": key_dropout[0]}
      return network.apply({"params": params}, x, sigma, known, done, train=True, rngs=rngs)

    return jnp.mean(losses.denoising_loss(denoise, x0, key_noise, noise_law=noise_law(network, settings)))

  loss, grads = jax.value_and_grad(mean_loss)(train_state.unravel(state.params, like))
  # As one vector: devices of a CPU wait for each other once an array, 50 microseconds each time.
  loss, grads = jnp.split(parallel.mean(ravel_pytree((loss, grads))[0]), [1])
  decay = train_state.ema_decay(state.step, settings.batch, settings.ema_halflife_images, settings.ema_rampup)
  state = train_state.update(state, grads, decay, tx)
  nonfinite = jnp.stack([_first_nonfinite(values) for values in (grads, state.params)])
  return state, StepInfo(loss[0], optax.tree.norm(grads), nonfinite)


def _first_nonfinite(values: Float[Array, " P"]) -> Int32[Array, ""]:
  first = jnp.where(jnp.isfinite(values), len(values), jnp.arange(len(values))).min()
  return jnp.where(first < len(values), first, -1)


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
  images: Images,
  directory: results.Path,
  settings: Settings,
  *,
  seed: int,
  title: str,
  labels: Int32[np.ndarray, " N"] | None = None,
  held_out: UInt8[np.ndarray, "M H W C"] | Float[np.ndarray, "M H W C"] | None = None,
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
    labels: the class of each image, for a class-conditional network.
    held_out: images that are not trained on, with which `alarm` compares those that are; changes nothing of
      the training.

  Returns:
    The EMA parameters.

  Raises:
    FloatingPointError: at a non-finite loss, gradient or parameter, naming step, noise levels and tensor, and
      the last checkpoint; those written before stay as they are.
    Interrupted: after a signal, when the step is done and saved.
    OSError: when a checkpoint can't be written.
  """
  directory = pathlib.Path(directory)
  key_init, key_train = jax.random.split(jax.random.key(seed))
  computing = networks.compute(network, dtype=settings.dtype, remat=settings.remat)
  tx, compiled = _compiled(computing, settings._replace(steps=0), labels is not None)
  fresh = jax.jit(train_state.create, static_argnums=1)(networks.init(network, key_init), tx)
  watching = None
  if settings.alarm_every:
    if held_out is None:
      raise ValueError(f"`held_out` is None; looks every {settings.alarm_every} steps want held-out images")
    watching = alarm.memorization_alarm(images, held_out, every=settings.alarm_every, seed=seed)

  with checkpoint.manager(directory, settings.keep) as checkpoints:
    found, log = checkpoint.restore(checkpoints, fresh, card)
    state, first = parallel.replicate(train_state.pack(found)), int(found.step)
    log = log or _older_log(directory, first)
    hosts.alone(lambda: results.write_metrics(directory / METRICS, log.metrics))
    bar = tqdm(range(first, settings.steps), title, settings.steps, initial=first, unit="step", delay=2)
    training = _Training(network, settings, key_train, directory, checkpoints, bar)
    window, pending, stop = _Window(time.perf_counter(), first, log), None, False
    if not settings.steps and checkpoints.latest_step() is None:
      checkpoint.save(checkpoints, found, card, log)
    for step in bar:
      rows = parallel.local_rows(settings.batch)
      index = batch_indices(seed, step, settings.batch, len(images))[rows]
      keys = _step_keys(key_train, step, settings.batch)[rows]
      told = () if labels is None else (parallel.shard(labels[index]),)
      asked = np.full(jax.local_device_count(), interrupts.asked())
      batch = parallel.shard((asked, to_float(images[index]), keys))
      state, (info, anywhere) = compiled(state, *batch, *told)
      # The next step is on its way before the last one's numbers are looked at.
      if pending is not None:
        window, stop = _look(training, *pending[:2], window), bool(pending[2])
      pending = step, info, anywhere
      saving = stop or (step + 1) % settings.checkpoint_every == 0 or step + 1 == settings.steps
      seen: dict[str, float] = {}
      if watching is not None and (step + 1) % settings.alarm_every == 0:
        seen = _watched(watching, network, state, step + 1)
      if saving or seen:
        window, stop = _look(training, step, info, window, seen), stop or bool(anywhere)
        pending = None
      if saving or stop:
        checkpoint.save(checkpoints, train_state.unpack(state, fresh.params), card, window.log)
      if stop:
        checkpoint.wait(checkpoints)
      interrupts.check(stop)
    checkpoint.wait(checkpoints)
  return train_state.unpack(state, fresh.params).ema_params


def metrics(directory: results.Path) -> dict[str, Float[np.ndarray, " lines"]]:
  """Return a trained network's metric lines as columns, as its newest checkpoint has them.

  Raises:
    ValueError: when they are damaged.
  """
  log = checkpoint.load_log(directory)
  return results.columns(log.metrics) if log else results.read_metrics(pathlib.Path(directory) / METRICS)


def branch(source: results.Path, target: results.Path) -> None:
  """Let a model's folder continue from another's newest checkpoint."""

  def copied() -> None:
    results.copy(pathlib.Path(source) / METRICS, pathlib.Path(target) / METRICS)
    checkpoint.branch(source, target)

  hosts.alone(copied)


@functools.lru_cache(maxsize=8)
def _compiled(network, settings: Settings, labelled: bool):
  """Return optimizer and step, shared by all models of a study that train alike, however long."""
  tx = train_state.optimizer(settings.learning_rate, settings.rampup_images, settings.batch)
  step = functools.partial(train_step, network=network, tx=tx, settings=settings)

  def agreeing(state, asked, *batch):
    """Make a step that also says whether a signal had come to any process when it began."""
    state, info = step(state, *batch)
    return state, (info, parallel.anywhere(asked))

  return tx, parallel.replicated_step(agreeing, 4 if labelled else 3)


@functools.partial(jax.jit, static_argnums=2)
def _step_keys(key: Key[Array, ""], step, batch: int) -> Key[Array, " {batch}"]:
  return jax.random.split(jax.random.fold_in(key, step), batch)


class _Training(NamedTuple):
  """What is the same in all steps."""

  network: Preconditioned
  settings: Settings
  key: Key[Array, ""]
  directory: pathlib.Path
  checkpoints: Any
  bar: tqdm


class _Window(NamedTuple):
  """What has been seen since the last metric line."""

  start: float  # seconds, of this process
  step: int  # at that time
  log: checkpoint.Log


def _watched(
  watching: Callable[[Denoiser, int], alarm.Look], network: Preconditioned, state: TrainState, step: int
) -> dict[str, float]:
  """Return what the alarm sees of the averaged network, as columns of a metric line."""
  params = train_state.unravel(jax.device_get(state.ema_params), networks.shapes(network))
  trained = networks.Trained(params=params, network=network)
  found = watching(Partial(networks.denoise, trained), step)
  return {f"alarm_{name}": float(getattr(found, name)) for name in ALARM}


def _look(
  training: _Training, step: int, info: StepInfo, window: _Window, found: dict[str, float] | None = None
) -> _Window:
  """Fetch a step's numbers, stop at a non-finite one, and write a metric line when one is due."""
  settings, directory = training.settings, training.directory
  loss, grad_norm, nonfinite = float(info.loss), float(info.grad_norm), np.asarray(info.nonfinite)
  if not (math.isfinite(loss) and math.isfinite(grad_norm) and (nonfinite < 0).all()):
    sigma = _noise_levels(training, step)
    tensor = _tensor(training.network, nonfinite)
    checkpoint.wait(training.checkpoints)
    raise FloatingPointError(
      f"loss {loss} with gradient norm {grad_norm} at step {step + 1} of `{directory}`, at noise levels "
      f"{sigma.min():.3g} to {sigma.max():.3g}; first non-finite tensor: {tensor}; {_remedy(directory)}"
    )
  losses = [*window.log.losses, loss]
  if (step + 1) % settings.log_every and step + 1 != settings.steps:
    return window._replace(log=window.log._replace(losses=losses))
  now = time.perf_counter()
  schedule = train_state.learning_rate_schedule(
    settings.learning_rate, settings.rampup_images, settings.batch
  )
  record = {
    "step": step + 1,
    "images": (step + 1) * settings.batch,
    "loss": sum(losses) / len(losses),
    "learning_rate": float(schedule(step)),
    "images_per_second": (step + 1 - window.step) * settings.batch / (now - window.start),
  } | (found or {})
  training.bar.set_postfix(loss=f"{record['loss']:.3f}", refresh=False)
  if hosts.first():
    results.append_metrics(directory / METRICS, record)
  return _Window(now, step + 1, checkpoint.Log([*window.log.metrics, record], []))


def _remedy(directory: pathlib.Path) -> str:
  """Return how to go on after a divergence, and from what."""
  change = "a lower `train.learning_rate` or a longer `train.rampup_images`"
  if (step := checkpoint.sound_step(directory)) is None:
    return f"no checkpoint was saved before: run again with {change}"
  return f"the checkpoint of step {step} is sound: to train anew with {change}, delete `{directory}`"


def _tensor(network: Preconditioned, nonfinite: Int32[np.ndarray, "2"]) -> str:
  """Return what the first place of `StepInfo.nonfinite` is in."""
  leaves = jax.tree.leaves_with_path(networks.shapes(network))
  ends = np.cumsum([leaf.size for _, leaf in leaves])
  for kind, place in zip(("gradient", "parameter"), nonfinite, strict=True):
    if place >= 0:
      path, _ = leaves[np.searchsorted(ends, place, side="right")]
      return f"{kind} {jax.tree_util.keystr(path)}"
  return "none but these"


def _noise_levels(training: _Training, step: int) -> Float[np.ndarray, " b"]:
  """Return the sigma of every image of a batch, as `train_step` and `losses.denoising_loss` draw it."""
  law = noise_law(training.network, training.settings)
  keys = _step_keys(training.key, step, training.settings.batch)
  key_noise = jax.vmap(lambda key: jax.random.split(key, 3)[1])(keys)
  key_sigma = jax.vmap(lambda key: jax.random.split(key)[0])(key_noise)
  return np.asarray(jax.vmap(lambda key: law(key, ())[0])(key_sigma))


def _older_log(directory: pathlib.Path, step: int) -> checkpoint.Log:
  """Return the log of a checkpoint that has none: an older version kept metric lines alone."""
  path = directory / METRICS
  records = results.read_records(path) if path.exists() else []
  return checkpoint.Log([record for record in records if record["step"] <= step], [])
