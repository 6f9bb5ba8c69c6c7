"""Its numbers are held against the reference in test_importers.py."""

import jax
import numpy as np
import pytest

from gauss_diffusion import networks

TINY = dict(img_resolution=8, img_channels=1, model_channels=8, channel_mult=(1,), num_blocks=1, label_dim=2)


def test_training_drops_activations_and_labels():
  network = networks.create("adm", **TINY, dropout=0.5, label_dropout=0.5)
  rng = np.random.default_rng(0)
  # Every layer that starts at zero speaks.
  params = jax.tree.map(
    lambda p: rng.uniform(-0.5, 0.5, p.shape).astype(np.float32), networks.shapes(network)
  )
  x, labels = rng.normal(size=(8, 8, 8, 1)).astype(np.float32), np.eye(2, dtype=np.float32)[[0] * 8]

  @jax.jit
  def train(key, labels):
    inputs = x, np.ones(8, np.float32), labels
    return network.apply({"params": params}, *inputs, train=True, rngs={"dropout": key})

  first, same, other = (train(jax.random.key(seed), labels) for seed in (0, 0, 1))
  np.testing.assert_array_equal(first, same)
  assert np.abs(first - other).max() > 1e-2
  heard = np.abs(first - train(jax.random.key(0), 0 * labels)).max((1, 2, 3)) > 1e-4
  assert 0 < heard.sum() < 8


@pytest.mark.parametrize(("channels", "attends"), [(32, False), (64, True)])
def test_blocks_of_less_than_one_head_do_not_attend(channels, attends):
  options = TINY | {"model_channels": channels, "attn_resolutions": (8,)}
  blocks = networks.shapes(networks.create("adm", **options))["model"]
  assert all(
    ("qkv" in blocks[name]) == attends for name in ("enc_8x8_block0", "dec_8x8_in0", "dec_8x8_block0")
  )


def test_channels_that_do_not_split_into_heads_are_refused():
  with pytest.raises(ValueError, match="`model_channels` is 196: 196 channels.*3 heads"):
    networks.create("adm", **(TINY | {"model_channels": 196}))
