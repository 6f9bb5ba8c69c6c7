"""Time a training step: ours, and that of EDM's own code in PyTorch, on the same network, alternating.

    python3 -m launch.train_step --edm=.edm

The folder `--edm` is a checkout of NVlabs/edm, or its folders `training`, `torch_utils` and `dnnlib`; without
it only ours is timed. A step is the loss's gradient, Adam and the moving average, on images on the device.
"""

import argparse
import functools
import pathlib
import statistics
import sys
import time
from collections.abc import Callable

import jax
import numpy as np

from gauss_diffusion import networks, parallel
from gauss_diffusion.study import recipes
from gauss_diffusion.training import loop, train_state

SMALL = {"model_channels": 32, "channel_mult": (1, 2, 2), "num_blocks": 1, "attn_resolutions": (16,)}
LARGE = {"model_channels": 128, "channel_mult": (2, 2, 2), "num_blocks": 4, "attn_resolutions": (16,)}
SIZES = {"small": (SMALL, 32, 512), "large": (LARGE, 32, 128), "smoke": (SMALL | {"model_channels": 8}, 8, 8)}
ROUNDS, STEPS = 5, 10  # medians are over rounds, each of so many steps of either


def ours(options: dict, size: int, batch: int, dtype: str) -> Callable[[], None]:
  """Return what makes `STEPS` steps of ours and waits for them."""
  train = recipes.start("", "").train
  settings = loop.Settings(*(train[field] for field in loop.Settings._fields))
  settings = settings._replace(batch=batch, dtype=dtype)
  network = networks.create("ddpmpp", img_resolution=size, img_channels=3, **options)
  tx = train_state.optimizer(settings.learning_rate, settings.rampup_images, batch)
  computing = networks.compute(network, dtype=dtype)
  step = functools.partial(loop.train_step, network=computing, tx=tx, settings=settings)
  compiled = parallel.replicated_step(step)
  fresh = train_state.create(networks.init(network, jax.random.key(0)), tx)
  state = parallel.replicate(train_state.pack(fresh))
  images = np.random.default_rng(0).uniform(-1, 1, (batch, size, size, 3)).astype(np.float32)
  x0, keys = jax.device_put(
    (parallel.shard(images), parallel.shard(jax.random.split(jax.random.key(1), batch)))
  )

  def run() -> None:
    nonlocal state
    for _ in range(STEPS):
      state, info = compiled(state, x0, keys)
    jax.block_until_ready((state, info))

  return run


def theirs(folder: pathlib.Path, options: dict, size: int, batch: int, dtype: str) -> Callable[[], None]:
  """Return what makes `STEPS` steps of EDM's and waits for them."""
  sys.path.insert(0, str(folder))
  import torch
  from training.loss import EDMLoss
  from training.networks import EDMPrecond

  torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
  torch.backends.cudnn.benchmark = True
  changes = {"model_type": "SongUNet", "dropout": 0.0} | options
  changes |= {name: list(value) for name, value in options.items() if isinstance(value, tuple)}
  network, loss = EDMPrecond(size, 3, **changes).cuda().train(), EDMLoss()
  average = [parameter.detach().clone() for parameter in network.parameters()]
  adam = torch.optim.Adam(network.parameters(), lr=1e-3)
  x0 = torch.rand(batch, 3, size, size, device="cuda") * 2 - 1

  def run() -> None:
    for _ in range(STEPS):
      adam.zero_grad(set_to_none=True)
      with torch.autocast("cuda", torch.bfloat16, enabled=dtype == "bfloat16"):
        error = loss(network, x0).mean()
      error.backward()
      adam.step()
      with torch.no_grad():
        torch._foreach_lerp_(average, list(network.parameters()), 1e-3)
    torch.cuda.synchronize()

  return run


def main() -> None:
  """Print milliseconds a step and images a second."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--edm", type=pathlib.Path, help="folder with EDM's code")
  parser.add_argument("--sizes", default="small,large", help=f"of {', '.join(SIZES)}")
  args = parser.parse_args()
  print(f"on {jax.devices()[0].device_kind}, jax {jax.__version__}")
  for name in args.sizes.split(","):
    for dtype in ("float32", "bfloat16"):
      runs = {"ours": ours(*SIZES[name], dtype)}
      if args.edm:
        runs["EDM in PyTorch, eager"] = theirs(args.edm, *SIZES[name], dtype)
      for who, seconds in alternating(runs).items():
        rate = SIZES[name][2] / seconds
        print(f"{name}, {dtype}: {who} {1e3 * seconds:.3g} ms a step, {rate:,.0f} images/s", flush=True)


def alternating(runs: dict[str, Callable[[], None]]) -> dict[str, float]:
  """Return the median seconds of a step of each, the first round left out: it compiles."""
  taken: dict[str, list[float]] = {who: [] for who in runs}
  for _ in range(1 + ROUNDS):
    for who, run in runs.items():
      start = time.perf_counter()
      run()
      taken[who].append((time.perf_counter() - start) / STEPS)
  return {who: statistics.median(each[1:]) for who, each in taken.items()}


if __name__ == "__main__":
  main()
