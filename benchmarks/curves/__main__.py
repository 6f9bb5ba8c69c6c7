"""Time and memory of what the package does, against how much of everything there is.

    python -m benchmarks.curves                        # every curve, and the page of the docs made from them
    python -m benchmarks.curves large --images=FILE    # what streams, on generated images and yours (.npz)
    python -m benchmarks.curves --draw                 # pages and figures again, from what is kept
    python -m benchmarks.curves --quick                # few of everything; nothing is written

Every point is a process of its own. A curve's seconds are those of a second run, compiled; memory is what the
first one adds to the process, without pages of mapped files. The points of `large` run once.
"""

import argparse
import json

from benchmarks import machine
from benchmarks.curves import pages
from benchmarks.curves.measure import measure, rows
from benchmarks.curves.points import Point


def main() -> None:
  """Measure one point in a process, or all of them, and write the pages."""
  parser = argparse.ArgumentParser(
    prog="python -m benchmarks.curves",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  parser.add_argument("sets", nargs="*", metavar="SET", help=f"all, or some of {', '.join(pages.SETS)}")
  parser.add_argument(
    "--images", default="", help=".npz of uint8 [N, H, W, 3], H = W, for `large` on real ones"
  )
  parser.add_argument("--draw", action="store_true", help="measure nothing")
  parser.add_argument("--quick", action="store_true", help="few of everything, and nothing is written")
  for own in ("--point", "--file"):
    parser.add_argument(own, help=argparse.SUPPRESS)
  parser.add_argument("--once", action="store_true", help=argparse.SUPPRESS)
  asked = parser.parse_args()
  if asked.point:
    print(json.dumps(measure(Point(*json.loads(asked.point)), asked.file, asked.once)))
    return
  for name in asked.sets:
    if name not in pages.SETS:
      parser.error(f"`{name}` is no set of curves; known are {', '.join(pages.SETS)}")
  for name in asked.sets or pages.SETS:
    if not asked.draw:
      once = name == "large"
      found = rows(pages.SETS[name][0], once, asked.quick, asked.images if once else "")
      if asked.quick:
        print(pages.SETS[name][1](found))
        continue
      pages.KEPT.mkdir(parents=True, exist_ok=True)
      (pages.KEPT / f"{name}.json").write_text(
        json.dumps({"machine": machine.name(), "rows": found}, indent=1) + "\n"
      )
    pages.write(name)


if __name__ == "__main__":
  main()
