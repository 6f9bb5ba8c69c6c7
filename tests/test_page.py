"""The report stands alone, shows everything it was given, and trusts no name."""

import base64
import html.parser
import re

import pytest

from gauss_diffusion import analyses, page, plots

HOSTILE = "<script>alert('x')</script>\"&"
PNG = b"\x89PNG not really"
VOID = {"meta", "img", "br", "link", "input"}

PLOTS = plots.STUDY_PLOTS | analyses.FIGURES


def decided(**changes) -> dict:
  return {
    "claim": "D is linear",
    "in the paper": "fig. 1",
    "statistic": "cosine",
    "holds if": "> 0.5",
    "instead of": "",
    "value": (0.9, 0.8, 1.0),
    "verdict": "holds",
    "why": "",
    "controls": {},
  } | changes


def contents(**changes) -> dict:
  return {
    "title": "Digits",
    "command": "python -m gauss_diffusion.main --config=configs/digits.py",
    "about": {"Data": {"fingerprint": "abc123", "images": 1437}, "Device": {"kind": "cpu", "memory": None}},
    "config": {
      "seed": 0,
      "train": {
        "steps": 12_000,
        "learning_rate": 2e-4,
        "mult": [1, 2],
        "attn": (),
        "pairs": (("a", "b"), ("c", "d")),
      },
    },
    "subjects": [{"model": "N = 16", "parameters": 182_433}],
    "absent": [{"model": "N = 64", "analysis": "gain", "why": "it has no derivatives"}],
    "made_from": "0123abcd",
    "smoke": False,
    "meanings": {"GL": "distance to the nearest image"},
    "headline": [{"model": "N = 16", "GL": (0.1234, 0.1, 0.2), "note": "ok"}, {"model": "N = 64", "GL": 0.5}],
    "claims": [decided()],
    "figures": {name: {"pairs": 100, "alpha2": [0.5, 0.75]} for name in reversed(PLOTS)},
  } | changes


@pytest.fixture
def workdir(tmp_path):
  (tmp_path / "figures").mkdir()
  for name in PLOTS:
    (tmp_path / "figures" / f"{name}.png").write_bytes(PNG + name.encode())
  return tmp_path


def test_every_figure_is_inside_with_title_advice_settings_and_files(workdir):
  path = page.write(workdir, **contents())
  assert path == workdir / "report.html"
  shown = path.read_text()
  text = html.unescape(shown)
  for name, plot in PLOTS.items():
    assert base64.b64encode(PNG + name.encode()).decode() in shown
    assert plot.TITLE in text and plot.LOOK_FOR in text
    assert f'href="figures/{name}.png"' in shown and f'href="figures/{name}.pdf"' in shown
  order = re.findall(r'<section id="(\w+)">', shown)
  assert order == ["claims", "numbers", *PLOTS, "absent", "models", "run"]  # the answer first
  assert shown.count("alpha2 <b>0.5, 0.75</b>") == len(PLOTS)


def test_numbers_are_shown_with_their_intervals(workdir):
  shown = page.write(workdir, **contents()).read_text()
  assert "<td>0.123<small>0.100 – 0.200</small></td>" in shown
  assert "<td>0.500</td>" in shown and "<td>–</td>" in shown  # no interval; no value
  assert "<td>182\u202f433</td>" in shown
  assert (
    "<dt>train.learning_rate</dt><dd>0.0002</dd>" in shown and "<dt>train.mult</dt><dd>1, 2</dd>" in shown
  )
  assert "<dd>a / b, c / d</dd>" in shown and "<dt>train.attn</dt><dd>–</dd>" in shown
  assert '<td data-label="value">0.900<small>0.800 – 1.000</small>' in shown and "holds" in shown
  assert "<dt>GL</dt><dd>distance to the nearest image</dd>" in shown
  assert "abc123" in shown and "configs/digits.py" in shown


def test_the_page_is_well_formed_and_needs_nothing_from_outside(workdir):
  shown = page.write(workdir, **contents()).read_text()
  stack = []

  class Parser(html.parser.HTMLParser):
    def handle_starttag(self, tag, attrs):
      for name, value in attrs:
        if name in ("src", "href"):
          assert value.startswith(("data:image/png;base64,", "#", "figures/", "https://arxiv.org/abs/")), (
            value
          )
        if name == "href" and value.startswith("#"):
          assert f'id="{value[1:]}"' in shown
      if tag not in VOID:
        stack.append(tag)

    def handle_endtag(self, tag):
      assert stack.pop() == tag

  Parser().feed(shown)
  assert not stack
  assert not re.search(r"@import|url\(|<script|<link|<iframe", shown)


def test_hostile_names_are_escaped(workdir):
  given = contents(
    title=HOSTILE,
    command=HOSTILE,
    about={HOSTILE: {HOSTILE: HOSTILE}},
    config={HOSTILE: [HOSTILE]},
    subjects=[{HOSTILE: HOSTILE}],
    absent=[{HOSTILE: HOSTILE}],
    made_from=HOSTILE,
    headline=[{"model": HOSTILE, HOSTILE: (HOSTILE, 0.0, 1.0)}],
    meanings={HOSTILE: HOSTILE},
    claims=[
      dict.fromkeys(decided(), HOSTILE)
      | {"value": None, "controls": {HOSTILE: {"role": "negative", "verdict": HOSTILE}}}
    ],
    figures={"gain": {HOSTILE: HOSTILE}},
  )
  shown = page.write(workdir, **given).read_text()
  assert "<script" not in shown
  assert html.unescape(shown).count(HOSTILE) == 30  # the title and the verdict twice


def test_what_is_missing_is_named(workdir):
  with pytest.raises(ValueError, match=r"`figures` has no plot for 'gains'; known: knowledge, strips,"):
    page.write(workdir, **contents(figures={"gains": {}}))
  (workdir / "figures" / "gain.png").unlink()
  with pytest.raises(ValueError, match=r"gain\.png` is missing"):
    page.write(workdir, **contents())
  assert not (workdir / "report.html").exists()


def test_a_study_without_numbers_still_reports(workdir):
  shown = page.write(workdir, **contents(headline=[], claims=[], figures={})).read_text()
  assert "<table>" in shown  # of models


def test_a_report_knows_what_it_was_made_from(workdir):
  assert not page.is_made_from(workdir, "0123abcd")
  page.write(workdir, **contents())
  assert page.is_made_from(workdir, "0123abcd") and not page.is_made_from(workdir, "0123abce")


def test_what_could_not_be_measured_is_said_with_its_reason(workdir):
  shown = page.write(workdir, **contents()).read_text()
  assert 'id="absent"' in shown and "it has no derivatives" in shown
  assert 'id="absent"' not in page.write(workdir, **contents(absent=[])).read_text()


def test_claims_show_verdicts_and_controls_in_words_and_marks(workdir):
  controls = {
    "mean": {"role": "negative", "value": (0, 0, 0), "verdict": "holds"},
    "skip": {"role": "negative", "value": (0, 0, 0), "verdict": "does not hold"},
    "gaussian": {"role": "reference", "value": (0, 0, 0), "verdict": "does not hold"},
    "self": {"role": "reference", "value": (0, 0, 0), "verdict": "not decided"},
  }
  claims = [
    decided(p=0.013, networks=5, of="networks", verdict="cannot fail here", controls=controls),
    decided(claim="B", value=None, p=1e-6),
    decided(claim="C", verdict="does not hold"),
    decided(claim="D", verdict="not decided", value=None, why="N = 16: too slow"),
  ]
  shown = html.unescape(page.write(workdir, **contents(claims=claims)).read_text())
  table = shown[shown.index('<section id="claims">') :]
  for kind, verdict in zip(("other", "holds", "fails", "open"), (claim["verdict"] for claim in claims)):
    assert f'<span class="verdict {kind}">{verdict}</span>' in table and f".{kind}::before" in shown
    assert f'<span class="verdict {kind}">1</span> {verdict}' in shown  # counted in the first lines
  assert '<td data-label="p">0.013</td>' in table and '<td data-label="p">< 0.001</td>' in table
  for name, mark in zip(controls, "■□○◐"):
    wrong = " wrong" if name in ("mean", "gaussian") else ""
    role = f"{controls[name]['role']}, {controls[name]['verdict']}"
    assert f'<span class="control{wrong}" title="{role}">{mark}\u00a0{name}</span>' in table
  assert "0.900<small>0.800 – 1.000</small>" in table and "<small>N = 16: too slow</small>" in table


def test_a_quick_look_says_that_nothing_follows(workdir):
  banner = "too small for anything to follow"
  assert banner in page.write(workdir, **contents(smoke=True)).read_text()
  assert banner not in page.write(workdir, **contents()).read_text()
