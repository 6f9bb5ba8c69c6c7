"""A table of wrong inputs: what is given, what the answer names; what lay there before is left as it was."""

import os
import pathlib
import re

import commands
import forge
import hostile
import numpy as np
import pytest

from gauss_diffusion import analyses, data, importers, networks, results
from gauss_diffusion.denoisers import external
from gauss_diffusion.importers import pickles
from gauss_diffusion.study import check, schema

REPOSITORY = pathlib.Path(__file__).parents[1]
NAN, INF = float("nan"), float("inf")

# A field of a study of two networks on digits, a value, and what the refusal says.
FIELDS = [
  ("models.n16.size", -1, "`models.n16.size` is -1"),
  ("models.n16.size", 1438, "the data has 1437 training images"),
  ("models.n16.part", -1, "`models.n16.part` is -1; want 0 or 1"),
  ("models.n16.part", 2, "`models.n16.part` is 2"),
  ("models.n1437.part", 1, "two disjoint parts need at most 718"),
  ("models.n16.seed", -1, "`models.n16.seed` is -1"),
  ("models.n16.seed", 10**20, "want a whole number from 0 to 4294967295"),
  ("seed", -5, "seed` is -5"),
  ("models.n16.checkpoint", "nowhere", "'nowhere' holds no checkpoint"),
  ("models.n16.denoiser", "gausian", "did you mean 'gaussian'"),
  ("models.n16.denoiser", "\x1b[31m", "`models.n16.denoiser` has no"),
  ("models.n16.jax", True, "true without a `function`"),
  ("models.n16.title", "N = 1437", "two `models` have the same `title`"),
  ("train.steps", -1, "train.steps` is -1"),
  ("train.steps", 10**10, "train.steps` is 10000000000"),
  ("train.batch", 0, "train.batch` is 0"),
  ("train.batch", 10**8, "train.batch` is 100000000; want 1 to 1048576"),
  ("train.batch", 10**12, "train.batch` is 1000000000000"),
  ("train.learning_rate", 0.0, "train.learning_rate` is 0.0"),
  ("train.learning_rate", -1.0, "train.learning_rate` is -1.0"),
  ("train.learning_rate", NAN, "train.learning_rate` is nan"),
  ("train.learning_rate", INF, "train.learning_rate` is inf"),
  ("train.rampup_images", -1, "train.rampup_images` is -1"),
  ("train.ema_halflife_images", 0.0, "train.ema_halflife_images` is 0.0"),
  ("train.ema_rampup", INF, "train.ema_rampup` is inf"),
  ("train.p_mean", NAN, "train.p_mean` is nan"),
  ("train.p_mean", 1e9, "want between -20 and 20"),
  ("train.p_std", -0.1, "train.p_std` is -0.1"),
  ("train.log_every", 0, "train.log_every` is 0"),
  ("train.checkpoint_every", 0, "train.checkpoint_every` is 0"),
  ("train.keep", 0, "train.keep` is 0"),
  ("train.dtype", "float8", "`dtype` is 'float8'; want float32 or bfloat16"),
  ("network.name", "resnet", "resnet.*ddpmpp"),
  ("network.preconditioning", "edm2", "`preconditioning` has no 'edm2'; known: edm"),
  ("network.model_channels", 0, "`model_channels` is 0"),
  ("network.model_channels", -8, "`model_channels` is -8"),
  ("network.model_channels", 10**6, "network.model_channels` is 1000000; want at most 16384"),
  ("network.channel_mult", (), r"`channel_mult` is \[\]"),
  ("network.channel_mult", ("a",), r"`channel_mult` is \['a'\]"),
  ("network.channel_mult", (1, 10**6), "network.channel_mult` is .1, 1000000.; want at most"),
  ("network.channel_mult", (1,) * 5, "`img_resolution` is 8"),
  ("network.num_blocks", 0, "`num_blocks` is 0"),
  ("network.num_blocks", 10**6, "network.num_blocks` is 1000000; want at most"),
  ("network.attn_resolutions", (-1,), "`attn_resolutions`"),
  ("network.attn_resolutions", ("a",), "`attn_resolutions`"),
  ("network.dropout", 1.0, "`dropout` is 1.0"),
  ("network.dropout", NAN, "`dropout` is nan"),
  ("network.sigma_data", 0.0, "`sigma_data` is 0.0"),
  ("network.sigma_data", NAN, "`sigma_data` is nan"),
  ("models.n16.network.patch_size", 4, "ddpmpp has no such option"),
  ("sampler.levels", 1, "`sampler.levels` is 1; want 2 to 1000"),
  ("sampler.levels", 10**5, "`sampler.levels` is 100000"),
  ("sampler.sigma_min", 0.0, "`sampler.sigma_min`, `sampler.sigma_max` are 0.0"),
  ("sampler.sigma_min", -1.0, "are -1.0"),
  ("sampler.sigma_min", 1e-300, "are 1e-300"),
  ("sampler.sigma_min", NAN, "are nan"),
  ("sampler.sigma_min", 100.0, "positive and rising"),
  ("sampler.sigma_max", INF, "are 0.002, inf"),
  ("sampler.sigma_max", 1e300, "are 0.002, 1e"),
  ("sampler.solver", "dpm", "'dpm'; known: euler, heun"),
  ("denoisers.kernel.bandwidth", 0.0, "`denoisers.kernel.bandwidth` is 0.0"),
  ("denoisers.kernel.bandwidth", NAN, "`denoisers.kernel.bandwidth` is nan"),
  ("denoisers.gaussian.rank", -2, "`denoisers.gaussian.rank` is -2"),
  ("sweep", "sizes", "did you mean 'size'"),
  ("analyses", ("linearty",), "did you mean 'linearity'"),
  ("analyses", ("linearity", "linearity"), "`analyses` has 'linearity' twice"),
  ("analyses", (1,), "`analyses` has no 1"),
  ("analyses", ("trajectories",), "needs 'distillation'"),
  ("claims", ("weights of gold",), "`claims` has no 'weights of gold'"),
  ("claims", (None,), "`claims` has no None"),
  ("figures", ("portrait",), "`figures` has no 'portrait'"),
  ("controls", ("placebo",), "`controls` has no 'placebo'"),
  ("distillation.method", "sgd", "'sgd'; known: closed_form"),
  ("distillation.pairs", 127, "needs at least 128"),
  ("distillation.pairs", 10**11, "`distillation.pairs` is 100000000000; want at most"),
  ("linearity.levels", 1, "`linearity.levels` is 1"),
  ("linearity.levels", 10**6, "`linearity.levels` is 1000000; want at most 1000"),
  ("linearity.alpha2", (), r"`linearity.alpha2` is \(\)"),
  ("linearity.alpha2", ("a",), "`linearity.alpha2` is .'a',.; want numbers"),
  ("linearity.alpha2", (NAN,), "want squared weights between 0 and 1"),
  ("linearity.alpha2", (1.5,), "want squared weights between 0 and 1"),
  ("linearity.alpha2", (0.5, 0.5), "want every number once"),
  ("linearity.pairs", 0, "`linearity.pairs` is 0"),
  ("linearity.pairs", 181, "1 to 180"),
  ("score_gap.images", 0, "`score_gap.images` is 0"),
  ("score_gap.images", 361, "`score_gap.images` is 361"),
  ("score_gap.pairs", (), "`score_gap.pairs` is empty"),
  ("score_gap.pairs", (("network",),), "want pairs of denoisers"),
  ("score_gap.pairs", (("network", "gausian"),), "'gausian'; known: network"),
  ("samples.num", 0, "`samples.num` is 0"),
  ("samples.num", 10**9, "`samples.num` is 1000000000; want at most"),
  ("samples.denoisers", (), "`samples.denoisers` is empty"),
  ("samples.denoisers", ("network", "network"), "names a denoiser twice"),
  ("trajectories.latents", 0, "`trajectories.latents` is 0"),
  ("trajectories.latents", 10**7, "`trajectories.latents` is 10000000; want at most"),
  ("trajectories.denoisers", ("oracle",), "'oracle'"),
  ("gain.pairs", 0, "`gain.pairs` is 0"),
  ("gain.directions", 0, "`gain.directions` is 0"),
  ("gain.directions", 1000, "is 1000; images of 8 x 8 x 1 have 64 directions: want 1 to 64"),
  ("directions.directions", 65, "`directions.directions` is 65; images .*want 1 to 64"),
]
LABELS = ["a/b", "", "a\0b", "a b", "-a", "x" * 101, "~", "\x1b[31m"]


def study():
  made = schema.default()
  schema.shrink(made)
  for size in (16, 1437):
    schema.add_model(made, f"n{size}", size)
  return made


@pytest.mark.parametrize(("field", "value", "named"), FIELDS)
def test_fields(field, value, named):
  config = study()
  *sections, leaf = field.split(".")
  place = config
  for name in sections:
    place = place[name]
  place[leaf] = value
  if sections and sections[0] in analyses.ANALYSES:
    config.analyses = tuple(dict.fromkeys((*config.analyses, sections[0])))
  with pytest.raises(ValueError, match=named) as error:
    check.check(config, (8, 8, 1), 1437, 360)
  assert "\n" not in str(error.value)


@pytest.mark.parametrize("label", LABELS)
def test_labels(label):
  config = study()
  schema.add_model(config, label, 20)
  with pytest.raises(ValueError, match="`models` has .*want a label of letters"):
    check.check(config, (8, 8, 1), 1437, 360)


# Files of a folder in which a function is called, the function, and what the refusal says.
CALLS = {
  "data set": ({}, lambda: data.load("cifra10", dir=".", cache="c"), "`data.name` is 'cifra10'.*cifar10"),
  "held out": ({}, lambda: data.load("digits", held_out=0), "`data.held_out` is 0"),
  "all held out": ({}, lambda: data.load("digits", held_out=1797, cache="../c"), "at most 1796"),
  "size": ({}, lambda: data.load("digits", size=10**9), "`data.size` is 1000000000"),
  "seed": ({}, lambda: data.load("digits", seed=-1), "`data.seed` is -1"),
  "stray path": ({}, lambda: data.load("digits", path="x"), "`data.path` is 'x' but"),
  "no path": ({}, lambda: data.load("files"), "`data.path` is empty"),
  "no such path": ({}, lambda: data.load("files", path="x"), "`data.path` x does not exist"),
  "no such user": ({}, lambda: data.load("files", path="~nosuchuser/x"), "`data.path` .*cannot be looked up"),
  "a long path": ({}, lambda: data.load("files", path="x" * 9999), "`data.path` .*cannot be looked up"),
  "a null in a path": ({}, lambda: data.load("files", path="\0"), "`data.path`"),
  "text": ({"x.txt": b"hello"}, lambda: data.load("files", path="x.txt"), "x.txt is none of these"),
  "no image": (
    {"x.png": b"hello"},
    lambda: data.load("files", path="."),
    "`x.png` cannot be read as an image",
  ),
  "a zip that is none": ({"x.zip": b"hello"}, lambda: data.load("files", path="x.zip"), "as a zip archive"),
  "an npy that is none": ({"x.npy": b"hello"}, lambda: data.load("files", path="x.npy"), "as an array file"),
  "an npz that is none": ({"x.npz": b"PK\3\4"}, lambda: data.load("files", path="x.npz"), "as an array file"),
  "a part of no size": ({}, lambda: data.subset(DIGITS, -1), "`size`, `part`, `draw` are -1"),
  "a part too many": ({}, lambda: data.subset(DIGITS, 9, 1), "`part` 1 of `size` 9"),
  "a subset too large": ({}, lambda: data.subset(DIGITS, 11), "`size` is 11; tens has 10"),
  "no network": ({}, lambda: networks.create("vgg", img_resolution=8), "`vgg` is no network"),
  "no option": ({}, lambda: networks.create("ddpmpp", depht=3), "`depht` is no option"),
  "no function": ({}, lambda: external.load("x.py"), "`function` is 'x.py'; want FILE.py:NAME"),
  "no file": ({}, lambda: external.load("x.py:f"), "there is no file"),
  "no name": ({"x.py": b"g = 1"}, lambda: external.load("x.py:f"), "has no function"),
  "a file that fails": ({"x.py": b"1 / 0"}, lambda: external.load("x.py:f"), "fails with ZeroDivisionError"),
  "a syntax error": ({"x.py": b"def"}, lambda: external.load("x.py:f"), "fails with SyntaxError"),
  "a system call": ({"x": b"cos\nsystem\n(X\1\0\0\0xtR."}, lambda: pickles.read("x"), "`os.system`"),
  "an empty pickle": ({"x": b""}, lambda: pickles.read("x"), "`x` is no pickle"),
  "text as a pickle": ({"x": b"hello"}, lambda: pickles.read("x"), "`x` is no pickle"),
  "no network in it": ({"x": forge.dumps({"a": 1})}, lambda: importers.load("x"), "want `ema`"),
  "a list": ({"x": forge.dumps([1])}, lambda: importers.load("x"), "holds no network"),
  "no card": ({}, lambda: results.read_card("x"), "`x` holds no finished result"),
  "a card that is none": ({"x.json": b"[]"}, lambda: results.read_card("x"), "no card of a result"),
  "deep brackets": ({"x.json": b"[" * 10**5}, lambda: results.read_card("x"), "`x.json` can't be read"),
  "no results": ({}, lambda: results.open("."), "`workdir` '.' holds no results"),
}
DIGITS = data.Dataset("tens", np.zeros((10, 8, 8, 1), np.uint8), np.arange(10).astype(str), *([None] * 3))


@pytest.mark.parametrize("name", CALLS)
def test_calls(tmp_path, monkeypatch, name):
  files, call, named = CALLS[name]
  monkeypatch.chdir(tmp_path)
  for path, content in files.items():
    pathlib.Path(path).write_bytes(content)
  with pytest.raises(ValueError, match=named) as error:
    call()
  assert "\n" not in str(error.value)
  assert set(os.listdir()) - {"__pycache__"} == set(files)
  assert all(pathlib.Path(path).read_bytes() == content for path, content in files.items())


# Arguments of `gauss_diffusion.main` beside a config and a workdir, and what its one line says.
COMMANDS = {
  "half a step": (["--config.train.steps=1.5"], "train.steps"),
  "unknown section": (["--config.trian.steps=3"], "trian"),
  "endless network": (["--config.network.model_channels=1000000"], "network.model_channels. is 1000000"),
  "endless samples": (["--config.samples.num=1000000000"], "`samples.num` is 1000000000"),
  "no such user": (["--config.data.name=files", "--config.data.path=~nosuchuser/x"], "`data.path`"),
  "many pixels": (
    ["--config.data.name=files", "--config.data.path=own"],
    "`odd.png` has 13000 x 13000 pixels",
  ),
  "escape sequences": (["--config.data.name=\x1b[31mred"], r"\\x1b\[31mred"),
  "bytes that are no text": ([b"--config.title=\xff"], "`--config.title=.udcff` holds bytes .* not UTF-8"),
  "a path of bytes": ([b"--config.data.name=files", b"--config.data.path=\xff"], "data.path=.*not UTF-8"),
  "a workdir of bytes": ([b"--workdir=\xff"], "--workdir=.*not UTF-8"),
  "a config of bytes": ([b"--config=\xff.py"], "--config=.*not UTF-8"),
  "bytes in a config": (["--config=bytes.py"], "`models.a.checkpoint` is '.udcff', .*not UTF-8"),
  "config with an error": (["--config=bad.py"], "invalid syntax|expected"),
  "config that is none": (["--config=own/odd.png"], "null bytes"),
  "task of none": (["--task=3", "--tasks=2"], "`task` is 3"),
  "workdir of another": (["--workdir=own"], "`workdir` own is not empty and holds no study"),
}


BYTES = """
from gauss_diffusion.study import schema


def get_config():
  config = schema.default()
  schema.add_model(config, "a", 16).checkpoint = "\\udcff"
  return config
"""


@pytest.fixture(scope="module")
def refused(tmp_path_factory):
  folder = tmp_path_factory.mktemp("commands")
  (folder / "own").mkdir()
  (folder / "own" / "odd.png").write_bytes(hostile.huge_png())
  (folder / "bad.py").write_text("def get_config(:\n")
  (folder / "bytes.py").write_text(BYTES)
  words = [f"--config={REPOSITORY}/configs/digits.py:smoke", "--workdir=new"]
  place = {"cwd": folder, "env": os.environ | {"PYTHONPATH": str(REPOSITORY)}}
  with commands.copies(tmp_path_factory.mktemp("printed"), **place) as run:
    return folder, {
      name: run("gauss_diffusion.main", *words, *map(os.fsdecode, arguments))
      for name, (arguments, _) in COMMANDS.items()
    }


@pytest.mark.processes
@pytest.mark.parametrize("name", COMMANDS)
def test_commands(refused, name):
  folder, runs = refused
  out, err, code = runs[name]
  assert code == 2 and not out, err
  assert re.fullmatch(f"error: .*(?:{COMMANDS[name][1]}).*\n", err), err
  assert "\x1b" not in err
  assert {path.name for path in folder.iterdir()} - {"__pycache__"} == {"bad.py", "bytes.py", "own"}
  assert os.listdir(folder / "own") == ["odd.png"]


def test_the_table_is_long():
  assert len(FIELDS) + len(LABELS) + len(CALLS) + len(COMMANDS) >= 120
  assert len({(field, repr(value)) for field, value, _ in FIELDS}) == len(FIELDS)
