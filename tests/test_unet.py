import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gauss_diffusion import networks
from gauss_diffusion.networks import unet

TINY = dict(img_resolution=8, img_channels=1, model_channels=8, channel_mult=(1, 2), num_blocks=1)


def test_plan_goes_down_and_up_again_and_takes_up_every_skip():
  net = networks.create("ddpmpp", **TINY, attn_resolutions=(4,)).model
  down, up = list(unet.encoder(net)), list(unet.decoder(net, all_attend=False))
  assert [(s.name, s.resolution, s.features, s.resample) for s in down] == [
    ("enc_8x8_block0", 8, 8, "keep"),
    ("enc_4x4_down", 4, 8, "halve"),
    ("enc_4x4_block0", 4, 16, "keep"),
  ]
  assert [(s.name, s.features, s.attention) for s in up] == [
    ("dec_4x4_in0", 16, True),
    ("dec_4x4_in1", 16, False),
    ("dec_4x4_block0", 16, False),
    ("dec_4x4_block1", 16, True),
    ("dec_8x8_up", 16, False),
    ("dec_8x8_block0", 8, False),
    ("dec_8x8_block1", 8, False),
  ]
  assert [s.name for s in up if s.ends_level] == ["dec_4x4_block1", "dec_8x8_block1"]
  assert sum(s.joins_skip for s in up) == len(down) + 1  # and the first convolution
  everywhere = unet.decoder(net, all_attend=True)
  assert [s.name for s in everywhere if s.attention] == ["dec_4x4_in0", "dec_4x4_block0", "dec_4x4_block1"]


def test_dropout_masks_keep_the_mean():
  stages = [unet.Stage("a", 16, 8), unet.Stage("b", 8, 4)]
  masks = unet.dropout_masks(jax.random.key(0), 0.2, 5, stages)
  assert {name: mask.shape for name, mask in masks.items()} == {"a": (5, 16 * 16 * 8), "b": (5, 8 * 8 * 4)}
  assert set(np.unique(masks["a"])) == {np.float32(0), np.float32(1 / 0.8)}
  # The mean of n values of variance 0.25 scatters by 0.5 / sqrt(n); five of these.
  assert abs(np.mean(masks["a"]) - 1) < 2.5 / masks["a"].size ** 0.5


def test_a_dropped_label_is_no_class():
  kept = unet.drop_labels(jax.random.key(0), 0.3, jnp.ones((4000, 3)))
  assert set(np.unique(kept.sum(1))) == {0, 3}
  assert abs(np.mean(kept) - 0.7) < 5 * (0.3 * 0.7 / 4000) ** 0.5


@pytest.mark.parametrize("name", ["ddpmpp", "adm"])
def test_wrong_options_are_named(name):
  for option, value in (("img_resolution", 9), ("model_channels", 6), ("out_channels", -1)):
    with pytest.raises(ValueError, match=f"`{option}`"):
      networks.create(name, **(TINY | {option: value}))
  with pytest.raises(ValueError, match="`out_channels`.*`img_channels`"):
    networks.create(name, **(TINY | {"img_channels": 3, "out_channels": 2}))
