"""The network's best affine approximation at each noise level, on two input laws (Li et al. 2024, eq. 9).

On noisy *training* images any posterior-mean denoiser, the exact memorizer included, has the Gaussian
denoiser as its best affine fit. Only *held-out* images tell memorization and generalization apart.
"""

import numpy as np

from gauss_diffusion import distill
from gauss_diffusion.analyses import subject as subjects
from gauss_diffusion.probes import spectrum

DEFAULTS = {"method": "closed_form", "pairs": 8192, "steps": 2000, "singular_vectors": 32}
LAWS = ("train", "held-out")
METHODS = ("closed_form", "gradient_descent")


def check(config, shape, num_held_out: int) -> None:
  """Refuse an unknown method, or too few pairs to determine the map."""
  settings, dimension = config.distillation, int(np.prod(shape))
  if settings.method not in METHODS:
    raise ValueError(f"`distillation.method` has no {settings.method!r}; known: {', '.join(METHODS)}")
  if settings.pairs < 2 * dimension:
    raise ValueError(
      f"`distillation.pairs` is {settings.pairs}; an affine map of {dimension} pixels needs at least "
      f"{2 * dimension}"
    )
  if not 1 <= settings.singular_vectors <= dimension:
    raise ValueError(f"`distillation.singular_vectors` is {settings.singular_vectors}; want 1 to {dimension}")


def compute(subject: subjects.Subject, settings, title: str) -> dict[str, np.ndarray]:
  """Distil on both laws; compare each map with the Gaussian denoiser's."""
  laws = dict(zip(LAWS, (subject.train, subject.held_out)))
  out = {"weight": [], "bias": [], "fit_rmse": [], "weight_gap": [], "singular_correlation": []}
  for law, images in laws.items():
    key = subjects.key(subject, law)
    if settings.method == "closed_form":
      affine, info = distill.closed_form(
        subject.network, images, subject.sigmas, key, num_pairs=settings.pairs
      )
    else:
      affine, info = distill.gradient_descent(
        subject.network, images, subject.sigmas, key, num_steps=settings.steps
      )
    rows = list(zip(affine.weight, subject.sigmas))
    out["weight"].append(affine.weight)
    out["bias"].append(affine.bias)
    out["fit_rmse"].append(np.sqrt(info.residual_mse))
    out["weight_gap"].append([spectrum.weight_gap(weight, subject.stats, sigma) for weight, sigma in rows])
    out["singular_correlation"].append(
      [
        spectrum.singular_correlation(weight, subject.stats, sigma, settings.singular_vectors)
        for weight, sigma in rows
      ]
    )
  arrays = {name: np.stack(values) for name, values in out.items()}
  return arrays | {"sigma": subject.sigmas, "law": np.array(LAWS), "pairs": np.array(settings.pairs)}
