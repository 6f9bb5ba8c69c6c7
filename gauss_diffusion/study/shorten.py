"""What of a result claims, figures and headlines read, and with how few digits: what `keep` commits."""

import math
import pathlib
import typing
from collections.abc import Callable
from typing import Any

import numpy as np

from gauss_diffusion import results
from gauss_diffusion.analyses import subject as subjects
from gauss_diffusion.readings.claims import CLAIMS
from gauss_diffusion.study import pictures, rebuild
from gauss_diffusion.study.members import Member

if typing.TYPE_CHECKING:
  from gauss_diffusion.results import xarray

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


def shorten(
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

  if analysis in SHEET:
    found = _on_a_sheet(found, *SHEET[analysis], whole=read)
    about["pictures kept"] = SHEET[analysis][1]
    about["all pictures kept"] = [name for name in read if name in found]
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


def _on_a_sheet(found: "xarray.Dataset", axis: str, num: int, whole: tuple[str, ...]) -> "xarray.Dataset":
  """Return a result with even pictures in the place of all but the first along an axis.

  Samples of a network are 0 there, and those of another denoiser as bright as they were far from it, so that
  the distance between both stays. Those that are read as a `whole` stay as they are.
  """
  kept = found.copy()
  for name, values in found.items():
    if name in whole or not {axis, PICTURE} <= set(values.dims):
      continue
    even = 0 * values
    if name == "samples":
      names = list(found.denoiser.to_numpy())
      one = values.sel(denoiser="network" if "network" in names else names[0])
      even = even + np.sqrt(((values.astype(float) - one) ** 2).mean([*subjects.IMAGE]))
    later = {axis: slice(num, None)}
    kept[name] = values.copy(deep=True)
    kept[name][later] = even.transpose(*values.dims).isel(later)
  return kept


def turned(workdir: pathlib.Path, everybody: list[Member]) -> "dict[str, dict[str, xarray.DataArray]]":
  """Return fields of which inner products alone are read, turned so that few of their pixels are not 0.

  At each noise level and on each image all fields of a group are turned by one rotation, the Q of their QR:
  of the k-th of them all pixels are 0 but the first k.
  """
  found: dict[str, dict[str, xarray.DataArray]] = {}
  for analysis, (name, group_of) in FIELDS.items():
    groups: dict[Any, dict[str, xarray.DataArray]] = {}
    for member in everybody:
      place = workdir / "results" / analysis / member.label
      if results.exists(place) and (one := results.load(place)[0]) is not None:
        groups.setdefault(group_of(member), {})[str(place)] = one[name]
    for fields in groups.values():
      found |= {place: {name: field} for place, field in zip(fields, _turn([*fields.values()]))}
  return found


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
