"""Claims about distillation on training and on held-out images: `configs/input_law.py`.

They are not the paper's, but the caveat that it needs.
"""

import math

from gauss_diffusion.denoisers import NULLS
from gauss_diffusion.readings.claims import statistics
from gauss_diffusion.readings.claims.claim import (
  MUST_NOT_PASS,
  MUST_PASS,
  NEGATIVE,
  NOTHING_LEARNED,
  POSITIVE,
  Claim,
)
from gauss_diffusion.readings.measures import MIDDLE, Needs, spelled

BELOW_ONE = (-math.inf, 1.0)
TENTH = 0.1  # of a squared gap

CLAIMS = {
  "memorizer looks gaussian": Claim(
    "Distilled on noisy training images, the exact memorizer is the Gaussian denoiser",
    "none: theorem",
    "squared gap of its map to D_G, fitted on training images over fitted on held-out ones; fewest images, "
    f"mean over {spelled(MIDDLE)}",
    (-math.inf, TENTH),
    Needs({"input_law.denoisers": ("multi-delta",)}),
    statistics.law_ratio("multi-delta", 0),
    {},
    MIDDLE,
  ),
  "training images flatter the memorizer": Claim(
    "Distilled on noisy training images the exact memorizer is the Gaussian denoiser, on held-out ones it is "
    "not",
    "none: theorem",
    f"squared gap of its map to D_G fitted on training images, minus {TENTH:g} times that fitted on held-out "
    f"ones; fewest images, mean over {spelled(MIDDLE)}",
    NEGATIVE,
    Needs({"input_law.denoisers": ("multi-delta",)}),
    statistics.more_than_share("multi-delta", TENTH, 0),
    {},
    MIDDLE,
    instead_of="memorizer looks gaussian",
  ),
  "memorizing network looks gaussian": Claim(
    "The network that has memorized looks more Gaussian on training images than on held-out ones",
    "none",
    f"the same ratio for the network with the fewest images, mean over {spelled(MIDDLE)}",
    BELOW_ONE,
    Needs({"input_law.denoisers": ("network",)}),
    statistics.law_ratio("network", 0),
    NOTHING_LEARNED,
    MIDDLE,
  ),
  "held-out images tell": Claim(
    "Distilled on held-out images, the network with the most images looks more Gaussian than their memorizer",
    "none",
    "squared gap of its map to D_G over that of the exact memorizer of its images, mean over "
    f"{spelled(MIDDLE)}",
    BELOW_ONE,
    Needs({"input_law.denoisers": ("multi-delta", "network")}, along=2),
    statistics.knowledge_over_memory,
    NOTHING_LEARNED | {"multi-delta": MUST_NOT_PASS, "gaussian": MUST_PASS},
    MIDDLE,
  ),
  "held-out images tell knowledge": Claim(
    "Distilled on held-out images, the network with the most images looks more Gaussian than their memorizer "
    "and than who has learned nothing",
    "none",
    "least squared gap to D_G of the maps of mean, c_skip x, identity and D_M, minus that of the network's; "
    f"mean over {spelled(MIDDLE)}",
    POSITIVE,
    Needs({"input_law.denoisers": ("multi-delta", "network")}, along=2, controls=NULLS),
    statistics.nearer_than_memory,
    NOTHING_LEARNED | {"multi-delta": MUST_NOT_PASS, "gaussian": MUST_PASS},
    MIDDLE,
    instead_of="held-out images tell",
  ),
}
