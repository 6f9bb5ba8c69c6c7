"""Any function on NumPy arrays as a denoiser.

A model of PyTorch, ONNX Runtime or one's own::

    def f(x, sigma):  # x [N, H, W, C], sigma [N]; returns [N, H, W, C]
      with torch.no_grad():
        return model(torch.from_numpy(x).movedim(3, 1), torch.from_numpy(sigma)).movedim(1, 3).numpy()

    denoise = external.denoiser(f)

With products with its Jacobian it is `Differentiable`, as `of_torch` makes one of PyTorch, and probes of the
Jacobian work on it::

    f = external.of_torch(lambda x, sigma: model(x.movedim(3, 1), sigma).movedim(1, 3))

A function of JAX needs none of this: ``Partial(g)`` is a `Denoiser` for any ``g(x, sigma)`` of one image, and
has derivatives. Networks that predict noise, v or a velocity, of a time t, see `parametrisations`.

`jax.pure_callback` would not do: it hands over JAX arrays, whose copies wait for the pool of threads that the
callbacks of several CPU devices occupy, a deadlock for batches beyond 100 kB. Here the function gets the
runtime's own NumPy arrays.
"""

import dataclasses
import functools
import hashlib
import importlib.util
import pathlib
import sys
import threading
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jax.tree_util import Partial
from jaxtyping import Float

from gauss_diffusion.types import Array, Denoiser, Image, Sigma

Function = Callable[[Float[np.ndarray, "N H W C"], Float[np.ndarray, " N"]], Float[np.ndarray, "N H W C"]]

ADJOINT = 1e-2  # by which two products with one Jacobian may differ, in float32, relative to their norms
PROBE_LEVELS = (0.05, 0.5, 5.0)  # noise levels of the fixed inputs by which a function is known


@dataclasses.dataclass(frozen=True)
class Differentiable:
  """A function on NumPy arrays and its derivative by the images: products with its Jacobian J."""

  function: Callable[..., Any]  # (x, sigma) -> x0_hat, as `denoiser` wants it
  jvp: Callable[..., Any]  # (x, sigma, tangent [N, H, W, C]) -> J tangent
  vjp: Callable[..., Any]  # (x, sigma, cotangent [N, H, W, C]) -> Jᵀ cotangent

  def __call__(self, x: Any, sigma: Any) -> Any:
    """Return the estimates of x0."""
    return self.function(x, sigma)


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class External:
  """A function on NumPy arrays, known to compile caches as itself."""

  function: Function


def denoiser(f: Function | Any) -> Denoiser:
  """Return `f` as a denoiser, for every probe and sampler, or for those alone that take no derivative.

  However jit, vmap and pmap are nested, `f` is called once for a device's batch. Score gaps, linearity,
  distillation, samples and trajectories work; those that ask for the Jacobian want a `Differentiable`.

  Args:
    f: takes noisy images, float [N, H, W, C], and their noise levels, float [N], as NumPy arrays of its own;
      returns estimates of x0, floating-point of the shape of the images. Rows must not depend on each other.
      It must not call JAX, and is called from several threads at once where there are several devices. The
      same `f` is compiled once; what it depends on must not change.

  Raises:
    ValueError: when `f` is not callable or has no hash. What goes wrong inside `f`, or with what it returns,
      is a `jax.errors.JaxRuntimeError` whose last line says so.
    TypeError: on a derivative of what is not `Differentiable`, on one by sigma, and on a second one.
  """
  if not callable(f) or f.__hash__ is None:
    raise ValueError(f"`f` is a {type(f).__name__}; want a hashable function of NumPy arrays (x, sigma)")
  return Partial(denoise, External(f))


def differentiable(denoise: Any) -> bool:
  """Tell whether a denoiser has derivatives: one of JAX has, one from `denoiser` if its function has."""
  outside = [bound for bound in getattr(denoise, "args", ()) if isinstance(bound, External)]
  return all(isinstance(bound.function, Differentiable) for bound in outside)


# PyTorch has one level of forward differentiation for all threads, and devices call from one each.
_DERIVATIVES = threading.Lock()


def of_torch(f: Callable[[Any, Any], Any]) -> Differentiable:
  """Return a function of PyTorch as one of NumPy arrays with derivatives, by `torch.func`.

  Args:
    f: takes tensors on the CPU, noisy images [N, H, W, C] and noise levels or times [N], and returns a tensor
      there of the images' shape. To compute elsewhere it moves them itself, there and back.
  """
  import torch  # no dependency of the package: whoever calls this has it

  def at(sigma):
    return lambda x: f(x, torch.from_numpy(sigma))

  def function(x, sigma):
    with torch.no_grad():
      return at(sigma)(torch.from_numpy(x)).numpy()

  def jvp(x, sigma, tangent):
    with _DERIVATIVES:
      _, product = torch.func.jvp(at(sigma), (torch.from_numpy(x),), (torch.from_numpy(tangent),))
    return product.detach().numpy()

  def vjp(x, sigma, cotangent):
    with _DERIVATIVES:
      (product,) = torch.func.vjp(at(sigma), torch.from_numpy(x))[1](torch.from_numpy(cotangent))
    return product.detach().numpy()

  return Differentiable(function, jvp, vjp)


def load(place: str, field: str = "function") -> Callable[..., Any]:
  """Import a function of the user's own, which is run as the user's own code.

  Args:
    place: ``FILE.py:NAME``.
    field: of a study that says so, for errors.

  Raises:
    ValueError: when there is no such file or name, the file fails, or NAME is no function.
  """
  file, colon, name = place.rpartition(":")
  path = pathlib.Path(file)
  if not colon or path.suffix != ".py" or not name.isidentifier():
    raise ValueError(f"`{field}` is {place!r}; want FILE.py:NAME")
  if not path.is_file():
    raise ValueError(f"`{field}` {place!r}: there is no file {file!r}")
  spec = importlib.util.spec_from_file_location(f"gauss_diffusion_function_{path.stem}", path)
  assert spec is not None and spec.loader is not None  # None is for other suffixes
  module = importlib.util.module_from_spec(spec)
  sys.path.insert(0, str(path.parent.absolute()))  # what lies beside it, it may import
  try:
    spec.loader.exec_module(module)
  except Exception as error:  # the user's code may fail in any way
    raise ValueError(f"`{field}` {place!r}: {file} fails with {said(error)}") from error
  finally:
    sys.path.pop(0)
  found = getattr(module, name, None)
  if not callable(found):
    functions = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
    has = f"has {', '.join(functions)}" if functions else "has no function"
    raise ValueError(f"`{field}` {place!r}: {file} {has}")
  return found


def examined(
  place: str, shape: tuple[int, int, int], levels: tuple[float, float], *, of_jax: bool
) -> tuple[Denoiser, str]:
  """Load a function, see that it is a denoiser of such images, and return it with its digest.

  The digest is of the file's source, of the function's outputs on fixed inputs, since its weights may change
  where its source does not, and of its kind, which decides what can be asked of it.

  Args:
    place: ``FILE.py:NAME``.
    shape: of an image, (H, W, C).
    levels: the lowest and the highest noise level that it will be asked about; it is tried there, too.
    of_jax: whether it is a function of JAX, of one image and a scalar sigma, rather than one of NumPy arrays.

  Returns:
    The denoiser, and 64 hexadecimal digits.

  Raises:
    ValueError: in one line, as `load` does, and when the function fails, returns another shape, no floats,
      NaN or infinity, or something else the second time, or when its two products are of no one Jacobian.
  """
  function = load(place)
  sigma = np.array([*PROBE_LEVELS, *levels], np.float32)
  noise = np.random.default_rng(0).standard_normal((len(sigma), *shape), np.float32)
  x = sigma[:, None, None, None] * noise

  def evaluate():
    if of_jax:
      return np.stack(
        [np.asarray(function(jnp.asarray(one), jnp.asarray(level))) for one, level in zip(x, sigma)]
      )
    return _evaluate(function, "value", x, sigma)[0]

  try:
    first, second = evaluate(), evaluate()
    apart = 0.0 if of_jax or not isinstance(function, Differentiable) else _apart(function, x, sigma)
  except Exception as error:  # the user's code may fail in any way
    raise ValueError(
      f"`function` {place!r} on images {x.shape} and sigma {sigma.shape}: {said(error)}"
    ) from error
  if first.shape != x.shape or first.dtype.kind != "f":
    raise ValueError(
      f"`function` {place!r} returned {first.dtype} {first.shape[1:]} for an image {shape}; want floats"
    )
  if not np.isfinite(first).all():
    raise ValueError(f"`function` {place!r} returned NaN or infinity for images within [-1, 1] plus noise")
  if first.tobytes() != second.tobytes():
    raise ValueError(
      f"`function` {place!r} returned other values the second time; want the same for the same input"
    )
  if not apart <= ADJOINT:
    raise ValueError(
      f"`function` {place!r}: `jvp` and `vjp` are of no one Jacobian, ⟨v, J u⟩ and ⟨Jᵀ v, u⟩ differ by "
      f"{apart:.0%}; want J tangent and Jᵀ cotangent"
    )
  source = pathlib.Path(place.rpartition(":")[0]).read_bytes()
  fixed = first[: len(PROBE_LEVELS)].tobytes()
  known = hashlib.sha256(source + fixed + bytes([of_jax])).hexdigest()
  return Partial(function) if of_jax else denoiser(function), known


@jax.jit
def denoise(external: External, x: Image, sigma: Sigma) -> Float[Array, "H W C"]:
  """Estimate ``x0`` from `x` by the function outside; see `denoiser`.

  Args:
    external: the function.
    x: one noisy image [H, W, C].
    sigma: scalar noise level > 0.

  Returns:
    The estimate, with the shape and dtype of `x`.
  """
  sigma = jnp.asarray(sigma, x.dtype)
  return _call.bind(x[None], sigma.reshape(1), function=external.function, kind="value")[0]


# On images [N, H, W, C], levels [N] and, of "jvp" and "vjp", tangents or cotangents: vmap makes N larger.
_call = Primitive("external_denoiser")
_TRANSPOSED = {"jvp": "vjp", "vjp": "jvp"}


@_call.def_abstract_eval
def _shape(x, *others, function, kind):
  return x


def _batch(arguments, axes, *, function, kind):
  size = next(a.shape[axis] for a, axis in zip(arguments, axes) if axis is not None)
  every = [
    jnp.broadcast_to(a[None], (size, *a.shape)) if axis is None else jnp.moveaxis(a, axis, 0)
    for a, axis in zip(arguments, axes)
  ]
  out = _call.bind(*(a.reshape(-1, *a.shape[2:]) for a in every), function=function, kind=kind)
  return out.reshape(every[0].shape), 0


def _derivative(primals, tangents, *, function, kind):
  (x, sigma, *others), (moving, of_sigma, *moving_others) = primals, tangents
  if not isinstance(function, Differentiable):
    raise TypeError(
      f"{_name(function)} is a function outside JAX and has no derivatives; the probes `jacobian` and "
      "`modes`, and with them the analyses gain, modes and perturbation, need them, see "
      "`external.Differentiable`. Linearity, score gaps, distillation and sampling do not"
    )
  if type(of_sigma) is not ad.Zero or (others and type(moving) is not ad.Zero):
    raise TypeError(
      f"{_name(function)} is a function outside JAX: it has one derivative, and that with respect to images"
    )
  out = _call.bind(*primals, function=function, kind=kind)
  (along,) = moving_others if others else (moving,)
  if type(along) is ad.Zero:
    return out, along
  return out, _call.bind(x, sigma, along, function=function, kind=kind if others else "jvp")


def _transpose(cotangent, x, sigma, along, *, function, kind):
  assert ad.is_undefined_primal(along)
  if type(cotangent) is ad.Zero:
    return None, None, ad.Zero(along.aval)
  return None, None, _call.bind(x, sigma, cotangent, function=function, kind=_TRANSPOSED[kind])


def _lower(context, *arguments, function, kind):
  host = functools.partial(_evaluate, function, kind)
  avals = context.avals_in, context.avals_out
  return mlir.emit_python_callback(
    context, host, None, [*arguments], *avals, has_side_effect=False, returns_token=False
  )[0]


def _evaluate(
  function: Callable,
  kind: str,
  x: Float[Array | np.ndarray, "N H W C"],
  *others: Float[Array | np.ndarray, "..."],
) -> tuple[Float[np.ndarray, "N H W C"]]:
  # Copies, since the runtime's arrays are read-only, which PyTorch warns about.
  called = function if kind == "value" else getattr(function, kind)
  out = np.asarray(called(np.array(x), *map(np.array, others)))
  if out.shape != x.shape or out.dtype.kind != "f":
    raise ValueError(
      f"{_name(called)} returned {out.dtype} {out.shape} for images {x.dtype} {x.shape}; "
      "want floating-point estimates of their shape"
    )
  return (out.astype(x.dtype, copy=False),)


def _apart(
  function: Differentiable, x: Float[np.ndarray, "N H W C"], sigma: Float[np.ndarray, " N"]
) -> float:
  """Return by how much ⟨v, J u⟩ and ⟨Jᵀ v, u⟩ differ at worst, as part of ‖v‖‖J u‖."""
  u, v = np.random.default_rng(1).standard_normal((2, *x.shape)).astype(np.float32)
  (forward,), (backward,) = _evaluate(function, "jvp", x, sigma, u), _evaluate(function, "vjp", x, sigma, v)
  flat = lambda a: a.reshape(len(a), -1).astype(float)  # noqa: E731
  norms = np.linalg.norm(flat(v), axis=1) * np.linalg.norm(flat(forward), axis=1)
  difference = np.abs((flat(v) * flat(forward)).sum(1) - (flat(backward) * flat(u)).sum(1))
  return float(np.max(difference / np.where(norms > 0, norms, 1)))


def failure(error: jax.errors.JaxRuntimeError) -> str | None:
  """Return in one line what went wrong in a function that JAX called, None where the error is JAX's own."""
  lines = str(error).strip().splitlines()
  return lines[-1] if "error calling callback" in lines[0] else None


def said(error: Exception) -> str:
  """Return in one line what went wrong in the user's code."""
  return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _name(function: object) -> str:
  function = function.function if isinstance(function, Differentiable) else function
  return f"`{getattr(function, '__qualname__', type(function).__name__)}`"


batching.primitive_batchers[_call] = _batch
ad.primitive_jvps[_call] = _derivative
ad.primitive_transposes[_call] = _transpose
mlir.register_lowering(_call, _lower)
