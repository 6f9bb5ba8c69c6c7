"""Anyone's EDM network under the microscope.

python -m gauss_diffusion.import_edm network-snapshot.pkl --workdir=runs/imported_network
python -m gauss_diffusion.main --config=configs/imported.py --config.checkpoint=runs/imported_network \
    --config.data.name=files --config.data.path=images.zip --workdir=runs/imported

The data must be what the network was trained on: the report holds the network against that data's mean and
covariance. `--config.data.name=cifar10` and a prepared TFDS directory do for NVIDIA's CIFAR-10 networks.
"""

from ml_collections import ConfigDict

from gauss_diffusion.study import schema


def get_config(arg: str = "") -> ConfigDict:
  """Return the study; `arg` must be empty."""
  if arg:
    raise ValueError(f"`{arg}` is no variant of this config; it has none")
  config = schema.default()
  config.title = "An imported network"
  config.checkpoint = ""
  model = schema.add_model(config, "imported", 0, title="imported")
  model.checkpoint = config.get_oneway_ref("checkpoint")
  return config
