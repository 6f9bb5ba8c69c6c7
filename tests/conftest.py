"""Every test runs on eight fake CPU devices, refuses implicit rank promotion, shares a compile cache."""

import os
import pathlib

import jax
import pytest

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_compilation_cache_dir", os.path.expanduser("~/.cache/gauss_diffusion/jax"))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)

REPOSITORY = pathlib.Path(__file__).parents[1]
SHARED = REPOSITORY.parent / "shared"


@pytest.fixture(autouse=True, scope="session")
def eight_devices():
  assert jax.device_count() == 8, "the suite must see eight fake devices"


@pytest.fixture
def x64():
  """Run the test in float64, for identities that hold to rounding."""
  with jax.enable_x64(True):
    yield
