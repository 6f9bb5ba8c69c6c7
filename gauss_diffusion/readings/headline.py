"""The few numbers a study is remembered by, with their intervals."""

from gauss_diffusion.readings import measures
from gauss_diffusion.readings.intervals import Interval, bootstrap_mean
from gauss_diffusion.readings.measures import Model

SIGMA = 0.47  # the middle of the paper's ten levels: where memorization and generalization part


def headlines(model: Model) -> dict[str, Interval]:
  """Return the headline numbers of one model; analyses that were not run leave theirs out."""
  found, values = model.found, {}
  if "samples" in found and "network" in found["samples"]["denoiser"]:
    values["GL score"] = measures.gl(model)
    values["memorized share"] = measures.memorized(model)
  if "linearity" in found:
    arrays = found["linearity"]
    level = arrays["sigma"][edm.nearest(arrays["sigma"], SIGMA)]
    alpha2 = arrays["alpha2"][abs(arrays["alpha2"] - 0.5).argmin()]
    name = f"linearity score at σ = {level:.2g}, α² = {alpha2:g}"
    values[name] = measures.linearity(model, (level, level), alpha2)
  if "score_gap" in found:
    arrays = found["score_gap"]
    level = arrays["sigma"][edm.nearest(arrays["sigma"], SIGMA)]
    for denoiser in ("gaussian", "linear (held-out)", "multi-delta"):
      if f"network / {denoiser}" in arrays["pair"]:
        values[f"RMSE to {denoiser} at σ = {level:.2g}"] = measures.gap(
          model, "network", denoiser, (level, level)
        )
    values["denoising RMSE on held-out images"] = measures.error(model)
  return {name: bootstrap_mean(samples) for name, samples in values.items()}


def table(rows: list[dict]) -> str:
  """Return the rows as text, one line per number and one column per model, intervals in brackets."""
  names = list(dict.fromkeys(name for row in rows for name in row))
  cells = [[name, *(_cell(row.get(name)) for row in rows)] for name in names]
  widths = [max(map(len, column)) for column in zip(*cells)]
  return "\n".join(
    "  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in cells
  )


def verdicts(rows: list[dict]) -> str:
  """Return claims as text, one line each: verdict, statement, value with its interval."""
  return "".join(f"{row['verdict']:<14}  {row['claim']}  {_cell(row['value'])}\n" for row in rows)


def _cell(value) -> str:
  if value is None or isinstance(value, str):
    return value or ""
  mean, low, high = value
  return f"{mean:.3f} [{low:.3f}, {high:.3f}]"
