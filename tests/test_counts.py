"""Counts that nobody chose follow the data."""

import pytest

from gauss_diffusion import analyses
from gauss_diffusion.study import check, counts, schema

EVERY = sorted(set(analyses.ANALYSES) - {"descent"})  # which draws maps of distillation by descent


def study_of(*names, **settings):
  config = schema.default()
  config.analyses = names
  config.update_from_flattened_dict(settings)
  schema.add_model(config, "n16", 16)
  return config


def test_digits_have_the_defaults():
  config = study_of(*EVERY)
  before = config.to_json()
  assert counts.follow(config, 64, 360) == [] and config.to_json() == before


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize(("shape", "num_held_out"), [((8, 8, 1), 36), ((16, 16, 3), 360), ((5, 5, 2), 101)])
def test_defaults_that_follow_are_never_refused(name, shape, num_held_out):
  needs = ("distillation",) if "linear (held-out)" in str(analyses.ANALYSES[name].DEFAULTS) else ()
  config = study_of(*dict.fromkeys((*needs, name)))
  height, width, channels = shape
  counts.follow(config, height * width * channels, num_held_out)
  assert not [wrong for wrong in check.problems(config, shape, 100, num_held_out) if f"`{name}." in wrong]


def test_few_images_and_many_pixels_are_said():
  config = study_of("distillation", "score_gap", "linearity")
  assert counts.follow(config, 768, 12) == [
    "distillation.reserved=6",
    "distillation.pairs=7680",
    "score_gap.images=6",
    "linearity.pairs=6",
  ]
  assert counts.follow(config, 768, 12) == []  # said once


def test_what_was_chosen_stays_and_is_refused():
  config = study_of("score_gap", "distillation", **{"score_gap.images": 50, "distillation.pairs": 1000})
  assert counts.follow(config, 768, 12) == ["distillation.reserved=6"]
  found = list(check.problems(config, (16, 16, 3), 100, 12))
  assert any("`score_gap.images` is 50" in wrong for wrong in found)
  assert any("`distillation.pairs` is 1000" in wrong for wrong in found)


def test_an_analysis_that_is_unknown_is_left_to_the_check():
  assert counts.follow(study_of("gains"), 64, 2) == []
