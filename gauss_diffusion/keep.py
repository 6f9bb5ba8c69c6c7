"""Keep what the report of a finished study is made of, small enough to commit.

    python -m gauss_diffusion.keep runs/dataset_size results/dataset_size/digits

The folder then holds the study's ``config.json``; ``results.tar.xz``, the results of every member without
what no figure and no claim reads; and what ``python -m gauss_diffusion.report FOLDER`` makes of them,
headline, claims and figures, but for the loss and for sheets of dozens of models. Every verdict is that of
the whole results. Each card says what was left out, and how numbers were shortened:

- Of controls stays what claims read: no figure and no headline shows them.
- Of several networks of a model means are read. They stand in the place of all samples, with their spread
  where squares are read too, so that figures have bands over networks and none over images.
- Of one network claims and headline read every sample; all stay, with fewer digits. Of what figures alone
  read two values stand for all, with the same mean and spread.
- Pictures are those that figures show. In the place of further samples stand even ones, as far from the
  network's as the samples were; where samples of two networks are compared, all stay.
- Fields of which inner products alone are read are turned until few of their pixels are other than 0.
"""

import contextlib
import io
import lzma
import math
import pathlib
import shutil
import tarfile
import tempfile
import typing
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from absl import app, logging
from PIL import Image, ImageChops, ImageStat

from gauss_diffusion import interrupts, page, plots, results
from gauss_diffusion.analyses import subject as subjects
from gauss_diffusion.command_line import arguments, refuse
from gauss_diffusion.readings.claims import CLAIMS
from gauss_diffusion.study import asked, pictures, rebuild
from gauss_diffusion.study.members import Member, analyses_of, members

if typing.TYPE_CHECKING:
  from gauss_diffusion.results import xarray


ARCHIVE = "results.tar.xz"
# Bits of the mantissa of single samples, and of those of `SQUARES`: the fewest of these by which no verdict
# and no printed digit moves, or all. 9 bits are 0.1 %, 12 of them 0.01 %, and the mean over 100 images moves
# by a tenth of that.
BITS = ((9, 9), (12, 12), (18, 18), (18, 23), (23, 23))
ROUGH_BITS = 9
WHOLE_BITS = 23  # of a float32
EXACT_BITS = 32  # of moments of which claims divide by differences that are nearly 0
STEP = 1 / 256  # of the power of two above a picture's largest value: far below what tells two pictures apart
FIELD_STEP = 2.0**-14  # the same of fields that were turned
TINY = 1e-30  # in the place of the largest value of a picture that is 0
PRINTED = 1e-3  # last digit of a statistic in the tables, by which none may move
# Of lzma: arrays of four bytes a number, and equal ones anywhere in the archive found again.
FILTER = {"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "lc": 0, "lp": 2, "pb": 2}
PALETTES = (48, 256)  # colours of a figure of curves, and of one of pictures
TALLEST = 2.0  # heights over widths of figures that are kept; larger ones are of dozens of models
REFINED = 2  # passes of k-means over its colours
TINT = 0.7  # of 255, by which a palette may move colours on average
SAMPLES = ("sample", "image", "point")  # axes over which claims and figures take means
SINGLE = (*SAMPLES, "latent")  # axes along which a number is of one sample
PICTURE = "channel"  # an axis of pictures alone
DECODED = "colour"  # the same of those that were decoded from floats
ABSOLUTE = ("cosine",)  # of which the mean size alone is read
SQUARES = ("error", "output_gap", "output_noise")  # of which mean squares are read, too
UNREAD = {
  "distillation": (*rebuild.MAPS, "cluster", "cluster_energy", "fit_rmse", "perturbation", "expected_noise2"),
  "linearity": ("centred_cosine",),
  "samples": ("distance", "held_out_memorized"),
  "score_gap": ("nmse",),
  rebuild.TRAINING: (
    *("learning_rate", "images_per_second"),
    *("alarm_p", "alarm_nearest", "alarm_concentration"),
  ),
}
READ_BY = {"linear, not gaussian": ("nmse",)}  # claims that read of these
# What claims read, and where on an axis: all that is read of a control.
JUDGED = {
  "denoised": ("nmse",),
  "distillation": ("weight_gap2", "subspace"),
  "input_law": ("output_gap", "output_noise"),
  "linearity": ("cosine",),
  "modes": ("alignment",),
  "perturbation": ("change", "length", "unmoved"),
  "samples": ("gl", "memorized", "samples"),
  "score_gap": ("rmse", "nmse", "error", "floor", "dimension"),
}
PAIRS = "score_gap.pairs"  # what a claim needs that reads distances between denoisers
PLACES: dict[str, dict[str, list[Any]]] = {
  "distillation": {"law": ["held-out"]},
  "input_law": {"evaluated": ["held-out"]},
  "linearity": {"inputs": ["noisy image"]},
  "score_gap": {"clean": ["held-out"]},
}
DRAWN = {"denoised": ("cosine",), "linearity": ("nmse", "centred_nmse")}  # what figures alone read
MEANS = {"explained": ("left", "said"), "modes": ("correlation",)}  # the same without an interval
ROUGH = {"distillation": ("subspace_between_fits", "weight_noise2")}  # the same of no samples
# Pictures that are read of every member, and not of a model's first network alone.
READ = {"explained": ("residual",), "halves": ("deviations",), "perturbation": ("unmoved",)}
# Fields of which inner products alone are read, between members of which this is the same.
FIELDS: dict[str, tuple[str, Callable[[Member], Any]]] = {
  "explained": ("residual", lambda member: member.model),
  "halves": ("deviations", lambda member: (member.entry["group"], member.replicate)),
}
SHEET = {"samples": ("sample", pictures.MOST), "trajectories": ("latent", 1)}  # pictures that a figure shows


def keep(workdir: pathlib.Path, folder: pathlib.Path) -> list[pathlib.Path]:
  """Copy a finished study, small, and make its report from the copy.

  Args:
    workdir: of the study; its own report is brought up to date first.
    folder: made when missing; what an older study left there is replaced.

  Returns:
    The files to commit.

  Raises:
    ValueError: when the study isn't finished, a file of it is damaged, or `folder` holds something else.
  """
  config = asked.read(workdir)
  if folder.exists() and any(folder.iterdir()) and not is_kept(folder):
    raise ValueError(f"`{folder}` is not empty and holds no kept study; want a new folder")
  rebuild.rebuild(workdir)
  wanted = results.read_json(workdir / rebuild.CLAIMS)
  with tempfile.TemporaryDirectory() as place:
    for bits in (*BITS, None):
      scratch = pathlib.Path(place) / "-".join(map(str, bits or ["all"]))
      _copy_small(workdir, scratch, config, bits)
      if _same_verdicts(rebuild.judge(scratch), wanted):
        break
    shutil.rmtree(folder / "figures", ignore_errors=True)
    results.copy(scratch / asked.FILE, folder / asked.FILE)  # first, by which the folder is known
    _pack(scratch / "results", folder / ARCHIVE)
    rebuild.rebuild(scratch, folder / ARCHIVE)
    _show(scratch, folder)
  return [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != page.NAME]


def is_kept(folder: pathlib.Path) -> bool:
  """Tell whether a folder holds a kept study, and not a working directory."""
  return (folder / asked.FILE).exists() and not (folder / "results").exists()


@contextlib.contextmanager
def reported(folder: pathlib.Path) -> Iterator[pathlib.Path]:
  """Decide claims, draw figures and write the report of a kept study; files that stay the same stay as is.

  Yields:
    A working directory with its results, which is gone afterwards.

  Raises:
    ValueError: when a file is damaged, naming it and what to do.
  """
  asked.read(folder)
  with tempfile.TemporaryDirectory() as place:
    scratch = pathlib.Path(place)
    shutil.copy(folder / asked.FILE, scratch)
    _unpack(folder / ARCHIVE, scratch)
    try:
      rebuild.rebuild(scratch, folder / ARCHIVE)
    except ValueError as error:
      raise ValueError(str(error).replace(str(scratch), str(folder / ARCHIVE))) from error
    _show(scratch, folder)
    yield scratch


def _copy_small(
  workdir: pathlib.Path, scratch: pathlib.Path, config: dict[str, Any], bits: tuple[int, int] | None
) -> None:
  results.copy(workdir / asked.FILE, scratch / asked.FILE)
  everybody = members(config)
  turned = _turned(workdir, everybody) if bits is not None else {}
  for member in everybody:
    for name in (*analyses_of(config, member), rebuild.TRAINING):
      source = workdir / "results" / name / member.label
      if results.exists(source):
        found, card = results.load(source, skip=rebuild.MAPS)
        if found is not None:
          found = found.assign(turned.get(str(source), {})).drop_encoding()
          found, card["kept"] = _small(found, name, member, config, bits)
        results.save(scratch / "results" / name / member.label, found, card, squeeze=False)


def _small(
  found: "xarray.Dataset", analysis: str, member: Member, config: dict[str, Any], bits: tuple[int, int] | None
) -> "tuple[xarray.Dataset, dict[str, Any]]":
  """Return what is kept of a result, all of its numbers without `bits`, and what its card says of it."""
  compared = any(CLAIMS[name].needs.halves for name in config["claims"]) or "agreement" in config["figures"]
  first, several = not member.control and not member.replicate, config["replicates"] > 1
  read = READ.get(analysis, ()) + (("samples",) if compared else ())
  found, about = _what_is_read(found, analysis, member, config, read)
  if bits is None:
    return found, about

  apart = any(PICTURE in values.dims for values in found.values()) or analysis in FIELDS
  few = several and not first and not apart  # two samples in the place of all
  moments = few or several and analysis not in (*FIELDS, "samples")
  drawn, means, rough = (table.get(analysis, ()) for table in (DRAWN, MEANS, ROUGH))

  def short(values):
    name, axes = str(values.name), set(values.dims)
    if PICTURE in axes:
      return _stepped(values, FIELD_STEP if name in FIELDS.get(analysis, ()) else STEP)
    if name == "gram" and several:
      return _rounded(values, bits[0]).where(values.law == "held-out", _mean_of_halves(values))
    if name in means and (several or "latent" in axes):
      return _mean(values)
    if axes & set(SAMPLES) and (moments or name in drawn):
      return _moments(values, few=few, spread=name in SQUARES or not several)
    if axes & set(SINGLE) or name in rough:
      return _rounded(values, ROUGH_BITS if name in rough else bits[name in SQUARES])
    return values.astype(np.float32) if values.dtype == np.float64 and "sigma" in axes else values

  if analysis in SHEET and not (compared and analysis == "samples"):
    found = _on_a_sheet(found, *SHEET[analysis])
    about["pictures kept"] = SHEET[analysis][1]
  small = found.map(short, keep_attrs=True)
  if analysis == "linearity" and not several and not member.control:  # claims are of noisy images alone
    noise = small.inputs == "pure noise"
    small["cosine"] = _moments(found.cosine, few=False, spread=True).where(noise, small.cosine)
  return small, about | {
    "mantissa bits": bits[0],
    f"mantissa bits of {', '.join(SQUARES)}": bits[1],
    f"{ROUGH_BITS} mantissa bits": rough,
    "step of a picture": STEP,
    "moments over": SAMPLES if moments else (),
    "mean and spread": drawn,
    "mean": means,
  }


def _what_is_read(
  found: "xarray.Dataset", analysis: str, member: Member, config: dict[str, Any], read: tuple[str, ...]
) -> "tuple[xarray.Dataset, dict[str, Any]]":
  """Return a result without what neither claims nor figures read, and what its card says of that.

  Args:
    found: the result.
    analysis: whose.
    member: of whom.
    config: of the study.
    read: pictures that are read of every member.
  """
  claimed = [name for claim in config["claims"] for name in READ_BY.get(claim, ())]
  unread = [name for name in UNREAD.get(analysis, ()) if name not in claimed]
  judged = set(JUDGED.get(analysis, ()))
  if not any(PAIRS in CLAIMS[claim].needs.results for claim in config["claims"]):
    judged -= {"rmse"}

  def is_left_out(name: str, values: "xarray.DataArray") -> bool:
    picture = {PICTURE, DECODED} & set(values.dims) and name.removesuffix(results.SHOWN) not in read
    of_others = member.control or member.replicate
    return name in unread or bool(picture and of_others) or bool(member.control and name not in judged)

  left_out = [str(name) for name, values in found.data_vars.items() if is_left_out(str(name), values)]
  places: dict[str, Any] = dict(PLACES.get(analysis, {})) if member.control else {}
  if analysis == "linearity":  # the most even weights and the most uneven ones
    alpha2 = found.alpha2.to_numpy()
    places["alpha2"] = alpha2[sorted({int(abs(alpha2 - 0.5).argmin()), int(alpha2.argmax())})]
  if analysis == "score_gap":
    places["law"] = ["held-out"]
    if "sweep" not in config["figures"]:  # which shows errors on training images
      places["clean"] = ["held-out"]
  before = [name for name in unread if name not in found]  # such as maps, which were not loaded
  return found.drop_vars(left_out).sel(places), {"left out": [*before, *left_out]} | places


def _on_a_sheet(found: "xarray.Dataset", axis: str, num: int) -> "xarray.Dataset":
  """Return a result with even pictures in the place of all but the first along an axis.

  Samples of a network are 0 there, and those of another denoiser as bright as they were far from it, so that
  the distance between both stays.
  """
  pictures_of = [name for name, values in found.items() if {axis, PICTURE} <= set(values.dims)]
  kept = found.copy()
  for name in pictures_of:
    values = found[name]
    even = 0 * values
    if name == "samples":
      names = list(found.denoiser.to_numpy())
      one = values.sel(denoiser="network" if "network" in names else names[0])
      even = even + np.sqrt(((values.astype(float) - one) ** 2).mean([*subjects.IMAGE]))
    later = {axis: slice(num, None)}
    kept[name] = values.copy(deep=True)
    kept[name][later] = even.transpose(*values.dims).isel(later)
  return kept


def _turned(workdir: pathlib.Path, everybody: list[Member]) -> "dict[str, dict[str, xarray.DataArray]]":
  """Return fields of which inner products alone are read, turned so that few of their pixels are not 0.

  At each noise level and on each image all fields of a group are turned by one rotation, the Q of their QR:
  of the k-th of them all pixels are 0 but the first k.
  """
  turned: dict[str, dict[str, xarray.DataArray]] = {}
  for analysis, (name, group_of) in FIELDS.items():
    groups: dict[Any, dict[str, xarray.DataArray]] = {}
    for member in everybody:
      place = workdir / "results" / analysis / member.label
      if results.exists(place) and (found := results.load(place)[0]) is not None:
        groups.setdefault(group_of(member), {})[str(place)] = found[name]
    for fields in groups.values():
      turned |= {place: {name: field} for place, field in zip(fields, _turn([*fields.values()]))}
  return turned


def _turn(fields: "list[xarray.DataArray]") -> "list[xarray.DataArray]":
  axes = ("sigma", "image", *subjects.IMAGE)
  ordered = [field.transpose(..., *axes) for field in fields]
  flat = [field.to_numpy().reshape(-1, *field.shape[-5:-3], math.prod(field.shape[-3:])) for field in ordered]
  vectors = np.concatenate(flat).astype(float)  # [fields, sigma, image, pixels]
  if len(vectors) >= vectors.shape[-1]:
    return fields
  coordinates = np.linalg.qr(np.moveaxis(vectors, 0, -1)).R  # [sigma, image, fields, fields]
  vectors[...] = 0
  vectors[..., : len(vectors)] = np.moveaxis(coordinates, -1, 0)
  parts = np.split(vectors, np.cumsum([len(each) for each in flat])[:-1])
  return [
    one.copy(data=part.reshape(one.shape).astype(one.dtype)).transpose(*field.dims)
    for field, one, part in zip(fields, ordered, parts)
  ]


def _mean(values: "xarray.DataArray") -> "xarray.DataArray":
  """Return values of single samples with the mean of all in the place of each, which compresses."""
  axes = tuple(values.get_axis_num(axis) for axis in SINGLE if axis in values.dims)
  each = values.to_numpy()
  mean = each.mean(axes, keepdims=True, dtype=float)
  return values.copy(data=np.broadcast_to(mean, each.shape).astype(np.float32))


def _mean_of_halves(gram: "xarray.DataArray") -> "xarray.DataArray":
  """Return Gram matrices with the mean of a half of the images in the place of each, see `projection`."""
  place, kept = gram.get_axis_num("image"), np.moveaxis(gram.to_numpy(), gram.get_axis_num("image"), 0).copy()
  for half in (kept[::2], kept[1::2]):
    half[:] = half.mean(0, dtype=float)
  return gram.copy(data=np.moveaxis(kept, 0, place).astype(np.float32))


def _moments(values: "xarray.DataArray", *, few: bool, spread: bool) -> "xarray.DataArray":
  """Return ``mean ± standard deviation`` in turn in the place of all samples.

  Args:
    values: of samples.
    few: whether two samples stand for all.
    spread: whether it is kept: same mean and same mean square. Else every sample is the mean.
  """
  for axis in set(SAMPLES) & set(values.dims):
    place, each = values.get_axis_num(axis), values.to_numpy().astype(float)
    each = np.abs(each) if values.name in ABSOLUTE else each
    num = 2 if few else each.shape[place]
    signs = np.where(np.arange(num) % 2, 1.0, -1.0)
    if num % 2:  # the odd one is the mean, and the others farther from it
      signs[-1] = 0
      signs *= np.sqrt(num / max(num - 1, 1))
    signs = signs.reshape([-1 if i == place else 1 for i in range(each.ndim)])
    both = each.mean(place, keepdims=True) + signs * (each.std(place, keepdims=True) if spread else 0)
    values = values.isel({axis: [0] * num}).copy(data=both)
  exact = values.name in SQUARES
  return _rounded(values, EXACT_BITS).astype(float) if exact else values.astype(np.float32)


def _rounded(values: "xarray.DataArray", bits: int) -> "xarray.DataArray":
  """Return numbers with fewer digits, which compress."""
  if values.dtype.kind != "f":
    return values
  mantissa, exponent = np.frexp(values.to_numpy())
  short = np.ldexp(np.round(np.ldexp(mantissa, bits + 1)), exponent - bits - 1)
  return values.copy(data=short if bits > WHOLE_BITS else short.astype(np.float32))


def _stepped(values: "xarray.DataArray", step: float) -> "xarray.DataArray":
  """Return pictures in steps of a power of two: those of one scale have them in common."""
  each = values.to_numpy()
  axes = tuple(values.get_axis_num(axis) for axis in subjects.IMAGE)
  steps = step * np.exp2(np.ceil(np.log2(np.abs(each).max(axes, keepdims=True) + TINY)))
  return values.copy(data=(np.round(each / steps) * steps).astype(np.float32))


def _same_verdicts(found: list[dict[str, Any]], wanted: list[dict[str, Any]]) -> bool:
  """Tell whether all verdicts are the same, and all values to the last digit that is printed."""
  for row, want in zip(found, wanted, strict=True):
    pairs = [(row, want), *((row["controls"][name], one) for name, one in want["controls"].items())]
    if not all(one["verdict"] == two["verdict"] and _close(one["value"], two["value"]) for one, two in pairs):
      return False
    if (row["strip"] or {}).get("verdict") != (want["strip"] or {}).get("verdict"):
      return False
  return True


def _close(value: list[float | None] | None, other: list[float | None] | None) -> bool:
  if value is None or other is None:
    return value == other
  one, two = (np.array(each, float) for each in (value, other))  # an end at infinity is none
  return np.allclose(one, two, atol=PRINTED / 2, rtol=PRINTED / 2, equal_nan=True)


def _pack(folder: pathlib.Path, path: pathlib.Path) -> None:
  """Write all files of a folder as one archive; the same files give the same bytes."""
  with results.writing(path) as file, lzma.open(file, "wb", filters=[FILTER]) as squeezed:
    with tarfile.open(fileobj=squeezed, mode="w", format=tarfile.USTAR_FORMAT) as archive:
      for source in sorted(path for path in folder.rglob("*") if path.is_file()):
        entry = tarfile.TarInfo(str(source.relative_to(folder.parent)))
        entry.size = source.stat().st_size
        archive.addfile(entry, io.BytesIO(source.read_bytes()))


def _unpack(path: pathlib.Path, folder: pathlib.Path) -> None:
  try:
    with tarfile.open(path, "r:xz") as archive:
      archive.extractall(folder, filter="data")
  except (OSError, EOFError, lzma.LZMAError, tarfile.TarError) as error:
    raise ValueError(
      f"`{path}` can't be read ({error}); get it again with `git checkout {path}`, or keep the study again: "
      f"`python -m gauss_diffusion.keep WORKDIR {path.parent}`"
    ) from error


def _show(scratch: pathlib.Path, folder: pathlib.Path) -> None:
  """Copy what a report is made of where it differs, figures with a palette."""
  for source in [*(scratch / "figures").glob("*.png")]:
    with Image.open(source) as opened:
      figure = opened.convert("RGB")
    if (
      source.stem == rebuild.TRAINING
      or figure.height > TALLEST * figure.width
      and source.stem != plots.STRIPS
    ):
      source.unlink()  # the report has it all the same
      continue
    _with_palette(figure).save(source, optimize=True)
  names = [rebuild.HEADLINE, rebuild.CLAIMS, page.NAME]
  for source in [*(scratch / name for name in names), *(scratch / "figures").glob("*.png")]:
    target = folder / source.relative_to(scratch)
    if not target.exists() or target.read_bytes() != source.read_bytes():
      results.copy(source, target)


def _with_palette(figure: Image.Image) -> Image.Image:
  """Return a figure with few colours, which cover all of its own, however small a marker has them."""
  for colors in PALETTES:
    small = figure.quantize(colors, Image.Quantize.MAXCOVERAGE, kmeans=REFINED, dither=Image.Dither.NONE)
    if max(ImageStat.Stat(ImageChops.difference(figure, small.convert("RGB"))).mean) <= TINT:
      break
  return small


def parse(argv: list[str]) -> list[str]:
  """Parse the command line, which names a working directory and a folder."""
  want = "want WORKDIR and FOLDER, as in `python -m gauss_diffusion.keep runs/digits results/digits`"
  return arguments(argv, 2, 2, want)


def main(argv: list[str]) -> None:
  """Keep a study, and say how large it is."""
  interrupts.unwind()
  logging.set_verbosity(logging.ERROR)  # fonts tell of every glyph
  workdir, folder = map(pathlib.Path, argv[1:])
  try:
    files = keep(workdir, folder)
  except (ValueError, OSError) as reason:
    refuse(reason)
  for path in files:
    print(f"{path.stat().st_size:>12,}  {path}")
  drawn = {path.name for path in (folder / "figures").iterdir()}
  if missing := {path.name for path in (workdir / "figures").glob("*.png")} - drawn:
    print(f"in the report alone, or not drawn from what is kept: {', '.join(sorted(missing))}")


if __name__ == "__main__":
  app.run(main, flags_parser=parse)
