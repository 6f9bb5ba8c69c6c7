"""Checkpoints of host arrays through orbax: the only file that knows of it.

A checkpoint holds two items: `ema`, with the card of the network beside it, which analyses and
notebooks read alone; and `state`, the rest of what a resumed run needs.
"""

import os
import pathlib
import shutil
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from gauss_diffusion import networks, results
from gauss_diffusion.networks.preconditioned import Preconditioned
from gauss_diffusion.training.train_state import TrainState

FOLDER = "checkpoints"


def manager(directory: results.Path, keep: int = 2) -> ocp.CheckpointManager:
  """Open a model's checkpoints for writing; the newest `keep` stay."""
  options = ocp.CheckpointManagerOptions(max_to_keep=keep, create=True)
  return ocp.CheckpointManager(pathlib.Path(directory).absolute() / FOLDER, options=options)


def save(checkpoints: ocp.CheckpointManager, state: TrainState, card: dict[str, Any]) -> None:
  """Save the state and the network's card under its step, without waiting for the disk.

  Args:
    checkpoints: from `manager`.
    state: on devices or host; stored as host arrays, which restore on any number of devices.
    card: ``{"network": {"name": ..., options}}``, plain JSON: enough to rebuild the network.
  """
  host = jax.device_get(state)
  rest = {"params": host.params, "opt_state": host.opt_state, "step": np.asarray(host.step)}
  items = ocp.args.Composite(
    ema=ocp.args.StandardSave(host.ema_params),
    state=ocp.args.StandardSave(rest),
    card=ocp.args.JsonSave(card),
  )
  checkpoints.save(int(host.step), args=items, force=True)


def save_ema(directory: results.Path, params: dict, card: dict[str, Any]) -> None:
  """Save a network that was not trained here as checkpoint 0 of a model's folder, and wait for the disk.

  Args:
    directory: a folder for `load_ema`.
    params: host arrays.
    card: as for `save`.
  """
  folder = pathlib.Path(directory).absolute() / FOLDER
  # One database for all arrays would buffer them once more: a large import wants the memory.
  handlers = {"ema": ocp.StandardCheckpointHandler(use_ocdbt=False), "card": ocp.JsonCheckpointHandler()}
  with ocp.CheckpointManager(folder, item_handlers=handlers) as checkpoints:
    items = ocp.args.Composite(ema=ocp.args.StandardSave(params), card=ocp.args.JsonSave(card))
    checkpoints.save(0, args=items)


def restore(checkpoints: ocp.CheckpointManager, fresh: TrainState, card: dict[str, Any]) -> TrainState:
  """Return the newest checkpoint in the form of `fresh`, or `fresh` itself where there is none.

  Raises:
    ValueError: when the checkpoint is of another network or its arrays have other shapes or types.
  """
  step = checkpoints.latest_step()
  if step is None:
    return fresh
  where = checkpoints.directory / str(step)
  found = _card(checkpoints, step)
  if found != card:
    raise ValueError(f"`{where}` holds the network {found}, not {card}; use another `workdir`")
  rest = {"params": fresh.params, "opt_state": fresh.opt_state, "step": fresh.step}
  items = ocp.args.Composite(
    ema=ocp.args.StandardRestore(jax.device_get(fresh.ema_params)),
    state=ocp.args.StandardRestore(jax.device_get(rest)),
  )
  out = checkpoints.restore(step, args=items)
  state = TrainState(out.state["step"], out.state["params"], out.ema, out.state["opt_state"])
  _check_like(state, fresh, where)
  return jax.device_put(state)


def latest_step(directory: results.Path) -> int | None:
  """Return the newest finished checkpoint of a model's folder, or None."""
  folder = pathlib.Path(directory).absolute() / FOLDER
  return max(ocp.utils.checkpoint_steps(folder), default=None) if folder.is_dir() else None


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
    ValueError: when there is no checkpoint.
  """
  step = latest_step(directory)
  if step is None:
    raise ValueError(f"`checkpoint` {str(directory)!r} holds no checkpoint; want a folder with `{FOLDER}/`")
  folder = pathlib.Path(directory).absolute() / FOLDER
  with ocp.CheckpointManager(folder, options=ocp.CheckpointManagerOptions(read_only=True)) as checkpoints:
    return _card(checkpoints, step)


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
    ValueError: when there is no such model or checkpoint; it names those that exist.
  """
  folder = _model_folder(pathlib.Path(workdir).absolute(), label) / FOLDER
  with ocp.CheckpointManager(folder, options=ocp.CheckpointManagerOptions(read_only=True)) as checkpoints:
    steps = checkpoints.all_steps()
    step = max(steps, default=None) if step is None else step
    if step is None or step not in steps:
      raise ValueError(f"`step` {step} is not in `{folder}`; it holds {sorted(steps) or 'no checkpoint'}")
    card = _card(checkpoints, step)["network"]
    network = networks.create(**card)
    like = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), networks.shapes(network))
    params = checkpoints.restore(step, args=ocp.args.Composite(ema=ocp.args.StandardRestore(like))).ema
  _check_like(params, like, folder / str(step))
  return network, params


def _card(checkpoints: ocp.CheckpointManager, step: int) -> dict:
  return checkpoints.restore(step, args=ocp.args.Composite(card=ocp.args.JsonRestore())).card


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
