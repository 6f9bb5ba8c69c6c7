"""Denoisers that have learned nothing: what a claim about learning has to tell a network from."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from gauss_diffusion import edm
from gauss_diffusion.denoisers.family import Family, Option
from gauss_diffusion.types import Array, Image, Images, Number, Sigma


def fit_mean(images: Images) -> Float[np.ndarray, "H W C"]:
  """Return the mean of images [N, H, W, C] on the [-1, 1] scale, float64 [H, W, C]."""
  mean = images.mean(axis=0, dtype=np.float64)
  return mean / 127.5 - 1 if images.dtype == np.uint8 else mean


def mean(record: Image, x: Image, sigma: Sigma) -> Float[Array, "H W C"]:
  """Return the mean image [H, W, C], whatever the input: the Gaussian denoiser of no variance."""
  return jnp.broadcast_to(jnp.asarray(record, x.dtype), x.shape)


def fit_skip(images: Images, *, sigma_data: float) -> float:
  """Return the constant of `skip`, which does not depend on the images."""
  return np.float64(sigma_data)


def skip(record: Number, x: Image, sigma: Sigma) -> Image:
  """Return ``c_skip(σ) x``, which EDM's network is before training (Karras et al. 2022, table 1)."""
  return edm.precondition(jnp.asarray(sigma, x.dtype), jnp.asarray(record, x.dtype)).c_skip * x


def fit_identity(images: Images) -> tuple[()]:
  """Return an empty record."""
  return ()


def identity(record: tuple[()], x: Image, sigma: Sigma) -> Image:
  """Return the noisy image [H, W, C] itself."""
  return x


MEAN = Family("mean", fit_mean, mean)
SKIP = Family(
  "c_skip x",
  fit_skip,
  skip,
  {
    "sigma_data": Option(
      edm.SIGMA_DATA, "standard deviation of pixels in c_skip, on the [-1, 1] scale", 1e-6, 1e6
    )
  },
)
IDENTITY = Family("identity", fit_identity, identity)
