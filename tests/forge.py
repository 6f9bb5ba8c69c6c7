"""Write the files of torch and of EDM's `persistence` without either: Python's pickle, and stand-ins."""

import collections
import io
import pickle
import sys
import types
import unittest.mock
import zipfile

import numpy as np

MODULES = {}  # of stand-ins
STORAGES = {"f8": "Double", "f4": "Float", "f2": "Half", "i8": "Long", "V2": "BFloat16"}
MAGIC = 119547037146038801333356  # of torch's older format
REBUILD, RECONSTRUCT = "torch._utils._rebuild_", "torch_utils.persistence._reconstruct_persistent_obj"


def named(name, base=None):
  """Return a function, or a class with a base, that pickles by this name."""
  parts = name.split(".")
  for end in range(1, len(parts)):
    MODULES.setdefault(".".join(parts[:end]), types.ModuleType(".".join(parts[:end])))
  module = MODULES[".".join(parts[:-1])]
  if not hasattr(module, parts[-1]):
    made = type(parts[-1], (base,), {}) if base else lambda *_: None
    made.__module__, made.__name__, made.__qualname__ = module.__name__, parts[-1], parts[-1]
    setattr(module, parts[-1], made)
  return getattr(module, parts[-1])


class Call:
  """Pickles as a call of the function of this name."""

  def __init__(self, name, *arguments):
    self.function, self.arguments = named(name), arguments

  def __reduce__(self):
    return self.function, self.arguments


class Reference(tuple):
  """Pickles as a persistent reference."""


class Pickler(pickle.Pickler):
  def persistent_id(self, value):
    return tuple(value) if type(value) is Reference else None


def dumps(value, protocol=4) -> bytes:
  file = io.BytesIO()
  with unittest.mock.patch.dict(sys.modules, MODULES):
    Pickler(file, protocol).dump(value)
  return file.getvalue()


def reference(array, key="0", size=None) -> Reference:
  kind = named(f"torch.{STORAGES[array.dtype.str[1:]]}Storage")
  return Reference(("storage", kind, key, "cpu", array.size if size is None else size))


class StateDict(collections.OrderedDict):
  """Pickles as what torch's ``state_dict()`` returns, which says of what version its modules are."""

  def __reduce__(self):
    metadata = collections.OrderedDict({"": {"version": 1}})
    return collections.OrderedDict, (), {"_metadata": metadata}, None, iter(self.items())


def serial(content, storages) -> bytes:
  """Return torch.save's older format: a pickle that refers to storages, in a row of pickles, and those."""
  system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
  parts = [MAGIC, 1001, system, content, list(storages)]
  numbers = (array.size.to_bytes(8, "little") + array.tobytes() for array in storages.values())
  return b"".join([*(dumps(part, 2) for part in parts), *numbers])


def legacy(array) -> bytes:
  """Return a storage as torch pickles it in place."""
  return serial(Reference((*reference(array), None)), {"0": array})


def older(path, content, storages) -> None:
  """Write torch.save's older format."""
  path.write_bytes(serial(content, storages))


def in_place(array) -> Call:
  return Call("torch.storage._load_from_bytes", legacy(array))


def tensor(storage, shape, strides=None, offset=0) -> Call:
  strides = tuple(int(np.prod(shape[i + 1 :])) for i in range(len(shape))) if strides is None else strides
  return Call(f"{REBUILD}tensor_v2", storage, offset, shape, strides, False, collections.OrderedDict())


def archive(path, content, storages, **changed) -> None:
  """Write torch.save's format: a pickle that refers to storages, and those, uncompressed."""
  root = path.stem
  entries = {"data.pkl": dumps(content, 2), "byteorder": b"little", "version": b"3\n"}
  entries |= {f"data/{key}": storage.tobytes() for key, storage in storages.items()}
  with zipfile.ZipFile(path, "w") as file:
    for name, data in (entries | changed).items():
      file.writestr(f"{root}/{name}", data)


def network(state, config, class_name="EDMPrecond", source="", storage=in_place) -> Call:
  """Return EDM's network of nested modules with these tensors, which pickles as its `persistence` has it."""
  return _module(state, class_name, source, storage, {"_init_args": (), "_init_kwargs": dict(config)})


def _module(state, class_name, source, storage, fields):
  inner, parameters, buffers = {}, {}, {}
  for name, value in state.items():
    first, _, rest = name.partition(".")
    if rest:
      inner.setdefault(first, {})[rest] = value
    elif first in ("resample_filter", "freqs", "phases", "u"):
      buffers[first] = tensor(storage(value), value.shape)
    else:
      weight = tensor(storage(value), value.shape)
      parameters[first] = Call(f"{REBUILD}parameter", weight, False, collections.OrderedDict())
  modules = {name: _module(tensors, name, source, storage, {}) for name, tensors in inner.items()}
  fields |= {"_modules": {"map_label": None} | modules, "_parameters": parameters, "_buffers": buffers}
  fields |= {"_non_persistent_buffers_set": set(), "training": False, "skip_scale": np.sqrt(0.5)}
  if class_name in ("enc", "dec"):
    container = named("torch.nn.modules.container.ModuleDict", object)()
    container.__dict__.update(fields)
    return container
  meta = {"type": "class", "version": 6, "module_src": source, "class_name": class_name, "state": fields}
  return Call(RECONSTRUCT, meta)


def snapshot(path, state, config, protocol=4, **options) -> None:
  """Write a network snapshot: the averaged network with what else EDM's training puts beside it."""
  loss = Call(
    RECONSTRUCT, {"type": "class", "version": 6, "class_name": "EDMLoss", "state": {"P_mean": -1.2}}
  )
  dataset = named("dnnlib.util.EasyDict", dict)(resolution=8, cache=True)
  data = {"ema": network(state, config, **options), "loss_fn": loss, "augment_pipe": None}
  path.write_bytes(dumps(data | {"dataset_kwargs": dataset}, protocol))


def training_state(path, state, config) -> None:
  """Write a training state: the network without averaging, and the optimizer."""
  storages = {}

  def storage(array):
    storages[str(len(storages))] = array
    return reference(array, str(len(storages) - 1))

  net = network(state, config, storage=storage)
  moments = {0: {"exp_avg": tensor(storage(np.ones(3, np.float32)), (3,))}}
  archive(path, {"net": net, "optimizer_state": {"state": moments, "param_groups": [{"lr": 1e-3}]}}, storages)
