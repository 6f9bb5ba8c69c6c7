"""Translate state dicts of the EDM reference (Karras et al. 2022) to our parameters and back.

The table, with `*` for any text between dots and P for params["model"]:

    model.enc.*.conv0.weight     [O, I, H, W]   P["enc_*"]["conv0"]["kernel"]   [H, W, I, O]
    model.dec.*.affine.weight    [O, I]         P["dec_*"]["affine"]["kernel"]  [I, O]
    model.map_layer0.weight      [O, I]         P["map_layer0"]["kernel"]       [I, O]
    model.map_label.weight       [O, I]         P["map_label"]["kernel"], of ADM ["table"]  [I, O]
    model.map_noise.freqs        [C]            P["map_noise"]["freqs"]         [C]
    model.*.norm0.weight         [C]            P[*]["norm0"]["scale"]          [C]
    model.*.bias                 [C]            P[*]["bias"]                    [C]
    model.*.resample_filter      [1, 1, K, K]   none: follows from the option of this name
    u                            [M + 1]        none: `edm.iddpm_sigmas`
"""

from collections.abc import Mapping
from typing import Any

import flax
import jax
import numpy as np

from gauss_diffusion import edm, networks, results
from gauss_diffusion.command_line import printable
from gauss_diffusion.importers import pickles
from gauss_diffusion.networks.preconditioned import Preconditioned

PRECONDITIONINGS = {  # by the reference's class: our name, and the class's default of `model_type`
  "EDMPrecond": ("edm", "DhariwalUNet"),
  "VPPrecond": ("vp", "SongUNet"),
  "VEPrecond": ("ve", "SongUNet"),
  "iDDPMPrecond": ("iddpm", "DhariwalUNet"),
}
MODELS = {"SongUNet": "ddpmpp", "DhariwalUNet": "adm"}  # defaults of these are the reference's
# Precision on GPUs, and what only samplers and losses read.
NO_EFFECT = ("use_fp16", "sigma_min", "sigma_max", "epsilon_t")
LEAVES = {"kernel": "weight", "scale": "weight", "table": "weight", "bias": "bias", "freqs": "freqs"}
# Of filters and noise levels, relative: rounding to float16, and the reference's recursion in float32.
BUFFER_TOLERANCE = 2e-3
TO_REFERENCE = {4: (3, 2, 0, 1), 2: (1, 0), 1: (0,)}  # axes by rank: HWIO to OIHW, IO to OI


def from_state_dict(
  state: Mapping[str, np.ndarray], config: Mapping[str, Any]
) -> tuple[Preconditioned, dict]:
  """Return the network that a reference configuration describes and the parameters of a state dict.

  Args:
    state: tensors by the reference's names, any float dtype.
    config: constructor arguments of the reference's preconditioning class, such as ``img_resolution``; its
      name is ``class_name``, ``EDMPrecond`` if that is left out. Options left out have its defaults.

  Returns:
    network, params: a linen module and its parameters, float32 NumPy arrays.

  Raises:
    ValueError: names the tensor that is missing, unknown, of the wrong shape or not finite, or the option
      that is wrong or unknown.
  """
  network = _network(config)
  shapes = flax.traverse_util.flatten_dict(networks.shapes(network))
  names = {_name(path): path for path in shapes}
  buffers = _buffers(network)
  for name in state:
    if name not in names and name not in buffers:
      raise ValueError(
        f"`{name}` has no place in this network; its tensors are named like `{next(iter(names))}`"
      )
  for name in (*names, *buffers):
    if name not in state:
      raise ValueError(f"`{name}` is missing from the state dict")
  for name, value in buffers.items():
    if np.shape(state[name]) != value.shape or not np.allclose(
      state[name], value, rtol=BUFFER_TOLERANCE, atol=0
    ):
      raise ValueError(
        f"`{name}` is not what the configuration says; want {np.array2string(value, threshold=9)}"
      )
  params = {path: _tensor(name, state[name]) for name, path in names.items()}
  for name, path in names.items():
    if params[path].shape != shapes[path].shape:
      wanted = tuple(shapes[path].shape[axis] for axis in TO_REFERENCE[shapes[path].ndim])
      raise ValueError(f"`{name}` has shape {np.shape(state[name])}; want {wanted}")
  return network, flax.traverse_util.unflatten_dict(params)


def load(path: results.Path) -> tuple[Preconditioned, dict]:
  """Return the network and the parameters in a file that the reference wrote; nothing in it is run.

  Args:
    path: a network pickle, of which `ema` is taken, or a training state in torch.save's format, which has
      only `net`, the network without averaging.

  Returns:
    network, params: as from `from_state_dict`.

  Raises:
    ValueError: says what in the file is damaged, not admitted, or other than `from_state_dict` wants it.
    OSError: when the file cannot be read.
  """
  content = pickles.read(path)
  if not isinstance(content, dict) or not content.keys() & {"ema", "net"}:
    raise ValueError(f"`{path}` holds no network: want `ema`, of a snapshot, or `net`, of a training state")
  network = content.get("ema", content.get("net"))
  if not isinstance(network, pickles.Record) or not isinstance(network.state, dict):
    raise ValueError(f"`{path}` has something other than a network of the reference as `ema` or `net`")
  try:
    state = pickles.arrays(path, _tensors(network))
    with np.errstate(over="ignore"):  # what overflows is refused by name
      return from_state_dict(state, _arguments(network, state))
  except ValueError as reason:  # its names are the file's
    raise ValueError(printable(reason)) from None


def to_state_dict(network: Preconditioned, params: dict) -> dict[str, np.ndarray]:
  """Return parameters under the reference's names and layouts, float32, the inverse of `from_state_dict`.

  Raises:
    ValueError: when the reference has no such network or preconditioning.
  """
  card = networks.card(network)
  if card["name"] not in ("ddpmpp", "ncsnpp", "adm"):
    raise ValueError(f"`{card['name']}` is no network of the reference; want ddpmpp, ncsnpp or adm")
  if card["preconditioning"] not in (known := [ours for ours, _ in PRECONDITIONINGS.values()]):
    raise ValueError(
      f"`preconditioning` is {card['preconditioning']!r}; the reference has {', '.join(known)}"
    )
  wanted = card["img_channels"] * (2 if card["preconditioning"] == "iddpm" else 1)
  if (card["out_channels"] or card["img_channels"]) != wanted:
    raise ValueError(f"`out_channels` is {card['out_channels']}; the reference has {wanted}")
  flat = flax.traverse_util.flatten_dict(jax.device_get(params))
  state = {_name(path): np.transpose(leaf, TO_REFERENCE[leaf.ndim]) for path, leaf in flat.items()}
  return state | _buffers(network)


def _network(config):
  options = {option: value for option, value in config.items() if option not in NO_EFFECT}
  class_name = str(options.pop("class_name", "EDMPrecond")).rpartition(".")[2]
  if class_name not in PRECONDITIONINGS:
    raise ValueError(f"`class_name` is {class_name!r}; known: {', '.join(PRECONDITIONINGS)}")
  preconditioning, model_type = PRECONDITIONINGS[class_name]
  model_type = options.pop("model_type", model_type)
  if not isinstance(model_type, str) or model_type not in MODELS:
    raise ValueError(f"`model_type` is {model_type!r}; known: {', '.join(MODELS)}")
  for option in ("name", "preconditioning", "out_channels"):
    if option in options:
      raise ValueError(f"`{option}` is no option of {class_name}; it follows from `class_name`")
  if preconditioning == "iddpm" and "img_channels" in options:
    options["out_channels"] = 2 * options["img_channels"]
  return networks.create(MODELS[model_type], preconditioning=preconditioning, **options)


def _name(path):
  *modules, leaf = path
  modules = [module.replace("enc_", "enc.").replace("dec_", "dec.") for module in modules]
  return ".".join([*modules, LEAVES[leaf]])


def _buffers(network):
  """Return what the reference stores beside parameters: each resampling layer's filter, iDDPM's levels."""
  card = networks.card(network)
  taps = np.asarray(card.get("resample_filter", [1, 1]), np.float32)
  taps = np.outer(taps, taps)[None, None] / taps.sum() ** 2
  layers = []
  for level in range(1, len(card["channel_mult"])):
    coarse, fine = (card["img_resolution"] >> at for at in (level, level - 1))
    down, up = f"enc.{coarse}x{coarse}", f"dec.{fine}x{fine}"
    layers += [f"{down}_down.conv0", f"{down}_down.skip", f"{up}_up.conv0", f"{up}_up.skip"]
    aux = {"skip": [f"{down}_aux_down"], "residual": [f"{down}_aux_residual"]}
    layers += aux.get(card.get("encoder_type", ""), [])
    layers += [f"{up}_aux_up"] if card.get("decoder_type") == "skip" else []
  buffers = {f"model.{layer}.resample_filter": taps for layer in layers}
  if card["preconditioning"] == "iddpm":
    buffers["u"] = edm.iddpm_sigmas(card["C_1"], card["C_2"], card["M"]).astype(np.float32)
  return buffers


def _tensor(name, value):
  value = np.asarray(value, np.float32)
  if not np.isfinite(value).all():
    raise ValueError(f"`{name}` holds values that are not finite")
  axes = TO_REFERENCE.get(value.ndim)
  return value if axes is None else np.transpose(value, np.argsort(axes))


def _tensors(network):
  """Return a module's tensors by the names of its state dict."""
  tensors, left, seen = {}, [("", network)], set()
  while left:
    prefix, module = left.pop()
    if not isinstance(module, pickles.Record) or not isinstance(module.state, dict) or id(module) in seen:
      raise ValueError(f"`{prefix}` is no module, or one that is used twice")
    seen.add(id(module))
    fields = {kind: module.state.get(kind, {}) for kind in ("_modules", "_parameters", "_buffers")}
    for kind, field in fields.items():
      if not isinstance(field, dict) or not all(isinstance(name, str) for name in field):
        raise ValueError(f"`{prefix}{kind}` does not go from names to values")
    left += [(f"{prefix}{name}.", value) for name, value in fields["_modules"].items() if value is not None]
    for name, value in (fields["_parameters"] | fields["_buffers"]).items():
      if isinstance(value, pickles.Tensor):
        tensors[prefix + name] = value
      elif value is not None:
        raise ValueError(f"`{prefix}{name}` is no tensor")
  return tensors


def _arguments(network, state):
  """Return the class and the arguments that a network was made with, plain and no larger than its weights."""
  config = network.state.get("_init_kwargs")
  if not isinstance(config, dict) or network.state.get("_init_args"):
    raise ValueError("`_init_kwargs` has to name every argument that the network was made with")
  numbers = sum(value.size for value in state.values())
  for option, value in config.items():
    for item in value if isinstance(value, list | tuple) else [value]:
      if not isinstance(item, str | int | float | None):
        raise ValueError(f"`{option}` is neither a number, text, nor a list of them")
      if isinstance(item, int | float) and numbers < item < float("inf"):
        raise ValueError(f"`{option}` is {value}; the file has no more than {numbers} numbers in its tensors")
  levels, blocks = config.get("channel_mult", ()), config.get("num_blocks", 1)
  if isinstance(levels, list | tuple) and isinstance(blocks, int) and len(levels) * blocks > len(state):
    raise ValueError(f"`num_blocks` is {blocks}; the file has no more than {len(state)} tensors")
  return config | {"class_name": network.name}
