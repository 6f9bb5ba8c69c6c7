"""Translate state dicts of the EDM reference (Karras et al. 2022) to our parameters and back.

The table, with `*` for any text between dots and P for params["model"]; layouts are those of `tensors`:

    model.enc.*.conv0.weight     P["enc_*"]["conv0"]["kernel"]
    model.dec.*.affine.weight    P["dec_*"]["affine"]["kernel"]
    model.map_label.weight       P["map_label"]["kernel"], of ADM ["table"]
    model.map_noise.freqs        P["map_noise"]["freqs"]
    model.*.norm0.weight         P[*]["norm0"]["scale"]
    model.*.resample_filter      none: follows from the option of this name
    u                            none: `edm.iddpm_sigmas`
"""

from collections.abc import Mapping
from typing import Any

import flax
import jax
import numpy as np

from gauss_diffusion import edm, networks, results
from gauss_diffusion.importers import architecture, pickles, tensors
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
# Of filters and noise levels, relative: rounding to float16, and the reference's recursion in float32.
BUFFER_TOLERANCE = 2e-3


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
  buffers = _buffers(network)
  params = tensors.placed(state, network, _name, buffers)
  for name, value in buffers.items():
    if np.shape(state[name]) != value.shape or not np.allclose(
      state[name], value, rtol=BUFFER_TOLERANCE, atol=0
    ):
      raise ValueError(
        f"`{name}` is not what the configuration says; want {np.array2string(value, threshold=9)}"
      )
  return network, params


def from_record(path: results.Path, network: pickles.Record) -> tuple[Preconditioned, dict]:
  """Return the network and the parameters of an object that the reference pickled; nothing in it is run.

  Args:
    path: the file.
    network: what was found in it, which says of what class it is, and with which arguments it was made.

  Returns:
    network, params: as from `from_state_dict`.

  Raises:
    ValueError: says what is damaged, or other than `from_state_dict` wants it.
  """
  state, config = opened(path, network)
  with np.errstate(over="ignore"):  # what overflows is refused by name
    return from_state_dict(state, config | {"class_name": network.name})


def opened(path: results.Path, network: pickles.Record) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
  """Return the tensors of an object that `persistence` pickled, and the arguments that it was made with.

  Args:
    path: the file.
    network: what was found in it.

  Returns:
    state, config: tensors by the names of its state dict; arguments, plain and no larger than its weights.

  Raises:
    ValueError: says what is damaged, or too large.
  """
  state = pickles.arrays(path, _tensors(network))
  return state, _arguments(network, state)


def from_names(
  state: Mapping[str, np.ndarray], preconditioning: str = "", sigma_data: float | None = None
) -> tuple[Preconditioned, dict]:
  """Return the network and the parameters of a state dict that comes without a configuration.

  Args:
    state: tensors by the reference's names; those of a raw network, without ``model.``, will do.
    preconditioning: ``edm``, ``vp``, ``ve`` or ``iddpm``, with the reference's constants; improved DDPM's has
      its noise levels among the tensors, and may be left out.
    sigma_data: EDM's constant, which only its preconditioning has.

  Returns:
    network, params: as from `from_state_dict`.

  Raises:
    ValueError: as there, and when the preconditioning is not said, or is another than the tensors'.
  """
  state = {
    name if name == "u" or name.startswith("model.") else f"model.{name}": state[name] for name in state
  }
  config = architecture.infer(state)
  classes = {ours: class_name for class_name, (ours, _) in PRECONDITIONINGS.items()}
  if "u" in state:
    preconditioning = preconditioning or "iddpm"
    config["M"] = state["u"].size - 1
  if preconditioning not in classes:
    said = f"`preconditioning` is {preconditioning!r}" if preconditioning else "it is a plain state dict"
    raise ValueError(
      f"{said}, and names and shapes do not say how the image is scaled: add --preconditioning=edm "
      f"--sigma_data={edm.SIGMA_DATA}, which is EDM's own, or --preconditioning=vp, ve or iddpm"
    )
  if ("u" in state) != (preconditioning == "iddpm"):
    raise ValueError(
      f"`preconditioning` is {preconditioning!r}; a network has levels `u` if it is iddpm's, and only then"
    )
  if (sigma_data is None) == (preconditioning == "edm"):
    wanted = (
      f"add --sigma_data={edm.SIGMA_DATA}, EDM's own, or another" if sigma_data is None else "leave it out"
    )
    raise ValueError(f"`sigma_data` is {sigma_data}, and `preconditioning` {preconditioning!r}; {wanted}")
  constants = {} if sigma_data is None else {"sigma_data": sigma_data}
  with np.errstate(over="ignore"):  # what overflows is refused by name
    return from_state_dict(state, config | constants | {"class_name": classes[preconditioning]})


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
  state = {_name(path): np.transpose(leaf, tensors.TO_TORCH[leaf.ndim]) for path, leaf in flat.items()}
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
  return ".".join([*modules, tensors.LEAVES.get(leaf, leaf)])


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


def _tensors(network):
  """Return a module's tensors by the names of its state dict."""
  found, left, seen = {}, [("", network)], set()
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
        found[prefix + name] = value
      elif value is not None:
        raise ValueError(f"`{prefix}{name}` is no tensor")
  return found


def _arguments(network, state):
  """Return the arguments that a network was made with, plain and no larger than its weights."""
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
  return config
