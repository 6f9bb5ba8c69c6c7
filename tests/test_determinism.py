"""Other numbers of devices give the same numbers, as nearly as docs/determinism.md says.

The suite has eight devices; processes of their own have one and two. Same devices, same bits: that is in
test_loop.py, test_kills.py and test_damage.py.
"""

import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest

from gauss_diffusion import data, results
from gauss_diffusion.study import pipeline, schema, subjects
from gauss_diffusion.training import checkpoint

REPOSITORY = pathlib.Path(__file__).parents[1]
STEPS = 4
# The greatest difference over the greatest value that docs/determinism.md states: float32 sums in another
# order, of which Adam's division by the gradient's own size makes more in the weights.
STATED = {"weights": 1e-4, "loss": 1e-6, "cosine": 1e-6, "samples": 1e-5}


def work(folder, steps):
  """Train a small network for so many steps, from its checkpoint if there is one, and look at it."""
  config = schema.default()
  schema.shrink(config)
  config.network.name = "skip"  # the quickest to trace
  config.train.update({"batch": 16, "log_every": 1, "checkpoint_every": STEPS // 2, "flips": True})
  config.sampler.levels, config.linearity.levels = 3, 2
  config.analyses, config.samples.denoisers = ("linearity", "samples"), ("network",)
  schema.add_model(config, "net", 16).train.steps = steps
  dataset = data.load("digits", held_out=360, seed=0)
  models = subjects.models(config, dataset, folder)
  pipeline.train_models(models, folder)
  if steps == STEPS:
    pipeline.analyse_models(config, dataset, models, {}, folder)


def start(devices, *folders):
  environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
  return subprocess.Popen([sys.executable, __file__, str(devices), *map(str, folders)], env=environment)


def numbers(folder):
  found = results.open(folder)
  params = jax.tree.leaves(checkpoint.load_ema(folder, "net")[1])
  return {
    "weights": np.concatenate([leaf.ravel() for leaf in params]),
    "loss": found["training"]["net"].loss.to_numpy(),
    "cosine": found["linearity"]["net"].cosine.to_numpy(),
    "samples": found["samples"]["net"].samples.to_numpy(),
  }


@pytest.mark.processes
def test_one_two_and_eight_devices_and_one_run_on_two_numbers_of_them(tmp_path):
  one, two, eight, resumed = (tmp_path / name for name in ("one", "two", "eight", "resumed"))
  work(resumed, STEPS // 2)
  others = [start(1, one), start(2, two, resumed)]
  work(eight, STEPS)
  assert [process.wait(timeout=600) for process in others] == [0, 0]
  assert checkpoint.latest_step(resumed / "models" / "net") == STEPS
  want = numbers(eight)
  for folder in (one, two, resumed):
    for name, found in numbers(folder).items():
      apart = abs(found - want[name]).max() / abs(want[name]).max()
      print(folder.name, name, apart)
      assert apart <= STATED[name], (folder.name, name, apart)


if __name__ == "__main__":
  jax.config.update("jax_platforms", "cpu")
  jax.config.update("jax_num_cpu_devices", int(sys.argv[1]))
  jax.config.update("jax_compilation_cache_dir", os.path.expanduser("~/.cache/gauss_diffusion/jax"))
  jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
  for place in sys.argv[2:]:
    work(pathlib.Path(place), STEPS)
