"""In a real browser the page draws itself, can be worked by mouse and keyboard, fits a phone and asks for nothing."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from accord.reports import make_report, write_report

CHROMIUM = next(
    (
        found
        for name in ("/usr/bin/chromium", "chromium", "chromium-browser", "google-chrome")
        if (found := shutil.which(name))
    ),
    None,
)
ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip

# every text whose contrast with the ground beneath it is below 4.5 (WCAG 2.2, 1.4.3)
POOR_CONTRAST = """() => {
  const parse = (css) => css.match(/[\\d.]+/g).map(Number);
  const bend = (v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  const light = ([r, g, b]) => 0.2126 * bend(r / 255) + 0.7152 * bend(g / 255) + 0.0722 * bend(b / 255);
  const ground = (node) => {
    const color = parse(getComputedStyle(node).backgroundColor);
    return color.length < 4 || color[3] === 1 || !node.parentElement ? color : ground(node.parentElement);
  };
  const written = (node) => [...node.childNodes].some((child) => child.nodeType === 3 && child.textContent.trim());
  const poor = [];
  for (const node of document.querySelectorAll("main *, footer *")) {
    if (!written(node) || !node.getClientRects().length || node instanceof SVGElement) continue;
    const [a, b] = [light(parse(getComputedStyle(node).color)), light(ground(node))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) poor.push(`${node.className} ${node.textContent.slice(0, 30)} ${ratio.toFixed(2)}`);
  }
  return [...new Set(poor)];
}"""

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="NO CHROMIUM FOUND: the report is not tested in a browser"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator:
    playwright = pytest.importorskip("playwright.sync_api", reason="PLAYWRIGHT IS NOT INSTALLED")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def report_file(tmp_path_factory, make_inputs, thumbnails) -> Path:
    return write_report(tmp_path_factory.mktemp("run"), make_report(make_inputs()), thumbnails)[1]


class Watched:
    """A page together with everything it complained about or asked for."""

    def __init__(self, browser, file: Path, width: int = 1280, scheme: str = "light") -> None:
        self.page = browser.new_page(viewport={"width": width, "height": 844}, color_scheme=scheme)
        self.page.set_default_timeout(20_000)
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(file.as_uri())
        self.page.wait_for_selector("#recall svg path")

    def __enter__(self) -> "Watched":
        return self

    def __exit__(self, *_: object) -> None:
        self.page.close()


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (1280, "dark"), (390, "light"), (320, "dark")])
def test_opens_without_complaint_request_or_sideways_scrolling(browser, report_file, width, scheme):
    with Watched(browser, report_file, width, scheme) as seen:
        assert seen.complaints == []
        assert [url for url in seen.requests if not url.startswith("data:")] == [report_file.as_uri()]
        assert seen.page.evaluate("document.documentElement.scrollWidth") <= width
        assert seen.page.locator("#training svg[role=img]").count() == 6
        # a blank canvas would mean that no dot was drawn
        drawn = "c => new Set(c.getContext('2d').getImageData(0, 0, c.width, c.height).data).size"
        assert seen.page.locator("#map canvas").evaluate(drawn) > 20


def test_text_has_contrast_in_both_schemes(browser, report_file):
    for scheme in ("light", "dark"):
        with Watched(browser, report_file, 1280, scheme) as seen:
            assert seen.page.evaluate(POOR_CONTRAST) == []


def test_every_picture_and_control_has_a_name(browser, report_file):
    with Watched(browser, report_file) as seen:
        nameless = """[...document.querySelectorAll("[role=img], button, input, select, a")]
            .filter((node) => !(node.getAttribute("aria-label") || node.textContent.trim())).length"""
        assert seen.page.evaluate(nameless) == 0


def test_charts_read_out_their_values(browser, report_file):
    with Watched(browser, report_file) as seen:
        chart = seen.page.locator("#recall svg[role=img]")
        chart.hover()
        assert "nearest" in seen.page.locator("#recall .tip").inner_text()
        chart.focus()
        seen.page.keyboard.press("Home")
        assert "Among the 1 nearest" in seen.page.locator("#recall .tip").inner_text()
        seen.page.keyboard.press("ArrowRight")
        assert "Among the 2 nearest" in seen.page.locator("#recall .heard").text_content()
        seen.page.keyboard.press("Escape")
        assert not seen.page.locator("#recall .tip").is_visible()


def test_gradients_are_drawn_where_they_were_measured(browser, tmp_path, make_inputs, rows):
    """Three points of thirty steps make one line, and a range of less than two powers of ten has marks enough."""
    log = rows(30)
    for row in log:
        if row.get("step", 1) % 10 == 0:
            norms, cosines = {"a": 0.02 + row["step"] / 1000, "b": 0.01}, {"a/b": 0.5}
            row["gradients"] = {"norms": norms, "cosines": cosines}
    file = write_report(tmp_path, make_report(make_inputs(history=log)))[1]
    with Watched(browser, file) as watched:
        panel = watched.page.locator(".panel", has_text="Gradients of the losses")
        lines = panel.locator("svg path").evaluate_all("paths => paths.map((path) => path.getAttribute('d'))")
        assert any(line.count("L") == 2 and line.count("M") == 1 for line in lines), "one line through three points"
        assert {"0.01", "0.02"} <= set(panel.locator("text.axis").all_text_contents())
        assert watched.page.locator(".panel", has_text="Agreement between losses").count() == 1


def test_the_map_pins_a_class_by_mouse_keyboard_and_search(browser, report_file):
    with Watched(browser, report_file) as seen:
        page, heading = seen.page, seen.page.locator("#map-side h3")
        page.locator("#map canvas").focus()
        page.keyboard.press("ArrowRight")
        name = page.locator("#map .tip b").inner_text()
        page.keyboard.press("Enter")
        assert heading.inner_text() == name
        assert page.locator("#map-side .thumb").count() == 6
        page.keyboard.press("Escape")
        assert heading.inner_text() == "Classes"
        search = page.get_by_label("Find a class on the map")
        wanted = page.locator(".class-list .name").nth(3).inner_text()
        search.fill(wanted)
        assert heading.inner_text() == wanted
        search.press("Escape")
        page.get_by_role("button", name="Pictures").click()
        page.get_by_role("button", name="Zoom in").click()
        page.get_by_role("button", name="Show the whole map").click()
        box = page.locator("#map canvas").bounding_box()
        hits = [(x, y) for x in range(40, int(box["width"]) - 60, 24) for y in range(40, int(box["height"]), 24)]
        for x, y in hits:  # somewhere among these the pointer meets a dot
            page.mouse.move(box["x"] + x, box["y"] + y)
            if page.locator("#map .tip").is_visible():
                break
        page.mouse.down()
        page.mouse.up()
        assert heading.inner_text() == page.locator("#map .tip b").inner_text()
        assert seen.complaints == []


def test_the_gallery_turns_round_and_filters(browser, report_file):
    with Watched(browser, report_file) as seen:
        page, rows = seen.page, seen.page.locator("#query-list .row")
        worst = rows.first.inner_text()
        page.get_by_role("button", name="Best first").click()
        assert rows.first.inner_text() != worst
        assert rows.first.locator(".badge").first.inner_text() == "✓"
        page.get_by_label("Show queries of").select_option(index=2)
        assert page.locator("#query-controls .spread").inner_text() == "6 of 6 queries"
        page.get_by_label("Show queries of").select_option(index=0)
        page.get_by_role("button", name="Show more").click()
        assert rows.count() == 18


def test_the_table_sorts_and_leads_to_the_map(browser, report_file):
    with Watched(browser, report_file) as seen:
        page = seen.page
        figures = (
            "[...document.querySelectorAll('#class-table tbody tr td:nth-child(3)')].map((n) => Number(n.innerText))"
        )
        assert page.evaluate(figures) == sorted(page.evaluate(figures))
        page.get_by_role("button", name="Recall@1").click()
        assert page.evaluate(figures) == sorted(page.evaluate(figures), reverse=True)
        assert page.locator("#class-table th[aria-sort=descending]").inner_text() == "Recall@1"
        chosen = page.locator("#class-table .who").first
        chosen.click()
        assert page.locator("#map-side h3").inner_text() == chosen.inner_text()


def test_the_scheme_can_be_switched(browser, report_file):
    with Watched(browser, report_file) as seen:
        ground = "getComputedStyle(document.body).backgroundColor"
        before = seen.page.evaluate(ground)
        seen.page.get_by_role("button", name="Switch between light and dark").click()
        assert seen.page.evaluate(ground) != before


def test_hostile_names_do_nothing(browser, tmp_path, make_inputs, thumbnails, hostile_names):
    inputs = make_inputs(hostile_names, title=hostile_names[0], run=hostile_names[1], notes=hostile_names)
    file = write_report(tmp_path, make_report(inputs), thumbnails)[1]
    with Watched(browser, file, 390) as seen:
        assert seen.complaints == []
        assert seen.page.evaluate("window.stolen") is None
        assert seen.page.evaluate("document.documentElement.scrollWidth") <= 390
        assert hostile_names[0] in seen.page.locator("#map-side").inner_text()
        seen.page.get_by_role("button", name="__proto__").first.click()
        assert seen.page.locator("#map-side h3").inner_text() == "__proto__"


def test_does_without_pictures_log_and_baseline(browser, tmp_path, make_inputs):
    full = make_inputs()
    bare = type(full)(full.trained, full.test, full.neighbours, full.class_names)
    with Watched(browser, write_report(tmp_path, make_report(bare))[1]) as seen:
        assert seen.complaints == []
        assert "No training log" in seen.page.locator("#training-about").inner_text()
        assert seen.page.locator("#query-list .thumb.blank").first.inner_text() != ""
