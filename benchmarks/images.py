"""Images that need no download: a photograph's spectrum, and near-duplicates as data sets have them."""

import numpy as np

TWINS = 100  # one image in so many is another one with a few pixels changed by one level


def made_up(count: int, side: int, channels: int, seed: int = 0) -> np.ndarray:
  """Return uint8 images [count, side, side, channels] whose power falls as 1/f², channels alike.

  Args:
    count: of images.
    side: height and width.
    channels: of an image.
    seed: decides all.
  """
  rng = np.random.default_rng(seed)
  frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(side), np.fft.rfftfreq(side), indexing="ij"))
  amplitude = 1 / np.maximum(frequency, 0.5 / side)
  images = np.empty((count, side, side, channels), np.uint8)
  for start in range(0, count, 1024):
    some = min(1024, count - start)
    white = rng.standard_normal((some, channels, side, side), np.float32)
    field = np.fft.irfft2(np.fft.rfft2(white) * amplitude, s=(side, side))
    field = field.mean(1, keepdims=True) + 0.3 * field  # what all channels share, and what each adds
    field *= 55 / field.std()
    images[start : start + some] = np.clip(np.moveaxis(field, 1, -1) + 120, 0, 255)
  twins = np.arange(TWINS, count, TWINS)
  images[twins] = images[twins - 1]
  pixels = rng.integers(0, images[0].size, (len(twins), 3))
  flat = images.reshape(count, -1)
  flat[twins[:, None], pixels] ^= 1
  return images


def noisy(images: np.ndarray, sigma: float, seed: int = 1) -> np.ndarray:
  """Return the images on the [-1, 1] scale plus Gaussian noise, float32."""
  noise = np.random.default_rng(seed).standard_normal(images.shape, np.float32)
  return images.astype(np.float32) / 127.5 - 1 + np.float32(sigma) * noise
