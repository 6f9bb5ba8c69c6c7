"""How a network's Jacobian acts along fifty directions, at some images: products with these, or all of it."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import images, network
from benchmarks.workload import Peer, Side, Size, Work, Workload, timed
from benchmarks.workloads import training
from gauss_diffusion import networks
from gauss_diffusion.probes import jacobian

SIGMA = 0.5


def points(size: Size) -> np.ndarray:
  """Return noisy images [n, H, W, C], which sides take one after the other."""
  return images.noisy(images.made_up(size["points"], size["img_resolution"], size["img_channels"]), SIGMA)


def directions(size: Size) -> np.ndarray:
  """Return orthonormal rows [K, D]."""
  dimension = size["img_resolution"] ** 2 * size["img_channels"]
  return jacobian.random_probes(1, dimension, size["directions"], seed=0)[0].astype(np.float32)


def ours(size: Size, folder: pathlib.Path) -> Side:
  """Return the package's probe: forward products with the directions."""
  trained = networks.Trained(params=network.parameters(size, folder), network=network.create(size))
  denoise, rows, xs = jax.tree_util.Partial(networks.denoise, trained), directions(size), points(size)
  gain = jax.jit(jacobian.gain)
  return timed(lambda: np.stack([gain(denoise, x, SIGMA, rows) for x in xs]))


def full(size: Size, folder: pathlib.Path) -> Side:
  """Return all of the Jacobian by JAX, forward, in chunks of as many columns as ours has directions."""
  net, rows, xs = network.create(size), directions(size), jnp.asarray(points(size))
  params = jax.tree.map(jnp.asarray, unflatten(network.load(folder)))
  dimension, shape = xs[0].size, xs[0].shape
  pad = -dimension % len(rows)
  basis = jnp.concatenate([jnp.eye(dimension), jnp.zeros((pad, dimension))]).reshape(-1, len(rows), dimension)

  @jax.jit
  def gains(params, x, basis):
    def flat(x):
      return jnp.ravel(net.apply({"params": params}, x.reshape(1, *shape), jnp.full(1, SIGMA)))  # type: ignore[arg-type]

    def columns(some):
      return jax.vmap(lambda v: jax.jvp(flat, (x.reshape(-1),), (v,))[1])(some)

    transposed = jax.lax.map(columns, basis).reshape(-1, dimension)[:dimension]
    return jnp.sum(rows * jnp.matmul(rows, transposed), 1)

  return timed(lambda: np.stack([gains(params, x, basis) for x in xs]))


def unflatten(params: dict[str, np.ndarray]) -> dict:
  """Return parameters by path as the tree that they are of."""
  import flax

  return flax.traverse_util.unflatten_dict({tuple(path.split(".")): leaf for path, leaf in params.items()})


def theirs(size: Size, folder: pathlib.Path) -> Side:
  """Return all of the Jacobian by PyTorch, row by row in a batch."""
  import torch

  from benchmarks import torch_network

  denoiser, rows = torch_network.load(size, folder).eval(), directions(size)
  height, width, channels = points(size)[0].shape

  def gains(x: torch.Tensor) -> np.ndarray:
    sigma = torch.full((1,), SIGMA, device=x.device)
    # Copies of the image in a batch, each with a cotangent of its own: one backward pass for as many rows.
    found = []
    for start in range(0, x.numel(), len(rows)):
      count = min(len(rows), x.numel() - start)
      copies = x.repeat(count, 1, 1, 1).requires_grad_()
      cotangent = torch.zeros(count, x.numel(), device=x.device)
      cotangent[torch.arange(count), torch.arange(start, start + count)] = 1
      out = denoiser(copies, sigma.repeat(count))
      found.append(torch.autograd.grad(out, copies, cotangent.reshape(out.shape))[0].reshape(count, -1))
    matrix = torch.cat(found).cpu().numpy()
    flat = np.moveaxis(rows.reshape(-1, height, width, channels), -1, 1).reshape(len(rows), -1)
    return np.sum(flat * (flat @ matrix.T), 1)

  xs = [torch_network.images(x[None]) for x in points(size)]
  return timed(lambda: np.stack([gains(x) for x in xs]))


def operations(size: Size) -> Work:
  """Return those of a forward pass for each direction."""
  return Work(flops=size["points"] * size["directions"] * training.forward(size))


WORKLOADS = {
  "jacobian": Workload(
    "Jacobian at 10 images, d = 768: 50 directions, against all of it",
    ours,
    {"JAX, all of it": Peer("jax", full), "PyTorch, all of it": Peer("torch", theirs)},
    network.sized(16, 3, 16, (1, 2, 2)) | {"directions": 50, "points": 10},
    network.sized(8, 1, 8, (1, 2)) | {"directions": 8, "points": 2},
    operations,
    1e-3,
    (12, 14),
    rounds=3,
  )
}
