"""Studies of data that are floats, such as latents: what of the defaults they leave out, what they refuse.

That data are floats a study knows from its `data.scale`, before it reads them.
"""

from collections.abc import Iterator
from typing import Any

from ml_collections import ConfigDict

from gauss_diffusion import analyses
from gauss_diffusion.denoisers import FAMILIES
from gauss_diffusion.denoisers.family import EXACT


def leave_out(config: ConfigDict) -> list[str]:
  """Take denoisers that want uint8 out of the analyses' defaults; what was chosen stays, to be refused.

  Args:
    config: the study, changed in place.

  Returns:
    The denoisers that were left out; of a study of pixels none.
  """
  left: dict[str, None] = {}
  for name in config.analyses if config.data.scale else ():
    for field, default in _defaults(name).items():
      unfit = [denoiser for denoiser in _denoisers(default) if _exact(denoiser)]
      if unfit and config[name][field] == default:
        config[name][field] = tuple(entry for entry in default if not set(unfit) & set(_denoisers((entry,))))
        left |= dict.fromkeys(unfit)
  return list(left)


def asking(config: ConfigDict) -> Iterator[tuple[str, str]]:
  """Yield every field that asks for a denoiser that wants uint8, and that denoiser."""
  for label, model in config.models.items():
    yield from ((f"models.{label}.denoiser", name) for name in [model.denoiser] if _exact(name))
  yield from (("controls", name) for name in config.controls if _exact(name))
  for name in config.analyses:
    for field in _defaults(name):
      yield from ((f"{name}.{field}", each) for each in _denoisers(config[name][field]) if _exact(each))


def check(what: str, name: str) -> None:
  """Refuse a denoiser of floats that wants uint8.

  Raises:
    ValueError: which begins with what asks for it.
  """
  raise ValueError(f"{what} {name!r}, which {EXACT}, and with `data.scale` the data are floats; leave it out")


def unfit(entry: Any) -> str | None:
  """Return the first denoiser in an entry of a setting, a name or a pair of names, that wants uint8."""
  return next((name for name in _denoisers((entry,)) if _exact(name)), None)


def check_decoder(config: ConfigDict) -> None:
  """Refuse a decoder of pixels, which are what they show.

  Raises:
    ValueError: naming the field.
  """
  if config.data.decoder and not config.data.scale:
    raise ValueError(
      f"`data.decoder` is {config.data.decoder!r}, which shows floats, and without `data.scale` the data are "
      "pixels; leave it empty"
    )


def _defaults(analysis: str) -> dict[str, Any]:
  """Return the settings of an analysis, none of one that is unknown, which is refused elsewhere."""
  return analyses.ANALYSES[analysis].DEFAULTS if analysis in analyses.ANALYSES else {}


def _exact(name: str) -> bool:
  return name in FAMILIES and FAMILIES[name].exact


def _denoisers(value: Any) -> list[str]:
  """Return the names in a setting: a list of denoisers or of pairs of them; each once."""
  if not isinstance(value, tuple):
    return []
  entries = [entry for each in value for entry in (each if isinstance(each, tuple | list) else (each,))]
  return list(dict.fromkeys(entry for entry in entries if isinstance(entry, str)))
