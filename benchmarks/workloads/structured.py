"""Denoisers between the Gaussian and the memorizer, at one noise level: mixtures, windows, patches."""

import pathlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from benchmarks import images
from benchmarks.workload import Peer, Side, Size, Work, Workload, timed
from gauss_diffusion import parallel
from gauss_diffusion.denoisers import mixture
from gauss_diffusion.denoisers.local import patches, score_machines
from gauss_diffusion.denoisers.local.windows import Windows
from gauss_diffusion.types import ArrayLike, Denoiser, Pixels

SIGMA = np.float32(0.5)
BASIS = "basis.npy"
BLOCK = 4  # images whose windows PyTorch takes at a time: more is slower


def training(size: Size) -> Pixels:
  """Return the images that windows and patches come from."""
  return images.made_up(size["images"], size["side"], size["channels"])


def inputs(size: Size) -> np.ndarray:
  """Return noisy images that are none of those."""
  return images.noisy(images.made_up(size["batch"], size["side"], size["channels"], seed=1), float(SIGMA))


def ours(size: Size, denoise: Denoiser) -> Side:
  """Return a denoiser of the package, over all devices."""
  denoise, x = parallel.put(denoise), inputs(size)
  return timed(lambda: parallel.denoise(denoise, x, SIGMA, batch=len(x)))


def theirs(size: Size, solve: Callable[..., Any], *arrays: ArrayLike) -> Side:
  """Return PyTorch's side: a function of noisy images [B, H, W, C] and of arrays."""
  import torch

  from benchmarks.torch_network import DEVICE

  tensors = [torch.from_numpy(np.array(each)).to(DEVICE) for each in (inputs(size), *arrays)]

  @torch.inference_mode()
  def run() -> np.ndarray:
    return solve(*tensors).cpu().numpy()

  return timed(run)


def channels_first(pixels: Pixels) -> np.ndarray:
  """Return uint8 images [N, H, W, C] as PyTorch has them, float32 [N, C, H, W] on the [-1, 1] scale."""
  return np.moveaxis(pixels, -1, 1).astype(np.float32) / np.float32(127.5) - 1


def components(size: Size, basis: np.ndarray) -> mixture.Mixture:
  """Return a mixture of full rank, in one eigenbasis, whose components differ in means and variances."""
  rng, shape = np.random.default_rng(2), (size["components"], size["side"], size["side"], size["channels"])
  means = rng.normal(0, 0.05, shape).astype(np.float32)
  variances = -np.sort(-rng.uniform(0.001, 0.1, (len(means), len(basis))).astype(np.float32), axis=1)
  none = np.zeros(len(means), np.float32)
  return mixture.Mixture(none + 1 / len(means), means, np.stack([basis] * len(means)), variances, none)


def our_mixture(size: Size, folder: pathlib.Path) -> Side:
  """Return the package's mixture, and leave its eigenbasis in the folder."""
  normal = np.random.default_rng(3).standard_normal((size["side"] ** 2 * size["channels"],) * 2, np.float32)
  np.save(folder / BASIS, np.linalg.qr(normal)[0])
  return ours(size, jax.tree_util.Partial(mixture.denoise, components(size, np.load(folder / BASIS))))


def their_mixture(size: Size, folder: pathlib.Path) -> Side:
  """Return two products a component and the softmax of log-densities, nothing corrected."""
  import torch

  def solve(x, means, basis, variances):
    mean = means.flatten(1)[:, None]
    modes = torch.bmm(x.flatten(1) - mean, basis)
    noisy = (variances + float(SIGMA) ** 2)[:, None]
    log_density = -((modes**2 / noisy).sum(-1) + noisy.log().sum(-1)) / 2
    estimates = mean + torch.bmm(modes * (variances[:, None] / noisy), basis.mT)
    return torch.einsum("kb,kbd->bd", log_density.softmax(0), estimates).reshape(x.shape)

  found = components(size, np.load(folder / BASIS))
  return theirs(size, solve, found.means, found.basis, found.eigenvalues)


def our_windows(size: Size, folder: pathlib.Path) -> Side:
  """Return the package's ELS."""
  record = score_machines.Local(training(size), Windows((0.0,), (size["window"],)))
  return ours(size, jax.tree_util.Partial(score_machines.ELS_FAMILY.denoise, record))


def their_windows(size: Size, folder: pathlib.Path) -> Side:
  """Return expanded distances of all pairs of windows in blocks, with a running softmax."""
  import torch.nn.functional as F

  width = size["window"]

  def solve(x, y):
    batch, side, _, channels = x.shape
    padded = F.pad(x.movedim(-1, 1), (width // 2,) * 4, mode="circular")
    query = F.unfold(padded, width).movedim(0, 1).flatten(1)  # [K, B places]
    top, sums = (
      query.new_full((query.shape[1],), -float("inf")),
      query.new_zeros(channels + 1, query.shape[1]),
    )
    for some in y.split(BLOCK):
      windows = F.unfold(some, width).mT.flatten(0, 1)  # [m, K], channels slowest
      squares = (windows**2).sum(1, keepdim=True)
      logit = squares.addmm(windows, query, beta=-0.5).div_(float(SIGMA) ** 2)
      higher = top.maximum(logit.amax(0))
      weight = logit.sub_(higher).exp_()
      middle = windows[:, width**2 // 2 :: width**2]
      values = F.pad(middle, (1, 0), value=1.0)
      sums = (sums * (top - higher).exp()).addmm(values.T, weight)
      top = higher
    return (sums[1:] / sums[0]).reshape(channels, batch, side, side).permute(1, 2, 3, 0)

  return theirs(size, solve, channels_first(training(size)))


def our_patches(size: Size, folder: pathlib.Path) -> Side:
  """Return the package's square patches."""
  record = patches.Squares(training(size), Windows((0.0,), (size["window"],)))
  return ours(size, jax.tree_util.Partial(patches.denoise, record))


def their_patches(size: Size, folder: pathlib.Path) -> Side:
  """Return sums over patches as convolutions with ones, apart in rows and in columns, all images at once."""
  import torch
  import torch.nn.functional as F

  width = size["window"]

  def solve(x, y):
    down, along = y.new_ones(1, 1, width, 1), y.new_ones(1, 1, 1, width)

    def one(x):
      squares = ((x[None] - y) ** 2).sum(1, keepdim=True)
      squares = F.conv2d(F.conv2d(squares, down), along)
      weight = (squares / (-2 * float(SIGMA) ** 2)).softmax(0)
      weight = F.conv_transpose2d(F.conv_transpose2d(weight, along), down)
      return (weight * y).sum(0) / weight.sum(0)

    return torch.stack([one(each) for each in x.movedim(-1, 1)]).movedim(1, -1)

  return theirs(size, solve, channels_first(training(size)))


def products(size: Size) -> Work:
  """Return two products with every component's eigenbasis, and reading it once."""
  values = size["components"] * (size["side"] ** 2 * size["channels"]) ** 2
  return Work(4.0 * size["batch"] * values, 4.0 * values)


def pairs(size: Size) -> Work:
  """Return one product of all windows with all of a sample's, and that of their weights with the pixels."""
  windows = size["images"] * (size["side"] - size["window"] + 1) ** 2
  places = size["batch"] * size["side"] ** 2
  return Work(2.0 * windows * places * size["channels"] * (size["window"] ** 2 + 1), 0.0)


def maps(size: Size) -> Work:
  """Return the operations on every pixel of every image: differences, two sums over patches, a mean."""
  pixels = size["batch"] * size["images"] * size["side"] ** 2
  return Work(pixels * (5.0 * size["channels"] + 4 * (size["window"] - 1)), 0.0)


LOCAL = {"images": 1000, "side": 32, "channels": 3, "batch": 4, "window": 7}
LOCAL_QUICK = {"images": 20, "side": 8, "channels": 1, "batch": 2, "window": 3}
WORKLOADS = {
  "mixture": Workload(
    "Mixture of 10 Gaussians of full rank, d = 3072, batch 64, one level",
    our_mixture,
    {"PyTorch, float32": Peer("torch", their_mixture)},
    {"side": 32, "channels": 3, "batch": 64, "components": 10},
    {"side": 8, "channels": 1, "batch": 4, "components": 3},
    products,
    1e-3,
    (1.0, 1.2),
  ),
  "windows": Workload(
    "ELS, windows of 7 × 7 of 1,000 images of 32 × 32, batch 4, one level",
    our_windows,
    {"PyTorch, blocked": Peer("torch", their_windows)},
    LOCAL,
    LOCAL_QUICK,
    pairs,
    1e-3,
    (1.0, 2.0),
    rounds=3,
  ),
  "patches": Workload(
    "PSPC, patches of 7 × 7 of 1,000 images of 32 × 32, batch 4, one level",
    our_patches,
    {"PyTorch, convolutions": Peer("torch", their_patches)},
    LOCAL,
    LOCAL_QUICK,
    maps,
    1e-3,
    (1.0, 2.0),
  ),
}
