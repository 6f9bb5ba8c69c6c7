"""A UNet2DModel of diffusers is the same denoiser here, and what would be another is refused by name.

The library's outputs stand in tests/data/diffusers_unets.npz, with names and shapes of all tensors, which
`test_importers.weights` makes. Where torch and diffusers are installed, the library is asked again.
``python tests/test_diffusers.py`` records what it says of `CASES`.
"""

import functools
import json
import pathlib
import re

import forge
import jax
import numpy as np
import pytest
import safetensors.numpy
from test_importers import channels_last, weights
from test_state_dicts import saved

from gauss_diffusion import importers, networks
from gauss_diffusion.denoisers import parametrisations
from gauss_diffusion.importers import diffusers
from gauss_diffusion.study import check, schema
from gauss_diffusion.training import checkpoint

FILE = pathlib.Path(__file__).parent / "data" / "diffusers_unets.npz"
SMALL = {
  "_class_name": "UNet2DModel",
  "sample_size": 8,
  "block_out_channels": [8, 16],
  "layers_per_block": 1,
  "down_block_types": ["DownBlock2D", "AttnDownBlock2D"],
  "up_block_types": ["AttnUpBlock2D", "UpBlock2D"],
  "norm_num_groups": 4,
}
# google/ddpm-cifar10-32 but for its size, then what it leaves alone.
DDPM = {
  "flip_sin_to_cos": False,
  "freq_shift": 1,
  "downsample_padding": 0,
  "attention_head_dim": None,
  "norm_eps": 1e-6,
  "act_fn": "silu",
  "center_input_sample": False,
  "mid_block_scale_factor": 1,
  "time_embedding_type": "positional",
}
CASES = {
  "ddpm": (DDPM, {"_class_name": "DDPMScheduler", "clip_sample": True, "variance_type": "fixed_large"}),
  "defaults": ({"dropout": 0.1}, {"_class_name": "DDIMScheduler", "prediction_type": "v_prediction"}),
  "scaled": (
    {"resnet_time_scale_shift": "scale_shift", "num_class_embeds": 3, "out_channels": 6},
    {"_class_name": "DDPMScheduler", "beta_schedule": "squaredcos_cap_v2", "num_train_timesteps": 50},
  ),
  "deep": (
    {
      "in_channels": 1,
      "out_channels": 1,
      "block_out_channels": [8, 8, 12],
      "layers_per_block": 2,
      "down_block_types": ["AttnDownBlock2D", "DownBlock2D", "DownBlock2D"],
      "up_block_types": ["UpBlock2D", "AttnUpBlock2D", "UpBlock2D"],
      "attention_head_dim": 4,
      "add_attention": False,
      "time_embedding_dim": 20,
      "norm_num_groups": 2,
      "freq_shift": 1,
    },
    {
      "_class_name": "PNDMScheduler",
      "beta_schedule": "scaled_linear",
      "beta_start": 0.00085,
      "beta_end": 0.012,
      "prediction_type": "epsilon",
    },
  ),
  "sample": ({"downsample_padding": 0}, {"prediction_type": "sample"}),
}
# Relative to the largest number of an image: float32 through some thirty layers, and through the library's ᾱ,
# of which 1 − ᾱ is small.
ROUNDING = 1e-5


@functools.cache
def recorded():
  return np.load(FILE)


def folder(place, config, scheduler, state):
  """Write a pipeline's folder as the library does."""
  for part in ("unet", "scheduler"):
    (place / part).mkdir(parents=True)
  (place / "unet" / "config.json").write_text(json.dumps(config))
  (place / "scheduler" / "scheduler_config.json").write_text(json.dumps(scheduler))
  (place / "model_index.json").write_text(json.dumps({"_class_name": "DDPMPipeline"}))
  safetensors.numpy.save_file(state, place / "unet" / "diffusion_pytorch_model.safetensors")
  return place


def tensors_of(case):
  shapes = json.loads(str(recorded()[f"{case}/shapes"]))
  return {name: np.ascontiguousarray(value, np.float32) for name, value in weights(shapes, {}).items()}


@pytest.fixture(scope="module", params=CASES)
def imported(request, tmp_path_factory):
  case = request.param
  config, scheduler = CASES[case]
  place = folder(tmp_path_factory.mktemp(case), SMALL | config, scheduler, tensors_of(case))
  return case, *importers.load(place)


def schedule_of(case):
  constants = {name: value for name, value in CASES[case][1].items() if name in diffusers.SCHEDULE}
  return parametrisations.trained_steps(**constants)


def inputs_of(case):
  """Return x [N, C, H, W], its levels and steps, both ends of the schedule among them, and classes."""
  rng = np.random.RandomState(1)
  last = CASES[case][1].get("num_train_timesteps", 1000) - 1
  steps = np.array([0, 1, last // 30, last // 3, last - 1, last])
  sigma = np.asarray(schedule_of(case).sigma_of_t(steps), np.float32)
  channels = CASES[case][0].get("in_channels", 3)
  noise = rng.randint(-1024, 1025, (len(steps), channels, 8, 8)) / 512
  x = np.float32(noise * np.sqrt(1 + np.float64(sigma)[:, None, None, None] ** 2))
  return x, sigma, steps, steps % 3


def test_denoisers_equal_the_library(imported):
  case, network, params = imported
  x, sigma, _, classes = inputs_of(case)
  labels = np.eye(3, dtype=np.float32)[classes] if network.model.label_dim else None
  got = jax.jit(network.apply)({"params": params}, channels_last(x), sigma, labels)
  want = channels_last(recorded()[f"{case}/denoised"])
  assert got.shape == want.shape and got.dtype == np.float32
  for d, d_library in zip(got, want, strict=True):
    assert np.abs(d - d_library).max() < ROUNDING * np.abs(d_library).max()


def test_the_library_still_says_so(imported):
  library = pytest.importorskip(
    "diffusers", reason="want diffusers, which is asked again where it is installed"
  )
  case, _, _ = imported
  np.testing.assert_allclose(ask(library, case)[1], recorded()[f"{case}/denoised"], rtol=1e-5, atol=1e-3)


def test_levels_outside_of_the_schedule_are_refused(imported):
  case, network, params = imported
  low, high = networks.levels(network)
  schedule = schedule_of(case)
  assert (low, high) == (schedule.low, schedule.high)
  x = np.zeros((1, 8, 8, network.model.img_channels), np.float32)
  for sigma in (0.9 * low, 1.1 * high):
    with pytest.raises(ValueError, match="`sigma` is .* and the schedule of this network goes from"):
      network.apply({"params": params}, x, np.float32([sigma]))
    compiled = jax.jit(network.apply)({"params": params}, x, np.float32([sigma]))
    assert np.isnan(compiled).all()


def test_a_study_at_other_levels_is_refused_before_it_begins(imported, tmp_path):
  _, network, params = imported
  low, high = networks.levels(network)
  checkpoint.save_ema(tmp_path, params, {"network": networks.card(network)})
  config = schema.default()
  config.sampler.update(sigma_min=low * 0.99, sigma_max=high * 1.01)
  model = schema.add_model(config, "imported", 0)
  model.checkpoint, model.class_label = str(tmp_path), "0" if network.model.label_dim else ""

  def refuse():
    with pytest.raises(ValueError, match="the network of `models.imported` knows no levels but") as error:
      check.check(config, (8, 8, network.model.img_channels), 1000, 500, 3)
    return dict(re.findall(r"--config.sampler.(sigma_m..)=([\d.]+)", str(error.value)))

  asked = refuse()
  assert sorted(asked) == ["sigma_max", "sigma_min"]
  config.sampler.sigma_min = float(asked["sigma_min"])
  assert refuse() == {"sigma_max": asked["sigma_max"]}
  config.sampler.sigma_max = float(asked["sigma_max"])
  check.check(config, (8, 8, network.model.img_channels), 1000, 500, 3)
  assert low <= config.sampler.sigma_min < 1.001 * low and 0.999 * high < config.sampler.sigma_max <= high
  if network.model.label_dim:
    model.class_label = "none"  # the library raises an error where it is given no label
    with pytest.raises(ValueError, match="`models.imported` asks a UNet2DModel of diffusers about no class"):
      check.check(config, (8, 8, 3), 1000, 500, 3)
    model.class_label = ""
    with pytest.raises(ValueError, match="`models.imported` is a network conditional on 3 classes"):
      check.check(config, (8, 8, 3), 1000, 500, 3)


def test_a_network_is_its_card(imported):
  _, network, params = imported
  assert networks.create(**json.loads(json.dumps(networks.card(network)))) == network
  shapes = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), networks.shapes(network))
  assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), params) == shapes


def assert_same(one, two):
  assert one[0] == two[0]
  jax.tree.map(np.testing.assert_array_equal, one[1], two[1])


def test_older_names_and_files_are_read(tmp_path):
  config, scheduler = CASES["ddpm"]
  state, older = tensors_of("ddpm"), {}
  back = {new: old for old, new in diffusers.OLDER.items()}
  for name, value in state.items():
    for new, old in back.items():
      name = name.replace(f".{new}.", f".{old}.")
    older[name] = value
  assert len(set(state) - set(older)) == 32
  wanted = importers.load(folder(tmp_path / "new", SMALL | config, scheduler, state))
  place = folder(tmp_path / "old", SMALL | config, scheduler, older)
  assert_same(importers.load(place), wanted)
  (place / "unet" / "diffusion_pytorch_model.safetensors").unlink()
  saved(place / "unet" / "diffusion_pytorch_model.bin", older)
  assert_same(importers.load(place), wanted)


def test_the_schedule_is_looked_for_and_asked_for(tmp_path):
  config, scheduler = CASES["ddpm"]
  place = folder(tmp_path / "pipeline", SMALL | config, scheduler, tensors_of("ddpm"))
  wanted = importers.load(place)
  assert_same(importers.load(place / "unet"), wanted)
  elsewhere = tmp_path / "elsewhere.json"
  (place / "scheduler" / "scheduler_config.json").rename(elsewhere)
  with pytest.raises(ValueError, match="has no scheduler_config.json.*add --scheduler=FILE"):
    importers.load(place)
  assert_same(importers.load(place, importers.Told(scheduler=str(elsewhere))), wanted)
  elsewhere.rename(place / "unet" / "scheduler_config.json")
  assert_same(importers.load(place / "unet"), wanted)


def test_a_resolution_is_asked_for(tmp_path):
  place = folder(tmp_path, SMALL | {"sample_size": None} | CASES["ddpm"][0], {}, tensors_of("ddpm"))
  with pytest.raises(ValueError, match="`sample_size` is None; add --img_resolution"):
    importers.load(place)
  network, _ = importers.load(place, importers.Told(img_resolution=16))
  assert network.model.img_resolution == 16
  (place / "unet" / "config.json").write_text(json.dumps(SMALL | CASES["ddpm"][0]))
  with pytest.raises(ValueError, match="`sample_size` is 8; leave"):
    importers.load(place, importers.Told(img_resolution=16))


@pytest.mark.parametrize(
  ("config", "named"),
  [
    (
      {"down_block_types": ["SkipDownBlock2D", "DownBlock2D"]},
      "`down_block_types` has 'SkipDownBlock2D'.*AttnDown",
    ),
    ({"up_block_types": ["UpBlock2D", "ResnetUpsampleBlock2D"]}, "`up_block_types` has 'ResnetUps.*AttnUp"),
    ({"up_block_types": ["UpBlock2D"]}, "`up_block_types` is .*one for each"),
    ({"time_embedding_type": "fourier"}, "`time_embedding_type` is 'fourier'.*'positional'"),
    ({"downsample_type": "resnet"}, "`downsample_type` is 'resnet'"),
    ({"mid_block_scale_factor": 1.41}, "`mid_block_scale_factor` is 1.41"),
    ({"act_fn": "gelu"}, "`act_fn` is 'gelu'.*'silu' or 'swish'"),
    ({"class_embed_type": "timestep"}, "`class_embed_type` is 'timestep'"),
    ({"center_input_sample": True}, "`center_input_sample` is True"),
    ({"resnet_time_scale_shift": "spatial"}, "`resnet_time_scale_shift` is 'spatial'.*scale_shift"),
    ({"freq_shift": 2}, "`freq_shift` is 2"),
    ({"norm_num_groups": 3}, "`norm_num_groups` is 3; want a divisor of 8"),
    ({"attention_head_dim": 3}, "`attention_head_dim` is 3; want a divisor of 8"),
    ({"block_out_channels": [8, "16"]}, "`block_out_channels` is .*whole"),
    ({"sample_size": 7}, "`img_resolution` is 7"),
    ({"fir": True}, "`fir` is an option of UNet2DModel that is not known"),
    ({"_class_name": "UNet2DConditionModel"}, "`_class_name` is 'UNet2DConditionModel'; want a UNet2DModel"),
    ({"layers_per_block": 10**6}, "`layers_per_block` is 1000000"),
    ({"time_embedding_dim": 2**60}, "`time_embedding_dim` is"),
    (
      {"in_channels": 4, "out_channels": 4},
      r"`conv_in.weight` has shape \(8, 3, 3, 3\); want \(8, 4, 3, 3\)",
    ),
    ({"num_class_embeds": 4}, "`class_embedding.weight` is missing"),
    ({"layers_per_block": 2}, "is missing"),
  ],
)
def test_what_is_not_supported_is_named(tmp_path, config, named):
  place = folder(tmp_path, SMALL | config, {}, tensors_of("ddpm"))
  with pytest.raises(ValueError, match=named):
    importers.load(place)


@pytest.mark.parametrize(
  ("scheduler", "named"),
  [
    ({"_class_name": "ScoreSdeVeScheduler"}, "'ScoreSdeVeScheduler', which is not supported; want 'DDPMSch"),
    (
      {"beta_schedule": "sigmoid"},
      "`beta_schedule` is 'sigmoid'; known: linear, scaled_linear, squaredcos_cap_v2",
    ),
    ({"trained_betas": [0.1, 0.2]}, "`trained_betas` is set"),
    ({"rescale_betas_zero_snr": True}, "`rescale_betas_zero_snr` is set"),
    ({"prediction_type": "flow"}, "`prediction_type` is 'flow'.*'epsilon', 'v_prediction' or 'sample'"),
    ({"beta_start": 0.03}, "`beta_start`, `beta_end` are 0.03, 0.02"),
    ({"beta_end": "1"}, "`beta_end` is '1'"),
    ({"num_train_timesteps": 10**9}, "`num_train_timesteps` is 1000000000"),
    ({"beta_schedule": ["linear"]}, "`beta_schedule` is"),
  ],
)
def test_schedules_that_are_not_supported_are_named(tmp_path, scheduler, named):
  place = folder(tmp_path, SMALL, scheduler, tensors_of("ddpm"))
  with pytest.raises(ValueError, match=named):
    importers.load(place)


def test_folders_that_are_not_whole_are_named(tmp_path):
  place = folder(tmp_path, SMALL, {}, tensors_of("ddpm"))
  with pytest.raises(ValueError, match="`preconditioning` was given, which"):
    importers.load(place, importers.Told(preconditioning="edm"))
  (place / "scheduler" / "scheduler_config.json").write_text("[1]")
  with pytest.raises(ValueError, match="scheduler_config.json` is no configuration"):
    importers.load(place)
  (place / "scheduler" / "scheduler_config.json").write_text("{}")
  (place / "unet" / "diffusion_pytorch_model.safetensors").unlink()
  with pytest.raises(ValueError, match="has no weights; want diffusion_pytorch_model.safetensors or"):
    importers.load(place)
  (place / "unet" / "diffusion_pytorch_model.bin").write_bytes(forge.dumps([1]))
  with pytest.raises(ValueError, match="holds no tensors by name"):
    importers.load(place)
  (place / "unet" / "config.json").unlink()
  with pytest.raises(ValueError, match="has no config.json, in it or in `unet/`"):
    importers.load(place)


def ask(library, case):
  """Return the shapes of the library's tensors, and its estimates of the images behind x, [N, C, H, W]."""
  import torch

  config, scheduler = CASES[case]
  model = library.UNet2DModel.from_config(SMALL | config).eval()
  shapes = {name: list(value.shape) for name, value in model.state_dict().items()}
  made = {name: torch.tensor(value, dtype=torch.float32) for name, value in weights(shapes, {}).items()}
  model.load_state_dict(made)
  x, sigma, steps, classes = inputs_of(case)
  known = {
    name: value for name, value in scheduler.items() if name in (*diffusers.SCHEDULE, "prediction_type")
  }
  words = library.DDPMScheduler(clip_sample=False, **known)
  out = []
  for one, t, label in zip(x, steps, classes, strict=True):
    kept = words.alphas_cumprod[t].double()
    noisy = (torch.tensor(one).double() * kept.sqrt()).float()[None]
    labels = torch.tensor([label]) if "num_class_embeds" in config else None
    with torch.no_grad():
      said = model(noisy, torch.tensor([t]), class_labels=labels).sample
    found = words.step(said[:, : len(one)], int(t), noisy).pred_original_sample
    out.append(found[0].numpy())
  return shapes, np.stack(out)


if __name__ == "__main__":
  import diffusers as the_library

  arrays = {}
  for each in CASES:
    shapes, denoised = ask(the_library, each)
    arrays |= {f"{each}/shapes": json.dumps(shapes), f"{each}/denoised": denoised}
  np.savez_compressed(FILE, **arrays)
