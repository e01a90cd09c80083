"""Whatever the file, decoding gives the right pixels or one error that names it."""

import io
import re
import struct
import threading
import time
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile

from accord.data import decode, facts, load_image, prepare
from accord.errors import ImageError
from accord.types import Preprocessing

Encode = Callable[..., bytes]


def _bytes(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _gradient(channels: int = 3) -> np.ndarray:
    x, y = np.meshgrid(np.linspace(0, 255, 64), np.linspace(0, 255, 48))
    return np.stack([x, y, (x + y) / 2][:channels], axis=-1).round().astype(np.uint8)


def _seen_through(grey: Image.Image) -> Image.Image:
    """Black behind a veil of white as thick as the picture is light: grey again once laid over white."""
    veil = Image.new("RGBA", grey.size, "black")
    veil.putalpha(grey.point(lambda value: 255 - value))
    return veil


GREY = Image.fromarray(_gradient(1)[..., 0])
COLOUR = Image.fromarray(_gradient())
TWO = COLOUR.transpose(Image.Transpose.ROTATE_180)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("JPEG", {"quality": 95, "subsampling": 0}),
        ("PNG", {}),
        ("WEBP", {"lossless": True}),
        ("BMP", {}),
        ("TIFF", {}),
        ("PPM", {}),
        ("PNG", {"save_all": True, "append_images": [TWO]}),
        ("WEBP", {"save_all": True, "append_images": [TWO], "lossless": True}),
        ("TIFF", {"save_all": True, "append_images": [TWO]}),
        ("MPO", {"save_all": True, "append_images": [TWO], "quality": 95, "subsampling": 0}),
    ],
)
def test_a_gradient_comes_back_from_every_format(kind: str, options: dict[str, object]) -> None:
    data = _bytes(COLOUR, kind, **options)
    image = decode(data, name="x")
    assert image.mode == "RGB"
    assert np.abs(np.asarray(image).astype(float) - _gradient()).mean() <= 2
    assert facts(data, name="x")[:4] == (kind, "RGB", 64, 48)
    assert facts(data, name="x").frames == ("save_all" in options)


def _sixteen_bit(kind: str) -> bytes:
    return _bytes(Image.fromarray(_gradient(1)[..., 0].astype(np.uint16) * 257), kind)


@pytest.mark.parametrize(
    ("data", "mode"),
    [
        (_bytes(GREY, "PNG"), "L"),
        (_bytes(GREY, "PPM"), "L"),
        (_bytes(GREY, "GIF"), "P"),
        (_sixteen_bit("PNG"), "I;16"),
        (_sixteen_bit("TIFF"), "I;16"),
        (_sixteen_bit("PPM"), "I"),
        (_bytes(GREY.convert("CMYK"), "JPEG", quality=95), "CMYK"),
        (_bytes(GREY.convert("CMYK"), "TIFF"), "CMYK"),
        (_bytes(GREY.convert("RGB").convert("YCbCr"), "TIFF"), "YCbCr"),
        (_bytes(GREY.convert("P"), "PNG"), "P"),
        (_bytes(GREY.convert("LA"), "PNG"), "LA"),
        (_bytes(GREY.convert("RGBA"), "PNG"), "RGBA"),
        (_bytes(_seen_through(GREY), "WEBP", lossless=True, exact=True), "RGBA"),
    ],
)
def test_a_grey_gradient_comes_back_from_every_mode(data: bytes, mode: str) -> None:
    assert facts(data, name="x").mode == mode
    pixels = np.asarray(decode(data, name="x")).astype(float)
    assert np.abs(pixels - _gradient(1)).mean() <= 2


def test_one_bit_becomes_black_and_white() -> None:
    pixels = np.asarray(decode(_bytes(GREY.convert("1"), "PNG"), name="x"))
    assert sorted(np.unique(pixels)) == [0, 255]


def test_transparency_is_laid_over_white_whatever_hides_below() -> None:
    hidden = Image.new("RGBA", (8, 8), (255, 0, 0, 0))
    assert (np.asarray(decode(_bytes(hidden, "PNG"), name="x")) == 255).all()
    half = Image.new("LA", (8, 8), (0, 128))
    assert np.asarray(decode(_bytes(half, "PNG"), name="x"))[0, 0].tolist() == [127, 127, 127]
    palette = Image.new("P", (8, 8), 1)
    palette.putpalette([0, 0, 0, 9, 9, 9])
    assert (np.asarray(decode(_bytes(palette, "PNG", transparency=1), name="x")) == 255).all()
    assert (np.asarray(decode(_bytes(palette, "GIF", transparency=1), name="x")) == 255).all()
    assert (np.asarray(decode(_bytes(palette, "PNG", transparency=b"\xff\x00"), name="x")) == 255).all()
    key = Image.new("RGB", (8, 8), (1, 2, 3))
    assert (np.asarray(decode(_bytes(key, "PNG", transparency=(1, 2, 3)), name="x")) == 255).all()


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_refuses_pixels_without_a_known_scale(dtype: type) -> None:
    data = _bytes(Image.fromarray(_gradient(1)[..., 0].astype(dtype)), "TIFF")
    with pytest.raises(ImageError, match=r"x\.tif: (floating-point|32-bit) pixels have no known scale"):
        decode(data, name="x.tif")


def test_refuses_a_colour_mode_without_a_rule() -> None:
    with pytest.raises(ImageError, match="the colour mode 'LAB' is not known"):
        decode(_bytes(Image.new("LAB", (8, 8)), "TIFF"), name="x")


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_every_exif_orientation_comes_back_upright(orientation: int, kind: str) -> None:
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # transposes that store the picture the way the tag says
    names = list(Image.Transpose)
    stored = COLOUR if orientation == 1 else COLOUR.transpose(names[undo[orientation]])
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"quality": 95, "subsampling": 0} if kind == "JPEG" else {"lossless": True} if kind == "WEBP" else {}
    data = _bytes(stored, kind, exif=exif, **options)
    pixels = np.asarray(decode(data, name="x")).astype(float)
    assert pixels.shape == (48, 64, 3)
    assert np.abs(pixels - _gradient()).mean() <= 2
    assert facts(data, name="x")[2:4] == (64, 48)


def test_damaged_exif_counts_as_none(encoded: Encode) -> None:
    for exif in (b"Exif\0\0MM\0*\xff\xff\xff\xff", b"Exif\0\0garbage", b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x12\x01"):
        assert decode(encoded(kind="JPEG", exif=exif), name="x").size == (16, 12)
    odd = Image.Exif()
    odd[0x0112] = 77
    assert decode(encoded(kind="JPEG", exif=odd), name="x").size == (16, 12)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "the file is empty"),
        (b"hello", "this is no image; accord reads JPEG"),
        (b"%PDF-1.7", "a PDF document"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "a PostScript document"),
        (b"\n<svg xmlns='http://www.w3.org/2000/svg'/>", "an SVG drawing"),
        (b"<!DOCTYPE html><html></html>", "a web page"),
        (b"P6\n0 5\n255\n", "damaged|no pixels|no image"),
        (_bytes(Image.new("RGB", (8, 8)), "ICO"), "no image"),
        (_bytes(Image.new("RGB", (8, 8)), "TGA"), "no image"),
    ],
)
def test_says_what_is_no_image(data: bytes, reason: str) -> None:
    with pytest.raises(ImageError, match=rf"a/b\.jpg: .*({reason})"):
        decode(data, name="a/b.jpg")


def test_content_decides_and_not_the_name(encoded: Encode) -> None:
    assert decode(encoded(kind="PNG"), name="x.jpg").size == (16, 12)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "PPM", "GIF"])
def test_never_accepts_a_truncated_file(encoded: Encode, kind: str) -> None:
    data = encoded(kind=kind, size=(64, 64))
    for share in (0.1, 0.5, 0.8):
        with pytest.raises(ImageError, match=r"x: (the file is cut short|the image is damaged|this is no image)"):
            decode(data[: int(len(data) * share)], name="x")


def _png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = zlib.compress(b"\0" * 1000)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [7072, 9400, 13300, 20000, 2**31 - 1])
def test_refuses_too_many_pixels_before_decoding(side: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda *_: pytest.fail("it is decoded"))
    for read in (decode, facts):
        with pytest.raises(ImageError, match=r"pixels|no image|damaged"):
            read(_png_header(side, side), name="bomb.png")


def test_the_cap_is_the_callers(encoded: Encode) -> None:
    assert decode(encoded(size=(10, 10)), name="x", limit_pixels=100).size == (10, 10)
    with pytest.raises(ImageError, match="11 × 10 pixels are more than the 100 allowed"):
        decode(encoded(size=(11, 10)), name="x", limit_pixels=100)


def test_pillows_own_warning_about_size_does_not_come_first() -> None:
    with pytest.raises(ImageError, match="10000 × 10000 pixels are more than"):
        decode(_png_header(10000, 10000), name="x")


def test_giants_are_decoded_one_at_a_time(encoded: Encode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("accord.data._decode._GIANT_PIXELS", 100)
    real, together, inside, most = Image.Image.convert, threading.Barrier(2), [0], [0]

    def meet(image: Image.Image, *options: object) -> Image.Image:
        together.wait(60)  # two must be here at once
        return real(image, *options)

    def slow(image: Image.Image, *options: object) -> Image.Image:
        inside[0] += 1
        most[0] = max(most[0], inside[0])
        time.sleep(0.02)
        inside[0] -= 1
        return real(image, *options)

    with ThreadPoolExecutor(3) as pool:
        monkeypatch.setattr(Image.Image, "convert", meet)
        small = list(pool.map(lambda _: decode(_bytes(Image.new("L", (9, 9)), "PNG"), name="x"), range(6)))
        monkeypatch.setattr(Image.Image, "convert", slow)
        big = list(pool.map(lambda _: decode(_bytes(GREY, "PNG"), name="x"), range(6)))
    assert (len(small), len(big), most[0]) == (6, 6, 1)


def test_a_lack_of_memory_is_no_damage(encoded: Encode, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(Image.Image, "convert", fail)
    with pytest.raises(ImageError, match="not enough memory"):
        decode(_bytes(GREY, "PNG"), name="x")


SEEDS = [_bytes(COLOUR.resize((24, 20)), kind) for kind in ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "PPM", "GIF", "MPO")]


def _complaint(read: Callable[..., object], data: bytes) -> str:
    try:
        read(data, name="a/b.jpg")
    except ImageError as error:
        return str(error)
    return "a/b.jpg: fine"


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damage_raises_one_type_that_leaks_nothing(data: st.DataObject) -> None:
    image = bytearray(data.draw(st.sampled_from(SEEDS)))
    for _ in range(data.draw(st.integers(1, 8))):
        image[data.draw(st.integers(0, len(image) - 1))] = data.draw(st.integers(0, 255))
    kept = bytes(image[: data.draw(st.integers(0, len(image)))]) if data.draw(st.booleans()) else bytes(image)
    for read in (decode, facts):
        message = _complaint(read, kept)
        assert message.startswith("a/b.jpg: ")
        assert not re.search(r"0x[0-9a-f]{4}|BytesIO|Traceback|\.py|Error", message)


def test_the_error_can_be_printed_whatever_the_name() -> None:
    with pytest.raises(ImageError) as caught:
        decode(b"", name="a\udcff\n.jpg")
    assert str(caught.value).encode() == b"a\\udcff\\n.jpg: the file is empty (0 bytes)."


def test_crop_takes_the_middle_pad_keeps_all_and_stretch_fills() -> None:
    bars = np.zeros((10, 30, 3), dtype=np.uint8)
    bars[:, :10], bars[:, 10:20], bars[:, 20:] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    image = Image.fromarray(bars)
    crop = prepare(image, Preprocessing(10))
    assert crop.shape == (3, 10, 10)
    assert crop.float().mean(dim=(1, 2)).tolist() == [0, 255, 0]
    pad = prepare(image, Preprocessing(30, "pad"))
    assert (pad[:, :10] == 255).all()
    assert (pad[:, 20:] == 255).all()
    assert torch.equal(pad[:, 10:20], torch.from_numpy(bars).permute(2, 0, 1))
    stretch = prepare(image, Preprocessing(9, "stretch"))
    assert stretch[:, 4, 1].tolist() == [255, 0, 0]
    assert stretch[:, 4, 7].tolist() == [0, 0, 255]


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
@pytest.mark.parametrize("size", [(1, 6000), (6000, 1), (1, 1), (33, 17)])
def test_any_shape_becomes_a_square(size: tuple[int, int], fit: str) -> None:
    assert prepare(Image.new("RGB", size, "red"), Preprocessing(16, fit)).shape == (3, 16, 16)


def test_pictures_of_the_right_size_are_not_touched() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    for fit in ("crop", "pad", "stretch"):
        result = prepare(Image.fromarray(pixels), Preprocessing(32, fit))
        assert torch.equal(result, torch.from_numpy(pixels).permute(2, 0, 1))


@pytest.mark.parametrize("kind", ["JPEG", "MPO"])
def test_a_big_jpeg_loads_at_a_fraction_and_looks_the_same(kind: str) -> None:
    big = COLOUR.resize((1024, 768), Image.Resampling.BICUBIC)
    data = _bytes(big, kind, quality=95)
    assert decode(data, name="x").size == (1024, 768)
    assert decode(data, name="x", at_least=64).size == (128, 96)
    small = load_image(data, Preprocessing(32), name="x")
    whole = prepare(decode(data, name="x"), Preprocessing(32))
    assert (small.float() - whole.float()).abs().mean() < 2


def test_a_box_is_cut_out_first(encoded: Encode) -> None:
    data = _bytes(COLOUR, "PNG")
    part = load_image(data, Preprocessing(10), name="x", box=(5, 3, 15, 13))
    assert torch.equal(part, torch.from_numpy(_gradient()[3:13, 5:15]).permute(2, 0, 1))
    with pytest.raises(ImageError, match=r"x: the box \(70, 0, 80, 10\) holds no pixel of the 64 × 48 image"):
        load_image(data, Preprocessing(10), name="x", box=(70, 0, 80, 10))
