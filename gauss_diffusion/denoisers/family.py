"""What an ideal denoiser is to a study: how it is fitted to images, how it denoises, what can be chosen."""

import difflib
import hashlib
import json
import numbers
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from gauss_diffusion import hosts, results
from gauss_diffusion.types import Image, Sigma

Shape = tuple[int, int, int]
EXACT = "compares whole grey levels exactly"  # what a family that is `exact` does


class Option(NamedTuple):
  """One thing that can be chosen about a family, ``denoisers.NAME.OPTION`` of a study."""

  default: int | float
  meaning: str  # and its unit
  low: float  # the least value allowed
  high: float  # the greatest


class Family(NamedTuple):
  """An ideal denoiser: from images and options to a record, from the record to a `types.Denoiser`."""

  title: str  # what figures and tables call it
  fit: Callable[
    ..., Any
  ]  # (images [N, H, W, C], **options) -> record, a pytree of arrays; see `labelled`, `exact`
  denoise: Callable[[Any, Image, Sigma], Image]  # (record, x, sigma) -> x0_hat
  options: dict[str, Option] = {}
  kept: Any = None  # the record's NamedTuple, where fitting costs enough to keep it on disk
  most_values: int | None = None  # H * W * C of the largest image that it can denoise
  check: Callable[..., None] | None = None  # (where, shape, num, **options): refuses what does not fit
  labelled: bool = False  # it is fitted to classes too: (images, labels int32 [N], **options)
  together: bool = False  # all processes of a run fit it at the same time, and share the work
  exact: bool = False  # it compares whole grey levels, see `levels`: images are uint8, and no floats


def defaults(family: Family) -> dict[str, int | float]:
  """Return the options of a family at their defaults."""
  return {name: option.default for name, option in family.options.items()}


def check_options(name: str, family: Family, options: dict[str, Any]) -> None:
  """Refuse options that are unknown, of the wrong type or out of range.

  Raises:
    ValueError: naming the option as a field of a study, ``denoisers.NAME.OPTION``.
  """
  for option, value in options.items():
    where = f"`denoisers.{name}.{option}`"
    if option not in family.options:
      close = difflib.get_close_matches(option, family.options, 1)
      hint = f"; did you mean {close[0]!r}?" if close else ""
      known = ", ".join(family.options) or "it has none"
      raise ValueError(f"{where} is no option of this denoiser; known: {known}{hint}")
    default, meaning, low, high = family.options[option]
    kind: Any = numbers.Integral if isinstance(default, int) else numbers.Real
    if isinstance(value, bool) or not isinstance(value, kind) or not low <= value <= high:
      number = "a whole number" if isinstance(default, int) else "a number"
      raise ValueError(f"{where} is {value!r}; want {number} from {low:g} to {high:g}: {meaning}")


def check_images(name: str, family: Family, shape: Shape, num: int, options: dict[str, Any]) -> None:
  """Refuse images that are too large for the family, or for which its options are none.

  Args:
    name: of the family.
    family: to be fitted.
    shape: of an image, (H, W, C).
    num: of the images.
    options: all of the family's, in range.

  Raises:
    ValueError: naming what would have to change.
  """
  size = int(np.prod(shape))
  if family.most_values is not None and size > family.most_values:
    raise ValueError(
      f"the denoiser {name!r} takes images of at most {family.most_values} values, and these have {size} "
      f"({' x '.join(map(str, shape))}): set `data.size`, or leave {name!r} out of the analyses"
    )
  if family.check is not None:
    family.check(f"denoisers.{name}.", shape, num, **options)


def fit(family: Family, images: Any, labels: Any, options: dict[str, Any]) -> Any:
  """Return the family's record of images and, where it asks for them, of their labels.

  Raises:
    ValueError: when the family wants uint8 and the images are floats.
  """
  if family.exact and images.dtype != np.uint8:
    raise ValueError(f"`images` are {images.dtype}; the denoiser {family.title!r} {EXACT}, and wants uint8")
  return family.fit(images, labels, **options) if family.labelled else family.fit(images, **options)


def fitted(
  name: str,
  family: Family,
  images: Any,
  fingerprint: str,
  options: dict[str, Any],
  folder: pathlib.Path,
  *,
  labels: Any = None,
  label_fingerprint: str = "",
) -> Any:
  """Return the family's record of these images, from disk where it has been fitted before.

  Args:
    name: of the family; a folder of the cache.
    family: what to fit.
    images: uint8 or float32 [N, H, W, C], handed to ``family.fit``.
    fingerprint: of the images.
    options: all of the family's.
    folder: of the cache, ``<workdir>/fits``; a damaged or foreign entry is fitted anew.
    labels: of the images, where there are any, handed to the fit of a family that is `labelled`.
    label_fingerprint: of the labels.
  """
  if family.kept is None:
    return fit(family, images, labels, options)
  inputs = {"family": name, "images": fingerprint, "options": options}
  if family.labelled:
    inputs["labels"] = label_fingerprint
  key = hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()[:8]
  path = folder / name / f"{fingerprint}-{key}"

  def made() -> Any:
    return fit(family, images, labels, options)

  def save(record: Any) -> None:
    fields = {
      field: (tuple(f"{field}_{axis}" for axis in range(np.ndim(value))), value)
      for field, value in record._asdict().items()
    }
    results.save(path, results.labelled(fields, {}), {"inputs": inputs})

  def found_or_made() -> Any:
    if results.current(path, inputs):
      arrays, _ = results.load(path)
      assert arrays is not None
      return family.kept(*(arrays[field].to_numpy() for field in family.kept._fields))
    record = made()
    save(record)
    return record

  if family.together and not hosts.told(results.current(path, inputs)):
    record = made()
    hosts.alone(lambda: save(record))
    return record
  return hosts.in_turn(found_or_made)
