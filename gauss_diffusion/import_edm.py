"""Bring in a network that was trained elsewhere.

    python -m gauss_diffusion.import_edm network-snapshot-200000.pkl --workdir=runs/imported_network

The file is a network snapshot of EDM's or EDM2's, a training state, or a plain state dict of their networks,
of torch.save or .safetensors. The last do not say how the image is scaled, which
``--preconditioning=edm --sigma_data=0.5`` does, and for EDM2 ``--sigma_data`` alone. Or it is the folder of a
UNet2DModel of diffusers, or of its pipeline, imported with its schedule. Nothing in a file is run.
`checkpoint.load_ema` loads the network, and `configs/imported.py` studies it.
"""

import os
import pathlib
import shutil
from typing import Any

import jax
from absl import app, flags, logging

from gauss_diffusion import importers, interrupts, networks
from gauss_diffusion.command_line import arguments, refuse
from gauss_diffusion.training import checkpoint

FLAGS = flags.FLAGS
flags.DEFINE_string("workdir", None, "A new folder, which will keep the network.")
flags.DEFINE_string("preconditioning", "", "Of a state dict of EDM's networks: edm, vp, ve or iddpm.")
flags.DEFINE_float("sigma_data", None, "Of a state dict under the preconditioning edm, EDM2's too.")
flags.DEFINE_integer(
  "img_resolution", None, "Of a folder of diffusers whose config has no sample_size: pixels."
)
flags.DEFINE_string("scheduler", "", "Of a folder of diffusers that has none: its scheduler_config.json.")
flags.mark_flag_as_required("workdir")


def parse(argv: list[str]) -> list[str]:
  """Parse the command line, which names one file."""
  want = "want one FILE, as in `import_edm FILE --workdir=DIR`, not {given}"
  return arguments(argv, 1, 1, want)


def main(argv: list[str]) -> None:
  """Read and check everything, then write."""
  interrupts.unwind()
  workdir = pathlib.Path(FLAGS.workdir)
  told = importers.Told(FLAGS.preconditioning, FLAGS.sigma_data, FLAGS.img_resolution, FLAGS.scheduler)
  logging.set_verbosity(logging.FATAL)  # orbax tells its every move, and errors twice
  jax.config.update("jax_platforms", "cpu")
  try:
    if workdir.exists() and (not workdir.is_dir() or os.listdir(workdir)):
      raise ValueError(f"`workdir` {str(workdir)!r} already holds something; want a new or empty folder")
    network, params = importers.load(argv[1], told)
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
    f"images {side} x {side} x {channels}, {_conditions(card)}, to {workdir}"
  )


def _conditions(card: dict[str, Any]) -> str:
  """Return what a network is told besides the image and its noise level."""
  labels, augment = card["label_dim"], card["augment_dim"]
  found = f"class-conditional, {labels} labels" if labels else "unconditional"
  return f"{found}; augmentation labels: {augment}" if augment else found


if __name__ == "__main__":
  app.run(main, flags_parser=parse)
