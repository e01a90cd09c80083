"""Folders and archives are listed completely, once, and never beyond their root."""

import io
import os
import struct
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from accord.data import scan
from accord.data._names import extension, listed, printable, shown
from accord.data._sources import MAX_FILE_BYTES, Archive, Folder, open_source
from accord.errors import DataError, ImageError


def _zip(path: Path, entries: dict[str, bytes], **options: object) -> Path:
    with zipfile.ZipFile(path, "w", **options) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return path


def test_ignores_hidden_and_system_entries(tree: Callable[..., Path]) -> None:
    root = tree(
        "a/1.png", "b/1.png", ".ipynb_checkpoints/1.png", "__MACOSX/a/1.png", "a/._1.png", "a/Thumbs.db", "b/.DS_Store"
    )
    assert open_source(root).listing().files == ("a/1.png", "b/1.png")


def test_ignores_hidden_and_system_entries_of_an_archive(tmp_path: Path) -> None:
    path = _zip(tmp_path / "x.zip", {"a/1.png": b"1", "__MACOSX/a/._1.png": b"1", ".git/x.png": b"1", "b/": b""})
    listing = open_source(path).listing()
    assert listing.files == ("a/1.png",)
    assert listing.folders == ("a", "b")


def test_sees_each_file_once_where_links_form_loops(tree: Callable[..., Path]) -> None:
    root = tree("a/1.png", "b/1.png")
    (root / "a" / "self").symlink_to(root / "a")
    (root / "a" / "to_b").symlink_to(root / "b")
    (root / "b" / "to_a").symlink_to(root / "a")
    (root / "b" / "again.png").symlink_to(root / "a" / "1.png")
    listing = open_source(root).listing()
    assert listing.files == ("a/1.png", "b/1.png")
    assert "4 links lead to something that is already in the data set" in listing.notes[0]


def test_a_link_never_takes_the_place_of_a_real_folder(tree: Callable[..., Path]) -> None:
    root = tree("z/1.png", "y/1.png")
    (root / "a").symlink_to(root / "z")
    assert open_source(root).listing().files == ("y/1.png", "z/1.png")


def test_links_out_of_the_root_are_followed_only_on_request(tree: Callable[..., Path]) -> None:
    outside = tree("x/1.png", "2.png", root="elsewhere")
    root = tree("a/1.png", "b/1.png")
    (root / "c").symlink_to(outside / "x")
    (root / "a" / "2.png").symlink_to(outside / "2.png")
    (root / "a" / "gone.png").symlink_to(root / "nowhere.png")
    closed = scan(root)
    assert [item.path for item in closed.items] == ["a/1.png", "b/1.png"]
    assert any("2 links lead outside" in note for note in closed.notes)
    assert any("1 links lead nowhere" in note for note in closed.notes)
    opened = scan(root, outside_links=True)
    assert [item.path for item in opened.items] == ["a/1.png", "a/2.png", "b/1.png", "c/1.png"]


def test_a_folder_reached_by_two_links_is_listed_once(tree: Callable[..., Path]) -> None:
    outside = tree("x/1.png", "2.png", root="elsewhere")
    root = tree("a/1.png", "b/1.png")
    (root / "c").symlink_to(outside / "x")
    (root / "d").symlink_to(outside)
    files = open_source(root, outside_links=True).listing().files
    assert files == ("a/1.png", "b/1.png", "c/1.png", "d/2.png")


def test_a_twin_root_name_is_outside(tree: Callable[..., Path]) -> None:
    tree("x/1.png", root="images2")
    root = tree("a/1.png", "b/1.png")
    (root / "c").symlink_to(root.with_name("images2") / "x")
    assert "outside" in open_source(root).listing().notes[0]


def test_very_deep_folders_end_quickly(tree: Callable[..., Path]) -> None:
    root = tree("a/1.png", "b/1.png")
    (root / "a" / "/".join("d" * 500)).mkdir(parents=True)
    began = time.process_time()
    listing = open_source(root).listing()
    assert time.process_time() - began < 1
    assert listing.files == ("a/1.png", "b/1.png")
    assert "deeper than 32 levels" in listing.notes[0]


def test_names_the_folder_that_can_not_be_opened(tree: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    root = tree("a/1.png", "b/1.png")
    real = os.scandir

    def refuse(path: str) -> object:
        if str(path).endswith("/a"):
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "scandir", refuse)
    listing = open_source(root).listing()
    assert listing.files == ("b/1.png",)
    assert listing.notes == ("1 folders could not be opened: 'a'",)


def test_does_not_hang_on_a_pipe_with_an_images_name(tree: Callable[..., Path]) -> None:
    root = tree("a/1.png", "b/1.png")
    os.mkfifo(root / "a" / "pipe.png")
    (root / "a" / "linked.png").symlink_to(root / "a" / "pipe.png")
    source = open_source(root)
    assert source.listing().files == ("a/1.png", "b/1.png")
    with pytest.raises(ImageError, match="not a regular file"):
        source.read("a/pipe.png")


def test_says_that_a_file_is_gone_or_unreadable(tree: Callable[..., Path]) -> None:
    source = open_source(tree("a/1.png"))
    with pytest.raises(ImageError, match=r"a/2\.png: the file is gone"):
        source.read("a/2.png")
    with pytest.raises(ImageError, match=r"a: it can't be read \(Is a directory\)|a: this is not a regular file"):
        source.read("a")


def test_refuses_a_giant_file_before_reading_it(tree: Callable[..., Path]) -> None:
    root = tree("a/1.png")
    with open(root / "a" / "big.png", "wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)
    with pytest.raises(ImageError, match=r"big\.png: the file holds"):
        open_source(root).read("a/big.png")


@pytest.mark.parametrize("path", ["../x.png", "/etc/passwd", "a/../../x", "a\0b", "", "C:/x"])
def test_never_reads_outside_the_root(tree: Callable[..., Path], path: str) -> None:
    with pytest.raises(DataError, match="could lead outside"):
        Folder(tree("a/1.png")).read(path)


def test_says_what_a_root_is_not(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is nothing at"):
        open_source(tmp_path / "missing")
    (tmp_path / "x.tar").write_bytes(b"no zip")
    with pytest.raises(DataError, match="neither a folder nor a zip archive"):
        open_source(tmp_path / "x.tar")


def test_reads_an_archive_in_place(tmp_path: Path) -> None:
    path = _zip(tmp_path / "x.zip", {"a/1.png": b"one", "b/2.png": b"two"}, compression=zipfile.ZIP_DEFLATED)
    source = open_source(path)
    assert source.read("b/2.png") == b"two"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["x.zip"]
    with pytest.raises(ImageError, match=r"c\.png: the archive holds no such file"):
        source.read("c.png")


@pytest.mark.parametrize("name", ["../evil.png", "/abs.png", "a/../../evil.png", "C:\\evil.png", "a\\..\\..\\e.png"])
def test_refuses_an_archive_whose_names_lead_outside(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match="could lead outside"):
        Archive(_zip(tmp_path / "x.zip", {name: b"1"}))


def test_refuses_a_name_with_a_hidden_end(tmp_path: Path) -> None:
    path = _zip(tmp_path / "x.zip", {"a/1.png_hidden": b"1"})
    path.write_bytes(path.read_bytes().replace(b"1.png_hidden", b"1.png\0hidden"))
    with pytest.raises(DataError, match=r"could lead outside|damaged"):
        Archive(path)


@pytest.mark.parametrize("kind", [0o120777, 0o020666, 0o010644])
def test_refuses_links_and_devices_in_an_archive(tmp_path: Path, kind: int) -> None:
    info = zipfile.ZipInfo("a/link.png")
    info.external_attr = kind << 16
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(DataError, match="link or a device"):
        Archive(tmp_path / "x.zip")


def test_refuses_bombs(tmp_path: Path) -> None:
    member = b"\0" * (60 * 2**20)
    path = _zip(tmp_path / "x.zip", {"a/1.bmp": member, "b/2.bmp": member}, compression=zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 200_000
    with pytest.raises(DataError, match="looks like a bomb"):
        Archive(path)


def test_refuses_a_member_that_claims_to_be_a_giant(tmp_path: Path) -> None:
    path = _zip(tmp_path / "x.zip", {"a/1.png": b"1"})
    data = bytearray(path.read_bytes())
    start = data.index(b"PK\x01\x02")
    data[start + 24 : start + 28] = struct.pack("<I", MAX_FILE_BYTES + 1)
    path.write_bytes(data)
    with pytest.raises(DataError, match="are allowed"):
        Archive(path)


@pytest.mark.parametrize(("place", "value"), [(6, 99), (8, 0x20)], ids=["of a later version", "a patch of another"])
def test_a_zip_that_is_sound_and_not_understood_is_not_called_damaged(tmp_path: Path, place: int, value: int) -> None:
    """Python's zipfile says so by NotImplementedError: of the version at once, of the member when it is read."""
    path = _zip(tmp_path / "odd.zip", {"a/1.png": b"1"})
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x01\x02") + place] = value
    path.write_bytes(data)
    with pytest.raises((DataError, ImageError), match=r"is packed in a way that can't be read here\. Pack it again"):
        Archive(path).read("a/1.png")


def test_refuses_encrypted_twice_named_overlong_and_rarely_packed_members(tmp_path: Path) -> None:
    path = _zip(tmp_path / "secret.zip", {"a/1.png": b"1"})
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match="encrypted"):
        Archive(path)
    with zipfile.ZipFile(tmp_path / "twice.zip", "w") as archive:
        archive.writestr("a/1.png", b"1")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("a/1.png", b"2")
    with pytest.raises(DataError, match="twice"):
        Archive(tmp_path / "twice.zip")
    with pytest.raises(DataError, match="longer than 4096"):
        Archive(_zip(tmp_path / "long.zip", {"a/" * 3000 + "1.png": b"1"}))
    with pytest.raises(DataError, match="unusual compression"):
        Archive(_zip(tmp_path / "rare.zip", {"a/1.png": b"1"}, compression=zipfile.ZIP_LZMA))


def test_an_archive_that_may_not_be_read_is_not_called_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _zip(tmp_path / "locked.zip", {"a/1.jpg": b"1"})

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(io, "open", refuse)  # what Path and zipfile open files with
    for opened in (open_source, Archive):
        with pytest.raises(DataError, match=r"locked\.zip' can't be read: Permission denied"):
            opened(path)


def test_a_disk_that_fails_in_the_midst_of_an_archive_is_not_called_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = Archive(_zip(tmp_path / "x.zip", {"a/1.png": b"1"}))

    def fail(*_: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(zipfile.ZipFile, "read", fail)
    with pytest.raises(ImageError, match=r"a/1\.png: it can't be read: Input/output error"):
        archive.read("a/1.png")


def test_a_table_of_contents_that_points_outside_is_damage(tmp_path: Path) -> None:
    path = _zip(tmp_path / "x.zip", {"a/1.png": b"1"})
    data = bytearray(path.read_bytes())
    end = data.index(b"PK\x05\x06")
    data[end + 16 : end + 20] = struct.pack("<I", 500)  # where the table begins; members then lie before the file
    path.write_bytes(data)
    with pytest.raises((DataError, ImageError), match="damaged"):
        Archive(path).read("a/1.png")


def test_says_that_an_archive_is_damaged(tmp_path: Path) -> None:
    path = _zip(tmp_path / "x.zip", {"a/1.png": b"1" * 1000, "b/1.png": b"2" * 1000})
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"1" * 1000, b"1" * 999 + b"0"))
    with pytest.raises(ImageError, match=r"a/1\.png: it is damaged inside the archive"):
        Archive(path).read("a/1.png")
    broken = whole.replace(b"PK\x01\x02", b"PK\x09\x09", 1)
    path.write_bytes(broken)
    with pytest.raises(DataError, match="is damaged"):
        Archive(path)


def test_shows_any_name_on_any_terminal() -> None:
    assert printable("a\nb\udcff\x1b[31m é") == "a\\nb\\udcff\\x1b[31m é"
    printable(os.fsdecode(b"\xff\xfe")).encode("ascii", "strict")
    assert shown(["a", "b", "c"], limit=2) == "'a', 'b' and 1 more"
    assert listed(["a", "b", "c"], 2, between="\n  ") == "a\n  b\n  and 1 more"
    assert listed(["a", "b"], 2) == "a, b"
    assert [extension(name) for name in ("a.b/x.JPG", "a.b/x", ".png", "x.")] == [".jpg", "", "", "."]
