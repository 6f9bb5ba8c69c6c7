"""A training step: the loss's gradient, Adam and the moving average, on images that are on the device."""

import functools
import pathlib

import flax
import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import images, network
from benchmarks.workload import Facts, Peer, Side, Size, Work, Workload
from gauss_diffusion import edm, networks, parallel
from gauss_diffusion.study import recipes
from gauss_diffusion.training import loop, train_state

RATE = 1e-3


def batch_of(size: Size) -> np.ndarray:
  """Return the clean images of a step, on the [-1, 1] scale."""
  pixels = images.made_up(size["batch"], size["img_resolution"], size["img_channels"])
  return pixels.astype(np.float32) / 127.5 - 1


def fixed(size: Size) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Return images, noise and noise levels at which sides compare gradients."""
  x0, rng = batch_of(size), np.random.default_rng(2)
  return x0, rng.standard_normal(x0.shape, np.float32), rng.uniform(0.1, 2, len(x0)).astype(np.float32)


def ours(size: Size, folder: pathlib.Path) -> Side:
  """Return the package's own step, over all devices."""
  train = recipes.start("", "").train
  settings = loop.Settings(*(train[field] for field in loop.Settings._fields))
  settings = settings._replace(batch=size["batch"], dtype=size["dtype"])
  net, params = network.create(size), network.parameters(size, folder)
  tx = train_state.optimizer(RATE, settings.rampup_images, settings.batch)
  computing = networks.compute(net, dtype=settings.dtype)
  step = parallel.replicated_step(
    functools.partial(loop.train_step, network=computing, tx=tx, settings=settings)
  )
  state = parallel.replicate(train_state.pack(train_state.create(params, tx)))
  keys = jax.random.split(jax.random.key(1), size["batch"])
  x0, keys = jax.device_put((parallel.shard(batch_of(size)), parallel.shard(keys)))

  def run() -> Facts:
    nonlocal state
    for _ in range(size["steps"]):
      state, info = step(state, x0, keys)
    jax.block_until_ready((state, info))
    return {}

  def answer() -> np.ndarray:
    clean, noise, sigma = fixed(size)

    def loss(params):
      x0_hat = computing.apply({"params": params}, clean + sigma[:, None, None, None] * noise, sigma)
      return jnp.mean(edm.loss_weight(sigma) * jnp.mean((x0_hat - clean) ** 2, (1, 2, 3)))

    gradient = flax.traverse_util.flatten_dict(jax.jit(jax.grad(loss))(params))
    return np.concatenate([np.ravel(gradient[path]) for path in sorted(gradient)])

  run()
  return Side(run, answer)


def theirs(layout: str, compiled: bool, size: Size, folder: pathlib.Path) -> Side:
  """Return the step as PyTorch's users write it, eager or compiled."""
  import torch

  from benchmarks import torch_network

  memory_format = getattr(torch, layout)
  denoiser = torch_network.load(size, folder, memory_format).train()
  denoise = torch.compile(denoiser) if compiled else denoiser
  on = torch_network.DEVICE
  if on == "cuda":
    torch.backends.cudnn.benchmark = True

  def loss_of(x0, noise, sigma):
    with torch.autocast(on, torch.bfloat16, enabled=size["dtype"] == "bfloat16"):
      x0_hat = denoise(x0 + sigma[:, None, None, None] * noise, sigma)
    weight = edm.loss_weight(sigma)
    return (weight * ((x0_hat - x0) ** 2).mean((1, 2, 3))).mean()

  def answer() -> np.ndarray:
    clean, noise, sigma = fixed(size)
    x0, eps = (torch_network.images(each, memory_format) for each in (clean, noise))
    loss_of(x0, eps, torch.from_numpy(sigma).to(on)).backward()
    names, parameters = torch_network.own_names(denoiser), dict(denoiser.named_parameters())
    paths = sorted(names, key=lambda path: path.split("."))
    found = []
    for path in paths:
      gradient = parameters[names[path]].grad
      assert gradient is not None
      found.append(torch_network.from_torch(path, gradient.float().cpu().numpy()).ravel())
    return np.concatenate(found)

  found = answer()
  average = [parameter.detach().clone() for parameter in denoiser.parameters()]
  adam = torch.optim.Adam(denoiser.parameters(), lr=RATE, fused=True)
  x0 = torch_network.images(batch_of(size), memory_format)

  def run() -> Facts:
    for _ in range(size["steps"]):
      adam.zero_grad(set_to_none=True)
      sigma = (edm.P_MEAN + edm.P_STD * torch.randn(len(x0), device=on)).exp()
      loss_of(x0, torch.randn_like(x0), sigma).backward()
      adam.step()
      with torch.no_grad():
        torch._foreach_lerp_(average, list(denoiser.parameters()), 1e-3)
    torch_network.wait()
    return {}

  run()
  return Side(run, lambda: found)


PEERS = {
  "PyTorch": Peer("torch", functools.partial(theirs, "contiguous_format", False)),
  "PyTorch, channels_last": Peer("torch", functools.partial(theirs, "channels_last", False)),
  "PyTorch, channels_last, compiled": Peer("torch", functools.partial(theirs, "channels_last", True), "gpu"),
}


def operations(size: Size) -> Work:
  """Return three times those of a forward pass: of it, and of the gradients to inputs and to parameters."""
  return Work(flops=3 * size["steps"] * size["batch"] * forward(size))


@functools.cache
def _forward(options: tuple) -> float:
  net = network.create(dict(options))
  side, channels = net.model.img_resolution, net.model.img_channels
  params = networks.shapes(net)
  x, sigma = (
    jax.ShapeDtypeStruct((1, side, side, channels), np.float32),
    jax.ShapeDtypeStruct((1,), np.float32),
  )
  counted = jax.jit(net.apply).lower({"params": params}, x, sigma).cost_analysis()
  assert isinstance(counted, dict)
  return float(counted["flops"])


def forward(size: Size) -> float:
  """Return the operations of a forward pass of one image, as the compiler counts them."""
  return _forward(tuple((name, size[name]) for name in network.OPTIONS))


def workload(title: str, full: Size, quick: Size, targets: tuple[float, float], **more) -> Workload:
  """Return a training step of a network."""
  return Workload(title, ours, PEERS, full, quick, operations, 1e-3, targets, **more)


# As many steps a turn as take seconds: memory that a pause has given back is slow to come, once.
QUICK = network.sized(8, 1, 8, (1, 2)) | {"batch": 8, "steps": 2, "dtype": "float32"}
SMALL = network.sized(32, 3, 32, (1, 2, 2), (16,)) | {"batch": 64, "steps": 6, "dtype": "float32"}
CIFAR = network.sized(32, 3, 32, (1, 2, 2), (16,)) | {"batch": 512, "steps": 20, "dtype": "bfloat16"}
LARGE = network.sized(32, 3, 128, (2, 2, 2), (16,), 4) | {"batch": 128, "steps": 20, "dtype": "bfloat16"}
WORKLOADS = {
  "train_32": workload("6 training steps, 32 × 32 × 3, 32 channels, batch 64", SMALL, QUICK, (1.1, 1.5)),
  "train_16": workload(
    "40 training steps, 16 × 16 × 3, 16 channels, batch 64",
    network.sized(16, 3, 16, (1, 2, 2)) | {"batch": 64, "steps": 40, "dtype": "float32"},
    QUICK,
    (1.2, 1.5),
  ),
  "train_8": workload(
    "100 training steps, 8 × 8, the network of digits, batch 64",
    network.sized(8, 1, 16, (1, 2)) | {"batch": 64, "steps": 100, "dtype": "float32"},
    QUICK,
    (2, 3),
  ),
  "train_cifar": workload(
    "20 training steps of `configs/cifar_small.py`, batch 512, bfloat16", CIFAR, QUICK, (1, 1.5), device="gpu"
  )._replace(tolerance=5e-2),
  "train_large": workload(
    "20 training steps of EDM's network for CIFAR-10, 56 million parameters, batch 128, bfloat16",
    LARGE,
    QUICK,
    (1, 1.5),
    device="gpu",
  )._replace(tolerance=5e-2),
}
