"""Studies of floats: a whole one of latents, what of the defaults it leaves out, and what it refuses."""

import json
import os
import pathlib
import re
import shutil

import commands
import numpy as np
import pytest
from sklearn.datasets import load_digits

from gauss_diffusion import data, results, statistics
from gauss_diffusion.data import scale
from gauss_diffusion.denoisers import FAMILIES
from gauss_diffusion.study import check, floats, rebuild, schema

REPOSITORY = pathlib.Path(__file__).parents[1]
DECODER = """
import pathlib

import numpy as np

FOUND = np.load(pathlib.Path(__file__).parent / "components.npz")


def decode(codes):
  x = codes.reshape(len(codes), -1) @ FOUND["components"] + FOUND["mean"]
  return (x / 8 - 1).clip(-1, 1).reshape(-1, 8, 8, 1)


def negative(codes):
  return -decode(codes)
"""
LATENTS = "--config.data.name=files", "--config.data.path=codes.npy", "--config.data.scale=standardise"
SMOKE = (
  f"--config={REPOSITORY}/configs/digits.py:smoke",
  "--config.network.name=skip",  # the quickest to trace
  "--config.sampler.levels=3",
  "--config.linearity.levels=3",
  "--config.analyses=('distillation', 'linearity', 'score_gap', 'trajectories', 'samples')",
)


@pytest.fixture(scope="module")
def latents(tmp_path_factory):
  """A folder with digits' leading principal components as latents [N, 4, 4, 3], and their decoder."""
  folder = tmp_path_factory.mktemp("latents")
  digits = load_digits().images.reshape(-1, 64)
  mean = digits.mean(0)
  components = np.linalg.svd(digits - mean, full_matrices=False)[2][:48]
  np.save(folder / "codes.npy", ((digits - mean) @ components.T).reshape(-1, 4, 4, 3))
  np.savez(folder / "components.npz", components=components, mean=mean)
  (folder / "decoder.py").write_text(DECODER)
  return folder


@pytest.fixture(scope="module")
def run(latents, tmp_path_factory):
  place = {"cwd": latents, "env": os.environ | {"PYTHONPATH": str(REPOSITORY), "JAX_PLATFORMS": "cpu"}}
  with commands.copies(tmp_path_factory.mktemp("printed"), **place) as copy:
    yield lambda *words: copy("gauss_diffusion.main", *SMOKE, *words)


@pytest.fixture(scope="module")
def study(run, latents):
  done = run(*LATENTS, "--config.data.decoder=decoder.py:decode", "--workdir=study")
  assert done.code == 0, done.err
  return latents / "study", done


@pytest.mark.studies
def test_a_study_of_latents_says_what_was_done(study):
  folder, done = study
  report = (folder / "report.html").read_text()
  assert "(values as the study scales them)" in report and "network  (pixels in [−1, 1])" not in report
  codes = np.load(folder.parent / "codes.npy").astype(np.float32)
  card = results.read_card(folder / "results" / "samples" / "n16")
  want = {"shift": codes.mean(dtype=float), "factor": codes.std(dtype=float) / 0.5}
  assert card["data"]["scale"] == pytest.approx(want, rel=1e-12, abs=1e-15)
  assert card["data"]["shape"] == [4, 4, 3] and card["pictures"]["how"] == "through decoder.py:decode"
  assert "pictures" not in results.read_card(folder / "results" / "score_gap" / "n16")
  assert "left out  multi-delta, which want uint8 pixels" in done.err and "scale     (value" in done.err
  config = json.loads((folder / "config.json").read_text())
  assert "multi-delta" not in str(config["score_gap"]) + str(config["trajectories"])
  report = (folder / "report.html").read_text()
  assert f"/ {want['factor']:.6g}" in report and "through decoder.py:decode" in report
  assert "nearly:" not in report  # there are no grey levels to be near by
  assert {path.stem for path in (folder / "figures").glob("*.png")} >= {"samples", "trajectories"}


@pytest.mark.studies
def test_what_was_measured_is_on_the_declared_scale(study):
  folder, _ = study
  dataset = data.load("files", path=f"{folder.parent}/codes.npy", scale="standardise")
  found = results.open(folder)
  stats = statistics.gaussian_stats(data.subset(dataset, 1437).images)
  sigma = found["score_gap"]["n1437"].sigma.to_numpy()
  # The held-out error of the Gaussian denoiser is that of its own posterior, to its spread over 16 images.
  expected = np.sqrt([np.sum(stats.eigenvalues * s**2 / (stats.eigenvalues + s**2)) / 48 for s in sigma])
  error = found["score_gap"]["n1437"].error.sel(denoiser="gaussian", clean="held-out").mean("image")
  np.testing.assert_allclose(error, expected, rtol=0.15)
  # And what the samples' figure shows is the samples, decoded as the file's own values.
  samples = found["samples"]["n16"]
  components = np.load(folder.parent / "components.npz")
  raw = scale.undo(dataset.scale, samples.samples.to_numpy()[:, :8]).reshape(-1, 48)
  want = ((raw @ components["components"] + components["mean"]) / 8 - 1).clip(-1, 1)
  shown = samples.samples_shown.to_numpy().reshape(len(want), -1) / 127.5 - 1
  np.testing.assert_allclose(shown, want, atol=0.51 / 127.5)


@pytest.mark.studies
def test_another_decoder_draws_anew_and_computes_nothing(study, run, tmp_path):
  folder, _ = study
  copy = folder.parent / "copy"
  shutil.copytree(folder, copy)
  before = {path.name: path.read_bytes() for path in (copy / "figures").glob("*.png")}
  done = run(*LATENTS, "--config.data.decoder=decoder.py:negative", f"--workdir={copy}")
  assert done.code == 0 and "stage" not in done.err, done.err
  after = {path.name: path.read_bytes() for path in (copy / "figures").glob("*.png")}
  assert {name for name in after if after[name] != before[name]} == {"samples.png", "trajectories.png"}
  # A report needs results alone: neither the decoder nor the data.
  moved = tmp_path / "moved"
  moved.mkdir()
  shutil.copy(copy / "config.json", moved)
  shutil.copytree(copy / "results", moved / "results")
  rebuild.rebuild(moved)
  assert (moved / "figures" / "samples.png").read_bytes() == after["samples.png"]


@pytest.mark.studies
def test_a_decoder_that_fails_takes_no_result_along(study, run, latents):
  folder, _ = study
  copy = folder.parent / "tired"
  shutil.copytree(folder, copy)
  for path in (copy / "results").glob("*/n16*"):
    if path.parent.name == "trajectories":
      path.unlink()
  (latents / "tired.py").write_text(
    "def decode(x):\n  assert len(x) < 3, 'too many'\n  return x[..., :1] * 0\n"
  )
  done = run(*LATENTS, "--config.data.decoder=tired.py:decode", f"--workdir={copy}")
  assert done.code == 2 and "error: `data.decoder` 'tired.py:decode' on floats" in done.err, done.err
  assert "too many" in done.err and "Traceback" not in done.err
  found, card = results.load(copy / "results" / "trajectories" / "n16")
  assert found is not None and "pictures" not in card
  done = run(*LATENTS, "--config.data.decoder=decoder.py:decode", f"--workdir={copy}")
  assert done.code == 0 and "trajectories n16;" not in done.err, done.err
  assert "denoised_shown" in results.load(copy / "results" / "trajectories" / "n16")[0]


@pytest.mark.processes
def test_all_that_is_wrong_is_said_at_once(run, latents):
  wrong = (
    "--config.samples.denoisers=('network', 'kernel', 'golden')",
    "--config.controls=('multi-delta',)",
    "--config.models.n16.denoiser=els",
    "--config.data.decoder=decoder.py:encode",
  )
  done = run(*LATENTS, *wrong, "--dry_run", "--workdir=none")
  assert done.code == 2 and not (latents / "none").exists()
  for field, name in {
    "samples.denoisers": "golden",
    "controls": "multi-delta",
    "models.n16.denoiser": "els",
  }.items():
    assert re.search(
      f"`{field}` has '{name}', which compares whole grey levels exactly.*leave it out", done.err
    )
  assert "`samples.denoisers` has 'kernel'" in done.err


@pytest.mark.processes
@pytest.mark.parametrize(
  ("words", "want"),
  [
    (
      (*LATENTS, "--config.data.decoder=decoder.py:encode"),
      "`data.decoder` .*decoder.py has decode, negative",
    ),
    (LATENTS[:2], "`data.scale` is empty, and codes.npy has floats; want a number"),
    (
      ["--config.data.decoder=decoder.py:decode"],
      "`data.decoder` .*without `data.scale` the data are pixels",
    ),
    (
      ["--config.data.scale=4"],
      "`data.scale` is '4', and digits has uint8 pixels, which need none; leave it empty",
    ),
  ],
)
def test_wrong_fields_are_one_line(run, words, want):
  done = run(*words, "--workdir=none")
  assert done.code == 2 and re.fullmatch(f"error: .*{want}.*\n", done.err), done.err


def study_of(*names, **data):
  config = schema.default()
  config.analyses = names
  config.data.update(data)
  schema.add_model(config, "n16", 16)
  return config


def test_defaults_that_want_pixels_are_left_out_of_floats_alone():
  config = study_of("score_gap", "trajectories", "explained", "distillation", "linearity", scale="2.0")
  assert set(floats.leave_out(config)) == {"multi-delta", "kernel"}
  assert config.explained.denoisers == ("gaussian",)
  assert config.trajectories.denoisers == ("network", "gaussian", "linear (held-out)")
  assert len(config.score_gap.pairs) == 4 and "multi-delta" not in str(config.score_gap.pairs)
  assert not list(floats.asking(config)) and floats.leave_out(config) == []
  check.check(config, (4, 4, 3), 100, 360)
  pixels = study_of("score_gap", "trajectories", "distillation")
  before = pixels.to_json()
  assert floats.leave_out(pixels) == [] and pixels.to_json() == before


def test_what_was_chosen_stays_and_is_refused():
  config = study_of("score_gap", scale="2.0")
  config.score_gap.pairs = (("network", "gaussian"), ("network", "multi-delta"), ("network", "smoothed"))
  assert floats.leave_out(config) == []
  found = [wrong for wrong in check.problems(config, (4, 4, 3), 100, 360) if "exactly" in wrong]
  assert len(found) == 2 and all("`score_gap.pairs` has" in wrong for wrong in found)


def test_unknown_analyses_are_said_first():
  config = study_of("score_gap", "gains", scale="2.0")
  assert floats.leave_out(config) == ["multi-delta"]
  first, *_ = check.problems(config, (4, 4, 3), 100, 360)
  assert first.startswith("`analyses` has no 'gains'")


def test_every_default_of_every_analysis_suits_floats():
  config = study_of(*sorted(set(schema.analyses.ANALYSES)), scale="standardise")
  floats.leave_out(config)
  used = {name for one in config.analyses for name in schema.analyses.ANALYSES[one].uses(config[one])}
  assert not any(FAMILIES[name].exact for name in used if name in FAMILIES)


def test_a_figure_about_a_denoiser_of_pixels_is_not_for_floats():
  config = study_of("score_gap", "samples", "linearity", "distillation", scale="2.0")
  config.figures, config.sweep = ("sweep",), "size"
  floats.leave_out(config)
  schema.add_model(config, "n64", 64)
  with pytest.raises(
    ValueError, match="`figures` has 'sweep', which is about 'multi-delta', which compares .*leave it"
  ):
    check.check(config, (4, 4, 3), 100, 360)
