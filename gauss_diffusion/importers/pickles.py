"""Read files of torch and of EDM's `persistence` as plain data and tensors; nothing in them is run.

A pickle is a program for a small stack machine, which `pickle.load` runs on whatever Python can import. This
is another machine for the same programs. It can neither import nor call: the name of a global stays a name,
is refused by that name unless it is in `CALLS` or `STORAGES`, and a call of it builds a record of ours. An
instruction that such files do not use is refused, and so is a size that the file cannot hold. What one
instruction costs is bounded by what it adds to the file: nothing long is copied or read again and again.
"""

import dataclasses
import io
import math
import os
import pickletools
import zipfile
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from gauss_diffusion import results
from gauss_diffusion.command_line import printable

MAGIC = 0x1950A86A20F9469CFC6C  # opens a file in torch's older format, which a pickled storage still is
STORAGES = {
  "torch.DoubleStorage": np.dtype("<f8"),
  "torch.FloatStorage": np.dtype("<f4"),
  "torch.HalfStorage": np.dtype("<f2"),
  "torch.BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
  "torch.LongStorage": np.dtype("<i8"),
  "torch.IntStorage": np.dtype("<i4"),
  "torch.ByteStorage": np.dtype("u1"),
  "torch.BoolStorage": np.dtype("?"),
}
AXES = 64  # of a tensor at most, as in torch
KEY = 64  # characters of a storage's name in an archive, which is a number
NAME = 200  # characters of a name from the file that a message shows
SCALARS = ("f8", "f4", "i8", "i4", "b1")  # EDM keeps some constants as NumPy numbers
# What an instruction makes anew, and how many operands it takes where it needs no mark.
CONSTANTS: dict[str, Callable[[], Any]] = {
  "NONE": lambda: None,
  "NEWTRUE": lambda: True,
  "NEWFALSE": lambda: False,
  "EMPTY_TUPLE": tuple,
  "EMPTY_LIST": list,
  "EMPTY_DICT": dict,
  "EMPTY_SET": set,
}
COUNTS = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3, "APPEND": 1, "SETITEM": 2}
# What a program that no pickler wrote, or an archive that is not whole, makes this machine raise.
DAMAGE = (
  ValueError,
  LookupError,
  TypeError,
  AttributeError,
  OverflowError,
  MemoryError,
  RecursionError,
  EOFError,
  zipfile.BadZipFile,
)


class Storage(NamedTuple):
  """The numbers behind tensors: bytes of the file, or the name of the archive's entry that has them."""

  dtype: np.dtype
  size: int
  data: memoryview | str


class Tensor(NamedTuple):
  """A view that lies inside its storage; offset and strides count numbers, not bytes."""

  storage: Storage
  offset: int
  shape: tuple[int, ...]
  strides: tuple[int, ...]


@dataclasses.dataclass
class Record:
  """An object that was not built: the name of its class and its state or arguments."""

  name: str
  state: Any = None


class _Global(NamedTuple):
  name: str


def read(path: results.Path) -> Any:
  """Return what a pickle or a torch.save file holds: dicts, lists, numbers, `Tensor`s and `Record`s.

  An object of EDM's `persistence` becomes ``Record(class_name, state)``; the source code that it carries is
  dropped, and so is what a state dict says of its modules' versions. An archive's tensors stay there, see
  `arrays`.

  Raises:
    ValueError: names the global or instruction that is not admitted, or says what is damaged.
    OSError: when the file cannot be read.
  """
  try:
    with open(path, "rb") as file:
      if file.read(2) == b"PK":
        return _read_archive(path)
      file.seek(0)
      held = os.path.getsize(path)
      value = _run(file, _calls(held), _no_storage)
      return _legacy(file, lambda: _calls(held)) if value == MAGIC else value
  except DAMAGE as reason:
    raise ValueError(f"`{path}` is no pickle of tensors and plain data: {_words(reason)}") from None


def arrays(path: results.Path, tensors: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
  """Return tensors as read-only arrays, views of the bytes read.

  Args:
    path: the file that `read` found them in.
    tensors: by any names.

  Raises:
    ValueError: when they claim more than the file has, or are damaged.
  """
  held = os.path.getsize(path)
  claimed = sum(math.prod(tensor.shape) * tensor.storage.dtype.itemsize for tensor in tensors.values())
  if claimed > held:
    raise ValueError(f"`{path}` has {held} bytes, but its tensors claim {claimed}")
  entries = {tensor.storage.data for tensor in tensors.values() if isinstance(tensor.storage.data, str)}
  data = {}
  try:
    if entries:
      with zipfile.ZipFile(path) as archive:
        data = {name: _entry(archive, name) for name in entries}
    return {name: _array(tensor, data) for name, tensor in tensors.items()}
  except DAMAGE as reason:
    raise ValueError(f"`{path}` has damaged tensors: {_words(reason)}") from None


def _words(reason):
  named = str(reason) and isinstance(reason, ValueError | zipfile.BadZipFile)
  return printable(reason if named else f"cut short or damaged ({printable(repr(reason), NAME)})")


def _run(file, calls, storage) -> Any:
  """Run one pickle to its end and return the object it leaves.

  Args:
    file: at the pickle's first byte; left behind its last.
    calls: functions of ours by the names of those that the program may call.
    storage: what stands for a persistent reference, given the reference.
  """
  stack: list[Any] = []
  marks: list[int] = []
  memo: dict[Any, Any] = {}
  argument: Any
  for instruction, argument, _ in pickletools.genops(file):
    match instruction.name:
      case "PROTO" | "FRAME":
        pass
      case "BININT" | "BININT1" | "BININT2" | "LONG1" | "BINFLOAT":
        stack.append(argument)
      case "SHORT_BINUNICODE" | "BINUNICODE" | "BINUNICODE8" | "SHORT_BINBYTES" | "BINBYTES" | "BINBYTES8":
        stack.append(argument)
      case name if name in CONSTANTS:
        stack.append(CONSTANTS[name]())
      case "MARK":
        marks.append(len(stack))
      case "TUPLE" | "TUPLE1" | "TUPLE2" | "TUPLE3" as name:
        stack.append(tuple(_take(stack, marks, name)))
      case "APPEND" | "APPENDS" | "SETITEM" | "SETITEMS" | "ADDITEMS" as name:
        items = _take(stack, marks, name)
        _extend(stack[-1], items, name)
      case "MEMOIZE":
        memo[len(memo)] = stack[-1]
      case "BINPUT" | "LONG_BINPUT":
        memo[argument] = stack[-1]
      case "BINGET" | "LONG_BINGET":
        stack.append(memo[argument])
      case "GLOBAL":
        stack.append(_admit(argument.replace(" ", "."), calls))
      case "STACK_GLOBAL":
        stack.append(_admit(".".join([stack.pop(-2), stack.pop()]), calls))
      case "REDUCE" | "NEWOBJ":
        function, arguments = stack.pop(-2), stack.pop()
        if not isinstance(function, _Global) or function.name not in calls:
          raise ValueError("it calls something that is no function")
        stack.append(calls[function.name](*arguments))
      case "BUILD":
        state = stack.pop()
        if isinstance(stack[-1], Record):
          stack[-1].state = state
        elif not isinstance(stack[-1], dict) or not isinstance(state, dict) or [*state] != ["_metadata"]:
          raise ValueError("it sets the state of something that has none")
      case "BINPERSID":
        stack.append(storage(stack.pop()))
      case "STOP":
        (value,) = stack
        return value
      case other:
        raise ValueError(f"`{other}` is an instruction that no such file needs")


def _take(stack, marks, name):
  """Take the operands of an instruction off the stack: so many, or all above the last mark."""
  start = -COUNTS[name] if name in COUNTS else marks.pop()
  items = stack[start:]
  del stack[start:]
  return items


def _admit(name, calls):
  if name not in calls and name not in STORAGES:
    raise ValueError(
      f"`{printable(name, NAME)}` is nothing that such a file needs, and was not run; save a state dict"
    )
  return _Global(name)


def _extend(container, items, name):
  match container, name:
    case list(), "APPEND" | "APPENDS":
      container.extend(items)
    case dict(), "SETITEM" | "SETITEMS":
      _check_keys(items[::2])
      container.update(zip(items[::2], items[1::2], strict=True))
    case set(), "ADDITEMS":
      _check_keys(items)
      container.update(items)
    case _:
      raise ValueError("it adds items to something that holds none")


def _check_keys(keys):
  # Python hashes a tuple by recursion in C, whose stack a deep one overflows.
  if not all(type(key) in (str, int) for key in keys):
    raise ValueError("a key that is neither text nor a whole number")


def _rebuild_tensor(storage, offset, shape, strides, *_):
  if not isinstance(storage, Storage) or not isinstance(shape, tuple) or not isinstance(strides, tuple):
    raise ValueError("a tensor without storage, shape or strides")
  if max(len(shape), len(strides)) > AXES:
    raise ValueError(f"a tensor of more than {AXES} axes")
  _check_counts(offset, *shape, *strides)
  last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
  # Strides of zero would turn one number into any amount, hence the bound on the product.
  if offset > storage.size or 0 not in shape and max(last + 1, math.prod(shape)) > storage.size:
    raise ValueError(f"a tensor of shape {shape} reaches beyond its storage of {storage.size} numbers")
  return Tensor(storage, offset, shape, strides)


def _check_counts(*counts):
  if not all(type(count) is int and count >= 0 for count in counts):
    raise ValueError("a size that is no whole number")


def _array(tensor, data):
  storage = tensor.storage
  source = data[storage.data] if isinstance(storage.data, str) else storage.data
  numbers = np.frombuffer(source, storage.dtype, storage.size)
  strides = [stride * storage.dtype.itemsize for stride in tensor.strides]
  return np.lib.stride_tricks.as_strided(numbers[tensor.offset :], tensor.shape, strides, writeable=False)


def _load_storage(data):
  """Return a storage that torch pickled in place."""
  file = io.BytesIO(data)
  if _run(file, {}, _no_storage) != MAGIC:
    raise ValueError("a storage in a format other than torch's")
  storage = _legacy(file, dict)
  if not isinstance(storage, Storage):
    raise ValueError("something other than a storage where torch pickles one")
  return storage


def _legacy(file, calls) -> Any:
  """Return what torch.save wrote before it wrote archives, and still writes for a storage.

  These are `MAGIC`, a version, the system, the value, the storages' keys, then each storage's count and
  numbers. The value says how large storages are, and comes before them: it is read twice.

  Args:
    file: behind `MAGIC`.
    calls: returns what the value's program may call, anew for each reading.
  """
  _, system = (_run(file, {}, _no_storage) for _ in range(2))
  if system["little_endian"] is not True:
    raise ValueError("numbers that are big-endian")
  start = file.tell()
  claimed: dict[str, tuple[np.dtype, int]] = {}

  def claim(reference):
    dtype, key, size = _reference(reference)
    if claimed.setdefault(key, (dtype, size)) != (dtype, size):
      raise ValueError(f"storage `{key}` is claimed to be different things")
    return Storage(dtype, size, key)

  _run(file, calls(), claim)
  keys = _run(file, {}, _no_storage)
  left, storages = memoryview(file.read()), {}
  for key, (dtype, size) in claimed.items():
    if key not in keys:
      raise ValueError(f"a storage of {size} numbers of {dtype} that the file does not list")
  for key in keys:
    dtype, size = claimed[key]
    count, left = int.from_bytes(left[:8], "little"), left[8:]
    end = size * dtype.itemsize
    if count != size or len(left) < end:
      raise ValueError(f"a storage of {size} numbers of {dtype} has {len(left)} bytes")
    storages[key], left = Storage(dtype, size, left[:end]), left[end:]
  if left:
    raise ValueError(f"{len(left)} bytes that are no storage's")
  file.seek(start)
  return _run(file, calls(), lambda reference: storages[_reference(reference)[1]])


def _reference(reference):
  """Return dtype, key and size of the storage that a persistent reference is about."""
  kind, storage, key, _, size, *view = reference
  if (
    kind != "storage"
    or not isinstance(storage, _Global)
    or not isinstance(key, str)
    or len(key) > KEY
    or view not in ([], [None])
  ):
    raise ValueError("a persistent reference to something other than a storage")
  _check_counts(size)
  return STORAGES[storage.name], key, size


def _no_storage(reference):
  raise ValueError("a persistent reference where there is nothing to refer to")


def _read_archive(path):
  with zipfile.ZipFile(path) as archive:
    if len(set(archive.namelist())) < len(archive.namelist()):
      raise ValueError("an archive with two entries of one name")
    programs = [name for name in archive.namelist() if name.endswith("/data.pkl")]
    if len(programs) != 1:
      raise ValueError(f"an archive with {len(programs)} `data.pkl`, where torch.save writes one")
    root = programs[0].removesuffix("data.pkl")
    if f"{root}byteorder" in archive.namelist() and _entry(archive, f"{root}byteorder") != b"little":
      raise ValueError("numbers that are big-endian")

    def storage(reference):
      dtype, key, size = _reference(reference)
      entry = f"{root}data/{key}"
      if archive.getinfo(entry).file_size != size * dtype.itemsize:
        raise ValueError(f"entry `{entry}` is not {size} numbers of {dtype}")
      return Storage(dtype, size, entry)

    program = _entry(archive, programs[0])
    return _run(io.BytesIO(program), _calls(len(program)), storage)


def _entry(archive, name):
  """Return an entry's bytes, checked by its CRC; torch.save never compresses."""
  info = archive.getinfo(name)
  if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size or info.flag_bits & 1:
    raise ValueError(f"entry `{name}` is compressed or encrypted")
  return archive.read(info)


def _calls(held):
  """Return `CALLS` for one file, by which storages are read that have no more bytes than it holds."""
  left = held

  def load_storage(data):
    nonlocal left
    left -= len(data)
    if left < 0:
      raise ValueError("a storage that is read again and again")
    return _load_storage(data)

  return CALLS | {"torch.storage._load_from_bytes": load_storage}


def _persistent(meta):
  if not isinstance(meta["class_name"], str):
    raise ValueError("a persistent object without a class name")
  return Record(meta["class_name"], meta["state"])


def _scalar(dtype, data):
  # A pickled dtype has its byte order as the second item of its state.
  if dtype.name not in SCALARS or dtype.state[1] not in ("<", "|"):
    raise ValueError("a NumPy number of a type that no constant has")
  (number,) = np.frombuffer(data, dtype.name.replace("b1", "?")).tolist()
  return number


def _bytes(text, encoding):
  # The one use is a NumPy number; a longer text, called for again and again, would fill the memory.
  if encoding != "latin1" or len(text) > 8:
    raise ValueError("bytes that are no NumPy number")
  return text.encode("latin1")


def _empty_set(items):
  if items:
    raise ValueError("a set that is not empty")
  return set()


def _size(axes):
  if len(axes) > AXES:
    raise ValueError(f"a size of more than {AXES} axes")
  return tuple(axes)


# Beside `torch.storage._load_from_bytes`, which `_calls` adds.
CALLS: dict[str, Callable] = {
  "torch._utils._rebuild_tensor_v2": _rebuild_tensor,
  "torch._utils._rebuild_parameter": lambda tensor, *_: tensor,
  "torch.Size": _size,
  "torch.device": lambda *arguments: Record("torch.device", arguments),
  "torch.nn.modules.container.ModuleDict": lambda: Record("ModuleDict"),
  "torch_utils.persistence._reconstruct_persistent_obj": _persistent,
  "dnnlib.util.EasyDict": lambda: {},
  "collections.OrderedDict": lambda: {},
  "builtins.set": _empty_set,
  "__builtin__.set": _empty_set,
  "numpy.dtype": lambda name, *_: Record(name),
  "numpy.core.multiarray.scalar": _scalar,
  "numpy._core.multiarray.scalar": _scalar,
  "_codecs.encode": _bytes,
}
