"""The working directory of a study: whose it is, and what in it may change.

A study may gain or change analyses, denoisers, options, noise levels and models at any time: results know
what they were computed from, and those that are not current are computed anew. Only what decided the training
of a network that exists stays as it was.
"""

import contextlib
import datetime
import fcntl
import os
import pathlib
import platform
import sys
from collections.abc import Iterator
from typing import Any

from ml_collections import ConfigDict

from gauss_diffusion import edm, results
from gauss_diffusion.study import asked
from gauss_diffusion.study.subjects import Model
from gauss_diffusion.training import checkpoint

LOCK, LOCKS = ".lock", ".locks"  # who writes here: alone, or with others each their models
_UNDECIDING = (
  "log_every",
  "checkpoint_every",
  "keep",
  "alarm_every",
)  # of `train`: how it is watched and kept
# Fields that records written before them lack, and what such a training was.
_YOUNGER = {
  "train.noise_law": "",
  "train.sigma_min": edm.SIGMA_MIN,
  "train.sigma_max": edm.SIGMA_MAX,
  "train.augment": 0.0,
  "train.conditional": False,
  "train.label_dropout": 0.0,
}


def check(workdir: pathlib.Path, models: list[Model]) -> None:
  """Refuse a working directory that holds something that the study would spoil, and touch nothing.

  Args:
    workdir: may be missing.
    models: of the study.

  Raises:
    ValueError: when the folder holds something else, or a network that was trained otherwise, naming the
      field and how to go on.
  """
  entries = [path.name for path in workdir.iterdir()] if workdir.is_dir() else []
  if workdir.exists() and not workdir.is_dir():
    raise ValueError(f"`workdir` {workdir} is a file; choose another `--workdir`")
  visible = {name for name in entries if not name.startswith(".")}
  if visible and not visible & {asked.FILE, "models", "results"}:
    raise ValueError(f"`workdir` {workdir} is not empty and holds no study; choose another `--workdir`")
  for model in models:
    if model.source == "training":
      _check_training(workdir, model)


def take(workdir: pathlib.Path, config: ConfigDict, models: list[Model], command: str) -> None:
  """Make `workdir` this study's, or refuse it as `check` does.

  Args:
    workdir: made when missing.
    config: the study, which becomes the one that the folder's report is of.
    models: of the study.
    command: that a report names as the one that made it.
  """
  check(workdir, models)
  for model in models:
    if model.source == "training":
      results.write_json(model.folder / checkpoint.TRAINING, _training(model))
  results.write_json(workdir / asked.FILE, {"command": command} | asked.plain(config))


@contextlib.contextmanager
def held(workdir: pathlib.Path, share: list[Model], tasks: int) -> Iterator[None]:
  """Keep other processes from a working directory, or from one's share of it, until the block ends.

  The locks are the kernel's, so that those of a process that died hold nobody up. What such processes left
  half written is deleted.

  Args:
    workdir: made when missing.
    share: the models that this process works on.
    tasks: how many processes divide the study; one alone shares nothing.

  Raises:
    ValueError: when another process is at it, saying which.
  """
  with contextlib.ExitStack() as locks:
    locks.enter_context(_locked(workdir / LOCK, workdir, alone=tasks == 1))
    for model in share if tasks > 1 else []:
      locks.enter_context(_locked(workdir / LOCKS / model.label, workdir, alone=True))
    if tasks == 1:
      results.sweep(workdir)
    yield


@contextlib.contextmanager
def _locked(path: pathlib.Path, workdir: pathlib.Path, *, alone: bool) -> Iterator[None]:
  path.parent.mkdir(parents=True, exist_ok=True)
  with path.open("a+") as file:
    try:
      fcntl.flock(file, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except BlockingIOError as error:
      file.seek(0)
      raise ValueError(
        f"`workdir` {workdir} is in use by {file.read() or 'another process'}; wait for it, end it, or "
        "choose another `--workdir`"
      ) from error
    except OSError as error:
      print(f"`{path}` can't be locked ({error.strerror}): let no other process write there", file=sys.stderr)
    file.truncate(0)
    file.write(
      f"process {os.getpid()} on {platform.node()}, since {datetime.datetime.now():%Y-%m-%d %H:%M:%S}"
    )
    file.flush()
    yield


def _training(model: Model) -> dict[str, Any]:
  """Return what decides a training, by the names of the model's fields."""
  entry = asked.plain(model.entry)
  deciding = {name: value for name, value in entry["train"].items() if name not in _UNDECIDING}
  network = {f"network.{name}": value for name, value in model.card["network"].items()}
  return (
    {"seed": entry["seed"], "size": len(model.training.images)}
    | ({"surrogate": True} if entry["surrogate"] else {})
    | network
    | {f"train.{name}": value for name, value in deciding.items()}
    | {"images": model.training.fingerprint}
    | ({"labels": model.training.label_fingerprint} if entry["train"]["conditional"] else {})
  )


def _check_training(workdir: pathlib.Path, model: Model) -> None:
  if checkpoint.latest_step(model.folder) is None:
    return  # nothing was earned: it may start anew with other settings
  place, new = model.folder / checkpoint.TRAINING, _training(model)
  remedy = "add a model under another label, or choose another `--workdir`"
  if not place.exists():
    raise ValueError(
      f"`{model.folder}` holds checkpoints and no `{checkpoint.TRAINING}`, which says of what; {remedy}"
    )
  old = results.read_json(place, remedy=remedy)
  if not isinstance(old, dict):
    raise ValueError(f"`{place}` can't be read (it is no record of a training); {remedy}")
  old = _YOUNGER | old
  for field in dict.fromkeys([*new, *old]):
    if old.get(field) != new.get(field):
      what = (
        f"the {field} (of another `data` or `seed`)"
        if field in ("images", "labels")
        else f"`models.{model.label}.{field}`"
      )
      raise ValueError(
        f"`workdir` {workdir} has trained {model.label!r} with {what} = {old.get(field)!r}, not "
        f"{new.get(field)!r}; {remedy}"
      )
