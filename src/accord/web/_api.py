"""The routes that answer in JSON or JPEG: search by image, neighbours of an item, thumbnails, facts and health."""

import base64
import time
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import BaseModel

from accord.errors import DataError, NumericError, ResourceError
from accord.types import Hit
from accord.web._body import Uploads
from accord.web._lanes import Lane
from accord.web._limits import NEIGHBOURS_MAX, THUMBNAIL_SIDES, Limits
from accord.web._page import readable
from accord.web._problems import ProblemBody, Refused
from accord.web._service import SearchService

Answer = TypeVar("Answer")
PREVIEW_SIDE = 320
K = Annotated[int, Query(ge=1, le=NEIGHBOURS_MAX, description="How many neighbours.")]
ItemId = Annotated[int, Path(ge=0, le=2**63 - 1, description="An item's id in the gallery.")]
Side = Annotated[int, Query(ge=THUMBNAIL_SIDES[0], le=THUMBNAIL_SIDES[1], description="Pixels at most.")]
_IMAGE_BODY = {"content": {"image/*": {"schema": {"type": "string", "format": "binary"}}}, "required": True}


class Neighbour(BaseModel):
    """One item near the query; a larger score is closer."""

    id: int
    label: str
    score: float
    path: str


class SearchQuery(BaseModel):
    """What was searched with: an item of the gallery, or an uploaded image shown as a small JPEG."""

    id: int | None = None
    label: str | None = None
    preview: str | None = None


class SearchAnswer(BaseModel):
    """The neighbours of one query, best first. It is `known` if the best one scores at least `threshold`."""

    query: SearchQuery
    neighbours: list[Neighbour]
    known: bool | None
    threshold: float | None
    far: float | None
    seconds: float


class Info(BaseModel):
    """What is being served."""

    title: str
    items: int
    classes: int
    dim: int
    model: str
    threshold: float | None
    far: float | None
    report: bool
    body_bytes: int
    neighbours_max: int = NEIGHBOURS_MAX


class Health(BaseModel):
    """Says that the server answers."""

    status: str = "ok"


class Api:
    """The handlers, with the service they ask and the lanes they wait in: one for searches, one for pictures."""

    def __init__(self, service: SearchService, limits: Limits, *, has_report: bool, key: str) -> None:
        self._service = service
        self._limits = limits
        self._key = key
        self._uploads = Uploads(limits)
        self._searches = Lane("search", queue=limits.queue)
        self._pictures = Lane("pictures", queue=2 * limits.queue)
        self._has_report = has_report

    def router(self) -> APIRouter:
        """The routes under which the handlers are reached."""
        problems: dict[int | str, dict[str, Any]] = {
            status: {"model": ProblemBody} for status in (400, 401, 403, 404, 408, 413, 415, 421, 422, 500, 503)
        }
        router = APIRouter(responses=problems)
        router.get("/health")(self.health)
        router.get("/api/info")(self.info)
        router.post("/api/search", openapi_extra={"requestBody": _IMAGE_BODY})(self.search)
        router.get("/api/items/{id}/neighbours")(self.neighbours)
        jpeg: dict[int | str, dict[str, Any]] = {200: {"content": {"image/jpeg": {}}}}
        router.get("/api/items/{id}/thumbnail", response_class=Response, responses=jpeg)(self.thumbnail)
        return router

    def close(self) -> None:
        """Drop what waits in the lanes."""
        self._searches.close()
        self._pictures.close()

    async def health(self) -> Health:
        """Say that the server answers, whatever the model is busy with."""
        return Health()

    async def info(self) -> Info:
        """Say what is being served."""
        service = self._service
        return Info(
            title=readable(service.title),
            items=service.size,
            classes=service.classes,
            dim=service.dim,
            model=readable(service.model),
            threshold=self._threshold,
            far=self._far,
            report=self._has_report,
            body_bytes=self._limits.body_bytes,
        )

    async def search(self, request: Request, k: K = 24) -> SearchAnswer:
        """Find the items nearest to an image, sent as the raw body."""
        if not request.headers.get("content-type", "").lower().startswith("image/"):
            raise Refused("not_an_image")
        started = time.monotonic()
        async with self._uploads.body(request) as data:

            def work() -> tuple[list[Hit], bytes]:
                return self._service.by_image(data, k), self._service.preview(data, PREVIEW_SIDE)

            hits, picture = await self._ask(self._searches, request, work, spoiled="image_refused")
        preview = "data:image/jpeg;base64," + base64.b64encode(picture).decode()
        return self._answer(SearchQuery(preview=preview), hits, started)

    async def neighbours(self, request: Request, id: ItemId, k: K = 24) -> SearchAnswer:
        """Find the items nearest to an item of the gallery."""
        started = time.monotonic()
        hits = await self._ask(self._searches, request, lambda: self._service.by_id(id, k))
        return self._answer(SearchQuery(id=id, label=readable(self._service.label_of(id))), hits, started)

    async def thumbnail(self, request: Request, id: ItemId, size: Side = 160, v: str = "") -> Response:
        """Show an item as a small JPEG. With the page's key as `v` browsers may keep it."""
        data = await self._ask(self._pictures, request, lambda: self._service.thumbnail(id, size))
        keep = "private, max-age=86400, immutable" if v == self._key else "no-store"
        return Response(data, media_type="image/jpeg", headers={"Cache-Control": keep})

    async def _ask(
        self, lane: Lane, request: Request, work: Callable[[], Answer], *, spoiled: str = "item_unreadable"
    ) -> Answer:
        try:
            return await lane.answer(request, work, seconds=self._limits.answer_seconds)
        except LookupError as error:
            raise Refused("no_such_item") from error
        except DataError as error:
            raise Refused(spoiled) from error
        except NumericError as error:
            raise Refused("no_embedding") from error
        except (ResourceError, MemoryError) as error:
            raise Refused("busy") from error

    def _answer(self, query: SearchQuery, hits: list[Hit], started: float) -> SearchAnswer:
        found = [
            Neighbour(id=hit.id, label=readable(hit.label), score=hit.score, path=readable(hit.path)) for hit in hits
        ]
        threshold, seconds = self._threshold, time.monotonic() - started
        known = None if threshold is None else bool(hits) and hits[0].score >= threshold
        return SearchAnswer(
            query=query, neighbours=found, known=known, threshold=threshold, far=self._far, seconds=seconds
        )

    @property
    def _threshold(self) -> float | None:
        return getattr(self._service, "threshold", None)

    @property
    def _far(self) -> float | None:
        return getattr(self._service, "far", None)
