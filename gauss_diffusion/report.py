"""Write the reports of studies anew from their results alone: no data, no networks, no devices.

python -m gauss_diffusion.report runs/digits results/dataset_size/digits
"""

import pathlib

from absl import app

from gauss_diffusion import interrupts, keep
from gauss_diffusion.command_line import arguments, refuse
from gauss_diffusion.study import rebuild


def parse(argv: list[str]) -> list[str]:
  """Parse the command line, which names at least one working directory."""
  want = "want at least one WORKDIR, as in `python -m gauss_diffusion.report runs/digits`"
  return arguments(argv, 1, None, want)


def main(argv: list[str]) -> None:
  """Rebuild each report and print its numbers."""
  interrupts.unwind()
  for folder in map(pathlib.Path, argv[1:]):
    try:
      if keep.is_kept(folder):
        keep.report(folder)
      else:
        rebuild.rebuild(folder)
    except (ValueError, OSError) as reason:
      refuse(reason)
    print(rebuild.summary(folder), end="")


if __name__ == "__main__":
  app.run(main, flags_parser=parse)
