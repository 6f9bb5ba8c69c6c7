"""What of a result claims, figures and headlines read, and with how few digits: what `keep` commits."""

import itertools
import math
import pathlib
import typing
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from gauss_diffusion import results
from gauss_diffusion.analyses import subject as subjects
from gauss_diffusion.readings import measures
from gauss_diffusion.readings.claims import CLAIMS
from gauss_diffusion.readings.measures import Reading
from gauss_diffusion.study import pictures, rebuild
from gauss_diffusion.study.members import Member

if typing.TYPE_CHECKING:
  from gauss_diffusion.results import xarray

ROUGH_BITS = 9
WHOLE_BITS = 23  # of a float32
FIELD_STEP = 2.0**-14  # as of `Digits`, of pictures that were turned
EXACT_BITS = 32  # of moments of which claims divide by differences that are nearly 0
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
  "samples": ("gl", "memorized", measures.APART),
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
SHEET = {"samples": ("sample", pictures.MOST), "trajectories": ("latent", 1)}  # pictures that a figure shows


class Digits(NamedTuple):
  """How finely numbers are kept."""

  bits: int  # of the mantissa of single samples
  square_bits: int  # of those of `SQUARES`
  step: float  # of pictures, of the power of two above their largest value


# The first by which no verdict and no printed digit moves is taken, or all digits stay. 9 bits are 0.1 %, 12
# are 0.01 %, and the mean over 100 images moves by a tenth of that; 128 steps are half of a screen's.
LADDER = (
  Digits(9, 9, 1 / 64),
  Digits(9, 9, 1 / 256),
  Digits(12, 12, 1 / 256),
  Digits(18, 18, 1 / 256),
  Digits(18, 23, 1 / 256),
  Digits(WHOLE_BITS, WHOLE_BITS, 1 / 256),
)


class Field(NamedTuple):
  """Pictures of which inner products alone are read, between those of one level and image."""

  name: str
  group: Callable[[Member], Any]  # what members have in common between whose pictures there are any


def _halves(member: Member) -> Any:
  return member.entry["group"], member.replicate


FIELDS = {
  "explained": Field("residual", lambda member: member.model),
  "halves": Field("deviations", _halves),
}
FRAMES = ("sigma", "image")


def shorten(
  found: "xarray.Dataset", analysis: str, member: Member, config: dict[str, Any], digits: Digits | None
) -> "tuple[xarray.Dataset, dict[str, Any]]":
  """Return what is kept of a result, all of its numbers without `digits`, and what its card says of it."""
  first, several = not member.control and not member.replicate, config["replicates"] > 1
  found, about = _what_is_read(found, analysis, member, config)
  if digits is None:
    return found, about

  apart = any(PICTURE in values.dims for values in found.values())
  few = several and not first and not apart  # two samples in the place of all
  moments = few or several and analysis not in (*FIELDS, "samples")
  drawn, means, rough = (table.get(analysis, ()) for table in (DRAWN, MEANS, ROUGH))

  def short(values):
    name, axes = str(values.name), set(values.dims)
    if PICTURE in axes:
      return _stepped(values, FIELD_STEP if _is_turned(analysis, name) else digits.step)
    if name == "gram" and several:
      return _rounded(values, digits.bits).where(values.law == "held-out", _mean_of_halves(values))
    if name in means and (several or "latent" in axes):
      return _mean(values)
    if axes & set(SAMPLES) and (moments or name in drawn):
      return _moments(values, few=few, spread=name in SQUARES or not several)
    if axes & set(SINGLE) or name in rough:
      fine = digits.square_bits if name in SQUARES else digits.bits
      return _rounded(values, ROUGH_BITS if name in rough else fine)
    return values.astype(np.float32) if values.dtype == np.float64 and "sigma" in axes else values

  if analysis in SHEET:
    found = _on_a_sheet(found, *SHEET[analysis])
    about["pictures kept"] = SHEET[analysis][1]
  small = found.map(short, keep_attrs=True)
  if analysis == "linearity" and not several and not member.control:  # claims are of noisy images alone
    noise = small.inputs == "pure noise"
    small["cosine"] = _moments(found.cosine, few=False, spread=True).where(noise, small.cosine)
  return small, about | {
    "mantissa bits": digits.bits,
    f"mantissa bits of {', '.join(SQUARES)}": digits.square_bits,
    f"{ROUGH_BITS} mantissa bits": rough,
    "step of a picture": digits.step,
    "moments over": SAMPLES if moments else (),
    "mean and spread": drawn,
    "mean": means,
  }


def _what_is_read(
  found: "xarray.Dataset", analysis: str, member: Member, config: dict[str, Any]
) -> "tuple[xarray.Dataset, dict[str, Any]]":
  """Return a result without what neither claims nor figures read, and what its card says of that.

  Args:
    found: the result.
    analysis: whose.
    member: of whom.
    config: of the study.
  """
  read = READ.get(analysis, ())
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
  kept = found.copy()
  for name, values in found.items():
    if not {axis, PICTURE} <= set(values.dims):
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


def added(
  workdir: pathlib.Path, everybody: list[Member], config: dict[str, Any]
) -> "dict[str, dict[str, xarray.DataArray]]":
  """Return what takes the place of arrays that are too large: place of a result -> its new arrays.

  Fields of which inner products alone are read are turned. Samples that are compared get the distances to
  those of their partner beside them.
  """
  found = _turned(workdir, everybody)
  if any(CLAIMS[name].needs.halves for name in config["claims"]) or "agreement" in config["figures"]:
    found |= _apart(workdir, everybody)
  return found


def _apart(workdir: pathlib.Path, everybody: list[Member]) -> "dict[str, dict[str, xarray.DataArray]]":
  """Return how far samples of a half lie from its own and from its partner's, see `measures.distance`."""
  folder, by_label = workdir / "results" / "samples", {member.label: member for member in everybody}
  held: dict[str, Reading] = {}
  for label, member in by_label.items():
    if results.exists(folder / label) and (found := results.load(folder / label)[0]) is not None:
      held[label] = Reading(member.entry["title"], member.entry, {"samples": found}, {})
  partners: dict[str, dict[str, Reading]] = {label: {} for label in held}  # by their titles
  for one, two in itertools.product(everybody, repeat=2):
    if not (one.control or two.control) and _halves(one) == _halves(two):
      controls = [(one.stands_in[name], two.stands_in[name]) for name in one.stands_in]
      for label, other in [(one.label, two.label), *controls]:
        if {label, other} <= {*held}:
          partners[label][held[other].title] = held[other]
  apart = {label: _distances(one, partners[label]) for label, one in held.items() if partners[label]}
  return {str(folder / label): {measures.APART: each} for label, each in apart.items()}


def _distances(one: Reading, partners: dict[str, Reading]) -> "xarray.DataArray":
  names = [str(name) for name in one.found["samples"].denoiser.to_numpy()]
  with np.errstate(invalid="ignore"):  # a constant draws one picture, which has no distance from itself
    every = [
      [[measures.distance(one, two, name, other) for other in names] for name in names]
      for two in partners.values()
    ]
  axes = ("partner", "denoiser", "other", "sample")
  coordinates = {"partner": [*partners], "denoiser": names, "other": names}
  arrays = {measures.APART: (axes, np.array(every, np.float32))}
  return results.labelled(arrays, coordinates)[measures.APART]


def _is_turned(analysis: str, name: str) -> bool:
  return analysis in FIELDS and name == FIELDS[analysis].name


def _turned(workdir: pathlib.Path, everybody: list[Member]) -> "dict[str, dict[str, xarray.DataArray]]":
  """Return fields turned so that few of their pixels are not 0.

  All pictures of a group that have a place in `FRAMES` in common are turned by one rotation, the Q of their
  QR: of the k-th of them all pixels are 0 but the first k.
  """
  found: dict[str, dict[str, xarray.DataArray]] = {}
  for analysis, field in FIELDS.items():
    groups: dict[Any, dict[str, xarray.DataArray]] = {}
    for member in everybody:
      place = workdir / "results" / analysis / member.label
      if results.exists(place) and (one := results.load(place)[0]) is not None:
        groups.setdefault(field.group(member), {})[str(place)] = one[field.name]
    for fields in groups.values():
      found |= {where: {field.name: each} for where, each in zip(fields, _turn([*fields.values()]))}
  return found


def _turn(fields: "list[xarray.DataArray]") -> "list[xarray.DataArray]":
  ordered = [field.transpose(..., *FRAMES, *subjects.IMAGE) for field in fields]
  kept = len(FRAMES) + len(subjects.IMAGE)  # axes
  flat = [
    field.to_numpy().reshape(-1, *field.shape[-kept : -len(subjects.IMAGE)], math.prod(field.shape[-3:]))
    for field in ordered
  ]
  vectors = np.concatenate(flat).astype(float)  # [pictures, *frames, pixels]
  coordinates = np.linalg.qr(np.moveaxis(vectors, 0, -1)).R  # [*frames, at most as many as pixels, pictures]
  vectors[...] = 0
  vectors[..., : coordinates.shape[-2]] = np.moveaxis(coordinates, -1, 0)
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
  """Return pictures in steps of a power of two, which those of one scale have in common; even ones as is."""
  each = values.to_numpy()
  axes = tuple(values.get_axis_num(axis) for axis in subjects.IMAGE)
  steps = step * np.exp2(np.ceil(np.log2(np.abs(each).max(axes, keepdims=True) + TINY)))
  even = np.ptp(each, axes, keepdims=True) == 0
  return values.copy(data=np.where(even, each, np.round(each / steps) * steps).astype(np.float32))
