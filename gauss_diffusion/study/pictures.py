"""What data that are floats look like: through the user's decoder, or by their first channels.

Beside its arrays a result of an analysis that shows images keeps some of them decoded, so that figures are
drawn from results alone. With another decoder these are made anew, and nothing is measured again.
"""

import hashlib
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Shaped, UInt8

from gauss_diffusion import data, results
from gauss_diffusion.analyses.subject import IMAGE
from gauss_diffusion.data import scale
from gauss_diffusion.denoisers import external
from gauss_diffusion.images import to_uint8

# Analysis -> its arrays that figures show as images. Errors and directions are none, and stay channels.
PICTURES = {
  "denoised": ("clean", "inputs", "outputs"),
  "perturbation": ("samples", "unmoved"),
  "samples": ("samples", "neighbours"),
  "teleportation": ("samples", "fine"),
  "trajectories": ("denoised",),
}
MANY, MOST = ("sample", "latent", "shown"), 8  # axes of which the first so many are decoded
COLOURS = ("row", "column", "colour")  # axes of a decoded image
BATCH = 16  # images that a decoder is given at a time
TRIED = 2  # images by whose pictures a decoder is known
OVERSHOOT = 2.0  # largest value of a decoder's floats on images of the data; all beyond [-1, 1] are clipped

Decoder = Callable[[Float[np.ndarray, "n H W C"]], UInt8[np.ndarray, "n h w c"]]


class DecoderError(ValueError):
  """A decoder fails, or returns what are no images."""


class Shown(NamedTuple):
  """How images of a study are shown."""

  decode: Decoder  # of images on the project's scale
  how: str  # in words
  digest: str  # of what decides it


def of(place: str, dataset: data.Dataset) -> Shown | None:
  """Return how images of a data set are shown, None for pixels; a decoder is tried on some of them.

  Args:
    place: ``FILE.py:NAME`` of a function that takes float32 [n, H, W, C] as the file of the data has them,
      and returns images [n, h, w, 1 or 3], uint8 or floats in [-1, 1]. Empty: the first three channels are
      shown, or the first where there are fewer, black and white two standard deviations from the mean.
    dataset: whose images.

  Raises:
    ValueError: in one line, when the function cannot be loaded, fails, or returns something else, or other
      images the second time.
  """
  if dataset.scale is None:
    return None
  if not place:
    mean, deviation = scale.moments(dataset.pool)
    channels, shown = dataset.pool.shape[3], 3 if dataset.pool.shape[3] >= 3 else 1
    how = f"channel 1 of {channels}" if shown == 1 else f"channels 1 to 3 of {channels}"
    return Shown(
      lambda x: to_uint8((x[..., :shown] - np.float32(mean)) / np.float32(2 * deviation)),
      f"{how}, mean ± 2 standard deviations",
      f"{mean} {deviation}",
    )
  function, done = external.load(place, "data.decoder"), dataset.scale
  tried = scale.undo(done, dataset.pool[:TRIED])
  first, second = _called(place, function, tried), _called(place, function, tried)
  if first.dtype != np.uint8 and not np.abs(first).max() <= OVERSHOOT:
    found = f"floats from {first.min():g} to {first.max():g}"
    raise ValueError(f"`data.decoder` {place!r} returned {found}; want [-1, 1]")
  if not np.array_equal(first, second):
    raise ValueError(f"`data.decoder` {place!r} returned other images the second time; want the same")
  source = pathlib.Path(place.rpartition(":")[0]).read_bytes()
  return Shown(
    lambda x: _pixels(_called(place, function, scale.undo(done, x))),
    f"through {pathlib.Path(place).name}",
    hashlib.sha256(source + first.tobytes()).hexdigest(),
  )


def card(shown: Shown | None, analysis: str) -> dict[str, Any]:
  """Return what a result's card says of its decoded images, nothing where it has none."""
  if shown is None or analysis not in PICTURES:
    return {}
  return {"pictures": {"how": shown.how, "digest": shown.digest}}


def add(shown: Shown | None, analysis: str, found: Any) -> Any:
  """Return a result of an analysis with the images decoded that figures show, under names in `results.SHOWN`.

  Args:
    shown: from `of`.
    analysis: the result's.
    found: an `xarray.Dataset`, or None.
  """
  if shown is None or found is None:
    return found
  for name in PICTURES.get(analysis, ()):
    some = found[name].isel({axis: slice(MOST) for axis in MANY if axis in found[name].dims})
    some = some.transpose(..., *IMAGE)
    cut = {axis for axis in some.dims if some.sizes[axis] < found.sizes[axis]}
    axes = [f"{axis}{results.SHOWN}" if axis in cut else axis for axis in some.dims[: -len(IMAGE)]]
    x = some.to_numpy().reshape(-1, *some.shape[-len(IMAGE) :])
    images = np.concatenate([shown.decode(x[start : start + BATCH]) for start in range(0, len(x), BATCH)])
    pictures = images.reshape(*some.shape[: -len(IMAGE)], *images.shape[1:])
    found = found.assign({f"{name}{results.SHOWN}": ((*axes, *COLOURS), pictures, {"how": shown.how})})
  return found


def renew(shown: Shown | None, analysis: str, place: pathlib.Path) -> None:
  """Decode the images of a result where that was not done yet, or by another decoder.

  Raises:
    DecoderError: when the decoder fails; the result stays as it was.
  """
  if not (wanted := card(shown, analysis)):
    return
  old = results.read_card(place)
  if old["content"] is None or old | wanted == old:
    return
  found, _ = results.load(place)
  assert found is not None
  stale = [name for name in found.data_vars if str(name).endswith(results.SHOWN)]
  results.save(place, add(shown, analysis, found.drop_vars(stale).drop_encoding()), old | wanted)


def _called(
  place: str, function: Callable[..., Any], x: Float[np.ndarray, "n H W C"]
) -> Shaped[np.ndarray, "n h w c"]:
  """Return what the user's function makes of values as the file has them: pixels, or floats of any size."""
  where = f"`data.decoder` {place!r}"
  try:
    images = np.asarray(function(x))
  except Exception as error:  # the user's code may fail in any way
    raise DecoderError(f"{where} on floats {x.shape}: {external.said(error)}") from error
  if images.ndim != 4 or len(images) != len(x) or images.shape[3] not in (1, 3) or 0 in images.shape:
    raise DecoderError(f"{where} returned {images.shape} for {x.shape}; want [{len(x)}, h, w, 1 or 3]")
  if images.dtype != np.uint8 and images.dtype.kind != "f":
    raise DecoderError(f"{where} returned {images.dtype}; want uint8, or floats in [-1, 1]")
  return images


def _pixels(images: Shaped[np.ndarray, "n h w c"]) -> UInt8[np.ndarray, "n h w c"]:
  """Return images to look at, whatever a decoder makes of noise: what lies beyond is clipped, NaN is grey."""
  return images if images.dtype == np.uint8 else to_uint8(np.nan_to_num(images))
