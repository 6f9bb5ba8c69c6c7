"""Whatever file people have, an import says in one line what it is, and what to do."""

import zipfile

import forge
import numpy as np
import pytest
import safetensors.numpy
from test_state_dicts import saved

from gauss_diffusion import importers

LINE = 300  # characters that a terminal shows in a few lines


def refused(place, named):
  with pytest.raises(ValueError, match=named) as error:
    importers.load(place)
  assert "\n" not in str(error.value) and len(str(error.value)) < LINE + len(str(place))


@pytest.mark.parametrize(
  ("begins", "named"),
  [
    (
      b"version https://git-lfs.github.com/spec/v1\noid sha256:1234\nsize 5\n",
      "git-lfs pointer.*`git lfs pull`",
    ),
    (b"\n<!DOCTYPE html>\n<html>", "a web page, not the file itself; download"),
    (b"<HTML><head>", "a web page"),
    (b"<?xml version='1.0'?><Error>", "a page of an error"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file, as of Keras; make it a function"),
    (b"\x93NUMPY\x01\x00", "a NumPy array"),
    (b"GGUF\x03", "a GGUF file"),
    (b"\x1f\x8b\x08", "compressed by gzip; unpack"),
    (b"BZh9", "compressed by bzip2; unpack"),
    (b"\xfd7zXZ\x00", "compressed by xz; unpack"),
    (b"(\xb5/\xfd", "compressed by zstd; unpack"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive; unpack"),
    (b"Rar!\x1a\x07", "a RAR archive; unpack"),
    (b'{"_class_name": "UNet2DModel"}', "JSON, such as a config.json; want the folder"),
    (b"", "is empty; download it again"),
    (b"\x08\x07\x12\x07pytorch", "is no pickle of tensors"),
  ],
)
def test_a_file_is_known_by_its_first_bytes(tmp_path, begins, named):
  (tmp_path / "network-snapshot.pkl").write_bytes(begins)
  refused(tmp_path / "network-snapshot.pkl", f"`.*network-snapshot.pkl`.*{named}")


@pytest.mark.parametrize(
  ("entry", "named"),
  [
    ("arr_0.npy", "NumPy's .npz"),
    ("model.weights.h5", "a Keras model; make it a function"),
    ("net/constants.pkl", "a TorchScript program; in PyTorch, torch.save"),
    ("pipeline/unet/config.json", "a zipped folder of diffusers; unpack it first"),
    ("images/1.png", "an archive with 0 `data.pkl`"),
  ],
)
def test_an_archive_is_known_by_its_entries(tmp_path, entry, named):
  with zipfile.ZipFile(tmp_path / "network.zip", "w") as archive:
    archive.writestr(entry, b"x")
  refused(tmp_path / "network.zip", named)


# Names of tensors of networks that people have.
NAMES = {
  "model.diffusion_model.input_blocks.0.0.weight first_stage_model.conv.weight": "latent diffusion",
  "model.diffusion_model.input_blocks.0.0.weight": "latent-diffusion code; make it a function",
  "conv_in.weight down_blocks.0.resnets.0.conv1.weight mid_block.weight": "diffusers; want the f",
  "time_embed.0.weight input_blocks.0.0.weight middle_block.0.weight": "OpenAI's guided-diffusion",
  "x_embedder.proj.weight blocks.0.adaLN_modulation.1.weight": "a DiT, which sees latents",
  "init_conv.weight time_mlp.1.weight downs.0.0.block1.proj.weight": "denoising-diffusion-pytorch",
  "all_modules.0.W": "Song's score_sde",
  "mapping.fc0.weight synthesis.b4.const": "StyleGAN, which is no diffusion network",
  "encoder.weight decoder.weight": "holds tensors named like `..coder.weight`, which no network",
}


@pytest.mark.parametrize("names", NAMES)
def test_a_state_dict_is_known_by_its_names(tmp_path, names):
  state = {name: np.zeros(3, np.float32) for name in names.split()}
  safetensors.numpy.save_file(state, tmp_path / "network.safetensors")
  refused(tmp_path / "network.safetensors", f"network.safetensors` .*{NAMES[names]}")
  saved(tmp_path / "network.pt", state, around=lambda state: {"state_dict": state, "epoch": 3})
  refused(tmp_path / "network.pt", f"network.pt` .*{NAMES[names]}")


@pytest.mark.parametrize(
  ("place", "named"),
  [
    ("https://example.org/network.pkl", "is a URL; download it, and give the file's name"),
    ("s3://bucket/network.pkl", "is a URL"),
    ("google/ddpm-cifar10-32", "does not exist; if it is a name on a hub, download its folder first"),
  ],
)
def test_what_is_elsewhere_is_to_be_downloaded(place, named):
  refused(place, f"`{place}` {named}")


@pytest.mark.parametrize(
  ("inside", "named"),
  [
    ("saved_model.pb", "a SavedModel of TensorFlow"),
    ("checkpoint", "a checkpoint of TensorFlow or Flax"),
    ("data.pkl", "an unpacked file of torch.save"),
    ("notes.txt", "has no config.json, in it or in `unet/`"),
    ("checkpoints/", "is a network of ours already"),
  ],
)
def test_a_folder_is_known_by_what_is_in_it(tmp_path, inside, named):
  if inside.endswith("/"):
    (tmp_path / inside).mkdir()
  else:
    (tmp_path / inside).write_text("x")
  refused(tmp_path, named)


def test_programs_of_other_frameworks_are_named(tmp_path):
  (tmp_path / "network.onnx").write_bytes(b"\x08\x07")
  refused(tmp_path / "network.onnx", "is a program of .onnx; make it a function")


def test_a_whole_object_is_not_built(tmp_path):
  (tmp_path / "network.pt").write_bytes(forge.dumps({"model": forge.Call("my_models.Net")}))
  refused(tmp_path / "network.pt", "`my_models.Net` is nothing that such a file needs.*save a state dict")
