"""Class labels of a study: what asks for them, refused where images have none or not those that are meant."""

from ml_collections import ConfigDict

from gauss_diffusion import analyses
from gauss_diffusion.denoisers import FAMILIES
from gauss_diffusion.study.members import analyses_of
from gauss_diffusion.study.subjects import Model


def check(config: ConfigDict, models: list[Model]) -> None:
  """Refuse denoisers that are fitted to labels where a model's images have none, or none of the class meant.

  Args:
    config: the study, checked.
    models: of the study.

  Raises:
    ValueError: naming the field that asks for the denoiser.
  """
  for model in models:
    asking = {f"models.{model.label}.denoiser": [model.entry.denoiser]}
    asking |= {name: analyses.ANALYSES[name].uses(config[name]) for name in analyses_of(config, model.member)}
    for field, names in asking.items():
      for name in names:
        if name in FAMILIES and FAMILIES[name].labelled:
          _check_labels(f"`{field}` asks for {name!r}", name, config, model)


def _check_labels(what: str, name: str, config: ConfigDict, model: Model) -> None:
  labels = model.subset.labels
  if labels is None:
    raise ValueError(f"{what}, which needs labels, and {config.data.name!r} has none")
  options = config.denoisers[name]
  if "label" in options and options.label not in labels:
    raise ValueError(
      f"{what}, and `denoisers.{name}.label` is {options.label}, a class of which none of the {len(labels)} "
      f"images of `models.{model.label}` is; want one of {', '.join(map(str, sorted(set(labels.tolist()))))}"
    )
