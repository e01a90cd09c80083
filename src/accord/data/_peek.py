"""Small looks at images outside a training run: their sizes, loose files as a table, pixels as JPEG for a page."""

import hashlib
import io
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from accord.data._decode import facts
from accord.data._names import EXTENSIONS, bytes_of, extension
from accord.data._sources import open_source
from accord.types import Item, Manifest


def shorter_sides(manifest: Manifest, *, most: int = 64) -> list[int]:
    """The shorter side in pixels of up to `most` images or their boxes, evenly picked; only headers are read."""
    source = open_source(manifest.root)
    step = max(1, len(manifest) // most)
    sides = []
    for item in manifest.items[::step]:
        if item.box is None:
            header = facts(source.read(item.path), name=item.path)
            sides.append(min(header.width, header.height))
        else:
            left, top, right, bottom = item.box
            sides.append(min(right - left, bottom - top))
    return sides


def loose_images(path: Path) -> Manifest | None:
    """One image file, or a folder with images and no sub-folder, as a manifest without labels; else None."""
    if path.is_file() and extension(path.name) in EXTENSIONS:
        files = [path]
    elif path.is_dir() and not any(entry.is_dir() and not entry.name.startswith(".") for entry in path.iterdir()):
        found = (entry for entry in path.iterdir() if entry.is_file() and not entry.name.startswith("."))
        files = sorted(
            (entry for entry in found if extension(entry.name) in EXTENSIONS), key=lambda p: bytes_of(p.name)
        )
    else:
        return None
    if not files:
        return None
    root = path if path.is_dir() else path.parent
    source = open_source(root)
    digests = (hashlib.sha256(source.read(file.name)).hexdigest() for file in files)
    items = (
        Item(number, file.name, "", digest) for number, (file, digest) in enumerate(zip(files, digests, strict=True))
    )
    return Manifest(path.stem, root, tuple(items))


def encode_jpeg(pixels: UInt8[Tensor, "3 height width"], *, quality: int = 85) -> bytes:
    """Pixels as the bytes of a JPEG file."""
    buffer = io.BytesIO()
    picture = Image.fromarray(np.ascontiguousarray(pixels.permute(1, 2, 0).cpu().numpy()))
    picture.save(buffer, format="JPEG", quality=quality)
    return buffer.getvalue()
