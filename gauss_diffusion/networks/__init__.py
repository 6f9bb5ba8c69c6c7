"""Networks by name, their initial parameters, and a trained network as a denoiser."""

import dataclasses
import functools
import inspect
import math
import numbers
import typing
from collections.abc import Callable
from typing import Any, NamedTuple

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Key

from gauss_diffusion import edm
from gauss_diffusion.denoisers import parametrisations
from gauss_diffusion.networks import dhariwal_unet, diffusers_unet, dit, edm2, layers, skip_net, song_unet
from gauss_diffusion.networks.preconditioned import PREDICTIONS, Preconditioned
from gauss_diffusion.types import Array, ArrayLike, Image, Sigma


class Architecture(NamedTuple):
  """A family: its module, the check of its options, and those options in which it differs from the module."""

  module: type[nn.Module]
  check: Callable[[Any], None]  # raises a ValueError that names an option
  options: dict


# The two that share a module differ here (Karras et al. 2022, table 7); everything else is one default.
DDPMPP = {
  "embedding_type": "positional",
  "channel_mult_noise": 1,
  "encoder_type": "standard",
  "resample_filter": (1, 1),
}
NCSNPP = {
  "embedding_type": "fourier",
  "channel_mult_noise": 2,
  "encoder_type": "residual",
  "resample_filter": (1, 3, 3, 1),
}
NETWORKS = {
  "ddpmpp": Architecture(song_unet.SongUNet, song_unet.check, DDPMPP),
  "ncsnpp": Architecture(song_unet.SongUNet, song_unet.check, NCSNPP),
  "adm": Architecture(dhariwal_unet.DhariwalUNet, dhariwal_unet.check, {}),
  "skip": Architecture(skip_net.SkipNet, skip_net.check, {}),
  "dit": Architecture(dit.DiT, dit.check, {}),
  "edm2": Architecture(edm2.EDM2, edm2.check, {}),
  "diffusers": Architecture(diffusers_unet.DiffusersUNet, diffusers_unet.check, {}),
}


class Trained(flax.struct.PyTreeNode):
  """A network with its parameters: a pytree whose structure is the network, whose leaves are the weights.

  A class-conditional one has a leaf for the class, too, so that one compile serves all of them.
  """

  params: dict
  network: nn.Module = flax.struct.field(pytree_node=False)
  label: Float[ArrayLike, " L"] | None = None  # one-hot, or zeros for no class; see `class_vector`


def create(name: str, *, preconditioning: str = "edm", **options: Any) -> Preconditioned:
  """Return the named network as a denoiser, under a preconditioning of EDM's table 1 or by what it predicts.

  ``network.apply({"params": params}, x, sigma, class_labels=None)`` is D(x; sigma) for x [N, H, W, C]
  in [-1, 1] plus noise, sigma [N] and class labels [N, label_dim], one-hot; for training add
  ``train=True, rngs={"dropout": key}``.

  Args:
    name: a key of `NETWORKS`.
    preconditioning: a key of `edm.PRECONDITIONINGS`, or of `preconditioned.PREDICTIONS`.
    **options: fields of the module, by the names of the reference's constructor, and constants of the
      preconditioning, such as `sigma_data` of EDM's.

  Raises:
    ValueError: on an unknown name, an unknown or missing option, or one of the wrong type or range.
  """
  if name not in NETWORKS:
    raise ValueError(f"`{name}` is no network; known: {', '.join(NETWORKS)}")
  architecture = NETWORKS[name]
  known = _fields(architecture.module)
  constants = _constants(preconditioning)
  for option in options:
    if option not in known and option not in constants:
      raise ValueError(f"`{option}` is no option of {name}; known: {', '.join([*known, *constants])}")
  for option, field in known.items():
    if field.default is dataclasses.MISSING and option not in options:
      raise ValueError(f"`{option}` is missing: {name} cannot do without it")
  for option, default in constants.items():
    value = constants[option] = options.pop(option, default)
    if isinstance(default, str):  # a name, which `levels` looks up
      if not isinstance(value, str):
        raise ValueError(f"`{option}` is {value!r}; want a name")
      continue
    if not _is_real(value) or not 0 < value < float("inf"):
      raise ValueError(f"`{option}` is {value!r}; want a positive number")
    if isinstance(default, int) and not isinstance(value, numbers.Integral):
      raise ValueError(f"`{option}` is {value!r}; want a whole number, positive")
  types = typing.get_type_hints(architecture.module)
  options = architecture.options | options
  raw = architecture.module(
    **{option: _typed(option, value, types[option]) for option, value in options.items()}
  )
  architecture.check(raw)
  network = Preconditioned(raw, preconditioning, tuple(constants.items()))
  levels(network)
  return network


def levels(network: Preconditioned) -> tuple[float, float]:
  """Return the lowest and the highest noise level that a network knows.

  Raises:
    ValueError: when its constants make no schedule.
  """
  if network.preconditioning not in PREDICTIONS:
    return 0.0, math.inf
  schedule = parametrisations.trained_steps(**dict(network.constants))  # type: ignore[arg-type]
  return schedule.low, schedule.high


def known(options: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
  """Return those of a model's network options that the named architecture takes.

  Args:
    options: with `name`, and perhaps `preconditioning`, among them.
    defaults: the study's, to which an option that the architecture does not know must be equal.

  Raises:
    ValueError: on an unknown name, or an option that was set and that the architecture does not have.
  """
  name = options["name"]
  if name not in NETWORKS:
    raise ValueError(f"`{name}` is no network; known: {', '.join(NETWORKS)}")
  takes = ["name", "preconditioning", *_fields(NETWORKS[name].module)]
  takes += _constants(options.get("preconditioning", "edm"))
  for option, value in options.items():
    if option not in takes and value != defaults.get(option):
      raise ValueError(
        f"`network.{option}` is {value!r}, and {name} has no such option; known: {', '.join(takes)}"
      )
  return {option: value for option, value in options.items() if option in takes}


def width_field(name: str) -> str:
  """Return the option that is the width of the named architecture."""
  return "model_channels" if "model_channels" in _fields(NETWORKS[name].module) else "hidden_size"


def card(network: Preconditioned) -> dict:
  """Return the arguments of `create` that rebuild the network, as plain JSON."""
  raw = network.model
  fields = {name: getattr(raw, name) for name in _fields(raw)}
  made = [name for name, architecture in NETWORKS.items() if architecture.module is type(raw)]
  # Of names that share a module, the one whose options are all here, if there is any.
  name = max(made, key=lambda name: sum(fields[k] == v for k, v in NETWORKS[name].options.items()))
  fields = {k: list(v) if isinstance(v, tuple) else v for k, v in fields.items()}
  return {"name": name, "preconditioning": network.preconditioning} | fields | dict(network.constants)


def compute(network: Preconditioned, *, dtype: str = "float32", remat: bool = False) -> Preconditioned:
  """Return the same network, with the same parameters, for training in less memory or time.

  Args:
    network: from `create`.
    dtype: ``float32``, or ``bfloat16`` for the raw network; its parameters, the noise level's embedding and
      the preconditioning's sum stay float32.
    remat: whether the backward pass recomputes each block's activations instead of keeping them.

  Raises:
    ValueError: on another `dtype`.
  """
  if dtype not in ("float32", "bfloat16"):
    raise ValueError(f"`dtype` is {dtype!r}; want float32 or bfloat16")
  return network.clone(model=network.model.clone(remat=bool(remat)), dtype=dtype)


def _fields(module: nn.Module | type[nn.Module]) -> dict[str, dataclasses.Field]:
  """Return the fields of a raw network that are options of `create`: not linen's own, nor `compute`'s."""
  return {f.name: f for f in dataclasses.fields(module) if f.name not in ("parent", "name", "remat")}


def _constants(preconditioning: str) -> dict[str, Any]:
  """Return the constants of a preconditioning's formula and their defaults, or refuse an unknown name."""
  known = [*edm.PRECONDITIONINGS, *PREDICTIONS]
  if preconditioning not in known:
    raise ValueError(f"`preconditioning` has no {preconditioning!r}; known: {', '.join(known)}")
  if preconditioning in PREDICTIONS:
    constants = list(inspect.signature(parametrisations.trained_steps).parameters.values())
  else:
    _, *constants = inspect.signature(edm.PRECONDITIONINGS[preconditioning]).parameters.values()
  return {constant.name: constant.default for constant in constants}


def _typed(option: str, value: Any, kind: Any) -> Any:
  """Return the option as its field's type; counts are positive where 0 has no meaning, rates in [0, 1)."""

  def integer(v: Any) -> bool:
    at_least = 0 if option.endswith("_dim") or option in ("out_channels", "norm_num_groups") else 1
    return _is_whole(v) and v >= at_least

  if typing.get_origin(kind) is typing.Literal:
    if value in typing.get_args(kind):
      return value
    raise ValueError(f"`{option}` is {value!r}; known: {', '.join(map(str, typing.get_args(kind)))}")
  if kind is bool and isinstance(value, bool):
    return value
  if kind is int and integer(value):
    return int(value)
  if kind is float and _is_real(value) and 0 <= value < 1:
    return float(value)
  if kind not in (bool, int, float) and isinstance(value, tuple | list) and all(map(integer, value)):
    if value or option.endswith("attn_resolutions"):
      return tuple(int(v) for v in value)
  wanted = {bool: "true or false", int: "a whole number, positive", float: "a rate in [0, 1)"}.get(
    kind, "a tuple of positive whole numbers"
  )
  raise ValueError(f"`{option}` is {value!r}; want {wanted}")


def _is_real(value: Any) -> bool:
  return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _is_whole(value: Any) -> bool:
  return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def init(network: nn.Module, key: Key[Array, ""]) -> dict:
  """Draw initial parameters with the reference's law of every tensor, float32.

  All tensors are cut from one vector of uniform draws u in [-1, 1), since on CPU a generator compiled per
  tensor costs tens of seconds. A layer's initialiser states the width of the tensor's law, and its name the
  law, see `layers`: ``p = width * u`` is uniform, ``p = width * sqrt(2) erfinv(u)`` is normal.
  """
  leaves, structure = jax.tree.flatten_with_path(_widths(network))
  sizes = [leaf.size for _, leaf in leaves]
  draws = np.asarray(jax.random.uniform(key, (sum(sizes),), jnp.float32, -1.0, 1.0))
  parts = np.split(draws, np.cumsum(sizes)[:-1])
  params = [
    _draw(path[-1].key, width, u.reshape(width.shape)) for (path, width), u in zip(leaves, parts, strict=True)
  ]
  return jax.tree.unflatten(structure, params)


def _draw(
  kind: str, width: Float[ArrayLike, "*axes"], u: Float[ArrayLike, "*axes"]
) -> Float[ArrayLike, "*axes"]:
  if kind == "scale":
    return width
  if kind in layers.GAUSSIAN:
    # The quantile of u = -1 is infinite: the next float stands for it.
    u = math.sqrt(2) * jax.lax.erf_inv(np.maximum(u, np.nextafter(np.float32(-1), np.float32(0))))
  return jnp.asarray(np.asarray(width) * u)


@functools.partial(jax.jit, static_argnums=0)
def _widths(network: nn.Module) -> dict:
  return network.init(jax.random.key(0), *_inputs(network))["params"]


def shapes(network: nn.Module) -> dict:
  """Return the parameters' shapes and dtypes, as `jax.ShapeDtypeStruct`, without computing any."""
  return _widths.eval_shape(network)


def _inputs(network: nn.Module) -> tuple[Float[Array, "..."] | None, ...]:
  """Return one image, noise level and, where there are any, labels, so that linen makes every parameter."""
  raw = network.model
  image = jnp.zeros((1, raw.img_resolution, raw.img_resolution, raw.img_channels))
  labels = [jnp.zeros((1, dim)) if dim else None for dim in (raw.label_dim, raw.augment_dim)]
  return image, jnp.ones(1), *labels


def class_vector(network: Preconditioned, label: int | None) -> Float[np.ndarray, " L"] | None:
  """Return what a network is told of a class: one-hot, zeros for None, nothing where it knows no classes."""
  dim = network.model.label_dim
  return (np.arange(dim) == (-1 if label is None else label)).astype(np.float32) if dim else None


def denoise(trained: Trained, x: Image, sigma: Sigma) -> Float[Array, "H W C"]:
  """Estimate ``x0`` from one noisy image with a trained network, D(x; sigma).

  ``jax.tree_util.Partial(denoise, trained)`` is a `Denoiser`; under vmap the samples become the batch axis
  of the network's convolutions.

  Args:
    trained: network, parameters and, of a class-conditional one, the class.
    x: noisy image [H, W, C].
    sigma: noise level, scalar, > 0.

  Returns:
    The estimate [H, W, C] in the dtype of `x`.
  """
  label = None if trained.label is None else jnp.asarray(trained.label, x.dtype)[None]
  return trained.network.apply({"params": trained.params}, x[None], jnp.reshape(sigma, 1), label)[0]
