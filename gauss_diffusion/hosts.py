"""Several processes that are one run: how they find each other, what they agree on, how they end.

The engine is JAX's distributed runtime. All processes do the same work at the same time, each on its share of
every batch, and see one working directory. Process 0 alone writes to it, but for checkpoints, of which orbax
decides who writes what. One process is a run of its own: then nothing here waits for anybody.
"""

import json
import os
import platform
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

PATIENCE = 45  # seconds in which all processes must have come
SILENCE = 30  # seconds after which a process that says nothing counts as dead, and as long to end together
# A process of its own, which no signal ends, says the last words of one that the runtime aborts or that is
# killed: the last line that comes in, unless it is empty.
WITNESS = """
import signal, sys
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
  signal.signal(number, signal.SIG_IGN)
last = [*sys.stdin][-1:]
sys.stderr.write("".join(last).lstrip("\\n"))
"""

T = TypeVar("T")
_witnesses: list[subprocess.Popen] = []  # of this process: none or one


class ElsewhereError(ValueError):
  """Process 0 failed at something that all have to wait for."""


def join(coordinator: str | None, num_processes: int | None, process_id: int | None, command: str) -> None:
  """Become one of the processes of a run, before anything is computed.

  Args:
    coordinator: address of process 0, ``HOST:PORT``, a free port there. None, as of the two numbers: what
      SLURM, Open MPI, Kubernetes (GKE) or a TPU's metadata say.
    num_processes: of the run.
    process_id: from 0.
    command: that continues the run, for last words.

  Raises:
    ValueError: when nothing says who belongs to the run, when the coordinator does not answer or when
      processes have other numbers of devices.
  """
  where = f"`--coordinator` {coordinator}" if coordinator else "the coordinator"
  _witness(f"error: {where}: not all processes of the run came within {PATIENCE} s, or it is another run's")
  if coordinator and process_id:
    _await(coordinator)
  jax.config.update("jax_enable_preemption_service", False)  # it would take SIGTERM from `interrupts`
  try:
    jax.distributed.initialize(
      coordinator,
      num_processes,
      process_id,
      initialization_timeout=PATIENCE,
      heartbeat_timeout_seconds=SILENCE,
      shutdown_timeout_seconds=SILENCE,
    )
  except Exception as error:  # of many kinds
    _released()
    if coordinator:
      raise ValueError(f"{where} can't be used ({' '.join(str(error).split())})") from error
    raise ValueError(
      "`--distributed` finds neither SLURM, Open MPI, Kubernetes nor TPU metadata that name the processes of "
      f"this run ({' '.join(str(error).split())}); want --coordinator, --num_processes and --process_id"
    ) from error
  who = f"process {jax.process_index()} of {jax.process_count()} on {platform.node()}"
  _say(f"error: {who} lost another one, or was killed; what was saved stays, and this continues: {command}")
  counts = np.bincount([device.process_index for device in jax.devices()], minlength=jax.process_count())
  if len(set(counts)) > 1:
    raise ValueError(f"the processes have {', '.join(map(str, counts))} devices; want as many on each")


def leave() -> None:
  """End together with the other processes of the run, which must come here too."""
  if _witnesses:
    jax.distributed.shutdown()
    _released()


def leave_if_lost(error: BaseException) -> None:
  """End at once, with the last words of `join`, where an error says that another process is gone."""
  said = str(error)
  if _witnesses and any(word in said for word in ("Gloo", "NCCL", "coordination", "heartbeat")):
    _end()


def first() -> bool:
  """Tell whether this is process 0, which writes and speaks for all."""
  return jax.process_index() == 0


def alone(work: Callable[[], object]) -> None:
  """Let process 0 do something, while the others wait.

  Raises:
    ElsewhereError: in the others, where it failed, with what it said; in process 0 its own error.
  """
  _led(work, followed=False)


def in_turn(work: Callable[[], T]) -> T:
  """Do something in process 0, then in all others, which find what it wrote. It must not use devices.

  Raises:
    ElsewhereError: in the others, where it failed in process 0, with what it said; there its own error.
  """
  found = _led(work, followed=True)
  assert found is not None
  return found


def told(flag: bool) -> bool:
  """Return what process 0 says."""
  return bool(multihost_utils.broadcast_one_to_all(np.asarray(flag)))


def anywhere(flag: bool) -> bool:
  """Tell whether any process says so."""
  return slowest(flag) > 0


def slowest(number: float) -> float:
  """Return the largest of the processes' numbers."""
  return float(multihost_utils.process_allgather(np.float32(number)).max())


def agree(what: dict[str, Any]) -> None:
  """Refuse processes that are not of the same run.

  Args:
    what: names and plain values, which must be the same everywhere.

  Raises:
    ValueError: naming the first of which one process has another value than process 0, in all processes.
  """
  found = [json.loads(text) for text in gathered(json.dumps(what, default=str))]
  for number, own in enumerate(found):
    for name in {**found[0], **own}:
      if (here := own.get(name)) != (there := found[0].get(name)):
        raise ValueError(
          f"process {number} has `{name}` = {here!r}, and process 0 {there!r}; want the same everywhere"
        )


def gathered(text: str) -> list[str]:
  """Return what each process says, in their order."""
  said = np.frombuffer(text.encode(), np.uint8)
  longest = int(slowest(len(said)))
  padded = np.concatenate([said, np.zeros(longest + 1 - len(said), np.uint8)])
  return [bytes(row).rstrip(b"\0").decode() for row in multihost_utils.process_allgather(padded)]


def _led(work: Callable[[], T], *, followed: bool) -> T | None:
  found: T | None = None
  failed: Exception | None = None
  if first():
    try:
      found = work()
    except Exception as error:
      failed = error
  said = gathered(f"{failed}" if failed else "")[0]
  if failed:
    raise failed
  if said:
    raise ElsewhereError(said)
  return work() if followed and not first() else found


def _await(coordinator: str) -> None:
  """Wait until the coordinator can be reached: the runtime itself aborts when it can't."""
  host, _, port = coordinator.rpartition(":")
  end = time.monotonic() + PATIENCE
  while True:
    try:
      return socket.create_connection((host, int(port)), timeout=5).close()
    except OSError as error:
      if time.monotonic() > end:
        _released()
        raise ValueError(
          f"`--coordinator` {coordinator} does not answer ({error.strerror or error}); want process 0 there"
        ) from error
    time.sleep(0.5)


def _witness(words: str) -> None:
  command = [sys.executable, "-S", "-c", WITNESS]
  _witnesses.append(subprocess.Popen(command, stdin=subprocess.PIPE, text=True, start_new_session=True))
  _say(words)


def _say(words: str) -> None:
  """Tell the witness the last words from now on."""
  for witness in _witnesses:
    assert witness.stdin
    witness.stdin.write(f"{words}\n")
    witness.stdin.flush()


def _released() -> None:
  _say("")
  while _witnesses:
    _witnesses.pop().communicate()


def _end() -> NoReturn:
  sys.stdout.flush()
  sys.stderr.flush()
  for witness in _witnesses:
    assert witness.stdin
    witness.stdin.close()
    witness.wait()
  os._exit(1)
