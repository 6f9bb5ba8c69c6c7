"""What a denoiser says beyond the mean image, on the scale on which a network works.

A network ``D = c_skip x + c_out F`` (Karras et al. 2022, eq. 7) is trained to find F, whose target has unit
variance at every noise level. How much of one F another explains depends on what counts as nothing. Here it
is the F that doesn't look at its input and is right on average. A denoiser without bias has E[D] = μ over
noisy images, and so ``E[F] = (1 − c_skip) μ / c_out``: the null is ``D_0 = μ + c_skip (x − μ)``, c_skip x
that knows the mean. At high noise it is the mean image, at low noise the input. Against the mean image alone
whoever copies the input would have all that there is to explain at low noise, and against c_skip x alone
whoever knows the mean would have it at high noise.
"""

import chex
import numpy as np
from jaxtyping import Float

from gauss_diffusion.edm import Preconditioning
from gauss_diffusion.types import ArrayLike, Image


def excess(
  denoised: Float[ArrayLike, "*n H W C"],
  skipped: Float[ArrayLike, "*n H W C"],
  mean: Image,
  scale: Preconditioning,
) -> Float[np.ndarray, "*n H W C"]:
  """Return ``(D − D_0)/c_out`` of images: what a raw network says, less what the null says.

  Args:
    denoised: D(x), on the [-1, 1] scale.
    skipped: c_skip x of the same inputs.
    mean: of the images that the denoiser is held against, μ.
    scale: the network's at this noise level, of which c_skip and c_out are used.

  Returns:
    float64; of unit variance where D is a good denoiser and the noise is low.
  """
  chex.assert_equal_shape([denoised, skipped])
  null = np.asarray(skipped, np.float64) + (1 - float(scale.c_skip)) * np.asarray(mean, np.float64)
  return (np.asarray(denoised, np.float64) - null) / float(scale.c_out)


def gram(fields: Float[np.ndarray, "G n H W C"]) -> Float[np.ndarray, "n G G"]:
  """Return the inner products of G fields on each of n images, means over pixels: all that projections need.

  In float64, or where fields nearly agree nothing is left of their difference.
  """
  flat = np.asarray(fields, np.float64).reshape(*fields.shape[:2], -1)
  return np.einsum("gnd,hnd->ngh", flat, flat) / flat.shape[-1]
