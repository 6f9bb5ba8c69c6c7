"""Whatever comes in: a right result, or one line that says what is wrong; nothing executed, nothing left."""

import contextlib
import io
import json
import os
import pickletools
import sys
import tempfile
import zipfile

import forge
import hostile
import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, assume, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from gauss_diffusion import data, importers, results
from gauss_diffusion.command_line import MOST, printable
from gauss_diffusion.importers import pickles
from gauss_diffusion.study import check, schema

# The same examples everywhere and every time: what fails, fails again.
ALIKE = settings(
  derandomize=True,
  database=None,
  deadline=None,
  max_examples=80,
  phases=(Phase.explicit, Phase.generate),
  suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
ACTS = ("os.system", "os.exec", "subprocess.Popen", "pickle.find_class", "socket.connect")
acted: list[str] | None = None  # what Python's audit saw, while someone listens


def _listen(event, arguments):
  if acted is not None and event in ACTS:
    acted.append(event)


sys.addaudithook(_listen)  # it can't be taken away again, and does nothing outside of `harmless`


@contextlib.contextmanager
def harmless():
  """Work in an empty folder; nothing may be executed there, and what may be written is cache."""
  global acted
  here = os.getcwd()
  with tempfile.TemporaryDirectory() as folder:
    os.chdir(folder)
    acted = []
    try:
      yield
      assert not acted and not set(os.listdir()) - {"given", "cache"}
    finally:
      acted = None
      os.chdir(here)


def or_refused(function, *arguments, **options):
  """Return what a function returns, or None where it refuses properly; any other error is raised."""
  try:
    return function(*arguments, **options)
  except ValueError as reason:
    text = str(reason)
    assert "`" in text and "\n" not in text and len(text) < 2 * MOST
    return None


def damaged(whole: bytes):
  """Strategy: bytes with a few changed, cut off, taken out or put in."""
  places = st.integers(0, len(whole) - 1)

  def apply(edits, cut):
    changed = bytearray(whole)
    for kind, place, content in edits:
      at = min(place, len(changed))
      changed[at : at + (len(content) if kind == "change" else 0)] = content if kind != "drop" else b""
      if kind == "drop":
        del changed[at : at + len(content)]
    return bytes(changed[: len(changed) - cut])

  edits = st.tuples(st.sampled_from(["change", "insert", "drop"]), places, st.binary(min_size=1, max_size=8))
  return st.builds(apply, st.lists(edits, max_size=4), st.just(0) | st.integers(0, len(whole)))


@given(st.text() | st.text("\x1b\x07\r\n\u202e\ud800a"), st.integers(2, 300))
@ALIKE
def test_text_is_one_printable_line(text, most):
  shown = printable(text, most)
  assert shown.isprintable() and len(shown) <= 10 * most + 3 and printable(shown, 10 * most + 3) == shown


# Config values


def study():
  made = schema.default()
  schema.shrink(made)
  for size in (16, 1437):
    schema.add_model(made, f"n{size}", size)
  return made


FIELDS = [field for field, _ in results.leaves(study().to_dict()) if field.partition(".")[0] != "data"]
NUMBERS = st.integers() | st.integers(-(10**40), 10**40) | st.floats() | st.sampled_from([0, 1, 2, 3])
TEXT = st.text(max_size=300) | st.sampled_from(
  ["network", "gaussian", "linearity", "~", "/", "..", "size", "adm"]
)
VALUES = (
  NUMBERS | TEXT | st.booleans() | st.lists(NUMBERS | TEXT | st.tuples(TEXT, TEXT), max_size=4).map(tuple)
)


@given(st.sampled_from(FIELDS), VALUES)
@settings(ALIKE, max_examples=300)
@example("linearity.alpha2", ("a",))
@example("models.n16.checkpoint", "x" * 300)
@example("models.n16.checkpoint", "\x00")
@example("models.n16.function", "x" * 300 + ".py:f")
@example("models.n16.function", "\x00.py:f")
@example("descent.sigmas", (True, "a"))
@example("input_law.denoisers", (-24, -24))
@example("score_gap.pairs", (True,))
def test_any_value_of_any_field_passes_or_is_refused(field, value):
  config = study()
  config.analyses = tuple(name for name in ("distillation", "linearity", "gain", "samples", "score_gap"))
  if (section := field.partition(".")[0]) in schema.analyses.ANALYSES:
    config.analyses = ("distillation", section) if section != "distillation" else (section,)
  *sections, leaf = field.split(".")
  place = config
  for name in sections:
    place = place[name]
  try:
    place[leaf] = value
  except (TypeError, ValueError):  # of another type than the field's: the command line says so
    assume(False)
  with contextlib.suppress(OSError):  # a path that is too long, which commands answer in one line too
    or_refused(check.check, config, (8, 8, 1), 1437, 360)


@given(
  held_out=st.integers(-5, 10**20),
  size=st.integers(),
  seed=st.integers(-(10**30), 10**30),
  # No text that names a folder of this machine: a whole disk is long to look through.
  path=st.text(st.characters(exclude_characters="/.~"), max_size=300)
  | st.sampled_from(["~x/y", "given.zip", "/dev/null", "\x00", "a" * 5000, "a/../b"]),
)
@ALIKE
def test_any_options_of_data_pass_or_are_refused(held_out, size, seed, path):
  with harmless():
    or_refused(data.load, "files", path=path, held_out=held_out, size=size, seed=seed, cache="cache")


# Files


def encoded(kind):
  file = io.BytesIO()
  pixels = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
  Image.fromarray(pixels).save(file, kind)
  return file.getvalue()


ENCODED = {kind: encoded(kind) for kind in data.pixels.FORMATS}


@given(st.one_of(*map(damaged, ENCODED.values())) | st.binary(max_size=300))
@settings(ALIKE, max_examples=300)
def test_any_image_file_is_read_or_refused(content):
  with harmless():
    found = or_refused(data.pixels.open_image, content, "odd.png", upright=True)
  if found is not None:
    assert found.dtype == np.uint8 and found.ndim == 3 and found.shape[2] in (1, 3)
    assert found.size <= 3 * data.pixels.MAX_PIXELS


def zipped(**members):
  file = io.BytesIO()
  with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
    for name, content in members.items():
      archive.writestr(name.replace("_", "."), content)
  return file.getvalue()


def saved(write, *arrays, **named):
  file = io.BytesIO()
  write(file, *arrays, **named)
  return file.getvalue()


PIXELS = np.random.default_rng(0).integers(0, 256, (4, 6, 6, 1), dtype=np.uint8)
SOURCES = {
  "given.npy": saved(np.save, PIXELS),
  "given.npz": saved(np.savez_compressed, train_x=PIXELS, test_x=PIXELS[:2], train_idx=np.arange(4)),
  "given.zip": zipped(a_png=hostile.png(), b_png=hostile.png(), c_png=ENCODED["BMP"]),
}


@pytest.mark.parametrize("name", SOURCES)
def test_any_array_or_archive_is_read_or_refused(name):
  @given(damaged(SOURCES[name]) | st.binary(max_size=300))
  @ALIKE
  def holds(content):
    with harmless():
      os.mkdir("given")
      with open(f"given/{name}", "wb") as file:
        file.write(content)
      found = or_refused(data.load, "files", path=f"given/{name}", held_out=1, cache="cache")
      assert os.listdir("given") == [name]
    if found is not None:
      assert found.pool.dtype == np.uint8 and found.pool.ndim == 4 and len(found.held_out) == 1
      assert len(found.pool) == len(found.pool_ids)

  holds()


@given(st.integers(0, 2**64), st.sampled_from(["|u1", "<f8", "|O", "<U9", "[('a','<i4')]", "|V0"]), st.data())
@ALIKE
def test_any_claim_of_an_array_is_held_against_the_file(size, dtype, draw):
  shape = draw.draw(st.lists(st.integers(-3, 2**64) | st.just(size), max_size=5).map(tuple))
  header = (
    f"{{'descr': {dtype if dtype[0] == '[' else repr(dtype)}, 'fortran_order': False, 'shape': {shape}}}"
  )
  content = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + bytes(99)
  with harmless():
    os.mkdir("given")
    for name, whole in (("x.npy", content), ("x.npz", zipped(x_npy=content))):
      with open(f"given/{name}", "wb") as file:
        file.write(whole)
      or_refused(data.load, "files", path=f"given/{name}", held_out=1, cache="cache")


# Pickles

SNAPSHOT = forge.dumps(
  {
    "ema": forge.network(
      {"w": np.ones((3, 2), np.float32), "inner.b": np.zeros(2, np.float16)}, {"img_resolution": 8}
    )
  }
)


def instruction(opcode):
  """Strategy: an instruction of Python's stack machine with any argument."""
  if opcode.arg is None:
    return st.just(opcode.code.encode("latin1"))
  if opcode.arg.n > 0:
    argument = st.binary(min_size=opcode.arg.n, max_size=opcode.arg.n)
  elif opcode.arg.n == pickletools.UP_TO_NEWLINE:
    words = st.sampled_from([*pickles.CALLS, "os.system", "builtins.eval", "torch.FloatStorage"])
    lines = words.map(lambda name: "\n".join(name.rsplit(".", 1))).map(str.encode)
    argument = lines.map(lambda line: line + b"\n")
  else:
    width = {pickletools.TAKEN_FROM_ARGUMENT1: 1, pickletools.TAKEN_FROM_ARGUMENT4: 4}.get(opcode.arg.n, 4)
    width = 8 if opcode.arg.n == pickletools.TAKEN_FROM_ARGUMENT8U else width
    argument = st.binary(max_size=20).map(lambda text: len(text).to_bytes(width, "little") + text)
  return argument.map(lambda content: opcode.code.encode("latin1") + content)


OPCODES = [opcode for opcode in pickletools.opcodes if opcode.name not in ("STOP", "PROTO")]
PROGRAMS = st.lists(st.sampled_from(OPCODES).flatmap(instruction), max_size=30).map(
  lambda them: b"".join(them) + b"."
)


@given(damaged(SNAPSHOT) | PROGRAMS | st.binary(max_size=200))
@settings(ALIKE, max_examples=400)
def test_any_pickle_is_data_or_refused(program):
  with harmless():
    os.mkdir("given")
    with open("given/file.pkl", "wb") as file:
      file.write(program)
    or_refused(pickles.read, "given/file.pkl")
    or_refused(importers.load, "given/file.pkl")


# Cards


@pytest.fixture(scope="module")
def card(tmp_path_factory):
  path = tmp_path_factory.mktemp("result") / "found"
  results.save(path, None, {"inputs": {"seed": 0, "sigmas": [0.1, 1.0]}, "model": "Σ"})
  return path, path.with_suffix(".json").read_bytes(), results.read_card(path)


def test_any_damage_to_a_card_is_noticed(card):
  path, whole, want = card

  @given(
    damaged(whole) | st.binary(max_size=100) | st.sampled_from([b"[" * 10**5, b"{}", b"[1]", b"null", b"1"])
  )
  @settings(ALIKE, max_examples=150)
  def holds(content):
    path.with_suffix(".json").write_bytes(content)
    found = or_refused(results.read_card, path)
    assert found is None or found == want

  holds()


LINES = b"".join(json.dumps({"step": i, "loss": 1 / (i + 1)}).encode() + b"\n" for i in range(5))


@given(damaged(LINES) | st.binary(max_size=100) | st.just(b"[" * 10**5 + b"\n"))
@ALIKE
def test_any_metrics_are_columns_or_refused(content):
  with harmless():
    with open("given", "wb") as file:
      file.write(content)
    found = or_refused(results.read_metrics, "given")
  if found:
    assert len({len(column) for column in found.values()}) == 1
