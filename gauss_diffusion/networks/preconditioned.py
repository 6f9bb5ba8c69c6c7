"""Wrap a raw network into a denoiser by the scalings of Karras et al. 2022, eq. 7 and table 1."""

from typing import Literal

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Float

from gauss_diffusion import edm
from gauss_diffusion.types import Array, ArrayLike


class Preconditioned(nn.Module):
  """Denoiser ``D(x; sigma) = c_skip x + c_out F(c_in x; c_noise)``, x [N, H, W, C], sigma [N].

  F may put out more channels than an image has, as improved DDPM's does for its variance: the first count.
  F computes in the dtype of the image it is given, from a noise label that keeps the dtype of `x`.
  """

  model: nn.Module
  preconditioning: str = "edm"  # one of `edm.PRECONDITIONINGS`
  constants: tuple[tuple[str, int | float], ...] = ()  # of its formula, such as sigma_data
  dtype: Literal["float32", "bfloat16"] = "float32"  # of F's activations, see `networks.compute`

  def __call__(
    self,
    x: Float[ArrayLike, "N H W C"],
    sigma: Float[ArrayLike, " N"],
    class_labels: Float[ArrayLike, "N L"] | None = None,
    augment_labels: Float[ArrayLike, "N A"] | None = None,
    train: bool = False,
  ) -> Float[Array, "N H W C"]:
    scalings = edm.PRECONDITIONINGS[self.preconditioning](jnp.asarray(sigma, x.dtype), **dict(self.constants))
    c_skip, c_out, c_in = (jnp.expand_dims(scaling, (1, 2, 3)) for scaling in scalings[:3])
    inner = jnp.bfloat16 if self.dtype == "bfloat16" else x.dtype
    raw = self.model((c_in * x).astype(inner), scalings.c_noise, class_labels, augment_labels, train)
    return c_skip * x + c_out * raw[..., : x.shape[-1]].astype(x.dtype)
