"""Keep what the report of a finished study is made of, small enough to commit.

    python -m gauss_diffusion.keep runs/dataset_size results/dataset_size/digits

The folder then holds the study's ``config.json``; ``results.tar.xz``, the results of every member without
what no figure and no claim reads; and what ``python -m gauss_diffusion.report FOLDER`` makes of them,
headline, claims and figures, but for the loss and for sheets of dozens of models. Every verdict is that of
the whole results. Each card says what was left out, and how numbers were shortened: of the networks of one
model the first keeps its samples and the others their moments, so that figures of several networks have bands
over networks and none over images.
"""

import contextlib
import io
import lzma
import pathlib
import shutil
import tarfile
import tempfile
import typing
from collections.abc import Iterator
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
# Bits of the mantissa of single samples: the fewest of these by which no verdict and no printed digit moves,
# or all. 9 bits are 0.1 %, 12 of them 0.01 %, and the mean over 100 images moves by a tenth of that.
BITS = (9, 12, 23)
# Of what no claim compares with what is nearly equal to it, no more bits than these stay.
DRAWN = {"score_gap": ("nmse",), "linearity": ("nmse", "centred_nmse"), "modes": ("correlation",)}
DRAWN_BITS = 9
EXACT = ("error",)  # moments in float64: claims divide by differences of errors that are nearly equal
STEP = 1 / 256  # of the power of two above a picture's largest value: far below what tells two pictures apart
# Of pictures of which nothing but energies and distances is read: a thousandth of those, or less.
FIELDS = {"deviations": 1 / 64, "residual": 1 / 64}
TINY = 1e-30  # in the place of the largest value of a picture that is 0
PRINTED = 1e-3  # last digit of a statistic in the tables, by which none may move
# Of lzma: arrays of four bytes a number, and equal ones anywhere in the archive found again.
FILTER = {"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "lc": 0, "lp": 2, "pb": 2}
PALETTE = 64  # colours of a figure
TALLEST = 2.0  # heights over widths of figures that are kept; larger ones are of dozens of models
REFINED = 2  # passes of k-means over its colours
TINT = 0.7  # of 255, by which a palette may move colours on average; beyond, a figure keeps its own
SAMPLES = ("sample", "image")  # axes over which claims take means, and means of squares
SINGLE = (*SAMPLES, "latent", "point")  # axes along which a number is of one sample
PICTURE = "channel"  # an axis of pictures alone
DECODED = "colour"  # the same of those that were decoded from floats
ABSOLUTE = ("cosine",)  # of which claims take the mean size alone
UNREAD = {
  "distillation": (*rebuild.MAPS, "cluster", "cluster_energy"),
  "linearity": ("centred_cosine",),
}
# What of every network but a model's first is read as a mean, beside pictures.
MEANS = {"explained": ("left", "said")}
# Pictures that are read of every member, and not of a model's first network alone.
READ = {"explained": ("residual",), "halves": ("deviations",), "perturbation": ("unmoved",)}


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
      scratch = pathlib.Path(place) / f"bits-{bits}"
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
  workdir: pathlib.Path, scratch: pathlib.Path, config: dict[str, Any], bits: int | None
) -> None:
  results.copy(workdir / asked.FILE, scratch / asked.FILE)
  for member in members(config):
    for name in (*analyses_of(config, member), rebuild.TRAINING):
      source = workdir / "results" / name / member.label
      if results.exists(source):
        found, card = results.load(source, skip=UNREAD.get(name, ()))
        if found is not None:
          found, card["kept"] = _small(found.drop_encoding(), name, member, config, bits)
        results.save(scratch / "results" / name / member.label, found, card, squeeze=False)


def _small(
  found: "xarray.Dataset", analysis: str, member: Member, config: dict[str, Any], bits: int | None
) -> "tuple[xarray.Dataset, dict[str, Any]]":
  """Return what is kept of a result, all of its numbers without `bits`, and what its card says of it."""
  read: tuple[str, ...] = READ.get(analysis, ())
  if any(CLAIMS[name].needs.halves for name in config["claims"]) or "agreement" in config["figures"]:
    read += ("samples",)
  first = not member.control and not member.replicate
  left_out = [
    str(name)
    for name, values in found.data_vars.items()
    if {PICTURE, DECODED} & set(values.dims)
    and not first
    and str(name).removesuffix(results.SHOWN) not in read
  ]
  found = found.drop_vars(left_out)
  about: dict[str, Any] = {"left out": [*UNREAD.get(analysis, ()), *left_out]}
  if analysis == "linearity":  # the most even weights and the most uneven ones
    alpha2 = found.alpha2.to_numpy()
    found = found.isel(alpha2=sorted({int(abs(alpha2 - 0.5).argmin()), int(alpha2.argmax())}))
    about["alpha2"] = found.alpha2.to_numpy()
  if analysis == "score_gap":
    found = found.sel(law=["held-out"])
    about["law"] = found.law.to_numpy()
  if bits is None:
    return found, about
  several = config["replicates"] > 1 and not first
  if several and not any(PICTURE in values.dims for values in found.values()):
    moments = found.map(_moments, keep_attrs=True)
    return moments, about | {"moments over": SAMPLES}
  drawn = DRAWN.get(analysis, ())
  means = MEANS.get(analysis, ()) if several else ()

  def short(values):
    values = _mean(values) if values.name in means else values
    return _rounded(values, DRAWN_BITS if values.name in drawn else bits)

  if analysis == "samples" and found.sizes["denoiser"] == 1 and "samples" not in read:
    # Figures show the first of them; all are read for distances between denoisers, of which here is one.
    every = [name for name, values in found.items() if {"sample", PICTURE} <= set(values.dims)]
    found = found.assign({name: _first(found[name], pictures.MOST) for name in every})
    about |= {"pictures kept": pictures.MOST}
  about |= {"mantissa bits": bits, "step of a picture": STEP}
  about |= {f"mantissa bits of {name}": DRAWN_BITS for name in drawn} | {"means": means}
  return found.map(short, keep_attrs=True), about


def _first(samples: "xarray.DataArray", num: int) -> "xarray.DataArray":
  """Return pictures with grey ones in the place of all samples but the first."""
  kept = samples.transpose("sample", ...).copy()
  kept[num:] = 0
  return kept.transpose(*samples.dims)


def _mean(values: "xarray.DataArray") -> "xarray.DataArray":
  """Return values of single samples with the mean of all in the place of each, which compresses."""
  axes = tuple(values.get_axis_num(axis) for axis in SAMPLES if axis in values.dims)
  each = values.to_numpy()
  mean = each.mean(axes, keepdims=True, dtype=float)
  return values.copy(data=np.broadcast_to(mean, each.shape).astype(each.dtype))


def _moments(values: "xarray.DataArray") -> "xarray.DataArray":
  """Return ``mean ± standard deviation`` in the place of all samples: same mean, same mean square."""
  for axis in set(SAMPLES) & set(values.dims):
    place, each = values.get_axis_num(axis), values.to_numpy().astype(float)
    if values.name in ABSOLUTE:
      mean, spread = np.abs(each).mean(place), 0.0
    else:
      mean, spread = each.mean(place), each.std(place)
    both = np.stack([mean - spread, mean + spread], place)
    exact = float if values.name in EXACT else np.float32
    values = values.isel({axis: [0, 0]}).copy(data=both.astype(exact))
  return values


def _rounded(values: "xarray.DataArray", bits: int) -> "xarray.DataArray":
  """Return values of single samples with fewer digits, which compress; all others as they are."""
  if values.dtype.kind != "f" or not {*SINGLE, PICTURE} & set(values.dims):
    return values
  each = values.to_numpy()
  if PICTURE in values.dims:  # in steps of a power of two: those of one scale have them in common
    axes = tuple(values.get_axis_num(axis) for axis in subjects.IMAGE)
    step = FIELDS.get(str(values.name), STEP) * np.exp2(
      np.ceil(np.log2(np.abs(each).max(axes, keepdims=True) + TINY))
    )
    short = np.round(each / step) * step
  else:
    mantissa, exponent = np.frexp(each)
    short = np.ldexp(np.round(np.ldexp(mantissa, bits + 1)), exponent - bits - 1)
  return values.copy(data=short.astype(np.float32))


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
    # The palette that leaves wide areas their colour; it is thin edges that lend theirs.
    small = figure.quantize(PALETTE, Image.Quantize.MEDIANCUT, kmeans=REFINED, dither=Image.Dither.NONE)
    moved = ImageStat.Stat(ImageChops.difference(figure, small.convert("RGB"))).mean
    (figure if max(moved) > TINT else small).save(source, optimize=True)
  names = [rebuild.HEADLINE, rebuild.CLAIMS, page.NAME]
  for source in [*(scratch / name for name in names), *(scratch / "figures").glob("*.png")]:
    target = folder / source.relative_to(scratch)
    if not target.exists() or target.read_bytes() != source.read_bytes():
      results.copy(source, target)


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
