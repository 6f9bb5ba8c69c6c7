"""Memory and time of what streams over images, by their number, for the page `large_data.md` of the site.

Every row is a process of its own over a memory-mapped file of generated images, or over images of yours. Run
``python docs/scaling.py`` from the repository's root, with ``--images=FILE.npz`` for a part on real ones. It
replaces the page's table and figure; ``--check`` tells whether it works, and no more.
"""

import argparse
import json
import pathlib
import re
import subprocess
import sys
import tempfile
import threading
import time

import numpy as np

PAGE = pathlib.Path(__file__).parent / "site" / "large_data.md"
GENERATED = {  # what runs at D = H W C values an image, on how many images
  (8, 8, 3): {
    "statistics": (10_000, 100_000, 1_000_000),
    "mixture": (10_000, 100_000),
    "neighbours": (10_000, 100_000, 1_000_000),
    "multi-delta": (10_000, 100_000, 1_000_000),
  },
  (64, 64, 3): {"neighbours": (1_000, 10_000), "multi-delta": (1_000, 10_000)},
}
REAL = ("neighbours", "multi-delta")
SAMPLES = 8  # that are denoised, or of which neighbours are sought
BLOCK = 2**24  # bytes of images that are generated at a time
PERIOD = 0.01  # seconds between two looks at memory


def work(task: str, images: np.ndarray) -> None:
  """Do one of the tasks."""
  from jax.tree_util import Partial

  from gauss_diffusion import parallel, statistics
  from gauss_diffusion.denoisers import levels, mixture, multi_delta
  from gauss_diffusion.probes import generalization

  x = np.random.default_rng(1).normal(size=(SAMPLES, *images.shape[1:])).astype(np.float32)
  match task:
    case "statistics":
      statistics.gaussian_stats(images)
    case "mixture":
      mixture.fit(images, components=2, rank=4, floor=0.01, iterations=2, seed=0)
    case "neighbours":
      generalization.neighbours(x, images)
    case "multi-delta":
      parallel.denoise(Partial(multi_delta.denoise, levels.Streamed(images)), x, 1.0)


def own_memory() -> int:
  """Return the bytes of memory that are this process's own: pages of mapped files are not."""
  return 1024 * int(pathlib.Path("/proc/self/status").read_text().split("RssAnon:")[1].split()[0])


def measure(task: str, path: str, num: int) -> dict[str, float]:
  """Return the seconds of a task on the first images of a file, and the bytes that it adds to memory."""
  images = np.load(path, mmap_mode="r")
  work(task, images[:16])  # loads libraries
  before, peak, done = own_memory(), [0], threading.Event()

  def look():
    while not done.wait(PERIOD):
      peak[0] = max(peak[0], own_memory())

  watch, start = threading.Thread(target=look), time.perf_counter()
  watch.start()
  work(task, images[:num])
  seconds = time.perf_counter() - start
  done.set()
  watch.join()
  return {"seconds": seconds, "memory": max(peak[0] - before, 0)}


def generate(path: pathlib.Path, num: int, shape: tuple[int, ...]) -> None:
  """Write uniform pixels, some at a time."""
  file = np.lib.format.open_memmap(path, "w+", np.uint8, (num, *shape))
  step, rng = BLOCK // int(np.prod(shape)), np.random.default_rng(0)
  for start in range(0, num, step):
    some = file[start : start + step]
    some[:] = np.frombuffer(rng.bytes(some.size), np.uint8).reshape(some.shape)


def rows(images: str, check: bool) -> list[dict]:
  """Return what every task took, a process for each."""
  found = []
  with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder) / "images.npy"

    def add(kind, tasks, size):
      for task, nums in tasks.items():
        for num in (64, 128) if check else nums:
          command = [sys.executable, __file__, "--task", task, "--file", str(path), "--num", str(num)]
          said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
          found.append(
            {"images": kind, "task": task, "D": size, "N": num} | json.loads(said.splitlines()[-1])
          )
          print(found[-1], flush=True)

    for shape, tasks in GENERATED.items():
      generate(path, 128 if check else max(map(max, tasks.values())), shape)
      add("generated", tasks, int(np.prod(shape)))
    if images:
      with np.load(images) as stored:
        real = next(stored[key] for key in stored if stored[key].ndim == 4)
      np.save(path, real)
      add("real", dict.fromkeys(REAL, (len(real),)), real[0].size)
  return found


def table(found: list[dict]) -> str:
  """Return the rows as the page shows them."""
  lines = ["| Task | Images | D | N | GB of pixels | Memory, MB | Seconds |", "|---|---|--:|--:|--:|--:|--:|"]
  for row in found:
    size, seconds = row["N"] * row["D"] / 1e9, float(f"{row['seconds']:.2g}")
    lines.append(
      f"| {row['task']} | {row['images']} | {row['D']:,} | {row['N']:,} | {size:.3g} | "
      f"{row['memory'] / 1e6:.0f} | {seconds:g} |"
    )
  return "\n".join(lines)


def draw(found: list[dict], path: pathlib.Path) -> None:
  """Draw the memory and the seconds of generated images over their number."""
  import matplotlib

  matplotlib.use("agg")
  import matplotlib.pyplot as plt

  figure, axes = plt.subplots(1, 2, figsize=(9, 4), layout="constrained")
  for key in dict.fromkeys((row["task"], row["D"]) for row in found if row["images"] == "generated"):
    own = [row for row in found if (row["task"], row["D"]) == key and row["images"] == "generated"]
    style = {"marker": "o", "linestyle": "-" if key[1] < 10_000 else "--"}
    for axis, name, unit in zip(axes, ("memory", "seconds"), (1e6, 1)):
      axis.plot(
        [row["N"] for row in own],
        [row[name] / unit for row in own],
        label=f"{key[0]}, D = {key[1]:,}",
        **style,
      )
  sizes = sorted({(row["N"], row["D"]) for row in found if row["images"] == "generated"})
  for size, color in ((192, "0.75"), (12_288, "0.5")):
    pixels = [(num, num * d / 1e6) for num, d in sizes if d == size]
    axes[0].plot(*zip(*pixels), color=color, linestyle=":", label=f"the pixels, D = {size:,}")
  for axis, name in zip(axes, ("memory of its own (MB)", "seconds, beside other work")):
    axis.set(xscale="log", yscale="log", xlabel="images N", ylabel=name)
  figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=8)
  figure.savefig(path, dpi=130)


def main() -> None:
  """Measure one task in a process, or all of them, and write the page."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--images", default="", help=".npz of uint8 [N, H, W, C], for the part on real images")
  parser.add_argument("--check", action="store_true", help="few images, and nothing is written")
  for own in ("--task", "--file", "--num"):
    parser.add_argument(own, help=argparse.SUPPRESS)
  asked = parser.parse_args()
  if asked.task:
    print(json.dumps(measure(asked.task, asked.file, int(asked.num))))
    return
  found = rows(asked.images, asked.check)
  if asked.check:
    print(table(found))
    return
  shown = lambda match: f"{match[1]}\n{table(found)}\n{match[2]}"  # noqa: E731
  text = re.sub("(<!-- rows -->).*(<!-- /rows -->)", shown, PAGE.read_text(), flags=re.DOTALL)
  PAGE.write_text(text)
  draw(found, PAGE.with_suffix(".png"))


if __name__ == "__main__":
  main()
