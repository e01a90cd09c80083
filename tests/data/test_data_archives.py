"""Archives are unpacked whole, inside their folder, or not at all: 40 hostile ones leave nothing behind."""

import gzip
import io
import json
import os
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

import published
from accord.data import _archives, read_images, unpack
from accord.data._tar import _Bounded
from accord.errors import DataError, ResourceError, UsageError
from published import picture, write

Make = Callable[[Path], Path]


def _info(name: str, data: bytes = b"", kind: bytes = tarfile.REGTYPE, **more: object) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size, info.type = len(data), kind
    for key, value in more.items():
        setattr(info, key, value)
    return info, data


def _tar(path: Path, *entries: tuple[tarfile.TarInfo, bytes], mode: str = "w:gz", **options: object) -> Path:
    with tarfile.open(path, mode, **options) as archive:
        for info, data in entries:
            archive.addfile(info, io.BytesIO(data))
    return path


def _packed(path: Path, files: dict[str, bytes]) -> Path:
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in files.items():
                archive.writestr(name, data)
        return path
    folder = _info(next(iter(files)).partition("/")[0], kind=tarfile.DIRTYPE)  # archives name their folders, too
    entries = (_info(name, data) for name, data in files.items())
    return _tar(path, folder, *entries, mode="w" if path.suffix == ".tar" else "w:gz")


def _tars(*entries: tuple[tarfile.TarInfo, bytes], **options: object) -> Make:
    return lambda folder: _tar(folder / "bad.tgz", *entries, **options)


def _zips(*names: str, mode: int = 0, **options: object) -> Make:
    def make(folder: Path) -> Path:
        with zipfile.ZipFile(folder / "bad.zip", "w", **options) as archive:
            for name in names:
                info = zipfile.ZipInfo(name)
                info.external_attr = mode << 16
                archive.writestr(info, b"x")
        return folder / "bad.zip"

    return make


def _raw(data: bytes, name: str = "bad.tgz") -> Make:
    def make(folder: Path) -> Path:
        (folder / name).write_bytes(data)
        return folder / name

    return make


def _header(size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    """A tar header that promises `size` bytes, whatever follows."""
    return _info("a/1.jpg", kind=kind, size=size)[0].tobuf(tarfile.GNU_FORMAT)


def _old_sparse() -> bytes:
    return _header(512, tarfile.GNUTYPE_SPARSE) + bytes(512) + bytes(1024)


def _cut(path: Path) -> Path:
    path.write_bytes(path.read_bytes()[:-700])
    return path


def _plain_without_end(folder: Path) -> Path:
    path = _tar(folder / "bad.tar", _info("a/1.jpg", bytes(512)), mode="w")
    path.write_bytes(path.read_bytes()[:1024])
    return path


def _garbled_header(folder: Path) -> Path:
    path = _tar(folder / "bad.tar", _info("a/1.jpg", bytes(512)), _info("a/2.jpg", bytes(512)), mode="w")
    data = bytearray(path.read_bytes())
    data[1024 + 148 : 1024 + 156] = b"\xff" * 8
    path.write_bytes(data)
    return path


def _bad_sum(folder: Path) -> Path:
    path = _packed(folder / "bad.zip", {"a/1.jpg": b"0123456789"})
    path.write_bytes(path.read_bytes().replace(b"0123456789", b"0123456780", 1))
    return path


def _lying_zip(folder: Path) -> Path:
    """A zip whose table of contents promises less than its member unpacks to."""
    path = folder / "bad.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/1.jpg", bytes(10_000))
    path.write_bytes(path.read_bytes().replace(struct.pack("<I", 10_000), struct.pack("<I", 10)))
    return path


LINK = {"linkname": "/etc/passwd"}
HOSTILE: dict[str, Make] = {
    "dots": _tars(_info("../out.jpg", b"x")),
    "dots inside": _tars(_info("a/../../out.jpg", b"x")),
    "absolute": _tars(_info("/tmp/accord-out.jpg", b"x")),
    "absolute with dots": _tars(_info("/../out.jpg", b"x")),
    "drive": _tars(_info("C:\\out.jpg", b"x")),
    "backslashes": _tars(_info("..\\..\\out.jpg", b"x")),
    "folder of dots": _tars(_info("../out", kind=tarfile.DIRTYPE)),
    "absolute folder": _tars(_info("/out", kind=tarfile.DIRTYPE)),
    "link to a file": _tars(_info("a/1.jpg", kind=tarfile.SYMTYPE, **LINK)),
    "link, then file": _tars(_info("a", kind=tarfile.SYMTYPE, linkname="/tmp"), _info("a/out.jpg", b"x")),
    "link inside": _tars(_info("a/1.jpg", b"x"), _info("a/2.jpg", kind=tarfile.SYMTYPE, linkname="1.jpg")),
    "hard link": _tars(_info("a/1.jpg", kind=tarfile.LNKTYPE, **LINK)),
    "hard link inside": _tars(_info("a/1.jpg", b"x"), _info("a/2.jpg", kind=tarfile.LNKTYPE, linkname="a/1.jpg")),
    "character device": _tars(_info("a/1.jpg", kind=tarfile.CHRTYPE, devmajor=1, devminor=5)),
    "block device": _tars(_info("a/1.jpg", kind=tarfile.BLKTYPE)),
    "pipe": _tars(_info("a/1.jpg", kind=tarfile.FIFOTYPE)),
    "contiguous": _tars(_info("a/1.jpg", b"x", kind=tarfile.CONTTYPE)),
    "unknown kind": _tars(_info("a/1.jpg", b"x", kind=b"Z")),
    "sparse": _raw(gzip.compress(_old_sparse())),
    "twice": _tars(_info("a/1.jpg", b"x"), _info("a/1.jpg", b"y")),
    "file as folder": _tars(_info("a", b"x"), _info("a/1.jpg", b"y")),
    "folder as file": _tars(_info("a/1.jpg", b"y"), _info("a", b"x")),
    "NUL in a name": _tars(_info("a/1.jpg", b"x", pax_headers={"path": "a/1\0.jpg"}), format=tarfile.PAX_FORMAT),
    "long name": _tars(_info("a" * 300 + ".jpg", b"x")),
    "long path": _tars(_info("/".join(["a" * 200] * 25), b"x")),
    "deep path": _tars(_info("/".join(["a"] * 40), b"x")),
    "empty name": _tars(_info("./.", b"x")),
    "10,000 empty files": _tars(*(_info(f"a/{n}.jpg") for n in range(10_000))),
    "200 MB of zeros": _tars(_info("a/1.jpg", bytes(200 * 2**20)), compresslevel=1),
    "many zeros": _tars(*(_info(f"a/{n}.jpg", bytes(2**21)) for n in range(60)), compresslevel=1),
    "giant": _raw(gzip.compress(_header(2**33))),
    "giant long name": _raw(gzip.compress(_header(2**30, tarfile.GNUTYPE_LONGNAME) + bytes(2**21))),
    "giant pax header": _raw(gzip.compress(_header(2**30, tarfile.XHDTYPE) + bytes(2**21))),
    "negative size": _raw(gzip.compress(_header(-512) + bytes(1024))),
    "cut short": lambda folder: _cut(_tar(folder / "bad.tgz", _info("a/1.jpg", picture(1, size=(90, 90))))),
    "cut short, plain": lambda folder: _cut(_raw(_header(10_000) + bytes(9000), "bad.tar")(folder)),
    "without end": _plain_without_end,
    "garbled header": _garbled_header,
    "a page": _raw(b"<!DOCTYPE html><html>" * 99),
    "empty": _raw(b""),
    "gzip of nothing": _raw(gzip.compress(b"")),
    "no gzip": _raw(b"\x1f\x8bnothing of the kind"),
    "zip: dots": _zips("../out.jpg"),
    "zip: absolute": _zips("/tmp/accord-out.jpg"),
    "zip: drive": _zips("C:\\out.jpg"),
    "zip: link": _zips("a/1.jpg", mode=0o120777),
    "zip: device": _zips("a/1.jpg", mode=0o020666),
    "zip: twice as file and folder": _zips("a", "a/1.jpg"),
    "zip: bad sum": _bad_sum,
    "zip: lies": _lying_zip,
    "zip: cut short": lambda folder: _cut(_packed(folder / "bad.zip", {"a/1.jpg": picture(1)})),
}


@pytest.mark.parametrize("make", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_archive_leaves_nothing_behind(make: Make, tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "inside"
    folder.mkdir(parents=True)
    archive = make(folder)
    with pytest.raises(DataError, match="data: ") as caught:
        unpack(archive)
    assert not isinstance(caught.value, UsageError)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [archive]
    assert os.listdir(folder) == [archive.name]
    assert not list(Path("/tmp").glob("accord-out*"))


def test_a_bomb_is_stopped_within_its_cap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = [0]
    write_one = _archives._Writer.write

    def counting(self: _archives._Writer, member: _archives.Member) -> None:
        written[0] += member.size
        write_one(self, member)

    monkeypatch.setattr(_archives._Writer, "write", counting)
    with pytest.raises(DataError, match="looks like a bomb"):
        unpack(HOSTILE["many zeros"](tmp_path))
    assert written[0] <= 100 * 2**20


@pytest.mark.parametrize("name", ["set.tgz", "set.tar.gz", "set.tar", "SET.TGZ", "set.zip"])
def test_unpacks_files_and_folders_alone(name: str, tmp_path: Path) -> None:
    files = {
        "a/1.jpg": picture(1),
        "./b/ö 2.jpg": picture(2),
        "b/deep/3.jpg": b"",
        "._x": b"x",
        "__MACOSX/a/1.jpg": b"x",
    }
    if name.endswith("zip"):
        files["b/ö 2.jpg"] = files.pop("./b/ö 2.jpg")
    told: list[tuple[str, int, int]] = []
    folder = unpack(_packed(tmp_path / name, files), told=lambda *facts: told.append(facts))
    assert folder == tmp_path / name[:3]
    found = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    mark = json.loads(found.pop(".accord.json"))
    assert found == {"a/1.jpg": picture(1), "b/ö 2.jpg": picture(2), "b/deep/3.jpg": b""}
    assert mark["archive"] == name
    assert {stage for stage, _, _ in told} == {"checksum", "unpacking"}
    assert all(0 <= done <= total for _, done, total in told)
    assert folder.stat().st_mode & 0o777 == (folder / "a").stat().st_mode & 0o777


def test_takes_no_modes_over(tmp_path: Path) -> None:
    archive = _tar(tmp_path / "x.tar", _info("a/1.jpg", b"x", mode=0o4777), mode="w")
    assert not (unpack(archive) / "a/1.jpg").stat().st_mode & 0o7111


def test_a_folder_of_the_archives_own_name_is_lifted(tmp_path: Path) -> None:
    folder = unpack(_packed(tmp_path / "car_ims.tgz", {"car_ims/1.jpg": b"x", "car_ims/2.jpg": b"y"}))
    assert sorted(path.name for path in folder.iterdir()) == [".accord.json", "1.jpg", "2.jpg"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["car_ims", "car_ims.tgz"]


def test_is_unpacked_once(tmp_path: Path) -> None:
    archive = _packed(tmp_path / "x.tgz", {"a/1.jpg": b"x"})
    folder = unpack(archive)
    (folder / "a/1.jpg").write_bytes(b"mine")
    assert unpack(archive) == folder
    os.utime(archive, (1, 1))
    assert unpack(archive) == folder
    assert (folder / "a/1.jpg").read_bytes() == b"mine"
    _packed(archive, {"a/1.jpg": b"another"})
    with pytest.raises(DataError, match=r"folder x, which is there already and was unpacked from another archive"):
        unpack(archive)


def test_a_folder_that_came_from_elsewhere_is_left_alone(tmp_path: Path) -> None:
    archive = _packed(tmp_path / "x.tgz", {"a/1.jpg": b"x"})
    write(tmp_path / "x", {"mine.txt": b"mine", ".accord.json": b"[]"})
    with pytest.raises(DataError, match="which is there already and was unpacked not by accord"):
        unpack(archive)
    assert (tmp_path / "x/mine.txt").read_bytes() == b"mine"


def test_of_two_that_unpack_at_once_one_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = _packed(tmp_path / "x.tgz", {"a/1.jpg": b"x"})
    write_all, inner = _archives._write_all, []

    def slow(*args: object) -> None:
        if not inner:
            inner.append(True)
            unpack(archive)
        write_all(*args)

    monkeypatch.setattr(_archives, "_write_all", slow)
    assert (unpack(archive) / "a/1.jpg").read_bytes() == b"x"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x", "x.tgz"]


def test_the_checksum_is_compared(tmp_path: Path) -> None:
    archive = _packed(tmp_path / "x.tgz", {"a/1.jpg": b"x"})
    with pytest.raises(DataError, match=rf"not the archive that was expected.*\n  expected: {'0' * 64}\n  came:     "):
        unpack(archive, sha256="0" * 64)
    assert not (tmp_path / "x").exists()
    found = _archives.check_sha256(archive, None)
    folder = unpack(archive, sha256=found.upper())
    assert unpack(archive, sha256=found) == folder
    with pytest.raises(DataError, match="not the archive that was expected"):
        unpack(archive, sha256="0" * 64)


def test_a_name_that_is_no_archive_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"ends in none of \.tar\.gz, \.tgz, \.tar, \.zip"):
        unpack(write(tmp_path, {"x.rar": b""}) / "x.rar")


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = _packed(tmp_path / "x.tgz", {"a/1.jpg": b"x"})

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(_archives._Writer, "write", full)
    with pytest.raises(ResourceError, match="No space left on device"):
        unpack(archive)
    assert os.listdir(tmp_path) == ["x.tgz"]


def test_a_folder_in_which_nothing_can_be_renamed_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = _packed(tmp_path / "x.tgz", {"a/1.jpg": b"x"})

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(ResourceError, match="Permission denied"):
        unpack(archive)
    assert os.listdir(tmp_path) == ["x.tgz"]


def test_the_last_guard_holds_if_a_folder_turns_into_a_link(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "root").mkdir()
    (tmp_path / "root/a").symlink_to(tmp_path / "out")
    member = _archives.Member("a/1.jpg", 1, iter([b"x"]))
    with pytest.raises(DataError, match="outside its folder"):
        _archives._Writer(tmp_path / "root", "data").write(member)
    assert not list((tmp_path / "out").iterdir())


def test_a_stream_is_read_forwards_and_in_small_pieces_alone() -> None:
    stream = _Bounded(io.BytesIO(bytes(5000)), "data", 10_000)
    assert (stream.seek(4000), stream.tell(), stream.seek(9000), len(stream.read(10))) == (4000, 4000, 5000, 0)
    with pytest.raises(DataError, match="leads backwards"):
        stream.seek(0)
    for size in (-1, 2**30):
        with pytest.raises(DataError, match="looks like a bomb"):
            stream.read(size)


DOWNLOADS: dict[str, tuple[Callable[[], published.Files], dict[str, tuple[str, ...]]]] = {
    "CUB_200_2011.tgz": (lambda: {f"CUB_200_2011/{p}": d for p, d in published.cub().items()}, {}),
    "Stanford_Online_Products.zip": (
        lambda: {f"Stanford_Online_Products/{p}": d for p, d in published.products().items()},
        {},
    ),
    "lfw.tgz": (published.lfw, {}),
    "cars": (published.cars, {"car_ims.tgz": ("car_ims/",)}),
    "cars devkit": (
        lambda: published.cars(devkit=True),
        {"car_devkit.tgz": ("devkit/",), "cars_train.tgz": ("cars_train/",), "cars_test.tgz": ("cars_test/",)},
    ),
    "flowers": (published.flowers, {"102flowers.tgz": ("jpg/",)}),
    "pets": (published.pets, {"images.tar.gz": ("images/",), "annotations.tar.gz": ("annotations/",)}),
    "in_shop": (published.in_shop, {"Img/img.zip": ("img/",)}),
}


@pytest.mark.parametrize("name", DOWNLOADS)
def test_what_was_downloaded_is_read_as_it_is(name: str, tmp_path: Path) -> None:
    files, packs = DOWNLOADS[name][0](), DOWNLOADS[name][1]
    if not packs:
        source = _packed(tmp_path / name, files)
    else:
        source = tmp_path / "downloads"
        for pack, inside in packs.items():
            (source / pack).parent.mkdir(parents=True, exist_ok=True)
            _packed(source / pack, {path: data for path, data in files.items() if path.startswith(inside)})
        loose = {path: data for path, data in files.items() if not path.startswith(tuple(sum(packs.values(), ())))}
        write(source, loose)
    found, plain = read_images(source), read_images(write(tmp_path / "plain", files))
    assert [i._replace(path="") for i in found.items] == [i._replace(path="") for i in plain.items]
    assert read_images(source).items == found.items


def test_unpacking_goes_on_where_it_was_interrupted(tmp_path: Path) -> None:
    files = published.pets()
    for part in ("images", "annotations"):
        _packed(tmp_path / f"{part}.tar.gz", {path: data for path, data in files.items() if path.startswith(part)})
    unpack(tmp_path / "images.tar.gz")
    assert len(read_images(tmp_path)) == 14


def test_a_stray_archive_beside_class_folders_is_left_alone(tree: Callable[..., Path]) -> None:
    root = tree("a/1.png", "b/1.png")
    _packed(root / "old.tgz", {"c/1.jpg": picture(1)})
    assert read_images(root).classes == ("a", "b")
    assert not (root / "old").exists()


def test_the_checksum_of_a_zip_is_compared_too(tmp_path: Path) -> None:
    archive = _packed(tmp_path / "x.zip", {"a/1.jpg": picture(1), "b/1.jpg": picture(2)})
    assert len(read_images(archive, sha256=_archives.check_sha256(archive, None))) == 2
    with pytest.raises(DataError, match="not the archive that was expected"):
        read_images(archive, sha256="0" * 64)
    with pytest.raises(UsageError, match=r"data\.sha256 is only for an archive"):
        read_images(tmp_path, sha256="0" * 64)
