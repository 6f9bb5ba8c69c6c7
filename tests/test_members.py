"""Who takes part in a study: as many networks as asked for, each control once for those that share it."""

import pathlib

import pytest

from gauss_diffusion import data
from gauss_diffusion.denoisers import FAMILIES
from gauss_diffusion.readings.claims import CLAIMS
from gauss_diffusion.readings.claims.claim import MUST_NOT_PASS, MUST_PASS
from gauss_diffusion.study import asked, members, schema, subjects
from gauss_diffusion.study.members import CONTROLS, STRIDE, TRAINED


def study(*labels_and_sizes, claims=("nearest to gaussian",), controls=("skip",), replicates=1):
  config = schema.default()
  for label, size in labels_and_sizes or (("n16", 16),):
    schema.add_model(config, label, size)
  config.claims, config.controls, config.replicates = claims, controls, replicates
  return config


def by_label(config):
  return {member.label: member for member in members.members(config)}


# Replicates.


def test_replicates_have_labels_seeds_and_numbers_of_their_own():
  config = study(("n16", 16), ("n8", 8), controls=(), replicates=3)
  config.models.n16.seed = 7
  found = by_label(config)
  assert list(found) == ["n8", "n8.2", "n8.3", "n16", "n16.2", "n16.3"]
  assert [member.entry.seed for member in found.values()] == [
    0, STRIDE, 2 * STRIDE, 7, 7 + STRIDE, 7 + 2 * STRIDE,
  ]  # fmt: skip
  assert [member.replicate for member in found.values()] == [0, 1, 2, 0, 1, 2]
  assert {member.model for member in found.values()} == {"n8", "n16"}
  assert not any(member.control or member.stands_in for member in found.values())
  assert config.models.n16.seed == 7  # what was asked for is as it was


def test_one_replicate_is_the_study_as_it_always_was():
  found = by_label(study(("n16", 16), ("n8", 8), controls=()))
  assert list(found) == ["n8", "n16"]


def test_an_affine_map_follows_the_network_that_it_is_of():
  config = study(controls=(), replicates=2)
  schema.add_model(config, "map", 16, title="its map").linear = "n16"
  found = by_label(config)
  assert (found["map"].entry.linear, found["map.2"].entry.linear) == ("n16", "n16.2")


def test_replicates_take_the_pool_in_another_order():
  config, dataset = study(replicates=2), data.load("digits", held_out=360, seed=0)
  models = {model.label: model for model in subjects.models(config, dataset, pathlib.Path())}
  first, second = (data.subset(dataset, 16, 0, draw) for draw in (0, 1))
  for label, subset in (("n16", first), ("n16.skip", first), ("n16.2", second), ("n16.2.skip", second)):
    assert models[label].subset.fingerprint == subset.fingerprint
  assert not set(first.ids) & set(second.ids)


# Controls.


@pytest.mark.parametrize("control", CONTROLS)
def test_a_control_is_what_its_name_says(control):
  claim = next(name for name, claim in CLAIMS.items() if control in claim.controls)
  config = study(claims=(claim,), controls=(control,))
  own, stand_in = members.members(config)
  assert own.stands_in == {control: stand_in.label} == {control: f"n16.{control}"}
  assert (stand_in.control, stand_in.model, stand_in.replicate) == (control, "n16", 0)
  changed = {
    name
    for name, value in stand_in.entry.to_dict().items()
    if value != own.entry.to_dict()[name] and name != "title"
  }
  if control in FAMILIES:
    assert changed == {"denoiser"} and stand_in.entry.denoiser == control
  else:
    field, value = {
      "untrained": ("train", own.entry.train.to_dict() | {"steps": 0}),
      "linear": ("linear", "n16"),
      "surrogate": ("surrogate", True),
    }[control]
    assert changed == {field} and stand_in.entry.to_dict()[field] == value
  assert own.entry.train.steps and not own.entry.denoiser  # the model is as it was


def test_every_control_has_a_role_somewhere_and_every_role_is_of_a_control():
  roles = {control: role for claim in CLAIMS.values() for control, role in claim.controls.items()}
  assert set(roles) == set(CONTROLS)
  assert set(roles.values()) <= {MUST_NOT_PASS, MUST_PASS}


def test_a_control_of_which_no_claim_knows_anything_is_left_out():
  config = study(claims=("identity",), controls=tuple(CONTROLS))
  assert [member.control for member in members.members(config)[1:]] == [
    name for name in CONTROLS if name in CLAIMS["identity"].controls
  ]
  config.claims = ()
  assert len(members.members(config)) == 1


def test_models_share_a_control_that_is_the_same_for_them():
  config = study(("a", 16), ("b", 16), ("c", 32), controls=("skip", "untrained", "linear", "surrogate"))
  config.claims = ("nearest to gaussian", "linear knows high noise")
  config.models.a.train.steps = 3
  found = by_label(config)
  shared = {"skip": "a.skip", "untrained": "a.untrained"}
  alone = {name: {"linear": f"{name}.linear", "surrogate": f"{name}.surrogate"} for name in "abc"}
  assert found["a"].stands_in == shared | alone["a"]
  assert found["b"].stands_in == shared | alone["b"]  # trained longer, which the untrained one is not
  assert found["c"].stands_in == {"skip": "c.skip", "untrained": "c.untrained"} | alone["c"]
  for change in ({"seed": 1}, {"part": 1}, {"network": config.network.to_dict() | {"model_channels": 8}}):
    other = config.copy_and_resolve_references()
    other.models.b.update(change)
    stands_in = by_label(other)["b"].stands_in
    assert stands_in["untrained"] == "b.untrained"
    assert stands_in["skip"] == ("b.skip" if "part" in change else "a.skip")
  longer = config.copy_and_resolve_references()
  longer.models.b.train.steps = 3
  assert by_label(longer)["b"].stands_in["surrogate"] == "a.surrogate"


def test_members_are_the_same_of_a_config_and_of_its_plain_values():
  config = study(("a", 16), ("b", 32), controls=tuple(CONTROLS), replicates=2)
  plain = lambda entry: entry if isinstance(entry, dict) else asked.plain(entry)  # noqa: E731
  of_config, of_values = (
    [member._replace(entry=plain(member.entry)) for member in members.members(each)]
    for each in (config, asked.plain(config))
  )
  assert of_config == of_values and len(of_config) == 4 * (1 + len(CONTROLS) - 1)  # all but linear


# Analyses.


def test_a_control_has_the_analyses_that_a_claim_asks_about_it():
  config = study(claims=("gl rises", "identity"), controls=("mean", "gaussian", "surrogate"))
  config.analyses = ("distillation", "linearity", "samples", "denoised")
  found = {member.label: members.analyses_of(config, member) for member in members.members(config)}
  # `identity` asks nothing about the mean, nor `gl rises` about the Gaussian denoiser.
  assert found == {
    "n16": [*config.analyses],
    "n16.mean": ["distillation", "samples"],
    "n16.gaussian": ["distillation", "denoised"],
  }
  config.analyses = ("samples", "denoised")
  assert members.analyses_of(config, members.members(config)[1]) == ["samples"]


def test_no_claim_asks_which_images_a_surrogate_copies():
  for name, claim in CLAIMS.items():
    if "surrogate" in claim.controls:
      assert not any(place.startswith("samples") for place in claim.needs.results), name  # it has seen none


# Errors.


@pytest.mark.parametrize(
  "changes, of_the_model, want",
  [
    ({"replicates": 0}, {}, f"`replicates` is 0; want 1 to {STRIDE}"),
    ({"replicates": STRIDE + 1}, {}, f"`replicates` is {STRIDE + 1}; want 1 to {STRIDE}"),
    ({"replicates": 2}, {"checkpoint": "there"}, "`replicates` is 2, and `models.n16` is a checkpoint"),
    ({"replicates": 2}, {"function": "f.py:f"}, "`replicates` is 2, and `models.n16` is a function"),
    *(
      (
        {"controls": (name,)},
        {"denoiser": "skip"},
        f"`controls` has '{name}', and `models.n16` is no network",
      )
      for name in TRAINED
    ),
    (
      {"claims": ("linear knows high noise",), "controls": ("linear",), "analyses": ("linearity",)},
      {},
      "`controls` has 'linear', which needs 'distillation'",
    ),
  ],
)
def test_what_cannot_take_part_is_named(changes, of_the_model, want):
  config = study()
  config.update(changes)
  config.models.n16.update(of_the_model)
  with pytest.raises(ValueError, match=want):
    members.check(config)


def test_the_most_that_can_be_is_not_refused():
  members.check(study(controls=tuple(CONTROLS), replicates=STRIDE))
