"""Manifests and class numbers survive being written down, and strangers' ones are refused with a reason."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from accord.data import ClassMap, fingerprint, manifest_from_json, manifest_to_json
from accord.errors import DataError
from accord.types import Item, Manifest

ITEMS = (
    Item(3, "a/1.png", "a", "00", "train", "noto", (1, 2, 3, 4)),
    Item(5, "b/1.png", "b", "11", "test", role="query"),
)
MANIFEST = Manifest("things", Path("/data/things"), ITEMS, ("a note",))


def test_json_keeps_everything() -> None:
    assert manifest_from_json(manifest_to_json(MANIFEST)) == MANIFEST


def test_the_root_can_be_replaced() -> None:
    assert manifest_from_json(manifest_to_json(MANIFEST), Path("/moved")).root == Path("/moved")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda j: j.update(schema_version=2), "schema version 2"),
        (lambda j: j.pop("name"), "KeyError"),
        (lambda j: j["items"][0].pop("path"), "KeyError"),
        (lambda j: j["items"][0].update(path="../../secret.png"), "could lead outside"),
        (lambda j: j["items"][0].update(path="/etc/passwd"), "could lead outside"),
        (lambda j: j["items"][0].update(id=5), "an id is used twice"),
        (lambda j: j["items"][0].update(id="3"), "whole number"),
        (lambda j: j["items"][0].update(label=7), "whole number"),
        (lambda j: j["items"][0].update(box=[1, 2, 3]), "ValueError"),
        (lambda j: j.update(items=3), "TypeError"),
        (lambda j: j.update(root="builtin:nothing"), "no data set called 'nothing'"),
    ],
)
def test_refuses_a_manifest_that_is_not_ours(change: Callable[[dict[str, object]], object], reason: str) -> None:
    json = manifest_to_json(MANIFEST)
    change(json)
    with pytest.raises((DataError, ValueError), match=reason):
        manifest_from_json(json)


def test_the_fingerprint_depends_on_contents_and_not_on_place_split_or_numbering() -> None:
    moved = Manifest("other", Path("/else"), tuple(i._replace(id=i.id + 1, split="") for i in reversed(ITEMS)))
    assert fingerprint(moved) == fingerprint(MANIFEST)
    for change in ({"label": "c"}, {"sha256": "22"}, {"path": "a/2.png"}, {"box": None}):
        changed = Manifest("things", Path("/"), (ITEMS[0]._replace(**change), ITEMS[1]))
        assert fingerprint(changed) != fingerprint(MANIFEST)


@given(st.lists(st.text(max_size=5), unique=True, max_size=20))
def test_a_class_map_is_a_bijection(names: list[str]) -> None:
    table = ClassMap(names)
    assert [table.number(name) for name in names] == list(range(len(names)))
    assert len(table) == len(names)


def test_class_numbers_are_whole_64_bit() -> None:
    numbers = ClassMap(["b", "a"]).numbers(MANIFEST)
    assert numbers.dtype == torch.int64
    assert numbers.tolist() == [1, 0]


def test_names_the_first_culprits_that_have_no_number() -> None:
    items = tuple(Item(number, f"z{number}/1.png", f"z{number}") for number in range(7))
    with pytest.raises(DataError, match=r"7 items .* 'z0', 'z1', 'z2', 'z3', 'z4' and 2 more\.\n  files: 'z0/1\.png'"):
        ClassMap(["a"]).numbers(Manifest("", Path(), items))
    with pytest.raises(DataError, match="'z' is not among the 1 known"):
        ClassMap(["a"]).number("z")


def test_refuses_a_class_with_two_numbers() -> None:
    with pytest.raises(DataError, match="'a' would have two numbers"):
        ClassMap(["a", "b", "a"])


def test_class_maps_compare_by_their_order() -> None:
    assert ClassMap("ab") == ClassMap(["a", "b"])
    assert hash(ClassMap("ab")) == hash(ClassMap(["a", "b"]))
    assert ClassMap("ab") != ClassMap("ba")
    assert ClassMap("ab") != ("a", "b")
