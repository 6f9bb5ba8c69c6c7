"""What guidance does to a class-conditional network: one network, some classes, growing weights.

python -m gauss_diffusion.main --config=configs/guidance.py --workdir=runs/guidance
python -m gauss_diffusion.main --config=configs/guidance.py:digits --workdir=runs/guidance_digits

Each class is held against the Gaussian denoiser of its own images, which guidance leaves for a shift of the
mean and for what sets the class apart (Li, Wang & Qu 2025, arXiv 2505.19210; `denoisers.guidance.contrast`
takes that of two Gaussians into its pieces).

`:digits` takes two minutes on two cores. Expect a digit's samples to grow alike and bolder with the weight,
and the denoiser to leave the Gaussian one of its class: of 3, RMSE 0.11, 0.13 and 0.26 at sigma = 0.47 for
weights of 0, 1 and 4. Guided by more than 0 it is no best denoiser, and its error says so.
"""

from ml_collections import ConfigDict

from gauss_diffusion.study import recipes, schema

CIFAR = {"3": "cat", "8": "ship"}
CLASSES = {"": CIFAR, "cpu": CIFAR, "digits": {"0": "0", "3": "3", "8": "8"}, "smoke": {"0": "0", "3": "3"}}
WEIGHTS = (0.0, 1.0, 4.0)


def get_config(arg: str = "") -> ConfigDict:
  """Return the study; `arg` is empty (CIFAR-10), ``cpu``, ``digits`` or ``smoke``."""
  config = recipes.start(arg, "Guidance")
  config.train.conditional = True
  config.train.label_dropout = 0.2
  config.analyses = ("samples", "linearity", "score_gap")
  config.score_gap.pairs = (("network", "gaussian"),)
  config.linearity.pairs, config.score_gap.images = (10, 20) if arg != "smoke" else (4, 8)
  for label, name in CLASSES[arg].items():
    for weight in WEIGHTS:
      title = f"{name}, w = {weight:g}"
      model = schema.add_model(config, f"{name}_w{weight:g}", 0, title=title, group=name)
      model.class_label, model.guidance = label, weight
  return config
