"""Many commands for one start: a process imports what all of them import, and is copied for each.

Importing takes seconds, which most commands that are refused have no other use for. What each does from its
first own line to its exit code is what it does when started alone; that it starts is tested elsewhere.
"""

import contextlib
import json
import subprocess
import sys
import typing

COPIED = """
import json, os, runpy, signal, sys
import absl.app, ml_collections.config_flags
import gauss_diffusion.study.check, gauss_diffusion.study.cost, gauss_diffusion.study.rebuild

for line in sys.stdin:
  folder, module, words, before = json.loads(line)
  sys.stdout.flush()
  if (child := os.fork()) == 0:
    signal.alarm(300)  # seconds, after which it is dead
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for stream, name in ((1, "out"), (2, "err")):
      os.dup2(os.open(os.path.join(folder, name), os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
    sys.argv = [module, *words]
    exec(before)
    runpy.run_module(module, run_name="__main__", alter_sys=True)
    sys.exit()
  print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Ended(typing.NamedTuple):
  """What a command printed, and its exit code, negative for a signal."""

  out: str
  err: str
  code: int


@contextlib.contextmanager
def copies(folder, **options):
  """Yield a function that runs a module with words, one after the other; `folder` is for what they print.

  Its `before` is code that a copy runs first; `options` are those of the process that is copied.
  """
  pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
  with subprocess.Popen([sys.executable, "-c", COPIED], **pipes, **options) as process:

    def run(module, *words, before=""):
      process.stdin.write(json.dumps([str(folder), module, [*map(str, words)], before]) + "\n")
      process.stdin.flush()
      code = int(process.stdout.readline())
      return Ended((folder / "out").read_text(), (folder / "err").read_text(), code)

    yield run
    process.stdin.close()
