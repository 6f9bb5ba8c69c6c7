"""A NumPy function under the probes is the denoiser that it computes."""

import concurrent.futures
import sys
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from gauss_diffusion import distill, edm, parallel, sampling
from gauss_diffusion.denoisers import affine, external, parametrisations
from gauss_diffusion.probes import jacobian, linearity, modes, score_gap
from gauss_diffusion.types import Affine

SHAPE = (3, 2, 2)
D = 12
LEVELS = (0.002, 80.0)
F32 = 1e-5  # float32 rounding of a matmul of 12 terms of order 1, in another order


def draw(*shape, seed=0):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


SIGMAS = np.float32(edm.sigma_grid(3, 0.1, 10.0))
WEIGHT, BIAS = draw(3, D, D) / 4, draw(3, D, seed=1)
INSIDE = Partial(affine.denoise, Affine(WEIGHT, BIAS, SIGMAS))
CALLS = []


def outside(x, sigma):
  """The same maps in NumPy, one level a row; float64, as NumPy likes to return."""
  assert isinstance(x, np.ndarray) and isinstance(sigma, np.ndarray) and sigma.dtype == x.dtype
  CALLS.append((x.shape, sigma.shape, threading.get_ident()))
  level = np.abs(np.log(SIGMAS)[None] - np.log(sigma)[:, None]).argmin(1)
  return (np.einsum("nij,nj->ni", WEIGHT[level].astype(float), x.reshape(len(x), -1)) + BIAS[level]).reshape(
    x.shape
  )


OUTSIDE = external.denoiser(outside)


def test_one_image():
  x = draw(*SHAPE)
  found = OUTSIDE(x, 10.0)
  assert found.dtype == np.float32
  np.testing.assert_allclose(found, INSIDE(x, 10.0), atol=F32)


def test_nested_vmaps_are_one_call():
  x, levels = draw(4, 3, 5, *SHAPE[1:]), SIGMAS[[0, 2]]
  over = lambda denoise: jax.vmap(jax.vmap(jax.vmap(denoise, (1, None)), (0, None), 1), (None, 0))  # noqa: E731
  CALLS.clear()
  found = jax.jit(over(OUTSIDE))(x, levels)
  jax.block_until_ready(found)
  assert [call[:2] for call in CALLS] == [((40, *SHAPE), (40,))]
  np.testing.assert_allclose(found, over(INSIDE)(x, levels), atol=F32)


def test_linearity():
  x1, x2, centre = draw(3, *SHAPE)
  alpha2 = np.float32([0.5, 0.9])
  found, expected = (linearity.score(d, x1, x2, SIGMAS[1], alpha2, centre=centre) for d in (OUTSIDE, INSIDE))
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=F32), found, expected)


def test_score_gap():
  assert score_gap.gaps(OUTSIDE, INSIDE, draw(*SHAPE), SIGMAS[0]).rmse < F32


def _sample(shared, noise):
  denoise, sigmas = shared
  return sampling.sample(denoise, noise, sigmas)


def test_sampling_over_devices_does_not_wait_for_itself():
  # More than 100 kB for each of eight devices on few cores: jax.pure_callback deadlocks here.
  def shrink(x, sigma):
    CALLS.append(threading.get_ident())
    return x / (1 + sigma**2)[:, None, None, None]

  noise = draw(128, 32, 32, 3)
  CALLS.clear()
  found = parallel.map_samples(_sample, (external.denoiser(shrink), SIGMAS), noise)
  assert len(CALLS) == 8 * len(SIGMAS) and len(set(CALLS)) > 1
  lam = sampling.sample(Partial(lambda x, sigma: x / (1 + sigma**2)), noise[7], SIGMAS)
  np.testing.assert_allclose(found.x[7], lam.x, atol=1e-4)  # |x| up to 40


def test_distillation_recovers_the_maps():
  images = np.random.default_rng(0).integers(0, 256, (40, *SHAPE), np.uint8)
  found, fit = distill.closed_form(OUTSIDE, images, SIGMAS, jax.random.key(0), num_pairs=256)
  np.testing.assert_allclose(found.weight, WEIGHT, atol=1e-4)  # noise 0.1 amplifies float32 rounding
  np.testing.assert_allclose(found.bias, BIAS, atol=1e-4)
  assert fit.residual_mse.max() < 1e-10


def test_the_same_function_is_compiled_once():
  traces = []

  @jax.jit
  def twice(denoise, x):
    traces.append(1)
    return 2 * denoise(x, 1.0)

  for _ in range(2):
    twice(external.denoiser(outside), draw(*SHAPE))
  assert len(traces) == 1
  twice(external.denoiser(lambda x, sigma: x), draw(*SHAPE))
  assert len(traces) == 2


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_float64(x64, dtype):
  x = np.arange(D).reshape(SHAPE) / 8  # exact in float32, and so are its quotients
  divide = external.denoiser(lambda x, sigma: (x / sigma[:, None, None, None]).astype(dtype))
  found = jax.vmap(divide, (None, 0))(x, jnp.array([2.0, 4.0]))
  assert found.dtype == np.float64
  np.testing.assert_array_equal(found, np.stack([x / 2, x / 4]))


def test_the_function_may_write_into_its_arguments():
  def halve(x, sigma):
    x /= 2
    return x

  x = jnp.asarray(draw(*SHAPE))
  np.testing.assert_array_equal(external.denoiser(halve)(x, 1.0), draw(*SHAPE) / 2)
  np.testing.assert_array_equal(x, draw(*SHAPE))


def _gain(denoise, x):
  return jacobian.gain(denoise, x, 1.0, np.eye(D))


def test_derivatives_are_refused_in_words():
  x = draw(*SHAPE)
  for ask in (
    lambda: jacobian.gain(OUTSIDE, x, 1.0, np.eye(D)),
    lambda: jax.grad(lambda x: jax.jit(OUTSIDE)(x, 1.0).sum())(x),
    lambda: parallel.map_samples(_gain, OUTSIDE, x[None]),
  ):
    with pytest.raises(
      TypeError, match="`outside` is a function outside JAX and has no derivatives.*Linearity"
    ):
      ask()


def _level(sigma):
  return np.abs(np.log(SIGMAS)[None] - np.log(sigma)[:, None]).argmin(1)


def _product(weight, v):
  return np.einsum("nij,nj->ni", weight, v.reshape(len(v), -1)).reshape(v.shape)


def curved(x, sigma):
  """A function that is no map: tanh of the maps, whose Jacobian is that of the maps times a diagonal."""
  return np.tanh(outside(x, sigma))


def curved_jvp(x, sigma, tangent):
  return (1 - curved(x, sigma) ** 2) * _product(WEIGHT[_level(sigma)], tangent)


def curved_vjp(x, sigma, cotangent):
  return _product(WEIGHT[_level(sigma)].swapaxes(1, 2), (1 - curved(x, sigma) ** 2) * cotangent)


CURVED = external.Differentiable(curved, curved_jvp, curved_vjp)
CURVED_INSIDE = Partial(lambda maps, x, sigma: jnp.tanh(affine.denoise(maps, x, sigma)), INSIDE.args[0])


def test_derivatives_are_those_of_the_function_in_either_direction():
  denoise, x, u = external.denoiser(CURVED), *draw(2, *SHAPE)
  assert external.differentiable(denoise) and not external.differentiable(OUTSIDE)
  for sigma in SIGMAS:
    for of in (
      lambda d: jax.jvp(lambda y: d(y, sigma), (x,), (u,)),  # noqa: B023
      lambda d: jax.vjp(lambda y: d(y, sigma), x)[1](u),  # noqa: B023
      lambda d: jax.jit(jax.jacrev(lambda y: d(y, sigma)))(x),  # noqa: B023
      lambda d: jax.jacfwd(lambda y: jnp.sin(3 * d(y**2, sigma)))(x),  # noqa: B023
    ):
      found, expected = of(denoise), of(CURVED_INSIDE)
      jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2 * F32), found, expected)
  many, along = draw(5, *SHAPE), draw(4, 5, *SHAPE, seed=3)
  push = lambda d: jax.vmap(  # noqa: E731
    lambda v: jax.jvp(lambda y: jax.vmap(d, (0, None))(y, SIGMAS[1]), (many,), (v,))[1]
  )(along)
  CALLS.clear()
  np.testing.assert_allclose(push(denoise), push(CURVED_INSIDE), atol=2 * F32)


def test_probes_of_the_jacobian_take_it():
  x = draw(*SHAPE)
  found, expected = (
    modes.singular_vectors(denoise, x[None], float(SIGMAS[1]), 3, iterations=8, seed=0)
    for denoise in (external.denoiser(CURVED), CURVED_INSIDE)
  )
  np.testing.assert_allclose(found.values, expected.values, rtol=1e-4)
  gains = [
    jacobian.gain(denoise, x, SIGMAS[1], np.eye(D)) for denoise in (external.denoiser(CURVED), CURVED_INSIDE)
  ]
  np.testing.assert_allclose(*gains, atol=F32)


def test_other_derivatives_are_refused_in_words():
  denoise, x = external.denoiser(CURVED), draw(*SHAPE)
  for ask in (
    lambda: jax.grad(lambda sigma: denoise(x, sigma).sum())(jnp.float32(1.0)),
    lambda: jax.hessian(lambda y: denoise(y, 1.0).sum())(x),
  ):
    with pytest.raises(
      TypeError, match="`curved` is a function outside JAX: it has one derivative, and that with"
    ):
      ask()


@pytest.mark.parametrize(
  "adapted",
  [
    lambda f: parametrisations.from_eps(f, parametrisations.vp()),
    lambda f: parametrisations.from_v(f, parametrisations.cosine()),
    lambda f: parametrisations.from_x0(f, parametrisations.ve()),
    lambda f: parametrisations.from_flow(f),
    lambda f: parametrisations.from_flow(f, data_at=1),
  ],
)
def test_what_a_network_predicts_may_be_differentiable(adapted):
  """Whatever its time, the network is tanh of one map: what stands around it is what is differentiated."""
  weight = WEIGHT[0].astype(np.float64)

  def outer(x, t):
    return np.tanh(_product(np.broadcast_to(weight, (len(x), D, D)), x)) * (1 + t)[:, None, None, None]

  def slope(x, t):
    return (1 - np.tanh(_product(np.broadcast_to(weight, (len(x), D, D)), x)) ** 2) * (1 + t)[
      :, None, None, None
    ]

  f = external.Differentiable(
    outer,
    lambda x, t, v: slope(x, t) * _product(np.broadcast_to(weight, (len(x), D, D)), v),
    lambda x, t, v: _product(np.broadcast_to(weight.T, (len(x), D, D)), slope(x, t) * v),
  )
  inner = adapted(lambda x, t: jnp.tanh(jnp.matmul(weight, x.ravel())).reshape(x.shape) * (1 + t))
  x, u = draw(2, *SHAPE)
  denoise = external.denoiser(adapted(f))
  assert external.differentiable(denoise)
  for of in (
    lambda d: jax.jvp(lambda y: d(y, np.float32(0.7)), (x,), (u,)),
    lambda d: jax.vjp(lambda y: d(y, np.float32(0.7)), x)[1](u),
  ):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=5 * F32), of(denoise), of(Partial(inner)))


def test_a_network_of_pytorch_has_derivatives():
  torch = pytest.importorskip("torch", reason="want PyTorch")
  weight = torch.from_numpy(WEIGHT[0])
  f = external.of_torch(lambda x, sigma: torch.tanh(x.flatten(1) @ weight.T / sigma[:, None]).view_as(x))
  inner = Partial(lambda x, sigma: jnp.tanh(jnp.matmul(WEIGHT[0], x.ravel()) / sigma).reshape(x.shape))
  x = draw(*SHAPE)
  for of in (jax.jacfwd, jax.jacrev):
    found, expected = (of(lambda y, d=d: d(y, 1.3))(x) for d in (external.denoiser(f), inner))
    np.testing.assert_allclose(found, expected, atol=F32)


def test_derivatives_of_pytorch_stand_while_every_device_asks():
  torch = pytest.importorskip("torch", reason="want PyTorch")
  f = external.of_torch(
    lambda x, sigma: torch.nn.functional.silu(x.flatten(1) @ torch.ones(12, 12)).view_as(x)
  )
  x, u = draw(64, *SHAPE), draw(64, *SHAPE)
  sigma = np.ones(len(x), np.float32)
  want = f.jvp(x, sigma, u)
  with concurrent.futures.ThreadPoolExecutor(8) as pool:
    for found in pool.map(lambda _: f.jvp(x, sigma, u), range(400)):
      np.testing.assert_array_equal(found, want)


@pytest.mark.parametrize(
  "f, want",
  [
    (
      lambda x, sigma: x[:, :1],
      r"`.*<lambda>` returned float32 \(1, 1, 2, 2\) for images float32 \(1, 3, 2, 2\)",
    ),
    (lambda x, sigma: x.astype(np.uint8), "returned uint8"),
    (lambda x, sigma: None, "returned object"),
    (lambda x, sigma: 1 // 0, "ZeroDivisionError"),
  ],
)
def test_what_the_function_does_wrong_is_said(f, want):
  with pytest.raises(jax.errors.JaxRuntimeError, match=want):
    jax.block_until_ready(external.denoiser(f)(draw(*SHAPE), 1.0))


def test_a_failure_on_one_device_is_said_and_leaves_the_devices_usable():
  x = draw(16, *SHAPE)
  x[5] = 7

  def some(x, sigma):
    return x[:1] if x.max() == 7 else x

  with pytest.raises(jax.errors.JaxRuntimeError, match=r"`.*some` returned float32 \(1, 3, 2, 2\)"):
    parallel.denoise(external.denoiser(some), x, 1.0)
  # A function that is new, since JAX keeps the failure for its exit until another program is compiled.
  np.testing.assert_array_equal(parallel.denoise(external.denoiser(lambda x, sigma: 2 * x), x, 1.0), 2 * x)


def test_refuses_what_is_no_function():
  unhashable = type("Unhashable", (), {"__call__": lambda self, x, sigma: x, "__hash__": None})()
  for f in (3, unhashable):
    with pytest.raises(ValueError, match="`f` is a "):
      external.denoiser(f)


GOOD = """
import numpy as np
import beside

def f(x, sigma):
  return beside.HALF * x

def g(x, sigma):
  return 0.5 * x
"""
WRONG = {
  "no such file": ("nowhere.py:f", "there is no file 'nowhere.py'"),
  "no name": ("good.py", "want FILE.py:NAME"),
  "not Python": ("good.txt:f", "want FILE.py:NAME"),
  "no such function": ("good.py:h", "good.py has f, g"),
  "fails when imported": ("broken.py:f", "broken.py fails with ZeroDivisionError"),
  "bad syntax": ("syntax.py:f", "syntax.py fails with SyntaxError"),
  "raises": ("wrong.py:raises", "KeyError: 'weights'"),
  "another shape": ("wrong.py:shape", r"returned float32 \(5, 1, 2, 2\)"),
  "no floats": ("wrong.py:integers", "returned int64"),
  "a level that its schedule lacks": ("wrong.py:eps", "`sigma` is 0.002, and the schedule of this network"),
  "NaN": ("wrong.py:nan", "returned NaN or infinity"),
  "chance": ("wrong.py:chance", "returned other values the second time"),
}
FILES = {
  "good.py": GOOD,
  "beside.py": "HALF = 0.5",
  "good.txt": GOOD,
  "broken.py": "1 / 0",
  "syntax.py": "def f(:",
  "wrong.py": """
import numpy as np
from gauss_diffusion.denoisers import parametrisations
eps = parametrisations.from_eps(lambda x_t, t: x_t, parametrisations.discrete([0.9999, 0.5, 0.0001]))
def raises(x, sigma): raise KeyError("weights")
def shape(x, sigma): return x[:, :1]
def integers(x, sigma): return x.astype(int)
def nan(x, sigma): return x * np.nan
def chance(x, sigma): return x + np.random.default_rng().normal(size=x.shape)
""",
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
  for name, text in FILES.items():
    (tmp_path / name).write_text(text)
  monkeypatch.chdir(tmp_path)
  return tmp_path


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_function_file_is_named_in_one_line(folder, case):
  place, named = WRONG[case]
  with pytest.raises(ValueError, match=named) as error:
    external.examined(place, SHAPE, LEVELS, of_jax=False)
  assert repr(place) in str(error.value) and "\n" not in str(error.value)


def test_a_function_file_becomes_a_denoiser_known_by_its_source_and_outputs(folder):
  denoise, digest = external.examined("good.py:f", SHAPE, LEVELS, of_jax=False)
  x = draw(*SHAPE)
  np.testing.assert_array_equal(denoise(x, 1.0), x / 2)
  assert external.examined("good.py:f", SHAPE, LEVELS, of_jax=False)[1] == digest
  (folder / "good.py").write_text(GOOD + "# a remark\n")
  changed = external.examined("good.py:f", SHAPE, LEVELS, of_jax=False)[1]
  # Weights that lie elsewhere: the source is the same, what it computes is not.
  (folder / "beside.py").write_text("HALF = 0.75")
  sys.modules.pop("beside")
  assert len({digest, changed, external.examined("good.py:f", SHAPE, LEVELS, of_jax=False)[1]}) == 3


def test_products_with_two_jacobians_are_refused(folder):
  (folder / "two.py").write_text(
    "from gauss_diffusion.denoisers.external import Differentiable\n"
    "f = Differentiable(lambda x, s: x / 2, lambda x, s, v: v / 2, lambda x, s, v: v / 2)\n"
    "g = Differentiable(lambda x, s: x / 2, lambda x, s, v: v / 2, lambda x, s, v: v / 3)\n"
    "h = Differentiable(lambda x, s: x / 2, lambda x, s, v: v[:1], lambda x, s, v: v / 2)\n"
  )
  denoise, _ = external.examined("two.py:f", SHAPE, LEVELS, of_jax=False)
  assert external.differentiable(denoise)
  for name, want in (("g", "are of no one Jacobian, .* differ by"), ("h", "ValueError: .*returned float32")):
    with pytest.raises(ValueError, match=want) as error:
      external.examined(f"two.py:{name}", SHAPE, LEVELS, of_jax=False)
    assert "\n" not in str(error.value)


def test_a_function_of_jax_has_derivatives(folder):
  denoise, digest = external.examined("good.py:g", SHAPE, LEVELS, of_jax=True)
  assert (
    digest != external.examined("good.py:g", SHAPE, LEVELS, of_jax=False)[1]
  )  # the same outputs, other questions
  np.testing.assert_allclose(jacobian.gain(denoise, draw(*SHAPE), jnp.float32(1.0), np.eye(D)), 0.5)
