"""Translate networks of EDM2 (Karras et al. 2024) to our parameters.

The table, with P for params["model"]; layouts are those of `tensors`:

    unet.enc.64x64_block0.conv_res0.weight   P["enc_64x64_block0"]["conv_res0"]["direction"]
    unet.enc.64x64_block0.emb_gain           P["enc_64x64_block0"]["emb_gain"]
    unet.emb_fourier.freqs                   P["emb_fourier"]["freqs"]
    unet.out_gain                            P["out_gain"]
    logvar_*                                 none: how uncertain the training's loss was
"""

import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from gauss_diffusion import networks, results
from gauss_diffusion.importers import edm, pickles, tensors
from gauss_diffusion.networks.preconditioned import Preconditioned

CLASS = "Precond"  # the reference's, of a whole network
NO_EFFECT = ("use_fp16", "logvar_channels")  # precision on GPUs, and what only the loss reads
# What a network of ours is not, but for these values.
ALONE: dict[str, tuple[Any, ...]] = {
  "clip_act": (256,),
  "channels_per_head": (64,),
  "resample_filter": ([1, 1], (1, 1)),
}


def from_state_dict(
  state: Mapping[str, np.ndarray], config: Mapping[str, Any]
) -> tuple[Preconditioned, dict]:
  """Return the network that a configuration of the reference describes and the parameters of a state dict.

  Args:
    state: tensors by the reference's names, any float dtype.
    config: constructor arguments of the reference's ``Precond``; those left out have its defaults.

  Returns:
    network, params: a linen module and its parameters, float32 NumPy arrays.

  Raises:
    ValueError: names the tensor that is missing, unknown, of the wrong shape or not finite, or the option
      that is wrong or unknown.
  """
  options = {option: value for option, value in config.items() if option not in NO_EFFECT}
  for option, known in ALONE.items():
    if options.pop(option, known[0]) not in known:
      raise ValueError(f"`{option}` is {config[option]!r}, which is not supported; want {known[0]}")
  mult = options.setdefault("channel_mult", [1, 2, 3, 4])
  if (
    not isinstance(mult, list | tuple) or not all(type(each) is int and each > 0 for each in mult) or not mult
  ):
    raise ValueError(f"`channel_mult` is {mult!r}; want whole numbers")
  for option, follows in (("channel_mult_noise", mult[0]), ("channel_mult_emb", max(mult))):
    options[option] = follows if options.get(option) is None else options[option]
  network = networks.create("edm2", **options)
  state = {name: value for name, value in state.items() if not name.startswith("logvar_")}
  with np.errstate(over="ignore"):  # what overflows is refused by name
    return network, tensors.placed(state, network, _name)


def from_record(path: results.Path, network: pickles.Record) -> tuple[Preconditioned, dict]:
  """Return the network and the parameters of an object that the reference pickled; see `edm.from_record`."""
  state, config = edm.opened(path, network)
  return from_state_dict(state, config)


def from_names(
  state: Mapping[str, np.ndarray], sigma_data: float | None = None
) -> tuple[Preconditioned, dict]:
  """Return the network and the parameters of a state dict that comes without a configuration.

  Args:
    state: tensors by the reference's names.
    sigma_data: the constant of its preconditioning; balances are the reference's defaults.

  Returns:
    network, params: as from `from_state_dict`.

  Raises:
    ValueError: as there, and when `sigma_data` is not said.
  """
  if sigma_data is None:
    raise ValueError(
      "it is a plain state dict of EDM2's, which does not say sigma_data: add --sigma_data=0.5, its own"
    )
  blocks = [re.fullmatch(r"unet\.enc\.(\d{1,9})x\1_block(\d+)\.conv_res0\.weight", name) for name in state]
  found = {(int(match[1]), int(match[2])): match[0] for match in blocks if match}
  sides = sorted({side for side, _ in found}, reverse=True)
  first = f"unet.enc.{sides[0]}x{sides[0]}_conv.weight" if sides else "unet.enc.*_block0.conv_res0.weight"
  needed = [
    first,
    "unet.emb_noise.weight",
    *(f"unet.enc.{side}x{side}_block0.conv_res0.weight" for side in sides),
  ]
  for name in needed:
    if name not in state or np.ndim(state[name]) < 2 or 0 in np.shape(state[name]):
      raise ValueError(f"`{name}` is missing from the state dict, or has no two axes")
  widths = [state[name].shape[0] for name in needed[2:]]
  embedding, noise = state["unet.emb_noise.weight"].shape[:2]
  unit = math.gcd(embedding, noise, *widths)
  config = {
    "img_resolution": sides[0],
    "img_channels": state[first].shape[1] - 1,
    "model_channels": unit,
    "channel_mult": [width // unit for width in widths],
    "channel_mult_noise": noise // unit,
    "channel_mult_emb": embedding // unit,
    "num_blocks": sum(side == sides[0] for side, _ in found),
    "attn_resolutions": [side for side in sides if f"unet.enc.{side}x{side}_block0.attn_qkv.weight" in state],
    "sigma_data": sigma_data,
  }
  if "unet.emb_label.weight" in state:
    config["label_dim"] = state["unet.emb_label.weight"].shape[-1]
  return from_state_dict(state, config)


def _name(path):
  _, *modules, leaf = path
  modules = [module.replace("enc_", "enc.").replace("dec_", "dec.") for module in modules]
  return ".".join(["unet", *modules, tensors.LEAVES.get(leaf, leaf)])
