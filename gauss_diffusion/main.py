"""Run a study: train what is not yet trained, analyse what is not yet analysed, write the report.

    python -m gauss_diffusion.main --config=configs/digits.py --workdir=runs/digits

The same command again continues where it stopped.
"""

import os
import pathlib
import shlex
import sys

import jax
from absl import app, flags, logging
from ml_collections import config_flags

from gauss_diffusion import data, headline, pipeline, results, study

FLAGS = flags.FLAGS
config_flags.DEFINE_config_file("config", None, "A file in configs/, with :smoke for a quick look.")
flags.DEFINE_string("workdir", None, "Where the study keeps its networks, results and report.")
flags.mark_flags_as_required(["config", "workdir"])


def refuse(reason) -> None:
  """End with one line on what is wrong and exit code 2."""
  print(f"error: {' '.join(str(reason).split())}", file=sys.stderr)
  sys.exit(2)


def parse(argv: list[str]) -> list[str]:
  """Parse the command line; an unknown or ill-typed field is refused like any other wrong input."""
  try:
    rest = FLAGS(argv)
    FLAGS.config.lock()
  except (flags.Error, AttributeError, KeyError, TypeError, ValueError, OSError) as reason:
    refuse(reason)
  if rest[1:]:
    refuse(f"`{rest[1]}` is not an option; a field is set as --config.FIELD=VALUE")
  return rest


def main(argv: list[str]) -> None:
  """Check everything, then compute, then show."""
  config, workdir = FLAGS.config, pathlib.Path(FLAGS.workdir)
  logging.set_verbosity(logging.ERROR)  # orbax tells its every move
  jax.config.update("jax_compilation_cache_dir", os.path.expanduser("~/.cache/gauss_diffusion/jax"))
  jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
  jax.config.update("jax_num_cpu_devices", study.cpu_devices(config))
  try:
    dataset = data.load(**config.data, seed=config.seed)
    study.check(config, dataset.pool.shape[1:], len(dataset.pool), len(dataset.held_out))
    study.check_devices(config, jax.local_device_count())
    study.claim(workdir, config, dataset.fingerprint)
  except (ValueError, OSError) as reason:
    refuse(reason)

  models = pipeline.models(config, dataset, workdir)
  try:
    done = pipeline.train_models(config, models)
  except FloatingPointError as reason:
    sys.exit(f"error: {reason}")
  done += pipeline.analyse_models(config, dataset, models, workdir)
  report = workdir / "report.html"
  if done or not report.exists():
    command = shlex.join(["python", "-m", "gauss_diffusion.main", *sys.argv[1:]])
    report = pipeline.write_report(config, dataset, models, workdir, command)
  print(headline.table(results.read_json(workdir / "headline.json")))
  print(f"report: {report}")


if __name__ == "__main__":
  app.run(main, flags_parser=parse)
