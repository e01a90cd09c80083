"""The pairs of Labelled Faces in the Wild become item ids with their folds; a wrong line is named."""

from pathlib import Path

import pytest

import published
from accord.data import read_benchmark, read_pairs
from accord.errors import DataError
from accord.types import Manifest
from published import text, write


@pytest.fixture
def faces(tmp_path: Path) -> Manifest:
    return read_benchmark(write(tmp_path / "set", published.lfw()))


def _names(manifest: Manifest, ids: list[int]) -> list[str]:
    paths = {item.id: item.path for item in manifest.items}
    return [paths[number].rpartition("/")[2].removesuffix(".jpg") for number in ids]


def test_reads_folds_of_pairs_of_one_and_of_two_people(faces: Manifest) -> None:
    pairs = read_pairs(faces)
    assert _names(faces, pairs.first.tolist()) == [
        *("Ann_Lee_0001", "Bo_Ek_0001", "Ann_Lee_0001", "Bo_Ek_0002"),
        *("Di_O'Neill_0001", "Ed_Ö_0001", "Ed_Ö_0001", "Di_O'Neill_0002"),
    ]
    assert _names(faces, pairs.second.tolist()) == [
        *("Ann_Lee_0002", "Bo_Ek_0002", "Cy_0002", "Flo_0001"),
        *("Di_O'Neill_0003", "Ed_Ö_0002", "Flo_0001", "Cy_0001"),
    ]
    assert pairs.same.tolist() == [True, True, False, False] * 2
    assert pairs.fold.tolist() == [0] * 4 + [1] * 4


def test_ids_are_those_of_the_items_and_not_their_places(faces: Manifest) -> None:
    test = faces.only("test")
    (test.root / "mine.txt").write_bytes(text("1", "Ed_Ö 2 1", "Ed_Ö 2 Flo 1"))
    pairs = read_pairs(test, test.root / "mine.txt")
    assert _names(faces, pairs.first.tolist()) == ["Ed_Ö_0002", "Ed_Ö_0002"]
    assert pairs.fold.tolist() == [0, 0]


def test_the_development_list_has_one_fold(faces: Manifest) -> None:
    pairs = read_pairs(faces, faces.root / "pairsDevTest.txt")
    assert (pairs.same.tolist(), pairs.fold.tolist()) == ([True, False], [0, 0])


def test_the_list_may_lie_beside_the_images(tmp_path: Path) -> None:
    root = write(tmp_path, published.lfw())
    assert len(read_pairs(read_benchmark(root / "lfw", "lfw")).same) == 8


def test_a_published_list_has_six_thousand_pairs(tmp_path: Path) -> None:
    same, other = ["Ann_Lee 1 2"] * 300, ["Ann_Lee 1 Cy 2"] * 300
    faces = read_benchmark(write(tmp_path, published.lfw()))
    (tmp_path / "long.txt").write_bytes(text("10\t300", *((same + other) * 10)))
    pairs = read_pairs(faces, tmp_path / "long.txt")
    assert (len(pairs.fold), int(pairs.same.sum()), pairs.fold.bincount().tolist()) == (6000, 3000, [600] * 10)


GOOD = ["1\t1", "Cy\t1\t2", "Cy\t1\tFlo\t1"]


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ([], r"the list of pairs is empty"),
        (["ten", *GOOD[1:]], r"mine\.txt, line 1: a count must be a whole number of at least 1, not 'ten'"),
        (["1 1 1", *GOOD[1:]], r"line 1: the first line says how many folds"),
        (["2 1", *GOOD[1:]], r"line 1: 4 pairs are announced, but 2 are listed"),
        ([*GOOD[:2], "Cy\t1\t2"], r"line 3: 4 fields are expected \(name n name m\), not 3"),
        ([GOOD[0], "Cy\t1", GOOD[2]], r"line 2: 3 fields are expected"),
        ([*GOOD[:2], "Cy\t1\tCy\t2"], r"line 3: this pair must show two people"),
        ([GOOD[0], "Cy\t1\t3", GOOD[2]], r"line 2: the image Cy/Cy_0003 is not in the data set"),
        ([GOOD[0], "Cy\t0\t1", GOOD[2]], r"line 2: n must be a whole number of at least 1, not '0'"),
    ],
)
def test_a_wrong_line_is_named(lines: list[str], reason: str, faces: Manifest) -> None:
    (faces.root / "mine.txt").write_bytes(text(*lines))
    with pytest.raises(DataError, match=reason):
        read_pairs(faces, faces.root / "mine.txt")


def test_a_list_that_is_not_there_is_named(faces: Manifest, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.txt' can't be read \(No such file"):
        read_pairs(faces, tmp_path / "none.txt")
    for name in ("pairs.txt", "pairsDevTest.txt"):
        (faces.root / name).unlink()
    with pytest.raises(DataError, match=r"pairs\.txt' can't be read"):
        read_pairs(faces)
