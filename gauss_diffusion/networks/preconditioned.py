"""Wrap a raw network into a denoiser, by scalings of Karras et al. 2022 or what it predicts at a step."""

from typing import Literal

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Float

from gauss_diffusion import edm
from gauss_diffusion.denoisers import parametrisations
from gauss_diffusion.types import Array, ArrayLike

# What F predicts at a step of `parametrisations.trained_steps`, whose arguments are the constants.
PREDICTIONS = {
  "eps": parametrisations.from_eps,
  "v": parametrisations.from_v,
  "x0": parametrisations.from_x0,
}


class Preconditioned(nn.Module):
  """Denoiser ``D(x; sigma) = c_skip x + c_out F(c_in x; c_noise)``, x [N, H, W, C], sigma [N].

  Under one of `PREDICTIONS` F predicts noise, v or the image at a step of a schedule; levels outside of it
  are refused, and inside jit become NaN. F may put out more channels than an image has, as improved DDPM's
  does for its variance: the first count.
  F computes in the dtype of the image it is given, from a noise label that keeps the dtype of `x`.
  """

  model: nn.Module
  preconditioning: str = "edm"  # one of `edm.PRECONDITIONINGS` or `PREDICTIONS`
  constants: tuple[tuple[str, int | float | str], ...] = ()  # of its formula, such as sigma_data
  dtype: Literal["float32", "bfloat16"] = "float32"  # of F's activations, see `networks.compute`

  def __call__(
    self,
    x: Float[ArrayLike, "N H W C"],
    sigma: Float[ArrayLike, " N"],
    class_labels: Float[ArrayLike, "N L"] | None = None,
    augment_labels: Float[ArrayLike, "N A"] | None = None,
    train: bool = False,
  ) -> Float[Array, "N H W C"]:

    def raw(scaled, noise_label):
      inner = jnp.bfloat16 if self.dtype == "bfloat16" else x.dtype
      image = self.model(scaled.astype(inner), noise_label, class_labels, augment_labels, train)
      return image[..., : x.shape[-1]].astype(x.dtype)

    sigma = jnp.asarray(sigma, x.dtype)
    if self.preconditioning in PREDICTIONS:
      schedule = parametrisations.trained_steps(**dict(self.constants))  # type: ignore[arg-type]
      return PREDICTIONS[self.preconditioning](raw, schedule)(jnp.asarray(x), sigma)
    scalings = edm.PRECONDITIONINGS[self.preconditioning](sigma, **dict(self.constants))
    c_skip, c_out, c_in = (jnp.expand_dims(scaling, (1, 2, 3)) for scaling in scalings[:3])
    return c_skip * x + c_out * raw(c_in * x, scalings.c_noise)
