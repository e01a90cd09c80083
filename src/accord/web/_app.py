"""Puts the service together: the page, the report, sign-in, the API behind one gate."""

import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from urllib.parse import parse_qs

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, RedirectResponse
from starlette.exceptions import HTTPException

from accord.web._api import Api
from accord.web._body import Uploads
from accord.web._gate import COOKIE, LOG, Gate, Policy
from accord.web._limits import Limits
from accord.web._page import STATIC_TYPES, readable, render, static_file, static_stamp
from accord.web._problems import Refused, problem_response
from accord.web._service import SearchService

_SAMPLE = 28
# The report is one file with its style and script inside. In a sandbox its script reaches neither this API nor cookies.
_REPORT_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:; font-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "sandbox allow-scripts allow-popups allow-downloads allow-top-navigation-by-user-activation"
)


def create_app(
    search: SearchService,
    *,
    report_html: str | None,
    token: str | None = None,
    limits: Limits | None = None,
    hosts: Sequence[str] = (),
) -> FastAPI:
    """The web application over a search service.

    With a `token` every request but `/health` must carry it, as `Authorization: Bearer …` or by signing in on the page.
    Only then are other names than loopback ones answered: addresses written as numbers, and the names in `hosts`.
    Raises UsageError for a token under 128 bits, or for hosts without a token.
    """
    limits = limits or Limits()
    policy = Policy(token=token, hosts=hosts)
    key = secrets.token_hex(4)
    api = Api(search, limits, has_report=report_html is not None, key=key)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        api.close()

    app = FastAPI(title="accord", version="1", docs_url=None, redoc_url=None, redirect_slashes=False, lifespan=lifespan)
    app.state.limits = limits
    app.state.asks_for_token = policy.asks_for_token
    app.include_router(api.router())
    app.include_router(_page_routes(search, report_html, key, limits), include_in_schema=False)
    app.include_router(_sign_in_routes(policy, limits), include_in_schema=False)
    _tell_problems(app, limits)
    app.add_middleware(Gate, policy=policy)
    return app


def _page_routes(search: SearchService, report_html: str | None, key: str, limits: Limits) -> APIRouter:
    router = APIRouter()
    report = None if report_html is None else report_html.encode("utf-8", "replace")

    @router.get("/")
    async def page() -> HTMLResponse:
        sample = [(id, readable(search.label_of(id))) for id in search.sample(_SAMPLE)]
        facts = {"title": readable(search.title), "model": readable(search.model)}
        counts = {"items": search.size, "classes": search.classes, "dim": search.dim}
        text = render(
            "page.html", **facts, **counts, sample=sample, key=key, has_report=report is not None, limits=limits
        )
        return HTMLResponse(text)

    @router.get("/report")
    async def show_report() -> HTMLResponse:
        if report is None:
            raise Refused("no_report")
        return HTMLResponse(report, headers={"Content-Security-Policy": _REPORT_POLICY})

    @router.get("/static/{name}")
    async def static(name: str, v: str = "") -> Response:
        if name not in STATIC_TYPES:
            raise Refused("no_such_page")
        keep = "public, max-age=31536000, immutable" if v == static_stamp() else "no-cache"
        return Response(static_file(name), media_type=STATIC_TYPES[name], headers={"Cache-Control": keep})

    @router.get("/favicon.ico")
    async def icon() -> RedirectResponse:
        return RedirectResponse("/static/icon.svg", status_code=308)

    return router


def _sign_in_routes(policy: Policy, limits: Limits) -> APIRouter:
    router = APIRouter()
    uploads = Uploads(limits)

    @router.get("/sign-in")
    async def ask() -> Response:
        if not policy.asks_for_token:
            return RedirectResponse("/", status_code=303)
        return HTMLResponse(render("sign_in.html", wrong=False))

    @router.post("/sign-in")
    async def sign_in(request: Request) -> Response:
        async with uploads.body(request, limit=4096) as body:
            token = _token_field(body)
        if not policy.knows(token):
            return HTMLResponse(render("sign_in.html", wrong=True), status_code=401)
        response = RedirectResponse("/", status_code=303)
        secure = request.url.scheme == "https"
        response.set_cookie(COOKIE, policy.session(), httponly=True, samesite="strict", secure=secure)
        return response

    return router


def _token_field(body: bytes) -> str:
    try:
        fields = parse_qs(body.decode("ascii", "replace"), max_num_fields=4)
    except ValueError as error:
        raise Refused("bad_request") from error
    return fields.get("token", [""])[0].strip()


def _tell_problems(app: FastAPI, limits: Limits) -> None:
    megabytes = f"{limits.body_bytes / 1e6:g}"
    places = {"megabytes": megabytes, "megapixels": limits.megapixels, "body_seconds": f"{limits.body_seconds:g}"}

    async def refused(request: Request, error: Exception) -> Response:
        code = error.code if isinstance(error, Refused) else "wrong_parameter"
        if error.__cause__ is not None:
            LOG.info("request %s refused: %s: %r", request.state.request_id, code, error.__cause__)
        return problem_response(code, request.state.request_id, **places)

    async def http_error(request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        code = {404: "no_such_page", 405: "method_not_allowed"}.get(status, "bad_request")
        response = problem_response(code, request.state.request_id, **places)
        if isinstance(error, HTTPException) and error.headers and "Allow" in error.headers:
            response.headers["Allow"] = error.headers["Allow"]
        return response

    app.add_exception_handler(Refused, refused)
    app.add_exception_handler(RequestValidationError, refused)
    app.add_exception_handler(HTTPException, http_error)
