"""Groups are read from paths by a rule, and a path without one is named."""

from collections.abc import Callable
from pathlib import Path

import pytest

from accord.data import read_images, with_groups
from accord.errors import DataError, UsageError
from accord.types import Item, Manifest

PATHS = ("cup/noto.png", "cup/emoji.one.png", "lamp/noto.png")
MANIFEST = Manifest(
    "x", Path("/x"), tuple(Item(n, path, path[:3], group="old") for n, path in enumerate(PATHS)), ("n",)
)


@pytest.mark.parametrize(
    ("rule", "groups"),
    [
        ("", ["old", "old", "old"]),
        ("stem", ["noto", "emoji.one", "noto"]),
        ("parent", ["cup", "cup", "lamp"]),
        (r"([^/]+)\.png$", ["noto", "emoji.one", "noto"]),
        (r"^(.)", ["c", "c", "l"]),
    ],
)
def test_the_rule_says_where_the_group_stands(rule: str, groups: list[str]) -> None:
    found = with_groups(MANIFEST, rule)
    assert [item.group for item in found.items] == groups
    assert [item._replace(group="") for item in found.items] == [item._replace(group="") for item in MANIFEST.items]


def test_a_note_says_how_many_groups_there_are() -> None:
    assert with_groups(MANIFEST, "stem").notes == ("n", "2 groups were read from the paths (stem): 'emoji.one', 'noto'")


def test_a_path_without_group_is_named() -> None:
    with pytest.raises(DataError, match=r"'\(noto\)' finds no group in 1 of 3 paths, such as\n  'cup/emoji\.one\.png'"):
        with_groups(MANIFEST, "(noto)")
    with pytest.raises(DataError, match="finds no group in 3 of 3 paths"):
        with_groups(MANIFEST, "png|(x)")
    with pytest.raises(DataError, match="finds no group"):
        with_groups(Manifest("x", Path("/x"), (Item(0, "1.png", "a"),)), "parent")


@pytest.mark.parametrize(
    ("rule", "reason"), [("(", "no regular expression"), ("a", "0 capture"), ("(a)(b)", "2 capture")]
)
def test_a_wrong_rule_is_told(rule: str, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        with_groups(MANIFEST, rule)


def test_folders_take_a_rule(tree: Callable[..., Path]) -> None:
    assert {item.group for item in read_images(tree("a/x.png", "b/y.png"), group="stem").items} == {"x", "y"}
