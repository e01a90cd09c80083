"""A real little search over the shipped images: features are their shrunken pixels, the search is exact."""

import asyncio
import io
import zipfile
from collections.abc import Callable
from importlib.resources import files
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi import FastAPI
from PIL import Image

from accord.errors import ImageError
from accord.web import Hit, Running, create_app, serve

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
PIXELS = 25_000_000


class Gallery:
    """Some views of the shipped objects; an embedding is the image at 12 × 12 pixels, centred, unit length."""

    title = "objects, by their pixels"
    model = "shrunken pixels"
    threshold: float | None = None

    def __init__(self) -> None:
        with zipfile.ZipFile(str(files("accord").joinpath("data/objects.zip"))) as archive:
            names = sorted(name for name in archive.namelist() if name.endswith(("0.jpg", "3.jpg", "6.jpg", "9.jpg")))
            self.paths = names
            self.data = [archive.read(name) for name in names]
        self.embeddings = np.stack([self.embed(data) for data in self.data])
        self.size, self.dim = self.embeddings.shape
        self.classes = len({self.label_of(id) for id in range(self.size)})

    def embed(self, data: bytes) -> np.ndarray:
        pixels = np.asarray(self.decode(data).resize((12, 12)), dtype=np.float64).ravel()
        pixels -= pixels.mean()
        return pixels / max(np.linalg.norm(pixels), 1e-9)

    def decode(self, data: bytes) -> Image.Image:
        try:
            image = Image.open(io.BytesIO(data), formats=FORMATS)
            if image.width * image.height > PIXELS:
                raise ImageError("the image is too large")
            return image.convert("RGB")
        except OSError as error:
            raise ImageError(f"upload: {error}") from error

    def by_image(self, data: bytes, k: int) -> list[Hit]:
        return self.nearest(self.embed(data), k, exclude=-1)

    def by_id(self, id: int, k: int) -> list[Hit]:
        return self.nearest(self.embeddings[id], k, exclude=id)

    def nearest(self, query: np.ndarray, k: int, *, exclude: int) -> list[Hit]:
        scores = self.embeddings @ query
        order = [id for id in np.argsort(-scores, kind="stable").tolist() if id != exclude][:k]
        return [Hit(id, self.label_of(id), float(scores[id]), self.paths[id]) for id in order]

    def thumbnail(self, id: int, size: int) -> bytes:
        return self.preview(self.data[id], size)

    def preview(self, data: bytes, size: int) -> bytes:
        image = self.decode(data)
        image.thumbnail((size, size))
        out = io.BytesIO()
        image.save(out, "JPEG", quality=88)
        return out.getvalue()

    def sample(self, n: int) -> list[int]:
        return list(range(0, self.size, self.size // n))[:n]

    def label_of(self, id: int) -> str:
        return self.paths[id].split("/")[0]


Call = Callable[..., httpx.Response]


@pytest.fixture(scope="session")
def gallery() -> Gallery:
    return Gallery()


@pytest.fixture(scope="session")
def app(gallery: Gallery) -> FastAPI:
    return create_app(
        gallery, report_html="<!doctype html><title>Report</title><h1>The report</h1><a href='/'>back</a>"
    )


def call_app(app: FastAPI, method: str, path: str, **options: Any) -> httpx.Response:
    """One request to an app, without a socket."""

    async def ask() -> httpx.Response:
        host = options.pop("host", "127.0.0.1:8000")
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=f"http://{host}") as client:
            return await client.request(method, path, **options)

    return asyncio.run(ask())


@pytest.fixture(scope="session")
def call() -> Call:
    return call_app


@pytest.fixture
def running(app: FastAPI, serving: Callable[[FastAPI], Running]) -> Running:
    return serving(app)


@pytest.fixture
def serving() -> Any:
    """Starts apps on free ports, each in a thread, and stops them in the end."""
    import threading

    started: list[tuple[Running, threading.Thread]] = []

    def start(app: FastAPI) -> Running:
        answers: list[Running] = []
        up = threading.Event()

        def ready(running: Running) -> None:
            answers.append(running)
            up.set()

        thread = threading.Thread(target=serve, args=(app, "127.0.0.1", 0), kwargs={"ready": ready})
        thread.start()
        assert up.wait(20)
        started.append((answers[0], thread))
        return answers[0]

    yield start
    for server, thread in started:
        server.stop()
        thread.join(20)
        assert not thread.is_alive()
