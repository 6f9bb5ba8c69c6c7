"""Scikit-learn's handwritten digits: 1797 grey images of 8x8 that come with the library."""

import pathlib

import numpy as np

from gauss_diffusion.data.pixels import Decoded, Fit, decoded


def decode(name: str, place: pathlib.Path, fit: Fit) -> Decoded:
  """Return all digits, their 17 grey levels spread over 0 to 255."""
  from sklearn.datasets import load_digits  # takes a second to import

  pixels = np.round(load_digits().images * (255 / 16)).astype(np.uint8)[..., None]
  images = np.stack([fit(image) for image in pixels])
  return decoded("digits", (images, np.array([f"digit_{i:04d}" for i in range(len(images))])))
