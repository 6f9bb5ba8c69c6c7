"""Files and folders that people have, by name: what each is, and what to do with those that are no import.

A file is known by its first bytes, not by what it is called; a state dict by what its tensors are called.
"""

import pathlib
import re
import zipfile
from collections.abc import Iterable
from typing import NoReturn

from gauss_diffusion import results

FUNCTION = "make it a function of (x, sigma), as `denoisers/external.py` and `parametrisations.py` show"
SAVE = "in PyTorch, torch.save(network.state_dict(), 'network.pt') of it can be read"
# First bytes of a file, in any case of letters: what it is, and what to do.
BEGINNINGS = {
  b"version https://git-lfs": "a git-lfs pointer, not the file itself; run `git lfs pull` where it is from",
  b"<!doctype": "a web page, not the file itself; download what its link `download` or `raw` points to",
  b"<html": "a web page, not the file itself; download what its link `download` or `raw` points to",
  b"<?xml": "a page of an error, not the file itself; download it again",
  b"\x89hdf": f"an HDF5 file, as of Keras; {FUNCTION}",
  b"\x93numpy": "a NumPy array; images are named by `data.path`, a network's tensors want .safetensors",
  b"gguf": f"a GGUF file; {FUNCTION}",
  b"\x1f\x8b": "compressed by gzip; unpack it first",
  b"bzh": "compressed by bzip2; unpack it first",
  b"\xfd7zxz": "compressed by xz; unpack it first",
  b"(\xb5/\xfd": "compressed by zstd; unpack it first",
  b"7z\xbc\xaf": "a 7z archive; unpack it first",
  b"rar!": "a RAR archive; unpack it first",
  b"{": "JSON, such as a config.json; want the folder that it is in",
}
# Where these entries end so, an archive is no file of torch's.
ENTRIES = {
  ".npy": "NumPy's .npz; images are named by `data.path`, a network's tensors want .safetensors",
  "model.weights.h5": f"a Keras model; {FUNCTION}",
  "constants.pkl": f"a TorchScript program; {SAVE}, or {FUNCTION}",
  "unet/config.json": "a zipped folder of diffusers; unpack it first",
}
# Beginnings of tensors' names, of which all have to be there: what the network is, and what to do.
FAMILIES = {
  ("model.diffusion_model.", "first_stage_model."): (
    "a latent diffusion checkpoint (LDM, Stable Diffusion), whose network sees latents, not pixels; "
    f"{FUNCTION}, its encoder and decoder included"
  ),
  ("model.diffusion_model.",): f"a network of the latent-diffusion code; {FUNCTION}",
  ("down_blocks.", "mid_block.", "conv_in."): (
    "weights of a network of diffusers; want the folder with its config.json, or one with `unet/` in it"
  ),
  ("input_blocks.", "middle_block.", "time_embed."): (
    f"a network of OpenAI's guided-diffusion or improved-diffusion, or one like it; {FUNCTION}"
  ),
  ("blocks.0.adaLN_modulation.", "x_embedder."): f"a DiT, which sees latents as published; {FUNCTION}",
  ("init_conv.", "time_mlp.", "downs."): f"a network of denoising-diffusion-pytorch; {FUNCTION}",
  ("all_modules.",): f"a network of Song's score_sde; {FUNCTION}",
  ("synthesis.", "mapping."): "a generator of StyleGAN, which is no diffusion network",
}


def check(place: results.Path) -> None:
  """Refuse by name what is no file or folder of a network that can be imported.

  Args:
    place: as the user wrote it.

  Raises:
    ValueError: says what it is, and what to do.
    OSError: when it cannot be read.
  """
  scheme, separator, _ = str(place).partition(":/")
  if separator and scheme.isalnum() and len(scheme) > 1:
    raise ValueError(f"`{place}` is a URL; download it, and give the file's name")
  path = pathlib.Path(place)
  if path.is_dir():
    return _check_folder(path)
  if not path.exists() and re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", str(place)):
    raise ValueError(f"`{place}` does not exist; if it is a name on a hub, download its folder first")
  with open(path, "rb") as file:
    first = file.read(64)
  if not first:
    raise ValueError(f"`{place}` is empty; download it again")
  if path.suffix in (".onnx", ".pb", ".tflite"):
    raise ValueError(f"`{place}` is a program of {path.suffix}; {FUNCTION}")
  for beginning, said in BEGINNINGS.items():
    if first.lstrip().lower().startswith(beginning):
      raise ValueError(f"`{place}` is {said}")
  if first.startswith(b"PK\x03\x04") and zipfile.is_zipfile(path):
    with zipfile.ZipFile(path) as archive:
      names = archive.namelist()
    for end, said in ENTRIES.items():
      if any(name.endswith(end) for name in names):
        raise ValueError(f"`{place}` is {said}")


def is_safetensors(place: results.Path) -> bool:
  """Return whether a file is called ``.safetensors``, or begins with the length of a JSON and the JSON."""
  path = pathlib.Path(place)
  with open(path, "rb") as file:
    first = file.read(9)
  size = path.stat().st_size
  return path.suffix == ".safetensors" or first[8:] == b"{" and int.from_bytes(first[:8], "little") < size


def refuse_names(place: results.Path, names: Iterable[str]) -> NoReturn:
  """Say what a state dict is of, which is no network that can be imported.

  Args:
    place: the file.
    names: of its tensors.

  Raises:
    ValueError: says what it is, and what to do.
  """
  names = list(names)
  for beginnings, said in FAMILIES.items():
    if all(any(name.startswith(beginning) for name in names) for beginning in beginnings):
      raise ValueError(f"`{place}` is {said}")
  raise ValueError(
    f"`{place}` holds tensors named like `{names[0]}`, which no network that can be imported has; {FUNCTION}"
  )


def _check_folder(path):
  if (path / "checkpoints").is_dir():
    raise ValueError(f"`{path}` is a network of ours already; name it by `checkpoint`, without an import")
  for name, said in (
    ("saved_model.pb", f"a SavedModel of TensorFlow; {FUNCTION}"),
    ("checkpoint", f"a checkpoint of TensorFlow or Flax; {FUNCTION}"),
    ("data.pkl", "an unpacked file of torch.save; give the file itself"),
  ):
    if (path / name).exists():
      raise ValueError(f"`{path}` is {said}")
