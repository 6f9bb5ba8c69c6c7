"""Networks by name, their initial parameters, and a trained network as a denoiser."""

import dataclasses
import functools
import numbers
import typing

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from gauss_diffusion import edm
from gauss_diffusion.networks.preconditioned import Preconditioned
from gauss_diffusion.networks.song_unet import SongUNet
from gauss_diffusion.types import Array

NETWORKS = {"ddpmpp": SongUNet}


class Trained(flax.struct.PyTreeNode):
  """A network with its parameters: a pytree whose structure is the network, whose leaves are the weights."""

  params: dict
  network: nn.Module = flax.struct.field(pytree_node=False)


def create(name: str, *, sigma_data: float = edm.SIGMA_DATA, **options) -> nn.Module:
  """Return the named network under EDM's preconditioning, as a linen module.

  ``network.apply({"params": params}, x, sigma, class_labels=None)`` is D(x; sigma) for x [N, H, W, C]
  in [-1, 1] plus noise, sigma [N] and class labels [N, label_dim], one-hot; for training add
  ``train=True, rngs={"dropout": key}``.

  Args:
    name: a key of `NETWORKS`.
    sigma_data: standard deviation of the data that the preconditioning assumes.
    **options: fields of the module, by the names of the reference's constructor.

  Raises:
    ValueError: on an unknown name, an unknown or missing option, or one of the wrong type or range.
  """
  if name not in NETWORKS:
    raise ValueError(f"`{name}` is no network; known: {', '.join(NETWORKS)}")
  known = {f.name: f for f in dataclasses.fields(NETWORKS[name]) if f.name not in ("parent", "name")}
  for option in options:
    if option not in known:
      raise ValueError(f"`{option}` is no option of {name}; known: {', '.join(known)}")
  for option, field in known.items():
    if field.default is dataclasses.MISSING and option not in options:
      raise ValueError(f"`{option}` is missing: {name} cannot do without it")
  if not isinstance(sigma_data, numbers.Real) or not 0 < sigma_data < float("inf"):
    raise ValueError(f"`sigma_data` is {sigma_data!r}; want a positive number")
  types = typing.get_type_hints(NETWORKS[name])
  raw = NETWORKS[name](**{option: _typed(option, value, types[option]) for option, value in options.items()})
  coarsest = 2 ** (len(raw.channel_mult) - 1)
  if raw.img_resolution % coarsest:
    raise ValueError(
      f"`img_resolution` is {raw.img_resolution}; {len(raw.channel_mult)} levels in `channel_mult` "
      f"want a multiple of {coarsest}"
    )
  if raw.model_channels % 4:
    raise ValueError(f"`model_channels` is {raw.model_channels}; want a multiple of 4")
  return Preconditioned(raw, float(sigma_data))


def _typed(option, value, kind):
  """Return the option as its field's type; every count is positive but the `_dim`s, every rate in [0, 1)."""

  def integer(v):
    at_least = 0 if option.endswith("_dim") else 1
    return isinstance(v, numbers.Integral) and not isinstance(v, bool) and v >= at_least

  if kind is int and integer(value):
    return int(value)
  if kind is float and isinstance(value, numbers.Real) and not isinstance(value, bool) and 0 <= value < 1:
    return float(value)
  if kind not in (int, float) and isinstance(value, tuple | list) and all(map(integer, value)):
    if value or option != "channel_mult":
      return tuple(int(v) for v in value)
  wanted = {int: "a whole number, positive", float: "a rate in [0, 1)"}.get(
    kind, "a tuple of positive whole numbers"
  )
  raise ValueError(f"`{option}` is {value!r}; want {wanted}")


def init(network: nn.Module, key: Array) -> dict:
  """Draw initial parameters with the reference's law of every tensor, float32.

  All tensors are cut from one vector of uniform draws, since on CPU a generator compiled per tensor costs
  tens of seconds: ``p = half_width * u``, u in [-1, 1).
  """
  leaves, structure = jax.tree.flatten_with_path(_half_widths(network))
  sizes = [leaf.size for _, leaf in leaves]
  draws = np.asarray(jax.random.uniform(key, (sum(sizes),), jnp.float32, -1.0, 1.0))
  draws = np.split(draws, np.cumsum(sizes)[:-1])
  params = [
    leaf if path[-1].key == "scale" else jnp.asarray(np.asarray(leaf) * draw.reshape(leaf.shape))
    for (path, leaf), draw in zip(leaves, draws, strict=True)
  ]
  return jax.tree.unflatten(structure, params)


@functools.partial(jax.jit, static_argnums=0)
def _half_widths(network):
  return network.init(jax.random.key(0), *_inputs(network))["params"]


def shapes(network: nn.Module) -> dict:
  """Return the parameters' shapes and dtypes, as `jax.ShapeDtypeStruct`, without computing any."""
  return _half_widths.eval_shape(network)


def _inputs(network):
  """Return one image, noise level and, where there are any, labels, so that linen makes every parameter."""
  raw = network.model
  image = jnp.zeros((1, raw.img_resolution, raw.img_resolution, raw.img_channels))
  labels = [jnp.zeros((1, dim)) if dim else None for dim in (raw.label_dim, raw.augment_dim)]
  return image, jnp.ones(1), *labels


def denoise(trained: Trained, x: Array, sigma: Array) -> Array:
  """Estimate ``x0`` from one noisy image with a trained network, D(x; sigma).

  ``jax.tree_util.Partial(denoise, trained)`` is a `Denoiser`; under vmap the samples become the batch axis
  of the network's convolutions.

  Args:
    trained: network and parameters.
    x: noisy image [H, W, C].
    sigma: noise level, scalar, > 0.

  Returns:
    The estimate [H, W, C] in the dtype of `x`.
  """
  return trained.network.apply({"params": trained.params}, x[None], jnp.reshape(sigma, 1))[0]
