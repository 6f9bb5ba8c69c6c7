"""Scikit-learn's handwritten digits: 1797 grey images of 8x8 that come with the library."""

import pathlib

import numpy as np

from gauss_diffusion.data.pixels import Decoded, Fit, decoded


def decode(name: str, place: pathlib.Path, fit: Fit) -> Decoded:
  """Return all digits, their 17 grey levels spread over 0 to 255, and what they are."""
  from sklearn.datasets import load_digits  # takes a second to import

  digits = load_digits()
  pixels = np.round(digits.images * (255 / 16)).astype(np.uint8)[..., None]
  images = np.stack([fit(image) for image in pixels])
  ids = np.array([f"digit_{i:04d}" for i in range(len(images))])
  return decoded("digits", (images, ids), labels=(digits.target, None))
