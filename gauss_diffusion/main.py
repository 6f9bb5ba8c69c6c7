"""Run a study: train what is not yet trained, analyse what is not current, write the report.

    python -m gauss_diffusion.main --config=configs/digits.py --workdir=runs/digits

The same command again continues where it stopped, and a changed one does only what changed. Processes that
share a workdir can divide its models among them, each with ``--tasks=N --task=I``, I from 0 to N - 1; the
command without them gathers what they found. ``--dry_run`` checks everything, says all that is wrong and what
the study would cost, and computes nothing. Any field of a study is set as ``--config.FIELD=VALUE``.

Processes on many hosts are one run with ``--distributed``, which learns from SLURM, Open MPI, Kubernetes or a
TPU's metadata who belongs to it; or each with ``--coordinator=HOST:PORT --num_processes=N --process_id=I``.
"""

import contextlib
import difflib
import functools
import json
import math
import os
import pathlib
import re
import shlex
import sys
import textwrap
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import jax
from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags
from tqdm import tqdm

from gauss_diffusion import data, hosts, interrupts, results
from gauss_diffusion.command_line import prepare, printable, quiet_threads, refuse
from gauss_diffusion.denoisers import external
from gauss_diffusion.study import (
  check,
  classes,
  cost,
  counts,
  floats,
  pictures,
  pipeline,
  progress,
  rebuild,
  schema,
  subjects,
  workdir,
)

TEXT, QUIET, JSON = OUTPUTS = ("text", "quiet", "json")
FLAGS = flags.FLAGS
_WHILST = "Error whilst parsing config file"  # with which ml_collections begins a traceback in an error
config_flags.DEFINE_config_file("config", None, "A file in configs/, with :smoke for a quick look.")
flags.DEFINE_string("workdir", None, "Where the study keeps its networks, results and report.")
flags.DEFINE_enum(
  "output",
  TEXT,
  OUTPUTS,
  "What is said: all; quiet, the result and errors alone; json, the result or an estimate as one value.",
)
flags.DEFINE_integer("tasks", 1, "How many processes divide the study's models among them.", lower_bound=1)
flags.DEFINE_integer("task", 0, "Which of them this one is, from 0.", lower_bound=0)
flags.DEFINE_bool(
  "distributed", False, "This is one of several processes that are one run on all their devices."
)
flags.DEFINE_string(
  "coordinator", None, "Address of process 0 of such a run, HOST:PORT, where none is detected."
)
flags.DEFINE_integer("num_processes", None, "How many processes such a run has.", lower_bound=1)
flags.DEFINE_integer("process_id", None, "Which of them this one is, from 0.", lower_bound=0)
flags.DEFINE_bool("dry_run", False, "Check everything, say what it would cost, and compute nothing.")
flags.mark_flags_as_required(["config", "workdir"])


def parse(argv: list[str]) -> list[str]:
  """Parse the command line; an unknown or ill-typed field is refused like any other wrong input."""
  prepare(argv)
  if "--help" in argv:
    print(usage())
    sys.exit()
  try:
    rest = FLAGS(argv)
    FLAGS.config.lock()
  except (flags.Error, AttributeError, KeyError, TypeError, ValueError, SyntaxError, OSError) as reason:
    if _WHILST in str(reason):
      refuse(_located(_first(reason)))
    refuse(_unknown_field(reason, argv) if isinstance(reason, AttributeError | KeyError) else reason)
  except Exception as reason:  # a config file is code, in which anything may go wrong
    refuse(_located(reason))
  if rest[1:]:
    refuse(f"`{rest[1]}` is not an option; a field is set as --config.FIELD=VALUE")
  given = {name: FLAGS[name].value for name in ("coordinator", "num_processes", "process_id")}
  if lacking := [name for name, value in given.items() if value is None]:
    if len(lacking) < len(given):
      refuse(f"`--{lacking[0]}` is missing; want all of {', '.join(f'--{name}' for name in given)}, or none")
  elif FLAGS.process_id >= FLAGS.num_processes or not re.fullmatch(r".+:\d{1,5}", FLAGS.coordinator):
    refuse(
      f"`--process_id` is {FLAGS.process_id} of {FLAGS.num_processes}, `--coordinator` {FLAGS.coordinator}; "
      "want a number below --num_processes, and an address HOST:PORT"
    )
  return rest


def _first(reason: BaseException) -> BaseException:
  """Return the error in whose handling others were raised."""
  while reason.__context__ is not None:
    reason = reason.__context__
  return reason


def _unknown_field(reason: AttributeError | KeyError, argv: list[str]) -> str:
  """Return what is wrong with the option that sets a field which the study does not have."""
  lacking = re.findall(r"\b[A-Za-z_]\w*", str(reason))[:1]
  paths = [
    argument[len("--config.") :].split("=")[0] for argument in argv if argument.startswith("--config.")
  ]
  for path in paths:
    if lacking and lacking[0] in path.split("."):
      close = difflib.get_close_matches(path, [name for name, _ in schema.fields()], 1)
      hint = f"did you mean `{close[0]}`?" if close else "`--help` lists them all"
      return f"`--config.{path}`: a study has no field `{path}`; {hint}"
  return str(reason)


def _located(reason: BaseException) -> str:
  """Return what went wrong in a config file and where; of what is refused here, the reason alone."""
  place = traceback.extract_tb(reason.__traceback__)[-1]
  if isinstance(reason, ValueError) and pathlib.Path(__file__).parent in pathlib.Path(place.filename).parents:
    return str(reason)
  return f"`{place.filename}`, line {place.lineno}: {type(reason).__name__}: {reason}"


def usage() -> str:
  """Return what the command does, its options, and every field of a study with its default and meaning."""
  entries = [f"  {name} ({field.default!r}): {field.meaning}" for name, field in schema.fields()]
  wrapped = [textwrap.fill(entry, 100, subsequent_indent=" " * 6) for entry in entries]
  options = FLAGS.module_help(sys.modules[__name__])
  return "\n".join([f"{__doc__}{options}", "", "fields of a study (default): meaning", "", *wrapped])


def main(argv: list[str]) -> None:
  """Run the study; whatever ends it early is one line, and the same command continues."""
  command = shlex.join(["python", "-m", "gauss_diffusion.main", *sys.argv[1:]])
  interrupts.listen()
  quiet_threads()
  try:
    join(FLAGS.config, command)
    study(FLAGS.config, pathlib.Path(FLAGS.workdir), command)
  except interrupts.Interrupted as caught:
    print(f"stopped by {caught.signal.name}; this continues: {command}", file=sys.stderr)
    sys.exit(128 + caught.signal)
  except FloatingPointError as reason:
    sys.exit(f"error: {printable(reason)}")
  except (results.DamagedError, hosts.ElsewhereError, pictures.DecoderError, OSError) as reason:
    hosts.leave_if_lost(reason)
    refuse(reason)
  except Exception as reason:
    hosts.leave_if_lost(reason)
    if isinstance(reason, jax.errors.JaxRuntimeError) and (failure := external.failure(reason)):
      sys.unraisablehook = lambda _: None  # as it ends JAX says it once more
      refuse(f"a model's function failed, and results from before it are kept: {failure}")
    raise
  finally:
    hosts.leave()


def join(config: ConfigDict, command: str) -> None:
  """Choose devices, and become one of the processes of a run where there are several.

  Args:
    config: the study.
    command: that continues the run.
  """
  logging.set_verbosity(logging.FATAL)  # orbax tells its every move, and errors twice
  jax.config.update("jax_compilation_cache_dir", os.path.expanduser("~/.cache/gauss_diffusion/jax"))
  jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
  try:
    if "JAX_NUM_CPU_DEVICES" not in os.environ:
      jax.config.update("jax_num_cpu_devices", check.cpu_devices(config, FLAGS.num_processes or 1))
    if FLAGS.distributed or FLAGS.coordinator:
      hosts.join(FLAGS.coordinator, FLAGS.num_processes, FLAGS.process_id, command)
      fields = {f"config.{name}": value for name, value in results.leaves(config.to_dict())}
      flags_given = {name: FLAGS[name].value for name in ("workdir", "tasks", "task", "dry_run")}
      hosts.agree(flags_given | fields | {"versions": results.versions()})
    if FLAGS.output != TEXT or not hosts.first():
      tqdm.__init__ = functools.partialmethod(tqdm.__init__, disable=True)
  except (ValueError, OSError) as reason:
    refuse(reason)


def study(config: ConfigDict, folder: pathlib.Path, command: str) -> None:
  """Check everything, then compute, then show.

  Args:
    config: the study.
    folder: its working directory.
    command: that runs it.
  """
  start = time.monotonic()
  with contextlib.ExitStack() as kept:
    wrong: list[Exception] = []  # of a dry run, which goes on; any other ends at the first
    noted = functools.partial(_noted, wrong) if FLAGS.dry_run else contextlib.nullcontext
    try:
      with noted():
        check.check_text(config)
      left_out = floats.leave_out(config)
      loading = {name: value for name, value in config.data.items() if name != "decoder"}
      dataset = hosts.in_turn(functools.partial(data.load, **loading, seed=config.seed))
      hosts.agree({"data": dataset.fingerprint})
      with noted():
        check.check_images(dataset)
      classes.resolve(config, dataset.classes)
      shape, num_pool, num_classes = dataset.pool.shape[1:], len(dataset.pool), len(dataset.classes)
      num_held_out = classes.fewest_held_out(config, dataset)
      followed = counts.follow(config, math.prod(shape), num_held_out)
      for problem in check.problems(config, shape, num_pool, num_held_out, num_classes):
        with noted():
          raise ValueError(problem)
      if wrong:  # it is no study that anything else could be said of
        refuse(*wrong)
      with noted():
        check.check_devices(config, jax.device_count())
      models, shown = subjects.models(config, dataset, folder), None
      with noted():
        classes.check(config, models)
      with noted():
        shown = pictures.of(config.data.decoder, dataset)
      share = pipeline.share(models, FLAGS.task, FLAGS.tasks)
      loaded = subjects.functions(share, (config.sampler.sigma_min, config.sampler.sigma_max))
      if FLAGS.dry_run:
        stages = cost.estimate(config, models, len(dataset.held_out))
        if hosts.first() and FLAGS.output == JSON:
          print_json({"stages": [stage._asdict() for stage in stages]})
        elif hosts.first():
          print(cost.table(stages), cost.described(models), sep="\n")
      with noted():
        workdir.check(folder, models)
      memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
      with noted():
        cost.check(config, share, len(dataset.held_out), folder, memory)
      if FLAGS.dry_run:
        return refuse(*wrong) if wrong else None
      interrupts.check(hosts.anywhere(interrupts.asked()))
      hosts.alone(lambda: kept.enter_context(workdir.held(folder, share, FLAGS.tasks)))
      hosts.alone(lambda: workdir.take(folder, config, models, command))
    except (ValueError, OSError) as reason:
      refuse(*wrong, reason)

    begin: Callable[[str], None] = pipeline.unsaid
    aloud = FLAGS.output == TEXT
    if aloud and (left := progress.undone(share, folder)):
      progress.tell(progress.plan(config, dataset, share, left, left_out, followed))
      stages = progress.remaining(cost.estimate(config, share, len(dataset.held_out)), left)
      progress.tell(progress.price(stages))
      begin = progress.announcer(stages)
    with progress.compiling() if aloud else contextlib.nullcontext():
      pipeline.train_models(share, folder, dataset.held_out, begin)
      pipeline.analyse_models(config, dataset, share, loaded, folder, begin, shown)
    interrupts.check(hosts.anywhere(interrupts.asked()))
    hosts.alone(functools.partial(show, folder, begin))
    if aloud:
      progress.tell(f"done in {cost.amount(time.monotonic() - start, cost.SECONDS)}")


def show(folder: pathlib.Path, begin: Callable[[str], None]) -> None:
  """Write and print what a study found, or say what it still lacks.

  Args:
    folder: its working directory.
    begin: is told that the report is next.
  """
  if lacking := rebuild.lacking(folder):
    if FLAGS.output == JSON:
      return print_json({"lacking": lacking})
    return print(f"task {FLAGS.task} of {FLAGS.tasks} is done; not finished yet: {', '.join(lacking)}")
  begin(progress.REPORT)
  rebuild.rebuild(folder)
  if FLAGS.output == JSON:
    return print_json(rebuild.found(folder))
  print(rebuild.summary(folder), end="")


def print_json(value: dict[str, Any]) -> None:
  """Print one JSON value on one line."""
  print(json.dumps(value, allow_nan=False, ensure_ascii=False, default=float))


@contextlib.contextmanager
def _noted(wrong: list[Exception]) -> Iterator[None]:
  try:
    yield
  except (ValueError, OSError) as reason:
    wrong.append(reason)


if __name__ == "__main__":
  app.run(main, flags_parser=parse)
