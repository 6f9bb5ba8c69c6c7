"""Translate state dicts of the EDM reference (Karras et al. 2022) to our parameters and back.

The table, with `*` for any text between dots:

    model.enc.*.conv0.weight   [O, I, H, W]   params["model"]["enc_*"]["conv0"]["kernel"]   [H, W, I, O]
    model.dec.*.affine.weight  [O, I]         params["model"]["dec_*"]["affine"]["kernel"]  [I, O]
    model.dec.*.norm0.weight   [C]            params["model"]["dec_*"]["norm0"]["scale"]    [C]
    model.*.bias               [C]            params["model"][*]["bias"]                    [C]
    model.*.resample_filter    [1, 1, 2, 2]   none: a constant of the architecture
"""

from collections.abc import Mapping

import flax
import jax
import numpy as np

from gauss_diffusion import networks

# What makes a SongUNet a DDPM++; `model_type` has another default in the reference, so it must be given.
DDPMPP = {
  "model_type": "SongUNet",
  "embedding_type": "positional",
  "encoder_type": "standard",
  "decoder_type": "standard",
  "channel_mult_noise": 1,
  "resample_filter": [1, 1],
}
NO_EFFECT = ("use_fp16", "sigma_min", "sigma_max")  # precision on GPUs; limits that samplers read
BOX = np.full((1, 1, 2, 2), 0.25, np.float32)
TO_REFERENCE = {4: (3, 2, 0, 1), 2: (1, 0), 1: (0,)}  # axes by rank: HWIO to OIHW, IO to OI


def from_state_dict(state: Mapping[str, np.ndarray], config: Mapping) -> tuple:
  """Return the network that a reference configuration describes and the parameters of a state dict.

  Args:
    state: tensors by the reference's names, any float dtype.
    config: constructor arguments of the reference's ``EDMPrecond``, such as ``img_resolution``.

  Returns:
    network, params: a linen module and its parameters, float32 NumPy arrays.

  Raises:
    ValueError: names the tensor that is missing, unknown, of the wrong shape or not finite, or the option
      that this architecture does not have.
  """
  network = _network(config)
  shapes = flax.traverse_util.flatten_dict(networks.shapes(network))
  names = {_name(path): path for path in shapes}
  buffers = _buffers(names)
  for name in state:
    if name not in names and name not in buffers:
      raise ValueError(
        f"`{name}` has no place in this network; its tensors are named like `{next(iter(names))}`"
      )
  for name in (*names, *buffers):
    if name not in state:
      raise ValueError(f"`{name}` is missing from the state dict")
  for name in buffers:
    if not np.array_equal(state[name], BOX):
      raise ValueError(f"`{name}` is not the 2 by 2 box filter of DDPM++")
  params = {path: _tensor(name, state[name]) for name, path in names.items()}
  for name, path in names.items():
    if params[path].shape != shapes[path].shape:
      wanted = tuple(shapes[path].shape[axis] for axis in TO_REFERENCE[shapes[path].ndim])
      raise ValueError(f"`{name}` has shape {np.shape(state[name])}; want {wanted}")
  return network, flax.traverse_util.unflatten_dict(params)


def to_state_dict(network, params) -> dict[str, np.ndarray]:
  """Return parameters under the reference's names and layouts, float32, the inverse of `from_state_dict`."""
  flat = flax.traverse_util.flatten_dict(jax.device_get(params))
  state = {_name(path): np.transpose(leaf, TO_REFERENCE[leaf.ndim]) for path, leaf in flat.items()}
  return state | dict.fromkeys(_buffers(state), BOX)


def _network(config):
  options = {"model_type": "DhariwalUNet", **config}
  for option, value in DDPMPP.items():
    given = options.pop(option, value)
    given = list(given) if isinstance(given, tuple) else given
    if given != value:
      raise ValueError(f"`{option}` is {given!r}; the known architecture, DDPM++, has {value!r}")
  options = {option: value for option, value in options.items() if option not in NO_EFFECT}
  return networks.create("ddpmpp", **options)


def _name(path):
  *modules, leaf = path
  modules = [module.replace("enc_", "enc.").replace("dec_", "dec.") for module in modules]
  return ".".join([*modules, "bias" if leaf == "bias" else "weight"])


def _buffers(names):
  """Return the names of the filters that the reference stores in each resampling convolution."""
  resampling = [n for n in names if n.endswith(("_down.conv0.weight", "_up.conv0.weight"))]
  resampling += [n for n in names if n.endswith(("_down.skip.weight", "_up.skip.weight"))]
  return [name.removesuffix("weight") + "resample_filter" for name in resampling]


def _tensor(name, value):
  value = np.asarray(value, np.float32)
  if not np.isfinite(value).all():
    raise ValueError(f"`{name}` holds values that are not finite")
  axes = TO_REFERENCE.get(value.ndim)
  return value if axes is None else np.transpose(value, np.argsort(axes))
