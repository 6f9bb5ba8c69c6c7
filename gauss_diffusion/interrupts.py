"""Let SIGTERM and Ctrl-C end a run between two pieces of work, with nothing lost, and any command quietly."""

import os
import signal
import sys

SIGNALS = (signal.SIGINT, signal.SIGTERM)

_caught: list[signal.Signals] = []


class Interrupted(Exception):
  """A signal asked for the end, and what was done is saved."""

  def __init__(self, number: signal.Signals):
    super().__init__(number.name)
    self.signal = number


def die() -> None:
  """From now on Ctrl-C ends the process as SIGTERM does, at once: nothing has been begun."""
  if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # and isn't ignored
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def unwind() -> None:
  """From now on a signal ends the process when what is half written is removed; a second one at once."""
  for number in SIGNALS:
    signal.signal(number, _leave)


def listen() -> None:
  """From now on, note the first signal for `asked` and `check`; a second one ends the process at once."""
  _caught.clear()
  for number in SIGNALS:
    signal.signal(number, _note)


def asked() -> bool:
  """Tell whether a signal has asked for the end."""
  return bool(_caught)


def check(asked_for: bool) -> None:
  """Stop here where a signal has asked for it, of this process or of another one of its run.

  Args:
    asked_for: what `asked` says, in any of the processes.

  Raises:
    Interrupted: where nothing is half done.
  """
  if asked_for:
    raise Interrupted(_caught[0] if _caught else signal.SIGTERM)


def _note(number: int, frame: object) -> None:
  del frame
  _caught.append(signal.Signals(number))
  _listen_no_more()
  # `print` may be what was interrupted, and can't be entered twice.
  os.write(2, f"\n{_caught[0].name}: finishing what is in hand; once more to leave at once\n".encode())


def _leave(number: int, frame: object) -> None:
  del frame
  _listen_no_more()
  os.write(2, f"\nstopped by {signal.Signals(number).name}\n".encode())
  sys.exit(128 + number)


def _listen_no_more() -> None:
  for number in SIGNALS:
    signal.signal(number, signal.SIG_DFL)
