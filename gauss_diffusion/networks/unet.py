"""What the U-Nets of the EDM family share: their plan, dropout and the checks of what they are given."""

from collections.abc import Iterator
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Key

from gauss_diffusion.types import Array, ArrayLike


class Stage(NamedTuple):
  """One block's place in the network."""

  name: str
  resolution: int  # of its output
  features: int
  resample: str = "keep"  # or "halve", "double"
  attention: bool = False
  joins_skip: bool = False
  ends_level: bool = False


def encoder(net: nn.Module) -> Iterator[Stage]:
  """Yield the blocks after the first convolution, from the image's resolution down."""
  features = net.model_channels
  for level, mult in enumerate(net.channel_mult):
    resolution = net.img_resolution >> level
    prefix = f"enc_{resolution}x{resolution}"
    if level > 0:
      yield Stage(f"{prefix}_down", resolution, features, "halve")
    features = net.model_channels * mult
    for i in range(net.num_blocks):
      yield Stage(f"{prefix}_block{i}", resolution, features, attention=resolution in net.attn_resolutions)


def decoder(net: nn.Module, all_attend: bool) -> Iterator[Stage]:
  """Yield the blocks from the coarsest resolution up; `all_attend`, or only the last of a resolution."""
  features = net.model_channels * net.channel_mult[-1]
  for level, mult in reversed(list(enumerate(net.channel_mult))):
    resolution = net.img_resolution >> level
    prefix = f"dec_{resolution}x{resolution}"
    if level == len(net.channel_mult) - 1:
      yield Stage(f"{prefix}_in0", resolution, features, attention=True)
      yield Stage(f"{prefix}_in1", resolution, features)
    else:
      yield Stage(f"{prefix}_up", resolution, features, "double")
    features = net.model_channels * mult
    for i in range(net.num_blocks + 1):
      last = i == net.num_blocks
      attention = resolution in net.attn_resolutions and (last or all_attend)
      yield Stage(f"{prefix}_block{i}", resolution, features, "keep", attention, True, last)


def dropout_masks(
  key: Key[Array, ""], rate: float, num: int, stages: list[Stage]
) -> dict[str, Float[Array, "{num} M"]]:
  """Draw the masks of all blocks at once, scaled by 1 / (1 - rate), [num, ...] by the block's name.

  A generator per block would cost a second of compile time each.
  """
  sizes = [stage.resolution**2 * stage.features for stage in stages]
  kept = jax.random.bernoulli(key, 1 - rate, (num, sum(sizes)))
  masks = jnp.split(kept / (1 - rate), np.cumsum(sizes)[:-1], axis=1)
  return {stage.name: mask for stage, mask in zip(stages, masks, strict=True)}


def drop_labels(key: Key[Array, ""], rate: float, labels: Float[ArrayLike, "N L"]) -> Float[Array, "N L"]:
  """Set a share of the samples' labels to zero, which is no class."""
  return jax.random.bernoulli(key, 1 - rate, (len(labels), 1)) * labels


def check_inputs(
  net: nn.Module, x: Float[Array, "N H W C"], class_labels: Float[ArrayLike, "N L"] | None
) -> None:
  """Refuse images or labels that the network was not made for."""
  shape = (net.img_resolution, net.img_resolution, net.img_channels)
  if x.shape[1:] != shape:
    raise ValueError(f"images are {x.shape[1:]}; `img_resolution` and `img_channels` want {shape}")
  if class_labels is not None and not net.label_dim:
    raise ValueError("`class_labels` were given to an unconditional network; want `label_dim` > 0")


def check(net: nn.Module) -> None:
  """Refuse options that do not fit each other."""
  coarsest = 2 ** (len(net.channel_mult) - 1)
  if net.img_resolution % coarsest:
    raise ValueError(
      f"`img_resolution` is {net.img_resolution}; {len(net.channel_mult)} levels in `channel_mult` "
      f"want a multiple of {coarsest}"
    )
  if net.model_channels % 4:
    raise ValueError(f"`model_channels` is {net.model_channels}; want a multiple of 4")
  if 0 < net.out_channels < net.img_channels:
    raise ValueError(f"`out_channels` is {net.out_channels}; want 0 or at least `img_channels`")
