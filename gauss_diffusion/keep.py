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
  network's as the samples were; where samples of two networks are compared, their distances stand beside.
- Fields of which inner products alone are read are turned until few of their pixels are other than 0.
"""

import contextlib
import io
import lzma
import pathlib
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from typing import Any

import numpy as np
from absl import app, logging
from PIL import Image, ImageChops, ImageStat

from gauss_diffusion import interrupts, page, plots, results
from gauss_diffusion.command_line import arguments, refuse
from gauss_diffusion.study import asked, rebuild, shorten
from gauss_diffusion.study.members import analyses_of, members

ARCHIVE = "results.tar.xz"
FIGURE = ".webp"  # without loss, and three quarters of a PNG
PRINTED = 1e-3  # last digit of a statistic in the tables, by which none may move
# Of lzma: arrays of four bytes a number, and equal ones anywhere in the archive found again.
FILTER = {"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "lc": 0, "lp": 2, "pb": 2}
PALETTES = (48, 256)  # colours of a figure of curves, and of one of pictures
TALLEST = 2.0  # heights over widths of figures that are kept; larger ones are of dozens of models
REFINED = 2  # passes of k-means over its colours
TINT = 0.7  # of 255, by which a palette may move colours on average


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
  added = shorten.added(workdir, members(config), config)
  with tempfile.TemporaryDirectory() as place:
    for i, digits in enumerate((*shorten.LADDER, None)):
      scratch = pathlib.Path(place) / str(i)
      _copy_small(workdir, scratch, config, digits, added)
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
  workdir: pathlib.Path,
  scratch: pathlib.Path,
  config: dict[str, Any],
  digits: shorten.Digits | None,
  added: dict[str, dict[str, Any]],
) -> None:
  results.copy(workdir / asked.FILE, scratch / asked.FILE)
  for member in members(config):
    for name in (*analyses_of(config, member), rebuild.TRAINING):
      source = workdir / "results" / name / member.label
      if results.exists(source):
        found, card = results.load(source, skip=rebuild.MAPS)
        if found is not None:
          found = found.assign(added.get(str(source), {})).drop_encoding()
          found, card["kept"] = shorten.shorten(found, name, member, config, digits)
        results.save(scratch / "results" / name / member.label, found, card, squeeze=False)


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
    source.unlink()
    if (
      source.stem == rebuild.TRAINING
      or figure.height > TALLEST * figure.width
      and source.stem != plots.STRIPS
    ):
      continue  # the report has it all the same
    _with_palette(figure).save(source.with_suffix(FIGURE), lossless=True, quality=100, method=6)
  names = [rebuild.HEADLINE, rebuild.CLAIMS, page.NAME]
  for source in [*(scratch / name for name in names), *(scratch / "figures").glob(f"*{FIGURE}")]:
    target = folder / source.relative_to(scratch)
    if not target.exists() or target.read_bytes() != source.read_bytes():
      results.copy(source, target)


def _with_palette(figure: Image.Image) -> Image.Image:
  """Return a figure with few colours, which cover all of its own, however small a marker has them."""
  for colors in PALETTES:
    small = figure.quantize(colors, Image.Quantize.MAXCOVERAGE, kmeans=REFINED, dither=Image.Dither.NONE)
    small = small.convert("RGB")
    if max(ImageStat.Stat(ImageChops.difference(figure, small)).mean) <= TINT:
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
  drawn = {path.stem for path in (folder / "figures").iterdir()}
  if missing := {path.stem for path in (workdir / "figures").glob("*.png")} - drawn:
    print(f"in the report alone, or not drawn from what is kept: {', '.join(sorted(missing))}")


if __name__ == "__main__":
  app.run(main, flags_parser=parse)
