"""Networks trained elsewhere, brought in with the reference's names."""

import pathlib
from typing import NamedTuple

import numpy as np

from gauss_diffusion import results
from gauss_diffusion.command_line import printable
from gauss_diffusion.importers import diffusers, edm, edm2, formats, pickles, tensors
from gauss_diffusion.networks.preconditioned import Preconditioned


class Told(NamedTuple):
  """What a user says of a network whose file does not."""

  preconditioning: str = ""  # of EDM's state dicts, see `edm.from_names`
  sigma_data: float | None = None  # of the same
  img_resolution: int | None = None  # of a folder of diffusers, see `diffusers.load`
  scheduler: str = ""  # of the same


def load(place: results.Path, told: Told = Told()) -> tuple[Preconditioned, dict]:
  """Return the network and the parameters in a file that was made elsewhere; nothing in it is run.

  Args:
    place: a network pickle of EDM's or EDM2's, of which `ema` is taken; a training state, which has only
      `net`, the network without averaging; a state dict of these networks, of torch.save or
      ``.safetensors``; or the folder of a UNet2DModel of diffusers, or of a pipeline with one.
    told: what the file does not say; what it does say must not be told.

  Returns:
    network, params: a linen module and its parameters, float32 NumPy arrays.

  Raises:
    ValueError: says what in the file is damaged or not admitted, what else it is, or what it leaves open.
    OSError: when the file cannot be read.
  """
  formats.check(place)
  try:
    return _load(place, told)
  except ValueError as reason:  # its names are the file's
    raise ValueError(printable(reason)) from None


def _load(place: results.Path, told: Told) -> tuple[Preconditioned, dict]:
  if pathlib.Path(place).is_dir():
    _untold(place, told, "preconditioning", "sigma_data")
    return diffusers.load(place, told.img_resolution, told.scheduler)
  _untold(place, told, "img_resolution", "scheduler")
  if formats.is_safetensors(place):
    return _from_names(place, tensors.read_safetensors(place), told)
  content = pickles.read(place)
  record = content.get("ema", content.get("net")) if isinstance(content, dict) else None
  if isinstance(record, pickles.Record) and isinstance(record.state, dict):
    _untold(place, told, "preconditioning", "sigma_data")
    return (edm2 if record.name == edm2.CLASS else edm).from_record(place, record)
  found = tensors.within(content)
  if found is not None:
    return _from_names(place, pickles.arrays(place, found), told)
  if isinstance(content, dict) and content.keys() & {"ema", "net"}:
    raise ValueError(f"`{place}` has something other than a network of the reference as `ema` or `net`")
  raise ValueError(
    f"`{place}` holds no network: want `ema`, of a snapshot, or `net`, of a training state, or a state dict"
  )


def _from_names(place: results.Path, state: dict[str, np.ndarray], told: Told) -> tuple[Preconditioned, dict]:
  """Return the network of a plain state dict, whichever of those that can be told by their names it is."""
  state = {name.removeprefix("module."): value for name, value in state.items()}  # torch's parallel copies
  if any(name.startswith(("model.enc.", "enc.")) for name in state):
    return edm.from_names(state, told.preconditioning, told.sigma_data)
  if any(name.startswith("unet.enc.") for name in state):
    _untold(place, told, "preconditioning")
    return edm2.from_names(state, told.sigma_data)
  formats.refuse_names(place, state)


def _untold(place: results.Path, told: Told, *fields: str) -> None:
  """Refuse what was told of a file that says it itself."""
  for field in fields:
    if getattr(told, field) not in ("", None):
      raise ValueError(f"`{field}` was given, which `{place}` says itself or has no use for; leave it out")
