"""Every route answers what it promises, and every bad request gets one of the catalogue's plain problems."""

import base64
import io
import json

import pytest
from fastapi import FastAPI
from PIL import Image

from accord.errors import NumericError, ResourceError, UsageError
from accord.web import Hit, Limits, create_app
from accord.web._problems import PROBLEMS


def picture(side: int = 64, kind: str = "PNG") -> bytes:
    out = io.BytesIO()
    Image.radial_gradient("L").resize((side, side)).save(out, kind)
    return out.getvalue()


def search(call, app, data, path="/api/search", kind="image/jpeg", **options):
    headers = {"Content-Type": kind, **options.pop("headers", {})}
    return call(app, "POST", path, content=data, headers=headers, **options)


def code_of(response):
    body = response.json()
    assert set(body) == {"code", "text", "request_id"}
    assert body["request_id"] == response.headers["x-request-id"]
    assert response.status_code == PROBLEMS[body["code"]].status
    return body["code"]


def test_the_page_names_the_run_and_shows_a_sample(app, call, gallery):
    page = call(app, "GET", "/")
    assert page.status_code == 200
    assert gallery.title in page.text
    assert page.text.count('class="tile"><a href="/?item=') == 28
    assert 'href="/report"' in page.text


def test_the_page_loads_nothing_from_elsewhere_and_has_nothing_inline(app, call):
    page = call(app, "GET", "/").text
    assert "http://" not in page
    assert "https://" not in page
    assert " style=" not in page
    assert "<style" not in page


def test_an_empty_gallery_says_so(gallery, call):
    class Empty(type(gallery)):
        def sample(self, n):
            return []

    page = call(create_app(Empty(), report_html=None), "GET", "/").text
    assert '<div id="empty" class="empty" ><p>There is nothing in the gallery' in page
    assert 'href="/report"' not in page


def test_an_image_of_the_gallery_finds_itself_first(app, call, gallery):
    answer = search(call, app, gallery.data[40], "/api/search?k=5").json()
    assert [hit["id"] for hit in answer["neighbours"]] == [hit.id for hit in gallery.by_image(gallery.data[40], 5)]
    assert answer["neighbours"][0]["id"] == 40
    assert answer["neighbours"][0]["score"] == pytest.approx(1)
    assert answer["neighbours"][0]["path"] == gallery.paths[40]


def test_the_preview_is_a_jpeg_made_from_the_upload(app, call):
    answer = search(call, app, picture(1000), kind="image/png").json()
    head, _, body = answer["query"]["preview"].partition(",")
    assert head == "data:image/jpeg;base64"
    shown = Image.open(io.BytesIO(base64.b64decode(body)))
    assert (shown.format, shown.size) == ("JPEG", (320, 320))


def test_neighbours_of_an_item_leave_the_item_out(app, call, gallery):
    answer = call(app, "GET", "/api/items/7/neighbours?k=12").json()
    assert answer["query"] == {"id": 7, "label": gallery.label_of(7), "preview": None}
    assert len(answer["neighbours"]) == 12
    assert 7 not in {hit["id"] for hit in answer["neighbours"]}


def test_thumbnails_are_jpegs_within_the_size(app, call):
    response = call(app, "GET", "/api/items/3/thumbnail?size=48")
    assert response.headers["content-type"] == "image/jpeg"
    assert response.headers["cache-control"] == "no-store"
    assert Image.open(io.BytesIO(response.content)).size == (48, 48)


def test_browsers_may_keep_the_thumbnails_of_this_start_of_the_server(app, call):
    key = call(app, "GET", "/").text.partition('data-key="')[2][:8]
    assert "immutable" in call(app, "GET", f"/api/items/3/thumbnail?v={key}").headers["cache-control"]


def test_info_tells_what_is_served(app, call, gallery):
    assert call(app, "GET", "/api/info").json() == {
        "title": gallery.title,
        "items": gallery.size,
        "classes": gallery.classes,
        "dim": 432,
        "model": gallery.model,
        "threshold": None,
        "far": None,
        "report": True,
        "body_bytes": 10_000_000,
        "neighbours_max": 100,
    }


def test_health_answers(app, call):
    assert call(app, "GET", "/health").json() == {"status": "ok"}


def test_the_report_is_shown_in_a_sandbox(app, call):
    response = call(app, "GET", "/report")
    assert "<h1>The report</h1>" in response.text
    policy = response.headers["content-security-policy"]
    assert "sandbox allow-scripts" in policy
    assert "allow-same-origin" not in policy
    assert "default-src 'none'" in policy


def test_without_a_report_its_address_says_so(gallery, call):
    assert code_of(call(create_app(gallery, report_html=None), "GET", "/report")) == "no_report"


def test_the_openapi_description_is_there_but_no_page_from_elsewhere(app, call):
    paths = call(app, "GET", "/openapi.json").json()["paths"]
    assert set(paths) == {
        "/health",
        "/api/info",
        "/api/search",
        "/api/items/{id}/neighbours",
        "/api/items/{id}/thumbnail",
    }
    assert "image/*" in paths["/api/search"]["post"]["requestBody"]["content"]
    assert call(app, "GET", "/docs").status_code == 404
    assert call(app, "GET", "/redoc").status_code == 404


@pytest.mark.parametrize("name", ["page.css", "page.js", "icon.svg"])
def test_the_pages_own_files_are_kept_under_their_hash(app, call, name):
    stamp = call(app, "GET", "/").text.partition("page.css?v=")[2][:12]
    response = call(app, "GET", f"/static/{name}?v={stamp}")
    assert response.status_code == 200
    assert "immutable" in response.headers["cache-control"]
    assert call(app, "GET", f"/static/{name}").headers["cache-control"] == "no-cache"


def test_the_icon_is_found_where_browsers_look_for_it(app, call):
    assert call(app, "GET", "/favicon.ico").headers["location"] == "/static/icon.svg"


@pytest.mark.parametrize("path", ["/", "/api/info", "/report", "/nothing", "/static/page.js"])
def test_every_answer_carries_the_protecting_headers(app, call, path):
    headers = call(app, "GET", path).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert "access-control-allow-origin" not in headers
    assert "server" not in headers


def test_the_page_allows_only_its_own_script_and_style(app, call):
    policy = call(app, "GET", "/").headers["content-security-policy"]
    assert policy.startswith("default-src 'self'; img-src 'self' data:;")
    assert "unsafe" not in policy


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("GET", "/nothing", "no_such_page"),
        ("GET", "/static/nothing.js", "no_such_page"),
        ("DELETE", "/", "method_not_allowed"),
        ("GET", "/api/search", "method_not_allowed"),
        ("OPTIONS", "/api/search", "method_not_allowed"),
        ("GET", "/api/items/999999/neighbours", "no_such_item"),
        ("GET", "/api/items/999999/thumbnail", "no_such_item"),
        ("GET", "/api/items/-1/neighbours", "wrong_parameter"),
        ("GET", "/api/items/99999999999999999999/neighbours", "wrong_parameter"),
        ("GET", "/api/items/1/neighbours?k=0", "wrong_parameter"),
        ("GET", "/api/items/1/neighbours?k=101", "wrong_parameter"),
        ("GET", "/api/items/1/thumbnail?size=513", "wrong_parameter"),
        ("GET", "/api/items/x/thumbnail", "wrong_parameter"),
    ],
)
def test_a_wrong_request_gets_its_problem(app, call, method, path, code):
    assert code_of(call(app, method, path)) == code


PAYLOADS = ["../../etc/passwd", "..%2f..%2fetc%2fpasswd", "%252e%252e%252fetc%252fpasswd", "..%5c..%5cwin.ini"]
PAYLOADS += ["%00", "%2e%2e/%2e%2e/etc/passwd", "//evil/share", "page.js%00.css", "….//….//etc/passwd", "%c0%ae%c0%ae/"]


@pytest.mark.parametrize("payload", PAYLOADS)
@pytest.mark.parametrize("place", ["/static/{}", "/api/items/{}/thumbnail", "/{}"])
def test_no_path_leads_outside(app, call, place, payload):
    response = call(app, "GET", place.format(payload))
    assert response.status_code in (404, 405, 422)
    assert "root:" not in response.text


BAD_IMAGES = {
    "empty": b"",
    "text": b"hello, I am a text file",
    "vector": b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>",
    "page": b"<!doctype html><script>alert(1)</script>",
    "truncated": picture(400)[:300],
    "icon": picture(32, "ICO"),
    "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n",
}


@pytest.mark.parametrize("name", BAD_IMAGES)
def test_what_is_no_allowed_image_is_refused_without_details(app, call, name):
    response = search(call, app, BAD_IMAGES[name])
    assert code_of(response) == "image_refused"
    for leak in ("0x", "BytesIO", "Traceback", "PIL", ".py", "/home", "upload:"):
        assert leak not in response.text


def test_too_many_pixels_are_refused_by_the_header(app, call):
    out = io.BytesIO()
    Image.new("1", (6000, 5000)).save(out, "PNG")
    response = search(call, app, out.getvalue(), kind="image/png")
    assert code_of(response) == "image_refused"
    assert "25 megapixels" in response.json()["text"]


@pytest.mark.parametrize("kind", ["text/plain", "application/json", "multipart/form-data; boundary=x", ""])
def test_other_content_types_are_refused_before_the_body_is_read(app, call, kind):
    assert code_of(search(call, app, picture(), kind=kind)) == "not_an_image"


def test_an_address_in_place_of_an_image_is_never_fetched(app, call):
    assert code_of(search(call, app, b"http://127.0.0.1:1/secret.jpg")) == "image_refused"


FAILURES = {
    "no_embedding": NumericError("zero"),
    "busy": ResourceError("no memory at /srv/x"),
    "internal": RuntimeError("secret at 0x7f00 in /srv/x.py"),
}


@pytest.mark.parametrize("code", FAILURES)
def test_failures_of_the_service_become_problems(gallery, call, code, caplog):
    class Failing(type(gallery)):
        def by_image(self, data: bytes, k: int) -> list[Hit]:
            raise FAILURES[code]

    response = search(call, create_app(Failing(), report_html=None), picture())
    assert code_of(response) == code
    assert "/srv" not in response.text
    if code == "internal":
        assert "secret at 0x7f00" in caplog.text
        assert response.json()["request_id"] in caplog.text


def test_names_that_are_markup_or_no_text_stay_text(gallery, call):
    class Odd(type(gallery)):
        title = "<script>alert('title')</script>"

        def label_of(self, id: int) -> str:
            return '\udce9"><img src=x onerror=alert(1)>'

    app = create_app(Odd(), report_html=None)
    page = call(app, "GET", "/")
    assert "<img src=x" not in page.text
    assert "<script>alert" not in page.text
    answer = call(app, "GET", "/api/items/1/neighbours?k=1")
    assert answer.json()["neighbours"][0]["label"] == '�"><img src=x onerror=alert(1)>'


def test_a_threshold_of_the_service_is_handed_on(gallery, call):
    class Careful(type(gallery)):
        threshold, far = 0.7, 0.01

    app = create_app(Careful(), report_html=None)
    answer = call(app, "GET", "/api/items/1/neighbours").json()
    assert (answer["threshold"], answer["far"]) == (0.7, 0.01)
    assert call(app, "GET", "/api/info").json()["far"] == 0.01


@pytest.mark.parametrize(("threshold", "known"), [(None, None), (-1.0, True), (0.999, False)])
def test_an_answer_is_known_if_the_best_score_reaches_the_threshold(gallery, call, threshold, known):
    class Careful(type(gallery)):
        pass

    Careful.threshold = threshold
    answer = call(create_app(Careful(), report_html=None), "GET", "/api/items/1/neighbours").json()
    assert answer["known"] is known
    assert answer["far"] is None
    assert len(answer["neighbours"]) == 24
    if threshold is not None:
        best = answer["neighbours"][0]["score"]
        Careful.threshold = best
        assert call(create_app(Careful(), report_html=None), "GET", "/api/items/1/neighbours").json()["known"] is True


def test_the_log_takes_one_line_a_request_and_no_query(app, call, caplog):
    caplog.set_level("INFO", "accord.web")
    call(app, "GET", "/nothing%0d%0aforged%1b[31m?token=secret")
    lines = [record.getMessage() for record in caplog.records if record.name == "accord.web"]
    assert len(lines) == 1
    assert "\n" not in lines[0]
    assert "\x1b" not in lines[0]
    assert "secret" not in lines[0]
    assert json.loads(lines[0])["status"] == 404


@pytest.mark.parametrize("field", ["body_bytes", "queue", "megapixels"])
def test_limits_of_nothing_are_refused(field):
    with pytest.raises(UsageError, match=field):
        Limits(**{field: 0})


def test_the_app_says_what_it_was_made_with(app):
    assert isinstance(app, FastAPI)
    assert app.state.asks_for_token is False
