"""Write the reports of studies anew from their results alone: no data, no networks, no devices.

python -m gauss_diffusion.report runs/digits results/dataset_size/digits

Of several, ``comparison.html``, or what ``--to`` says, shows verdicts, numbers and figures side by side.
"""

import contextlib
import pathlib
from collections.abc import Iterator

from absl import app, flags

from gauss_diffusion import interrupts, keep, page
from gauss_diffusion.command_line import arguments, refuse
from gauss_diffusion.study import asked, rebuild

FLAGS = flags.FLAGS
flags.DEFINE_string("to", "comparison.html", "The page on which several studies stand side by side.")


def parse(argv: list[str]) -> list[str]:
  """Parse the command line, which names at least one working directory."""
  want = "want at least one WORKDIR, as in `python -m gauss_diffusion.report runs/digits`"
  return arguments(argv, 1, None, want)


def main(argv: list[str]) -> None:
  """Rebuild each report and print its numbers; put several side by side."""
  interrupts.unwind()
  folders, studies = [pathlib.Path(folder) for folder in argv[1:]], {}
  try:
    _check(folders, pathlib.Path(FLAGS.to))
    for i, folder in enumerate(folders):
      with _reported(folder) as workdir:
        print(rebuild.summary(folder), end="")
        if len(folders) > 1:
          studies[str(folder)] = rebuild.shown(workdir, f"study-{i}-")
    if studies:
      page.compare(FLAGS.to, studies)
      print(f"side by side: {FLAGS.to}")
  except (ValueError, OSError) as reason:
    refuse(reason)


def _check(folders: list[pathlib.Path], to: pathlib.Path) -> None:
  """Refuse what no comparison can be made of before anything is written."""
  found: dict[pathlib.Path, pathlib.Path] = {}
  for folder in folders:
    asked.read(folder)
    if folder.resolve() in found:
      raise ValueError(f"`{folder}` is `{found[folder.resolve()]}`; want each study once")
    found[folder.resolve()] = folder
  if len(folders) > 1 and to.exists() and not page.is_comparison(to):
    raise ValueError(f"`{to}` exists and is no comparison of studies; want another --to=FILE.html")


@contextlib.contextmanager
def _reported(folder: pathlib.Path) -> Iterator[pathlib.Path]:
  """Bring the report of a study up to date and yield the working directory with its results."""
  if keep.is_kept(folder):
    with keep.reported(folder) as workdir:
      yield workdir
  else:
    rebuild.rebuild(folder)
    yield folder


if __name__ == "__main__":
  app.run(main, flags_parser=parse)
