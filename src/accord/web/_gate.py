"""The gate every request passes: its name, the Host and Origin rules, the token, the headers and one line of log."""

import hashlib
import hmac
import ipaddress
import json
import logging
import secrets
import time
from collections.abc import Sequence
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from accord.errors import UsageError
from accord.web._problems import problem_response

LOG = logging.getLogger("accord.web")
COOKIE = "accord_session"
_OPEN = ("/health", "/sign-in", "/static/page.css", "/static/icon.svg")
_LOOPBACK = {"localhost", "127.0.0.1", "[::1]"}
_TOKEN_LENGTH = 22  # 128 bits in base64
_PAGE_POLICY = (
    "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _PAGE_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Policy:
    """Decides who may ask: under which host names, from which pages, with which token.

    Without a token only loopback names are answered, so a page elsewhere can't reach the server by rebinding its own
    name. With one, addresses written as numbers and the names given are answered too.
    """

    def __init__(self, *, token: str | None, hosts: Sequence[str] = ()) -> None:
        if token is not None and len(token) < _TOKEN_LENGTH:
            raise UsageError(
                f"web: the access token must have at least {_TOKEN_LENGTH} characters, not {len(token)}.\n"
                "Make one with: python -c 'import secrets; print(secrets.token_urlsafe(32))'"
            )
        if hosts and token is None:
            raise UsageError("web: answering under other host names needs an access token.")
        self._token = None if token is None else token.encode()
        self._hosts = _LOOPBACK | {host.lower() for host in hosts}

    @property
    def asks_for_token(self) -> bool:
        """Whether requests must carry a token."""
        return self._token is not None

    def session(self) -> str:
        """What the cookie of a signed-in browser holds: made from the token, but not the token."""
        return hmac.new(self._token or b"", b"accord session", hashlib.sha256).hexdigest()

    def knows(self, token: str) -> bool:
        """Whether this is the token, found out in constant time."""
        return self._token is not None and hmac.compare_digest(self._token, token.encode(errors="replace"))

    def refusal(self, method: str, path: str, headers: Headers) -> str | None:
        """The code of the problem with a request, or nothing."""
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self._answers(hosts[0]):
            return "wrong_host"
        computes = method not in ("GET", "HEAD") or path.startswith("/api/")
        if computes and not _same_site(headers, hosts[0]):
            return "cross_site"
        if self._token is not None and path not in _OPEN and not self._signed_in(headers):
            return "sign_in"
        return None

    def _answers(self, host: str) -> bool:
        name, _, port = (
            host.lower().rpartition(":") if not host.endswith("]") and ":" in host else (host.lower(), "", "")
        )
        if port and not (port.isascii() and port.isdigit()):
            return False
        return name in self._hosts or (self._token is not None and _is_address(name))

    def _signed_in(self, headers: Headers) -> bool:
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self.knows(token.strip()):
            return True
        cookie = cookie_parser(headers.get("cookie", "")).get(COOKIE, "")
        return hmac.compare_digest(self.session().encode(), cookie.encode(errors="replace"))


def _is_address(name: str) -> bool:
    # a name can be rebound to another address, a number can't
    try:
        ipaddress.ip_address(name.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return True


def _same_site(headers: Headers, host: str) -> bool:
    # neither header: not a browser, so nobody's cookies are being borrowed
    if headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
        return False
    origin = headers.get("origin")
    if origin is None:
        return True
    parts = urlsplit(origin)
    return parts.scheme in ("http", "https") and parts.netloc.lower() == host.lower()


class Gate:
    """ASGI middleware: lets pass what the policy allows, and turns whatever goes wrong inside into one plain answer."""

    def __init__(self, app: ASGIApp, *, policy: Policy) -> None:
        self._app = app
        self._policy = policy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = secrets.token_hex(8)
        scope.setdefault("state", {})["request_id"] = request_id
        started = time.monotonic()
        status = 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-Id"] = request_id
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            await (self._refusal(scope, request_id) or self._app)(scope, receive, send_with_headers)
        except Exception:
            LOG.exception("request %s failed", request_id)
            if status:  # half an answer is on its way: let the server cut the connection
                raise
            await problem_response("internal", request_id)(scope, receive, send_with_headers)
        finally:
            _log(scope, request_id, status, time.monotonic() - started)

    def _refusal(self, scope: Scope, request_id: str) -> Response | None:
        code = self._policy.refusal(scope["method"], scope["path"], Headers(scope=scope))
        if code == "sign_in" and scope["method"] == "GET" and scope["path"] in ("/", "/report"):
            return RedirectResponse("/sign-in", status_code=303)
        return problem_response(code, request_id) if code else None


def _log(scope: Scope, request_id: str, status: int, seconds: float) -> None:
    # JSON escapes control characters, so that nobody can write lines into the log; the query string is left out
    facts = {"id": request_id, "method": scope["method"], "path": scope["path"][:200], "status": status}
    LOG.info("%s", json.dumps({**facts, "milliseconds": round(seconds * 1000, 1)}))
