"""Pixels become numbers and come back unchanged."""

import jax.numpy as jnp
import numpy as np

from gauss_diffusion import images


def test_to_float_maps_the_pixel_range_onto_minus_one_to_one_and_back():
  pixels = np.arange(256, dtype=np.uint8)
  x = images.to_float(pixels)
  assert x.dtype == np.float32 and x[0] == -1 and x[255] == 1
  # float32 against float64: three roundings of numbers up to 2.
  np.testing.assert_allclose(x, np.arange(256) / 127.5 - 1, rtol=0, atol=3e-7)
  np.testing.assert_array_equal(images.to_uint8(x), pixels)
  np.testing.assert_array_equal(images.to_uint8(np.float32([-7, -1.001, 1.001, 7])), [0, 0, 255, 255])
  on_device = images.to_float(jnp.asarray(pixels))
  assert on_device.dtype == jnp.float32
  np.testing.assert_array_equal(images.to_uint8(on_device), pixels)


def test_floats_are_on_the_scale_already():
  x = np.float32([-7, -1, 0.1, 3])
  np.testing.assert_array_equal(images.to_float(x), x)
  assert images.to_float(x.astype(np.float64)).dtype == np.float32
