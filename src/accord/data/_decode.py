"""The one place where bytes become pixels: formats, limits, orientation and colour modes are settled here."""

from contextlib import nullcontext
from io import BytesIO
from threading import Lock
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from accord.data._names import printable
from accord.data._quiet import Quiet
from accord.errors import ImageError
from accord.types import Preprocessing

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "PPM", "GIF")
LIMIT_PIXELS = 50_000_000
_QUIET = Quiet()
_GIANT_PIXELS = 10_000_000
_ONE_GIANT = Lock()  # 50 million pixels pass through 600 MB while decoded: one thread at a time, not all of them
_ORIENTATION = 0x0112
_SIXTEEN_BIT = ("I;16", "I;16B", "I;16L", "I;16N")
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_IMPOSTORS = {
    b"%PDF": "a PDF document",
    b"%!PS": "a PostScript document",
    b"<svg": "an SVG drawing",
    b"<?xml": "an XML document (SVG?)",
    b"<!DOC": "a web page",
    b"<html": "a web page",
    b"8BPS": "a Photoshop document",
    b"PK\x03\x04": "a zip archive",
}


class Facts(NamedTuple):
    """What an image's header says; `frames` is true if there is more than the first picture, which alone is used."""

    format: str
    mode: str
    width: int
    height: int
    frames: bool


class _RefusedError(Exception):
    """Why an image is not read, before its name is added."""


def decode(data: bytes, *, name: str, limit_pixels: int = LIMIT_PIXELS, at_least: int = 0) -> Image.Image:
    """Turn the bytes of one image file into an upright RGB picture.

    JPEG, PNG, WebP, BMP, TIFF, PPM/PGM and GIF are read, by content, whatever the name's ending says; of an animation
    the first frame. The size is read from the header and refused beyond `limit_pixels` before anything is decoded.
    EXIF orientation is applied; transparency is laid over white; 16-bit grey is divided by 257; CMYK is converted;
    floating point and 32-bit images have no known scale and are refused. A JPEG may be decoded at a half, quarter or
    eighth of its size so long as its sides keep `at_least` pixels (0: always whole).

    Raises ImageError naming the file and the reason.
    """
    try:
        with _QUIET, _opened(data, limit_pixels) as image:
            if at_least and image.format in ("JPEG", "MPO"):
                image.draft(None, (at_least, at_least))
            with _ONE_GIANT if image.width * image.height > _GIANT_PIXELS else nullcontext():
                image.load()
                return _upright(_rgb(image), _orientation(image))
    except _RefusedError as refusal:
        raise ImageError(f"{printable(name)}: {refusal}") from None
    except Exception as error:  # Pillow raises half a dozen unrelated types on damaged files
        raise ImageError(f"{printable(name)}: {_reason(error)}") from error


def facts(data: bytes, *, name: str, limit_pixels: int = LIMIT_PIXELS) -> Facts:
    """What the header of an image file says, without decoding its pixels. Raises ImageError like `decode`."""
    try:
        with _QUIET, _opened(data, limit_pixels) as image:
            turned = _orientation(image) >= 5 and image.format != "TIFF"  # whose size Pillow has turned already
            width, height = image.size[::-1] if turned else image.size
            return Facts(image.format or "", image.mode, width, height, bool(getattr(image, "is_animated", False)))
    except _RefusedError as refusal:
        raise ImageError(f"{printable(name)}: {refusal}") from None
    except Exception as error:  # as above
        raise ImageError(f"{printable(name)}: {_reason(error)}") from error


def prepare(image: Image.Image, preprocessing: Preprocessing) -> UInt8[Tensor, "3 size size"]:
    """Bring a picture to `size` × `size` pixels as `preprocessing.fit` says: crop, pad (white borders) or stretch."""
    size, (width, height) = preprocessing.size, image.size
    whole = (0.0, 0.0, float(width), float(height))
    if preprocessing.fit == "stretch":
        square = _resized(image, (size, size), whole)
    elif preprocessing.fit == "pad":
        scale = size / max(width, height)
        inner = (max(1, round(width * scale)), max(1, round(height * scale)))
        square = Image.new("RGB", (size, size), "white")
        square.paste(_resized(image, inner, whole), ((size - inner[0]) // 2, (size - inner[1]) // 2))
    else:
        side = min(width, height)
        left, top = (width - side) / 2, (height - side) / 2
        square = _resized(image, (size, size), (left, top, left + side, top + side))
    return torch.from_numpy(np.array(square)).permute(2, 0, 1).contiguous()


def load_image(
    data: bytes,
    preprocessing: Preprocessing,
    *,
    name: str,
    box: tuple[int, int, int, int] | None = None,
    limit_pixels: int = LIMIT_PIXELS,
) -> UInt8[Tensor, "3 size size"]:
    """From the bytes of a file to a network's input: the same steps for training, index, query and page.

    Use this, not `decode` and `prepare` by hand, wherever an embedding will be compared with others: big JPEGs are
    decoded at a fraction of their size, which is faster and moves single pixels by a grey level or two. `box` (left,
    top, right, bottom in pixels of the upright image) is cut out first.
    """
    if box is None:
        return prepare(
            decode(data, name=name, limit_pixels=limit_pixels, at_least=2 * preprocessing.size), preprocessing
        )
    image = decode(data, name=name, limit_pixels=limit_pixels)
    left, top = max(0, box[0]), max(0, box[1])
    right, bottom = min(image.width, box[2]), min(image.height, box[3])
    if right <= left or bottom <= top:
        raise ImageError(
            f"{printable(name)}: the box {box} holds no pixel of the {image.width} × {image.height} image."
        )
    return prepare(image.crop((left, top, right, bottom)), preprocessing)


def _opened(data: bytes, limit_pixels: int) -> Image.Image:
    """An image of an allowed format and size whose pixels are not decoded yet."""
    if not data:
        raise _RefusedError("the file is empty (0 bytes).")
    try:
        image = Image.open(BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError:
        start = data.lstrip()[:5]
        known = next((what for magic, what in _IMPOSTORS.items() if start.startswith(magic)), None)
        raise _RefusedError(f"this is {known or 'no image'}; accord reads {', '.join(FORMATS)}.") from None
    except Image.DecompressionBombError:
        raise _RefusedError(f"the image has more than {limit_pixels} pixels. Make it smaller.") from None
    width, height = image.size
    if width * height > limit_pixels:
        image.close()
        raise _RefusedError(f"{width} × {height} pixels are more than the {limit_pixels} allowed. Make it smaller.")
    return image


def _reason(error: Exception) -> str:
    """Plain words for what Pillow met. Its own texts are not passed on: some hold addresses of memory."""
    if isinstance(error, MemoryError):
        return "there is not enough memory to decode it."
    if isinstance(error, EOFError) or "truncated" in str(error).lower():
        return "the file is cut short (truncated)."
    return "the image is damaged."


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; damaged EXIF counts as none."""
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # whatever damaged EXIF raises, the pixels are still good
        return 1
    return value if value in range(1, 9) else 1


def _upright(image: Image.Image, orientation: int) -> Image.Image:
    turn = _TURNS.get(orientation)
    return image if turn is None else image.transpose(turn)


def _rgb(image: Image.Image) -> Image.Image:
    """One rule per colour mode; a mode without a rule is refused."""
    mode = image.mode
    if mode in _SIXTEEN_BIT or (mode == "I" and image.format in ("PNG", "PPM")):
        grey = (np.asarray(image).astype(np.float64) / 257).round().clip(0, 255)
        return Image.fromarray(grey.astype(np.uint8)).convert("RGB")
    if mode in ("I", "F"):
        kind = "floating-point" if mode == "F" else "32-bit"
        raise _RefusedError(f"{kind} pixels have no known scale. Save it with 8 or 16 bits per channel.")
    if mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        over = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", over.size, "white"), over).convert("RGB")
    if mode in ("1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr", "HSV"):
        return image.convert("RGB") if mode != "RGB" else image.copy()
    raise _RefusedError(f"the colour mode '{mode}' is not known to accord. Save it as RGB.")


def _resized(image: Image.Image, size: tuple[int, int], box: tuple[float, float, float, float]) -> Image.Image:
    # shrinking by a whole factor first costs a fraction and is invisible from a gap of 3 on
    return image.resize(size, Image.Resampling.BICUBIC, box=box, reducing_gap=3.0)
