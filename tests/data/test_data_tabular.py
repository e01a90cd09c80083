"""Tables name images in any order, and every mistake is told by its row."""

import random
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from accord.data import manifest_to_csv, read_images, read_table, scan
from accord.data._tabular import table_entries
from accord.errors import DataError, ResourceError, UnknownNameError, UsageError
from accord.types import Item, Manifest

Tree = Callable[..., Path]
ROWS = ["a/1.png,a", "a/2.png,a", "b/1.png,b", "b/2.png,b"]


@pytest.fixture
def root(tree: Tree) -> Path:
    return tree("a/1.png", "a/2.png", "b/1.png", "b/2.png")


def _table(root: Path, *lines: str, name: str = "table.csv", encoding: str = "utf-8") -> Path:
    (root / name).write_bytes("\n".join(lines).encode(encoding))
    return root / name


def test_reads_what_a_scan_of_the_folders_reads(root: Path) -> None:
    scanned, told = scan(root), []
    manifest = read_images(_table(root, "path,label", *ROWS), told=lambda *facts: told.append(facts))
    assert (manifest.items, manifest.root, manifest.name) == (scanned.items, root, "table")
    assert told[-1] == ("reading images", 4, 4)


@pytest.mark.parametrize(
    "lines",
    [
        ["path,label", *ROWS],
        ["\ufeffpath;label", *(row.replace(",", ";") for row in ROWS)],
        ["path\tlabel", *(row.replace(",", "\t") for row in ROWS), "", " \t "],
        ['"Label"," PATH "', *(",".join(f'"{word}"' for word in row.split(",")[::-1]) for row in ROWS)],
        ["path,label\r", *(f"{row}\r" for row in ROWS)],
        ["", "path,label", *(f"./{row}" for row in ROWS)],
        ["path,label", *(row.replace("/", "\\") for row in ROWS)],
    ],
    ids=["comma", "semicolon and mark", "tab and blank lines", "quotes and other order", "CRLF", "dots", "Windows"],
)
def test_the_form_of_a_table_has_no_say(lines: list[str], root: Path) -> None:
    expected = scan(root).items
    header, rows = lines[:2] if not lines[0] else lines[:1], lines[2:] if not lines[0] else lines[1:]
    random.Random(1).shuffle(rows)
    assert read_table(_table(root, *header, *rows)).items == expected


def test_every_column_arrives(root: Path) -> None:
    sha256 = scan(root).items[0].sha256
    table = _table(
        root,
        "path,label,split,group,x,y,width,height,role,sha256",
        f"a/1.png,a,TEST,noto,1.5,2,3,4,Query,{sha256.upper()}",
        "a/2.png,a,test,twemoji,,,,,gallery,",
        "b/1.png,b,training,noto,0,0,16,12,,",
        "b/2.png,b,train,,,,,,,",
    )
    first, second, third, fourth = read_table(table).items
    assert first == Item(0, "a/1.png", "a", sha256, "test", "noto", (1, 2, 5, 6), "query")
    assert (second.role, second.box, second.group) == ("gallery", None, "twemoji")
    assert (third.split, third.box, third.role, fourth.group) == ("train", (0, 0, 16, 12), "", "")
    assert read_table(_table(root, manifest_to_csv(read_table(table)))).items == (first, second, third, fourth)


def test_absolute_paths_and_another_root_and_a_zip_are_read(root: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "tables"
    elsewhere.mkdir()
    expected = scan(root).items
    assert read_images(_table(elsewhere, "path,label", *ROWS), root=root).items == expected
    absolute = _table(elsewhere, "path,label", *(f"{root}/{row}" for row in ROWS))
    assert read_images(absolute, root=root).items == expected
    with pytest.raises(DataError, match=r"line 2: .*does not lie below .*\n.*data\.root"):
        read_images(absolute)
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for item in expected:
            archive.write(root / item.path, item.path)
    assert read_images(_table(elsewhere, "path,label", *ROWS), root=tmp_path / "x.zip").items == expected


BAD = [
    (["path,lable", *ROWS], r"There is no column called 'lable'\. Did you mean 'label'\?"),
    (["filename,label", *ROWS], r"There is no column called 'filename'\. (Did you mean|Known: )"),
    (["path,label,label", "a/1.png,a,a"], r"has a column twice: 'path', 'label', 'label'"),
    (["path,split", "a/1.png,train"], r"the column 'label' is missing\. It has: 'path', 'split'"),
    (["path,label,x,y", "a/1.png,a,1,1"], r"the column 'width', 'height' is missing"),
    ([], r"is empty\. Its first line names the columns, path and label"),
    (["path,label"], r"holds no rows"),
    (
        ["path,label", *ROWS, "a/9.png,a", "a/8.png,a"],
        r"2 of 6 images are not below .*\n  line 6: a/9\.png\n  line 7: a/8",
    ),
    (["path,label", *(f"x/{n}.png,a" for n in range(9))], r"9 of 9 images .*\n(  line \d: .*\n){5}  and 4 more"),
    (["path,label", *ROWS, "a/1.png,b"], r"line 6 names 'a/1\.png' again, after line 2"),
    (["path,label", "a/1.png,", "a/2.png,  ", *ROWS[2:]], r"2 rows have no label: line 2, line 3\."),
    (["path,label", ",a", *ROWS], r"1 rows have no path: line 2\."),
    (["path,label", *(["a/1.png,"] * 8)], r"8 rows have no label: line 2, line 3, line 4, line 5, line 6 and 3 more"),
    (["path,label", "a/1.png,a,b", *ROWS], r"line 2: 3 cells; the header names 2 columns"),
    (["path,label", "a/1.png", *ROWS], r"line 2: 1 cells"),
    (["path,label", 'a/1.png,"a"b', *ROWS], r"line 2: it can't be read \(.*\)\. Look at its quotes"),
    (["path,label", *ROWS, 'a/1.png,"a', "open"], r"line 6: it can't be read"),
    (["path,label", "../1.png,a", *ROWS], r"line 2: the path '\.\./1\.png' could lead outside"),
    (["path,label", "..\\1.png,a", *ROWS], r"line 2: the path '\.\./1\.png' could lead outside"),
    (["path,label", *(row.replace(",b", ",a") for row in ROWS)], r"names less than 2 classes"),
    (["path,label,split", "a/1.png,a,train", "a/2.png,a,"], r"1 rows have no split, though others have one: line 3"),
    (["path,label,split", "a/1.png,a,tset"], r"line 2: the split must be train, validation or test, not 'tset'"),
    (["path,label,split,role", "a/1.png,a,test,both"], r"line 2: the role must be query or gallery"),
    (["path,label,split,role", "a/1.png,a,train,query"], r"line 2: .*only rows of the split test"),
    (["path,label,role", "a/1.png,a,query"], r"line 2: .*only rows of the split test"),
    (["path,label,sha256", "a/1.png,a,abc"], r"line 2: sha256 must be 64 hexadecimal digits, not 'abc'"),
    (
        ["path,label,sha256", f"a/1.png,a,{'0' * 64}", "b/1.png,b,"],
        r"1 images are not those of their sha256\.\n  line 2",
    ),
    (["path,label,x,y,width,height", "a/1.png,a,1,1,0,5"], r"line 2: a box needs .*width '0'"),
    (["path,label,x,y,width,height", "a/1.png,a,1,,5,5"], r"line 2: a box needs .*y ''"),
    (["path,label,x,y,width,height", "a/1.png,a,nan,1,5,5"], r"line 2: a box needs"),
    (["path,label", "a/1.png,a\0b"], r"no text in UTF-8: it holds NUL bytes"),
]


@pytest.mark.parametrize(("lines", "reason"), BAD, ids=range(len(BAD)))
def test_a_mistake_is_told_by_its_row(lines: list[str], reason: str, root: Path) -> None:
    with pytest.raises(DataError, match=reason) as caught:
        read_images(_table(root, *lines))
    assert not isinstance(caught.value, UnknownNameError)
    assert "table.csv" in str(caught.value)


def test_a_row_over_several_lines_is_told_by_its_first(root: Path) -> None:
    with pytest.raises(DataError, match=r"line 4: the split"):
        read_images(_table(root, "path,label,split", '"a/1.png","a\nb",train', 'a/2.png,"a\nb",tset'))


def test_other_files_are_no_tables(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match="NUL bytes"):
        read_table(_table(root, "path,label", encoding="utf-16"))
    with pytest.raises(DataError, match=r"a table ends in \.csv, \.tsv, \.parquet"):
        read_images(_table(root, "path,label", name="table.xlsx"), layout="table")
    with pytest.raises(DataError, match=r"can't be read \(No such file"):
        read_table(root / "none.csv")
    monkeypatch.setattr("accord.data._tabular._MAX_BYTES", 5)
    with pytest.raises(DataError, match="larger than 5 bytes"):
        read_table(_table(root, "path,label"))


def test_options_of_other_layouts_are_refused(root: Path) -> None:
    table = _table(root, "path,label", *ROWS)
    for options in ({"boxes": True}, {"sha256": "0" * 64}):
        with pytest.raises(UsageError, match="is only for"):
            read_images(table, **options)
    for options in ({"boxes": True}, {"root": root}):
        with pytest.raises(UsageError, match="is only for"):
            read_images(root, **options)
    with pytest.raises(UnknownNameError, match="Did you mean 'table'"):
        read_images(table, layout="tables")


def test_undecodable_names_are_found(root: Path) -> None:
    name = b"a/\xff.png"
    (Path(str(root)) / name.decode("utf-8", "surrogateescape")).write_bytes((root / "a/1.png").read_bytes())
    (root / "table.csv").write_bytes(b"path,label\n" + name + b",\xfe\nb/1.png,b\n")
    manifest = read_images(root / "table.csv")
    assert [item.path for item in manifest.items] == ["a/\udcff.png", "b/1.png"]
    (root / "table.csv").write_bytes(manifest_to_csv(manifest).encode("utf-8", "surrogateescape"))
    assert read_images(root / "table.csv") == manifest


TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=8).filter(str.strip)


@given(rows=st.lists(st.tuples(TEXTS, TEXTS, st.text("ab,;\"'\n\t =", max_size=4)), min_size=1, max_size=5))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_name_survives_being_written_and_read(rows: list[tuple[str, str, str]], tmp_path: Path) -> None:
    items = tuple(Item(n, path, label, group=group) for n, (path, label, group) in enumerate(rows))
    (tmp_path / "x.csv").write_bytes(manifest_to_csv(Manifest("x", tmp_path, items)).encode())
    read = table_entries(tmp_path / "x.csv")
    assert [(entry.path, entry.label, entry.group) for entry in read] == rows


def test_an_empty_manifest_is_a_header() -> None:
    assert manifest_to_csv(Manifest("x", Path("/"), ())) == "path,label\n"


def _parquet(root: Path, **columns: object) -> Path:
    parquet.write_table(pa.table(columns), root / "table.parquet")
    return root / "table.parquet"


PATHS = ["b/2.png", "a/1.png", "a/2.png", "b/1.png"]


def test_parquet_says_what_the_same_csv_says(root: Path) -> None:
    whole = {"split": ["train", "test", "test", "train"], "x": [None, 1.5, float("nan"), 0], "y": [None, 2.0, None, 0]}
    whole |= {"width": [None, 3.0, None, 16], "height": [None, 4.0, None, 12], "group": [1, 2, None, 3]}
    table = _parquet(root, path=PATHS, label=pa.array(["b", "a", "a", "b"]).dictionary_encode(), **whole)
    found = read_images(table)
    assert [item.label for item in found.items] == ["a", "a", "b", "b"]
    assert [item.box for item in found.items] == [(1, 2, 5, 6), None, (0, 0, 16, 12), None]
    assert [item.group for item in found.items] == ["2", "", "3", "1"]
    assert read_images(_table(root, manifest_to_csv(found))).items == found.items


def test_parquet_labels_may_be_numbers(root: Path) -> None:
    assert read_images(_parquet(root, path=PATHS, label=[10, 2, 2, 10])).classes == ("10", "2")
    assert read_images(_parquet(root, path=PATHS, label=[10.0, 2.5, 2.5, 10.0])).classes == ("10", "2.5")


def test_a_mistake_in_parquet_is_told_by_its_row(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match=r"row 2: 'label' must be a text or a number, not list"):
        read_images(_parquet(root, path=PATHS[:2], label=pa.array([None, ["a"]])))
    with pytest.raises(DataError, match=r"row 1: 'label' must be a text or a number, not bool"):
        read_images(_parquet(root, path=PATHS[:2], label=[True, False]))
    with pytest.raises(DataError, match=r"1 rows have no label: row 2"):
        read_images(_parquet(root, path=PATHS[:2], label=["a", None]))
    with pytest.raises(DataError, match=r"column called 'lable'\. Did you mean 'label'"):
        read_images(_parquet(root, path=PATHS, lable=PATHS))
    for data in (b"", b"PAR1" * 9, b"path,label\n", (_parquet(root, path=PATHS, label=PATHS)).read_bytes()[:-20]):
        (root / "bad.parquet").write_bytes(data)
        with pytest.raises(DataError, match=r"'bad\.parquet' is no whole Parquet file"):
            read_images(root / "bad.parquet")
    monkeypatch.setattr("accord.data._tabular._MAX_ROWS", 3)
    with pytest.raises(DataError, match="holds 4 rows; 3 are allowed"):
        read_images(_parquet(root, path=PATHS, label=PATHS))


def test_without_pyarrow_it_is_asked_for(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = _parquet(root, path=PATHS, label=PATHS)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ResourceError, match=r"pip install 'accord\[parquet\]'"):
        read_images(table)
