"""What every command does at its start, with arguments and wrong input; how text reaches a terminal."""

import io
import os
import pathlib
import sys
import threading
from typing import NoReturn

from absl import flags

MOST = 2000  # characters of an error

# The C library's setting that puts large arrays in pages of 2 MB; Linux's, which must leave it the choice.
LARGE_PAGES = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
_CHOICE = pathlib.Path("/sys/kernel/mm/transparent_hugepage/enabled")


def use_large_pages() -> None:
  """Begin this command anew where large arrays can have large pages: the C library reads that as it starts.

  A compiled call gets its scratch memory fresh from the system, and gives it back at its end. In pages of
  4 kB that alone is a fifth to a quarter of a training step on a CPU. What a user chose of the library stays.
  """
  chosen = any(name in os.environ for name in LARGE_PAGES)
  if not chosen and _CHOICE.exists() and "[madvise]" in _CHOICE.read_text():
    os.execve(sys.executable, sys.orig_argv, os.environ | LARGE_PAGES)


def greet() -> None:
  """Say on a terminal that a command has begun, before imports that take seconds."""
  if sys.stderr.isatty():
    print("starting ...", file=sys.stderr, flush=True)


def refuse(*reasons: object) -> NoReturn:
  """End with a line on each thing that is wrong and exit code 2."""
  for reason in reasons:
    print(f"error: {printable(reason)}", file=sys.stderr)
  sys.exit(2)


def prepare(argv: list[str]) -> None:
  """Refuse arguments that are no text; let standard output escape what its encoding lacks."""
  for argument in argv:
    try:
      argument.encode()
    except UnicodeEncodeError:
      refuse(f"`{argument}` holds bytes that are not UTF-8; want text")
  if isinstance(sys.stdout, io.TextIOWrapper):
    sys.stdout.reconfigure(errors="backslashreplace")


def arguments(argv: list[str], least: int, most: int | None, want: str) -> list[str]:
  """Parse a command line that names files or folders, and return it without its options.

  Args:
    argv: the program's name and what follows.
    least: of the names.
    most: of the names, None for any number.
    want: the error when there are fewer or more; ``{given}`` in it stands for how many there are.
  """
  prepare(argv)
  try:
    rest = flags.FLAGS(argv)
  except flags.Error as reason:
    refuse(reason)
  if not least <= len(rest) - 1 <= (len(rest) if most is None else most):
    refuse(want.format(given=len(rest) - 1))
  return rest


def quiet_threads() -> None:
  """Let only the main thread print what went wrong: what fails in libraries' threads is raised there too."""

  def report(failure):
    if threading.current_thread() is threading.main_thread():
      sys.__unraisablehook__(failure)

  sys.unraisablehook, threading.excepthook = report, lambda _: None


def printable(text: object, most: int = MOST) -> str:
  """Return text as one line without control characters, its middle left out beyond `most` characters.

  A name in a file may be megabytes long, and may hold escape sequences, which a terminal obeys.
  """
  said = str(text)
  if len(said) > most:
    said = f"{said[: most // 2]} … {said[-(most // 2) :]}"
  said = " ".join(said.split())
  return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in said)
