"""Handwritten digits: 1797 grey images of 8x8 that come with the package.

They are the test set of E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine
Learning Repository, 1998 (CC BY 4.0), in scikit-learn's copy: every line has an image and its digit.
"""

import pathlib

import numpy as np

from gauss_diffusion.data.pixels import Decoded, Fit, decoded

FILE = pathlib.Path(__file__).with_suffix(".csv.gz")


def decode(name: str, place: pathlib.Path, fit: Fit) -> Decoded:
  """Return all digits, their 17 grey levels spread over 0 to 255, and what they are."""
  rows = np.loadtxt(FILE, np.int64, delimiter=",")
  levels, digits = rows[:, :-1].reshape(-1, 8, 8, 1), rows[:, -1]
  images = np.stack([fit(image) for image in np.round(levels * (255 / 16)).astype(np.uint8)])
  ids = np.array([f"digit_{i:04d}" for i in range(len(images))])
  return decoded("digits", (images, ids), labels=(digits, None))
