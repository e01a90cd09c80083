"""`accord validate` and `accord ls layouts` for published sets, tables and archives, as a user types them."""

import json
from pathlib import Path
from typing import Any

import pytest

import published
from published import write

Accord = Any


def test_a_published_set_is_told_with_its_splits_and_notes(accord: Accord, tmp_path: Path) -> None:
    root = write(tmp_path / "shop", published.in_shop())
    done = accord("validate", root, "--boxes")
    assert done.code == 0
    assert "24 images in 6 classes" in done.said
    assert "splits: 12 test, 12 train" in done.said
    assert "roles: 6 gallery, 6 query" in done.said
    assert "groups: 2" in done.said
    assert "expected: train 3997 classes and 25882 images" in done.said


def test_a_table_is_written_and_read_back(accord: Accord, tmp_path: Path) -> None:
    root = write(tmp_path / "set", published.flowers())
    done = accord("validate", root, "--csv", tmp_path / "set.csv", "--json")
    assert done.code == 0
    written = json.loads(done.out)
    again = json.loads(accord("validate", tmp_path / "set.csv", "--root", root, "--json").out)
    for key in ("images", "classes", "splits", "per_class"):
        assert again[key] == written[key]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["set", "--layout", "flower"], 2, "Did you mean 'flowers'?"),
        (["set", "--layout", "pets"], 3, "'annotations/list.txt' is missing"),
        (["set", "--boxes"], 2, "the layout 'flowers' has no boxes"),
        (["set", "--group", "("], 2, "no regular expression"),
        (["set", "--sha256", "00"], 2, "data.sha256 is only for an archive"),
        (["set.csv"], 3, "line 2: the split must be train, validation or test, not 'tset'"),
        (["bad.tgz"], 3, "is damaged or cut short"),
    ],
)
def test_a_mistake_ends_with_its_sentence_and_code(
    words: list[str], code: int, said: str, accord: Accord, tmp_path: Path
) -> None:
    here = tmp_path / "here"
    write(here, {f"set/{path}": data for path, data in published.flowers().items()})
    write(here, {"set.csv": b"path,label,split\nset/jpg/image_00001.jpg,a,tset\n", "bad.tgz": b"\x1f\x8bno"})
    done = accord("validate", *words)
    assert done.code == code
    assert said in done.said


def test_layouts_are_listed(accord: Accord) -> None:
    names = [row["name"] for row in json.loads(accord("ls", "layouts", "--json").out)]
    assert names == ["auto", "folders", "table", "cub", "cars", "sop", "in_shop", "lfw", "flowers", "pets"]
