"""A kept study has the verdicts of the whole one, and says what was left out and what is damaged."""

import base64
import json
import pathlib
import re
import shutil

import commands
import numpy as np
import pytest
import xarray as xr
from test_pipeline import run, tiny

from gauss_diffusion import data, keep, results
from gauss_diffusion.readings import measures, projection
from gauss_diffusion.study import rebuild, schema, shorten
from gauss_diffusion.study.members import Member, members

FLOAT32 = 1e-6  # eight roundings of numbers of 24 bits
LABELS = ("n16", "n16.2", "n16.skip", "n16.2.multi-delta")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
  """A study of two networks each of two sizes, with controls, done."""
  folder = tmp_path_factory.mktemp("keep") / "whole"
  config = tiny("linearity", "score_gap", "samples")
  config.score_gap.pairs = (("network", "gaussian"), ("network", "multi-delta"))
  config.claims = ("linearity rises", "gl rises", "memorizer", "low-noise floor")
  config.controls, config.replicates, config.sweep = ("skip", "multi-delta"), 2, "size"
  for size in (16, 64):
    schema.add_model(config, f"n{size}", size)
  run(config, data.load("digits", held_out=360, seed=0), folder)
  rebuild.rebuild(folder)
  return folder


@pytest.fixture(scope="module")
def kept(whole):
  folder = whole.parent / "kept"
  keep.keep(whole, folder)
  return folder


@pytest.fixture
def copy(kept, tmp_path):
  return shutil.copytree(kept, tmp_path / "copy")


@pytest.fixture(scope="module")
def unpacked(kept):
  keep._unpack(kept / keep.ARCHIVE, kept.parent / "unpacked")
  return kept.parent / "unpacked"


def read(folder, analysis, label):
  return results.load(folder / "results" / analysis / label)


def contents(folder):
  return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_verdicts_are_those_of_the_whole_study(whole, kept):
  found, wanted = (json.loads((folder / "claims.json").read_text()) for folder in (kept, whole))
  for row, want in zip(found, wanted, strict=True):
    assert row["verdict"] == want["verdict"] and row["why"] == want["why"]
    # The last digit that is printed, and of an interval 10^6 times as wide as that, six digits.
    np.testing.assert_allclose(row["value"], want["value"], rtol=1e-3, atol=1e-3)
    assert {name: each["verdict"] for name, each in row["controls"].items()} == {
      name: each["verdict"] for name, each in want["controls"].items()
    }


def test_a_report_writes_what_is_lost_and_touches_nothing_else(kept, copy):
  before = {path: path.stat().st_mtime_ns for path in copy.rglob("*") if path.is_file()}
  lost = [copy / "claims.json", copy / "report.html", copy / "figures" / "samples.webp"]
  for path in lost:
    path.unlink()
  with keep.reported(copy):
    pass
  assert contents(copy) == contents(kept)
  assert {path for path, when in before.items() if path.stat().st_mtime_ns != when} == set(lost)


def test_the_report_holds_the_archive_and_needs_no_file_beside_it(whole, kept):
  shown = (kept / "report.html").read_text()
  (held,) = re.findall(r'href="data:application/x-xz;base64,([^"]*)"', shown)
  assert base64.b64decode(held) == (kept / keep.ARCHIVE).read_bytes()
  assert not re.search(r'(href|src)="(figures|results)/', shown)
  assert re.search(r'href="results/score_gap/n16.nc"', (whole / "report.html").read_text())


def test_every_figure_but_the_loss_is_there_and_no_pdf(whole, kept):
  names = {path.stem for path in (whole / "figures").glob("*.png")}
  assert {path.name for path in (kept / "figures").iterdir()} == {
    f"{name}.webp" for name in names - {"training"}
  }
  assert 'id="training"' in (kept / "report.html").read_text()


def test_the_same_files_give_the_same_archive(kept, unpacked, tmp_path):
  keep._pack(unpacked / "results", tmp_path / "again")
  assert (tmp_path / "again").read_bytes() == (kept / keep.ARCHIVE).read_bytes()


def test_every_member_is_there_and_its_card_says_what_was_left_out(whole, unpacked):
  config = json.loads((whole / "config.json").read_text())
  labels = {path.stem for path in (unpacked / "results" / "score_gap").glob("*.nc")}
  assert labels == {member.label for member in members(config)} >= set(LABELS)
  assert {"weight", "bias"} < set(shorten.UNREAD["distillation"])
  unread = ["distance", "held_out_memorized"]
  for name, label, left_out in (
    ("linearity", "n16", ["centred_cosine"]),
    ("linearity", "n16.skip", ["centred_cosine", "nmse", "centred_nmse"]),
    ("samples", "n16", unread),
    ("samples", "n16.2", ["samples", "neighbours", *unread]),
    ("score_gap", "n16", ["nmse"]),
  ):
    arrays, card = read(unpacked, name, label)
    before, _ = read(whole, name, label)
    assert set(left_out) == {*before.data_vars} - {*arrays.data_vars}
    assert sorted(card["kept"]["left out"]) == sorted(left_out)


def test_of_samples_that_nothing_compares_two_scores_stand_for_all_of_a_further_network(whole, unpacked):
  (one, _), (old, _) = (read(folder, "samples", "n16.2") for folder in (unpacked, whole))
  assert one.sizes["sample"] == 2 < old.sizes["sample"]
  np.testing.assert_allclose(one.gl.mean("sample"), old.gl.mean("sample"), rtol=FLOAT32)


def test_of_a_control_what_claims_read_is_kept(unpacked):
  arrays, _ = read(unpacked, "score_gap", "n16.skip")
  assert set(arrays.data_vars) <= set(shorten.JUDGED["score_gap"]) and arrays.clean.item() == "held-out"
  arrays, _ = read(unpacked, "linearity", "n16.skip")
  assert set(arrays.data_vars) == {"cosine"} and arrays.inputs.item() == "noisy image"


@pytest.mark.parametrize("label", LABELS)
def test_of_several_networks_means_are_kept_at_every_level_and_mean_squares_of_errors(whole, unpacked, label):
  old, new = (read(folder, "score_gap", label)[0] for folder in (whole, unpacked))
  first = label == "n16"  # as many samples as before, by which figures see that others have fewer
  assert new.sizes["image"] == (old.sizes["image"] if first else 2)
  old = old.sel(law=["held-out"], clean=["held-out"])
  for power in (1, 2):
    wanted = (old.error.astype(float) ** power).mean("image")
    np.testing.assert_allclose(
      (new.error**power).mean("image"), wanted, rtol=2.0 ** -(shorten.EXACT_BITS - 1)
    )
  np.testing.assert_allclose(new.rmse.mean("image"), old.rmse.astype(float).mean("image"), rtol=FLOAT32)
  old, new = (abs(read(folder, "linearity", label)[0].cosine.astype(float)) for folder in (whole, unpacked))
  old = old.sel(inputs=new.inputs)
  np.testing.assert_allclose(new.mean("sample"), old.mean("sample"), rtol=FLOAT32)


def test_one_network_keeps_its_samples_to_the_bits_that_are_said(whole):
  config = json.loads((whole / "config.json").read_text()) | {"replicates": 1}
  member = next(member for member in members(config) if member.label == "n16")
  for digits in shorten.LADDER:
    old = read(whole, "score_gap", "n16")[0]
    new, card = shorten.shorten(old, "score_gap", member, config, digits)
    old = old.sel(law=["held-out"], clean=["held-out"])
    assert card["mantissa bits"] == digits.bits
    assert card["mantissa bits of error, output_gap, output_noise"] == digits.square_bits
    np.testing.assert_allclose(new.rmse, old.rmse, rtol=2.0 ** -(digits.bits + 1))
    np.testing.assert_allclose(new.error, old.error, rtol=2.0 ** -(digits.square_bits + 1))
    assert digits.bits == shorten.WHOLE_BITS or not np.array_equal(new.rmse, old.rmse)

  old = read(whole, "linearity", "n16")[0]
  new, _ = shorten.shorten(old, "linearity", member, config, shorten.LADDER[0])
  old = old.sel(alpha2=new.alpha2)
  noisy = {"inputs": "noisy image"}
  np.testing.assert_allclose(new.cosine.sel(noisy), old.cosine.sel(noisy), rtol=2.0**-10)
  for name, one, two in (
    ("nmse", old.nmse, new.nmse),
    ("cosine", abs(old.cosine.sel(inputs="pure noise")), new.cosine.sel(inputs="pure noise")),
  ):
    for measure in ("mean", "std"):
      wanted = getattr(one.astype(float), measure)("sample")
      found = getattr(two.astype(float), measure)("sample")
      np.testing.assert_allclose(found, wanted, rtol=FLOAT32, atol=FLOAT32, err_msg=name)


def test_pictures_are_kept_in_steps(whole, unpacked):
  shown = shorten.SHEET["samples"][1]
  old, new = (read(folder, "samples", "n16")[0].samples[:, :shown] for folder in (whole, unpacked))
  largest = abs(old).max(("y", "x", "channel")).to_numpy()
  step = read(unpacked, "samples", "n16")[1]["kept"]["step of a picture"]
  step *= 2.0 ** np.ceil(np.log2(largest))[..., None, None, None]
  assert np.all(abs(new.to_numpy() - old.to_numpy()) <= step / 2 + 1e-6)
  np.testing.assert_array_equal(new / step, np.round(new / step))


@pytest.mark.parametrize("count", [1, 2, 7, 100])
def test_two_values_in_turn_have_the_mean_and_the_spread_of_all(count):
  values = xr.DataArray(np.random.default_rng(0).gamma(2.0, size=(3, count)), dims=("sigma", "image"))
  for few in (False, True):
    found = shorten._moments(values, few=few, spread=True).astype(float)
    assert found.sizes["image"] == (2 if few else count)
    np.testing.assert_allclose(found.mean("image"), values.mean("image"), rtol=FLOAT32)
    np.testing.assert_allclose(found.std("image"), values.std("image"), rtol=1e-5, atol=FLOAT32)
    even = shorten._moments(values, few=few, spread=False)
    assert (even == even.isel(image=0)).all()


def test_fields_are_turned_together_and_keep_their_inner_products():
  rng = np.random.default_rng(0)
  axes = ("denoiser", "sigma", "image", "y", "x", "channel")
  fields = [xr.DataArray(rng.normal(size=(2, 3, 5, 4, 4, 1)).astype(np.float32), dims=axes) for _ in range(2)]
  fields[1] = fields[1].transpose("sigma", ...)
  turned = shorten._turn(fields)

  def products(each):
    flat = np.concatenate([field.transpose(*axes).to_numpy().reshape(2, 15, 16) for field in each])
    return np.einsum("aip,bip->abi", flat.astype(float), flat)

  np.testing.assert_allclose(products(turned), products(fields), atol=16 * FLOAT32)
  assert [field.dims for field in turned] == [field.dims for field in fields]
  assert (turned[1].isel(denoiser=0) != 0).sum() == 3 * 15  # the third of four has three coordinates


def test_of_samples_that_are_compared_distances_to_the_other_half_are_kept(tmp_path):
  config = {"claims": ("halves agree",), "figures": (), "replicates": 2}
  rng, names = np.random.default_rng(0), ["network", "gaussian"]
  axes = ("denoiser", "sample", "y", "x", "channel")

  def half(group, part, replicate=0, control=""):
    name = f"{group}{part}" + f".{replicate + 1}" * bool(replicate)
    stands_in = {} if control else {"mean": f"x{part}" + f".{replicate + 1}" * bool(replicate) + ".mean"}
    label = f"{name}.{control}" if control else name
    entry = {"group": group, "part": part, "title": label.replace(".2", "")}
    return Member(label, name, replicate, control, entry, stands_in)

  # The controls of the first group stand in for the second, too.
  everybody = [half(group, part, replicate) for replicate in (0, 1) for group in "xy" for part in (0, 1)]
  everybody += [half("x", part, replicate, "mean") for replicate in (0, 1) for part in (0, 1)]
  before = {}
  for member in everybody:
    values = rng.uniform(-1, 1, (2, 9, 4, 4, 3)).astype(np.float32)
    found = results.labelled({"samples": (axes, values), "neighbours": (axes, values)}, {"denoiser": names})
    results.save(tmp_path / "results" / "samples" / member.label, found, {})
    before[member.label] = measures.Reading(member.entry["title"], member.entry, {"samples": found}, {})
  added = shorten.added(tmp_path, everybody, config)
  assert {pathlib.Path(place).name for place in added} == {*before}

  def kept(member):
    beside = added[str(tmp_path / "results" / "samples" / member.label)]
    found = before[member.label].found["samples"].assign(beside)
    found = shorten.shorten(found, "samples", member, config, shorten.LADDER[0])[0]
    return before[member.label]._replace(found={"samples": found})

  after = {member.label: kept(member) for member in everybody}
  assert {label: "samples" in each.found["samples"] for label, each in after.items()} == {
    label: label in {"x0", "x1", "y0", "y1"} for label in before
  }
  for one, two in (("x0", "x1"), ("y1.2", "y0.2"), ("x0.mean", "x1.mean"), ("y0", "y0"), ("x1.2.mean",) * 2):
    for pair in (("network", "network"), ("network", "gaussian"), ("gaussian", "gaussian")):
      wanted = measures.distance(before[one], before[two], *pair)
      found = measures.distance(after[one], after[two], *pair)
      assert len(found) == (9 if one in {"x0", "y0"} else 2)
      np.testing.assert_allclose(found.mean(), wanted.mean(), rtol=2.0**-10, atol=FLOAT32)
  with pytest.raises(KeyError, match="partner"):
    measures.distance(after["x0"], after["y1"])
  assert not shorten.added(tmp_path, everybody, {"claims": (), "figures": ()})


def test_half_means_explain_what_the_images_do():
  fields = np.random.default_rng(0).normal(size=(3, 4, 11, 20))  # [fields, sigma, image, pixels]
  grams = np.triu(np.einsum("asip,bsip->siab", fields, fields))
  axes = ("sigma", "image", "denoiser", "other")
  kept = shorten._mean_of_halves(xr.DataArray(grams, dims=axes)).to_numpy()
  assert len(np.unique(kept[0, :, 0, 0])) == 2
  one, two = (
    projection.explained(upper + np.triu(upper, 1).swapaxes(-1, -2)).mean(-1) for upper in (grams, kept)
  )
  np.testing.assert_allclose(one, two, atol=1e-5)


def test_where_a_verdict_would_change_numbers_are_kept_whole(whole, unpacked, tmp_path, monkeypatch):
  def drawn_before(folder):
    for path in [whole / "claims.json", whole / "headline.json", whole / "report.html"]:
      shutil.copy(path, folder)

  monkeypatch.setattr(keep, "_same_verdicts", lambda found, wanted: False)
  monkeypatch.setattr(rebuild, "rebuild", lambda folder, *offered: folder == whole or drawn_before(folder))
  keep.keep(whole, tmp_path / "kept")
  keep._unpack(tmp_path / "kept" / keep.ARCHIVE, tmp_path)
  for label in LABELS:
    old, new = (read(folder, "score_gap", label)[0].error for folder in (whole, tmp_path))
    np.testing.assert_array_equal(new, old.sel(clean=["held-out"]))


def test_of_what_is_read_as_a_mean_the_mean_is_kept():
  rng = np.random.default_rng(0)
  whole = xr.DataArray(rng.gamma(2.0, size=(3, 48, 4)).astype(np.float32), dims=("sigma", "image", "k"))
  short = shorten._mean(whole)
  assert short.dims == whole.dims and short.shape == whole.shape
  np.testing.assert_allclose(short.mean("image"), whole.astype(float).mean("image"), rtol=FLOAT32)
  assert (short == short.isel(image=0)).all()


def test_of_samples_the_pictures_shown_are_kept_and_distances_from_the_network():
  rng = np.random.default_rng(0)
  axes, names = ("denoiser", "sample", "y", "x", "channel"), ["gaussian", "network"]
  found = results.labelled(
    {
      "samples": (axes, rng.random((2, 20, 4, 4, 1), np.float32)),
      "neighbours": (axes, rng.random((2, 20, 4, 4, 1), np.float32)),
      "gl": (axes[:2], rng.random((2, 20), np.float32)),
    },
    {"denoiser": names},
  )
  config = {"claims": (), "figures": (), "replicates": 1}
  kept, card = shorten.shorten(found, "samples", Member("n", "n", 0, "", {}, {}), config, shorten.LADDER[-1])
  np.testing.assert_allclose(kept.gl, found.gl, rtol=FLOAT32)
  np.testing.assert_allclose(kept.samples[:, :8], found.samples[:, :8], atol=shorten.LADDER[-1].step)
  even = (kept.samples[:, 8:] == kept.samples[:, 8:].isel(y=[0], x=[0]).data).all()
  assert even
  np.testing.assert_allclose(kept.neighbours[:, :8], found.neighbours[:, :8], atol=shorten.LADDER[-1].step)
  assert bool((kept.neighbours[:, 8:] == 0).all()) and card["pictures kept"] == 8
  apart = np.sqrt(((found.samples[0] - found.samples[1]).astype(float) ** 2).mean(axes[2:]))
  np.testing.assert_allclose(kept.samples[0, 8:, 0, 0, 0], apart[8:], rtol=FLOAT32)
  np.testing.assert_allclose(
    measures.pfd(kept, "gaussian"), measures.pfd(found, "gaussian"), rtol=shorten.LADDER[-1].step
  )


@pytest.mark.parametrize("change", ["verdict", "value", "control"])
def test_another_verdict_is_seen(whole, change):
  wanted = json.loads((whole / "claims.json").read_text())
  found = json.loads((whole / "claims.json").read_text())
  assert keep._same_verdicts(found, wanted)
  if change == "verdict":
    found[0]["verdict"] = "another"
  if change == "value":
    found[0]["value"][0] += keep.PRINTED
  if change == "control":
    found[0]["controls"]["skip"]["verdict"] = "another"
  assert not keep._same_verdicts(found, wanted)


# Errors.


def test_damage_names_the_file_and_the_remedy(copy):
  path = copy / keep.ARCHIVE
  stored = bytearray(path.read_bytes())
  remedy = rf"`{path}` can't be read .*git checkout {path}.*gauss_diffusion.keep WORKDIR {copy}"
  for damaged in (stored[: len(stored) // 2], stored[:1000] + b"x" + stored[1001:], b""):
    path.write_bytes(damaged)
    with pytest.raises(ValueError, match=remedy):
      with keep.reported(copy):
        pass
  path.unlink()
  with pytest.raises(ValueError, match=remedy):
    with keep.reported(copy):
      pass


def test_a_config_of_another_study_is_refused(copy):
  config = json.loads((copy / "config.json").read_text())
  config["score_gap"]["images"] += 1
  (copy / "config.json").write_text(json.dumps(config))
  with pytest.raises(ValueError, match=rf"`{copy / keep.ARCHIVE}` has no current results of score_gap"):
    with keep.reported(copy):
      pass


def test_an_unfinished_study_and_a_folder_of_something_else_are_refused(whole, tmp_path):
  (tmp_path / "mine.txt").write_text("mine")
  with pytest.raises(ValueError, match="is not empty and holds no kept study"):
    keep.keep(whole, tmp_path)
  unfinished = tmp_path / "unfinished"
  unfinished.mkdir()
  shutil.copy(whole / "config.json", unfinished)
  with pytest.raises(ValueError, match="no current results of linearity"):
    keep.keep(unfinished, tmp_path / "kept")


@pytest.mark.processes
def test_both_commands(whole, tmp_path):
  with commands.copies(tmp_path) as run:
    done = run("gauss_diffusion.keep", whole, tmp_path / "kept")
    assert done.code == 0 and "results.tar.xz" in done.out, done.err
    done = run("gauss_diffusion.report", tmp_path / "kept")
    assert done.code == 0 and "GL score" in done.out, done.err
    assert run("gauss_diffusion.keep", whole).code == 2
