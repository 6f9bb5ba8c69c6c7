"""Networks by name, their initial parameters, and a trained network as a denoiser."""

import dataclasses
import functools
import inspect
import numbers
import typing
from collections.abc import Callable
from typing import NamedTuple

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from gauss_diffusion import edm
from gauss_diffusion.networks import song_unet
from gauss_diffusion.networks.preconditioned import Preconditioned
from gauss_diffusion.types import Array


class Architecture(NamedTuple):
  """A family: its module, the check of its options, and those options in which it differs from the module."""

  module: type[nn.Module]
  check: Callable[[nn.Module], None]  # raises a ValueError that names an option
  options: dict


NETWORKS = {
  "ddpmpp": Architecture(song_unet.SongUNet, song_unet.check, {}),
}


class Trained(flax.struct.PyTreeNode):
  """A network with its parameters: a pytree whose structure is the network, whose leaves are the weights."""

  params: dict
  network: nn.Module = flax.struct.field(pytree_node=False)


def create(name: str, *, preconditioning: str = "edm", **options) -> nn.Module:
  """Return the named network under a preconditioning of EDM's table 1, as a linen module.

  ``network.apply({"params": params}, x, sigma, class_labels=None)`` is D(x; sigma) for x [N, H, W, C]
  in [-1, 1] plus noise, sigma [N] and class labels [N, label_dim], one-hot; for training add
  ``train=True, rngs={"dropout": key}``.

  Args:
    name: a key of `NETWORKS`.
    preconditioning: a key of `edm.PRECONDITIONINGS`.
    **options: fields of the module, by the names of the reference's constructor, and constants of the
      preconditioning, such as `sigma_data` of EDM's.

  Raises:
    ValueError: on an unknown name, an unknown or missing option, or one of the wrong type or range.
  """
  if name not in NETWORKS:
    raise ValueError(f"`{name}` is no network; known: {', '.join(NETWORKS)}")
  if preconditioning not in edm.PRECONDITIONINGS:
    raise ValueError(
      f"`preconditioning` has no {preconditioning!r}; known: {', '.join(edm.PRECONDITIONINGS)}"
    )
  architecture = NETWORKS[name]
  known = {f.name: f for f in dataclasses.fields(architecture.module) if f.name not in ("parent", "name")}
  constants = _constants(preconditioning)
  for option in options:
    if option not in known and option not in constants:
      raise ValueError(f"`{option}` is no option of {name}; known: {', '.join([*known, *constants])}")
  for option, field in known.items():
    if field.default is dataclasses.MISSING and option not in options:
      raise ValueError(f"`{option}` is missing: {name} cannot do without it")
  for option in constants:
    value = constants[option] = options.pop(option, constants[option])
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not 0 < value < float("inf"):
      raise ValueError(f"`{option}` is {value!r}; want a positive number")
  types = typing.get_type_hints(architecture.module)
  options = architecture.options | options
  raw = architecture.module(
    **{option: _typed(option, value, types[option]) for option, value in options.items()}
  )
  architecture.check(raw)
  return Preconditioned(raw, preconditioning, tuple(constants.items()))


def card(network: nn.Module) -> dict:
  """Return the arguments of `create` that rebuild the network, as plain JSON."""
  raw = network.model
  fields = {f.name: getattr(raw, f.name) for f in dataclasses.fields(raw) if f.name not in ("parent", "name")}
  made = [name for name, architecture in NETWORKS.items() if architecture.module is type(raw)]
  # Of names that share a module, the one whose options are all here, if there is any.
  name = max(made, key=lambda name: sum(fields[k] == v for k, v in NETWORKS[name].options.items()))
  fields = {k: list(v) if isinstance(v, tuple) else v for k, v in fields.items()}
  return {"name": name, "preconditioning": network.preconditioning} | fields | dict(network.constants)


def _constants(preconditioning: str) -> dict:
  """Return the constants of a preconditioning's formula and their defaults."""
  _, *constants = inspect.signature(edm.PRECONDITIONINGS[preconditioning]).parameters.values()
  return {constant.name: constant.default for constant in constants}


def _typed(option, value, kind):
  """Return the option as its field's type; every count is positive but the `_dim`s, every rate in [0, 1)."""

  def integer(v):
    at_least = 0 if option.endswith("_dim") else 1
    return isinstance(v, numbers.Integral) and not isinstance(v, bool) and v >= at_least

  if typing.get_origin(kind) is typing.Literal:
    if value in typing.get_args(kind):
      return value
    raise ValueError(f"`{option}` is {value!r}; known: {', '.join(map(str, typing.get_args(kind)))}")
  if kind is bool and isinstance(value, bool):
    return value
  if kind is int and integer(value):
    return int(value)
  if kind is float and isinstance(value, numbers.Real) and not isinstance(value, bool) and 0 <= value < 1:
    return float(value)
  if kind not in (bool, int, float) and isinstance(value, tuple | list) and all(map(integer, value)):
    if value or option == "attn_resolutions":
      return tuple(int(v) for v in value)
  wanted = {bool: "true or false", int: "a whole number, positive", float: "a rate in [0, 1)"}.get(
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
