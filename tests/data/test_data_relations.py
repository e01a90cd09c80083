"""From a table of pairs or triplets to a manifest: groups instead of classes, and every mistake told by its row."""

from collections.abc import Callable
from pathlib import Path

import pytest

from accord.data import (
    fingerprint,
    manifest_from_json,
    manifest_to_json,
    read_related,
    relation_kind,
    split_classes,
    split_related,
    with_relations,
)
from accord.errors import DataError
from accord.types import Item, Manifest

IMAGES = tuple(f"{letter}{number}.png" for letter in "abcd" for number in range(3))
ROWS = ("a0 a1 b0", "a1 a2 c0", "b0 b1 a0", "b1 b2 d0", "c0 c1 d1", "c1 c2 b2", "d0 d1 a2", "d1 d2 c2")

Table = Callable[..., Path]


@pytest.fixture
def table(tmp_path: Path) -> Table:
    """Writes a table from rows of names without ending."""

    def make(*rows: str, header: str = "anchor,positive,negative", name: str = "said.csv") -> Path:
        lines = [",".join(f"{cell}.png" if cell[0] in "abcd" else cell for cell in row.split()) for row in rows]
        path = tmp_path / name
        path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
        return path

    return make


@pytest.fixture
def folder(tree: Callable[..., Path]) -> Path:
    return tree(*IMAGES, "stray.png")


def _paths(manifest: Manifest) -> list[tuple[str, ...]]:
    names = {item.id: item.path.removesuffix(".png") for item in manifest.items}
    return [tuple(names[item] for item in relation) for relation in manifest.relations]


def test_what_is_linked_is_a_group_named_after_its_first_image(folder: Path, table: Table) -> None:
    manifest = read_related(folder, table(*ROWS))
    assert [item.path for item in manifest.items] == sorted(IMAGES)
    assert {item.path[0]: item.label for item in manifest.items} == {"a": "a0", "b": "b0", "c": "c0", "d": "d0"}
    assert all(item.sha256 for item in manifest.items)
    assert _paths(manifest) == [tuple(row.split()) for row in ROWS]
    assert "8 triplets are learned from" in manifest.notes
    assert "1 images are in no row and were left out: 'stray.png'" in manifest.notes


def test_groups_whose_first_images_are_called_the_same_keep_their_endings(
    tree: Callable[..., Path], tmp_path: Path
) -> None:
    names = ("x.png", "y.png", "x.jpg", "z.png", "p.png", "q.png", "r.png", "s.png")
    rows = ["anchor,positive", "x.png,y.png", "x.jpg,z.png", "p.png,q.png", "r.png,s.png"]
    (tmp_path / "said.csv").write_text("\n".join(rows))
    labels = set(read_related(tree(*names), tmp_path / "said.csv").classes)
    assert labels == {"x.png", "x.jpg", "p", "r"}


@pytest.mark.parametrize("first", ["anchor,positive", "first,second,same", "Positive ; Anchor"])
def test_pairs_come_in_three_forms(folder: Path, table: Table, first: str) -> None:
    pairs = ["a0 a1", "a1 a2", "b0 b1", "c0 c1", "d0 d1"]
    rows = [f"{pair} 1" for pair in pairs] + ["a0 b0 0"] if "same" in first else pairs
    path = table(*rows, header=first)
    if ";" in first:
        path.write_text(path.read_text().replace(",", ";"))
    manifest = read_related(folder, path)
    assert relation_kind(path) == "pairs"
    assert {frozenset(pair) for pair in _paths(manifest)} == {frozenset(pair.split()) for pair in pairs}
    if "same" in first:
        assert "1 pairs that don't belong together were only checked against the others" in manifest.notes


def test_a_parquet_table_is_read_alike(folder: Path, table: Table, tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    columns = zip(*([f"{cell}.png" for cell in row.split()] for row in ROWS), strict=True)
    path = tmp_path / "said.parquet"
    parquet.write_table(pyarrow.table(dict(zip(("anchor", "positive", "negative"), columns, strict=True))), path)
    assert read_related(folder, path) == read_related(folder, table(*ROWS))
    assert relation_kind(path) == "triplets"


def test_an_archive_is_read_in_place(folder: Path, table: Table, tmp_path: Path) -> None:
    import shutil

    archive = Path(shutil.make_archive(str(tmp_path / "packed"), "zip", folder))
    assert read_related(archive, table(*ROWS)).items == read_related(folder, table(*ROWS)).items


def test_rows_that_repeat_are_counted_and_dropped(folder: Path, table: Table) -> None:
    manifest = read_related(folder, table(*ROWS, ROWS[0], "a1 a0 b0"))
    assert len(manifest.relations) == 9
    assert "1 rows that repeat another were left out" in manifest.notes
    pairs = table("a0 a1", "a1 a0", "b0 b1", "c0 c1", "d0 d1", header="anchor,positive")
    assert len(read_related(folder, pairs).relations) == 4


WRONG = {
    "an image that is not there": (("a0 a1 d9",), r"1 images are not in .*\n  line 2: d9\.png"),
    "itself as positive": (("a0 a0 b0",), r"line 2: 'a0\.png' is related to itself"),
    "itself as negative": (("a0 a1 b0", "a1 a2 a1"), r"line 3: 'a1\.png' is related to itself"),
    "a negative that is linked": (
        ("a0 a1 b0", "b0 b1 c0", "b1 a0 d0"),
        r"line 2: 'a0.png' and 'b0.png' .* line 4, line 3",
    ),
    "a cell too few": (("a0 b0",), "line 2: 2 cells"),
    "no rows": ((), "holds no rows"),
    "one group": (("a0 a1 b0", "c0 c1 d0"), "6 images make 2 groups of two or more"),
    "a path that leads out": (("a0 ../x b0",), "could lead outside"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_mistake_is_refused_with_its_row(folder: Path, table: Table, case: str) -> None:
    rows, message = WRONG[case]
    with pytest.raises(DataError, match=message):
        read_related(folder, table(*rows))


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("anker,positive,negative", "Did you mean 'anchor'"),
        ("anchor,negative", "wanted are anchor, positive, negative"),
        ("anchor,positive,positive", "each once"),
        ("anchor,positive,same", "wanted are"),
    ],
)
def test_a_wrong_column_is_refused_by_its_name(folder: Path, table: Table, header: str, message: str) -> None:
    rows = ["a0 a1 b0"] if header.count(",") == 2 else ["a0 a1"]
    with pytest.raises(DataError, match=message):
        read_related(folder, table(*rows, header=header))


def test_everything_in_one_group_is_said_to_be_so(folder: Path, table: Table) -> None:
    with pytest.raises(DataError, match="all 3 images are linked into one group"):
        read_related(folder, table("a0 a1", "a1 b2", header="anchor,positive"))


def test_pairs_that_contradict_each_other_are_refused(folder: Path, table: Table) -> None:
    path = table("a0 a1 1", "a1 a2 1", "a2 a0 0", header="first,second,same")
    with pytest.raises(DataError, match=r"line 4: 'a2.png' and 'a0.png' are said not to .* linked by line 3, line 2"):
        read_related(folder, path)


def test_an_empty_cell_is_refused_by_its_column(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "said.csv").write_text("anchor,positive,negative\na0.png, ,b0.png\n")
    with pytest.raises(DataError, match="line 2: nothing stands below positive"):
        read_related(folder, tmp_path / "said.csv")


def test_a_table_ends_as_tables_do(folder: Path) -> None:
    with pytest.raises(DataError, match=r"a table ends in \.csv"):
        read_related(folder, folder / "said.txt")


def test_a_word_that_is_neither_same_nor_different_is_refused(folder: Path, table: Table) -> None:
    with pytest.raises(DataError, match="line 2: same must be one of"):
        read_related(folder, table("a0 a1 maybe", header="first,second,same"))


def test_only_negatives_go_where_most_of_their_anchors_are(folder: Path, table: Table) -> None:
    rows = [f"{letter}0 {letter}1 {letter}2" for letter in "abcd"] + ["a0 a1 d2", "b0 b1 d2"]
    manifest = read_related(folder, table(*rows))
    split = split_related(manifest, lambda groups: split_classes(groups, seed=1))
    sides = {item.path[:2]: item.split for item in split.items}
    assert {letter: sides[f"{letter}0"] for letter in "abc"} == {letter: sides[f"{letter}2"] for letter in "abc"}
    votes = [sides["d0"], sides["a0"], sides["b0"]]
    assert sides["d2"] == max(("train", "test"), key=votes.count)
    assert len({item.label for item in split.items}) == 8


def test_triplets_on_two_sides_are_left_out_and_counted(folder: Path, table: Table) -> None:
    manifest = read_related(folder, table(*ROWS))
    split = split_related(manifest, split_classes)
    kept = with_relations(split, manifest.relations)
    sides = {item.id: item.split for item in kept.items}
    across = sum(len({sides[item] for item in relation}) > 1 for relation in manifest.relations)
    assert len(kept.relations) == len(ROWS) - across
    assert any(note.startswith(f"{across} of 8 triplets lie on two sides") for note in kept.notes)
    parts = [kept.only(side).relations for side in ("train", "test")]
    assert sorted(parts[0] + parts[1]) == sorted(kept.relations)


def test_nothing_left_to_train_on_is_refused(folder: Path, table: Table) -> None:
    manifest = read_related(folder, table(*ROWS))
    tested = Manifest("", folder, tuple(item._replace(split="test") for item in manifest.items))
    with pytest.raises(DataError, match=r"none lies wholly on the training side.*\n.*data\.test"):
        with_relations(tested, manifest.relations)


def test_relations_survive_json_and_decide_the_fingerprint(folder: Path, table: Table) -> None:
    manifest = read_related(folder, table(*ROWS))
    assert manifest_from_json(manifest_to_json(manifest)) == manifest
    other = read_related(folder, table(*ROWS[:-1], "d1 d2 b0"))
    assert other.items == manifest.items
    assert fingerprint(other) != fingerprint(manifest)
    shuffled = Manifest("", folder, manifest.items, (), manifest.relations[::-1])
    assert fingerprint(shuffled) == fingerprint(manifest)


@pytest.mark.parametrize("relations", [[[0, 1], [0, 1, 2]], [[0]], [[0, 7]], [[0, None]]])
def test_relations_that_accord_did_not_write_are_refused(relations: list[list[int]]) -> None:
    items = tuple(Item(number, f"{number}.png", "x") for number in range(3))
    json = manifest_to_json(Manifest("", Path("there"), items)) | {"relations": relations}
    with pytest.raises(DataError, match="not a manifest accord wrote"):
        manifest_from_json(json)
