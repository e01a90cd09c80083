"""The page in a real browser: choose, drop or paste an image, pivot, go back, read errors, open the report."""

import base64
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from accord.web import Limits, create_app

pytestmark = pytest.mark.browser
CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
ARGUMENTS += ["--disable-component-update", "--disable-sync"]
HIT = "#neighbours .tile a"

SEND = """([kind, data, type]) => {
  const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
  const transfer = new DataTransfer();
  transfer.items.add(new File([bytes], "dropped.jpg", { type }));
  if (kind === "paste") document.dispatchEvent(new ClipboardEvent("paste", { clipboardData: transfer, bubbles: true }));
  else for (const name of kind.split(" "))
    document.body.dispatchEvent(new DragEvent(name, { dataTransfer: transfer, bubbles: true, cancelable: true }));
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    if not CHROMIUM.exists():
        pytest.skip("BROWSER TESTS OF THE PAGE NOT RUN: no Chromium at /usr/bin/chromium (apt-get install chromium)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)
        yield browser
        browser.close()


class Watched:
    """A page of its own, with everything it said and asked for."""

    def __init__(self, browser, url, **options):
        self.url = url
        self.said = []
        self.asked = []
        self.context = browser.new_context(**{"viewport": {"width": 1280, "height": 800}, **options})
        self.page = self.context.new_page()
        self.page.set_default_timeout(10_000)
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))

    def open(self, path="/"):
        self.page.goto(self.url + path)
        self.page.wait_for_load_state("networkidle")
        return self.page

    def outside(self):
        return [url for url in self.asked if not url.startswith(self.url) and urlsplit(url).scheme != "data"]


@pytest.fixture
def watched(browser, running):
    watched = Watched(browser, running.url)
    yield watched
    assert watched.outside() == []
    watched.context.close()


def upload(page, data, name="photo.jpg", kind="image/jpeg"):
    page.set_input_files("#file", {"name": name, "mimeType": kind, "buffer": data})


def labels(page):
    return [text.strip() for text in page.locator("#neighbours .label").all_inner_texts()]


def wait_for_pictures(page):
    """Until every image in view has been drawn."""
    drawn = """[...document.images]
      .filter((image) => image.offsetParent && image.getBoundingClientRect().top < innerHeight)
      .every((image) => image.complete && image.naturalWidth > 0)"""
    for _ in range(100):
        if page.evaluate(drawn):
            return
        page.wait_for_timeout(50)
    pytest.fail("some images in view were not drawn")


def test_choosing_an_image_shows_its_neighbours_as_the_service_ranks_them(watched, gallery):
    page = watched.open()
    assert page.locator("#sample .tile").count() == 28
    upload(page, gallery.data[40])
    page.wait_for_selector(HIT)
    expected = gallery.by_image(gallery.data[40], 24)
    assert labels(page) == [hit.label for hit in expected]
    assert page.locator("#neighbours .score").first.inner_text() == "1.000"
    assert page.locator("#shown").is_visible()
    assert not page.locator("#sample").is_visible()
    wait_for_pictures(page)
    assert "24 neighbours shown" in page.locator("#status").inner_text()
    assert watched.said == []


@pytest.mark.parametrize("kind", ["dragenter dragover drop", "paste"])
def test_dropping_and_pasting_search_too(watched, gallery, kind):
    page = watched.open()
    page.evaluate(SEND, [kind, base64.b64encode(gallery.data[9]).decode(), "image/jpeg"])
    page.wait_for_selector(HIT)
    assert labels(page)[0] == gallery.label_of(9)
    assert page.get_attribute("body", "data-state") == "idle"
    assert watched.said == []


def test_dragging_over_the_page_says_where_to_drop(watched, gallery):
    page = watched.open()
    page.evaluate(SEND, ["dragenter", "", "image/jpeg"])
    assert page.get_attribute("body", "data-state") == "dragging"
    page.evaluate(SEND, ["dragleave", "", "image/jpeg"])
    assert page.get_attribute("body", "data-state") == "idle"


def test_a_click_pivots_and_back_returns_without_asking_again(watched, gallery):
    page = watched.open()
    upload(page, gallery.data[40])
    page.wait_for_selector(HIT)
    before = labels(page)
    second = gallery.by_image(gallery.data[40], 2)[1]
    page.locator(HIT).nth(1).click()
    page.wait_for_url(re.compile(rf"\?item={second.id}$"))
    assert labels(page) == [hit.label for hit in gallery.by_id(second.id, 24)]
    assert page.locator("#crumbs li").count() == 3
    assert page.evaluate("document.activeElement.id") == "heading"
    searches = [url for url in watched.asked if "neighbours" in url or "search" in url]
    page.go_back()
    page.wait_for_url(re.compile("upload$"))
    assert labels(page) == before
    page.go_back()
    page.wait_for_selector("#sample", state="visible")
    page.go_forward()
    page.wait_for_selector(HIT)
    assert labels(page) == before
    assert [url for url in watched.asked if "neighbours" in url or "search" in url] == searches
    assert watched.said == []


def test_the_trail_leads_back_to_where_one_was(watched, gallery):
    page = watched.open()
    page.locator("#sample a").nth(2).click()
    page.wait_for_selector(HIT)
    first = labels(page)
    for crumbs in (3, 4):
        page.locator(HIT).nth(2).click()
        page.wait_for_selector(f"#crumbs li:nth-child({crumbs}) [aria-current]")
    page.locator("#crumbs a").nth(1).click()
    assert labels(page) == first
    assert page.locator("#crumbs li").count() == 2
    page.locator("#crumbs a").first.click()
    assert page.locator("#sample").is_visible()
    assert urlsplit(page.url).query == ""


def test_an_address_of_an_item_can_be_shared_and_reloaded(watched, gallery):
    page = watched.open("/?item=33")
    page.wait_for_selector(HIT)
    expected = [hit.label for hit in gallery.by_id(33, 24)]
    assert labels(page) == expected
    page.reload()
    page.wait_for_selector(HIT)
    assert labels(page) == expected
    assert page.locator("#name").inner_text() == gallery.label_of(33)


def test_the_keyboard_alone_is_enough(watched, gallery):
    page = watched.open()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.locator("#sample a").nth(4).focus()
    page.keyboard.press("Enter")
    page.wait_for_selector(HIT)
    assert page.evaluate("document.activeElement.id") == "heading"
    page.locator("#file").focus()
    assert page.evaluate("document.activeElement.id") == "file"


def test_a_text_file_named_jpg_is_explained_and_the_results_stay(watched, gallery):
    page = watched.open("/?item=3")
    page.wait_for_selector(HIT)
    upload(page, b"I am only a text file", "notes.jpg")
    page.wait_for_selector("#problem", state="visible")
    assert "can't be read as an image" in page.locator("#problem").inner_text()
    assert page.locator(HIT).count() == 24
    assert [text for text in watched.said if "422" not in text] == []
    page.click("#dismiss")
    assert not page.locator("#problem").is_visible()


@pytest.mark.parametrize(
    ("data", "name", "kind", "text"),
    [
        (b"x", "notes.txt", "text/plain", "notes.txt is not an image"),
        (b"x" * 160_000, "big.jpg", "image/jpeg", "big.jpg has 0.2 MB. Up to 0.1 MB"),
    ],
)
def test_hopeless_files_are_refused_before_they_are_sent(browser, gallery, serving, data, name, kind, text):
    limits = Limits(body_bytes=100_000)
    watched = Watched(browser, serving(create_app(gallery, report_html=None, limits=limits)).url)
    page = watched.open()
    upload(page, data, name, kind)
    page.wait_for_selector("#problem", state="visible")
    assert text in page.locator("#problem").inner_text()
    assert not any("search" in url for url in watched.asked)
    assert watched.said == []
    watched.context.close()


def test_pasting_text_is_explained(watched):
    page = watched.open()
    page.evaluate("document.dispatchEvent(new ClipboardEvent('paste', { clipboardData: new DataTransfer() }))")
    assert "no image in the clipboard" in page.locator("#problem").inner_text()


def test_a_server_that_has_gone_is_named(browser, app, serving):
    running = serving(app)
    watched = Watched(browser, running.url)
    page = watched.open()
    page.context.set_offline(True)
    page.locator("#sample a").first.click()
    page.wait_for_selector("#problem", state="visible")
    assert "can't be reached" in page.locator("#problem").inner_text()
    watched.context.close()


def test_the_report_link_opens_the_report_and_its_link_leads_back(watched):
    page = watched.open()
    page.click("#report")
    page.wait_for_url("**/report")
    assert page.locator("h1").inner_text() == "The report"
    page.click("a")
    page.wait_for_selector("#sample")
    assert watched.said == []


def test_the_script_of_a_report_runs_but_does_not_reach_the_service(browser, gallery, serving):
    hostile = """<!doctype html><title>r</title><p id=out>waiting</p><script>
      fetch('/api/info').then(() => 'reached', () => 'refused').then((text) => { out.textContent = text; });
    </script>"""
    watched = Watched(browser, serving(create_app(gallery, report_html=hostile)).url)
    page = watched.open("/report")
    page.get_by_text("refused").wait_for()
    assert page.locator("#out").inner_text() == "refused"
    watched.context.close()


def test_low_scores_look_unknown(browser, gallery, serving):
    class Careful(type(gallery)):
        threshold, far = 0.97, 0.005

    watched = Watched(browser, serving(create_app(Careful(), report_html=None)).url)
    page = watched.open("/?item=5")
    page.wait_for_selector(HIT)
    far = [hit for hit in gallery.by_id(5, 24) if hit.score < 0.97]
    assert page.locator(".tile.unknown").count() == len(far) > 0
    assert page.locator("#doubt").is_visible()
    assert "Unknown: nothing here scores 0.97 or more" in page.locator("#notice").inner_text()
    assert "at most 0.5 % of images of something else" in page.locator("#notice").inner_text()
    assert page.locator("#doubt").inner_text() == "unknown"
    assert "The answer is: unknown." in page.locator("#status").inner_text()
    assert watched.said == []
    watched.context.close()


def test_markup_in_names_stays_text(browser, gallery, serving):
    class Odd(type(gallery)):
        title = "<img src=x onerror=\"document.title='owned'\">"

        def label_of(self, id: int) -> str:
            return f"<img src=x onerror=\"document.title='owned'\">{id}"

    watched = Watched(browser, serving(create_app(Odd(), report_html=None)).url)
    page = watched.open()
    page.locator("#sample a").first.click()
    page.wait_for_selector(HIT)
    page.locator(HIT).first.click()
    page.wait_for_selector("#crumbs li:nth-child(3) [aria-current]")
    assert "owned" not in page.title().replace(Odd.title, "")
    assert page.locator("img[src=x]").count() == 0
    assert watched.said == []
    watched.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 390, 820, 1280])
def test_nothing_sticks_out_at_any_width(browser, running, gallery, width, scheme):
    watched = Watched(browser, running.url, viewport={"width": width, "height": 800}, color_scheme=scheme)
    page = watched.open()
    assert page.evaluate("document.documentElement.scrollWidth") == width
    upload(page, gallery.data[1], "a name that is rather long, without an end in sight, and then some more of it.jpeg")
    page.wait_for_selector(HIT)
    for crumbs in (3, 4, 5):
        page.locator(HIT).nth(1).click()
        page.wait_for_selector(f"#crumbs li:nth-child({crumbs}) [aria-current]")
    assert page.evaluate("document.documentElement.scrollWidth") == width
    watched.context.close()


def test_signing_in_opens_the_page(browser, gallery, serving):
    token = "correct-horse-battery-staple-4711"
    app = create_app(gallery, report_html=None, token=token, limits=Limits(queue=4))
    watched = Watched(browser, serving(app).url)
    page = watched.open()
    assert "/sign-in" in page.url
    page.fill("#token", "wrong")
    page.keyboard.press("Enter")
    page.wait_for_selector("#wrong")
    page.fill("#token", token)
    page.click("button")
    page.wait_for_selector("#sample .tile")
    upload(page, gallery.data[40])
    page.wait_for_selector(HIT)
    wait_for_pictures(page)
    assert token not in "".join(watched.asked)
    watched.context.close()
