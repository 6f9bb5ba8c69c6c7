"""What a network is told beside the image: noise level, class and augmentation, as one vector."""

import flax.linen as nn
from jaxtyping import Float

from gauss_diffusion.networks import layers, unet
from gauss_diffusion.types import Array, ArrayLike

FREQUENCIES = 256  # length of the noise label's sinusoid


class Embedding(nn.Module):
  """Sum of the noise label's sinusoid through an MLP and linear maps of the other labels, [N, features].

  Any noise label will do: a logarithm of sigma, sigma itself, a time up to 1000.
  """

  features: int
  augment_dim: int
  label_dropout: float

  @nn.compact
  def __call__(
    self,
    noise_label: Float[ArrayLike, " N"],
    class_labels: Float[ArrayLike, "N L"] | None,
    augment_labels: Float[ArrayLike, "N A"] | None,
    train: bool,
  ) -> Float[Array, "N E"]:
    e = layers.positional_embedding(noise_label, FREQUENCIES)
    e = nn.silu(layers.Linear(self.features, name="map_layer0")(e))
    e = layers.Linear(self.features, name="map_layer1")(e)
    if class_labels is not None:
      if train and self.label_dropout:
        class_labels = unet.drop_labels(self.make_rng("dropout"), self.label_dropout, class_labels)
      e = e + layers.Linear(self.features, use_bias=False, name="map_label")(class_labels)
    if self.augment_dim and augment_labels is not None:
      e = e + layers.Linear(self.features, use_bias=False, name="map_augment")(augment_labels)
    return e
