"""Write the reports of studies anew from their results alone: no data, no networks, no devices.

python -m gauss_diffusion.report runs/digits results/dataset_size/digits
"""

import pathlib

from absl import app, flags

from gauss_diffusion import keep
from gauss_diffusion.command_line import refuse
from gauss_diffusion.study import rebuild

FLAGS = flags.FLAGS


def parse(argv: list[str]) -> list[str]:
  """Parse the command line, which names at least one working directory."""
  try:
    rest = FLAGS(argv)
  except flags.Error as reason:
    refuse(reason)
  if len(rest) < 2:
    refuse("want at least one WORKDIR, as in `python -m gauss_diffusion.report runs/digits`")
  return rest


def main(argv: list[str]) -> None:
  """Rebuild each report and print its numbers."""
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
