"""Is it the architecture? Eight denoisers of one data set (Li et al. 2024, fig. 11, 15, 22-24, 28, 29).

python -m gauss_diffusion.main --config=configs/architectures.py --workdir=runs/architectures
python -m gauss_diffusion.main --config=configs/architectures.py:digits --workdir=runs/architectures_digits

EDM's VP, VE and ADM networks under EDM's preconditioning; the VE network under its own preconditioning and
loss ("plain VE"); a plain denoising autoencoder D = F; the Skip network; a small diffusion transformer.

`:digits` takes six minutes on two cores, `:cpu` an hour on one. Expect a linearity score near 1 at high
noise for all but plain VE, which falls to 0.64 on digits. On CIFAR-10 at 16 x 16 all but that one are
nearer to the Gaussian denoiser than whoever has learned nothing, by 0.054 to 0.076, and the leading
singular vectors of their Jacobians lie within the components to 0.65 to 0.89; EDM-VE's 0.51 [0.47, 0.56]
is not decided.
"""

from ml_collections import ConfigDict

from gauss_diffusion.study import recipes, schema


def get_config(arg: str = "") -> ConfigDict:
  """Return the study; `arg` is empty (CIFAR-10), ``cpu``, ``digits`` or ``smoke``."""
  config = recipes.start(arg, "Architectures")
  config.analyses = ("distillation", "linearity", "score_gap", "samples", "denoised", "descent", "modes")
  config.descent.sigmas = (4.0,)
  claims = (
    "all are gaussian",
    "all nearest to gaussian",
    "preconditioning",
    "modes are components",
    "modes are components, edm",
    "modes lose order",
    "modes lose order, edm",
  )
  recipes.judge(config, arg, claims)
  dit = {
    "name": "dit",
    "patch_size": 2,
    "hidden_size": 6 * config.network.model_channels,
    "depth": 4,
    "num_heads": 4,
  }
  networks = {
    "edm vp": ("EDM-VP", {}),
    "edm": ("EDM-VE", {"name": "ncsnpp"}),
    "adm": ("EDM-ADM", {"name": "adm"}),
    "plain ve": ("plain VE", {"name": "ncsnpp", "preconditioning": "ve"}),
    "dae": ("DAE, D = F", {"preconditioning": "none"}),
    "skip": ("Skip", {"name": "skip", "num_levels": {"": 4, "cpu": 3}.get(arg, 1)}),
    "dit": ("DiT", dit),
  }
  if arg == "smoke":
    networks = {group: networks[group] for group in ("edm", "plain ve", "dit")}
  for group, (title, network) in networks.items():
    model = schema.add_model(config, group.replace(" ", "_"), 0, title=title, group=group)
    model.network.update(network)
  return config
