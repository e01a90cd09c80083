"""Vectors of any model: labels, ids and groups of every kind mean what they say, and what is ambiguous is refused."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from accord.errors import DataError
from accord.recipes.arrays import Source
from accord.recipes.columns import number, number_names
from accord.recipes.vectors import Sources, read_vectors

E = np.arange(12, dtype=np.float32).reshape(6, 2) + 1


def _classes(labels: Source) -> tuple[tuple[str, ...], list[int]]:
    judged = read_vectors(Sources(E, labels))
    return judged.class_names, judged.gallery.labelled.labels.tolist()


def test_labels_are_what_they_are_called() -> None:
    assert _classes([5, 5, 30, 30, 7, 7]) == (("5", "7", "30"), [0, 0, 2, 2, 1, 1])
    assert _classes(["b", "b", "a", "a", "é", "é"]) == (("a", "b", "é"), [1, 1, 0, 0, 2, 2])
    assert _classes(["5", "05", "5", "05", "10", "10"])[0] == ("05", "10", "5")
    assert _classes([True, True, False, False, True, True])[0] == ("False", "True")
    assert _classes(np.asarray([b"x", b"x", b"y", b"y", b"x", b"x"]))[0] == ("x", "y")
    assert _classes(torch.tensor([1, 1, 0, 0, 1, 1], dtype=torch.uint8))[0] == ("0", "1")


def test_whole_numbers_of_any_size_and_sign_stay_apart() -> None:
    near = [2**24, 2**24 + 1, 2**53 + 1, 2**53 + 2, -(2**63), 2**63 - 1]
    names, places = _classes(near)
    assert len(names) == 6
    assert [int(names[place]) for place in places] == near
    beyond = [2**64, 2**64 + 1] * 3
    assert [int(_classes(beyond)[0][place]) for place in _classes(beyond)[1]] == beyond
    assert len(_classes(np.asarray([2**63 + 1, 2**63 + 2] * 3, dtype=np.uint64))[0]) == 2


@given(st.lists(st.one_of(st.integers(-(2**63), 2**63 - 1)), min_size=1, max_size=20))
def test_numbering_is_one_to_one_and_does_not_depend_on_the_order(values: list[int]) -> None:
    names, (places,) = number([np.asarray(values, dtype=np.int64)])
    assert [int(names[place]) for place in places.tolist()] == values
    assert list(names) == [str(value) for value in sorted(set(values))]
    assert number([np.asarray(values[::-1], dtype=np.int64)])[0] == names


def test_names_are_numbered_in_the_order_of_their_bytes() -> None:
    names, places = number_names(["é", "Z", "a", "\udcff", "Z"])
    assert names == tuple(sorted(set("éZa\udcff"), key=lambda name: name.encode("utf-8", "surrogatepass")))
    assert [names[place] for place in places.tolist()] == ["é", "Z", "a", "\udcff", "Z"]


def test_whole_floats_are_taken_where_they_can_not_have_been_rounded() -> None:
    judged = read_vectors(Sources(E, np.asarray([1.0, 1.0, 2.0, 2.0, 3.0, 3.0], dtype=np.float32)))
    assert judged.class_names == ("1", "2", "3")
    assert judged.notes == ("labels holds float32; all are whole numbers and were taken as such.",)
    assert read_vectors(Sources(E, torch.ones(6, dtype=torch.bfloat16))).class_names == ("1",)
    for dtype, first in ((np.float16, 2**11), (np.float32, 2**24), (np.float64, 2**53)):
        exact = np.full(6, first, dtype=dtype)
        assert _classes(exact)[0] == (str(first),)
        with pytest.raises(DataError, match="different ones may have become equal"):
            _classes(np.nextafter(exact, np.asarray(np.inf, dtype)))


REFUSED: dict[str, tuple[object, str]] = {
    "a column": (np.ones((6, 1), dtype=int), r"labels must have one axis, not \(6, 1\); save labels.reshape\(-1\)"),
    "a row": (np.ones((1, 6), dtype=int), r"save labels.reshape\(-1\)"),
    "one-hot": (np.eye(6), r"save labels.argmax\(axis=1\), where they are one-hot"),
    "a number": (np.asarray(3), "must have one axis and one entry per row"),
    "three axes": (np.ones((6, 1, 1), dtype=int), "must have one axis and one entry per row"),
    "fractions": ([1.0, 1.0, 2.5, 2.0, 3.0, 3.0], r"row 2 holds 2.5 \(float64\)"),
    "nan": ([1.0, float("nan"), 2.0, 2.0, 3.0, 3.0], "row 1 holds nan"),
    "an empty name": (["a", "a", "", "b", "c", "c"], "row 2 .counted from 0. is empty"),
    "None": (["a", None, "b", "b", "c", "c"], "row 1 holds None; give whole numbers or text"),
    "dates": (np.zeros(6, dtype="datetime64[s]"), r"must be whole numbers or text, not datetime64\[s\]"),
    "too few": ([1, 1, 2], "must have one entry per embedding, but there are 3 for 6 rows"),
    "one too few": ([1, 1, 2, 2, 3], "A .csv begins with a line of column names"),
    "none": ([], "there are 0 for 6 rows"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_labels_that_could_mean_two_things_are_refused(case: str) -> None:
    labels, sentence = REFUSED[case]
    with pytest.raises(DataError, match=sentence):
        read_vectors(Sources(E, labels))  # type: ignore[arg-type]


EMBEDDINGS: dict[str, tuple[object, str]] = {
    "one axis": (np.ones(6), r"must be an \(item, dim\) table, not \(6,\): one row each"),
    "three axes": (np.ones((6, 2, 2)), r"flatten what is beyond the first axis with E.reshape\(len\(E\), -1\)"),
    "no width": (np.ones((6, 0)), r"must be an \(item, dim\) table"),
    "no rows": (np.ones((0, 2)), "there is nothing to judge"),
    "complex": (np.ones((6, 2), dtype=complex), "must be real numbers, not complex128"),
    "complex tensor": (torch.ones(6, 2, dtype=torch.complex64), "must be real numbers, not torch.complex64"),
    "text": (np.full((6, 2), "x"), "must be real numbers, not <U1"),
    "long doubles": (np.ones((6, 2), dtype=np.longdouble), "must be real numbers, not"),
    "eight bits": (torch.ones(6, 2).to(torch.float8_e5m2), "must be real numbers, not torch.float8_e5m2"),
}


@pytest.mark.parametrize("case", EMBEDDINGS)
def test_embeddings_that_are_no_table_of_numbers_are_refused(case: str) -> None:
    embeddings, sentence = EMBEDDINGS[case]
    with pytest.raises(DataError, match=sentence):
        read_vectors(Sources(embeddings, [1, 1, 2, 2, 3, 3]))  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", [">f4", "<f8", "f2", "i1", "u1", ">i8", "u2", "u8", "?"])
def test_embeddings_of_every_kind_of_number_keep_their_values(dtype: str) -> None:
    values = np.asarray([[1, 0], [0, 1], [1, 1], [1, 0], [0, 1], [1, 1]]).astype(dtype)
    judged = read_vectors(Sources(values, [1, 1, 2, 2, 3, 3]))
    assert torch.equal(judged.gallery.labelled.embeddings.double(), torch.from_numpy(values.astype("f8")))
    assert bool(judged.notes) == (np.dtype(dtype).kind in "iub")


def test_read_only_and_fortran_ordered_arrays_are_taken() -> None:
    frozen = np.asfortranarray(E)
    frozen.flags.writeable = False
    judged = read_vectors(Sources(frozen, [1, 1, 2, 2, 3, 3]))
    assert torch.equal(judged.gallery.labelled.embeddings, torch.from_numpy(E))


def test_queries_share_the_numbers_of_the_gallery(tmp_path: Path) -> None:
    (tmp_path / "q.txt").write_text("30\n5\n")
    gallery = Sources(E, [5, 5, 7, 7, 30, 30], groups=["x", "y"] * 3)
    judged = read_vectors(gallery, Sources(E[:2], tmp_path / "q.txt", groups=["y", "z"]))
    assert judged.queries is not None
    assert judged.class_names == ("5", "7", "30")
    assert judged.queries.labelled.labels.tolist() == [2, 0]
    assert (judged.group_names, judged.queries.groups.tolist()) == (("x", "y", "z"), [1, 2])  # type: ignore[union-attr]
    assert judged.queries.labelled.ids.tolist() == [6, 7]  # other items than those of the gallery


def test_ids_say_which_queries_are_in_the_gallery() -> None:
    judged = read_vectors(Sources(E, [1, 1, 2, 2, 3, 3], ids=[9, 8, 7, 6, 5, 4]), Sources(E[:1], [1], ids=[9]))
    assert judged.queries is not None
    assert (judged.gallery.labelled.ids.tolist(), judged.queries.labelled.ids.tolist()) == ([9, 8, 7, 6, 5, 4], [9])
    assert judged.item_names == {}
    named = read_vectors(Sources(E, [1, 1, 2, 2, 3, 3], ids=list("fedcba")), Sources(E[:1], [1], ids=["f"]))
    assert named.queries is not None
    assert named.item_names[int(named.queries.labelled.ids[0])] == "f"
    assert named.gallery.labelled.ids[0] == named.queries.labelled.ids[0]


MISMATCHED: dict[str, tuple[Sources, Sources | None, str]] = {
    "twice": (
        Sources(E, [1] * 6, ids=["a", "a", "b", "c", "d", "e"]),
        None,
        "ids must be unique, but 1 are given more",
    ),
    "widths": (Sources(E, [1] * 6), Sources(E[:, :1], [1] * 6), "queries and gallery must be equally wide"),
    "ids of queries": (Sources(E, [1] * 6), Sources(E, [1] * 6, ids=range(6)), "give ids, too"),
    "ids of gallery": (Sources(E, [1] * 6, ids=range(6)), Sources(E, [1] * 6), "give query_ids, too, or neither"),
    "groups": (Sources(E, [1] * 6, groups=[1] * 6), Sources(E, [1] * 6), "add query_groups"),
    "groups of queries": (Sources(E, [1] * 6), Sources(E, [1] * 6, groups=[1] * 6), "add groups"),
}


@pytest.mark.parametrize("case", MISMATCHED)
def test_sides_that_do_not_fit_are_refused(case: str) -> None:
    gallery, queries, sentence = MISMATCHED[case]
    with pytest.raises(DataError, match=sentence):
        read_vectors(gallery, queries)
