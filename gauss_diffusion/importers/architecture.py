"""What names and shapes of tensors say about a network of EDM's, of which there is nothing else.

They say everything but what a network is told and how its output is read: the preconditioning and its
constants. Rates of dropout, which they do not say either, make no difference to a trained network.
"""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

LARGEST = 2**13  # pixels along a side, which is a name's word alone


def infer(state: Mapping[str, np.ndarray]) -> dict[str, Any]:
  """Return the constructor arguments of the reference's network that has such a state dict.

  Args:
    state: tensors by the reference's names, ``model.enc.32x32_conv.weight`` among them.

  Returns:
    Arguments for `edm.from_state_dict`, `class_name` and its constants excepted.

  Raises:
    ValueError: names the tensor that is missing, or whose shape does not go with another's.
  """
  sides = [side for name in state if (side := _side(name, "conv.weight"))]
  if len(sides) != 1 or sides[0] > LARGEST:
    raise ValueError(
      f"`model.enc.*_conv.weight` is there for the resolutions {sides}; want one up to {LARGEST}"
    )
  side, song = sides[0], f"model.dec.{sides[0]}x{sides[0]}_aux_norm.weight" in state
  width, channels = _shape(state, f"model.enc.{side}x{side}_conv.weight", 4)[:2]
  embedding, noise = _shape(state, "model.map_layer0.weight", 2)
  unit = width if song else noise
  resolutions = sorted({at for name in state if (at := _side(name, "block0.conv0.weight"))}, reverse=True)
  if resolutions != [side >> level for level in range(len(resolutions))]:
    raise ValueError(
      f"`model.enc.*_block0` is there for the resolutions {resolutions}; want {side} and its halves"
    )
  first = [_shape(state, f"model.enc.{at}x{at}_block0.conv0.weight", 4)[0] for at in resolutions]
  options = {
    "model_type": "SongUNet" if song else "DhariwalUNet",
    "img_resolution": side,
    "img_channels": channels,
    "model_channels": unit,
    "channel_mult": [_ratio("channel_mult", features, unit) for features in first],
    "channel_mult_emb": _ratio("channel_mult_emb", embedding, unit),
    "num_blocks": sum(f"model.enc.{side}x{side}_block{i}.conv0.weight" in state for i in range(len(state))),
    "attn_resolutions": [at for at in resolutions if f"model.enc.{at}x{at}_block0.qkv.weight" in state],
  }
  for option, name in (("label_dim", "model.map_label.weight"), ("augment_dim", "model.map_augment.weight")):
    if name in state:
      options[option] = _shape(state, name, 2)[1]
  return options | (_of_song(state, noise, unit) if song else {})


def _of_song(state, noise, unit):
  """Return the arguments that only DDPM++ and NCSN++ have."""
  aux = {name.rpartition("_aux_")[2] for name in state if "_aux_" in name}
  encoders = [kind for kind in ("skip", "residual") if f"{kind}.weight" in aux]
  fourier = "model.map_noise.freqs" in state
  images = [name for name in state if name.endswith("_aux_conv.weight")]
  options = {
    "embedding_type": "fourier" if fourier else "positional",
    "channel_mult_noise": _ratio("channel_mult_noise", noise, unit),
    "encoder_type": encoders[0] if encoders else "standard",
    "decoder_type": "skip" if len(images) > 1 else "standard",
  }
  filters = [name for name in state if name.endswith(".resample_filter")]
  if filters:
    taps = state[filters[0]].reshape(-1, state[filters[0]].shape[-1]).sum(0)
    if not (taps > 0).all() or taps.max() > 1000 * taps.min():
      raise ValueError(f"`{filters[0]}` is {np.array2string(taps, threshold=9)}; want taps that are positive")
    options["resample_filter"] = np.rint(taps / taps.min()).astype(int).tolist()
  return options


def _side(name, rest):
  """Return the resolution in an encoder's name that goes on like this, or None."""
  found = re.fullmatch(rf"model\.enc\.(\d{{1,9}})x\1_{re.escape(rest)}", name)
  return int(found[1]) if found else None


def _shape(state, name, rank):
  if name not in state:
    raise ValueError(f"`{name}` is missing from the state dict")
  if state[name].ndim != rank or 0 in state[name].shape:
    raise ValueError(f"`{name}` has shape {state[name].shape}; want {rank} axes")
  return state[name].shape


def _ratio(option, features, unit):
  if features % unit:
    raise ValueError(
      f"`{option}` would be {features} / {unit}; want tensors of which one is a multiple of the other"
    )
  return features // unit
