"""Wrap a raw network into a denoiser by EDM's scalings (Karras et al. 2022, eq. 7)."""

import flax.linen as nn
import jax.numpy as jnp

from gauss_diffusion import edm


class Preconditioned(nn.Module):
  """Denoiser ``D(x; sigma) = c_skip x + c_out F(c_in x; c_noise)``, x [N, H, W, C], sigma [N]."""

  model: nn.Module
  sigma_data: float = edm.SIGMA_DATA

  def __call__(self, x, sigma, class_labels=None, augment_labels=None, train=False):
    c = edm.precondition(jnp.asarray(sigma, x.dtype), self.sigma_data)
    c_skip, c_out, c_in = (scaling[:, None, None, None] for scaling in (c.c_skip, c.c_out, c.c_in))
    return c_skip * x + c_out * self.model(c_in * x, c.c_noise, class_labels, augment_labels, train)
