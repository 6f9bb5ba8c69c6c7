"""The few numbers a study is remembered by, with their intervals."""

from typing import NamedTuple

import numpy as np

from gauss_diffusion.intervals import Interval, bootstrap_mean

SIGMA = 0.47  # the middle of the paper's ten levels: where memorization and generalization part


class Headline(NamedTuple):
  """One number of one model."""

  name: str
  value: Interval


def headlines(found: dict[str, dict[str, np.ndarray]]) -> list[Headline]:
  """Return the headline numbers of one model.

  Args:
    found: analysis name -> its arrays; analyses that were not run leave their numbers out.
  """
  rows = []
  if "samples" in found and "network" in found["samples"]["denoiser"]:
    arrays = found["samples"]
    row = list(arrays["denoiser"]).index("network")
    rows.append(Headline("GL score", bootstrap_mean(arrays["gl"][row])))
    rows.append(Headline("memorized share", bootstrap_mean(arrays["memorized"][row])))
  if "linearity" in found:
    arrays = found["linearity"]
    level, weight = _nearest(arrays["sigma"], SIGMA), np.argmin(np.abs(arrays["alpha2"] - 0.5))
    cosine = np.abs(arrays["cosine"][list(arrays["inputs"]).index("noisy image"), level, weight])
    name = f"linearity score at σ = {arrays['sigma'][level]:.2g}, α² = {arrays['alpha2'][weight]:g}"
    rows.append(Headline(name, bootstrap_mean(cosine)))
  if "score_gap" in found:
    arrays = found["score_gap"]
    level, law = _nearest(arrays["sigma"], SIGMA), list(arrays["law"]).index("held-out")
    for denoiser in ("gaussian", "linear (held-out)", "multi-delta"):
      if f"network / {denoiser}" in arrays["pair"]:
        pair = list(arrays["pair"]).index(f"network / {denoiser}")
        name = f"RMSE to {denoiser} at σ = {arrays['sigma'][level]:.2g}"
        rows.append(Headline(name, bootstrap_mean(arrays["rmse"][law, pair, level])))
  return rows


def table(rows: list[dict]) -> str:
  """Return the rows as text, one line per number and one column per model, intervals in brackets."""
  names = list(dict.fromkeys(name for row in rows for name in row))
  cells = [[name, *(_cell(row.get(name)) for row in rows)] for name in names]
  widths = [max(map(len, column)) for column in zip(*cells)]
  return "\n".join(
    "  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in cells
  )


def _cell(value) -> str:
  if value is None or isinstance(value, str):
    return value or ""
  mean, low, high = value
  return f"{mean:.3f} [{low:.3f}, {high:.3f}]"


def _nearest(levels: np.ndarray, level: float) -> int:
  return int(np.argmin(np.abs(np.log(levels / level))))
