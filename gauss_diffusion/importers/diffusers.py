"""Folders of `diffusers`: a UNet2DModel and the schedule that it was trained on.

A pipeline's folder has ``unet/`` and ``scheduler/``, or the files of both beside each other. The table, with
P for params["model"]; layouts are those of `tensors`, but for the first:

    class_embedding.weight  [I, O]            P["class_embedding"]["table"]  [I, O]
    time_embedding.linear_1.weight            P["time_embedding_linear_1"]["kernel"]
    down_blocks.0.resnets.1.conv1.weight      P["down_blocks_0_resnets_1"]["conv1"]["kernel"]
    down_blocks.0.downsamplers.0.conv.weight  P["down_blocks_0_downsamplers_0"]["kernel"]
    mid_block.attentions.0.to_out.0.bias      P["mid_block_attentions_0"]["to_out"]["bias"]
"""

import json
import math
import pathlib
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from gauss_diffusion import networks, results
from gauss_diffusion.importers import pickles, tensors
from gauss_diffusion.networks.preconditioned import Preconditioned

WEIGHTS = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")
LARGEST = 2**20  # bytes of a JSON
PREDICTIONS = {"epsilon": "eps", "v_prediction": "v", "sample": "x0"}
# Of these a schedule's defaults are those of `parametrisations.trained_steps`.
SCHEDULERS = (
  "DDPMScheduler",
  "DDIMScheduler",
  "PNDMScheduler",
  "LMSDiscreteScheduler",
  "EulerDiscreteScheduler",
  "EulerAncestralDiscreteScheduler",
  "DPMSolverMultistepScheduler",
  "DPMSolverSinglestepScheduler",
  "DEISMultistepScheduler",
  "UniPCMultistepScheduler",
)
SCHEDULE = ("beta_schedule", "beta_start", "beta_end", "num_train_timesteps")
# The library's defaults of what becomes an option of ours.
DEFAULTS: dict[str, Any] = {
  "sample_size": None,
  "in_channels": 3,
  "out_channels": 3,
  "time_embedding_dim": None,
  "freq_shift": 0,
  "flip_sin_to_cos": True,
  "down_block_types": ("DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"),
  "up_block_types": ("AttnUpBlock2D", "AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
  "block_out_channels": (224, 448, 672, 896),
  "layers_per_block": 2,
  "downsample_padding": 1,
  "dropout": 0.0,
  "attention_head_dim": 8,
  "norm_num_groups": 32,
  "norm_eps": 1e-5,
  "resnet_time_scale_shift": "default",
  "add_attention": True,
  "num_class_embeds": None,
}
# What a network of ours is not, but for these values, the first being the library's default.
ALONE: dict[str, tuple[Any, ...]] = {
  "center_input_sample": (False,),
  "time_embedding_type": ("positional",),
  "mid_block_type": ("UNetMidBlock2D",),
  "mid_block_scale_factor": (1,),
  "downsample_type": ("conv",),
  "upsample_type": ("conv",),
  "act_fn": ("silu", "swish"),
  "attn_norm_num_groups": (None,),
  "class_embed_type": (None,),
}
IGNORED = ("num_train_timesteps",)  # of an embedding of steps that is learned
# Names of the library before its version 0.15 -> since.
OLDER = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


def load(
  folder: results.Path, resolution: int | None = None, scheduler: str = ""
) -> tuple[Preconditioned, dict]:
  """Return the network and the parameters of a UNet2DModel, with its schedule.

  Args:
    folder: of the model, or of a pipeline that it is part of.
    resolution: of its images, where its configuration has no `sample_size`.
    scheduler: the ``scheduler_config.json``, where none is in the folder or beside it.

  Returns:
    network, params: a linen module and its parameters, float32 NumPy arrays.

  Raises:
    ValueError: names the option that is not supported, or missing, and the tensor that does not fit.
    OSError: when a file cannot be read.
  """
  place = pathlib.Path(folder)
  place = place / "unet" if (place / "unet" / "config.json").exists() else place
  if not (place / "config.json").exists():
    raise ValueError(f"`{folder}` has no config.json, in it or in `unet/`; want a folder of diffusers")
  config = _json(place / "config.json")
  if config.get("_class_name", "UNet2DModel") != "UNet2DModel":
    raise ValueError(f"`_class_name` is {config['_class_name']!r}; want a UNet2DModel, of pixels alone")
  options = network_options(config, resolution) | schedule_options(_json(_scheduler(place, scheduler)))
  found = [place / name for name in WEIGHTS if (place / name).exists()]
  if not found:
    raise ValueError(f"`{place}` has no weights; want {' or '.join(WEIGHTS)} (of variants, rename one)")
  state = _state(found[0])
  numbers = sum(value.size for value in state.values())
  for option, value in options.items():
    for item in value if isinstance(value, list) else [value]:
      if isinstance(item, int | float) and item > max(numbers, 10**6):
        raise ValueError(f"`{option}` is {value}; the weights have no more than {numbers} numbers")
  if options["num_blocks"] * len(options["channel_mult"]) > len(state):
    raise ValueError(
      f"`layers_per_block` is {options['num_blocks']}; there are no more than {len(state)} tensors"
    )
  network = networks.create("diffusers", **options)
  with np.errstate(over="ignore"):  # what overflows is refused by name
    return network, tensors.placed(state, network, _name)


def network_options(config: Mapping[str, Any], resolution: int | None = None) -> dict[str, Any]:
  """Return the options of our network that a UNet2DModel's configuration stands for.

  Raises:
    ValueError: names what is unknown, not supported or missing.
  """
  config = {name: value for name, value in config.items() if not name.startswith("_") and name not in IGNORED}
  for name, value in config.items():
    if name not in DEFAULTS and name not in ALONE:
      raise ValueError(f"`{name}` is an option of UNet2DModel that is not known here")
    if name in ALONE and value not in ALONE[name]:
      raise ValueError(f"`{name}` is {value!r}, which is not supported; want {_or(ALONE[name])}")
  config = DEFAULTS | config
  widths = _whole("block_out_channels", config["block_out_channels"])
  down, up = config["down_block_types"], config["up_block_types"]
  for name, types, kinds in (
    ("down_block_types", down, ("DownBlock2D", "AttnDownBlock2D")),
    ("up_block_types", up, ("UpBlock2D", "AttnUpBlock2D")),
  ):
    if not isinstance(types, list | tuple) or len(types) != len(widths):
      raise ValueError(f"`{name}` is {types}; want one for each of `block_out_channels`, {widths}")
    for kind in types:
      if kind not in kinds:
        raise ValueError(f"`{name}` has {kind!r}, which is not supported; want {_or(kinds)}")
  size = config["sample_size"]
  size = size[0] if isinstance(size, list) and len(set(map(str, size))) == 1 else size
  if (size is None) == (resolution is None):
    wanted = (
      "add --img_resolution=PIXELS, for images of what side" if size is None else "leave `img_resolution` out"
    )
    raise ValueError(f"`sample_size` is {size}; {wanted}")
  [size] = _whole("sample_size", [resolution if size is None else size])
  unit = math.gcd(*widths)
  sides = [size >> level for level in range(len(widths))]
  return {
    "img_resolution": size,
    "img_channels": config["in_channels"],
    "out_channels": 0 if config["out_channels"] == config["in_channels"] else config["out_channels"],
    "label_dim": config["num_class_embeds"] or 0,
    "model_channels": unit,
    "channel_mult": [width // unit for width in widths],
    "num_blocks": config["layers_per_block"],
    "attn_resolutions": [side for side, kind in zip(sides, down) if kind.startswith("Attn")],
    "up_attn_resolutions": [side for side, kind in zip(sides, reversed(up)) if kind.startswith("Attn")],
    "attention_head_dim": config["attention_head_dim"] or 0,
    "time_embedding_dim": config["time_embedding_dim"] or 0,
  } | {
    name: config[name]
    for name in (
      "add_attention",
      "resnet_time_scale_shift",
      "flip_sin_to_cos",
      "freq_shift",
      "downsample_padding",
      "norm_num_groups",
      "norm_eps",
      "dropout",
    )
  }


def schedule_options(config: Mapping[str, Any]) -> dict[str, Any]:
  """Return the preconditioning, and its constants, that a scheduler's configuration stands for.

  What concerns sampling alone is passed over.

  Raises:
    ValueError: names what is not supported.
  """
  kind = config.get("_class_name", SCHEDULERS[0])
  if kind not in SCHEDULERS:
    raise ValueError(
      f"`_class_name` of the scheduler is {kind!r}, which is not supported; want {_or(SCHEDULERS)}"
    )
  predicted = config.get("prediction_type", "epsilon")
  if predicted not in PREDICTIONS:
    raise ValueError(f"`prediction_type` is {predicted!r}, which is not supported; want {_or(PREDICTIONS)}")
  for name in ("trained_betas", "rescale_betas_zero_snr"):
    if config.get(name):
      raise ValueError(
        f"`{name}` is set, which is not supported; its schedule is none of those known by a name"
      )
  return {"preconditioning": PREDICTIONS[predicted]} | {
    name: config[name] for name in SCHEDULE if name in config
  }


def _scheduler(place, given):
  if given:
    return pathlib.Path(given)
  name = "scheduler_config.json"
  for candidate in (place / name, place / "scheduler" / name, place.parent / "scheduler" / name):
    if candidate.exists():
      return candidate
  raise ValueError(
    f"`{place}` has no {name}, in it or beside it; add --scheduler=FILE, for the schedule of training"
  )


def _json(path):
  if path.stat().st_size > LARGEST:
    raise ValueError(f"`{path}` has more than {LARGEST} bytes")
  try:
    config = json.loads(path.read_bytes())
  except (ValueError, RecursionError):
    config = None
  if not isinstance(config, dict):
    raise ValueError(f"`{path}` is no configuration of diffusers")
  return config


def _state(path):
  """Return the tensors of a file by the library's newer names; a table of classes as torch has matrices."""
  if path.suffix == ".bin":
    found = tensors.within(pickles.read(path))
    if found is None:
      raise ValueError(f"`{path}` holds no tensors by name")
    state = pickles.arrays(path, found)
  else:
    state = tensors.read_safetensors(path)
  older = re.compile(rf"\.({'|'.join(OLDER)})\.(weight|bias)$")
  state = {older.sub(lambda found: f".{OLDER[found[1]]}.{found[2]}", name): state[name] for name in state}
  return {name: value.T if name == "class_embedding.weight" else value for name, value in state.items()}


def _name(path):
  _, module, *rest, leaf = path
  module = re.sub(r"^(down|up)_blocks_(\d+)_", r"\1_blocks.\2.", module)
  module = re.sub(r"(^mid_block)_", r"\1.", module)
  module = re.sub(r"(resnets|attentions|downsamplers|upsamplers)_(\d+)$", r"\1.\2", module)
  module = module.replace("time_embedding_", "time_embedding.")
  rest = ["conv"] if "samplers." in module else ["to_out", "0"] if rest == ["to_out"] else rest
  return ".".join([module, *rest, tensors.LEAVES[leaf]])


def _whole(option, values):
  if not isinstance(values, list | tuple) or not values or not all(type(v) is int and v > 0 for v in values):
    raise ValueError(f"`{option}` is {values}; want positive whole numbers")
  return values


def _or(known):
  *first, last = map(repr, known)
  return f"{', '.join(first)} or {last}" if first else last
