"""What torch writes is read exactly; whatever else a pickle can do is refused by name and does nothing."""

import collections
import copyreg
import os
import pathlib
import pickle
import time
import zipfile

import forge
import numpy as np
import pytest

from gauss_diffusion.importers import pickles

NUMBERS = np.arange(24, dtype=np.float32)


def read(tmp_path, data):
  path = tmp_path / "file.pkl"
  path.write_bytes(data if isinstance(data, bytes) else forge.dumps(data))
  return pickles.read(path)


def array(tmp_path, tensor):
  found = read(tmp_path, tensor)
  return pickles.arrays(tmp_path / "file.pkl", {"it": found})["it"]


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_plain_data_comes_back(tmp_path, protocol):
  shared = ["twice"]
  data = {"a": [None, True, False, 0, -1, 300, 2**40, -(2**70), 0.5], "b": ((), (1,), (1, 2), (1, 2, 3, 4))}
  data |= {"Σ" * 300: shared, 7: shared, "set": set(), "scalar": np.float64(0.7), "int": np.int64(-3)}
  data["ordered"] = collections.OrderedDict([("x", 1), ("y", 2)])
  back = read(tmp_path, forge.dumps(data, protocol))
  assert back == data and back[7] is back["Σ" * 300]
  assert type(back["scalar"]) is float and type(back["ordered"]) is dict


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, np.int64])
def test_a_tensor_is_a_view_of_its_storage(tmp_path, dtype):
  storage = forge.in_place(NUMBERS.astype(dtype))
  whole = array(tmp_path, forge.tensor(storage, (2, 3, 4)))
  np.testing.assert_array_equal(whole, NUMBERS.reshape(2, 3, 4))
  assert whole.dtype == dtype and not whole.flags.writeable
  part = array(tmp_path, forge.tensor(storage, (3, 2), (2, 6), offset=5))
  np.testing.assert_array_equal(part, [[5, 11], [7, 13], [9, 15]])
  assert array(tmp_path, forge.tensor(storage, (), (), 3)) == 3
  assert array(tmp_path, forge.tensor(storage, (0, 4), offset=24)).shape == (0, 4)


def test_an_archive_is_read_where_asked(tmp_path):
  path = tmp_path / "state.pt"
  content = {name: forge.tensor(forge.reference(NUMBERS, name), (4, 6), (1, 4)) for name in ("0", "1")}
  forge.archive(path, content, {"0": NUMBERS, "1": -NUMBERS})
  found = pickles.read(path)
  arrays = pickles.arrays(path, {"mine": found["1"]})
  np.testing.assert_array_equal(arrays["mine"], -NUMBERS.reshape(6, 4).T)


def text(value):
  return b"X" + len(value).to_bytes(4, "little") + value.encode()


def call(name, *operands):
  module, _, attribute = name.rpartition(".")
  return b"c" + f"{module}\n{attribute}\n".encode() + b"(" + b"".join(operands) + b"tR."


STATE = b"}" + text("x") + text("y") + b"s"
ATTACKS = {
  "os.system": (call("os.system", text("touch CANARY")), "`os.system`"),
  "posix.system": (call("posix.system", text("touch CANARY")), "`posix.system`"),
  "eval": (call("builtins.eval", text("open('CANARY', 'w')")), "`builtins.eval`"),
  "eval of Python 2": (call("__builtin__.eval", text("open('CANARY', 'w')")), "`__builtin__.eval`"),
  "getattr": (call("builtins.getattr", b"cos\nsystem\n", text("x")), "`builtins.getattr`"),
  "posixpath": (call("posixpath.os.system", text("touch CANARY")), "`posixpath.os.system`"),
  "attributes of an admitted name": (
    b"\x80\x04" + text("torch._utils") + text("_rebuild_parameter.__globals__") + b"\x93.",
    "`torch._utils._rebuild_parameter.__globals__`",
  ),
  "dots in a name": (b"\x80\x04" + text("os") + text("path.os.system") + b"\x93.", "`os.path.os.system`"),
  "our own module": (call("gauss_diffusion.importers.pickles.os.system"), "`gauss_diffusion.*system`"),
  "numpy's reconstruction": (call("numpy.core.multiarray._reconstruct"), "`numpy.core.multiarray._recon"),
  "numpy's loader": (call("numpy.load", text("CANARY")), "`numpy.load`"),
  "numpy's runner": (call("numpy.testing._private.utils.runstring", text("x")), "`numpy.testing.*runstring`"),
  "torch.load": (call("torch.load", text("CANARY")), "`torch.load`"),
  "copyreg": (call("copyreg._reconstructor"), "`copyreg._reconstructor`"),
  "copy_reg": (call("copy_reg._reconstructor"), "`copy_reg._reconstructor`"),
  "pickle in a pickle": (call("pickle.loads", b"C\x01."), "`pickle.loads`"),
  "INST": (b"(" + text("touch CANARY") + b"ios\nsystem\n.", "`INST`"),
  "OBJ": (b"(cos\nsystem\n" + text("touch CANARY") + b"o.", "`os.system`"),
  "OBJ of an admitted name": (b"(ctorch\nSize\n" + text("x") + b"o.", "`OBJ`"),
  "EXT1": (b"\x80\x02\x82\xf0" + b"(" + text("touch CANARY") + b"tR.", "`EXT1`"),
  "EXT2": (b"\x80\x02\x83\xf0\x00.", "`EXT2`"),
  "EXT4": (b"\x80\x02\x84\xf0\x00\x00\x00.", "`EXT4`"),
  "NEWOBJ_EX": (b"\x80\x04ctorch\nSize\n)}\x92.", "`NEWOBJ_EX`"),
  "PERSID": (b"PCANARY\n.", "`PERSID`"),
  "reference without storages": (text("CANARY") + b"Q.", "persistent reference"),
  "state of a function": (b"ctorch\nSize\n" + STATE + b"b.", "sets the state"),
  "state of a dict": (b"ccollections\nOrderedDict\n)R" + STATE + b"b.", "sets the state"),
  "call of text": (text("x") + b")R.", "calls something"),
  "call of a storage class": (b"ctorch\nFloatStorage\n)R.", "calls something"),
  "items of a set as a list": (b"]" + b"(K\x01K\x02\x90.", "adds items"),
}


def test_the_canary_would_sing(tmp_path, monkeypatch):
  # The control: Python's own reader falls for what is refused below.
  monkeypatch.chdir(tmp_path)
  for name in ("os.system", "eval", "dots in a name", "INST"):
    attack = ATTACKS[name][0].replace(b"\x93.", b"\x93" + call("x.y", text("touch CANARY")).split(b"y\n")[1])
    pickle.loads(attack)
    assert pathlib.Path("CANARY").exists(), name
    pathlib.Path("CANARY").unlink()


@pytest.mark.parametrize("nested", [False, True], ids=["", "in a storage"])
@pytest.mark.parametrize("name", ATTACKS)
def test_what_could_act_is_refused_by_name(tmp_path, monkeypatch, name, nested):
  monkeypatch.chdir(tmp_path)
  monkeypatch.setitem(copyreg._inverted_registry, 0xF0, ("os", "system"))
  attack, named = ATTACKS[name]
  if nested:
    attack = forge.dumps(forge.Call("torch.storage._load_from_bytes", attack))
    named = "`torch.Size`" if b"torch\nSize" in attack else "`collections" if b"Ordered" in attack else named
  with pytest.raises(ValueError, match=f"file.pkl` is no pickle.*{named}"):
    read(tmp_path, attack)
  assert os.listdir() == ["file.pkl"]


def test_source_code_in_an_object_is_not_run(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  meta = {"module_src": "open('CANARY', 'w')", "class_name": "Net", "state": {"__setstate__": 1}}
  record = read(tmp_path, forge.Call(forge.RECONSTRUCT, meta))
  assert record == pickles.Record("Net", {"__setstate__": 1})
  assert os.listdir() == ["file.pkl"]


def short(**change):
  """A storage in place of which one part is changed."""
  storage = forge.legacy(NUMBERS)
  for old, new in change.values():
    assert old in storage
    storage = storage.replace(old, new)
  return forge.Call("torch.storage._load_from_bytes", storage)


COUNT = (24).to_bytes(8, "little")
STORAGE = forge.in_place(NUMBERS)
DEEP = b"N" + b"\x85" * 100_000


@pytest.mark.parametrize(
  ("data", "named"),
  [
    (forge.tensor(STORAGE, (5, 5)), r"\(5, 5\) reaches beyond its storage of 24"),
    (forge.tensor(STORAGE, (4,), (8,)), "beyond"),
    (forge.tensor(STORAGE, (4,), offset=21), "beyond"),
    (forge.tensor(STORAGE, (0,), offset=25), "beyond"),
    (forge.tensor(STORAGE, (2**40, 2**40), (0, 0)), "beyond"),
    (forge.tensor(STORAGE, (4,), (-1,), 3), "no whole number"),
    (forge.tensor(STORAGE, (4,), offset=-1), "no whole number"),
    (forge.tensor(STORAGE, (2.0, 3)), "no whole number"),
    (forge.tensor(STORAGE, (4, 6), (6,)), "cut short or damaged|shorter"),
    (forge.tensor("0", (4, 6)), "without storage"),
    (short(count=(COUNT, (2**60).to_bytes(8, "little"))), "storage of 24 numbers"),
    (short(size=(b"K\x18", b"J\xff\xff\xff\x7f")), "storage of 2147483647 numbers of float32 has 96 bytes"),
    (short(cut=(NUMBERS.tobytes(), b"")), "has 0 bytes"),
    (short(key=(b"X\x01\x00\x00\x000q\x01a", b"X\x01\x00\x00\x001q\x01a")), "storage of 24"),
    (
      short(call=(b"(X\x07\x00\x00\x00storage", b"ctorch\nSize\n)R(X\x07\x00\x00\x00storage")),
      "`torch.Size`",
    ),
    (short(endian=(b"\x88", b"\x89")), "big-endian"),
    (short(magic=(b"\x8a\n\x6c", b"\x8a\n\x6d")), "format other than torch's"),
    (b"\x8e" + (2**62).to_bytes(8, "little") + b"x.", "file.pkl"),
    (b"B" + (2**32 - 1).to_bytes(4, "little") + b"x.", "expected 4294967295 bytes.*only 2 remain"),
    (b"]r\xff\xff\xff\xff" + b"j\xff\xff\xff\xfe.", "damaged"),
    (b"}" + DEEP + b"Ns.", "neither text nor"),
    (b"\x8f(" + DEEP + b"\x90.", "neither text nor"),
    (call("_codecs.encode", text("x" * 9), text("latin1")), "no NumPy number"),
    (call("_codecs.encode", text("x"), text("rot13")), "no NumPy number"),
    (call("builtins.set", b"](K\x01K\x02e"), "not empty"),
    (call("torch_utils.persistence._reconstruct_persistent_obj", b"}"), "class_name"),
    (b"", "exhausted|STOP"),
    (b"just some text\n", "`file.pkl`|file.pkl"),
    (b"PK\x03\x04 and no more", "not a zip"),
    (b"NN.", "damaged|values"),
  ],
)
def test_what_is_wrong_is_named(tmp_path, data, named):
  with pytest.raises(ValueError, match=named):
    read(tmp_path, data)


def test_wrong_archives_are_named(tmp_path):
  path = tmp_path / "state.pt"
  tensor = forge.tensor(forge.reference(NUMBERS), (24,))

  def refuse(named, content=tensor, storages=None, **changed):
    forge.archive(path, content, {"0": NUMBERS} if storages is None else storages, **changed)
    with pytest.raises(ValueError, match=named):
      pickles.read(path)

  refuse("no item named 'state/data/0'", storages={})
  refuse("`state/data/0` is not 24 numbers of float32", storages={"0": NUMBERS[1:]})
  refuse("`state/data/0` is not 48 numbers", forge.tensor(forge.reference(NUMBERS, size=48), (24,)))
  refuse("no whole number", forge.tensor(forge.reference(NUMBERS, size=-24), (24,)))
  refuse("big-endian", byteorder=b"big")
  refuse("2 `data.pkl`", **{"x/data.pkl": b""})
  refuse("`os.system`", **{"data.pkl": ATTACKS["os.system"][0]})
  refuse("something other than a storage", forge.Reference(("module", 1, "0", "cpu", 24)))
  with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
    file.writestr("state/data.pkl", b"\x00" * 10**6)
  with pytest.raises(ValueError, match="compressed"):
    pickles.read(path)


def test_a_damaged_tensor_is_noticed(tmp_path):
  path = tmp_path / "state.pt"
  forge.archive(path, forge.tensor(forge.reference(NUMBERS), (24,)), {"0": NUMBERS})
  found = pickles.read(path)
  whole = path.read_bytes()
  path.write_bytes(whole.replace(NUMBERS.tobytes(), NUMBERS[::-1].tobytes()))
  with pytest.raises(ValueError, match="damaged tensors.*CRC.*state/data/0"):
    pickles.arrays(path, {"it": found})


def test_one_storage_does_not_pass_for_many(tmp_path):
  found = read(tmp_path, forge.tensor(STORAGE, (24,)))
  with pytest.raises(ValueError, match="its tensors claim 9600"):
    pickles.arrays(tmp_path / "file.pkl", {str(i): found for i in range(100)})


def test_any_damage_is_a_value_error(tmp_path):
  # Cut anywhere, or with any one byte changed: a ValueError that names the file, or a harmless change.
  whole = forge.dumps({"ema": forge.tensor(STORAGE, (4, 6)), "x": [np.float64(1), set(), {"a": (1, 2)}]}, 4)
  for cut in range(len(whole)):
    with pytest.raises(ValueError, match="file.pkl"):
      read(tmp_path, whole[:cut])
  rng, refused = np.random.default_rng(0), 0
  for _ in range(300):
    damaged = bytearray(whole)
    damaged[rng.integers(len(whole))] = rng.integers(256)
    try:
      read(tmp_path, bytes(damaged))
    except ValueError as reason:
      refused += 1
      assert "file.pkl" in str(reason)
  assert refused > 30


SOME = forge.legacy(np.zeros(25_000, np.float32))
AGAIN = 20_000  # times that a few bytes ask for something long
LONG = {
  "one storage": (
    b"ctorch.storage\n_load_from_bytes\nq\x00B"
    + len(SOME).to_bytes(4, "little")
    + SOME
    + b"q\x01("
    + b"h\x00h\x01\x85R" * AGAIN
    + b"t.",
    "a storage that is read again and again",
  ),
  "one size": (
    b"(" + b"K\x00" * 50_000 + b"tq\x01ctorch\nSize\nq\x00(" + b"h\x00h\x01\x85R" * AGAIN + b"t.",
    "a size of more than 64 axes",
  ),
  "one shape": (
    forge.dumps(forge.tensor(STORAGE, (0,) * 50_000)),
    "a tensor of more than 64 axes",
  ),
  "a name": (
    b"c" + b"os\n" + b"\x1b[31m" + b"x" * 20_000_000 + b"\n.",
    r"`os.\\x1b\[31mxx.* … x.*` is nothing that",
  ),
}


@pytest.mark.parametrize("name", LONG)
def test_what_is_long_is_neither_repeated_nor_shown(tmp_path, name):
  data, named = LONG[name]
  start = time.process_time()
  with pytest.raises(ValueError, match=named) as error:
    read(tmp_path, data)
  # The first of these took a minute, and the second all memory.
  assert time.process_time() - start < 5
  assert str(error.value).isprintable() and len(str(error.value)) < 3000


def test_storages_as_large_as_the_file_are_read(tmp_path):
  # The bound above is on repetition: a file that is nearly all storages is read to the end.
  many = [forge.tensor(forge.in_place(NUMBERS + i), (24,)) for i in range(50)]
  found = read(tmp_path, many)
  arrays = pickles.arrays(tmp_path / "file.pkl", {str(i): tensor for i, tensor in enumerate(found)})
  assert all((arrays[str(i)] == NUMBERS + i).all() for i in range(50))


def test_an_archive_with_a_name_twice_is_refused(tmp_path):
  path = tmp_path / "state.pt"
  forge.archive(path, forge.tensor(forge.reference(NUMBERS), (24,)), {"0": NUMBERS})
  with zipfile.ZipFile(path, "a") as file, pytest.warns(UserWarning, match="Duplicate"):
    file.writestr("state/data/0", bytes(96))
  with pytest.raises(ValueError, match="two entries of one name"):
    pickles.read(path)
