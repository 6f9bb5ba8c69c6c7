"""Anyone's model under the microscope: a function of NumPy arrays, PyTorch's or ONNX's say, or one of JAX.

python -m gauss_diffusion.main --config=configs/external.py --config.function=my_model.py:f \
    --config.data.name=files --config.data.path=images.zip --workdir=runs/external

The file holds ``def f(x, sigma)``, which takes noisy images [N, H, W, C] in [-1, 1] plus noise and their
noise levels [N], and returns estimates of the clean images. With ``--config.jax=True`` it is a function of
JAX, of one image [H, W, C] and a scalar sigma; such a one has derivatives, and so has what
`denoisers.external.of_torch` makes of a function of PyTorch: gain, modes and perturbation need them. The data
must be what the model was trained on. ``:smoke`` asks little of everything.
"""

from ml_collections import ConfigDict

from gauss_diffusion.study import recipes, schema


def get_config(arg: str = "") -> ConfigDict:
  """Return the study; `arg` is empty or ``smoke``."""
  recipes.check_variant(arg, "smoke")
  config = schema.default()
  config.title = "A function from outside"
  config.function = ""
  config.jax = False
  if arg == "smoke":
    schema.shrink(config)
  model = schema.add_model(config, "external", 0, title="external")
  model.function = config.get_oneway_ref("function")
  model.jax = config.get_oneway_ref("jax")
  return config
