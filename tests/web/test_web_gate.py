"""Who may ask: host names, pages elsewhere, tokens and sign-in."""

import pytest

from accord.errors import UsageError
from accord.web import create_app

TOKEN = "correct-horse-battery-staple-4711"
BEARER = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture(scope="module")
def guarded(gallery):
    return create_app(gallery, report_html="<h1>secret</h1>", token=TOKEN, hosts=["Images.Example"])


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:8000", "localhost", "LOCALHOST:99", "[::1]", "[::1]:8000"])
def test_loopback_names_are_answered(app, call, host):
    assert call(app, "GET", "/health", host=host).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8000",
        "127.0.0.1.evil.example",
        "localhost.evil",
        "192.168.1.5",
        "0.0.0.0",
        "[fe80::1]",
        "127.0.0.1:80:80",
        "127.0.0.1:x",
        "user@127.0.0.1",
        "2130706433",
        "127.0.0.1 ",
        "",
    ],
)
def test_other_names_are_not(app, call, host):
    response = call(app, "GET", "/", headers={"Host": host})
    assert response.status_code == 421
    assert response.json()["code"] == "wrong_host"


def test_two_host_headers_are_refused(app, call):
    headers = [("Host", "127.0.0.1"), ("Host", "127.0.0.1")]
    assert call(app, "GET", "/", headers=headers).status_code == 421


SITES = [None, "none", "same-origin", "same-site", "cross-site"]
ORIGINS = [
    None,
    "http://127.0.0.1:8000",
    "http://127.0.0.1:9000",
    "https://evil.example",
    "null",
    "http://localhost:8000",
]


@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("origin", ORIGINS)
def test_only_the_page_itself_may_search(app, call, gallery, site, origin):
    headers = {"Content-Type": "image/jpeg"}
    headers |= {"Sec-Fetch-Site": site} if site else {}
    headers |= {"Origin": origin} if origin else {}
    response = call(app, "POST", "/api/search?k=1", content=gallery.data[0], headers=headers)
    fine = site in (None, "none", "same-origin") and origin in (None, "http://127.0.0.1:8000")
    assert response.status_code == (200 if fine else 403)


@pytest.mark.parametrize("path", ["/api/items/1/neighbours", "/api/items/1/thumbnail", "/api/info"])
def test_pages_elsewhere_may_not_embed_answers(app, call, path):
    assert call(app, "GET", path, headers={"Sec-Fetch-Site": "cross-site"}).json()["code"] == "cross_site"


def test_a_link_from_elsewhere_may_open_the_page(app, call):
    assert call(app, "GET", "/", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 200


@pytest.mark.parametrize(
    "path", ["/api/info", "/api/items/1/thumbnail", "/openapi.json", "/static/page.js", "/nothing"]
)
def test_with_a_token_nothing_is_told_without_it(guarded, call, path):
    response = call(guarded, "GET", path)
    assert response.status_code == 401
    assert response.headers["www-authenticate"] == "Bearer"
    assert call(guarded, "GET", path, headers={"Authorization": "Bearer wrong"}).status_code == 401
    assert call(guarded, "GET", path, headers={"Authorization": f"Basic {TOKEN}"}).status_code == 401
    assert call(guarded, "GET", path, headers={"Cookie": "accord_session=wrong"}).status_code == 401
    assert call(guarded, "GET", path, headers=BEARER).status_code in (200, 404)


@pytest.mark.parametrize("path", ["/", "/report"])
def test_people_without_the_token_are_led_to_the_sign_in(guarded, call, path):
    response = call(guarded, "GET", path)
    assert (response.status_code, response.headers["location"]) == (303, "/sign-in")


def test_health_needs_no_token(guarded, call):
    assert call(guarded, "GET", "/health").json() == {"status": "ok"}


@pytest.mark.parametrize("host", ["192.168.1.5:8000", "[fe80::1]:8000", "images.example", "127.0.0.1"])
def test_with_a_token_addresses_and_given_names_are_answered(guarded, call, host):
    assert call(guarded, "GET", "/api/info", headers={"Host": host, **BEARER}).status_code == 200


def test_with_a_token_other_names_are_still_refused(guarded, call):
    assert call(guarded, "GET", "/api/info", headers={"Host": "evil.example", **BEARER}).status_code == 421


def test_signing_in_gives_a_cookie_that_opens_the_page(guarded, call):
    response = call(guarded, "POST", "/sign-in", data={"token": f" {TOKEN} "})
    assert (response.status_code, response.headers["location"]) == (303, "/")
    cookie = response.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "samesite=strict" in cookie.lower()
    assert TOKEN not in cookie
    page = call(guarded, "GET", "/", headers={"Cookie": cookie.partition(";")[0]})
    assert page.status_code == 200


def test_the_cookie_is_kept_to_https_where_there_is_https(guarded, call):
    import asyncio

    import httpx

    async def sign_in():
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(guarded), base_url="https://images.example"
        ) as client:
            return await client.post("/sign-in", data={"token": TOKEN})

    assert "Secure" in asyncio.run(sign_in()).headers["set-cookie"]


def test_a_wrong_token_is_told_on_the_page(guarded, call):
    response = call(guarded, "POST", "/sign-in", data={"token": "guess"})
    assert response.status_code == 401
    assert "That is not the token" in response.text
    assert "set-cookie" not in response.headers


def test_pages_elsewhere_may_not_sign_in(guarded, call):
    response = call(guarded, "POST", "/sign-in", data={"token": TOKEN}, headers={"Origin": "https://evil.example"})
    assert response.status_code == 403


def test_a_huge_sign_in_is_refused(guarded, call):
    assert call(guarded, "POST", "/sign-in", data={"token": "x" * 5000}).status_code == 413


def test_a_sign_in_with_many_fields_is_refused(guarded, call):
    assert call(guarded, "POST", "/sign-in", content=b"a=1&" * 9).json()["code"] == "bad_request"


def test_without_a_token_there_is_nothing_to_sign_in_to(app, call):
    assert call(app, "GET", "/sign-in").headers["location"] == "/"
    assert call(app, "POST", "/sign-in", data={"token": ""}).status_code == 401


def test_the_sign_in_page_is_shown(guarded, call):
    assert "Access token" in call(guarded, "GET", "/sign-in").text


def test_a_short_token_is_refused_at_the_start(gallery):
    with pytest.raises(UsageError, match="22 characters"):
        create_app(gallery, report_html=None, token="short")


def test_other_names_without_a_token_are_refused_at_the_start(gallery):
    with pytest.raises(UsageError, match="token"):
        create_app(gallery, report_html=None, hosts=["images.example"])
