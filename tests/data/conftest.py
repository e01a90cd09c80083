"""Small trees of real image files, made where a test needs them."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

Tree = Callable[..., Path]


@pytest.fixture
def picture() -> Callable[..., Image.Image]:
    """A noisy RGB picture, the same for the same number."""

    def make(number: int = 0, size: tuple[int, int] = (16, 12)) -> Image.Image:
        pixels = np.random.default_rng(number).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
        return Image.fromarray(pixels)

    return make


@pytest.fixture
def encoded(picture: Callable[..., Image.Image]) -> Callable[..., bytes]:
    """The bytes of a picture in a format."""

    def make(number: int = 0, kind: str = "PNG", size: tuple[int, int] = (16, 12), **options: object) -> bytes:
        buffer = io.BytesIO()
        picture(number, size).save(buffer, kind, **options)
        return buffer.getvalue()

    return make


@pytest.fixture
def tree(tmp_path: Path, encoded: Callable[..., bytes]) -> Tree:
    """Writes a folder with an image at each path given, every image different; returns the folder."""

    def make(*paths: str, root: str = "images") -> Path:
        folder = tmp_path / root
        folder.mkdir(exist_ok=True)
        for number, path in enumerate(paths):
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(encoded(number))
        return folder

    return make
