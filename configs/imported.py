"""Anyone's network under the microscope: EDM's, EDM2's or one of diffusers.

python -m gauss_diffusion.import_edm network-snapshot.pkl --workdir=runs/imported_network
python -m gauss_diffusion.main --config=configs/imported.py --config.checkpoint=runs/imported_network \
    --config.data.name=files --config.data.path=images.zip --workdir=runs/imported

The data must be what the network was trained on: the report holds the network against that data's mean and
covariance. `--config.data.name=cifar10` and a prepared TFDS directory do for NVIDIA's CIFAR-10 networks. A
class-conditional one wants `--config.models.imported.class_label=3`, or `all`, a model of each class, or
`none`. ``:smoke`` asks little of everything.
"""

from ml_collections import ConfigDict

from gauss_diffusion.study import recipes, schema


def get_config(arg: str = "") -> ConfigDict:
  """Return the study; `arg` is empty or ``smoke``."""
  recipes.check_variant(arg, "smoke")
  config = schema.default()
  config.title = "An imported network"
  config.checkpoint = ""
  if arg == "smoke":
    schema.shrink(config)
  model = schema.add_model(config, "imported", 0, title="imported")
  model.checkpoint = config.get_oneway_ref("checkpoint")
  return config
