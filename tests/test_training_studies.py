"""Studies of how networks are trained: every variant passes its own checks and asks what it means to ask."""

import json

import pytest

from configs import noise_law, one_level, transition
from gauss_diffusion import edm
from gauss_diffusion.study import check

STUDIES = {"noise_law": noise_law, "one_level": one_level, "transition": transition}
SHAPES = {"": ((32, 32, 3), 50_000, 10_000), "cpu": ((16, 16, 3), 50_000, 2_000)}


@pytest.mark.parametrize("name", STUDIES)
@pytest.mark.parametrize("arg", ["", "cpu", "digits", "smoke"])
def test_every_variant_passes_its_own_checks(name, arg):
  config = STUDIES[name].get_config(arg)
  shape, pool, held_out = SHAPES.get(arg, ((8, 8, 1), 1_437, 360))
  check.check(config, shape, pool, held_out)
  assert config.data.held_out == held_out and json.loads(config.to_json())


@pytest.mark.parametrize("module", STUDIES.values())
def test_an_unknown_variant_names_the_known_ones(module):
  with pytest.raises(ValueError, match="`huge`.*smoke"):
    module.get_config("huge")


@pytest.mark.parametrize("arg", ["", "cpu", "digits"])
def test_copies_are_counted_finely_and_the_average_blurs_no_time(arg):
  config = transition.get_config(arg)
  assert 1 / config.samples.num < 0.01 / 2
  for model in config.models.values():
    # Snapshots are a factor of two apart; the average's half-life is a tenth of the steps so far, or less.
    assert model.train.ema_rampup <= 0.1 and model.train.rampup_images == 0


def test_laws_of_noise_are_all_that_differs():
  edm_law, log_uniform = (model.to_dict() for model in noise_law.get_config("digits").models.values())
  assert (edm_law["train"].pop("noise_law"), log_uniform["train"].pop("noise_law")) == ("edm", "log-uniform")
  assert {name: value for name, value in edm_law.items() if name not in ("title", "group")} == {
    name: value for name, value in log_uniform.items() if name not in ("title", "group")
  }


@pytest.mark.parametrize("arg", ["", "cpu", "digits", "smoke"])
def test_each_network_knows_one_of_the_levels_that_analyses_look_at(arg):
  config = one_level.get_config(arg)
  sampler = config.sampler
  sigmas = edm.sigma_grid(sampler.levels, sampler.sigma_min, sampler.sigma_max)
  assert config.linearity.levels == sampler.levels
  for model in config.models.values():
    assert model.train.sigma_min == model.train.sigma_max and model.train.sigma_min in sigmas
    assert model.network.preconditioning == "none"
