"""Checkpoints of host arrays through orbax: the only file that knows of it.

A checkpoint holds `ema`, with the card of the network beside it, which analyses and notebooks read alone;
and `state` and `log`, the rest of what a resumed run needs. The arrays that orbax writes have no checksum: a
flipped bit loads other weights without a word. So every checkpoint has a file ``SHA256SUMS``, written before
it counts as finished, against which its files are checked before they are read, as by ``sha256sum --check``.
One of them is a copy of the ``training.json`` beside a model's checkpoints, which says what decided its
training: a checkpoint of another model, whole as it may be, is none of this one's.
"""

import functools
import os
import pathlib
import shutil
import sys
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging

from gauss_diffusion import hosts, networks, results
from gauss_diffusion.networks.preconditioned import Preconditioned
from gauss_diffusion.training.train_state import TrainState

FOLDER = "checkpoints"
NOTES = "_CHECKPOINT_METADATA"  # orbax's own, of each checkpoint, written after it has been sealed
SUMS = "SHA256SUMS"  # in a checkpoint: the digests of its files
TRAINING = "training.json"  # of a model, and in each of its checkpoints: what decided the training


class Log(NamedTuple):
  """How a training went, up to a checkpoint."""

  metrics: list[dict[str, Any]]  # one a line of metrics
  losses: list[float]  # of the steps since the last of them


def manager(directory: results.Path, keep: int | None = 2, **options: Any) -> ocp.CheckpointManager:
  """Open a model's checkpoints for writing; the newest `keep` stay.

  Args:
    directory: the model's folder.
    keep: how many.
    **options: of `ocp.CheckpointManager`.

  Raises:
    ValueError: when what orbax notes beside each checkpoint is damaged.
  """
  folder = pathlib.Path(directory).absolute() / FOLDER
  # In spite of its name the callback comes before the rename that finishes a checkpoint.
  sealing = ocp.AsyncOptions(post_finalization_callback=functools.partial(_seal, folder))
  chosen = ocp.CheckpointManagerOptions(
    max_to_keep=keep, create=True, cleanup_tmp_directories=True, async_options=sealing
  )
  return _opened(folder, chosen, **options)


def save(checkpoints: ocp.CheckpointManager, state: TrainState, card: dict[str, Any], log: Log) -> None:
  """Save the state and the network's card under its step, without waiting for the disk.

  Args:
    checkpoints: from `manager`.
    state: on devices or host; stored as host arrays, which restore on any number of devices.
    card: ``{"network": {"name": ..., options}}``, plain JSON: enough to rebuild the network.
    log: of the training so far, plain JSON.

  Raises:
    OSError: when this or the checkpoint before can't be written.
  """
  host = jax.device_get(state)
  rest = {"params": host.params, "opt_state": host.opt_state, "step": np.asarray(host.step)}
  items = ocp.args.Composite(
    ema=ocp.args.StandardSave(host.ema_params),
    state=ocp.args.StandardSave(rest),
    card=ocp.args.JsonSave(card),
    log=ocp.args.JsonSave(log._asdict()),
  )
  try:
    checkpoints.save(int(host.step), args=items, force=True)
  except Exception as error:  # of many kinds, often of the save before
    raise _unwritten(checkpoints, error) from error


def wait(checkpoints: ocp.CheckpointManager) -> None:
  """Wait until what was saved is on disk.

  Raises:
    OSError: when it can't be written.
  """
  try:
    checkpoints.wait_until_finished()
  except Exception as error:  # of many kinds
    raise _unwritten(checkpoints, error) from error


def save_ema(directory: results.Path, params: dict, card: dict[str, Any]) -> None:
  """Save a network that was not trained here as checkpoint 0 of a model's folder, and wait for the disk.

  Args:
    directory: a folder for `load_ema`.
    params: host arrays.
    card: as for `save`.
  """
  # One database for all arrays would buffer them once more: a large import wants the memory.
  handlers = {"ema": ocp.StandardCheckpointHandler(use_ocdbt=False), "card": ocp.JsonCheckpointHandler()}
  with manager(directory, keep=None, item_handlers=handlers) as checkpoints:
    items = ocp.args.Composite(ema=ocp.args.StandardSave(params), card=ocp.args.JsonSave(card))
    checkpoints.save(0, args=items)


def restore(
  checkpoints: ocp.CheckpointManager, fresh: TrainState, card: dict[str, Any]
) -> tuple[TrainState, Log | None]:
  """Return the newest sound checkpoint in the form of `fresh`, or `fresh` itself where there is none.

  Newer ones that are damaged are named, and put aside as ``<step>.damaged``.

  Returns:
    ``(state, log)``; the log is None in checkpoints of an older version.

  Raises:
    ValueError: when the checkpoint is of another network, its arrays have other shapes or types, or there are
      only damaged ones.
  """
  folder, damaged = pathlib.Path(checkpoints.directory), []
  for step in reversed(_steps(folder)):
    try:
      _verify(folder / str(step))
      found = _restored(checkpoints, step, fresh, card)
    except results.DamagedError as error:
      damaged.append((step, error))
      continue
    if hosts.anywhere(bool(damaged)):
      hosts.alone(functools.partial(_put_aside, folder, damaged, step))
    checkpoints.reload()
    return found
  if damaged:
    raise _hopeless(folder, damaged[0][1])
  return fresh, Log([], [])


def _put_aside(folder: pathlib.Path, damaged: list[tuple[int, results.DamagedError]], step: int) -> None:
  for newer, reason in damaged:
    aside = folder / f"{newer}.damaged"
    shutil.rmtree(aside, ignore_errors=True)
    os.replace(folder / str(newer), aside)
    _tell(f"{reason}; it is now `{aside.name}`, and training continues from step {step}")


def latest_step(directory: results.Path) -> int | None:
  """Return the newest finished checkpoint of a model's folder, sound or not, or None."""
  return max(_steps(pathlib.Path(directory).absolute() / FOLDER), default=None)


def sound_step(directory: results.Path) -> int | None:
  """Return the newest checkpoint of a model's folder of which all files are what was saved, or None.

  Raises:
    ValueError: when there are checkpoints and all of them are damaged; it says what to do.
  """
  folder, first = pathlib.Path(directory).absolute() / FOLDER, None
  for step in reversed(_steps(folder)):
    try:
      _verify(folder / str(step))
      return step
    except results.DamagedError as error:
      first = first or error
  if first:
    raise _hopeless(folder, first)
  return None


def branch(source: results.Path, target: results.Path) -> None:
  """Give a model's folder another's newest checkpoint to continue from; it appears whole or not at all."""
  step = str(latest_step(source))
  folder = pathlib.Path(target).absolute() / FOLDER
  copied = pathlib.Path(target) / f".{step}.{os.getpid()}.tmp"
  try:
    shutil.copytree(pathlib.Path(source) / FOLDER / step, copied)
    folder.mkdir(parents=True, exist_ok=True)
    os.replace(copied, folder / step)
  finally:
    shutil.rmtree(copied, ignore_errors=True)


def load_card(directory: results.Path) -> dict[str, Any]:
  """Return the card of the newest checkpoint in a model's folder, ``{"network": {...}}``.

  Raises:
    ValueError: when there is no checkpoint, or it is damaged.
  """
  step = latest_step(directory)
  if step is None:
    raise ValueError(f"`checkpoint` {str(directory)!r} holds no checkpoint; want a folder with `{FOLDER}/`")
  folder = pathlib.Path(directory).absolute() / FOLDER
  _check(folder / str(step), "card")
  with _reading(folder) as checkpoints:
    return _json(checkpoints, step, "card")


def load_log(directory: results.Path) -> Log | None:
  """Return the log of the newest checkpoint in a model's folder, None where an older version made it.

  Raises:
    ValueError: when it is damaged.
  """
  folder, step = pathlib.Path(directory).absolute() / FOLDER, latest_step(directory)
  if step is None:
    return None
  _check(folder / str(step), "log")
  with _reading(folder) as checkpoints:
    return _log(checkpoints, step)


def load_ema(
  workdir: results.Path, label: str | None = None, step: int | None = None
) -> tuple[Preconditioned, dict]:
  """Load a trained network: its linen module and EMA parameters, in one call.

  Args:
    workdir: a study's working directory, or one model's folder in it.
    label: which model of the study; may be left out when it has just one.
    step: which checkpoint; the newest by default.

  Returns:
    ``(network, params)`` such that ``network.apply({"params": params}, x, sigma)`` is D(x; sigma).

  Raises:
    ValueError: when there is no such model or checkpoint, naming those that exist; or when it is damaged.
  """
  folder = _model_folder(pathlib.Path(workdir).absolute(), label) / FOLDER
  steps = _steps(folder)
  step = max(steps, default=None) if step is None else step
  if step is None or step not in steps:
    raise ValueError(f"`step` {step} is not in `{folder}`; it holds {steps or 'no checkpoint'}")
  _check(folder / str(step), "card", "ema")
  with _reading(folder) as checkpoints:
    network = networks.create(**_json(checkpoints, step, "card")["network"])
    like = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), networks.shapes(network))
    params = _restore(checkpoints, step, ema=ocp.args.StandardRestore(like)).ema
  _check_like(params, like, folder / str(step))
  return network, params


def _unwritten(checkpoints: ocp.CheckpointManager, error: Exception) -> OSError:
  return OSError(f"`{checkpoints.directory}` can't be written ({_reason(error)})")


def _reason(error: Exception) -> str:
  said = " ".join(str(error).split()) or type(error).__name__
  # TensorStore puts the system's own words between what was to be done and where in its code.
  return said if len(said) < 200 else f"{said[:100]} … {said[-100:]}"


def _steps(folder: pathlib.Path) -> list[int]:
  return sorted(ocp.utils.checkpoint_steps(folder)) if folder.is_dir() else []


def _reading(folder: pathlib.Path) -> ocp.CheckpointManager:
  own = jax.process_index()  # each process of a run reads by itself, and waits for no other
  alone = ocp.options.MultiprocessingOptions(
    primary_host=own, active_processes={own}, barrier_sync_key_prefix=f"process_{own}"
  )
  options = ocp.CheckpointManagerOptions(read_only=True, multiprocessing_options=alone)
  said = logging.get_verbosity()
  logging.set_verbosity(min(said, logging.ERROR))  # orbax warns that what is read is not written
  try:
    return _opened(folder, options)
  finally:
    logging.set_verbosity(said)


def _opened(
  folder: pathlib.Path, chosen: ocp.CheckpointManagerOptions, **options: Any
) -> ocp.CheckpointManager:
  try:
    return ocp.CheckpointManager(folder, options=chosen, **options)
  except (AttributeError, KeyError, TypeError, ValueError) as error:
    said = " ".join(str(error).split())
    raise results.DamagedError(
      f"`{folder}` can't be opened ({said}); delete `{NOTES}` in the folders there, which nothing needs, and "
      "run the same command again"
    ) from error


def _restored(checkpoints, step: int, fresh: TrainState, card: dict) -> tuple[TrainState, Log | None]:
  where = pathlib.Path(checkpoints.directory) / str(step)
  found = _json(checkpoints, step, "card")
  if found != card:
    raise ValueError(f"`{where}` holds the network {found}, not {card}; use another `workdir`")
  rest = {"params": fresh.params, "opt_state": fresh.opt_state, "step": fresh.step}
  items = {
    "ema": ocp.args.StandardRestore(jax.device_get(fresh.ema_params)),
    "state": ocp.args.StandardRestore(jax.device_get(rest)),
  }
  out = _restore(checkpoints, step, **items)
  state = TrainState(out.state["step"], out.state["params"], out.ema, out.state["opt_state"])
  _check_like(state, fresh, where)
  if state.step != step:
    raise results.DamagedError(f"`{where}` holds step {state.step}")
  return jax.device_put(state), _log(checkpoints, step)


def _log(checkpoints: ocp.CheckpointManager, step: int) -> Log | None:
  if not (checkpoints.directory / str(step) / "log").exists():
    return None
  return Log(**_json(checkpoints, step, "log"))


def _json(checkpoints: ocp.CheckpointManager, step: int, item: str) -> dict[str, Any]:
  return _restore(checkpoints, step, **{item: ocp.args.JsonRestore()})[item]


def _restore(checkpoints: ocp.CheckpointManager, step: int, **items: Any) -> Any:
  """Read items of a checkpoint; of orbax's many errors make one line."""
  where = pathlib.Path(checkpoints.directory) / str(step)
  try:
    return checkpoints.restore(step, args=ocp.args.Composite(**items))
  except Exception as error:
    reason = f"`{where}` can't be read ({_reason(error)})"
    # Where the files are what was saved, it's the program that is another.
    kind = ValueError if (where / SUMS).exists() else results.DamagedError
    raise kind(reason) from error


def _seal(folder: pathlib.Path) -> None:
  """Write down whose a checkpoint is, and its digests, when it is complete but for its name."""
  if hosts.first():
    for unfinished in folder.glob("*.orbax-checkpoint-tmp*"):
      if (folder.parent / TRAINING).exists():
        results.copy(folder.parent / TRAINING, unfinished / TRAINING)
      lines = [f"{results.digest(unfinished / name)}  {name}\n" for name in _files(unfinished)]
      with results.writing(unfinished / SUMS) as file:
        file.write("".join(lines).encode())


def _files(where: pathlib.Path) -> list[str]:
  """Return the files of a checkpoint's items, and whose it is, by their paths in it."""
  found = [path for path in where.glob("*/**/*") if path.is_file() and not path.name.startswith(".")]
  return sorted(path.relative_to(where).as_posix() for path in [*found, *where.glob(TRAINING)])


def _verify(where: pathlib.Path, *items: str) -> None:
  """Refuse a checkpoint of which a file isn't what was saved, or that is another model's.

  Args:
    where: the checkpoint.
    *items: those that matter, all where none is named.

  Raises:
    results.DamagedError: naming the file, or in what the other model's training differs.
  """
  if not (where / SUMS).exists():
    return _tell(f"`{where}` has no `{SUMS}`, as of an older version: damage to it would go unnoticed")
  try:
    lines = (where / SUMS).read_text().splitlines()
    saved = {name: found for found, name in (line.split("  ", 1) for line in lines)}
  except (OSError, ValueError) as error:
    raise results.DamagedError(f"`{where / SUMS}` is damaged ({error})") from error
  for name in sorted({*saved, *_files(where)}):
    if not items or name.split("/")[0] in (*items, TRAINING):
      try:
        found = results.digest(where / name)
      except (OSError, ValueError) as error:
        raise results.DamagedError(f"`{where}` is damaged: `{name}` can't be read ({error})") from error
      if found != saved.get(name):
        raise results.DamagedError(f"`{where}` is damaged: `{name}` is not what was saved")
  _check_whose(where)


def _check_whose(where: pathlib.Path) -> None:
  """Refuse a checkpoint of another training than the model's, whose records both say what decided it.

  Models of one run differ in their number of steps alone, and have checkpoints in common. Fields that only
  one record has are of another version.
  """
  beside, own = where.parents[1] / TRAINING, where / TRAINING
  if not (beside.exists() and own.exists()):
    return  # an import, or of an older version
  remedy = f"put a copy of `{own}` in its place"
  here, there = results.read_json(beside, remedy), results.read_json(own)
  if not isinstance(here, dict):
    raise results.DamagedError(f"`{beside}` is no record of a training; {remedy}")
  for field in sorted(here.keys() & there.keys() - {"train.steps"}):
    if here[field] != there[field]:
      raise results.DamagedError(
        f"`{where}` is another model's: its `{field}` is {there[field]!r}, and this model's {here[field]!r}"
      )


def _check(where: pathlib.Path, *items: str) -> None:
  """Refuse damaged items for those who can't go on from an earlier checkpoint."""
  try:
    _verify(where, *items)
  except results.DamagedError as error:
    raise results.DamagedError(f"{error}; run its study again, or import it anew") from error


def _hopeless(folder: pathlib.Path, error: results.DamagedError) -> results.DamagedError:
  return results.DamagedError(
    f"{error}; there is no sound checkpoint before it: delete `{folder}` and run the same command again, "
    "which trains the network anew"
  )


@functools.cache
def _tell(line: str) -> None:
  """Say something once."""
  print(line, file=sys.stderr)


def _model_folder(workdir: pathlib.Path, label: str | None) -> pathlib.Path:
  if label is None and (workdir / FOLDER).is_dir():
    return workdir
  labels = sorted(path.parent.name for path in workdir.glob(f"models/*/{FOLDER}"))
  if label is None and len(labels) == 1:
    return workdir / "models" / labels[0]
  if label not in labels:
    raise ValueError(f"`label` {label!r} names no trained model of `{workdir}`; it has {labels or 'none'}")
  return workdir / "models" / label


def _check_like(found, fresh, where) -> None:
  """Refuse silently reshaped or cast arrays: orbax checks neither for host targets."""

  def check(path, leaf, want):
    if leaf.shape != want.shape or leaf.dtype != want.dtype:
      name = jax.tree_util.keystr(path)
      raise ValueError(f"`{where}` has {name} as {leaf.dtype}{leaf.shape}, want {want.dtype}{want.shape}")

  jax.tree_util.tree_map_with_path(check, found, fresh)
