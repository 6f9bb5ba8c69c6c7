"""Tensors by their names: found in a file, and put into the place that a network has for each.

Names and layouts are torch's. With P for params["model"] and a module ``a.b`` that is ours as ``a``, ``b``:

    a.b.weight    [O, I, H, W]   P["a"]["b"]["kernel"]                         [H, W, I, O]
    a.b.weight    [O, I]         P["a"]["b"]["kernel"], of classes ["table"]   [I, O]
    a.b.weight    [C]            P["a"]["b"]["scale"]                          [C]
    a.b.bias      [C]            P["a"]["b"]["bias"]                           [C]
"""

import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import flax
import ml_dtypes
import numpy as np
import safetensors

from gauss_diffusion import networks, results
from gauss_diffusion.command_line import printable
from gauss_diffusion.importers import pickles
from gauss_diffusion.networks.preconditioned import Preconditioned

LEAVES = {"kernel": "weight", "direction": "weight", "scale": "weight", "table": "weight", "bias": "bias"}
TO_TORCH = {4: (3, 2, 0, 1), 2: (1, 0), 1: (0,), 0: ()}  # axes by rank: HWIO to OIHW, IO to OI
# What programs of training put around a state dict, the average before the network itself.
AROUND = ("ema", "ema_model", "model_ema", "net", "model", "state_dict")
DTYPES = {
  "F64": np.dtype("<f8"),
  "F32": np.dtype("<f4"),
  "F16": np.dtype("<f2"),
  "BF16": np.dtype(ml_dtypes.bfloat16),
  "I64": np.dtype("<i8"),
  "I32": np.dtype("<i4"),
  "U8": np.dtype("u1"),
  "BOOL": np.dtype("?"),
}


def read_safetensors(path: results.Path) -> dict[str, np.ndarray]:
  """Return the tensors of a ``.safetensors`` file.

  Raises:
    ValueError: says what is damaged.
    OSError: when the file cannot be read.
  """
  try:
    entries = safetensors.deserialize(pathlib.Path(path).read_bytes())
  except safetensors.SafetensorError as reason:
    raise ValueError(f"`{path}` is no safetensors file: {printable(reason, pickles.NAME)}") from None
  state = {}
  for name, entry in entries:
    if entry["dtype"] not in DTYPES:
      raise ValueError(f"`{name}` is of the type {entry['dtype']}; known: {', '.join(DTYPES)}")
    state[name] = np.frombuffer(entry["data"], DTYPES[entry["dtype"]]).reshape(entry["shape"])
  return state


def within(content: Any) -> dict[str, pickles.Tensor] | None:
  """Return the state dict that a file's content is, or has under one of the names of `AROUND`, else None."""
  if not isinstance(content, dict):
    return None
  for inner in (content, *(content[name] for name in AROUND if name in content)):
    if isinstance(inner, dict) and inner:
      if all(isinstance(k, str) and isinstance(v, pickles.Tensor) for k, v in inner.items()):
        return inner
  return None


def placed(
  state: Mapping[str, np.ndarray],
  network: Preconditioned,
  name: Callable[[tuple[str, ...]], str],
  others: Mapping[str, Any] | None = None,
) -> dict:
  """Return the parameters that a network has for the tensors of a state dict, float32 NumPy arrays.

  Args:
    state: tensors by torch's names, any float dtype.
    network: whose parameters they are.
    name: of the tensor that belongs at a path of parameters.
    others: names that the state dict must have beside these.

  Raises:
    ValueError: names the tensor that is missing, unknown, of the wrong shape or not finite.
  """
  shapes = flax.traverse_util.flatten_dict(networks.shapes(network))
  names, others = {name(path): path for path in shapes}, others or {}
  for found in state:
    if found not in names and found not in others:
      raise ValueError(
        f"`{found}` has no place in this network; its tensors are named like `{next(iter(names))}`"
      )
  for wanted in (*names, *others):
    if wanted not in state:
      raise ValueError(f"`{wanted}` is missing from the state dict")
  params = {path: _tensor(wanted, state[wanted]) for wanted, path in names.items()}
  for wanted, path in names.items():
    if params[path].shape != shapes[path].shape:
      shape = tuple(shapes[path].shape[axis] for axis in TO_TORCH[shapes[path].ndim])
      raise ValueError(f"`{wanted}` has shape {np.shape(state[wanted])}; want {shape}")
  return flax.traverse_util.unflatten_dict(params)


def _tensor(name, value):
  value = np.asarray(value, np.float32)
  if not np.isfinite(value).all():
    raise ValueError(f"`{name}` holds values that are not finite")
  axes = TO_TORCH.get(value.ndim)
  return value if axes is None else np.transpose(value, np.argsort(axes))
