"""Every refusal a client can meet: a fixed catalogue of texts, so that no path, address or traceback ever leaves."""

from typing import NamedTuple

from pydantic import BaseModel, Field
from starlette.responses import JSONResponse


class Problem(NamedTuple):
    """How one kind of refusal is told: its HTTP status and a text for people, with places for the limits."""

    status: int
    text: str


PROBLEMS = {
    "bad_request": Problem(400, "This request can't be understood."),
    "busy": Problem(503, "Too many requests are waiting. Try again in a moment."),
    "cross_site": Problem(403, "Requests from other pages are refused."),
    "gone": Problem(400, "The connection was closed before the image had arrived."),
    "image_refused": Problem(
        422,
        "This file can't be read as an image. "
        "JPEG, PNG, WebP, GIF, BMP, TIFF and PPM work, up to {megapixels} megapixels.",
    ),
    "internal": Problem(500, "Something went wrong here. The log of the server knows more under this request id."),
    "item_unreadable": Problem(404, "The picture of this item can't be read any more."),
    "method_not_allowed": Problem(405, "This address does not take this kind of request."),
    "no_embedding": Problem(422, "The model gives no usable embedding for this image."),
    "no_such_item": Problem(404, "There is no item with this id."),
    "no_such_page": Problem(404, "There is nothing at this address."),
    "no_report": Problem(404, "This run has no report."),
    "not_an_image": Problem(415, "Send the bytes of one image, with an image type as Content-Type."),
    "sign_in": Problem(401, "This server asks for its access token."),
    "too_large": Problem(413, "This file is too large. Up to {megabytes} MB are taken."),
    "too_late": Problem(503, "The answer took too long and was dropped. Try again in a moment."),
    "too_slow": Problem(408, "The upload took longer than {body_seconds} seconds and was dropped."),
    "wrong_host": Problem(421, "This server does not answer under this name."),
    "wrong_parameter": Problem(422, "A parameter of this request is missing or out of range."),
}
_RETRY = {"busy": "2", "too_late": "5"}
# What the client goes on sending is not read any more, so the connection can't be used again.
_CLOSING = {"too_large", "too_slow", "busy", "not_an_image", "cross_site", "gone"}


class Refused(Exception):  # noqa: N818 - a refusal on purpose, answered and never shown as an error
    """Ends a request with one of the catalogue's problems."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class ProblemBody(BaseModel):
    """What every refused request gets."""

    code: str = Field(description="One of a fixed list of names.")
    text: str = Field(description="What went wrong, for people.")
    request_id: str = Field(description="The name of this request in the server's log.")


def problem_response(code: str, request_id: str, **places: object) -> JSONResponse:
    """The answer to a refused request, its text filled with the limits."""
    problem = PROBLEMS[code]
    headers = {}
    if code in _RETRY:
        headers["Retry-After"] = _RETRY[code]
    if code in _CLOSING:
        headers["Connection"] = "close"
    if code == "sign_in":
        headers["WWW-Authenticate"] = "Bearer"
    body = ProblemBody(code=code, text=problem.text.format(**places), request_id=request_id)
    return JSONResponse(body.model_dump(), status_code=problem.status, headers=headers)
