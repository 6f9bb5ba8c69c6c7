"""Reports as people open them: offline, on a desk and in a hand, in the light and in the dark."""

import itertools
import re
import shutil

import pytest
from test_page import contents, decided
from test_plots import fake

from gauss_diffusion import page, plots
from gauss_diffusion.analyses import FIGURES
from gauss_diffusion.plots import svg

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
  pytest.mark.browser,
  pytest.mark.skipif(CHROMIUM is None, reason="want chromium, chromium-browser or google-chrome on the PATH"),
]
playwright = pytest.importorskip("playwright.sync_api", reason="want pip install -e '.[browser]'")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="want pip install -e '.[browser]'")

A4 = 680  # CSS pixels between margins of 15 mm
WIDTHS, THEMES = (1400, 400), ("light", "dark")
SHOWN = ("score_gap", "samples", "training")
PAGES = ("report.html", "comparison.html")
CLAIM = decided(
  claim="A claim that is long enough to be broken into several lines on a telephone",
  statistic="its statistic, mean over σ in [0.1, 20]",
  value=(0.1, 0.05, 0.15),
  strip={"sigma": [0.1, 1.0, 10.0], "verdict": ["holds", "does not hold", "not decided"]},
  controls={"skip": {"role": "negative", "verdict": "holds"}},
)
ARCHIVE = bytes(range(256))
NUMBERS = {
  f"RMSE to {name} at σ = 0.47": (0.25, 0.2, 0.3) for name in ("gaussian", "linear", "multi-delta", "ls")
}


def study(prefix: str, **changes) -> page.Study:
  drawn = {name: FIGURES[name].draw(fake(name, 4)) for name in SHOWN} | {"strips": plots.strips.draw([CLAIM])}
  figures = {
    name: page.Drawn(svg.inline(figure, page.FIGURES[name].TITLE, prefix + name), {"images": 100}, {}, {})
    for name, figure in drawn.items()
  }
  rows = [{"model": f"N = {size}"} | NUMBERS for size in (16, 64)]
  return contents(claims=[CLAIM], headline=rows, figures=figures, smoke=True, archive=ARCHIVE, **changes)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  place = tmp_path_factory.mktemp("pages")
  page.write(place, study(""))
  page.compare(place / PAGES[1], {"runs/a": study("a-"), "runs/b": study("b-", title="Other digits")})
  return place


@pytest.fixture(scope="module")
def browser():
  with playwright.sync_playwright() as started:
    running = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
    yield running
    running.close()


@pytest.fixture(scope="module")
def opened(folder, browser):
  """Return a function that opens a page, in a tab kept for its width and theme, and what went wrong in it."""
  tabs = {}

  def open_page(name="report.html", width=1400, theme="light", **options):
    key = (name, width, theme, *options.items())
    if key not in tabs:
      context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme=theme, offline=True, **options
      )
      tab, wrong = context.new_page(), []
      tab.on("console", lambda message: wrong.append(message.text))
      tab.on("pageerror", lambda error: wrong.append(str(error)))
      tab.on(
        "request", lambda request: wrong.append(request.url) if not request.url.startswith("file:") else None
      )
      tab.goto((folder / name).as_uri())
      tabs[key] = tab, wrong
    return tabs[key]

  return open_page


EVERYWHERE = pytest.mark.parametrize(
  ("name", "width", "theme"), list(itertools.product(PAGES, WIDTHS, THEMES))
)


@EVERYWHERE
def test_a_page_opens_offline_without_a_word_and_fits(opened, name, width, theme):
  tab, wrong = opened(name, width, theme)
  assert wrong == []
  assert tab.evaluate("document.documentElement.scrollWidth") == width
  assert tab.locator("h1").is_visible() and tab.locator(".drawing svg").first.is_visible()


@EVERYWHERE
def test_axe_finds_nothing(opened, name, width, theme):
  tab, _ = opened(name, width, theme)
  found = axe.Axe().run(tab).response["violations"]
  assert [(rule["id"], rule["nodes"][0]["html"][:200]) for rule in found] == []


@pytest.mark.parametrize("width", WIDTHS)
def test_the_answer_stands_on_the_first_screen(opened, width):
  tab, _ = opened(width=width)
  for answer in (".answer", "#claims .verdict >> nth=0"):
    box = tab.locator(answer).bounding_box()
    assert box["y"] + box["height"] <= tab.viewport_size["height"] and box["x"] + box["width"] <= width


def luminance(color: str) -> float:
  """Return the relative luminance of "rgb(...)" (WCAG 2.2), in the test's own words."""
  channels = [int(each) / 255 for each in re.findall(r"\d+", color)[:3]]
  linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
  return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


COLORS = """
selector => {
  const canvas = new OffscreenCanvas(1, 1).getContext("2d", {willReadFrequently: true});
  const plain = color => {
    canvas.fillStyle = color;
    canvas.fillRect(0, 0, 1, 1);
    return `rgb(${canvas.getImageData(0, 0, 1, 1).data.slice(0, 3)})`;
  };
  const found = [...document.querySelectorAll(selector)].map(each => getComputedStyle(each));
  return [plain(getComputedStyle(document.body).backgroundColor), ...found.map(each => plain(each.fill))];
}
"""


@pytest.mark.parametrize("theme", THEMES)
def test_text_in_figures_stands_out_from_the_page(opened, theme):
  tab, _ = opened(theme=theme)
  paper, *texts = tab.evaluate(COLORS, "#score_gap svg text, #samples svg text, #training svg text")
  assert len(texts) > 50 and (luminance(paper) > 0.5) == (theme == "light")
  for text in texts:
    dark, light = sorted((luminance(paper), luminance(text)))
    assert (light + 0.05) / (dark + 0.05) >= 4.5, text


def test_a_series_is_switched_off_and_on_by_its_checkbox_and_its_legend(opened):
  tab, _ = opened()
  section = tab.locator("#score_gap")
  checkbox, parts = (
    section.get_by_label("multi-delta", exact=True),
    section.locator('[data-series="multi-delta"]'),
  )
  others = section.locator('[data-series="Gaussian"]')

  def visible(found):
    return found.evaluate_all("each => each.filter(one => getComputedStyle(one).display !== 'none').length")

  assert visible(parts) == parts.count() == 8  # a curve and its band in four panels
  checkbox.focus()
  tab.keyboard.press("Space")
  assert visible(parts) == 0 and visible(others) == others.count() == 8
  section.locator(".legend text", has_text="multi-delta").click()
  assert visible(parts) == 8 and checkbox.is_checked()


def test_one_checkbox_switches_both_studies(opened):
  tab, _ = opened("comparison.html")
  section = tab.locator("#training")
  section.get_by_label("N = 16", exact=True).uncheck()
  parts = section.locator('[data-series="N = 16"]')
  assert parts.count() == 4 and parts.evaluate_all("each => each.every(one => one.style.display === 'none')")
  section.get_by_label("N = 16", exact=True).check()


def test_the_pointer_reads_a_value_off_a_curve(opened):
  tab, _ = opened()
  tab.locator("#score_gap svg").scroll_into_view_if_needed()
  name, x, y, said = tab.evaluate("""() => {
    const part = document.querySelector("#score_gap [data-points]");
    const [x, y, said] = JSON.parse(part.dataset.points)[4];
    const at = new DOMPoint(x, y).matrixTransform(part.closest("svg").getScreenCTM());
    return [part.dataset.series, at.x, at.y, said];
  }""")
  tab.mouse.move(x + 2, y + 2)
  assert tab.locator("#tip").inner_text() == f"{name}: {said}"
  tab.mouse.move(5, 5)
  assert not tab.locator("#tip").is_visible()


def test_a_figure_can_be_saved_from_a_page_that_was_mailed(opened, tmp_path):
  tab, _ = opened()
  with tab.expect_download() as saved:
    tab.locator("#samples .links a", has_text="SVG").click()
  assert saved.value.suggested_filename == "samples.svg"
  saved.value.save_as(tmp_path / "samples.svg")
  assert (tmp_path / "samples.svg").read_text().startswith('<svg xmlns="http://www.w3.org/2000/svg"')


def test_all_results_come_out_of_a_page_that_was_mailed(opened, tmp_path):
  tab, wrong = opened()
  with tab.expect_download() as saved:
    tab.get_by_role("link", name="All results").click()
  assert saved.value.suggested_filename == "results.tar.xz" and wrong == []
  saved.value.save_as(tmp_path / "saved")
  assert (tmp_path / "saved").read_bytes() == ARCHIVE


def test_without_scripts_everything_is_there_but_the_switches(opened):
  tab, wrong = opened(java_script_enabled=False)
  assert (
    tab.locator(".drawing svg").count() == len(SHOWN) + 1 and not tab.locator(".series").first.is_visible()
  )
  tab.locator("#score_gap .numbers summary").first.click()
  assert tab.locator("#score_gap .numbers table").first.is_visible()


def test_it_prints_dark_on_light(folder, browser):
  tab = browser.new_page(color_scheme="dark", viewport={"width": A4, "height": 900})
  tab.goto((folder / "report.html").as_uri())
  tab.emulate_media(media="print", color_scheme="dark")
  paper, *texts = tab.evaluate(COLORS, "#score_gap svg text")
  assert tab.evaluate("document.documentElement.scrollWidth") == A4  # no table is cut off
  assert luminance(paper) == pytest.approx(1) and max(map(luminance, texts)) < 0.2
  assert not tab.locator(".series").first.is_visible()
  lighter = "getComputedStyle(document.documentElement).getPropertyValue('--c-440154')"
  assert not tab.evaluate(lighter)  # curves are dark again, as they are in the light
