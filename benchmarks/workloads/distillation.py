"""The best affine map of a trained network at one noise level: least squares, and gradient descent by Adam.

Ours sees a number of pairs and is done. Adam, at the best of several learning rates, which are tried out
beforehand, goes on until it denoises held-out inputs as the network does, as nearly as our map, or gives up.
"""

import functools
import json
import pathlib

import jax
import numpy as np

from benchmarks import images, network
from benchmarks.workload import Facts, Peer, Side, Size, Workload
from gauss_diffusion import distill, networks, parallel
from gauss_diffusion.study import schema
from gauss_diffusion.training import loop

SLACK = 1.02  # an error so many times ours is equal enough
RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
BATCH = 256  # of a step of Adam
BLOCK = 1024  # cached pairs that go into the moments at once
EVERY = 20  # steps of Adam between looks at its held-out error
HELD_OUT, PAIRS, ERROR = "held_out.npy", "pairs.npy", "error.json"  # what ours leaves in the folder


def training(size: Size) -> np.ndarray:
  """Return the images that the network is trained on and distilled with."""
  return images.made_up(size["images"], size["img_resolution"], size["img_channels"])


def held_out(size: Size) -> np.ndarray:
  """Return noisy images that no map is fitted to."""
  clean = images.made_up(size["held_out"], size["img_resolution"], size["img_channels"], seed=1)
  return images.noisy(clean, size["sigma"], seed=3)


def trained(size: Size, folder: pathlib.Path) -> dict:
  """Train the network, and leave its parameters in the folder."""
  train = schema.default().train
  settings = loop.Settings(*(train[field] for field in loop.Settings._fields))
  settings = settings._replace(steps=size["steps"], learning_rate=2e-3)
  net = network.create(size)
  card = {"network": networks.card(net)}
  params = loop.run(net, card, training(size), folder / "training", settings, seed=0, title="training")
  network.save(params, folder)
  return params


def ours(cached: bool, size: Size, folder: pathlib.Path) -> Side:
  """Return least squares: evaluations of the network included, or on pairs that are there already."""
  trained_network = networks.Trained(params=trained(size, folder), network=network.create(size))
  denoise = jax.tree_util.Partial(networks.denoise, trained_network)
  clean, level, x = training(size), size["sigma"], held_out(size)

  def evaluated(y: np.ndarray) -> np.ndarray:
    return np.stack([y, parallel.denoise(denoise, y, level)]).reshape(2, len(y), -1)

  pairs = evaluated(images.noisy(np.resize(clean, (size["pairs"], *clean.shape[1:])), level, seed=4))
  fresh = evaluated(x)
  np.save(folder / PAIRS, pairs)
  np.save(folder / HELD_OUT, fresh)

  def fit() -> tuple[np.ndarray, np.ndarray]:
    if cached:
      blocks = (np.array_split(part, len(part) // BLOCK + 1) for part in pairs)
      weight, bias, _ = distill.least_squares(zip(*blocks))
      return weight, bias
    maps, _ = distill.closed_form(denoise, clean, [level], jax.random.key(0), num_pairs=size["pairs"])
    return np.asarray(maps.weight[0]), np.asarray(maps.bias[0])

  def run() -> Facts:
    fit()
    return {"pairs": size["pairs"]}

  weight, bias = fit()
  error = np.sqrt(np.mean((fresh[0] @ weight.T + bias - fresh[1]) ** 2))
  (folder / ERROR).write_text(json.dumps(float(error)))
  return Side(run, lambda: fresh[1])


def adam(cached: bool, size: Size, folder: pathlib.Path) -> Side:
  """Return Adam in PyTorch, from the map that is zero."""
  import torch

  from benchmarks import torch_network

  denoiser, level = torch_network.load(size, folder, torch.channels_last).eval(), size["sigma"]
  on, aim = torch_network.DEVICE, SLACK * json.loads((folder / ERROR).read_text())
  pairs = torch.from_numpy(np.load(folder / PAIRS)).to(on)
  fresh = torch.from_numpy(np.load(folder / HELD_OUT)).to(on)
  clean = torch_network.images(training(size).astype(np.float32) / 127.5 - 1, torch.channels_last)

  @torch.inference_mode()
  def evaluated(y: "torch.Tensor") -> "torch.Tensor":
    return denoiser(y, torch.full((len(y),), level, device=on))

  def rows(x: "torch.Tensor") -> "torch.Tensor":
    return x.permute(0, 2, 3, 1).reshape(len(x), -1).clone()  # in our order of pixels

  def batch(step: int) -> tuple:
    if cached:
      index = torch.randint(pairs.shape[1], (BATCH,), device=on)
      return tuple(pairs[:, index])
    x0 = clean[torch.randint(len(clean), (BATCH,), device=on)]
    y = x0 + level * torch.randn_like(x0)
    return rows(y), rows(evaluated(y))

  def descend(rate: float, most: int) -> tuple[int, float]:
    affine = torch.nn.Linear(pairs.shape[2], pairs.shape[2], device=on)
    torch.nn.init.zeros_(affine.weight), torch.nn.init.zeros_(affine.bias)
    optimizer = torch.optim.Adam(affine.parameters(), lr=rate, fused=True)
    error = float("inf")
    for step in range(1, most + 1):
      y, target = batch(step)
      optimizer.zero_grad(set_to_none=True)
      torch.nn.functional.mse_loss(affine(y), target).backward()
      optimizer.step()
      if step % EVERY == 0 or step == most:
        with torch.no_grad():
          error = float((affine(fresh[0]) - fresh[1]).square().mean().sqrt())
        if error <= aim:
          break
    return step, error

  def tried(rate: float) -> tuple[bool, float]:
    steps, error = descend(rate, size["tried"])
    return (True, error) if error > aim else (False, steps)

  best = min(RATES, key=tried)  # the one that gets there first in a part of the steps, or comes nearest

  def run() -> Facts:
    steps, error = descend(best, size["most"])
    return {"pairs": steps * BATCH, "learning rate": best, "reached": float(error <= aim)}

  def answer() -> np.ndarray:
    x = np.load(folder / HELD_OUT)[0].reshape(held_out(size).shape)
    return rows(evaluated(torch_network.images(x, torch.channels_last))).cpu().numpy()

  return Side(run, answer)


def sized(side: int, width: int, sigma: float, steps: int, most: int) -> Size:
  """Return the size of a distillation, with four pairs for each coordinate."""
  return network.sized(side, 3, width, (1, 2, 2)) | {
    "images": 5000,
    "held_out": 512,
    "sigma": sigma,
    "steps": steps,
    "pairs": 4 * 3 * side**2,
    "tried": most // 4,
    "most": most,
  }


QUICK = (
  sized(8, 8, 0.5, 5, 40) | network.sized(8, 1, 8, (1, 2)) | {"images": 200, "held_out": 32, "pairs": 256}
)


def workload(title: str, cached: bool, full: Size, targets: tuple[float, float]) -> Workload:
  """Return a distillation with the network in it, or with its outputs cached for both."""
  peers = {"PyTorch, Adam": Peer("torch", functools.partial(adam, cached))}
  ours_first = functools.partial(ours, cached)
  return Workload(title, ours_first, peers, full, QUICK, tolerance=1e-3, targets=targets, rounds=3)


D_768, D_3072 = sized(16, 16, 0.5, 300, 6000), sized(32, 8, 0.5, 100, 2000)
PATIENT = D_3072 | {"tried": 1000, "most": 6000}  # where a step costs no network
WORKLOADS = {
  "distill_768": workload("Distillation to equal held-out error, d = 768", False, D_768, (10, 30)),
  "distill_3072": workload("Distillation to equal held-out error, d = 3072", False, D_3072, (10, 30)),
  "distill_768_cached": workload("The same on cached outputs, d = 768", True, D_768, (50, 200)),
  "distill_3072_cached": workload("The same on cached outputs, d = 3072", True, PATIENT, (50, 200)),
}
