"""The report stands alone, shows everything it was given, and trusts no name."""

import base64
import hashlib
import html.parser
import re

import pytest

from gauss_diffusion import analyses, page, plots
from gauss_diffusion.plots.svg import Inline, Panel

HOSTILE = "<script>alert('x')</script>\"&"
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


def drawn(name, **changes) -> page.Drawn:
  """A figure of two curves, of which one is too dark for a dark page."""
  inline = Inline(
    markup=f'<svg><title>{name}</title><path style="stroke:var(--c-440154,#440154)"/></svg>',
    colors=frozenset({"440154", "e69f00", "595959"}),
    series={"N = 16": "var(--c-440154,#440154)", "N = 64": "#e69f00"},
    panels=[Panel("Left", "σ", "RMSE", ["N = 16", "N = 64"], [["0.1", "0.25", ""]])],
  )
  settings = {"pairs": 100, "alpha2": [0.5, 0.75]}
  files, results = {"PNG": f"figures/{name}.png"}, {"N = 16": f"results/{name}/n16.nc"}
  return page.Drawn(inline, settings, files, results)._replace(**changes)


def contents(**changes) -> page.Study:
  return page.Study(
    **{
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
      "headline": [
        {"model": "N = 16", "GL": (0.1234, 0.1, 0.2), "note": "ok"},
        {"model": "N = 64", "GL": 0.5},
      ],
      "claims": [decided()],
      "figures": {name: drawn(name) for name in reversed(PLOTS)},
    }
    | changes
  )


def test_every_figure_is_inside_with_title_advice_settings_numbers_and_files(tmp_path):
  path = page.write(tmp_path, contents())
  assert path == tmp_path / "report.html"
  shown = path.read_text()
  text = html.unescape(shown)
  for name, plot in PLOTS.items():
    assert f"<title>{name}</title>" in shown
    assert plot.TITLE in text and plot.LOOK_FOR in text
    assert f'href="figures/{name}.png">PNG</a>' in shown and f'href="results/{name}/n16.nc"' in shown
  assert shown.count("<caption>Left: RMSE</caption>") == len(PLOTS)
  assert shown.count('<tr><th scope="row">0.1</th><td>0.25</td><td></td></tr>') == len(PLOTS)
  order = re.findall(r'<section id="(\w+)"', shown)
  assert order == ["claims", "numbers", *PLOTS, "absent", "models", "run"]  # the answer first
  assert shown.count("alpha2 <b>0.5, 0.75</b>") == len(PLOTS)


def test_numbers_are_shown_with_their_intervals(tmp_path):
  shown = page.write(tmp_path, contents()).read_text()
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


def test_the_page_is_well_formed_and_needs_nothing_from_outside(tmp_path):
  shown = page.write(tmp_path, contents()).read_text()
  stack = []

  class Parser(html.parser.HTMLParser):
    def handle_starttag(self, tag, attrs):
      for name, value in attrs:
        if name in ("src", "href"):
          assert value.startswith(("#", "figures/", "results/", "https://arxiv.org/abs/")), value
        if name == "href" and value.startswith("#"):
          assert f'id="{value[1:]}"' in shown
      if tag not in VOID:
        stack.append(tag)

    def handle_endtag(self, tag):
      assert stack.pop() == tag

  Parser().feed(shown)
  assert not stack
  assert not re.search(r"@import|url\(|<script .*|<link|<iframe", shown) and shown.count("<script>") == 1


def test_a_browser_runs_the_pages_own_script_and_fetches_nothing(tmp_path):
  shown = page.write(tmp_path, contents()).read_text()
  script = re.search(r"<script>(.*?)</script>", shown, re.DOTALL)[1]
  digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
  (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', shown)
  assert policy.startswith("default-src 'none';") and html.unescape(policy).endswith(
    f"script-src 'sha256-{digest}'"
  )


def test_a_page_without_files_beside_it_holds_all_results(tmp_path):
  bare = {name: drawn(name, files={}, results={}) for name in PLOTS}
  shown = page.write(tmp_path, contents(figures=bare, archive=b"all results")).read_text()
  ((name, held),) = re.findall(r'download="(.*?)" href="data:application/x-xz;base64,(.*?)"', shown)
  assert name == "results.tar.xz" and base64.b64decode(held) == b"all results"
  addresses = set(re.findall(r'href="([^"]*)"', shown))
  assert all(each.startswith(("#", "data:application/x-xz;", "https://arxiv.org/")) for each in addresses)
  assert "data:application" not in page.write(tmp_path, contents()).read_text()


def test_hostile_names_are_escaped(tmp_path):
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
    figures={
      "gain": drawn(
        "gain",
        settings={HOSTILE: HOSTILE},
        files={HOSTILE: HOSTILE},
        results={HOSTILE: HOSTILE},
        inline=Inline(
          "<svg/>",
          frozenset(),
          {HOSTILE: "red", "b": "blue"},
          [Panel(*[HOSTILE] * 3, [HOSTILE], [[HOSTILE]])],
        ),
      )
    },
  )
  shown = page.write(tmp_path, given).read_text()
  assert shown.count("<script") == 1  # its own
  assert html.unescape(shown).count(HOSTILE) == 43


def test_what_is_missing_is_named(tmp_path):
  with pytest.raises(ValueError, match=r"`figures` has no plot for 'gains'; known: knowledge, strips,"):
    page.write(tmp_path, contents(figures={"gains": drawn("gains")}))
  assert not (tmp_path / "report.html").exists()


def test_a_study_without_numbers_still_reports(tmp_path):
  shown = page.write(tmp_path, contents(headline=[], claims=[], figures={})).read_text()
  assert "<table>" in shown  # of models


def test_a_report_knows_what_it_was_made_from(tmp_path):
  assert not page.is_made_from(tmp_path, "0123abcd")
  page.write(tmp_path, contents())
  assert page.is_made_from(tmp_path, "0123abcd") and not page.is_made_from(tmp_path, "0123abce")


def test_what_could_not_be_measured_is_said_with_its_reason(tmp_path):
  shown = page.write(tmp_path, contents()).read_text()
  assert 'id="absent"' in shown and "it has no derivatives" in shown
  assert 'id="absent"' not in page.write(tmp_path, contents(absent=[])).read_text()


def test_claims_show_verdicts_and_controls_in_words_and_marks(tmp_path):
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
  shown = html.unescape(page.write(tmp_path, contents(claims=claims)).read_text())
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


def test_a_quick_look_says_that_nothing_follows(tmp_path):
  banner = "too small for anything to follow"
  assert banner in page.write(tmp_path, contents(smoke=True)).read_text()
  assert banner not in page.write(tmp_path, contents()).read_text()


def test_curves_can_be_seen_on_dark_paper(tmp_path):
  shown = page.write(tmp_path, contents()).read_text()
  dark = dict(re.findall(r"--c-(\w{6}): ([^;]+);", shown))
  assert page.contrast("000000", "ffffff") == pytest.approx(21) and page.contrast("777777", "777777") == 1
  assert (
    page.contrast("440154", page.DARK_PAPER[1:]) < 3 <= page.contrast(dark["440154"][1:], page.DARK_PAPER[1:])
  )
  assert dark["e69f00"] == "#e69f00"  # light enough as it is
  assert dark["595959"] == "color-mix(in srgb, var(--ink) 65%, var(--paper))"  # of a grey, its share of ink


@pytest.fixture
def compared(tmp_path):
  studies = {
    "runs/a": contents(figures={"gain": drawn("gain"), "samples": drawn("samples")}),
    "runs/b": contents(
      title="Other digits",
      config={"seed": 1, "train": {"steps": 12_000}},
      headline=[{"model": "N = 64", "GL": (0.75, 0.7, 0.8)}],
      claims=[decided(verdict="not decided", value=None), decided(claim="Only of b")],
      figures={"gain": drawn("gain")},
      smoke=True,
    ),
  }
  page.compare(tmp_path / "comparison.html", studies)
  return tmp_path / "comparison.html"


def test_studies_stand_in_columns(compared):
  text = html.unescape(compared.read_text())
  assert "<title>2 studies side by side</title>" in text and "a quick look" in text
  assert text.count('<th scope="col">runs/a</th><th scope="col">runs/b</th>') == 3  # claims, numbers, fields
  claims = text[text.index('<section id="claims">') : text.index('<section id="numbers">')]
  first, only = re.findall(r"<tr>\s*<th scope=\"row\">.*?</tr>", claims, re.DOTALL)
  assert first.index("holds") < first.index("not decided") and "0.900 [0.800, 1.000]" in first
  assert '<td data-label="runs/a">–</td>' in only and "Only of b" in only
  numbers = text[text.index('<section id="numbers">') :]
  row = re.search(r'<th scope="row">N = 64</th>(.*?)</tr>', numbers, re.DOTALL)[1]
  assert re.findall(r"<td>([^<]*)", row) == ["0.500", "0.750"]
  assert (
    re.search(r'<th scope="row">seed</th>\s*<td>0</td>\s*<td>1</td>', text) and "train.steps</th>" not in text
  )


def test_figures_of_one_name_stand_beside_one_another(compared):
  shown = compared.read_text()
  gain, samples = (shown[shown.index(f'<section id="{name}"') :] for name in ("gain", "samples"))
  gain, samples = gain[: gain.index("</section>")], samples[: samples.index("</section>")]
  assert re.findall("<figcaption>(.*)</figcaption>", gain) == ["runs/a", "runs/b"]
  assert re.findall("<figcaption>(.*)</figcaption>", samples) == ["runs/a"]
  assert gain.count('type="checkbox"') == 2  # one switch for both


def test_a_comparison_is_known_by_its_head(compared, tmp_path):
  assert page.is_comparison(compared) and not page.is_comparison(page.write(tmp_path, contents()))
