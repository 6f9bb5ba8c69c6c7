"""How floats are shown: through the user's decoder, which is tried first, or by their first channels."""

import numpy as np
import pytest

from gauss_diffusion import data, results
from gauss_diffusion.data.scale import Scale
from gauss_diffusion.images import to_uint8
from gauss_diffusion.plots import style
from gauss_diffusion.study import pictures, shorten
from gauss_diffusion.study.members import Member

SCALE = Scale(5.0, 4.0)


def dataset(channels=4, scale=SCALE):
  images = np.random.default_rng(0).normal(size=(40, 2, 2, channels)).astype(np.float32) / 2
  ids = np.array([f"{i:02d}" for i in range(40)])
  return data.Dataset("own", images[:30], ids[:30], images[30:], ids[30:], "f", scale=scale)


def decoder(tmp_path, body, name="decoder"):
  path = tmp_path / f"{name}.py"
  path.write_text(f"import numpy as np\ndef decode(x):\n  {body}\n")
  return f"{path}:decode"


def found():
  rng = np.random.default_rng(1)
  x = rng.normal(size=(2, 11, 2, 2, 4)).astype(np.float32)
  axes = ("denoiser", "sample", "y", "x", "channel")
  return results.labelled(
    {"samples": (axes, x), "neighbours": (axes, x[::-1]), "gl": (("denoiser", "sample"), np.ones((2, 11)))},
    {"denoiser": ["network", "gaussian"]},
  )


def test_pixels_are_shown_as_they_are():
  assert pictures.of("", dataset(scale=None)) is None
  arrays = found()
  assert pictures.add(None, "samples", arrays) is arrays and pictures.card(None, "samples") == {}
  assert style.pictures(arrays, "samples") is arrays["samples"] or style.pictures(arrays, "samples").equals(
    arrays.samples
  )


@pytest.mark.parametrize(("channels", "shown"), [(1, 1), (2, 1), (3, 3), (7, 3)])
def test_without_a_decoder_the_first_channels_are_shown_in_their_range(channels, shown):
  of = dataset(channels)
  made = pictures.of("", of)
  mean, deviation = of.pool.astype(float).mean(), of.pool.astype(float).std()
  black_to_white = mean + deviation * np.linspace(-2, 2, 5)
  x = np.broadcast_to(black_to_white[:, None, None, None], (5, 2, 2, channels)).astype(np.float32)
  assert made.decode(x).shape == (5, 2, 2, shown)
  np.testing.assert_allclose(made.decode(x)[:, 0, 0, 0], [0, 64, 128, 191, 255], atol=1)
  assert f"of {channels}, mean ± 2 standard deviations" in made.how


def test_a_decoder_is_given_values_as_the_file_has_them(tmp_path):
  made = pictures.of(decoder(tmp_path, "return np.tile((x[..., :1] - 5) / 40, (1, 3, 3, 1))"), dataset())
  x = dataset().pool
  np.testing.assert_array_equal(made.decode(x), to_uint8(np.tile(x[..., :1] / 10, (1, 3, 3, 1))))
  assert made.how == "through decoder.py:decode"  # and not from which folder


def test_what_a_decoder_makes_of_noise_is_shown_whatever_it_is(tmp_path):
  made = pictures.of(
    decoder(tmp_path, "return np.where(np.abs(x[..., :1]) > 99, np.nan, x[..., :1] / 9)"), dataset()
  )
  x = np.zeros((3, 2, 2, 4), np.float32) + np.float32([-10, 10, 99])[:, None, None, None]
  np.testing.assert_array_equal(made.decode(x)[:, 0, 0, 0], [0, 255, 128])  # and NaN is grey


def test_decoded_images_stand_beside_the_values(tmp_path):
  made = pictures.of(decoder(tmp_path, "return (x[..., :3] * 9).clip(0, 255).astype(np.uint8)"), dataset())
  arrays = pictures.add(made, "samples", found())
  assert set(arrays.data_vars) == {"samples", "neighbours", "gl", "samples_shown", "neighbours_shown"}
  assert arrays.samples.equals(found().samples)
  shown = style.pictures(arrays, "samples")
  assert shown.dims[:2] == ("denoiser", "sample") and shown.shape == (2, pictures.MOST, 2, 2, 3)
  want = ((found().samples[:, :8, ..., :3] * 4 + 5) * 9).clip(0, 255).astype(np.uint8) / 127.5 - 1
  np.testing.assert_allclose(shown, want, atol=1e-6)


def test_another_decoder_makes_images_anew_and_measures_nothing(tmp_path):
  place = tmp_path / "results" / "samples" / "n"
  one = pictures.of(decoder(tmp_path, "return x[..., :3] * 0"), dataset())
  two = pictures.of(decoder(tmp_path, "return x[..., :1] * 0 + 1", "other"), dataset())
  results.save(place, pictures.add(one, "samples", found()), {"inputs": 1} | pictures.card(one, "samples"))
  before = results.read_card(place)
  pictures.renew(one, "samples", place)
  assert results.read_card(place) == before
  pictures.renew(two, "samples", place)
  arrays, card = results.load(place)
  assert card["inputs"] == 1 and card["pictures"] == {"how": "through other.py:decode", "digest": two.digest}
  assert arrays.samples.equals(found().samples) and arrays.gl.equals(found().gl)
  assert arrays.samples_shown.shape == (2, 8, 2, 2, 1) and (arrays.samples_shown == 255).all()
  pictures.renew(None, "samples", place)
  assert results.read_card(place) == card


def test_what_is_kept_of_a_study_has_the_pictures_of_its_first_network():
  arrays = pictures.add(pictures.of("", dataset()), "samples", found())
  config = {"claims": (), "figures": (), "replicates": 2}
  members = [Member("n", "n", replicate, "", {}, {}) for replicate in (0, 1)]
  first, second = (shorten.shorten(arrays, "samples", member, config, None)[0] for member in members)
  assert first.samples_shown.equals(arrays.samples_shown) and first.samples_shown.attrs["how"]
  assert set(second.data_vars) == {"gl"}


def test_a_decoder_is_known_by_its_images_too(tmp_path):
  # As with weights in a file beside it, which may change where the source does not.
  np.save(tmp_path / "w.npy", 0.5)
  place = decoder(tmp_path, f"return x[..., :1] * 0 + np.load({str(tmp_path / 'w.npy')!r})")
  first = pictures.of(place, dataset())
  assert pictures.of(place, dataset()).digest == first.digest
  np.save(tmp_path / "w.npy", 0.25)
  assert pictures.of(place, dataset()).digest != first.digest


WRONG = {
  "no such file": (None, "`data.decoder` 'nowhere.py:decode': there is no file 'nowhere.py'"),
  "fails": ("raise RuntimeError('of\\n weights')", "on floats .2, 2, 2, 4.: RuntimeError: of weights"),
  "no batch": (
    "return x[0, ..., :3] * 0",
    r"returned \(2, 2, 3\) for \(2, 2, 2, 4\); want \[2, h, w, 1 or 3\]",
  ),
  "fewer": ("return x[:1, ..., :3] * 0", r"returned \(1, 2, 2, 3\) for"),
  "channels": ("return x * 0", r"returned \(2, 2, 2, 4\) for .*want \[2, h, w, 1 or 3\]"),
  "channels first": ("return (x[..., :3] * 0).transpose(0, 3, 1, 2)", r"returned \(2, 3, 2, 2\)"),
  "whole numbers": ("return x[..., :3].astype(int)", "returned int64; want uint8, or floats in"),
  "another range": ("return x[..., :3] * 0 + 255", "returned floats from 255 to 255; want"),
  "nan": ("return x[..., :3] * np.nan", "returned floats from nan to nan; want"),
  "chance": ("return np.random.random((len(x), 4, 4, 3))", "returned other images the second time"),
  "nothing": ("return None", r"returned \(\) for"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_decoders_are_named(tmp_path, name):
  body, want = WRONG[name]
  place = decoder(tmp_path, body) if body else "nowhere.py:decode"
  with pytest.raises(ValueError, match=want) as error:
    pictures.of(place, dataset())
  assert "`data.decoder`" in str(error.value) and "\n" not in str(error.value)
