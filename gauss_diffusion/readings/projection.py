"""How much of one field others explain: least squares from inner products, fitted on other images than read.

A *Gram matrix* holds, for one image, the inner products of g fields: g − 1 that explain, and last the one
that is explained. Coefficients are scalars, one for each explaining field and noise level, the same for all
images of a half. They are fitted on one half of the images and applied to the other, and the other way
round. So a field that has nothing to do with the target explains a little less than nothing on average; on
the images that it was fitted on it would seem to explain something.

Fields that explain are neither orthogonal nor nested, and what each explains does not add up to what all
explain. Three numbers say how much is due to one: *first in*, alone; *last in*, lost without it; and its
Shapley share, the mean of what it adds over all orders in which the fields can be taken (Shapley 1953; of R²,
Lindeman, Merenda & Gold 1980). Shapley shares add up to what all explain. Fields that say the same have equal
shares, and nothing of their own: first in all of it, last in 0.
"""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from gauss_diffusion.readings.ratios import ratio

Grams = Float[np.ndarray, "S n g g"]  # at S noise levels, of n images
# Of the eigenvalues of the fields' correlations, relative to the largest. Two fields are below it when their
# difference is less than a fiftieth of their size. Coefficients would have to blow that up; then rounding, or
# the trace of the input in a kernel's estimate at high noise, would be an explanation.
ALIKE = 1e-4


def coefficients(gram: Grams, chosen: Sequence[int]) -> Float[np.ndarray, "S n k"]:
  """Return the coefficients of the chosen fields for each image, fitted on the half that it is not in.

  Images with an even index are one half. Where fields are alike the shortest solution is taken.

  Args:
    gram: Gram matrices.
    chosen: indices of k explaining fields.
  """
  chosen = list(chosen)
  half = np.arange(gram.shape[1]) % 2
  sums = np.stack([gram[:, half == other].sum(1) for other in (1, 0)])  # for images of half 0, of half 1
  inner, cross = sums[..., chosen, :][..., chosen], sums[..., chosen, -1]
  size = np.sqrt(np.einsum("...kk->...k", inner))
  size = np.where(size > 0, size, 1)
  values, vectors = np.linalg.eigh(inner / (size[..., :, None] * size[..., None, :]))
  kept = values > ALIKE * values.max(-1, keepdims=True, initial=0)
  inverse = np.where(kept, 1 / np.where(kept, values, 1), 0)
  along = np.einsum("hslk,hsl->hsk", vectors, cross / size)
  found = np.einsum("hslk,hsk->hsl", vectors, inverse * along) / size
  return np.moveaxis(found, 0, 1)[:, half]


def residual(
  fields: Float[np.ndarray, "g S n *image"], grams: Float[np.ndarray, "S n g g"]
) -> Float[np.ndarray, "S n *image"]:
  """Return what all other fields together leave of the last on each image, as `unexplained` measures it."""
  beta = coefficients(grams, range(len(fields) - 1))
  return fields[-1] - np.einsum("snk,ksn...->sn...", beta, fields[:-1])


def unexplained(gram: Grams, chosen: Sequence[int]) -> Float[np.ndarray, "S n"]:
  """Return the squared residual of the last field of each image, once the chosen ones have been taken out."""
  chosen, beta = list(chosen), coefficients(gram, chosen)
  fitted = np.einsum("snk,snkl,snl->sn", beta, gram[..., chosen, :][..., chosen], beta)
  return gram[..., -1, -1] - 2 * np.einsum("snk,snk->sn", beta, gram[..., chosen, -1]) + fitted


def explained(gram: Grams) -> Float[np.ndarray, "P S n"]:
  """Return the explained share of every subset of the fields, R² about 0, as in `ratios`.

  Args:
    gram: Gram matrices.

  Returns:
    One row for each of ``P = 2^(g − 1)`` subsets: field i is in row p where bit i of p is set. The mean over
    images is ``1 − Σ ‖y − ŷ‖²/Σ ‖y‖²``; it is NaN where the target is 0.
  """
  fields, total = gram.shape[-1] - 1, gram[..., -1, -1]
  rows = []
  for subset in range(2**fields):
    chosen = [i for i in range(fields) if subset >> i & 1]
    rows.append(ratio(total - unexplained(gram, chosen), total))
  return np.stack(rows)


def first_in(shares: Float[np.ndarray, "P ..."]) -> Float[np.ndarray, "f ..."]:
  """Return what each field explains alone, of the shares of all subsets from `explained`."""
  return shares[[1 << i for i in range(_fields(shares))]]


def last_in(shares: Float[np.ndarray, "P ..."]) -> Float[np.ndarray, "f ..."]:
  """Return what is lost of all without each field, of the shares of all subsets from `explained`."""
  return shares[-1] - shares[[len(shares) - 1 - (1 << i) for i in range(_fields(shares))]]


def shapley(shares: Float[np.ndarray, "P ..."]) -> Float[np.ndarray, "f ..."]:
  """Return each field's Shapley share, of the shares of all subsets from `explained`.

  ``Σ_S |S|! (f − |S| − 1)!/f! (R²(S ∪ i) − R²(S))`` over the subsets S without i. Their sum is the share of
  all; one of them may be negative.
  """
  fields = _fields(shares)
  found = np.zeros_like(shares[:fields])
  for i in range(fields):
    for subset in range(len(shares)):
      if not subset >> i & 1:
        size = subset.bit_count()
        weight = math.factorial(size) * math.factorial(fields - size - 1) / math.factorial(fields)
        found[i] += weight * (shares[subset | 1 << i] - shares[subset])
  return found


def _fields(shares: np.ndarray) -> int:
  return len(shares).bit_length() - 1
