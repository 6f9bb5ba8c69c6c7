"""What CONTRIBUTING.md adds works as it stands there: denoiser, analysis, source, network and claim."""

import importlib
import math
import pathlib
import re
import sys

import jax
import numpy as np
import pytest
from jax.tree_util import Partial
from matplotlib.figure import Figure
from ml_collections import ConfigDict

from gauss_diffusion import edm, networks, statistics
from gauss_diffusion.analyses.subject import Subject
from gauss_diffusion.denoisers import family, gaussian
from gauss_diffusion.readings import claims, measures
from gauss_diffusion.readings.claims import verdicts

TEXT = (pathlib.Path(__file__).parents[1] / "CONTRIBUTING.md").read_text()
IMAGES = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 1), np.uint8)


def blocks(text):
  return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


@pytest.fixture
def added(tmp_path, monkeypatch):
  """Write every whole file that the page shows; return a function that imports one, `denoisers.isotropic`."""
  before = ""
  for piece in re.split(r"(```python\n.*?```)", TEXT, flags=re.DOTALL):
    if piece.startswith('```python\n"""'):
      name = re.findall(r"`(\w+/\w+\.py)`", before)[-1]
      (tmp_path / name).parent.mkdir(exist_ok=True)
      (tmp_path / name).write_text(*blocks(piece))
    elif not piece.startswith("```python"):
      before = piece
  known = set(sys.modules)
  for room in tmp_path.iterdir():
    module = importlib.import_module(f"gauss_diffusion.{room.name}")
    monkeypatch.setattr(module, "__path__", [*module.__path__, str(room)])
  yield lambda name: importlib.import_module(f"gauss_diffusion.{name}")
  for name in set(sys.modules) - known:
    if name.rpartition(".")[0] in {f"gauss_diffusion.{room.name}" for room in tmp_path.iterdir()}:
      delattr(sys.modules[name.rpartition(".")[0]], name.rpartition(".")[2])
      del sys.modules[name]


def test_the_denoiser(added, x64):
  known = added("denoisers.isotropic").FAMILY
  denoise = Partial(known.denoise, known.fit(IMAGES, **family.defaults(known)))
  x = np.random.default_rng(1).standard_normal((8, 8, 1))
  np.testing.assert_allclose(denoise(x, 1e-9), x, rtol=1e-12)
  np.testing.assert_allclose(denoise(x, 1e9), (IMAGES / 127.5 - 1).mean(0), atol=1e-12)


def test_the_analysis_and_its_figure(added):
  analysis, plot = added("analyses.mirror"), added("plots.mirror")
  both = np.concatenate([IMAGES, IMAGES[:, :, ::-1]])
  subject = Subject(
    network=Partial(gaussian.denoise, statistics.gaussian_stats(both)),
    stats=statistics.gaussian_stats(both),
    train=both,
    held_out=IMAGES,
    sigmas=edm.sigma_grid(3, 0.1, 10.0),
    solver="euler",
    seed=0,
    records={},
    distillation=None,
  )
  settings = ConfigDict(analysis.DEFAULTS | {"images": 8})
  analysis.check(ConfigDict({"mirror": settings}), (8, 8, 1), 8)
  with pytest.raises(ValueError, match="`mirror.images` is 8; there are 7"):
    analysis.check(ConfigDict({"mirror": settings}), (8, 8, 1), 7)
  found = analysis.compute(subject, settings, "test")
  assert found.asymmetry.dims == ("sigma", "image") and found.asymmetry.shape == (3, 8)
  np.testing.assert_allclose(found.asymmetry, 0, atol=1e-5)
  assert set(analysis.evaluations(settings, 3, "euler", 64)) == set(analysis.uses(settings))
  assert isinstance(plot.draw({"N = 80": [found]}), Figure) and plot.TITLE and plot.LOOK_FOR


def test_the_source(added):
  decoded = added("data.bars").decode("bars", pathlib.Path(), lambda image: image)
  assert decoded.images.shape == (320, 16, 16, 1) and decoded.images.dtype == np.uint8
  assert len(np.unique(decoded.images.reshape(320, -1), axis=0)) == 32


def test_the_network(added, monkeypatch):
  mlp = added("networks.mlp")
  monkeypatch.setitem(networks.NETWORKS, "mlp", networks.Architecture(mlp.MLP, mlp.check, {}))
  network = networks.create("mlp", img_resolution=8, img_channels=1, model_channels=16)
  trained = networks.Trained(params=networks.init(network, jax.random.key(0)), network=network)
  out = networks.denoise(trained, np.ones((8, 8, 1), np.float32), np.float32(0.5))
  assert out.shape == (8, 8, 1) and np.isfinite(out).all()
  assert networks.create(**networks.card(network)) == network


def test_the_claim(monkeypatch):
  entry, measure = blocks(TEXT)[-2:]
  names = vars(measures) | {}
  exec(measure, names)
  monkeypatch.setattr(measures, "asymmetry", names["asymmetry"], raising=False)
  shown = vars(claims.structure) | {"math": math, "MIDDLE": measures.MIDDLE, "spelled": measures.spelled}
  ((_, made),) = eval("{" + entry + "}", dict(shown)).items()
  sigma = np.array([80.0, 0.5, 0.2])
  from gauss_diffusion import results  # xarray

  found = results.labelled(
    {"asymmetry": (("sigma", "image"), np.array([[9.0, 9.0], [0.01, 0.03], [0.01, 0.03]]))}, {"sigma": sigma}
  )
  reading = measures.Reading("all", {}, {"mirror": found}, {})
  found = verdicts.estimate(made, [[reading]])
  assert found.value.mean == pytest.approx(0.02)  # of the two levels in the band
  # Student's t of two images whose means are 0.01 and 0.03: 12.7 standard errors of 0.01, not decided.
  assert found.value.high == pytest.approx(0.02 + 12.706 * 0.01, rel=0.05)
  assert verdicts.side(made.region, found.value) == "not decided"
  assert made.controls == {"skip": "negative"}
