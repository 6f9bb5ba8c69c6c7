"""Bring in a network that the EDM reference trained: a network snapshot, or the `net` of a training state.

    python -m gauss_diffusion.import_edm network-snapshot-200000.pkl --workdir=runs/imported_network

Nothing in the file is run. `checkpoint.load_ema` loads the network, and `configs/imported.py` studies it.
"""

import os
import pathlib
import shutil

import jax
from absl import app, flags, logging

from gauss_diffusion import interrupts, networks
from gauss_diffusion.command_line import arguments, refuse
from gauss_diffusion.importers import edm
from gauss_diffusion.training import checkpoint

FLAGS = flags.FLAGS
flags.DEFINE_string("workdir", None, "A new folder, which will keep the network.")
flags.mark_flag_as_required("workdir")


def parse(argv: list[str]) -> list[str]:
  """Parse the command line, which names one file."""
  want = "want one FILE, as in `import_edm FILE --workdir=DIR`, not {given}"
  return arguments(argv, 1, 1, want)


def main(argv: list[str]) -> None:
  """Read and check everything, then write."""
  interrupts.unwind()
  path, workdir = pathlib.Path(argv[1]), pathlib.Path(FLAGS.workdir)
  logging.set_verbosity(logging.FATAL)  # orbax tells its every move, and errors twice
  jax.config.update("jax_platforms", "cpu")
  try:
    if workdir.exists() and (not workdir.is_dir() or os.listdir(workdir)):
      raise ValueError(f"`workdir` {str(workdir)!r} already holds something; want a new or empty folder")
    network, params = edm.load(path)
    card = networks.card(network)
    try:
      checkpoint.save_ema(workdir, params, {"network": card})
    except BaseException:  # a signal's too
      shutil.rmtree(workdir / checkpoint.FOLDER, ignore_errors=True)
      raise
  except (ValueError, OSError) as reason:
    refuse(reason)
  num = sum(leaf.size for leaf in jax.tree.leaves(params))
  side, channels = card["img_resolution"], card["img_channels"]
  print(
    f"imported {card['name']} under the {card['preconditioning']} preconditioning, {num} parameters, "
    f"images {side} x {side} x {channels}, to {workdir}"
  )


if __name__ == "__main__":
  app.run(main, flags_parser=parse)
