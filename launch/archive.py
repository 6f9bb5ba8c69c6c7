"""What a machine that is given back has to leave behind, in a few small files: an archive in pieces.

    cat FOLDER/runs.tar.* | tar x -C runs

It has results, logs, and of each network the newest checkpoint, with the optimizer's state where training is
to go on from it. Of a result with large maps it has a copy without them, under ``light/``: for a report it is
laid over the working directories; who goes on does without, and computes the whole result again.
"""

import contextlib
import io
import pathlib
import tarfile
import tempfile
from collections.abc import Iterator

from gauss_diffusion import results
from gauss_diffusion.study import rebuild
from gauss_diffusion.training import checkpoint

PIECE, PIECES = 15_500_000, 4  # bytes of a piece, and how many a transfer takes
WHOLE = 8_000_000  # bytes up to which a result is packed as it is

Stamps = dict[pathlib.Path, tuple[int, int]]  # size and time of change


def stamps(files: list[pathlib.Path]) -> Stamps:
  """Return what tells whether files were changed."""
  return {path: (path.stat().st_size, path.stat().st_mtime_ns) for path in files}


def pack(runs: pathlib.Path, out: pathlib.Path, workdirs: list[pathlib.Path], known: Stamps) -> list[str]:
  """Write what is not known as an archive in pieces, in the place of the one before.

  Args:
    runs: folder of the working directories, with ``logs/``.
    out: for the pieces.
    workdirs: those of most value first. Results of all come before networks, of which there may be too many.
    known: `stamps` of files that need not be packed as long as they are the same.

  Returns:
    What had no room.
  """
  room, left_out = PIECE * PIECES - 2 * tarfile.RECORDSIZE, []
  with tempfile.TemporaryFile() as file:
    with tarfile.open(fileobj=file, mode="w") as archive:
      for group in _groups(runs, workdirs):
        with contextlib.suppress(FileNotFoundError):  # an older checkpoint goes when a newer one comes
          found = stamps(group)
          size = sum(length + 4 * tarfile.BLOCKSIZE for length, _ in found.values())  # with name and padding
          if found.items() <= known.items():
            continue
          if size > room:
            left_out.append(str(group[0].relative_to(runs)))
            continue
          room -= size
          for path in group:
            entry, content = archive.gettarinfo(path, str(path.relative_to(runs))), _content(path, group)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    file.seek(0)
    for number in range(PIECES):
      place = out / f"runs.tar.{number}"
      if piece := file.read(PIECE):
        with results.writing(place) as target:
          target.write(piece)
      else:
        place.unlink(missing_ok=True)
  return left_out


def unpack(folder: pathlib.Path, runs: pathlib.Path) -> None:
  """Unpack all archives in a folder, each in a folder of its own, in order of their names."""
  for place in sorted({piece.parent for piece in folder.rglob("runs.tar.*")}):
    with tempfile.TemporaryFile() as file:
      for piece in sorted(place.glob("runs.tar.*")):
        file.write(piece.read_bytes())
      file.seek(0)
      with tarfile.open(fileobj=file) as archive:
        archive.extractall(runs, filter="data")


def _content(path: pathlib.Path, group: list[pathlib.Path]) -> bytes:
  """Return what is in a file; digests of a checkpoint are those of the files that come along."""
  content = path.read_bytes()
  if path.name != checkpoint.SUMS:
    return content
  lines = (line for line in content.decode().splitlines() if path.parent / line.partition("  ")[2] in group)
  return "".join(f"{line}\n" for line in lines).encode()


def _groups(runs: pathlib.Path, workdirs: list[pathlib.Path]) -> Iterator[list[pathlib.Path]]:
  """Yield files that make sense together alone, those of most value first."""
  yield from ([path] for path in sorted([*runs.glob("*.txt"), *runs.glob("logs/*")]))
  for workdir in workdirs:
    yield from ([path] for path in workdir.glob("config.json"))
    for card in sorted(workdir.glob("results/*/*.json")):
      arrays = card.with_suffix(".nc")
      large = arrays.exists() and arrays.stat().st_size > WHOLE
      yield _light(runs, card) if large else [card, *([arrays] if arrays.exists() else [])]
  for workdir in workdirs:
    yield from _networks(workdir)


def _light(runs: pathlib.Path, card: pathlib.Path) -> list[pathlib.Path]:
  """Return a copy of a result without its maps, made anew where it is older."""
  copy = runs / "light" / card.relative_to(runs)
  if not copy.exists() or copy.stat().st_mtime < card.stat().st_mtime:
    found, about = results.load(card.with_suffix(""), skip=rebuild.MAPS)
    assert found is not None
    results.save(copy.with_suffix(""), found.drop_encoding(), about)
  return [copy, copy.with_suffix(".nc")]


def _networks(workdir: pathlib.Path) -> Iterator[list[pathlib.Path]]:
  """Yield the newest checkpoint of each network, and what belongs to it."""
  recipes = {record.parent: results.read_json(record) for record in workdir.glob("models/*/training.json")}
  newest = {}
  for folder in sorted(recipes):
    steps = [int(path.name) for path in folder.glob("checkpoints/*") if path.name.isdigit()]
    newest[folder] = max(steps, default=None)
  for folder, step in newest.items():
    if step is not None:
      longer = recipes[folder]["train.steps"] > step or any(
        newest[other] is None and recipe["train.steps"] > step  # it starts from the end of this one
        for other, recipe in recipes.items()
        if recipe | {"train.steps": step} == recipes[folder]
      )
      files = sorted(path for path in (folder / "checkpoints" / str(step)).glob("**/*") if path.is_file())
      files = [path for path in files if longer or "state" not in path.relative_to(folder).parts]
      yield [*(folder / name for name in ("training.json", "metrics.jsonl")), *files]
